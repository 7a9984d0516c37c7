"""A real master with two minions on loopback: foretell, converge, listen, one after the other."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers.etcd import EtcdServer, list_missing
from helpers.example import NAME, VERSION, ExampleHost
from salt_minion import EXAMPLE, REPO, make_settings, sleeper, write_spec
from saltfactories.utils import random_string

from ya_salt.gate.admin import RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Etcd
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings

MINIONS = ("one", "two")
RULE = f"porto-daemon-{NAME}"
NOT_READY = "salt/beacon/*/porto_daemon/not_ready/*"


@pytest.fixture(scope="module")
def fleet(salt_factories: Any, event_listener: Any) -> Iterator[SimpleNamespace]:
    """Two example hosts, each with its minion, and their master with what docs/salt says."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ys."))
        # The daemons' user has to reach the programs of the private roots.
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        roots = make_roots(folder)
        master = salt_factories.salt_master_daemon(
            random_string("master-"),
            overrides={
                "file_roots": {"base": [str(roots / "salt")]},
                "pillar_roots": {"base": [str(roots / "pillar")]},
                "reactor": [
                    {"salt/beacon/*/porto_daemon/not_ready/*": [str(roots / "reactor.sls")]}
                ],
                "fileserver_followsymlinks": True,
            },
        )
        stack.enter_context(master.started())
        hosts = {}
        for name in MINIONS:
            host_folder = folder / name
            host_folder.mkdir()
            hosts[name] = stack.enter_context(ExampleHost(host_folder))
            minion = master.salt_minion_daemon(
                name, overrides={"porto_daemons": {"grain": True, **make_settings(hosts[name])}}
            )
            stack.enter_context(minion.started())
        yield SimpleNamespace(
            master=master,
            hosts=hosts,
            salt=master.salt_cli(timeout=120),
            run=master.salt_run_cli(timeout=180),
            events=event_listener,
            pillar=roots / "pillar/porto_daemons.sls",
        )


def make_roots(folder: Path) -> Path:
    """File and pillar roots, as docs/salt.md lays them out."""
    salt = folder / "salt"
    for name in ("_modules", "_states", "_beacons", "_grains", "porto_daemons"):
        shutil.copytree(REPO / name, salt / name, ignore=shutil.ignore_patterns("__pycache__"))
    (salt / "orch").mkdir()
    for name in ("rollout.sls", "rollout_gated.sls"):
        shutil.copy(REPO / "docs/salt" / name, salt / "orch" / name)
    shutil.copy(REPO / "docs/salt/gate_brake.sls", salt)
    shutil.copy(REPO / "docs/salt/grains.sls", salt)
    shutil.copy(REPO / "docs/salt/top.sls", salt / "top.sls")
    asked = {**sleeper("sleeper"), "fire_event": "changed-sleeper"}
    state = {"porto_daemon.managed": [{key: value} for key, value in asked.items()]}
    (salt / "told.sls").write_text(yaml.safe_dump({"sleeper": state}))
    shutil.copytree(REPO / "pillar_example", folder / "pillar")
    # As it stands, but for the beacon's pace: nobody waits half a minute in a test.
    pillar = folder / "pillar/porto_daemons.sls"
    text = pillar.read_text()
    assert "interval: 30" in text
    pillar.write_text(text.replace("interval: 30", "interval: 1"))
    shutil.copy(REPO / "docs/salt/reactor.sls", folder / "reactor.sls")
    return folder


def on_all(fleet: SimpleNamespace, *words: str, **arguments: Any) -> dict[str, Any]:
    """What every minion answers; salt-factories gives it by minion."""
    done = fleet.salt.run(*words, minion_tgt="*", **arguments)
    assert set(done.data) == set(MINIONS), done
    return dict(done.data)


def choose(fleet: SimpleNamespace, kind: str, target: str) -> list[str]:
    """The minions that answer to a target."""
    done = fleet.salt.run(kind, "test.ping", minion_tgt=target)
    return sorted(done.data) if isinstance(done.data, dict) else []


