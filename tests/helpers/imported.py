"""What a program loads while it runs, and what of it one that has nothing to do may not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

ALWAYS_HEAVY = {
    "asyncio",
    "email",
    "http.client",
    "http.server",
    "logging.handlers",
    "multiprocessing",
    "prometheus_client",
    "ssl",
    "urllib.request",
    "xml",
    "zoneinfo",
    "ya_salt.cli.orlyctl",
    "ya_salt.cli.verbs",
    "ya_salt.converge.adopt",
    "ya_salt.gate.etcd",
    "ya_salt.gate.etcd_gate",
    "ya_salt.gate.simulation",
}

NOT_FOR_AN_ANSWER = {
    "argparse",
    "dataclasses",
    "google.protobuf",
    "inspect",
    "logging",
    "pathlib",
    "shutil",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "yaml",
    "ya_salt.cli.commands",
    "ya_salt.cli.tables",
    "ya_salt.converge.plan",
    "ya_salt.converge.run",
    "ya_salt.http",
    "ya_salt.model",
    "ya_salt.monitoring",
    "ya_salt.packages",
    "ya_salt.porto.client",
    "ya_salt.proto",
    "ya_salt.settings",
    "ya_salt.specs",
    "ya_salt.store",
}
"""What nobody needs who finds that nothing has changed, and says so."""

NOT_FOR_A_PASS = {
    "argparse",
    "bz2",
    "dataclasses",
    "decimal",
    "difflib",
    "encodings.idna",
    "gettext",
    "google.protobuf.descriptor_pool",
    "google.protobuf.internal.python_message",
    "google.protobuf.text_format",
    "gzip",
    "hmac",
    "inspect",
    "random",
    "secrets",
    "shutil",
    "tempfile",
    "ya_salt.cli.parser",
    "ya_salt.packages.failures",
    "ya_salt.packages.going_back",
    "ya_salt.packages.session",
    "ya_salt.packages.simulation",
    "ya_salt.packages.transaction",
    "ya_salt.proto.porto_pb2",
    "ya_salt.proto.ya_salt_pb2",
}
"""What a pass needs neither to find what is to be done nor to do so where no package is put in."""


def list_loaded(words: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """Modules that `python WORDS…` imports on its way."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|") for line in done.stderr.splitlines()]
    return {row[2].strip() for row in rows if row[0].startswith("import time:")}
