"""What ya-salt costs, beside the least possible and beside others; `make bench`."""
