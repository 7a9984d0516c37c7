"""Run apt in a systemd unit of its own: it outlives whoever started it.

A service that is restarted, or killed by its watchdog or for want of memory, takes along what runs
in its cgroup: dpkg would end half-way through a package. The unit's name is always the same, so
that the next pass finds it, waits for it and takes its result.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import select
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.packages.command import Finished, Worker, has_tool, run_short, start_child
from ya_salt.quick_dataclass import dataclass

_LOG = logging.getLogger("ya_salt.packages")
_BOOTED = Path("/run/systemd/system")
"""There where systemd is the init (sd_booted(3))."""

_FOLDER = Path("/run/ya-salt")
_POLL_S = 0.1
_SETTLE_S = 10.0
_UNKNOWN_CODE = 125
_TOOL_TIMEOUT_S = 60.0

_PROPERTIES = (
    "RemainAfterExit=yes",  # Its result stays until it is taken.
    "KillMode=process",  # What scripts leave behind is not ours to end.
    "OOMPolicy=continue",
    "TasksMax=infinity",
    "UMask=0022",
    "StandardInput=null",
)


def find_obstacle() -> str:
    """Why apt cannot have a unit of its own on this host, or ""."""
    if not _BOOTED.is_dir():
        return "systemd does not run here"
    if os.geteuid() != 0:
        return "only root may start units"
    for tool in ("systemd-run", "systemctl"):
        if not has_tool(tool, os.environ.get("PATH", os.defpath)):
            return f"{tool} is not installed"
    return ""


@dataclass(frozen=True)
class AptUnit:
    """The unit in which apt works on one package root."""

    root: str

    @cached_property
    def name(self) -> str:
        if self.root == "/":
            return "ya-salt-apt.service"
        return f"ya-salt-apt-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]}.service"

    @property
    def _log(self) -> Path:
        """What it says; there as long as its result has not been taken."""
        return _FOLDER / f"{self.name}.log"

    @property
    def _environment(self) -> Path:
        return _FOLDER / f"{self.name}.env"

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Worker:
        """Start the command in it, or else as a child, and say so. Raises PackageError."""
        import shutil

        path = shutil.which(argv[0], path=environment.get("PATH"))
        if path is None:
            return start_child(argv, environment)
        try:
            self._prepare(environment)
        except OSError as error:
            return self._start_child(argv, environment, f"{_FOLDER}: {error.strerror}")
        command = self._make_command((path, *argv[1:]))
        done = run_short(command, _make_environment(), _TOOL_TIMEOUT_S)
        if done.code and not self._ask()["MainPID"].strip("0"):
            self.forget()
            return self._start_child(argv, environment, " ".join(done.lines))
        return _InUnit(self)

    def find(self) -> Worker | None:
        """What a pass before this one has started in it and not taken the result of."""
        if not self._log.exists() or find_obstacle():
            return None
        if self._ask()["LoadState"] != "loaded":
            self.forget()
            return None
        return _InUnit(self)

    def forget(self) -> None:
        """Take the unit away, and its files."""
        environment = _make_environment()
        for verb in ("stop", "reset-failed"):
            run_short(("systemctl", verb, "--", self.name), environment, _TOOL_TIMEOUT_S)
        for file in (self._log, self._environment):
            file.unlink(missing_ok=True)

    def _start_child(self, argv: Sequence[str], environment: Mapping[str, str], why: str) -> Worker:
        _LOG.warning("packages: apt gets no unit of its own and ends with us, if we end: %s", why)
        return start_child(argv, environment)

    def _prepare(self, environment: Mapping[str, str]) -> None:
        _FOLDER.mkdir(mode=0o700, exist_ok=True)
        self.forget()
        lines = (f'{name}="{_escape(value)}"\n' for name, value in environment.items())
        # A file, as everybody may ask for a unit's properties: a proxy's URL may hold a password.
        _write(self._environment, "".join(lines))
        _write(self._log, "")

    def _make_command(self, argv: Sequence[str]) -> tuple[str, ...]:
        files = (
            f"EnvironmentFile={self._environment}",
            f"StandardOutput=append:{self._log}",
        )
        return (
            "systemd-run",
            "--quiet",
            "--no-ask-password",
            "--service-type=exec",
            f"--unit={self.name}",
            "--description=Packages for ya-salt's daemons",
            *(f"--property={text}" for text in (*_PROPERTIES, *files)),
            "--",
            argv[0],
            # systemd would put in its variables.
            *(word.replace("$", "$$") for word in argv[1:]),
        )

    def _ask(self) -> dict[str, str]:
        names = "LoadState,ActiveState,SubState,MainPID,ExecMainCode,ExecMainStatus"
        command = ("systemctl", "show", f"--property={names}", "--", self.name)
        done = run_short(command, _make_environment(), _TOOL_TIMEOUT_S)
        told = dict(line.partition("=")[::2] for line in done.lines)
        if done.code or not set(names.split(",")) <= told.keys():
            raise PackageError(
                "AptFailed",
                f"systemd does not tell how {self.name} stands: {' '.join(done.lines)}; "
                f"see systemctl status {self.name}",
            )
        return told


class _InUnit:
    outlives_us = True

    def __init__(self, unit: AptUnit) -> None:
        self._unit = unit
        self._file = os.open(unit._log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        pid = unit._ask()["MainPID"]
        self.pid = int(pid) if pid.isdecimal() else 0
        self._fd = -1
        if self.pid:
            with contextlib.suppress(OSError):
                self._fd = os.pidfd_open(self.pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and not (self._fd >= 0 and not _is_readable(self._fd, 0)):
            self._code = self._find_code()
        return self._code

    def _find_code(self) -> int | None:
        """Its exit code once systemd has it, None before."""
        give_up = time.monotonic() + _SETTLE_S
        while True:
            told = self._unit._ask()
            if told["MainPID"].strip("0"):
                if self._fd < 0:
                    return None
            elif told["LoadState"] != "loaded" or told["ActiveState"] == "inactive":
                # Somebody has taken the unit away.
                return _UNKNOWN_CODE
            elif told["SubState"] in {"exited", "failed"}:
                status = int(told["ExecMainStatus"])
                # CLD_EXITED of waitid(2); the others are signals.
                return status if told["ExecMainCode"] == "1" else -status
            if time.monotonic() > give_up:
                return None
            time.sleep(0.02)

    def pause(self, seconds: float) -> None:
        if self._fd >= 0:
            _is_readable(self._fd, min(seconds, _POLL_S))
        else:
            time.sleep(min(seconds, _SETTLE_S / 10))

    def read(self) -> bytes:
        data = os.read(self._file, 65536)
        if not data and self._code is None:
            raise BlockingIOError
        return data

    def close(self) -> None:
        for fd in (self._file, self._fd):
            if fd >= 0:
                os.close(fd)
        self._unit.forget()


def describe_result(unit: AptUnit, done: Finished) -> str:
    """What became of an apt that outlived its pass."""
    if done.code == 0:
        return f"{unit.name}, which a pass before this one has started, has done its work"
    said = f": {done.lines[-1]}" if done.lines else ""
    return f"{unit.name}, which a pass before this one has started, failed (code {done.code}){said}"


def _is_readable(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def _write(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        file.write(text)


def _escape(value: str) -> str:
    r"""For an environment file: between double quotes `"`, `\`, a backtick and `$` are escaped."""
    return "".join(f"\\{char}" if char in '"\\`$' else char for char in value)


def _make_environment() -> dict[str, str]:
    """For systemd's own tools."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SYSTEMD_PAGER": ""}
