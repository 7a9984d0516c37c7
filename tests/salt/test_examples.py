"""What docs/salt.md and pillar_example show works as it stands; SLS files are without lint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.example import ExampleHost
from salt_minion import REPO, Minion, write_spec

EXAMPLES = sorted((REPO / "docs/salt").iterdir())
SLS = sorted([*REPO.glob("docs/salt/*.sls"), *REPO.glob("pillar_example/*.sls")])


def test_sls_files_are_without_lint() -> None:
    program = Path(sys.executable).with_name("salt-lint")
    files = [*SLS, REPO / "porto_daemons/init.sls"]
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_example_is_explained() -> None:
    text = (REPO / "docs/salt.md").read_text()
    for path in EXAMPLES:
        assert f"(salt/{path.name})" in text, path.name


def test_the_guide_names_every_function(minion: Minion) -> None:
    text = (REPO / "docs/salt.md").read_text()
    for name in minion.functions:
        if name.startswith("porto_daemon."):
            assert f"`{name.partition('.')[2]}" in text, name


def test_links_of_the_guide_lead_somewhere() -> None:
    text = (REPO / "docs/salt.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (REPO / "docs" / target).exists(), target


def test_the_pillar_example_is_rendered_and_applied(minion: Minion, host: ExampleHost) -> None:
    for path in (REPO / "pillar_example").iterdir():
        (minion.pillar / path.name).write_bytes(path.read_bytes())
    run = minion.run("porto_daemons")
    assert [item["result"] for item in run.results.values()] == [True] * 3, run.results
    assert minion.status("heartbeat")["conditions"]["ready"]["status"] is True


def test_the_agent_example_is_applied(minion: Minion, host: ExampleHost, folder: Path) -> None:
    text = (REPO / "docs/salt/agent.sls").read_text()
    (minion.files / "agent.sls").write_text(text.replace("/etc/agent.conf", f"{folder}/conf"))
    write_spec(host, "sleeper")
    run = minion.run("agent")
    assert [item["result"] for item in run.results.values()] == [True] * 4, run.results
    # What watches is restarted by a new configuration, and only then.
    assert minion.run("agent")["agent"]["changes"] == {}
    changed = text.replace("/etc/agent.conf", f"{folder}/conf").replace("= 10", "= 20")
    (minion.files / "agent.sls").write_text(changed)
    assert minion.run("agent")["agent"]["changes"]["process"]["new"] == "restarted"


def test_the_grains_example_has_them_made_anew_after_a_change(
    minion: Minion, host: ExampleHost
) -> None:
    (minion.files / "grains.sls").write_bytes((REPO / "docs/salt/grains.sls").read_bytes())
    write_spec(host, "sleeper")
    # One that fails keeps no other from being told.
    (host.specs_dir / "bad.yaml").write_text("{}")
    first = minion.run("grains")
    assert first["porto-daemons-grains"]["changes"] == {"saltutil.refresh_grains": True}
    assert minion.run("grains")["porto-daemons-grains"]["changes"] == {}


def test_the_reactor_example_asks_for_the_daemon_that_is_not_ready(minion: Minion) -> None:
    data = {"id": "web1", "name": "juggler-agent-rtc"}
    source = (REPO / "docs/salt/reactor.sls").read_text()
    text = minion.functions.slsutil.renderer(string=source, default_renderer="jinja", data=data)
    asked = yaml.safe_load(text.read() if hasattr(text, "read") else text)
    (reaction,) = asked.values()
    (function,) = reaction
    assert function == "local.porto_daemon.apply"
    assert {"tgt": "web1"} in reaction[function]


# -- the beacon ------------------------------------------------------------------------------------


@pytest.fixture
def beacon(minion: Minion) -> Any:
    import salt.loader  # noqa: PLC0415 - slow, and only needed here

    return salt.loader.beacons(minion.loaders.opts, minion.functions, context={})


def test_the_beacon_tells_each_thing_once(minion: Minion, host: ExampleHost, beacon: Any) -> None:
    config = [{"interval": 1}]
    assert beacon["porto_daemon.validate"](config) == (True, "Valid beacon configuration")

    def tell() -> list[str]:
        return [event["tag"] for event in beacon["porto_daemon.beacon"](config)]

    write_spec(host, "sleeper")
    minion.apply()
    assert tell() == []
    with host.client() as client:
        client.kill("sleeper", 9)
    host.wait_respawned(name="sleeper")
    assert tell() == ["respawned/sleeper"]
    with host.client() as client:
        client.stop("sleeper", 5)
    assert tell() == ["not_ready/sleeper"]
    assert tell() == []
    minion.apply()
    assert tell() == ["ready/sleeper"]
    write_spec(host, "sleeper", properties={"memory_limit": "1Gb"})
    minion.apply()
    assert tell() == ["changed/sleeper"]
    host.portod.stop()
    # Nothing can be said about daemons while portod does not answer.
    assert tell() == []


def test_the_beacon_refuses_what_it_does_not_know(beacon: Any) -> None:
    is_valid, said = beacon["porto_daemon.validate"]([{"events": ["crashed"]}])
    assert not is_valid
    assert "not_ready" in said
    assert not beacon["porto_daemon.validate"]({})[0]
