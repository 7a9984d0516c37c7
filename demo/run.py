"""Show ya-salt at work on this machine, with nothing left behind: `make demo`.

Real .deb files in a local repository, real apt and dpkg in a private root, a Porto server on a real
socket with real processes; the spec file is the users' document's example, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.example import BAD_CLIENT, ExampleHost  # noqa: E402 - the tests' helpers are not installed
from helpers.programs import wait_for  # noqa: E402 - as above

from ya_salt.store import LAST_PASS, read_store  # noqa: E402 - as above

PASS_S = 120.0
"""No pass of the demo takes that long."""


def say(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def run(host: ExampleHost, *words: str, ends_with: int = 0) -> None:
    """Run `ya-salt …` as a user would, showing what was typed."""
    print(f"$ ya-salt {' '.join(words)}", flush=True)
    done = host.run(*words, capture=False)
    if done.returncode != ends_with:
        raise SystemExit(f"ya-salt {' '.join(words)} ended with {done.returncode}")


def edit(host: ExampleHost, pattern: str, new: str) -> None:
    """Change the daemon's file, and see what the agent makes of it."""
    text, count = re.subn(pattern, new, host.spec_file.read_text(), flags=re.MULTILINE)
    if not count:
        raise SystemExit(f"the example has nothing like {pattern}")
    drop(host, text)


def drop(host: ExampleHost, text: str) -> None:
    """Save the daemon's file, and wait until the agent has made the pass that it wakes it for."""
    saved = time.time()
    host.spec_file.write_text(text)
    print(f"(saved {host.spec_file.name})", flush=True)
    wait_for(lambda: find_last_pass(host) >= saved, "a pass of the agent", PASS_S)
    print(f"(the agent's pass was over {time.time() - saved:.1f} s later)", flush=True)


def find_last_pass(host: ExampleHost) -> float:
    """When the last pass that is over began."""
    store = read_store(str(host.state_dir)) if host.state_dir.exists() else None
    if store is None:
        return 0.0
    try:
        return float((store.load_fact(LAST_PASS) or {}).get("started_at", 0.0))
    finally:
        store.close()


@contextlib.contextmanager
def agent_at_work(host: ExampleHost) -> Iterator[None]:
    """`ya-salt run`, as systemd would keep it running."""
    print("$ ya-salt run &", flush=True)
    command = [sys.executable, "-m", "ya_salt.cli.main", "run"]
    agent = subprocess.Popen(command, env=host.environment, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: find_last_pass(host) > 0, "the agent's first pass", PASS_S)
        yield
    finally:
        agent.terminate()
        if agent.wait(PASS_S):
            raise SystemExit(f"ya-salt run ended with {agent.returncode}")


def show(host: ExampleHost) -> None:
    say("1. The agent is started; the documents' example, unchanged, is dropped into its directory")
    with agent_at_work(host):
        drop(host, (ROOT / "tests" / "data" / "juggler-agent-rtc.yaml").read_text())
        run(host, "status")
        show_changes(host)
        print("(the agent is told to end; a daemon would live on)", flush=True)

    say("9. A rollout rule, tried on a fleet that is not there: one in ten fails, until mended")
    simulate("--hosts", "1000", "--failure-rate", "0.1", "--op-time", "30s", "--repair-after", "1h")


def show_changes(host: ExampleHost) -> None:
    say("2. There is nothing more to do")
    run(host, "plan")

    say("3. Update: a new version is in the repository and in the file")
    host.release("2.4.2002010000")
    edit(host, r"2\.3\.2001221352", "2.4.2002010000")
    run(host, "status")

    say("4. A bad update undoes itself: package and container of before come back at once")
    host.release("2.5.2003010000", BAD_CLIENT)
    edit(host, r"2\.4\.2002010000", "2.5.2003010000")
    run(host, "status", ends_with=1)
    print("packages in the root:", host.installed())

    say("5. The next version is tried again; that one is not")
    host.release("2.5.2003020000")
    edit(host, r"2\.5\.2003010000", "2.5.2003020000")
    run(host, "status")

    say("6. A live change: more memory, the same process")
    before = host.pid()
    edit(host, r"memory_limit: .*", 'memory_limit: "3Gb"')
    print(f"process before {before}, after {host.pid()}")

    say("7. A crash: portod starts it again, and the status says so")
    os.kill(host.pid(), signal.SIGKILL)
    host.wait_respawned()
    run_status_after_crash(host)

    say("8. Removal: meta.delete_requested is set to true")
    edit(host, r"delete_requested: .*", "delete_requested: True")
    print("packages left in the root:", host.installed() or "none")
    run(host, "history", "-n", "12")


def simulate(*words: str) -> None:
    rule = "docs/rules/porto-daemon-juggler-agent-rtc.yaml"
    command = ["simulate", "-f", rule, *words]
    print(f"$ orlyctl {' '.join(command)}", flush=True)
    subprocess.run(
        [sys.executable, "-m", "ya_salt.cli.orlyctl", *command], cwd=ROOT, check=True, timeout=60
    )


def run_status_after_crash(host: ExampleHost) -> None:
    print("$ ya-salt status", flush=True)
    host.run("status", capture=False)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ya-salt-demo.") as folder:
        try:
            with ExampleHost(Path(folder)) as host:
                show(host)
        except subprocess.SubprocessError as error:
            raise SystemExit(f"demo: {error}") from error
    say("Done; everything that was made for the demo is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
