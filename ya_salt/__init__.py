"""Keep daemons running in Porto containers from exact Debian packages."""

__version__ = "0.1.0"


def describe_version() -> str:
    """The version, and the commit that it was built from where that is known."""
    path = f"{__path__[0]}/built_from"
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to load
            return f"{__version__} ({file.read().strip()})"
    except OSError:
        return __version__
