"""See on the host what portod would only say at the start. Reads only.

Asked right before a running daemon is stopped, when its packages are in place. What cannot be seen
for sure (bind mounts, volumes, ACLs) is left to portod.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ya_salt.model import DaemonSpec
from ya_salt.names import quote
from ya_salt.quick_dataclass import dataclass

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HARMLESS = ("/bin/true", "/usr/bin/true")
_SHARED_NETS = frozenset({"inherited", "none", "host", "container", "netns"})
"""Networks that a second container may have beside the first; others would take it away."""

_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_MADE_IN_ROOT = ("/dev", "/proc", "/sys", "/run")
"""What portod mounts in a root of its own."""

_MAX_LINKS = 40
_EXECUTE, _WRITE, _READ = 1, 2, 4
_USER = "the daemon's user"
_ACL = "system.posix_acl_access"


@dataclass(frozen=True)
class Obstacle:
    """Why a daemon would not start: portod's code for it, and a sentence."""

    code: str
    message: str


def find_obstacle(spec: DaemonSpec, roots: Iterable[str] = ("/",)) -> Obstacle | None:
    """What is missing in every one of `roots`, in which the spec's own `root` lies; None if none.

    More than one root where apt fills another one than the host's: what runs may be of both, so
    there only what is not there at all is told.
    """
    found = [_find_in(spec, root) for root in dict.fromkeys(roots)]
    return None if None in found else next(iter(found), None)


def find_missing_account(spec: DaemonSpec, roots: Iterable[str] = ("/",)) -> Obstacle | None:
    """The spec's user or group where this host has none of that name; None if all are there.

    Only foretold: portod itself has the word, and is asked before a daemon is stopped.
    """
    if spec.properties.get("root", "/") != "/":
        return None
    for kind, file, look in (("user", "passwd", pwd.getpwnam), ("group", "group", grp.getgrnam)):
        name = spec.properties.get(kind, "")
        if not _ACCOUNT.fullmatch(name):
            continue
        try:
            look(name)
        except KeyError:
            if not any(_has_account(Path(root, "etc", file), name) for root in roots):
                return Obstacle("InvalidValue", f"{kind}: this host has no {kind} {name}")
    return None


def _has_account(path: Path, name: str) -> bool:
    try:
        return any(line.startswith(f"{name}:") for line in path.open(errors="replace"))
    except OSError:
        return False


def find_harmless_program(spec: DaemonSpec) -> str:
    """A program that does nothing, in the spec's root; "" where no second container may start."""
    if spec.properties.get("net", "inherited").split(" ")[0].split(";")[0] not in _SHARED_NETS:
        return ""
    root = spec.properties.get("root", "/")
    return next((path for path in _HARMLESS if _Tree(root).look(path) is not None), "")


def _find_in(spec: DaemonSpec, base: str) -> Obstacle | None:
    root = os.path.normpath(base + "/" + spec.properties.get("root", "/"))
    tree = _Tree(root, tuple(_list_mounted(spec)))
    if root != "/" and not Path(root).exists():
        return Obstacle("InvalidPath", f"root: there is no {quote(root)}")
    if not Path(root).is_dir():
        # An image of a disk, which portod mounts.
        return None
    return (
        _check_places(spec, tree, is_host=base == "/")
        or _check_links(spec, tree)
        or _check_program(spec, tree, is_host=base == "/")
    )


def _list_mounted(spec: DaemonSpec) -> Iterator[str]:
    """Paths below which other files may be than can be seen here."""
    if spec.properties.get("root", "/") != "/":
        yield from _MADE_IN_ROOT
    elif spec.properties.get("virt_mode") == "os":
        yield "/run"
    for entry in filter(None, spec.properties.get("bind", "").split(";")):
        yield entry.split(" ")[1]
    yield from filter(None, spec.properties.get("volumes_required", "").split(";"))


def _check_places(spec: DaemonSpec, tree: _Tree, *, is_host: bool) -> Obstacle | None:
    cwd = spec.properties.get("cwd")
    if cwd and not tree.is_hidden(cwd):
        found = tree.look(cwd)
        if found is None or not stat.S_ISDIR(found.mode):
            return Obstacle("InvalidPath", f"cwd: there is no directory {quote(cwd)}")
    # portod opens the streams as the daemon's user.
    who = _find_identity(spec) if is_host else None
    user = spec.properties.get("user", "root")
    for name in ("stdin_path", "stdout_path", "stderr_path"):
        path = spec.properties.get(name)
        if not path or tree.is_hidden(path):
            continue
        find = _find_no_input if name == "stdin_path" else _find_no_output
        problem = find(path, tree, who)
        if problem:
            return Obstacle("InvalidValue", f"{name}: {problem.replace(_USER, f'user {user}')}")
    return None


