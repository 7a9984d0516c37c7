"""What others take to find that N daemons run, beside us in the same run.

Each has N processes `sleep` of its own under its care, and is asked in the quickest way it has.
What it is asked differs, so the table says what each looks at; only ya-salt looks at limits.
Whoever is neither installed nor in .venv (see .ci/prepare-bench) is "not here".
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.host import ROOT, BenchHost
from bench.measure import Command

sys.path.insert(0, str(ROOT / "tests"))

from helpers.programs import UNPACKED, find_program, wait_for
from helpers.systemd import NoSystemdError, Systemd

_SLEEP = shutil.which("sleep") or "/bin/sleep"
_LIFE_S = "7200"
"""Should all else fail, nothing of a benchmark is left after two hours."""
_START_S = 60.0


class NotHereError(Exception):
    """Why a peer cannot be measured on this machine."""


@dataclass(frozen=True)
class Place:
    """Where a peer has its daemons, and what it is asked about packages."""

    host: BenchHost
    folder: Path
    count: int

    @property
    def names(self) -> list[str]:
        return [f"d{number}" for number in range(self.count)]

    def ask_dpkg(self) -> str:
        """A shell's condition: every package is there in its exact version."""
        packages = [f"package-{number}" for number in range(self.count)]
        wanted = self.folder / "packages"
        wanted.write_text("installed 1.0\n" * self.count)
        query = [
            "dpkg-query",
            f"--admindir={self.host.dpkg_dir}",
            "-W",
            r"-f=${db:Status-Status} ${Version}\n",
            *packages,
        ]
        return f'[ "$({shlex.join(query)})" = "$(cat {wanted})" ]'

    def write_script(self, *conditions: str) -> Path:
        """A shell script that exits with 0 where all of them hold."""
        script = self.folder / "check.sh"
        script.write_text(" &&\n".join(conditions) + "\n")
        return script

    def make_check(
        self, name: str, *conditions: str, checks: str, env: Mapping[str, str] | None = None
    ) -> Command:
        script = self.write_script(*conditions)
        return Command(name, ["sh", str(script)], env or self.environment, checks=checks)

    @property
    def environment(self) -> dict[str, str]:
        """Debian's programs are found where they are unpacked, and their libraries too."""
        libraries = [UNPACKED.parent / "lib" / f"{os.uname().machine}-linux-gnu", UNPACKED.parent]
        return {
            "PATH": f"{UNPACKED}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "LC_ALL": "C",
        }


def _demand(*programs: str) -> list[str]:
    """Their paths. Raises NotHereError."""
    found = [_find(program) for program in programs]
    missing = [program for program, path in zip(programs, found, strict=True) if path is None]
    if missing:
        raise NotHereError(f"not here: {', '.join(missing)}")
    return [str(path) for path in found]


def _find(program: str) -> str | None:
    for own in (Path(sys.prefix, "peers/bin", program), UNPACKED.parent / "sbin" / program):
        if own.exists():
            return str(own)
    return find_program(program)


def _wait_until_well(command: Command) -> None:
    def is_well() -> bool:
        done = subprocess.run(command.words, env=command.env, capture_output=True, check=False)
        return done.returncode in command.codes

    try:
        wait_for(is_well, f"{command.name} has all its daemons", _START_S)
    except TimeoutError as error:
        raise NotHereError(str(error)) from error


