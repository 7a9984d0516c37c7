"""Show ya-salt at work on this machine, with nothing left behind: `make demo`.

Real .deb files in a local repository, real apt and dpkg in a private root, a Porto server on a real
socket with real processes; the spec file is the users' document's example, byte for byte.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.example import BAD_CLIENT, ExampleHost  # noqa: E402 - the tests' helpers are not installed


def say(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def run(host: ExampleHost, *words: str, ends_with: int = 0) -> None:
    """Run `ya-salt …` as a user would, showing what was typed."""
    print(f"$ ya-salt {' '.join(words)}", flush=True)
    done = host.run(*words, capture=False)
    if done.returncode != ends_with:
        raise SystemExit(f"ya-salt {' '.join(words)} ended with {done.returncode}")


def edit(host: ExampleHost, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, host.spec_file.read_text(), flags=re.MULTILINE)
    if not count:
        raise SystemExit(f"the example has nothing like {pattern}")
    host.spec_file.write_text(text)


def show(host: ExampleHost) -> None:
    say("1. The documents' example, unchanged, is dropped into the daemons directory")
    shutil.copy(ROOT / "tests" / "data" / "juggler-agent-rtc.yaml", host.spec_file)
    run(host, "apply")
    run(host, "status")

    say("2. A second pass finds nothing to do")
    started = time.monotonic()
    run(host, "apply")
    print(f"(took {time.monotonic() - started:.2f} s, Python's start included)")

    say("3. Update: a new version is in the repository and in the file")
    host.release("2.4.2002010000")
    edit(host, r"2\.3\.2001221352", "2.4.2002010000")
    run(host, "apply")

    say("4. A bad update undoes itself: package and container of before come back at once")
    host.release("2.5.2003010000", BAD_CLIENT)
    edit(host, r"2\.4\.2002010000", "2.5.2003010000")
    run(host, "apply", ends_with=1)
    print("packages in the root:", host.installed())

    say("5. The next version is tried again; that one is not")
    host.release("2.5.2003020000")
    edit(host, r"2\.5\.2003010000", "2.5.2003020000")
    run(host, "apply")

    say("6. A live change: more memory, the same process")
    before = host.pid()
    edit(host, r"memory_limit: .*", 'memory_limit: "3Gb"')
    run(host, "apply")
    print(f"process before {before}, after {host.pid()}")

    say("7. A crash: portod starts it again, and the status says so")
    os.kill(host.pid(), signal.SIGKILL)
    host.wait_respawned()
    run_status_after_crash(host)

    say("8. Removal: meta.delete_requested is set to true")
    edit(host, r"delete_requested: .*", "delete_requested: True")
    run(host, "apply")
    print("packages left in the root:", host.installed() or "none")

    say("9. A rollout rule, tried on a fleet that is not there: one in ten fails, until mended")
    simulate("--hosts", "1000", "--failure-rate", "0.1", "--op-time", "30s", "--repair-after", "1h")


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
