"""Prometheus' own servers, from Debian's packages, on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from helpers import programs
from helpers.programs import find_free_ports, find_program, wait_for

PACKAGES = {
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
"""Program -> Debian package."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def list_missing() -> list[str]:
    """Debian packages that are wanting."""
    return programs.list_missing(PACKAGES)


def run_promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(find_program("promtool")), *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def find_shares(program: str) -> list[str]:
    """What to run a merely unpacked program through, so that it finds its files in /usr/share."""
    shares = Path(str(find_program(program))).parents[1] / "share"
    needed = f"prometheus/{program.removeprefix('prometheus-')}"
    if Path("/usr/share", needed).exists() or not (shares / needed).exists():
        return []
    # In a mount namespace of its own: for nobody else /usr/share changes.
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{program} is only unpacked, and this machine has no mount namespaces")
    script = f'mount --bind {shlex.quote(str(shares))} /usr/share && exec "$@"'
    return [*alone, "sh", "-c", script, "sh"]


class HttpServer(ABC):
    """A server process; a context manager that returns once `ready_path` answers 200."""

    def __init__(self, program: str, ready_path: str, folder: Path) -> None:
        (self.port,) = find_free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._program = program
        self._ready_path = ready_path
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """What it is started with beside its address."""

    def __enter__(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *find_shares(self._program),
                    str(find_program(self._program)),
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self.arguments(),
                ],
                stdout=output,
                stderr=output,
                cwd=self.folder,
            )
        try:
            wait_for(self._is_ready, f"{self._program}: {log}")
        except TimeoutError:
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

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text())
        try:
            self.get(self._ready_path)
        except (OSError, ValueError):
            return False
        return True

    def get(self, path: str) -> str:
        with _OPENER.open(self.url + path, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def get_json(self, path: str, **query: str) -> Any:
        return json.loads(self.get(f"{path}?{urllib.parse.urlencode(query)}"))


class NodeExporter(HttpServer):
    """Only the textfile collector, over `directory`."""

    def __init__(self, folder: Path, directory: Path) -> None:
        super().__init__("prometheus-node-exporter", "/metrics", folder)
        self._directory = directory

    def arguments(self) -> list[str]:
        return [
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={self._directory}",
        ]


class Alertmanager(HttpServer):
    def __init__(self, folder: Path) -> None:
        super().__init__("prometheus-alertmanager", "/-/ready", folder)

    def arguments(self) -> list[str]:
        (self.folder / "config.yml").write_text(
            "{route: {receiver: none}, receivers: [{name: none}]}"
        )
        return ["--config.file=config.yml", "--storage.path=data", "--cluster.listen-address="]

    def alerts(self) -> dict[str, Any]:
        """Summary -> alert, of all that fire."""
        found = self.get_json("/api/v2/alerts", active="true")
        return {alert["annotations"]["summary"]: alert for alert in found}


class Prometheus(HttpServer):
    """Scrapes `targets` ({instance: address}) every second, and evaluates `rules`."""

    def __init__(self, folder: Path, targets: dict[str, str], rules: Path) -> None:
        super().__init__("prometheus", "/-/ready", folder)
        self._targets = targets
        self._rules = rules

    def arguments(self) -> list[str]:
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(self._rules)],
            "scrape_configs": [
                {
                    "job_name": "node",
                    "static_configs": [
                        {"targets": [address], "labels": {"instance": instance}}
                        for instance, address in self._targets.items()
                    ],
                }
            ],
        }
        (self.folder / "prometheus.json").write_text(json.dumps(config))
        return ["--config.file=prometheus.json", "--storage.tsdb.path=data"]

    def query(self, expression: str) -> list[Any]:
        """The series of an instant query. Raises RuntimeError with Prometheus' own words."""
        try:
            answer = self.get_json("/api/v1/query", query=expression)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{expression}: {error.read().decode()}") from error
        found: list[Any] = answer["data"]["result"]
        return found

    def read(self, expression: str) -> float | None:
        """The value of the only series; None where there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None
