"""What a state asks for: arguments as they come from an SLS become a checked spec."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ya_salt.errors import SpecError
from ya_salt.model import DaemonSpec, Loaded
from ya_salt.porto.properties import PROPERTIES
from ya_salt.salt_api.turn import META, SPEC, DesiredState, DesiredStateError
from ya_salt.specs.checks import index, spellings
from ya_salt.specs.directory import load_files, parse_spec

_WRITTEN: Mapping[str, str] = {"watch_files": "watch"}
"""Arguments with another name in a file: `watch` is Salt's own word in a state."""

_MODE = 0o600
"""Of a file that is laid down: it may hold secrets."""

_HEADER = "# Salt keeps this file (porto_daemons:daemons in pillar): change it there, not here.\n"


def read_spec(desired: DesiredState, loaded: Loaded) -> DaemonSpec:
    """The spec that a state asks for. Raises DesiredStateError with all that is wrong with it."""
    spec = _read_source(desired, loaded) if desired.source else _read_fields(desired)
    if desired.name not in (spec.name, desired.source):
        raise DesiredStateError(
            f"{spec.path}: meta.name: it is {spec.name}, but the state says {desired.name}"
        )
    if desired.absent and not spec.delete_requested:
        raise DesiredStateError(
            f"{spec.path}: it does not say meta.delete_requested: true, so {spec.name} stays"
        )
    return spec


def _read_source(desired: DesiredState, loaded: Loaded) -> DaemonSpec:
    """A file of the daemons directory is judged with its neighbours, any other one alone."""
    known = [spec for spec in loaded.specs if spec.path == desired.source]
    rejected = [item for item in loaded.rejected if item.path == desired.source]
    if not known and not rejected:
        alone = load_files([desired.source])
        known, rejected = list(alone.specs), list(alone.rejected)
    if rejected:
        raise DesiredStateError("\n".join(rejected[0].problems))
    return known[0]


def _read_fields(desired: DesiredState) -> DaemonSpec:
    mangled = [f"{desired.place}: {problem}" for problem in _list_mangled(desired.fields)]
    if mangled:
        raise DesiredStateError("\n".join(mangled))
    # JSON is YAML too: whatever the path ends in, it can be read.
    text = json.dumps(make_document(desired), ensure_ascii=False)
    try:
        return parse_spec(text, desired.path)
    except SpecError as error:
        raise DesiredStateError(
            "\n".join(_say(desired, item.field, item.message) for item in error.problems)
        ) from error


def _say(desired: DesiredState, name: str, message: str) -> str:
    """There is no line to point at: the field as the state has it leads there."""
    shown = name.removeprefix("meta.").removeprefix("spec.")
    for argument, written in _WRITTEN.items():
        if shown == written or shown.startswith((f"{written}.", f"{written}[")):
            shown = argument + shown.removeprefix(written)
    return f"{desired.place}: {shown}: {message}" if shown else f"{desired.place}: {message}"


def make_document(desired: DesiredState) -> dict[str, Any]:
    """The file that the state's fields would be."""
    meta = {
        "name": desired.name,
        **{key: desired.fields[key] for key in META if key in desired.fields},
    }
    if desired.absent:
        meta["delete_requested"] = True
    spec = {_WRITTEN.get(key, key): desired.fields[key] for key in SPEC if key in desired.fields}
    if "packages" in spec:
        spec["packages"] = _spell_packages(spec["packages"])
    document = (
        {"meta": meta, "spec": spec} if spec or not meta.get("delete_requested") else {"meta": meta}
    )
    plain: dict[str, Any] = _plain(document)
    return plain


def _spell_packages(packages: Any) -> Any:
    """`- name: version`, as `pkg.installed` has it, is taken beside `- name: …, version: …`."""
    if not isinstance(packages, list | tuple):
        return packages
    return [_spell_package(item) for item in packages]


def _spell_package(item: Any) -> Any:
    if (
        isinstance(item, Mapping)
        and len(item) == 1
        and "name" not in item
        and "version" not in item
    ):
        ((name, version),) = item.items()
        return {"name": name, "version": version}
    return item


# -- what YAML has made of texts -------------------------------------------------------------------

_PROPERTY_NAMES = spellings(("cmd", "command", *PROPERTIES))
_QUANTITIES = frozenset(
    {"user", "group", "ulimit", "respawn_delay", "cpu_guarantee", "cpu_limit", "cpu_set", "sysctl"}
)
"""Texts to portod, but the same quantity however its number is written."""


