"""`ya-salt init`: a commented spec to begin with, perhaps from a systemd service."""

from __future__ import annotations

import argparse
from pathlib import PurePath

from ya_salt.cli.output import complain, say_painted
from ya_salt.errors import OperatorError, PackageError, UsageError
from ya_salt.model import Package
from ya_salt.names import check_daemon_name
from ya_salt.reference.template import render_spec
from ya_salt.settings import InForce
from ya_salt.specs.daemon import PACKAGE_PARSERS
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.files import MAX_BYTES, STDIN, RefusedFileError, read_itself, read_stdin
from ya_salt.specs.unit_file import FromUnit, read_unit

OK = 0


def init(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt init NAME [--package PACKAGE]… [--from-unit FILE]`."""
    try:
        check_daemon_name(options.name)
    except ValueError as error:
        raise UsageError(f"NAME {error}") from error
    packages = _find_packages(options.packages, in_force)
    unit = _read_unit(options.unit) if options.unit else None
    text = render_spec(options.name, packages, unit, options.unit or "")
    if unit is None or not unit.missing:
        # It says of itself that it is valid.
        parse_spec(text, f"{options.name}.yaml")
    say_painted(text.rstrip("\n"))
    for sentence in unit.missing if unit else ():
        complain(f"{options.unit}: {sentence}")
    if unit is not None and unit.missing:
        complain("so cmd is left as a comment: the file is not valid until you have written it")
    return OK


def _read_unit(path: str) -> FromUnit:
    try:
        content = read_stdin() if path == STDIN else read_itself(path)
    except RefusedFileError as error:
        raise OperatorError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OperatorError(f"{path}: cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise OperatorError(f"{path}: is over 1 MiB; a unit is a few lines")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path}: is not UTF-8 at byte {error.start}") from error
    if "[Service]" not in text:
        raise OperatorError(f"{path}: has no [Service]; name a file of a systemd service")
    return read_unit(text, "unit.service" if path == STDIN else PurePath(path).name)


def _find_packages(wanted: list[str], in_force: InForce) -> list[Package]:
    """PACKAGE or PACKAGE=VERSION; where no version is said, the one that is installed here."""
    found: dict[str, Package] = {}
    for item in wanted:
        name, sign, version = item.partition("=")
        try:
            PACKAGE_PARSERS["name"](name)
            version = PACKAGE_PARSERS["version"](version) if sign else ""
        except ValueError as error:
            raise UsageError(f"--package {item}: {error}") from error
        if name in found:
            raise UsageError(f"--package {item}: {name} is named twice; keep one")
        found[name] = Package(name, version)
    missing = [name for name, package in found.items() if not package.version]
    versions = _ask_dpkg(missing, in_force) if missing else {}
    for name in missing:
        if not versions.get(name):
            raise UsageError(
                f"--package {name}: it is not installed here; write {name}=VERSION"
                f" (`apt-cache policy {name}` shows which there are)"
            )
        found[name] = Package(name, versions[name])
    return list(found.values())


def _ask_dpkg(names: list[str], in_force: InForce) -> dict[str, str]:
    # Loaded where it is used: apt's side is large.
    from ya_salt.packages.apt import Apt  # noqa: PLC0415

    try:
        found = Apt(root=in_force.settings.root).query(names)
    except PackageError as error:
        raise OperatorError(f"{error}; write --package NAME=VERSION") from error
    return {name: one.version for name, one in found.items() if one.status == "installed"}
