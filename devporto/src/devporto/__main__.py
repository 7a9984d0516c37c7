"""`python -m devporto --socket PATH`."""

from __future__ import annotations

import argparse
import sys

from devporto import run


def main() -> int:
    options = make_parser().parse_args()
    return run(options.socket, sysroot=options.sysroot)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev-portod",
        description="A Porto server for development and tests. Not a security boundary.",
        epilog=(
            "SIGHUP breaks every connection and keeps the socket, as a portod that reloads; "
            "containers stay, weak ones go. SIGTERM ends the server and every process it "
            "started."
        ),
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="unix socket to listen on")
    parser.add_argument("--sysroot", metavar="DIR", help="package root that stands in for /")
    return parser


if __name__ == "__main__":
    sys.exit(main())
