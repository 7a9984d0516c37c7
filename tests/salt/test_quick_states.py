"""A state run that finds everything as the last pass left it is quick, and returns the same."""

from __future__ import annotations

import inspect
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.example import ExampleHost
from helpers.imported import ALWAYS_HEAVY, NOT_FOR_AN_ANSWER, list_loaded
from salt.utils.args import get_function_argspec
from salt_minion import Minion, make_minion_config, make_settings, sleeper, write_spec

from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly
from ya_salt.converge import quick
from ya_salt.salt_api import states

_SETTLED_S = 6.0

# -- what it returns -------------------------------------------------------------------------------


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the daemons of every turn that took the long way."""
    taken: list[str] = []
    real = states._converge_fully

    def converge(turns: Any, run: Any) -> Any:
        taken.extend(chunk["name"] for chunk, _ in turns)
        return real(turns, run)

    monkeypatch.setattr(states, "_converge_fully", converge)
    return taken


@pytest.fixture
def settled(
    minion: Minion, host: ExampleHost, long_ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> Minion:
    """Two daemons that run, and a run that has written down that nothing is to be done."""
    # What is waited for here is a new second, not five.
    monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
    monkeypatch.setattr(quick, "_CLOCK_STEP_S", 1)
    # What the settings file says of it only the long way knows.
    monkeypatch.setenv("YA_SALT_STATE_DIR", str(host.state_dir))
    (host.root / "var/lib/dpkg/updates").mkdir(parents=True, exist_ok=True)
    # A user without a group goes on being warned of.
    write_spec(host, "one")
    write_spec(host, "two", properties={"user": "root"})
    (host.specs_dir / "notes.txt~").write_text("")
    settle(minion, long_ways)
    return minion


def settle(minion: Minion, long_ways: list[str]) -> None:
    for _ in range(5):
        if is_quick(minion, long_ways):
            return
        time.sleep(1.1)
    raise AssertionError("no run was quick")


def is_quick(minion: Minion, long_ways: list[str], sls: Any = "porto_daemons", **more: Any) -> bool:
    long_ways.clear()
    run = minion.run(sls, **more)
    assert not run.errors
    return not long_ways


def strip_times(run: Any) -> dict[str, Any]:
    passing = {"start_time", "duration", "__run_num__"}
    return {
        key: {name: value for name, value in item.items() if name not in passing}
        for key, item in run.results.items()
    }


def test_it_returns_what_the_long_way_returns(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    told = {}
    for test in (False, True):
        assert is_quick(settled, long_ways, test=test)
        told[test] = strip_times(settled.run("porto_daemons", test=test)), settled.specs()
    for test in (True, False):
        as_left.forget(str(host.state_dir))
        long_ways.clear()
        run = settled.run("porto_daemons", test=test)
        assert sorted(long_ways) == ["one", "two"]
        assert (strip_times(run), settled.specs()) == told[test]
    states = told[False][0]
    assert [item["result"] for item in states.values()] == [True] * 3
    assert any(item.get("warnings") for item in states.values())
    assert any("notes.txt~ is ignored" in item["comment"] for item in states.values())


def test_a_quick_run_is_the_last_pass_and_one_in_test_mode_is_not(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    before = as_left.load_pass(str(host.state_dir))
    assert is_quick(settled, long_ways, test=True)
    assert as_left.load_pass(str(host.state_dir)) == before
    assert is_quick(settled, long_ways)
    after = as_left.load_pass(str(host.state_dir))
    assert after is not None
    assert after != before


def test_salt_and_the_command_are_quick_after_each_other(
    settled: Minion, host: ExampleHost, long_ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config", str(settled.settings_file), "apply"]
    assert answer_quickly(words) == 0
    as_left.forget(str(host.state_dir))
    assert main(words) == 0
    assert is_quick(settled, long_ways)
    # What only Salt says of settings the command does not know.
    pillar = {"pillar": {"porto_daemons": {"parallel": 2}}}
    assert not is_quick(settled, long_ways, **pillar)
    assert answer_quickly(words) is None
    assert is_quick(settled, long_ways, **pillar)


# -- what makes it take the long way ---------------------------------------------------------------


def test_a_changed_file_is_noticed(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    write_spec(host, "one", properties={"memory_limit": "64Mb"})
    for test in (True, False):
        run = settled.run("porto_daemons", test=test)
        assert run["one.yaml"]["changes"]["container"]["memory_limit"]["new"] == str(64 << 20)


def test_a_new_file_is_noticed(settled: Minion, host: ExampleHost) -> None:
    write_spec(host, "three")
    run = settled.run("porto_daemons")
    assert run["three.yaml"]["changes"]["process"]["new"] == "running"


def test_a_container_that_is_gone_is_noticed(settled: Minion, host: ExampleHost) -> None:
    with host.client() as client:
        client.destroy("one")
    for test in (True, False):
        run = settled.run("porto_daemons", test=test)
        assert run["one.yaml"]["changes"]["process"]["new"] == "running"


def test_a_state_beside_the_directorys_is_noticed(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    given: dict[str, Any] = {"include": ["porto_daemons"], "other": {"test.nop": []}}
    assert is_quick(settled, long_ways, given)
    mine = [{key: value} for key, value in sleeper("one").items()]
    run = settled.run({**given, "mine": {"porto_daemon.managed": mine}})
    assert "one is defined twice" in run["one.yaml"]["comment"]
    assert "one is defined twice" in run["mine"]["comment"]


@pytest.mark.parametrize(
    "said",
    [
        {"name": "two"},
        {"version": "1"},
        {"lock_wait_s": "soon"},
        {"no_such": 1},
    ],
    ids=str,
)
def test_what_a_state_says_amiss_is_noticed(
    settled: Minion, host: ExampleHost, said: dict[str, Any]
) -> None:
    (host.specs_dir / "two.yaml").unlink()
    settled.run("porto_daemons")
    given = {"name": "one", "source": str(host.specs_dir / "one.yaml"), **said}
    mine = [{key: value} for key, value in given.items()]
    assert settled.run({"mine": {"porto_daemon.managed": mine}})["mine"]["result"] is False


def test_a_part_of_the_directory_takes_the_long_way(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    source = str(host.specs_dir / "one.yaml")
    mine = {"mine": {"porto_daemon.managed": [{"name": "one"}, {"source": source}]}}
    assert not is_quick(settled, long_ways, mine)
    # It has looked at no more than that, so nothing is known of the rest.
    assert not is_quick(settled, long_ways, mine)


def test_a_daemon_that_no_file_defines_leaves_nothing_to_be_quick_by(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    mine = [{key: value} for key, value in {**sleeper("mine"), "together": True}.items()]
    given = {"include": ["porto_daemons"], "mine": {"porto_daemon.managed": mine}}
    for _ in range(2):
        assert not is_quick(settled, long_ways, given)
        time.sleep(1.5)
    assert not (host.state_dir / as_left.FILE_NAME).exists()


def test_what_is_watched_restarts(
    settled: Minion, host: ExampleHost, folder: Path, long_ways: list[str]
) -> None:
    (host.specs_dir / "two.yaml").unlink()
    with host.client() as client:
        client.destroy("two")
    source = str(host.specs_dir / "one.yaml")
    conf = str(folder / "conf")

    def watching(contents: str) -> dict[str, Any]:
        arguments = [{"name": "one"}, {"source": source}, {"watch": [{"file": conf}]}]
        return {
            conf: {"file.managed": [{"contents": contents}]},
            "one": {"porto_daemon.managed": arguments},
        }

    settled.run(watching("one"))
    run = settled.run(watching("two"))
    assert run["one"]["changes"] == {"process": {"old": "running", "new": "restarted"}}


@pytest.mark.parametrize("text", ["", f"{as_left.FORMAT} 00000000\n", "{", "x" * 100], ids=repr)
def test_a_damaged_snapshot_is_no_snapshot(
    settled: Minion, host: ExampleHost, long_ways: list[str], text: str
) -> None:
    (host.state_dir / as_left.FILE_NAME).write_text(text)
    assert not is_quick(settled, long_ways)


# -- what it loads ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_rest() -> Iterator[Path]:
    """The configuration of a minion whose one daemon has been running for a while."""
    with tempfile.TemporaryDirectory(prefix="ys.") as name, ExampleHost(Path(name)) as host:
        folder = host.folder / "salt"
        folder.mkdir()
        write_spec(host, "sleeper")
        config = make_minion_config(folder, porto_daemons=make_settings(host))
        (folder / "minion").write_text(yaml.safe_dump(config))
        (folder / "files/trivial.sls").write_text("#!yaml\nnothing:\n  test.nop\n")
        list_salts(folder, "porto_daemons")
        # What has changed just now may change again without its times showing it.
        time.sleep(_SETTLED_S)
        list_salts(folder, "porto_daemons")
        yield folder


def list_salts(folder: Path, sls: str) -> set[str]:
    """Modules that `salt-call state.apply SLS` loads."""
    code = "from salt.scripts import salt_call; salt_call()"
    words = ["-c", code, "-c", str(folder), "--local", "--retcode-passthrough", "state.apply", sls]
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    return list_loaded(words, environment)


def test_a_run_with_nothing_to_do_loads_what_answers_at_once(at_rest: Path) -> None:
    bare = list_salts(at_rest, "trivial")
    loaded = list_salts(at_rest, "porto_daemons") - bare
    assert "ya_salt.converge.quick" in loaded
    assert loaded & (ALWAYS_HEAVY | NOT_FOR_AN_ANSWER) == set()


@pytest.mark.parametrize("kind", ["modules", "states", "beacons"])
def test_looking_at_an_adapter_loads_next_to_nothing(kind: str) -> None:
    """As the loader does to find out whether it can be used, whatever is asked for."""
    path = Path(__file__).parent.parent.parent / f"_{kind}/porto_daemon.py"
    code = (
        "import json, runpy, sys\n"
        "import salt.payload, salt.exceptions, dataclasses, yaml\n"
        "before = set(sys.modules)\n"
        f"assert runpy.run_path({str(path)!r})['__virtual__']() == 'porto_daemon'\n"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(path.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr))
    assert "ya_salt.salt_api" in loaded
    assert loaded & (ALWAYS_HEAVY | NOT_FOR_AN_ANSWER) == set()


# -- what Salt does for each state -----------------------------------------------------------------


@pytest.mark.parametrize("function", ["managed", "absent"])
def test_salt_need_not_make_the_signature_anew_for_each_state(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parent.parent.parent / "_states/porto_daemon.py"
    state = runpy.run_path(str(path))[function]
    told = get_function_argspec(state)
    assert told.args[0] == "name"
    assert told.args.index("source") < told.args.index("together")
    assert told.keywords == "unknown"

    def make(*arguments: Any, **more: Any) -> None:
        raise AssertionError("made anew")

    monkeypatch.setattr(inspect, "_signature_from_function", make)
    assert get_function_argspec(state) == told