def wait_chosen(fleet: SimpleNamespace, hosts: list[str], kind: str, target: str) -> None:
    """A minion makes its grains anew some time after it was told to."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        if choose(fleet, kind, target) == hosts:
            return
        time.sleep(0.5)
    raise TimeoutError(f"{target} is not {hosts}")


def list_refreshed(answer: dict[str, Any]) -> list[str]:
    """The minions whose run had grains made anew."""
    made = {"saltutil.refresh_grains": True}
    return [
        name
        for name, run in answer.items()
        if any(state["changes"] == made for state in run.values())
    ]


def results(answer: dict[str, Any]) -> dict[str, Any]:
    """The results of one minion's run by daemon."""
    return {item["name"]: item for item in answer.values()}


def test_fleet(fleet: SimpleNamespace, subtests: Any) -> None:
    # One test, as each part stands on what came before; the parts are told apart.
    with subtests.test("sync brings the adapters"):
        synced = on_all(fleet, "saltutil.sync_all")
        for name in MINIONS:
            assert "modules.porto_daemon" in synced[name]["modules"], synced
        on_all(fleet, "saltutil.refresh_pillar", wait=True)
        versions = on_all(fleet, "porto_daemon.version")
        assert all("extmods" in answer["adapter"] for answer in versions.values())

    for host in fleet.hosts.values():
        shutil.copy(EXAMPLE, host.spec_file)
    bad = fleet.hosts["two"].specs_dir / "bad.yaml"
    bad.write_text("meta: {name: bad}\nspec: {propertis: {}}\n")

    with subtests.test("test=True foretells what the real run does, a bad spec fails alone"):
        told = on_all(fleet, "state.apply", "porto_daemons", "test=True")
        done = on_all(fleet, "state.apply", "porto_daemons")
        for name in MINIONS:
            before, after = results(told[name]), results(done[name])
            assert {key: item["changes"] for key, item in before.items()} == {
                key: item["changes"] for key, item in after.items()
            }
            assert after[NAME]["result"] is True, after[NAME]
            assert after["heartbeat"]["result"] is True, after["heartbeat"]
            assert after["old-heartbeat"]["result"] is True
            assert ("bad" in after) is (name == "two")
        assert results(done["two"])["bad"]["result"] is False
        assert f"{bad}:2:8: spec.propertis" in results(done["two"])["bad"]["comment"]

    with subtests.test("a highstate through the top file has nothing more to do"):
        again = on_all(fleet, "state.highstate")
        assert all(not item["changes"] for name in MINIONS for item in again[name].values())

    bad.unlink()
    with subtests.test("batch 1 takes one minion after the other"):
        done = fleet.salt.run("--batch-size=1", "state.apply", "porto_daemons", minion_tgt="*")
        assert done.returncode == 0, done
        started = [(fleet.hosts[name].log_file).stat().st_size for name in MINIONS]
        assert all(started)

    with subtests.test("the orchestration of docs/salt applies"):
        done = fleet.run.run("state.orchestrate", "orch.rollout")
        assert done.returncode == 0, done

    with subtests.test("the schedule of the pillar is in force"):
        listed = on_all(fleet, "schedule.list", "return_yaml=False")
        for name in MINIONS:
            job = listed[name]["porto_daemons"]
            assert (job["function"], job["splay"], job["maxrunning"]) == ("state.apply", 300, 1)

    with subtests.test("the mine has a summary of every host"):
        on_all(fleet, "mine.update")
        found = fleet.salt.run("mine.get", "*", "porto_daemons", minion_tgt="one").data
        phases = {"Managed": 2, "Removed": 1}
        assert {name: item["phases"] for name, item in found.items()} == dict.fromkeys(
            MINIONS, phases
        )

    with subtests.test("a beacon tells the master, and the reactor puts it right"):
        after = time.time()
        host = fleet.hosts["one"]
        with host.client() as client:
            client.stop("heartbeat", 5)
        tag = "salt/beacon/one/porto_daemon/not_ready/heartbeat"
        matched = fleet.events.wait_for_events(
            [(fleet.master.id, tag)], after_time=after, timeout=60
        )
        assert matched.found_all_events, matched.missed
        wait_running(host, "heartbeat")

    with subtests.test("Salt tells the master of a change where it is asked to"):
        after = time.time()
        answer = on_all(fleet, "state.apply", "told")
        assert [results(item)["sleeper"]["result"] for item in answer.values()] == [True] * 2
        tag = "salt/state_result/*/two/changed-sleeper"
        matched = fleet.events.wait_for_events(
            [(fleet.master.id, tag)], after_time=after, timeout=60
        )
        assert matched.found_all_events, matched.missed
        # Nothing of ours beside it.
        events = fleet.events.get_events([(fleet.master.id, "porto_daemon/*")], after_time=after)
        assert not events

    with subtests.test("grains tell the daemons, and hosts are chosen by them"):
        package = "juggler-client-core"
        assert choose(fleet, "-G", "porto_daemons:lone") == []
        lone = write_spec(fleet.hosts["two"], "lone")
        lone.write_text(
            lone.read_text().replace("name: lone", 'name: lone\n  version: "1:2.0-rc1"')
        )
        done = on_all(fleet, "state.apply", "grains")
        assert list_refreshed(done) == ["two"]
        wait_chosen(fleet, ["two"], "-G", "porto_daemons:lone")
        # Where nothing was changed since the minion came up it has to be told.
        on_all(fleet, "saltutil.refresh_grains")
        wait_chosen(fleet, [*MINIONS], "-G", f"porto_daemons:{NAME}")
        for words, hosts in (
            (("-G", "porto_daemons:juggler-*"), [*MINIONS]),
            (("-G", "porto_daemons:old-heartbeat"), []),
            (("-G", "porto_daemon_versions:lone:1:2.0-rc1"), ["two"]),
            (("-G", f"porto_daemon_versions:{NAME}:2.3.*"), [*MINIONS]),
            (("-G", f"porto_daemon_versions:{NAME}:2.4"), []),
            (("-G", f"porto_daemon_packages:{NAME}:{package}:{VERSION}"), [*MINIONS]),
            (("-G", f"porto_daemon_packages:*:{package}:{VERSION}"), [*MINIONS]),
            (("-C", f"G@porto_daemons:{NAME} and not G@porto_daemons:lone"), ["one"]),
            (("-G", "porto_daemons_unknown:*"), []),
        ):
            assert choose(fleet, *words) == hosts, words