def _find_no_input(path: str, tree: _Tree, who: _Identity | None) -> str:
    """Why nothing can be read from `path`."""
    there = tree.look(path)
    if there is None:
        return "" if Path(path).exists() else f"there is no {quote(path)}"
    return "" if _may(there, who, _READ) else f"{_USER} may not read {quote(path)}"


def _find_no_output(path: str, tree: _Tree, who: _Identity | None) -> str:
    """Why no output can be written to `path`, which portod makes where it is not there."""
    there = tree.look(path)
    if there is not None and stat.S_ISDIR(there.mode):
        return f"{quote(path)} is a directory"
    if there is not None:
        return "" if _may(there, who, _WRITE) else f"{_USER} may not write to {quote(path)}"
    folder = os.path.dirname(os.path.normpath(path))  # noqa: PTH120 - a path of another root
    found = tree.look(folder)
    if found is None or not stat.S_ISDIR(found.mode):
        return f"there is no directory {quote(folder)}"
    may_make = _may(found, who, _WRITE | _EXECUTE)
    return "" if may_make else f"{_USER} may not make a file in {quote(folder)}"


def _check_links(spec: DaemonSpec, tree: _Tree) -> Obstacle | None:
    """Where portod cannot make a link of `symlink`: with a root of its own it makes any."""
    if spec.properties.get("root", "/") != "/":
        return None
    # In host mode links are made while the daemon runs, as its user; else at the start, as root.
    is_host_mode = spec.properties.get("virt_mode") == "host"
    who = _find_identity(spec) if is_host_mode else None
    for key in spec.properties:
        link = key[len("symlink[") : -1] if key.startswith("symlink[") else ""
        path = os.path.normpath(f"{spec.properties.get('cwd', '')}/{link}")
        if link.startswith("/"):
            path = os.path.normpath(link)
        elif "cwd" not in spec.properties:
            # In a folder that portod makes for the container.
            continue
        if not link or tree.is_hidden(path):
            continue
        if tree.is_no_link(path):
            words = f"symlink: {quote(path)} is there and is no link; move it away"
            return Obstacle("InvalidValue", words)
        folder = tree.find_folder(path)
        if who is not None and folder is not None and not _has_right(folder, who, _WRITE):
            user = spec.properties.get("user", "root")
            words = f"symlink: user {user} may not write to the directory of {quote(path)}"
            return Obstacle("Permission", f"{words}; in host mode the link is made as this user")
    return None


def _check_program(spec: DaemonSpec, tree: _Tree, *, is_host: bool) -> Obstacle | None:
    program = _name_program(spec.properties)
    if not program:
        return None
    places = _list_places(program, spec.properties)
    if any(tree.is_hidden(place) for place in places):
        return None
    files = [(place, tree.look(place)) for place in places]
    there = [(place, found) for place, found in files if found and stat.S_ISREG(found.mode)]
    if not there:
        where = "" if "/" in program else f" in {':'.join(_list_folders(spec.properties))}"
        return Obstacle("InvalidCommand", f"cmd: there is no program {quote(program)}{where}")
    if not is_host:
        return None
    who = _find_identity(spec)
    runnable = [place for place, found in there if _may(found, who, _EXECUTE)]
    if not runnable:
        user = spec.properties.get("user", "root")
        words = f"cmd: {quote(there[0][0])} cannot be executed by user {user}; see its permissions"
        return Obstacle("InvalidCommand", words)
    return _check_interpreter(runnable[0], tree)


def _check_interpreter(place: str, tree: _Tree) -> Obstacle | None:
    line = tree.read_first_line(place)
    words = line[2:].split() if line.startswith("#!") else []
    if not words or tree.is_hidden(words[0]) or tree.look(words[0]) is not None:
        return None
    words_ = f"cmd: {quote(place)} wants the interpreter {quote(words[0])}, which is not there"
    return Obstacle("InvalidCommand", words_)


def _name_program(properties: Mapping[str, str]) -> str:
    """The first word of the command; "" where only Porto's word splitting can tell."""
    if "command_argv" in properties:
        return properties["command_argv"].split("\t")[0].replace("\\\\", "\\")
    text = properties.get("command", "")
    try:
        first = shlex.split(text)[:1]
    except ValueError:
        return ""
    return "" if not first or set(first[0]) & set("$`*?[~") else first[0]


def _list_places(program: str, properties: Mapping[str, str]) -> list[str]:
    if program.startswith("/"):
        return [program]
    if "/" in program:
        return [f"{properties['cwd']}/{program}"] if "cwd" in properties else []
    return [f"{folder}/{program}" for folder in _list_folders(properties)]


