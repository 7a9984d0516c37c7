"""What the last full pass has left behind, written down so that the next one can be quick.

A snapshot beside the store names every file that a pass goes by, with its stat. While all of them
are as they were, reading them again would tell the same. It is a hint and never an order: whatever
is not exactly as written down, or cannot be told, means the long way. Loads next to nothing.
"""

from __future__ import annotations

import marshal
import os
import time
import zlib

from ya_salt import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

FILE_NAME = "as-left"
PASS_FILE_NAME = "as-left.pass"  # noqa: S105 - a pass over the host, no password
"""When the last quick pass was: the store is not written by one."""
ASKED_FILE_NAME = "as-left.asked"
"""When daemons said yes last, by the last quick pass of an agent that asks them."""
FORMAT = 9
_MARSHAL = 4
"""Its form that each Python since 3.4 writes and reads."""
SETTLED_S = 3.0
"""What changed so lately may change again without its times showing it: the kernel stamps files
from a clock that ticks each 4 to 10 ms, and some file systems keep whole seconds."""
MAX_STEP_S = 1.5
"""So far a clock may have moved against the time since the boot: more, and times tell nothing."""
FULL_EVERY_S = 600.0
_MAX_BYTES = 16 << 20
_LITTLE_ROOM = 1 << 20
"""Fewer free bytes than this are a full disk."""
_MODE_OTHERS_WRITE = 0o022
_STICKY = 0o1000
_SET_GROUP = 0o2000

DPKG_FILES = ("status", "updates", "arch")
"""In dpkg's directory: all that its answers come from."""

Identity = list[int]
"""Device, inode, mode, owner, group, size, mtime and ctime in nanoseconds."""


def identify(path: str, folder: int | None = None) -> Identity | None:
    """A file as its stat tells it, a link being one itself; None where there is none.

    Raises OSError where that cannot be told.
    """
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    ]


def identify_all(paths: Iterable[str]) -> dict[str, list[Any]]:
    """Path -> (what it leads to, its identity). Raises OSError."""
    found: dict[str, list[Any]] = {}
    for path in paths:
        real = os.path.realpath(path)
        found[path] = [real, identify(real)]
    return found


def identify_entries(directory: str) -> dict[str, Identity | None]:
    """Every entry of a directory by its name, and the directory itself as `.`. Raises OSError."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = {name: identify(name, folder) for name in os.listdir(folder)}
        found["."] = identify(".", folder)
    finally:
        os.close(folder)
    return found


def is_settled(identity: Identity | None, now: float) -> bool:
    """Whether a change from here on cannot but show: it is older than any clock tick."""
    return identity is None or max(identity[6], identity[7]) < (now - SETTLED_S) * 1e9


def is_guarded(path: str) -> bool:
    """Whether nobody else can put another file in its place; when in doubt, no."""
    return are_guarded([path])


def are_guarded(paths: Iterable[str]) -> bool:
    """The same of each; what leads to several is looked at once."""
    seen: set[str] = set()
    return all(_is_guarded(path, seen) for path in paths)


def _is_guarded(path: str, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    while real not in seen:
        seen.add(real)
        try:
            found = os.lstat(real)
        except FileNotFoundError:
            found = None
        except OSError:
            return False
        if found is not None and not _is_way(found):
            return False
        real = os.path.dirname(real)
    return True


def is_ours(found: os.stat_result) -> bool:
    """Whether nobody else owns it or may write it."""
    return found.st_uid in {0, os.geteuid()} and not found.st_mode & _MODE_OTHERS_WRITE


def _is_way(found: os.stat_result) -> bool:
    """Whether what lies in it may be ours: in a sticky directory nobody replaces what is."""
    return found.st_uid in {0, os.geteuid()} if found.st_mode & _STICKY else is_ours(found)


def is_disk_full(folder: str) -> bool:
    """Whether nothing can be written there any more; no, where that cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE_ROOM


def find_step() -> float:
    """The wall clock against the time since the boot: it changes when somebody sets the clock."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def name_boot() -> str:
    """What tells this boot of this machine from all others; "" where nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def name_code() -> list[Any]:
    """What tells this ya-salt from another one."""
    return [__version__, __file__, identify(__file__)]


def find_full_at(host: str) -> float:
    """When the long way is due again, in seconds since the boot: hosts spread that."""
    share = zlib.crc32(host.encode()) / 0xFFFFFFFF
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now + FULL_EVERY_S * (0.9 + 0.2 * share)


def find_boottime(at: float) -> float:
    """A moment of the wall clock in seconds since the boot."""
    return at - find_step()


class Glimpse:
    """The files of a host right before a full pass began to read them."""

    def __init__(
        self,
        source: Mapping[str, Any],
        files: Mapping[str, list[Any]],
        entries: Mapping[str, Identity | None],
        unsettled: Iterable[str] = (),
    ) -> None:
        self.source = source
        """What the settings are made of: the settings file, the environment, the flags."""
        self.files = files
        self.entries = entries
        """Of the daemons directory."""
        self.unsettled = frozenset(unsettled)
        """Entries that have changed so lately that another change may not show."""
        self.step = find_step()


# -- the file ------------------------------------------------------------------------------------


