"""Make man pages and completions from the parsers and documents: `make pages`. Not installed."""