def _list_mangled(fields: Mapping[str, Any]) -> Iterator[str]:
    """What is no text any more where one is meant, with its place.

    A file is read with its own letters; of what stands in an SLS only what YAML took it for is
    left: 1.1 of 1.10, 18 of 022, False of no, a date of 2020-01-22.
    """
    yield from _list_no_texts("version", fields.get("version"))
    yield from _list_no_texts("annotations", fields.get("annotations"))
    yield from _list_mangled_behaviour(fields)
    packages = fields.get("packages")
    if isinstance(packages, list | tuple):
        for number, item in enumerate(_spell_packages(packages)):
            if isinstance(item, Mapping):
                for name in ("name", "version"):
                    yield from _list_no_texts(f"packages[{number}].{name}", item.get(name))
    properties = fields.get("properties")
    if isinstance(properties, Mapping):
        for key, value in properties.items():
            yield from _list_mangled_property(_PROPERTY_NAMES.get(str(key), ""), value)


def _list_mangled_behaviour(fields: Mapping[str, Any]) -> Iterator[str]:
    """Of what decides how it lives; numbers of seconds and times are numbers."""
    readiness, update, watched = (fields.get(key) for key in ("readiness", "update", "watch_files"))
    if isinstance(readiness, Mapping):
        http = readiness.get("http")
        yield from _list_no_texts("readiness.exec", readiness.get("exec"))
        if isinstance(http, Mapping):
            yield from _list_no_texts("readiness.http.path", http.get("path"))
    if isinstance(update, Mapping):
        yield from _list_no_texts("update.state", update.get("state"))
    yield from _list_no_texts("after", fields.get("after"))
    for number, item in enumerate(watched if isinstance(watched, list | tuple) else ()):
        if isinstance(item, Mapping):
            for key in ("path", "signal"):
                yield from _list_no_texts(f"watch_files[{number}].{key}", item.get(key))


def _list_mangled_property(name: str, value: Any) -> Iterator[str]:
    row = PROPERTIES.get(name)
    path = f"properties.{name}"
    if name in _QUANTITIES:
        yield from _list_no_texts(path, value, may_be=(int, float))
    elif name in ("cmd", "command") or (row and row.json == "string"):
        yield from _list_no_texts(path, value, is_secret=row is not None and row.is_secret)
    elif isinstance(value, Mapping):
        yield from _list_no_texts(path, dict.fromkeys(value))


def _list_no_texts(
    path: str, value: Any, *, may_be: tuple[type, ...] = (), is_secret: bool = False
) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                inside = index(path, key)
                yield from _list_no_texts(inside, item, may_be=may_be, is_secret=is_secret)
            else:
                yield f"{path}: {_describe_mangled(key)}"
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _list_no_texts(f"{path}[{number}]", item, may_be=may_be, is_secret=is_secret)
    elif isinstance(value, bool) or not isinstance(value, (str, type(None), *may_be)):
        yield f"{path}: {_describe_mangled(value, is_secret=is_secret)}"


def _describe_mangled(value: Any, *, is_secret: bool = False) -> str:
    if isinstance(value, bool):
        kind, example = "a boolean", "false of no"
    elif isinstance(value, int | float):
        kind, example = "a number", "1.1 of 1.10"
    else:
        kind, example = "a date or a time", "a date of 2020-01-22"
    shown = "it" if is_secret else json.dumps(value, default=str).strip('"')
    return (
        f"{shown} is {kind}, not text: YAML made it of what stands there, like {example}; "
        "quote it as it is meant"
    )


def _plain(value: Any) -> Any:
    """The same without the ordered, frozen and lazy types that Salt hands out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# -- files laid down -----------------------------------------------------------------------------


def render_file(desired: DesiredState) -> str:
    """The spec file that the state's fields are laid down as."""
    return _HEADER + yaml.safe_dump(make_document(desired), sort_keys=False, allow_unicode=True)


def find_file_change(desired: DesiredState) -> dict[str, str]:
    """What laying the file down changes; {} where it is there. Raises DesiredStateError."""
    try:
        # No link is followed: it could lead out of the directory.
        with os.fdopen(
            os.open(desired.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb"
        ) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            there = file.read()
    except FileNotFoundError:
        return {"old": "absent", "new": "written"}
    except OSError as error:
        raise DesiredStateError(f"{desired.file}: cannot be read: {error.strerror}") from error
    if there != render_file(desired).encode():
        return {"old": "outdated", "new": "written"}
    return {} if mode == _MODE else {"old": f"mode {mode:04o}", "new": f"mode {_MODE:04o}"}


def write_file(desired: DesiredState) -> None:
    """Lay the file down, whole or not at all. Raises DesiredStateError."""
    target = Path(desired.file)
    try:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Made exclusively, readable to its owner alone, under a name that nobody can foretell.
        handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise DesiredStateError(f"{desired.file}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(render_file(desired).encode())
            file.flush()
            os.fsync(handle)
        Path(draft).replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise DesiredStateError(f"{desired.file}: cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """The new name outlives a loss of power as well as the text does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
