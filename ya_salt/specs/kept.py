"""What spec files said when they were parsed last, kept beside the store by their content.

To parse a file and check it costs fifty times what reading it does, and the same content under the
same path always means the same. It is a hint and never an order: what is not exactly as written
down is parsed. Only files without a mistake are kept, and none with secrets: of those there is no
second copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import MappingProxyType

from ya_salt import as_left
from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.errors import SpecProblem
from ya_salt.model import DaemonSpec
from ya_salt.porto.properties import is_secret
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs.tree import Place

FILE_NAME = "parsed-specs"
FORMAT = 1
MAX_AGE_S = 86400.0
"""After so long everything is parsed once more, come what may."""
_MAX_BYTES = 64 << 20
_MODE_OTHERS = 0o077
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Parsed:
    """A file that was read: `spec` where nothing is wrong, else `problems`."""

    path: str
    name: str
    name_place: Place
    after_place: Place
    spec: DaemonSpec | None
    problems: tuple[SpecProblem, ...]


class KeptSpecs:
    """What is kept in `state_dir`. With `reads_anew` nothing of it is used, and all is replaced."""

    def __init__(self, state_dir: str, *, reads_anew: bool = False) -> None:
        self._path = Path(state_dir) / FILE_NAME
        self._maker = _name_maker()
        self._made_at, self._known = time.clock_gettime(time.CLOCK_BOOTTIME), dict[str, str]()
        if not reads_anew:
            self._made_at, self._known = self._read() or (self._made_at, {})
        self._used: dict[str, str] = {}

    def find(self, path: str, content: bytes) -> Parsed | None:
        """What the file said; None where that is not known."""
        key = _name_file(path, content)
        text = self._known.get(key)
        if text is None:
            return None
        try:
            name_place, after_place, data = json.loads(text)
            spec = from_data(DaemonSpec, data)
            places = Place(*map(int, name_place)), Place(*map(int, after_place))
        except (DamagedError, ValueError, TypeError, RecursionError):
            return None
        self._used[key] = text
        spec = replace(
            spec,
            properties=MappingProxyType(dict(spec.properties)),
            annotations=MappingProxyType(dict(spec.annotations)),
        )
        return Parsed(path, spec.name, *places, spec, ())

    def keep(self, path: str, content: bytes, parsed: Parsed) -> None:
        spec = parsed.spec
        if spec is None or any(map(is_secret, spec.properties)):
            return
        row = [parsed.name_place, parsed.after_place, to_data(spec, is_sparse=True)]
        self._used[_name_file(path, content)] = json.dumps(row, separators=(",", ":"))

    def save(self) -> None:
        """Write down what was found and kept, where that is not what is there already.

        Where it cannot be written the next pass parses.
        """
        if self._used == self._known:
            return
        rows = (f"{key} {text}\n" for key, text in self._used.items())
        body = f"{self._maker}\n{self._made_at}\n{''.join(rows)}".encode()
        # Nobody holds a lock here: who meets another's draft takes it away, and what then is put
        # in place by two is whole, or does not have its checksum.
        with contextlib.suppress(OSError):
            as_left.put_file(str(self._path), _make_head(body) + body)
        self._known = dict(self._used)

    # -- the file ------------------------------------------------------------------------------

    def _read(self) -> tuple[float, dict[str, str]] | None:
        """(when it was begun, key -> row) of a file that is whole, of this code and ours alone."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            if not as_left.is_guarded(str(self._path.parent)):
                return None
            with os.fdopen(os.open(self._path, flags), "rb") as file:
                found = os.fstat(file.fileno())
                if not as_left.is_ours(found) or found.st_mode & _MODE_OTHERS:
                    return None
                head, end, body = file.read(_MAX_BYTES).partition(b"\n")
            if head + end != _make_head(body):
                return None
            maker, made_at, *rows = body.decode().removesuffix("\n").split("\n")
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - float(made_at)
            if maker != self._maker or not 0 <= age < MAX_AGE_S:
                return None
            pairs = (row.partition(" ") for row in rows)
            return float(made_at), {key: text for key, _, text in pairs}
        except (OSError, ValueError):
            return None


def _make_head(body: bytes) -> bytes:
    """The first line: by what it is known that the rest is whole, and of this form."""
    return b"%d %s\n" % (FORMAT, hashlib.sha256(body).hexdigest().encode())


def _name_file(path: str, content: bytes) -> str:
    """64 hex digits that stand for a file and all that is in it."""
    return hashlib.sha256(path.encode() + b"\0" + content).hexdigest()


def _name_maker() -> str:
    """What tells this boot and the code that parses from all others."""
    yaml = importlib.util.find_spec("yaml")
    there = [
        as_left.name_code(),
        as_left.name_boot(),
        os.geteuid(),
        sys.version,
        as_left.identify(str(Path(yaml.origin).parent)) if yaml and yaml.origin else None,
        [
            [str(file), as_left.identify(str(file))]
            for folder in (_PACKAGE, _PACKAGE / "specs", _PACKAGE / "porto")
            for file in sorted(folder.glob("*.py"))
        ],
    ]
    return hashlib.sha256(json.dumps(there).encode()).hexdigest()