def _list_folders(properties: Mapping[str, str]) -> list[str]:
    path = properties.get("env[PATH]") or properties.get("env_secret[PATH]") or _PATH
    return [folder for folder in path.split(":") if folder.startswith("/")]


# -- who may execute what ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Identity:
    uid: int
    gids: frozenset[int]


def _find_identity(spec: DaemonSpec) -> _Identity | None:
    """As whom it will run; None where that is not known here."""
    if spec.properties.get("userns") == "true" or spec.properties.get("root", "/") != "/":
        return None
    if spec.properties.get("virt_mode") == "os":
        # portod makes it root, whoever is named.
        return None
    if "DAC_OVERRIDE" in spec.properties.get("capabilities_ambient", "").split(";"):
        return None
    # Not the user's own group: conformance/user-and-group-texts.
    user, group = spec.properties.get("user", "root"), spec.properties.get("group", "root")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        name = pwd.getpwuid(uid).pw_name
        return _Identity(uid, frozenset({gid, *os.getgrouplist(name, gid)}))
    except KeyError:
        # portod is asked about users and groups when they are set.
        return None


@dataclass(frozen=True)
class _Found:
    """A file, and everything on the way to it."""

    mode: int
    stats: tuple[os.stat_result, ...]
    has_acl: bool


def _may(found: _Found, who: _Identity | None, right: int) -> bool:
    """Whether it has the right to the file, and may go there; true where nobody can tell."""
    if found.has_acl or who is None:
        return True
    file, *folders = found.stats
    return _has_right(file, who, right) and all(_has_right(one, who) for one in folders)


def _has_right(found: os.stat_result, who: _Identity, right: int = _EXECUTE) -> bool:
    if who.uid == 0:
        is_any = stat.S_ISDIR(found.st_mode) or right != _EXECUTE
        return is_any or bool(found.st_mode & 0o111)
    shift = 6 if found.st_uid == who.uid else 3 if found.st_gid in who.gids else 0
    return found.st_mode >> shift & right == right


class _Tree:
    """The files below a root, with links as they are seen from inside."""

    def __init__(self, root: str, mounted: tuple[str, ...] = ()) -> None:
        self._root = root.rstrip("/")
        self._mounted = mounted

    def is_hidden(self, path: str) -> bool:
        """Whether something is mounted over the path, so that what is below cannot be seen."""
        pure = PurePosixPath(os.path.normpath(path))
        return any(pure.is_relative_to(os.path.normpath(one)) for one in self._mounted)

    def look(self, path: str) -> _Found | None:
        """The file at `path`; None where there is none."""
        resolved = self._resolve(path)
        if resolved is None:
            return None
        whole = Path(self._root + resolved)
        try:
            places = [whole, *whole.parents]
            stats = tuple(place.stat() for place in places)
            has_acl = any(_ACL in os.listxattr(place) for place in places)
        except OSError:
            return None
        return _Found(stats[0].st_mode, stats, has_acl)

    def is_no_link(self, path: str) -> bool:
        """Whether there is anything but a link at `path` itself."""
        folder, _, name = path.rpartition("/")
        resolved = self._resolve(folder or "/")
        try:
            mode = os.lstat(f"{self._root}{resolved}/{name}").st_mode if resolved else 0
        except OSError:
            return False
        return bool(mode) and not stat.S_ISLNK(mode)

    def find_folder(self, path: str) -> os.stat_result | None:
        """The nearest directory above `path` that is there; portod makes the others."""
        for folder in PurePosixPath(path).parents:
            found = self.look(str(folder))
            if found is not None:
                return found.stats[0]
        return None

    def read_first_line(self, path: str) -> str:
        resolved = self._resolve(path)
        try:
            with Path(self._root + (resolved or path)).open("rb") as file:
                return file.read(256).split(b"\n")[0].decode(errors="replace")
        except OSError:
            return ""

    def _resolve(self, path: str) -> str | None:
        """The path without links; None where a part is missing or they go round in circles."""
        done, todo, links = "", [part for part in path.split("/") if part], 0
        while todo:
            part = todo.pop(0)
            if part in {".", ".."}:
                done = done.rpartition("/")[0] if part == ".." else done
                continue
            here = f"{done}/{part}"
            try:
                is_link = stat.S_ISLNK(os.lstat(self._root + here).st_mode)
            except OSError:
                return None
            if not is_link:
                done = here
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = str(Path(self._root + here).readlink())
            todo = [part for part in target.split("/") if part] + todo
            done = "" if target.startswith("/") else done
        return done or "/"