@pytest.fixture
def gate() -> Iterator[SimpleNamespace]:
    """A rollout gate with a rule for the example's daemon."""
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    with EtcdServer() as etcd:
        client = Etcd(GateSettings(endpoints=(etcd.url,)))
        admin = RuleAdmin(client, "/orly/")
        text = f"meta: {{name: {RULE}}}\nspec: {{max_concurrent: 2, min_healthy_time: 0s}}"
        admin.apply(parse_rule(text, "rule"))
        yield SimpleNamespace(url=etcd.url, admin=admin)
        client.close()


def test_a_rollout_by_batches_stops_where_the_gate_does(
    fleet: SimpleNamespace, gate: SimpleNamespace
) -> None:
    on_all(fleet, "saltutil.sync_all")
    for host in fleet.hosts.values():
        shutil.copy(EXAMPLE, host.spec_file)
        assert host.run("apply").returncode == 0
    text = fleet.pillar.read_text()
    asked = (
        f"  hostname: {{{{ grains['id'] }}}}\n"
        f"  gate:\n    type: orly\n    endpoints: [{gate.url!r}]\n    facts: {{stage: canary}}\n"
    )
    fleet.pillar.write_text(re.sub(r"  gate:\n(?:    .*\n)+", asked, text))
    on_all(fleet, "saltutil.refresh_pillar", wait=True)
    for host in fleet.hosts.values():
        text = host.spec_file.read_text()
        host.spec_file.write_text(text.replace("  properties:", "  properties:\n    umask: 027", 1))
    words = ("state.orchestrate", "orch.rollout_gated", 'pillar={"batches": ["one", "two"]}')

    def read_umasks() -> list[str]:
        return [host.values("umask")["umask"] for host in fleet.hosts.values()]

    before = read_umasks()
    gate.admin.pause(RULE, Pause("look first", "me", 0.0))
    done = fleet.run.run(*words)
    assert done.returncode != 0
    assert "waits: Paused: " in str(done.data)
    assert read_umasks() == before
    # The second batch has not even been asked.
    assert not fleet.salt.run("porto_daemon.gate_status", minion_tgt="two").data["daemons"]

    gate.admin.resume(RULE)
    done = fleet.run.run(*words)
    assert done.returncode == 0, done
    assert [int(value, 8) for value in read_umasks()] == [0o27] * 2


def wait_running(host: ExampleHost, name: str, timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        with host.client() as client:
            if client.get_property(name, "state") == "running":
                return
        time.sleep(0.2)
    raise TimeoutError(f"{name} was not started again")
