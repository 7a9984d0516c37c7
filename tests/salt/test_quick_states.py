"""A state run that finds everything as the last pass left it is quick, and returns the same."""

from __future__ import annotations

import datetime
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
from salt.exceptions import SaltInvocationError
from salt.utils.args import get_function_argspec
from salt_minion import Minion, make_minion_config, make_settings, sleeper, write_spec

from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly
from ya_salt.converge import quick
from ya_salt.salt_api import converge, laid_down, states

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


def test_a_pass_over_a_part_of_the_directory_leaves_nothing_to_be_quick_by(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    source = str(host.specs_dir / "one.yaml")
    mine = {"mine": {"porto_daemon.managed": [{"name": "one"}, {"source": source}]}}
    assert is_quick(settled, long_ways, mine)
    as_left.forget(str(host.state_dir))
    for _ in range(2):
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


def test_a_daemon_that_is_asked_takes_the_long_way(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    write_spec(host, "three", readiness={"exec": ["true"], "period_s": 600})
    for _ in range(5):
        assert not is_quick(settled, long_ways)
        if (as_left.read(str(host.state_dir)) or {}).get("probed"):
            break
        time.sleep(1.1)
    assert list((as_left.read(str(host.state_dir)) or {})["probed"]) == ["three"]
    assert not is_quick(settled, long_ways, test=True)
    assert not is_quick(settled, long_ways)


@pytest.mark.parametrize("text", ["", f"{as_left.FORMAT} 00000000\n", "{", "x" * 100], ids=repr)
def test_a_damaged_snapshot_is_no_snapshot(
    settled: Minion, host: ExampleHost, long_ways: list[str], text: str
) -> None:
    (host.state_dir / as_left.FILE_NAME).write_text(text)
    assert not is_quick(settled, long_ways)


# -- daemons that are gone as their files ask ------------------------------------------------------


@pytest.fixture
def with_gone(settled: Minion, host: ExampleHost, long_ways: list[str]) -> Minion:
    """A daemon more that ran and was removed, and one of pillar that never was."""
    write_spec(host, "gone")
    settled.run("porto_daemons")
    write_spec(host, "gone", delete_requested=True)
    for _ in range(5):
        if is_quick(settled, long_ways, **lay_down("never", delete_requested=True)):
            return settled
        time.sleep(1.1)
    raise AssertionError("no run was quick")


def test_what_is_gone_returns_what_the_long_way_returns(
    with_gone: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    given = lay_down("never", delete_requested=True)

    def ask(*, test: bool) -> list[Any]:
        run = with_gone.run("porto_daemons", test=test, **given)
        one = with_gone.apply("gone", test=test)
        return [strip_times(run), with_gone.specs(), with_gone.apply(test=test), one]

    told = {test: ask(test=test) for test in (True, False)}
    assert long_ways == []
    for test in (True, False):
        as_left.forget(str(host.state_dir))
        assert ask(test=test) == told[test]
    assert sorted(set(long_ways)) == ["gone", "never", "one", "two"]
    comments = [item["comment"] for item in told[True][0].values()]
    assert {"gone is not there, as asked", "never is not there, as asked"} <= set(comments)
    assert [item["name"] for item in told[True][1]["specs"] if item["delete_requested"]] == [
        "gone",
        "never",
    ]


def test_what_is_gone_and_comes_back_is_noticed(
    with_gone: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    given = lay_down("never", delete_requested=True)
    with host.client() as client:
        client.create("gone")
    assert not is_quick(with_gone, long_ways, test=True, **given)
    assert with_gone.run("porto_daemons", **given)["gone.yaml"]["result"] is False
    with host.client() as client:
        client.destroy("gone")
    write_spec(host, "gone")
    for test in (True, False):
        run = with_gone.run("porto_daemons", test=test, **given)
        assert run["gone.yaml"]["changes"]["process"]["new"] == "running"


def test_an_absent_state_of_its_own_is_quick_about_what_is_gone_alone(
    with_gone: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    def ask(name: str, **more: Any) -> Any:
        given = {"name": name, "source": str(host.specs_dir / f"{name}.yaml"), **more}
        sls = {"mine": {"porto_daemon.absent": [{key: given[key]} for key in given]}}
        return strip_times(with_gone.run(sls, test=True))

    assert ask("one")["mine"]["result"] is False
    assert ask("gone", version="1")["mine"]["result"] is False
    long_ways.clear()
    told = ask("gone")
    assert long_ways == []
    as_left.forget(str(host.state_dir))
    assert ask("gone") == told
    assert told["mine"]["result"] is True


# -- a part of the directory, and what Salt lays down ----------------------------------------------


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the daemons of every pass that was made or foreseen the long way."""
    made: list[list[str]] = []
    for name in ("run_pass", "preview_pass"):
        real = getattr(converge, name)

        def run(host: Any, request: Any, *more: Any, real: Any = real) -> Any:
            made.append([spec.name for spec in request.targets])
            return real(host, request, *more)

        monkeypatch.setattr(converge, name, run)
    return made


def lay_down(*names: str, **more: Any) -> dict[str, Any]:
    """Pillar with these daemons."""
    daemons = {name: {**sleeper(name, **more)} for name in names}
    for fields in daemons.values():
        del fields["name"]
    return {"pillar": {"porto_daemons": {"daemons": daemons}}}


@pytest.fixture
def laid(settled: Minion, long_ways: list[str]) -> Minion:
    """Two daemons of the directory and two of pillar, as a run left them."""
    for _ in range(5):
        if is_quick(settled, long_ways, **lay_down("three", "four")):
            return settled
        time.sleep(1.1)
    raise AssertionError("no run was quick")


def test_daemons_of_pillar_are_quick_and_return_what_the_long_way_returns(
    laid: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    given = lay_down("three", "four")
    quick_run = {
        test: strip_times(laid.run("porto_daemons", test=test, **given)) for test in (0, 1)
    }
    assert long_ways == []
    as_left.forget(str(host.state_dir))
    for test in (1, 0):
        assert strip_times(laid.run("porto_daemons", test=test, **given)) == quick_run[test]
    assert sorted(long_ways) == sorted(["one", "two", "three", "four"] * 2)


def test_a_pass_of_the_command_leaves_daemons_of_pillar_quick(
    laid: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    as_left.forget(str(host.state_dir))
    assert main(["--config", str(laid.settings_file), "apply"]) == 0
    assert is_quick(laid, long_ways, **lay_down("three", "four"))


def test_another_daemon_of_pillar_is_noticed(
    laid: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    snapshot = host.state_dir / as_left.FILE_NAME
    kept = snapshot.read_bytes()
    given = lay_down("three", "four")
    as_it_is = strip_times(laid.run("porto_daemons", test=True, **given))
    others: list[dict[str, Any]] = [
        {"properties": {"memory_limit": "64Mb"}},
        {"version": "2"},
        {"version": 2},
        {"version": datetime.date(2020, 1, 22)},
        {"annotations": {1: "one"}},
        {"annotations": {"1": "one"}},
        {"min_ready_s": False},
        {"watch": [{"path": "/etc/hosts"}]},
        {"delete_requested": True},
        {"lock_wait_s": "soon"},
        {"no_such": 1},
    ]
    for more in others:
        given = lay_down("three", **more)
        given["pillar"]["porto_daemons"]["daemons"] |= lay_down("four")["pillar"]["porto_daemons"][
            "daemons"
        ]
        told = strip_times(laid.run("porto_daemons", test=True, **given))
        assert told != as_it_is, more
        as_left.forget(str(host.state_dir))
        assert strip_times(laid.run("porto_daemons", test=True, **given)) == told, more
        snapshot.write_bytes(kept)
        snapshot.chmod(0o600)
        assert is_quick(laid, long_ways, test=True, **lay_down("three", "four"))


def test_fields_of_pillar_in_another_order_are_written_as_they_stand(
    laid: Minion, host: ExampleHost
) -> None:
    given = lay_down("three", "four")
    properties = given["pillar"]["porto_daemons"]["daemons"]["three"]["properties"]
    given["pillar"]["porto_daemons"]["daemons"]["three"]["properties"] = dict(
        reversed(properties.items())
    )
    run = laid.run("porto_daemons", **given)
    assert "file" in run["pillar-three.yml"]["changes"]


@pytest.mark.parametrize("deed", ["edit", "chmod", "replace", "link"])
def test_a_file_that_was_laid_down_and_is_another_now_is_noticed(
    laid: Minion, host: ExampleHost, folder: Path, deed: str
) -> None:
    path = host.specs_dir / "pillar-three.yml"
    before, text = path.stat(), path.read_text()
    other = text.replace("1000", "1001")
    if deed == "edit":
        path.write_text(other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif deed == "chmod":
        path.chmod(0o644)
    else:
        path.unlink()
    if deed == "replace":
        path.write_text(other)
        path.chmod(0o600)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif deed == "link":
        (folder / "elsewhere").write_text(text)
        path.symlink_to(folder / "elsewhere")
    given = lay_down("three", "four")
    told = strip_times(laid.run("porto_daemons", test=True, **given))
    as_left.forget(str(host.state_dir))
    (host.state_dir / laid_down.FILE_NAME).unlink()
    assert strip_times(laid.run("porto_daemons", test=True, **given)) == told
    (state,) = (item for key, item in told.items() if key.endswith("pillar-three.yml"))
    assert (state["result"], "file" in state["changes"]) == (
        (False, False) if deed == "link" else (None, True)
    )
    laid.run("porto_daemons", **given)
    assert path.read_text() == text


def test_a_file_that_a_pass_without_salt_has_taken_as_it_is_now_is_noticed(
    laid: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    path = host.specs_dir / "pillar-three.yml"
    text, words = path.read_text(), ["--config", str(laid.settings_file), "apply"]
    path.write_text(f"{text}# Somebody was here.\n")
    for _ in range(8):
        assert main(words) == 0
        if answer_quickly(words) == 0:
            break
        time.sleep(1.1)
    # For the command all is as it was left.
    assert answer_quickly(words) == 0
    run = laid.run("porto_daemons", **lay_down("three", "four"))
    assert "file" in run["pillar-three.yml"]["changes"]
    assert path.read_text() == text


@pytest.mark.parametrize("other", [{1: "x"}, {"1": datetime.date(2020, 1, 22)}], ids=str)
def test_what_yaml_has_made_of_a_text_is_not_taken_for_the_text(other: dict[Any, Any]) -> None:
    with pytest.raises(TypeError):
        laid_down.digest("one", {"annotations": other})
    signs = [laid_down.digest("one", {"version": given}) for given in ("1", 1, 1.0, True, "True")]
    assert len(set(signs)) == len(signs)


def test_two_states_about_one_file_return_what_the_long_way_returns(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    long_ways.clear()
    mine = {"name": "one", "source": str(host.specs_dir / "one.yaml"), "together": True}
    given = {
        name: {"porto_daemon.managed": [{key: mine[key]} for key in mine]}
        for name in ("first", "second")
    }
    told = [strip_times(settled.run(given, test=True))]
    assert long_ways == ["one", "one"]
    as_left.forget(str(host.state_dir))
    told.append(strip_times(settled.run(given, test=True)))
    assert told[0] == told[1]


def test_a_spec_file_elsewhere_takes_the_long_way(
    settled: Minion, folder: Path, long_ways: list[str]
) -> None:
    path = folder / "elsewhere.yaml"
    fields = sleeper("elsewhere")
    path.write_text(yaml.safe_dump({"meta": {"name": fields.pop("name")}, "spec": fields}))
    given = {"mine": {"porto_daemon.managed": [{"name": "elsewhere"}, {"source": str(path)}]}}
    assert settled.run(given, test=True)["mine"]["result"] is None
    assert long_ways == ["elsewhere"]


@pytest.mark.parametrize("text", ["", "1 00000000\n", "{", "x" * 100], ids=repr)
def test_what_was_laid_down_is_rendered_again_where_nothing_tells_of_it(
    laid: Minion, host: ExampleHost, long_ways: list[str], text: str
) -> None:
    (host.state_dir / laid_down.FILE_NAME).write_text(text)
    assert not is_quick(laid, long_ways, **lay_down("three", "four"))
    settle(laid, long_ways)


def test_a_state_of_its_own_about_a_daemon_of_the_directory_is_quick_and_no_pass(
    laid: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    path = str(host.specs_dir / "pillar-three.yml")
    named = {"name": "one", "source": str(host.specs_dir / "one.yaml")}
    given = {
        "first": {"porto_daemon.managed": [{key: named[key]} for key in named]},
        "between": {"test.nop": []},
        **own_states("three", file=path),
    }
    before = as_left.load_pass(str(host.state_dir))
    assert is_quick(laid, long_ways, given)
    assert is_quick(laid, long_ways, given, test=True)
    assert as_left.load_pass(str(host.state_dir)) == before
    quick_run = strip_times(laid.run(given))
    as_left.forget(str(host.state_dir))
    assert strip_times(laid.run(given)) == quick_run
    assert long_ways == ["one", "three"]


def test_a_state_about_one_daemon_looks_at_its_container_and_at_all_files(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    def about(name: str) -> dict[str, Any]:
        arguments = [{"name": name}, {"source": str(host.specs_dir / f"{name}.yaml")}]
        return {name: {"porto_daemon.managed": arguments}}

    with host.client() as client:
        client.destroy("two")
    for test in (True, False):
        assert is_quick(settled, long_ways, about("one"), test=test)
        assert settled.apply("one", test=test)["daemons"]["one"]["result"] is True
        assert not is_quick(settled, long_ways, test=True)
    assert not is_quick(settled, long_ways, about("two"), test=True)
    (host.specs_dir / "two.yaml").write_text((host.specs_dir / "one.yaml").read_text())
    assert "defined in" in settled.run(about("one"))["one"]["comment"]


def test_a_daemon_that_is_asked_keeps_no_state_about_another_busy(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    write_spec(host, "three", readiness={"exec": ["true"], "period_s": 600})
    for _ in range(5):
        settled.run("porto_daemons")
        if (as_left.read(str(host.state_dir)) or {}).get("probed"):
            break
        time.sleep(1.1)
    paths = {name: str(host.specs_dir / f"{name}.yaml") for name in ("one", "three")}
    for name, path in paths.items():
        arguments = [{"name": name}, {"source": path}]
        for test in (True, False):
            sls = {"mine": {"porto_daemon.managed": arguments}}
            assert is_quick(settled, long_ways, sls, test=test) == (name == "one")


def own_states(*names: str, **more: Any) -> dict[str, Any]:
    return {
        f"own-{name}": {
            "porto_daemon.managed": [
                {key: value} for key, value in {**sleeper(name), **more}.items()
            ]
        }
        for name in names
    }


def test_states_that_come_one_after_another_are_one_pass_where_nothing_is_to_be_done(
    minion: Minion, host: ExampleHost, passes: list[list[str]]
) -> None:
    names = ["a", "b", "c"]
    minion.run(own_states(*names))
    # Foreseen together; then each has its turn, as it would without.
    assert passes == [names, ["a"], ["b"], ["c"]]
    passes.clear()
    run = minion.run(own_states(*names))
    assert passes == [names, names]
    assert [item["comment"] for item in run.results.values()] == [
        f"{name} is ready, nothing had to be done" for name in names
    ]
    passes.clear()
    run = minion.run(own_states(*names), test=True)
    assert [item["result"] for item in run.results.values()] == [True] * 3
    assert passes == [names]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"require": [{"test": "between"}]}, 3),
        ({"check_cmd": ["true"]}, 3),
        ({"onlyif": ["true"]}, 3),
        ({"failhard": True}, 3),
        ({"order": 1}, 2),
    ],
    ids=str,
)
def test_a_state_that_waits_for_something_has_its_own_turn(
    minion: Minion, host: ExampleHost, passes: list[list[str]], more: dict[str, Any], wanted: int
) -> None:
    given = {"between": {"test.nop": []}, **own_states("a", "b", "c", **more)}
    minion.run(given)
    passes.clear()
    minion.run(given)
    assert len(passes) == wanted


def test_a_state_that_is_checked_by_a_command_has_its_own_turn_among_others(
    minion: Minion, host: ExampleHost, passes: list[list[str]]
) -> None:
    given = {**own_states("a"), **own_states("b", check_cmd=["true"]), **own_states("c")}
    minion.run(given)
    passes.clear()
    minion.run(given)
    assert passes == [["a"], ["b"], ["c"]]


def test_a_state_between_two_of_ours_is_not_run_past(
    minion: Minion, host: ExampleHost, passes: list[list[str]]
) -> None:
    given = {**own_states("a"), "kill": {"test.nop": []}, **own_states("b", "c")}
    minion.run(given)
    passes.clear()
    minion.run(given)
    assert passes == [["a"], ["b", "c"], ["b", "c"]]


# -- porto_daemon.apply ----------------------------------------------------------------------------


def test_apply_by_hand_is_quick_and_answers_what_the_long_way_answers(
    settled: Minion, host: ExampleHost, passes: list[list[str]]
) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"name": "two"},
        {"test": True},
        {"name": "one", "test": True},
    ]
    told = [settled.apply(**more) for more in asked]
    assert passes == []
    for more, answer in zip(asked, told, strict=True):
        as_left.forget(str(host.state_dir))
        assert settled.apply(**more) == answer
        assert passes.pop() == ([more["name"]] if "name" in more else ["one", "two"])
    assert list(told[0]["daemons"]) == ["one", "two"]
    assert told[0]["daemons"]["two"]["warnings"]


def test_only_apply_of_all_is_a_pass_that_is_remembered(settled: Minion, host: ExampleHost) -> None:
    before = as_left.load_pass(str(host.state_dir))
    settled.apply(test=True)
    settled.apply(name="one")
    assert as_left.load_pass(str(host.state_dir)) == before
    settled.apply()
    assert as_left.load_pass(str(host.state_dir)) != before


def test_apply_by_hand_leaves_the_next_run_quick(
    settled: Minion, host: ExampleHost, long_ways: list[str]
) -> None:
    as_left.forget(str(host.state_dir))
    settled.apply()
    assert is_quick(settled, long_ways)


def test_apply_by_hand_notices_what_has_changed(settled: Minion, host: ExampleHost) -> None:
    with host.client() as client:
        client.destroy("one")
    for more in ({"test": True}, {"name": "one"}):
        changes = settled.apply(**more)["daemons"]["one"]["changes"]
        assert changes["process"]["new"] == "running"
    with pytest.raises(SaltInvocationError, match="defines a daemon tow"):
        settled.apply(name="tow")


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
