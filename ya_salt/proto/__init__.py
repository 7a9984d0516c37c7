"""Generated from proto/*.proto by `make proto`; not edited by hand."""
