"""Debian packages: exact versions in, nothing else touched, and a reason when it cannot be."""
