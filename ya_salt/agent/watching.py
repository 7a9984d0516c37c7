"""Notice that a file has changed, at once by inotify, or by looking every second without it.

What is watched are directories. Where one is missing, the nearest above it that is there is
watched instead, until it comes.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Mapping

from ya_salt.agent import inotify
from ya_salt.agent.inotify import Event, Inotify
from ya_salt.quick_dataclass import dataclass

_WRITING = inotify.MODIFY | inotify.CREATE
_WRITTEN = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT | inotify.IGNORED
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM, errno.ENOSYS})


@dataclass(frozen=True)
class Target:
    """What somebody wants to hear of: every entry of a directory, or a file, which may be a glob.

    `source` says what for: `specs`, `settings`, `packages`, `watched`, `portod`.
    """

    source: str
    path: str
    is_directory: bool = False


@dataclass(frozen=True)
class Change:
    """Something about a target has changed; with `is_unfinished` it is still being written.

    `path` is "" where everything of the source may have changed.
    """

    source: str
    path: str = ""
    is_unfinished: bool = False


@dataclass(frozen=True)
class _Wish:
    """Names of one directory, as patterns; "" is every name."""

    directory: str
    pattern: str
    source: str

    def is_about(self, name: str) -> bool:
        return not self.pattern or name == self.pattern or fnmatch.fnmatchcase(name, self.pattern)


_Signature = tuple[tuple[str, int, int, int, int, int, int], ...] | None


class Watcher:
    """Watches its targets; `trouble` says why it looks every second, "" where inotify tells."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._wishes: dict[int, tuple[_Wish, ...]] = {}
        self._scanned: dict[_Wish, _Signature] = {}
        self._targets: tuple[Target, ...] = ()
        self.trouble = ""

    def fileno(self) -> int:
        """-1 where there is nothing to wait on."""
        return self._inotify.fileno() if self._inotify is not None else -1

    @property
    def must_scan(self) -> bool:
        return bool(self._scanned)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def watch(self, targets: Iterable[Target]) -> list[Change]:
        """Watch these from now on, and those of them that came or went since the last call.

        What may have changed since then without being heard of, as nobody listened to it yet.
        """
        self._targets = tuple(targets)
        return self.renew()

    def renew(self) -> list[Change]:
        """Find the directories of the targets again. Costs a few system calls each."""
        self.trouble = ""
        self._open()
        wishes: dict[int, tuple[_Wish, ...]] = {}
        scanned: dict[_Wish, _Signature] = {}
        done: set[_Wish] = set()
        # What comes while we look for it is heard of by nobody: until nothing more is found.
        while wanted := [wish for wish in self._list_wishes() if wish not in done]:
            done.update(wanted)
            for wish in wanted:
                watch = self._add(wish.directory)
                if watch is not None:
                    wishes[watch] = (*wishes.get(watch, ()), wish)
                elif wish in self._scanned:
                    scanned[wish] = self._scanned[wish]
                else:
                    scanned[wish] = _sign(wish)
        if self._inotify is not None:
            for watch in self._wishes.keys() - wishes.keys():
                self._inotify.remove(watch)
        unheard = list(self._find_unheard(wishes, scanned))
        self._wishes, self._scanned = wishes, scanned
        return list(dict.fromkeys(unheard))

    def _list_wishes(self) -> Iterator[_Wish]:
        return (wish for target in self._targets for wish in _list_wishes(target))

    def _find_unheard(
        self, wishes: Mapping[int, tuple[_Wish, ...]], scanned: Mapping[_Wish, _Signature]
    ) -> Iterator[Change]:
        """What may have changed before these were listened to."""
        for watch, found in wishes.items():
            for wish in found:
                if wish in self._wishes.get(watch, ()):
                    continue
                if wish not in self._scanned or self._scanned[wish] != _sign(wish):
                    yield Change(wish.source)
        for wish in scanned:
            if wish not in self._scanned:
                yield Change(wish.source)

    def _open(self) -> None:
        if self._inotify is None:
            try:
                self._inotify = Inotify()
            except OSError as error:
                self._give_up(error)

    def _add(self, directory: str) -> int | None:
        if self._inotify is None:
            return None
        try:
            return self._inotify.add(directory)
        except OSError as error:
            if error.errno in _LIMITS:
                self._give_up(error)
            return None

    def _give_up(self, error: OSError) -> None:
        name = "max_user_instances" if error.errno == errno.EMFILE else "max_user_watches"
        self.trouble = (
            f"inotify: {error.strerror}: directories are looked at every second instead; "
            f"raise fs.inotify.{name} (sysctl)"
        )

    def read(self) -> list[Change]:
        """What inotify has told since the last call, each change once; never waits.

        In the order in which each was told last: what is said of a file at the end holds.
        """
        found: dict[Change, None] = {}
        if self._inotify is not None:
            is_moved = False
            for event in self._inotify.read():
                for change in self._translate(event):
                    found.pop(change, None)
                    found[change] = None
                is_moved |= self._is_about_directory(event)
            if is_moved:
                found |= dict.fromkeys(self.renew())
        return list(found)

    def scan(self) -> list[Change]:
        """What has changed in directories that inotify does not tell of."""
        found = []
        for wish, before in list(self._scanned.items()):
            now = _sign(wish)
            if now != before:
                self._scanned[wish] = now
                found.append(Change(wish.source))
        return found

    def _translate(self, event: Event) -> Iterator[Change]:
        if event.mask & inotify.OVERFLOW:
            # The kernel has dropped events: anything may have changed.
            yield from dict.fromkeys(Change(target.source) for target in self._targets)
            return
        for wish in self._wishes.get(event.watch, ()):
            if event.mask & _SELF or not event.name:
                yield Change(wish.source)
            elif wish.is_about(event.name):
                path = f"{wish.directory.rstrip('/')}/{event.name}"
                yield Change(wish.source, path, is_unfinished=_is_unfinished(event, path))

    def _is_about_directory(self, event: Event) -> bool:
        """Whether a watched directory came, went or was replaced."""
        if event.mask & (inotify.OVERFLOW | _SELF):
            return event.watch in self._wishes or bool(event.mask & inotify.OVERFLOW)
        comes_or_goes = _WRITTEN & ~inotify.CLOSE_WRITE | inotify.CREATE
        if not event.mask & comes_or_goes:
            return False
        named = (
            {(wish.directory.rstrip("/"), wish.pattern) for wish in self._wishes[event.watch]}
            if event.watch in self._wishes
            else set()
        )
        return any(
            self._leads_on(f"{directory}/{event.name}") for directory, pattern in named if pattern
        )

    def _leads_on(self, path: str) -> bool:
        """Whether a target lies at or below `path` and is a directory there."""
        return any(
            target.path.startswith(f"{path}/") or (target.is_directory and target.path == path)
            for target in self._targets
        )


