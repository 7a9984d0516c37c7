"""What a state asks for: arguments as they come from an SLS become a checked spec."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ya_salt.errors import OperatorError, SpecError
from ya_salt.model import DaemonSpec, Loaded
from ya_salt.specs.directory import load_files, parse_spec

META = ("version", "annotations", "delete_requested")
SPEC = ("properties", "packages", "min_ready_s", "ready_timeout_s")
FIELDS = (*META, *SPEC)
"""What of a spec may stand in a state or in pillar."""

_HEADER = "# Salt keeps this file (porto_daemons:daemons in pillar): change it there, not here.\n"


class WishError(OperatorError):
    """A state asks for something that cannot be; the text is the state's comment."""


@dataclass(frozen=True)
class Wish:
    """One state: the daemon it is about, and where its spec is.

    The spec is that of `source`, a file on this host, or is made of `fields`. With `file` the
    fields are laid down there, in the daemons directory, and taken from there.
    """

    key: str
    """Tells this state from all others of the run."""
    name: str
    place: str
    """The state, for people: `SLS agents, ID juggler`."""
    source: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    absent: bool = False
    restart: str = ""
    """Why the daemon gets a new process whatever else is to be done; "" where it does not."""

    @property
    def path(self) -> str:
        """Where its spec is to be looked for: a file, or the state itself."""
        return self.source or self.file or self.place


def check_fields(name: str, source: str, fields: Mapping[str, Any]) -> None:
    """Refuse arguments that are no field of a spec. Raises WishError."""
    for key in fields:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIELDS)}, source"
            raise WishError(f"{name}: there is no argument {key}; {hint}")
    if source and fields:
        given = ", ".join(sorted(fields))
        raise WishError(f"{name}: give either source or the spec itself ({given}), not both")


def read_wish(wish: Wish, loaded: Loaded) -> DaemonSpec:
    """The spec that a state asks for. Raises WishError with everything that is wrong with it."""
    spec = _read_source(wish, loaded) if wish.source else _read_fields(wish)
    if wish.name not in (spec.name, wish.source):
        raise WishError(
            f"{spec.path}: meta.name: it is {spec.name}, but the state says {wish.name}"
        )
    if wish.absent and not spec.delete_requested:
        raise WishError(
            f"{spec.path}: it does not say meta.delete_requested: true, so {spec.name} stays"
        )
    return spec


def _read_source(wish: Wish, loaded: Loaded) -> DaemonSpec:
    """A file of the daemons directory is judged with its neighbours, any other one alone."""
    known = [spec for spec in loaded.specs if spec.path == wish.source]
    rejected = [item for item in loaded.rejected if item.path == wish.source]
    if not known and not rejected:
        alone = load_files([wish.source])
        known, rejected = list(alone.specs), list(alone.rejected)
    if rejected:
        raise WishError("\n".join(rejected[0].problems))
    return known[0]


def _read_fields(wish: Wish) -> DaemonSpec:
    # JSON is YAML too: whatever the path ends in, it can be read.
    text = json.dumps(make_document(wish), ensure_ascii=False)
    try:
        return parse_spec(text, wish.path)
    except SpecError as error:
        raise WishError(
            "\n".join(_say(wish, item.field, item.message) for item in error.problems)
        ) from error


def _say(wish: Wish, name: str, message: str) -> str:
    """There is no line to point at: the field as the state has it leads there."""
    shown = name.removeprefix("meta.").removeprefix("spec.")
    return f"{wish.place}: {shown}: {message}" if shown else f"{wish.place}: {message}"


def make_document(wish: Wish) -> dict[str, Any]:
    """The file that the state's fields would be."""
    meta = {"name": wish.name, **{key: wish.fields[key] for key in META if key in wish.fields}}
    if wish.absent:
        meta["delete_requested"] = True
    spec = {key: wish.fields[key] for key in SPEC if key in wish.fields}
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


def _plain(value: Any) -> Any:
    """The same without the ordered, frozen and lazy types that Salt hands out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# -- files laid down -----------------------------------------------------------------------------


def render_file(wish: Wish) -> str:
    """The spec file that the state's fields are laid down as."""
    return _HEADER + yaml.safe_dump(make_document(wish), sort_keys=False, allow_unicode=True)


def find_file_change(wish: Wish) -> dict[str, str]:
    """What laying the file down changes; nothing where it says so already. Raises WishError."""
    try:
        there = Path(wish.file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {"old": "absent", "new": "written"}
    except (OSError, UnicodeDecodeError) as error:
        raise WishError(f"{wish.file}: cannot be read: {error}") from error
    return {} if there == render_file(wish) else {"old": "outdated", "new": "written"}


def write_file(wish: Wish) -> None:
    """Lay the file down, whole or not at all. Raises WishError."""
    target = Path(wish.file)
    draft = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft.write_text(render_file(wish), encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        raise WishError(f"{wish.file}: cannot be written: {error.strerror}") from error
