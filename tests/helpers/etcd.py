"""etcd itself, from Debian's packages: one server or a cluster on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers import programs
from helpers.programs import find_free_ports, find_program, wait_for

PACKAGES = {"etcd": "etcd-server", "etcdctl": "etcd-client"}
"""Program -> Debian package."""


def list_missing() -> list[str]:
    """Debian packages that are wanting."""
    return programs.list_missing(PACKAGES)


class EtcdCluster:
    """A context manager that returns once every member serves. Nothing outlives it.

    `certificates` are those of helpers.certificates: clients then have to show one, too.
    """

    def __init__(
        self, size: int = 1, *, certificates: Any = None, arguments: Sequence[str] = ()
    ) -> None:
        shared = Path("/dev/shm")
        base = shared if os.access(shared, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="etcd.", dir=base))
        self._certificates = certificates
        self._arguments = tuple(arguments)
        self._scheme = "https" if certificates else "http"
        ports = find_free_ports(2 * size)
        self._clients, self._peers = ports[:size], ports[size:]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * size

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"{self._scheme}://127.0.0.1:{port}" for port in self._clients)

    @property
    def ports(self) -> tuple[int, ...]:
        """Clients' ports of the members."""
        return tuple(self._clients)

    def __enter__(self) -> EtcdCluster:
        try:
            for number in range(len(self._clients)):
                self.start(number)
            for number in range(len(self._clients)):
                self.wait_for(number)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, number: int) -> None:
        """Start a member, also one that was killed. Does not wait for it."""
        client, peer = self.endpoints[number], f"http://127.0.0.1:{self._peers[number]}"
        members = ",".join(
            f"m{index}=http://127.0.0.1:{port}" for index, port in enumerate(self._peers)
        )
        words = {
            "name": f"m{number}",
            "data-dir": str(self.folder / f"m{number}"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": members,
            # Passwords are hashed at every login: the least that is possible.
            "bcrypt-cost": "4",
            **self._list_tls_words(),
        }
        flags = [f"--{name}={value}" for name, value in words.items()]
        with (self.folder / f"m{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [str(find_program("etcd")), *flags, *self._arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath},
            )

    def _list_tls_words(self) -> dict[str, str]:
        made = self._certificates
        if made is None:
            return {}
        return {
            "cert-file": str(made.server.cert),
            "key-file": str(made.server.key),
            "trusted-ca-file": str(made.ca.cert),
            "client-cert-auth": "true",
        }

    def kill(self, number: int) -> None:
        """As a power cut would."""
        process = self._processes[number]
        if process is not None:
            process.kill()
            process.wait()
        self._processes[number] = None

    def freeze(self, number: int) -> None:
        """It keeps its connections and answers nobody, until `thaw`."""
        self._signal(number, signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        self._signal(number, signal.SIGCONT)

    def _signal(self, number: int, sent: signal.Signals) -> None:
        process = self._processes[number]
        assert process is not None
        process.send_signal(sent)

    def stop(self) -> None:
        for number in range(len(self._processes)):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_for(self, number: int, within_s: float = 30.0) -> None:
        """Until the member serves linearizable requests. Raises TimeoutError with its log."""
        log = self.folder / f"m{number}.log"

        def is_serving() -> bool:
            process = self._processes[number]
            if process is None or process.poll() is not None:
                raise RuntimeError(log.read_text())
            return self._is_healthy(number)

        try:
            wait_for(is_serving, f"etcd m{number}", within_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{log.read_text()[-2000:]}") from error

    def _is_healthy(self, number: int) -> bool:
        try:
            return bool(json.loads(self._fetch(number, "/health")).get("health") == "true")
        except (OSError, ValueError):
            return False

    def leader(self) -> int:
        """The number of the member that leads, by what a member that runs says."""

        def find() -> int | None:
            found = [self._read_status(number) for number in self._list_running()]
            ids = {
                int(item["header"]["member_id"]): number
                for number, item in zip(self._list_running(), found, strict=True)
                if item
            }
            leaders = {int(item.get("leader", 0)) for item in found if item}
            return next((ids[leader] for leader in leaders if leader in ids), None)

        wait_for(lambda: find() is not None, "a leader")
        number = find()
        assert number is not None
        return number

    def _list_running(self) -> list[int]:
        return [number for number, process in enumerate(self._processes) if process is not None]

    def _read_status(self, number: int) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads(
                self._fetch(number, "/v3/maintenance/status", b"{}")
            )
        except (OSError, ValueError):
            return {}
        return found

    def _fetch(self, number: int, path: str, body: bytes | None = None) -> bytes:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self._certificates is not None:
            made = self._certificates
            context = ssl.create_default_context(cafile=str(made.ca.cert))
            context.load_cert_chain(str(made.client.cert), str(made.client.key))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        with opener.open(self.endpoints[number] + path, data=body, timeout=2) as answer:
            data: bytes = answer.read()
            return data

    def control(self, *words: str, user: str = "") -> str:
        """What etcdctl prints. Raises RuntimeError."""
        return self.run_shell('exec etcdctl "$@"', *words, user=user)

    def run_shell(self, script: str, *words: str, user: str = "", cwd: Path | None = None) -> str:
        """A script whose `etcdctl` asks this cluster; what it prints. Raises RuntimeError.

        `user` is "name:password".
        """
        known = {"ETCDCTL_USER": user} if user else {}
        if self._certificates is not None:
            made = self._certificates
            known["ETCDCTL_CACERT"] = str(made.ca.cert)
            known["ETCDCTL_CERT"] = str(made.client.cert)
            known["ETCDCTL_KEY"] = str(made.client.key)
        tool = Path(str(find_program("etcdctl"))).parent
        done = subprocess.run(
            ["sh", "-euc", script, "sh", *words],
            env={
                "PATH": f"{tool}:{os.defpath}",
                "ETCDCTL_API": "3",
                "ETCDCTL_ENDPOINTS": ",".join(self.endpoints),
                **known,
            },
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stdout}{done.stderr}")
        return done.stdout


class EtcdServer(EtcdCluster):
    """One member."""

    def __init__(self, *, certificates: Any = None, arguments: Sequence[str] = ()) -> None:
        super().__init__(1, certificates=certificates, arguments=arguments)

    @property
    def url(self) -> str:
        return self.endpoints[0]