@contextlib.contextmanager
def _supervise(place: Place, words: Sequence[str]) -> Iterator[None]:
    """Keep a supervisor running; it and whatever it started are gone afterwards."""
    with (place.folder / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            _end_tree(process)


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    # From the top down, each stopped first: who lost a child would start it again.
    pids = [process.pid]
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def run_systemd(place: Place) -> Iterator[Command]:
    try:
        with Systemd(place.folder) as systemd:
            text = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={} {}\n"
            for name in place.names:
                systemd.add_unit(f"{name}.service", text.format(_SLEEP, _LIFE_S))
            systemd.systemctl("daemon-reload")
            units = [f"{name}.service" for name in place.names]
            systemd.systemctl("start", *units)
            active = place.folder / "active"
            active.write_text("active\n" * place.count)
            script = place.write_script(
                f'[ "$(systemctl is-active {shlex.join(units)})" = "$(cat {active})" ]',
                place.ask_dpkg(),
            )
            way = systemd.name_way("--mount", "--pid")
            yield Command(
                "systemctl + dpkg-query",
                [*way, "sh", str(script)],
                place.environment,
                checks="runs, package",
            )
    except NoSystemdError as error:
        raise NotHereError(f"not here: {error}") from error


@contextlib.contextmanager
def run_runit(place: Place) -> Iterator[Command]:
    runsvdir, sv = _demand("runsvdir", "sv")
    folders = _write_services(place, "run")
    count = f"$({shlex.join([sv, 'status', *folders])} | grep -c ^run:)"
    command = place.make_check(
        "runit: sv status + dpkg-query",
        f'[ "{count}" = {place.count} ]',
        place.ask_dpkg(),
        checks="runs, package",
    )
    with _supervise(place, [runsvdir, str(place.folder / "services")]):
        _wait_until_well(command)
        yield command


@contextlib.contextmanager
def run_s6(place: Place) -> Iterator[Command]:
    supervise, svstat = _demand("s6-supervise", "s6-svstat")
    _write_services(place, "run")
    services = f"{place.folder}/services"
    # It takes one at a time.
    loop = f"for d in {services}/*; do {svstat} -o up $d; done | grep -c true"
    command = place.make_check(
        "s6: s6-svstat + dpkg-query",
        f'[ "$({loop})" = {place.count} ]',
        place.ask_dpkg(),
        checks="runs, package",
    )
    # What s6-svscan does, but for its fixed path to s6-supervise.
    start = f"for d in {services}/*; do {supervise} $d & done; wait"
    with _supervise(place, ["sh", "-c", start]):
        _wait_until_well(command)
        yield command


def _write_services(place: Place, program: str) -> list[str]:
    folders = [place.folder / "services" / name for name in place.names]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / program).write_text(f"#!/bin/sh\nexec {_SLEEP} {_LIFE_S}\n")
        (folder / program).chmod(0o755)
    return [str(folder) for folder in folders]


@contextlib.contextmanager
def run_monit(place: Place) -> Iterator[Command]:
    (monit,) = _demand("monit")
    with sleepers(place) as pidfiles:
        rules = place.folder / "monitrc"
        own = [f"set {kind}file {place.folder}/monit.{kind}" for kind in ("pid", "id", "state")]
        checks = [f"check process {path.stem} with pidfile {path}" for path in pidfiles]
        rules.write_text("\n".join([*own, *checks, ""]))
        rules.chmod(0o600)
        yield Command(
            "monit validate",
            [monit, "-c", str(rules), "validate"],
            place.environment,
            # It exits with 1 whatever it finds, and is silent where all is well.
            codes=(0, 1),
            forbidden="not running",
            checks="runs",
        )


@contextlib.contextmanager
def sleepers(place: Place) -> Iterator[list[Path]]:
    """Processes that nobody looks after, and their pid files."""
    processes, paths = [], []
    try:
        for name in place.names:
            processes.append(subprocess.Popen([_SLEEP, _LIFE_S], stdin=subprocess.DEVNULL))
            paths.append(place.folder / f"{name}.pid")
            paths[-1].write_text(f"{processes[-1].pid}\n")
        yield paths
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def run_supervisor(place: Place) -> Iterator[Command]:
    supervisord, supervisorctl = _demand("supervisord", "supervisorctl")
    socket = place.folder / "s"
    rules = place.folder / "supervisord.conf"
    programs = [
        f"[program:{name}]\ncommand={_SLEEP} {_LIFE_S}\nstartsecs=0\nstdout_logfile=NONE\n"
        "stderr_logfile=NONE\n"
        for name in place.names
    ]
    rules.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\nminfds=8192\n"
        f"pidfile={place.folder}/supervisord.pid\n"
        f"[unix_http_server]\nfile={socket}\n[supervisorctl]\nserverurl=unix://{socket}\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = "
        "supervisor.rpcinterface:make_main_rpcinterface\n" + "".join(programs)
    )
    command = place.make_check(
        "supervisorctl + dpkg-query",
        f'[ "$({supervisorctl} -c {rules} status | grep -c RUNNING)" = {place.count} ]',
        place.ask_dpkg(),
        checks="runs, package",
    )
    with _supervise(place, [supervisord, "-c", str(rules)]):
        _wait_until_well(command)
        yield command