def _is_unfinished(event: Event, path: str) -> bool:
    """Whether it is open for writing: that ends with CLOSE_WRITE. A link is whole when it comes."""
    if event.mask & inotify.MODIFY:
        return True
    if not event.mask & inotify.CREATE or event.mask & inotify.ISDIR:
        return False
    try:
        found = os.lstat(path)
    except OSError:
        return False
    is_file = (found.st_mode & 0o170000) == 0o100000
    return is_file and found.st_nlink == 1


def _list_wishes(target: Target) -> Iterator[_Wish]:
    """What to watch to hear of a target: its directory, and what may replace that."""
    folder, name = os.path.split(target.path)
    if target.is_directory:
        yield from _climb(target.path, "", target.source)
        yield from _climb(folder, name, target.source)
        return
    if not glob.has_magic(folder):
        yield from _climb(folder, name, target.source)
        return
    static = folder
    while glob.has_magic(static):
        static, _ = os.path.split(static)
    yield from _climb(static, "", target.source)
    for found in glob.glob(folder):  # noqa: PTH207 - a pattern with a root
        yield from _climb(found, name, target.source)


def _climb(directory: str, pattern: str, source: str) -> Iterator[_Wish]:
    """The directory, or what is above it and there."""
    while directory != "/" and not os.path.isdir(directory):  # noqa: PTH112 - after each pass
        directory, pattern = os.path.split(directory)
    yield _Wish(directory or "/", pattern, source)


def _sign(wish: _Wish) -> _Signature:
    """Differs after every change of the directory that the wish is about; None: it is not there."""
    signature = []
    with contextlib.suppress(OSError):
        with os.scandir(wish.directory) as entries:
            for entry in entries:
                if wish.is_about(entry.name):
                    with contextlib.suppress(OSError):
                        found = entry.stat()
                        signature.append(
                            (
                                entry.name,
                                found.st_ino,
                                found.st_size,
                                found.st_mtime_ns,
                                found.st_ctime_ns,
                                found.st_mode,
                                found.st_uid,
                            )
                        )
        return tuple(sorted(signature))
    return None
