"""Users, groups and the rights of a connected client."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from devporto.refusal import make_denied, make_invalid

READ_ONLY = 0
NORMAL = 1
SUPERUSER = 2
PORTO_GROUP = "porto"


@dataclass(frozen=True)
class Credentials:
    """Who owns a container, or whom its command runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    user: str = field(default="", compare=False)
    """How the client called the user, and reads it back: `65534` does not become `nobody`."""

    def is_member(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups

    def format(self) -> str:
        """`uid gid groups...`."""
        return " ".join(map(str, (self.uid, self.gid, *self.groups)))


class UserBook:
    """Names of users and groups, those of a package root before those of the machine."""

    def __init__(self, sysroot: str | None) -> None:
        self._etc = Path(sysroot, "etc") if sysroot else None
        # A get of 500 containers asks 1000 times; the files do not change that often.
        self.name_user = lru_cache(1024)(self._name_user)
        self.name_group = lru_cache(1024)(self._name_group)

    def forget(self) -> None:
        """Read the files anew at the next question."""
        self.name_user.cache_clear()
        self.name_group.cache_clear()

    def find(self, user: str) -> Credentials:
        """Find a user by name or number, with its groups. Raises Refusal(InvalidValue)."""
        for name, uid, gid in self._list_private("passwd"):
            if user in (name, uid):
                return self.add_groups(Credentials(int(uid), int(gid), user=user))
        with contextlib.suppress(KeyError, OverflowError):
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            return self.add_groups(Credentials(entry.pw_uid, entry.pw_gid, user=user))
        raise make_invalid(f"Cannot find user: {user}")

    def find_uid(self, user: str) -> int:
        """As `find`, but any number is a user."""
        if user.isdecimal() and int(user) < 2**31:
            return int(user)
        return self.find(user).uid

    def find_gid(self, group: str) -> int:
        """Find a group by name, or any number. Raises Refusal(InvalidValue)."""
        if group.isdecimal() and int(group) < 2**31:
            return int(group)
        for name, gid, _ in self._list_private("group"):
            if name == group:
                return int(gid)
        with contextlib.suppress(KeyError):
            return grp.getgrnam(group).gr_gid
        raise make_invalid(f"Cannot find group: {group}")

    def add_groups(self, credentials: Credentials) -> Credentials:
        """With the supplementary groups the books give this user."""
        name = self.describe_user(credentials)
        groups = {credentials.gid: None}
        with contextlib.suppress(KeyError, OSError):
            groups.update(dict.fromkeys(os.getgrouplist(name, credentials.gid)))
        for fields in self._list_private("group", want_members=True):
            if name in fields[2].split(","):
                groups[int(fields[1])] = None
        return replace(credentials, groups=tuple(groups))

    def describe_user(self, credentials: Credentials) -> str:
        """As its client called it, else by name, else by number."""
        return credentials.user or self.name_user(credentials.uid)

    def _name_user(self, uid: int) -> str:
        for name, number, _ in self._list_private("passwd"):
            if number == str(uid):
                return name
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return str(uid)

    def _name_group(self, gid: int) -> str:
        for name, number, _ in self._list_private("group"):
            if number == str(gid):
                return name
        with contextlib.suppress(KeyError):
            return grp.getgrgid(gid).gr_name
        return str(gid)

    def _list_private(self, book: str, *, want_members: bool = False) -> list[tuple[str, str, str]]:
        """(name, number, gid or members) of the package root's book."""
        if self._etc is None:
            return []
        try:
            text = (self._etc / book).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return []
        rows = [line.split(":") for line in text.splitlines()]
        third = 3 if book == "passwd" or want_members else 2
        return [(r[0], r[2], r[third]) for r in rows if len(r) > third and r[2].isdecimal()]


@dataclass
class Caller:
    """The one who asks: what the socket says about its peer."""

    pid: int = 0
    credentials: Credentials = field(default_factory=Credentials)
    level: int = SUPERUSER
    container: str = "/"
    """Name of the container the client runs in; `self` in requests."""
    namespace: str = ""
    """Prefix of the names it sees, where its container is isolated."""

    @property
    def is_superuser(self) -> bool:
        return self.level >= SUPERUSER

    def check_write(self) -> None:
        """Let pass who may write. Raises Refusal(Permission)."""
        if self.level <= READ_ONLY:
            raise make_denied("Write access denied")

    def check_control(self, other: Credentials) -> None:
        """May this client act for `other`? Raises Refusal(Permission)."""
        self.check_write()
        if not self.is_superuser and self.credentials.uid != other.uid:
            raise make_denied(f"{self.credentials.uid} cannot control {other.uid}")


def find_level(credentials: Credentials) -> int:
    """Root may all, group porto may write its own, others may read.

    A server that is not root obeys the user who runs it as if that were root.
    """
    if credentials.uid in (0, os.geteuid()):
        return SUPERUSER
    try:
        porto = grp.getgrnam(PORTO_GROUP).gr_gid
    except KeyError:
        return READ_ONLY
    return NORMAL if credentials.is_member(porto) else READ_ONLY
