"""Keep daemons running in Porto containers from exact Debian packages."""

__version__ = "0.1.0"


def describe_version() -> str:
    """The version, and the commit that it was built from where that is known."""
    from pathlib import Path  # noqa: PLC0415 - only those who ask for it need it

    try:
        built_from = Path(__file__).with_name("built_from").read_text(encoding="utf-8").strip()
    except OSError:
        return __version__
    return f"{__version__} ({built_from})"
