"""Where dpkg and apt keep things under a root, and how both are told.

A private root (`--root DIR`) gets its own apt configuration: `APT_CONFIG` is read first, so that
`Dir` moves everything, even the drop-in folders, and nothing of the host's apt.conf.d leaks in
(apt.conf(5)). Its maintainer scripts run without chroot and see DPKG_ROOT (dpkg(1)).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ya_salt.quick_dataclass import dataclass

# Maintainer scripts get a plain environment; of ours only what apt's own downloads need.
_PASSED_ON = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_ENVIRONMENT = {
    "HOSTMAN": "1",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1",
    "NEEDRESTART_SUSPEND": "1",
    "LC_ALL": "C",
    "TERM": "dumb",
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
_CONFFILES = ("--force-confdef", "--force-confold")
_FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg.d",
    "usr/sbin",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg/alternatives",
    "var/lib/dpkg/info",
    "var/lib/dpkg/parts",
    "var/lib/dpkg/triggers",
    "var/lib/dpkg/updates",
    "var/log/apt",
)
_FILES = ("etc/apt/sources.list", "var/lib/dpkg/available", "var/lib/dpkg/status")


@dataclass(frozen=True)
class Root:
    """A tree with a dpkg database: the host's own ("/") or a private one."""

    path: Path

    @property
    def is_private(self) -> bool:
        return self.path != Path("/")

    @property
    def admin_dir(self) -> Path:
        return self.path / "var/lib/dpkg"

    @property
    def status_file(self) -> Path:
        return self.admin_dir / "status"

    @property
    def has_journal(self) -> bool:
        """Whether dpkg was interrupted; apt-get -s does not look at this, apt-get refuses.

        The names are those of dpkg's lib/dpkg/dbmodify.c and apt's debSystem::CheckUpdates.
        """
        return any(file.name.isdigit() for file in (self.admin_dir / "updates").glob("[0-9]*"))

    @property
    def archives(self) -> Path:
        return self.path / "var/cache/apt/archives"

    @property
    def lists(self) -> Path:
        """Where apt keeps what repositories told it."""
        return self.path / "var/lib/apt/lists"

    @property
    def transaction_locks(self) -> tuple[Path, ...]:
        """What apt-get install and dpkg lock, in their order (apt's DPkg::Lock::Timeout)."""
        admin = self.admin_dir
        return admin / "lock-frontend", admin / "lock", self.archives / "lock"

    @property
    def update_locks(self) -> tuple[Path, ...]:
        return (self.lists / "lock",)

    @property
    def policy_rc(self) -> Path:
        return self.path / "usr/sbin/policy-rc.d"

    @property
    def apt_config(self) -> Path:
        return self.path / "etc/apt/ya-salt-root.conf"

    def apt_config_text(self) -> str:
        """Write the configuration of a private root; by hand: `APT_CONFIG=THIS apt-get …`."""
        return (
            "// Written by ya-salt: keeps apt inside this root. Changes here are overwritten.\n"
            f"Dir {_escape(f'{self.path}/')};\n"
            f"Dir::State::status {_escape(str(self.status_file))};\n"
            # apt's own user cannot look into private folders; nothing here belongs to the host.
            'APT::Sandbox::User "root";\n'
            + "".join(f"DPkg::Options:: {_escape(option)};\n" for option in self._private_options())
        )

    def dpkg_options(self) -> tuple[str, ...]:
        """For dpkg called without apt."""
        return (*self._private_options(), *_CONFFILES)

    def apt_options(self) -> tuple[str, ...]:
        """For apt-get: every choice that does not come from the call itself."""
        return (
            "-q",
            "-y",
            *(f"-oDPkg::Options::={option}" for option in _CONFFILES),
            # One pipe and one process group for everything below apt-get.
            "-oDpkg::Use-Pty=0",
            "-oDpkg::Progress-Fancy=0",
            "-oAPT::Install-Recommends=0",
            "-oAPT::Get::AutomaticRemove=0",
            "-oAcquire::Retries=1",
        )

    def environment(self, ours: Mapping[str, str] | None = None) -> dict[str, str]:
        """Make what apt, dpkg and through them every maintainer script see."""
        given = os.environ if ours is None else ours
        passed = {name: given[name] for name in _PASSED_ON if name in given}
        private = {"APT_CONFIG": str(self.apt_config)} if self.is_private else {}
        return {**passed, **_ENVIRONMENT, **private}

    def _private_options(self) -> tuple[str, ...]:
        if not self.is_private:
            return ()
        return (
            f"--root={self.path}",
            f"--log={self.path}/var/log/dpkg.log",
            "--force-script-chrootless",
            # Everybody may keep a private root; files then belong to its owner.
            "--force-not-root",
        )


def _escape(value: str) -> str:
    """Write a value for apt.conf with %XX for all that means something there.

    Between quotes apt knows no way to write a quote; without them it reads %XX (ParseQuoteWord of
    apt-pkg/contrib/strutl.cc). Slashes stay, but two of them would begin a comment.
    """
    return "".join(
        char
        if char.isascii() and (char.isalnum() or char in "/._-=+")
        else "".join(f"%{byte:02x}" for byte in char.encode(errors="surrogateescape"))
        for char in value
    ).replace("//", "/%2f")


def prepare_root(root: Root) -> None:
    """Make what a private root lacks. The host's own root is never touched. May raise OSError."""
    if not root.is_private:
        return
    for folder in _FOLDERS:
        (root.path / folder).mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        (root.path / file).touch()
    text = root.apt_config_text()
    # As bytes, as apt reads it: a path need not be text of our locale.
    content = os.fsencode(text)
    if not root.apt_config.is_file() or root.apt_config.read_bytes() != content:
        root.apt_config.write_bytes(content)
