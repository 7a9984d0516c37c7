"""On what machine, with what, and how busy: without it a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import google.protobuf
import yaml
from google.protobuf.internal import api_implementation

import ya_salt

Facts = dict[str, "str | int | float"]


def gather_facts() -> Facts:
    return {
        "cpu": _find_cpu(),
        "cores": os.cpu_count() or 0,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "ya_salt": f"{ya_salt.__version__}{_find_commit()}",
        "protobuf": f"{google.protobuf.__version__} ({api_implementation.Type()})",
        "yaml": f"{yaml.__version__}{'' if yaml.__with_libyaml__ else ' (without libyaml)'}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _find_cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _find_commit() -> str:
    """Nothing where this is no checkout."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f" at {done.stdout.strip()}" if not done.returncode else ""


def describe(facts: Facts) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


if __name__ == "__main__":
    sys.stdout.write(describe(gather_facts()) + "\n")
