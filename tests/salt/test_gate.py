"""What Salt says of a daemon whose change has to wait for the rollout gate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
import yaml
from helpers.etcd import EtcdServer, list_missing
from helpers.example import ExampleHost
from salt_minion import Minion, make_settings, write_spec

from ya_salt.gate.admin import RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Etcd
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings

RULE = "porto-daemon-sleeper"


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    with EtcdServer() as server:
        yield server


@pytest.fixture
def gate(minion: Minion, host: ExampleHost, etcd: EtcdServer) -> Iterator[RuleAdmin]:
    """The minion has to ask: its gate, with a rule that nobody has paused yet."""
    prefix = f"/{uuid4().hex}/"
    told = {"type": "orly", "endpoints": [etcd.url], "prefix": prefix}
    settings = {**make_settings(host), "hostname": "web1", "gate": told}
    minion.settings_file.write_text(yaml.safe_dump(settings))
    client = Etcd(GateSettings(endpoints=(etcd.url,)))
    admin = RuleAdmin(client, prefix)
    admin.apply(parse_rule(f"meta: {{name: {RULE}}}\nspec: {{max_concurrent: 1}}", "rule"))
    yield admin
    client.close()


def test_a_change_that_waits_is_foretold_and_told(
    minion: Minion, host: ExampleHost, gate: RuleAdmin
) -> None:
    write_spec(host, "sleeper")
    assert minion.run("porto_daemons")["sleeper.yaml"]["result"] is True
    gate.pause(RULE, Pause("look first", "me", 0.0))
    write_spec(host, "sleeper", properties={"cwd": "/tmp"})
    told = minion.run("porto_daemons", test=True)["sleeper.yaml"]
    assert told["result"] is None
    assert told["changes"] == {}
    assert "sleeper would wait for the gate: Paused: " in told["comment"]
    assert "would wait: restart: changed in the spec: cwd" in told["comment"]
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert (done["result"], done["changes"]) == (True, {})
    assert "waits for the gate: Paused: " in done["comment"]
    assert any("waits for the gate" in warning for warning in done["warnings"])
    assert minion.ready("sleeper") is True
    gate.resume(RULE)
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert done["changes"]["container"]["cwd"]["new"] == "/tmp"


def test_gate_status_says_what_waits_and_why(
    minion: Minion, host: ExampleHost, gate: RuleAdmin
) -> None:
    told = minion.gate_status()
    assert (told["type"], told["state"], told["daemons"]) == ("orly", "unasked", {})
    gate.pause(RULE, Pause("look first", "me", 0.0))
    write_spec(host, "sleeper")
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert done["result"] is True
    assert minion.ready("sleeper") is False
    told = minion.gate_status()
    assert told["state"] == "answered"
    standing = told["daemons"]["sleeper"]
    assert (standing["state"], standing["reason"]) == ("waiting", "Paused")
    assert (standing["operation"], "look first" in standing["message"]) == ("install", True)
    assert minion.gate_status("sleeper")["daemons"] == told["daemons"]
    assert minion.status(summary=True)["waiting_for_the_gate"] == 1


def test_a_restart_that_is_asked_for_by_hand_waits_too(
    minion: Minion, host: ExampleHost, gate: RuleAdmin
) -> None:
    write_spec(host, "sleeper")
    minion.run("porto_daemons")
    before = host.values("root_pid", name="sleeper")
    gate.pause(RULE, Pause("look first", "me", 0.0))
    told = minion.restart("sleeper")
    assert "waits for the gate: Paused" in told["comment"]
    assert host.values("root_pid", name="sleeper") == before
    gate.resume(RULE)
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert "restart: asked for by Salt" in done["comment"]
    assert host.values("root_pid", name="sleeper") != before


def test_removal_waits_and_says_so(minion: Minion, host: ExampleHost, gate: RuleAdmin) -> None:
    write_spec(host, "sleeper")
    minion.run("porto_daemons")
    gate.pause(RULE, Pause("look first", "me", 0.0))
    write_spec(host, "sleeper", delete_requested=True)
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert "its removal waits for the gate" in done["comment"]
    assert host.values("state", name="sleeper") == {"state": "running"}
    gate.resume(RULE)
    done = minion.run("porto_daemons")["sleeper.yaml"]
    assert done["changes"]["process"]["new"] == "absent"


def test_settings_of_the_gate_may_stand_in_pillar(minion: Minion, host: ExampleHost) -> None:
    told = {"porto_daemons": {"gate": {"type": "orly", "endpoints": ["http://127.0.0.1:1"]}}}
    write_spec(host, "sleeper")
    done = minion.run("porto_daemons", pillar=told)["sleeper.yaml"]
    assert "waits for the gate: GateUnreachable" in done["comment"]
