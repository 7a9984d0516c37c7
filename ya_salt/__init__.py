"""Keep daemons running in Porto containers from exact Debian packages."""

__version__ = "0.1.0"