@contextlib.contextmanager
def run_circus(place: Place) -> Iterator[Command]:
    circusd, circusctl = _demand("circusd", "circusctl")
    rules = place.folder / "circus.ini"
    ends = {name: f"ipc://{place.folder}/{name}" for name in ("endpoint", "pubsub_endpoint")}
    watchers = [f"[watcher:{name}]\ncmd = {_SLEEP} {_LIFE_S}\n" for name in place.names]
    own = [f"{name} = {end}\n" for name, end in ends.items()]
    # It would look at all of them each second, which would slow down everybody else here.
    rules.write_text("[circus]\ncheck_delay = 600\n" + "".join(own + watchers))
    ask = f"{circusctl} --endpoint {ends['endpoint']} status"
    command = place.make_check(
        "circusctl status",
        f'[ "$({ask} | grep -c active$)" = {place.count} ]',
        checks="runs",
    )
    with _supervise(place, [circusd, str(rules)]):
        _wait_until_well(command)
        yield command


@contextlib.contextmanager
def run_podman(place: Place) -> Iterator[Command]:
    if os.geteuid() != 0:
        raise NotHereError("not here: podman for root")
    podman, conmon, runc = _demand("podman", "conmon", "runc")
    rules = place.folder / "containers.conf"
    rules.write_text(
        f'[engine]\nruntime="runc"\nconmon_path=["{conmon}"]\nevents_logger="none"\n'
        f'cgroup_manager="cgroupfs"\n[engine.runtimes]\nrunc=["{runc}"]\n'
    )
    root = place.folder / "rootfs"
    (root / "usr").mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    env = {**place.environment, "CONTAINERS_CONF": str(rules)}
    own = [f"--root={place.folder}/c", f"--runroot={place.folder}/r", "--storage-driver=vfs"]
    asked = [podman, *own]
    # Limits as they are here: not every machine may raise them.
    limits = [f"--ulimit={name}=512:512" for name in ("nofile", "nproc")]
    group = f"ya-salt-bench-{os.getpid()}"
    more = [
        *limits,
        f"--cgroup-parent=/{group}",
        "--network=host",
        "--label=digest=1",
        "--volume=/usr:/usr:ro",
        "--rootfs",
    ]

    def run(*words: str) -> None:
        done = subprocess.run(
            [*asked, *words], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotHereError(f"not here: {done.stderr.strip()[-200:]}")

    ask = [*asked, "ps", "--filter=status=running", "--filter=label=digest=1", "-q"]
    try:
        for name in place.names:
            run("run", "--detach", f"--name={name}", *more, str(root), "sleep", _LIFE_S)
        yield place.make_check(
            "podman ps + dpkg-query",
            f'[ "$({shlex.join(ask)} | grep -c .)" = {place.count} ]',
            place.ask_dpkg(),
            checks="runs, a label, package",
            env=env,
        )
    finally:
        with contextlib.suppress(NotHereError):
            run("rm", "--all", "--force", "--time=0")
        cgroups = Path("/sys/fs/cgroup")
        for parent in (cgroups / group, *cgroups.glob(f"*/{group}")):
            for folder, _folders, _files in os.walk(parent, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


PEERS: dict[str, Callable[[Place], AbstractContextManager[Command]]] = {
    "systemd": run_systemd,
    "runit": run_runit,
    "monit": run_monit,
    "s6": run_s6,
    "supervisor": run_supervisor,
    "circus": run_circus,
    "podman": run_podman,
}
