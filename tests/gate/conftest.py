"""One etcd for all tests of the gate; each has its own keys in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from helpers.etcd import EtcdServer, list_missing

from ya_salt.gate.etcd import Etcd, Put
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Identity
from ya_salt.gate.records import Keys
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings


@pytest.fixture(scope="session")
def etcd_programs() -> None:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")


@pytest.fixture(scope="session")
def etcd_server(etcd_programs: None) -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """Begins all keys of this test."""
    return f"/{uuid4().hex}/"


@pytest.fixture
def settings(etcd_server: EtcdServer, prefix: str) -> GateSettings:
    return GateSettings(type="orly", endpoints=(etcd_server.url,), prefix=prefix)


@pytest.fixture
def client(settings: GateSettings) -> Iterator[Etcd]:
    made = Etcd(settings, deadline_s=10)
    yield made
    made.close()


@pytest.fixture
def keys(prefix: str) -> Keys:
    """Of the rule for the daemon web."""
    return Keys(prefix, "porto-daemon-web")


@pytest.fixture
def put_rule(client: Etcd, keys: Keys) -> Callable[[str], None]:
    """Write the rule for web, given as fields of its spec in YAML's short form."""

    def put(spec: str = "") -> None:
        limit = "" if "max_concurrent" in spec else "max_concurrent: 1, "
        text = f"meta: {{name: {keys.name}}}\nspec: {{{limit}{spec}}}\n"
        rule = parse_rule(text, "rule.yaml")
        client.transact([], [Put(keys.rule, rule.document)])

    return put


@pytest.fixture
def make_gate(settings: GateSettings) -> Iterator[Callable[..., OrlyGate]]:
    """A host's gate; `endpoints` go over the usual, and `rest` is for OrlyGate."""
    made: list[OrlyGate] = []

    def make(
        host: str, *endpoints: str, facts: dict[str, str] | None = None, **rest: object
    ) -> OrlyGate:
        told = GateSettings(endpoints=endpoints or settings.endpoints)
        # The machine that runs the tests may be slow; what is shown of 3 s has tests of its own.
        etcd = Etcd(told, deadline_s=3 if endpoints else 10)
        made.append(OrlyGate(etcd, settings.prefix, Identity(host, facts or {}), **rest))
        return made[-1]

    yield make
    for gate in made:
        gate.close()
