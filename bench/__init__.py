"""What ya-salt costs, beside what it stands on; `make bench`."""