def write(state_dir: str, data: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Put a snapshot in place of the last one. Raises OSError.

    `more` is what a command does not need: it is left as bytes until somebody asks for it.
    """
    write_file(os.path.join(state_dir, FILE_NAME), {**data, "more": _encode(more)})


def read(state_dir: str) -> dict[str, Any] | None:
    """The snapshot; None where there is none that is whole, of this form, and ours alone.

    "more" is for `read_more`.
    """
    return read_file(os.path.join(state_dir, FILE_NAME))


def write_file(path: str, data: Mapping[str, Any], mode: int = 0o600) -> None:
    """Put a file for `read_file` in place of the last one. Raises OSError."""
    body = _encode(data)
    put_file(path, _make_head(body) + body, mode)


def put_file(path: str, text: bytes, mode: int = 0o600) -> None:
    """Put a file in place of the last one, whole or not at all. Raises OSError."""
    beside = f"{path}.new"
    remove_file(beside)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(beside, flags, mode)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(text)
        os.replace(beside, path)
    except BaseException:
        remove_file(beside)
        raise


def read_file(path: str) -> dict[str, Any] | None:
    """What `write_file` was given; None where it is not whole, of this form, and ours alone."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not is_ours(os.fstat(file.fileno())):
                return None
            head, end, body = file.read(_MAX_BYTES).partition(b"\n")
        if head + end != _make_head(body):
            return None
        # What is ours and whole is what we wrote: nobody else's bytes come this far.
        data = marshal.loads(body)  # noqa: S302
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return data if isinstance(data, dict) else None


def _encode(data: Mapping[str, Any]) -> bytes:
    # json would take longer to load than all that a quick pass does.
    return marshal.dumps(dict(data), _MARSHAL)


def _make_head(body: bytes) -> bytes:
    """The first line: by what it is known that the rest is whole, and of this form."""
    return b"%d %08x\n" % (FORMAT, zlib.crc32(body))


def read_of(state_dir: str, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The snapshot, where it is of settings that are made of the same, and of every daemon."""
    data = read(state_dir)
    return data if data is not None and is_of_all(data, source) else None


def is_of_all(data: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """Whether it is of these settings, and no daemon has to be looked at in any case."""
    return data.get("source") == source and not data.get("aside")


def read_more(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was written as `more` with a snapshot. Raises ValueError, LookupError."""
    more: dict[str, Any] = marshal.loads(data["more"])  # noqa: S302 - as in `read`
    return more


def take(state_dir: str) -> dict[str, Any] | None:
    """The snapshot as `read` has it, and take it away."""
    data = read(state_dir)
    forget(state_dir)
    return data


def forget(state_dir: str) -> None:
    """Take the snapshot away: whoever is about to change something does so first."""
    for name in (FILE_NAME, PASS_FILE_NAME):
        remove_file(os.path.join(state_dir, name))


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        # Where it cannot be taken away nothing can be written in its place either, and what it
        # says of the store is over.
        pass


def note_pass(state_dir: str, started: float, ended: float) -> None:
    """Remember that a quick pass was made. Raises OSError."""
    path = os.path.join(state_dir, PASS_FILE_NAME)
    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(path, flags, _find_mode(state_dir))
    try:
        # Of one length, so that nobody ever reads half of it.
        os.pwrite(file, b"%017.6f %017.6f\n" % (started, ended), 0)
    finally:
        os.close(file)


def load_pass(state_dir: str) -> tuple[float, float] | None:
    """When the last quick pass began and ended, if there was one since the last full one."""
    path = os.path.join(state_dir, PASS_FILE_NAME)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            started, ended = file.read(64).split()
        return float(started), float(ended)
    except (OSError, ValueError):
        return None


def note_asked(state_dir: str, asked: Mapping[str, Sequence[Any]]) -> None:
    """Remember for the next reader of the store what its records would have.

    `asked`: daemon -> its process, when it said yes last, seconds since it was asked before that.
    This stays where the snapshot is taken away. Raises OSError.
    """
    write_file(os.path.join(state_dir, ASKED_FILE_NAME), asked, _find_mode(state_dir))


def _find_mode(state_dir: str) -> int:
    """Of what whoever may read the store may read: where that is a group, its directory has it."""
    return 0o640 if os.stat(state_dir).st_mode & _SET_GROUP else 0o600


def load_asked(state_dir: str) -> dict[str, Any]:
    """The same; nothing where it cannot be known."""
    return read_file(os.path.join(state_dir, ASKED_FILE_NAME)) or {}


# -- whether all is as it was --------------------------------------------------------------------


def is_host_as_left(data: Mapping[str, Any], state_dir: str) -> bool:
    """Whether all but the daemons' containers is as the snapshot has it, and it is not due.

    Raises OSError, LookupError, TypeError, AttributeError where that cannot be told.
    """
    return is_around_as_left(data, state_dir) and data["entries"] == identify_entries(
        data["specs_dir"]
    )


def is_any_other(data: Mapping[str, Any], paths: Iterable[str]) -> bool:
    """Whether one of these entries of the daemons directory is not as the snapshot has it.

    For who was told of a change: one is found sooner than that all others are as they were. Raises
    OSError, LookupError.
    """
    entries = data["entries"]
    return any(identify(path) != entries.get(os.path.basename(path)) for path in paths)


def is_around_as_left(data: Mapping[str, Any], state_dir: str) -> bool:
    """Whether machine, clock, ya-salt and files that are no daemon's are as the snapshot has them.

    And it is not due. Raises as `is_host_as_left`.
    """
    boot = name_boot()
    return (
        bool(boot)
        and data["boot"] == boot
        and data["host"] == os.uname().nodename
        and data["code"] == name_code()
        and data["uid"] == os.geteuid()
        and time.clock_gettime(time.CLOCK_BOOTTIME) < data["full_at"]
        and abs(data["step"] - find_step()) < MAX_STEP_S
        and data["state_dir"] == state_dir
        and are_guarded([state_dir, *data["guarded"]])
        and data["files"] == identify_all(data["files"])
        # A probation begins anew then.
        and not (data["on_trial"] and is_disk_full(state_dir))
    )
