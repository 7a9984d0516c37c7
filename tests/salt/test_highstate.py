"""Whole runs: the SLS over the daemons directory and pillar, requisites, contradictions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.example import NAME, ExampleHost
from salt_minion import EXAMPLE, Minion, Run, sleeper, write_spec

from ya_salt.porto.client import PortoClient


def both(minion: Minion, sls: dict | str, **more: object) -> Run:
    """Foretell a run, then do it: the same changes, and no surprise about what fails."""
    told, done = minion.run(sls, test=True, **more), minion.run(sls, **more)
    ours = {key: item for key, item in done.results.items() if item["state"] == "porto_daemon"}
    assert {key: told.results[key]["changes"] for key in ours} == {
        key: item["changes"] for key, item in ours.items()
    }
    for key, item in ours.items():
        foretold = told.results[key]["result"]
        assert foretold is (False if item["result"] is False else None if item["changes"] else True)
    return done


def managed(name: str, *more: dict, **fields: object) -> dict:
    arguments = [{key: value} for key, value in sleeper(name, **fields).items()]
    return {"porto_daemon.managed": [*arguments, *more]}


def test_every_file_is_a_state_and_a_bad_one_fails_alone(minion: Minion, host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    write_spec(host, "sleeper")
    (host.specs_dir / "bad.yaml").write_text("meta: {name: bad}\nspec: {propertis: {}}\n")
    (host.specs_dir / "nameless.json").write_text('{"meta": {}}')
    run = both(minion, "porto_daemons")
    assert len(run) == 5
    assert run["juggler-client.yaml"]["result"] is True, run["juggler-client.yaml"]["comment"]
    assert run["sleeper.yaml"]["result"] is True
    assert run["bad.yaml"]["result"] is False
    assert f"{host.specs_dir}/bad.yaml:2:8: spec.propertis: " in run["bad.yaml"]["comment"]
    assert run["nameless.json"]["result"] is False
    assert run["porto-daemons"]["result"] is True
    again = both(minion, "porto_daemons")
    assert all(not item["changes"] for item in again.results.values())


def test_a_file_that_asks_for_removal_is_absent(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "sleeper")
    minion.run("porto_daemons")
    write_spec(host, "sleeper", delete_requested=True)
    run = both(minion, "porto_daemons")
    assert run["sleeper.yaml"]["changes"]["process"]["new"] == "absent"
    assert both(minion, "porto_daemons")["sleeper.yaml"]["changes"] == {}


def test_two_files_of_one_name_both_fail(minion: Minion, host: ExampleHost) -> None:
    shutil.copy(write_spec(host, "a"), host.specs_dir / "b.yaml")
    run = both(minion, "porto_daemons")
    assert "b.yaml" in run["a.yaml"]["comment"]
    assert "a.yaml" in run["b.yaml"]["comment"]


@pytest.mark.parametrize("broken", ["settings", "directory"])
def test_rendering_never_fails(minion: Minion, host: ExampleHost, broken: str) -> None:
    if broken == "settings":
        minion.settings_file.write_text("no_such: 1\n")
    else:
        shutil.rmtree(host.specs_dir)
    given = {"include": ["porto_daemons"], "other": {"test.succeed_without_changes": []}}
    for test in (True, False):
        run = minion.run(given, test=test)
        assert run["other"]["result"] is True
        assert run["porto-daemons"]["result"] is False
        assert (
            "no_such" in run["porto-daemons"]["comment"]
            or str(host.specs_dir) in (run["porto-daemons"]["comment"])
        )


def test_an_empty_directory_is_fine(minion: Minion) -> None:
    run = both(minion, "porto_daemons")
    assert len(run) == 1
    assert run["porto-daemons"]["result"] is True


def test_the_whole_pass_is_known_to_the_command(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    minion.run("porto_daemons")
    assert "last pass: " in host.run("status").stderr
    path.unlink()
    write_spec(host, "other")
    minion.run("porto_daemons")
    assert minion.status(details=True)["sleeper"]["phase"] == "Orphaned"


# -- one look, one transaction ---------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every request to portod, of all clients."""
    asked: list[str] = []
    real = PortoClient._ask

    def ask(client: PortoClient, request: object, call: str, timeout_s: object) -> object:
        asked.append(call)
        return real(client, request, call, timeout_s)

    monkeypatch.setattr(PortoClient, "_ask", ask)
    yield asked


def test_a_converged_directory_costs_one_get(
    minion: Minion, host: ExampleHost, asked: list[str]
) -> None:
    for number in range(5):
        write_spec(host, f"d{number}")
    minion.run("porto_daemons")
    asked.clear()
    run = minion.run("porto_daemons")
    assert all(item["result"] is True for item in run.results.values())
    assert asked == ["get"]
    asked.clear()
    minion.run("porto_daemons", test=True)
    assert asked == ["get"]


@pytest.mark.parametrize("asked_by", ["together", "aggregate"])
def test_packages_of_all_daemons_are_one_transaction(
    minion: Minion, host: ExampleHost, asked_by: str
) -> None:
    given = {}
    for name in ("one", "two"):
        host.repository.add(f"pkg-{name}", "1.0")
        given[name] = managed(name, packages=[{f"pkg-{name}": "1.0"}], **{asked_by: True})
    host.repository.write_index()
    run = both(minion, given)
    for name in ("one", "two"):
        changes = run[name]["changes"]["packages"]
        assert changes == {f"pkg-{name}": {"old": "", "new": "1.0"}}
    history = (host.root / "var/log/apt/history.log").read_text()
    assert history.count("Start-Date") == 1


def test_without_aggregate_each_has_a_turn_of_its_own(
    minion: Minion, host: ExampleHost, asked: list[str]
) -> None:
    run = both(minion, {"one": managed("one"), "two": managed("two")})
    assert all(item["changes"] for item in run.results.values())
    asked.clear()
    minion.run({"one": managed("one"), "two": managed("two")})
    assert asked == ["get", "get"]


def test_a_state_that_waits_for_another_is_not_taken_along(minion: Minion, folder: Path) -> None:
    mark = folder / "mark"
    late = managed("late", {"require": [{"file": str(mark)}]}, together=True)
    late["porto_daemon.managed"].append({"check_cmd": [f"test -e {mark}"]})
    run = minion.run(
        {
            "early": managed("early", together=True),
            str(mark): {"file.managed": [{"contents": "x"}]},
            "late": late,
        }
    )
    order = sorted(run.results, key=lambda key: run[key]["__run_num__"])
    assert order == ["early", str(mark), "late"]
    assert all(item["result"] is True for item in run.results.values()), run.results
    assert run["late"]["changes"]["process"]["new"] == "running"


# -- requisites ------------------------------------------------------------------------------------


def test_others_require_a_daemon_of_the_directory_by_name(
    minion: Minion, host: ExampleHost
) -> None:
    write_spec(host, "good")
    (host.specs_dir / "bad.yaml").write_text("meta: {name: bad}\n")
    run = minion.run(
        {
            "include": ["porto_daemons"],
            "after good": {
                "test.succeed_without_changes": [{"require": [{"porto_daemon": "good"}]}]
            },
            "after bad": {"test.succeed_without_changes": [{"require": [{"porto_daemon": "bad"}]}]},
        }
    )
    assert run["after good"]["result"] is True, str(run.results)
    assert run["after bad"]["result"] is False


def watching(folder: Path, contents: str, **fields: object) -> dict:
    return {
        str(folder / "conf"): {"file.managed": [{"contents": contents}]},
        "sleeper": managed("sleeper", {"watch": [{"file": str(folder / "conf")}]}, **fields),
    }


def pid_of(host: ExampleHost, name: str = "sleeper") -> str:
    with host.client() as client:
        return client.get_property(name, "root_pid")


def test_watch_restarts_once(minion: Minion, host: ExampleHost, folder: Path) -> None:
    both(minion, watching(folder, "one"))
    first = pid_of(host)
    assert minion.run(watching(folder, "one"))["sleeper"]["changes"] == {}
    assert pid_of(host) == first
    run = both(minion, watching(folder, "two"))
    assert run["sleeper"]["changes"] == {"process": {"old": "running", "new": "restarted"}}
    assert pid_of(host) != first
    assert minion.status("sleeper")["restartCount"] == 1


def test_watch_restarts_also_where_something_changes_live(
    minion: Minion, host: ExampleHost, folder: Path
) -> None:
    both(minion, watching(folder, "one"))
    first = pid_of(host)
    run = both(minion, watching(folder, "two", properties={"memory_limit": "1Gb"}))
    assert run["sleeper"]["changes"]["process"] == {"old": "running", "new": "restarted"}
    assert "memory_limit" in run["sleeper"]["changes"]["container"]
    assert pid_of(host) != first
    assert minion.status("sleeper")["restartCount"] == 1


def test_watch_of_a_daemon_that_is_created_does_not_start_it_twice(
    minion: Minion, folder: Path
) -> None:
    both(minion, watching(folder, "one"))
    assert minion.status("sleeper")["restartCount"] == 0


def test_onchanges_follows_a_daemon_that_changed(minion: Minion, host: ExampleHost) -> None:
    given = {
        "sleeper": managed("sleeper"),
        "told": {"test.succeed_with_changes": [{"onchanges": [{"porto_daemon": "sleeper"}]}]},
    }
    assert minion.run(given)["told"]["changes"]
    assert not minion.run(given)["told"]["changes"]


def test_prereq_comes_before_a_daemon_that_would_change(
    minion: Minion, host: ExampleHost, folder: Path
) -> None:
    given = {
        "drain": {
            "cmd.run": [
                {"name": f"test ! -e {host.log_file} || ! grep create {host.log_file}"},
                {"prereq": [{"porto_daemon": "sleeper"}]},
            ]
        },
        "other": managed("other", together=True),
        "sleeper": managed("sleeper", together=True),
    }
    given["other"]["porto_daemon.managed"].append({"order": "last"})
    run = minion.run(given)
    assert run["drain"]["result"] is True, run["drain"]
    assert run["drain"]["__run_num__"] < run["sleeper"]["__run_num__"]
    assert run["sleeper"]["changes"]["process"]["new"] == "running"
    assert not minion.run(given)["drain"]["changes"]


def test_check_cmd_judges_the_daemon(minion: Minion) -> None:
    run = minion.run({"sleeper": managed("sleeper", {"check_cmd": ["false"]})})
    assert run["sleeper"]["result"] is False


def test_parallel_states_share_the_lock_and_no_socket(minion: Minion, host: ExampleHost) -> None:
    names = ("one", "two", "three")
    run = minion.run({name: managed(name, {"parallel": True}) for name in names})
    assert [run[name]["result"] for name in names] == [True] * 3, run.results
    with host.client() as client:
        assert len(client.get(names, ["state"])) == 3


# -- contradictions --------------------------------------------------------------------------------


def test_a_daemon_of_a_file_and_of_an_sls_is_a_conflict(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    run = both(minion, {"include": ["porto_daemons"], "mine": managed("sleeper")})
    for key in ("mine", "sleeper.yaml"):
        assert run[key]["result"] is False
        assert "sleeper is defined twice" in run[key]["comment"]
        assert str(path) in run[key]["comment"]
        assert "state mine of SLS given" in run[key]["comment"]
    with host.client() as client:
        assert client.get(["sleeper"], ["state"]) == {}


def test_two_states_of_one_daemon_are_a_conflict(minion: Minion) -> None:
    run = both(minion, {"one": managed("sleeper"), "two": managed("sleeper")})
    assert "state two of SLS given" in run["one"]["comment"]
    assert "state one of SLS given" in run["two"]["comment"]


# -- pillar ----------------------------------------------------------------------------------------


def give_pillar(minion: Minion, section: object) -> dict:
    return {"pillar": {"porto_daemons": section}}


def test_daemons_of_pillar_are_laid_down_and_run(minion: Minion, host: ExampleHost) -> None:
    fields = sleeper("x")
    fields.pop("name")
    pillar = give_pillar(minion, {"daemons": {"sleeper": {"version": "1", **fields}}})
    run = both(minion, "porto_daemons", **pillar)
    path = host.specs_dir / "pillar-sleeper.yml"
    assert run["pillar-sleeper.yml"]["changes"]["file"] == {
        str(path): {"old": "absent", "new": "written"}
    }
    assert yaml.safe_load(path.read_text())["meta"] == {"name": "sleeper", "version": "1"}
    again = both(minion, "porto_daemons", **pillar)
    assert len(again) == 2
    assert again["pillar-sleeper.yml"]["changes"] == {}
    # Gone from pillar is not removed: the file still stands.
    assert both(minion, "porto_daemons")["pillar-sleeper.yml"]["result"] is True
    fields["delete_requested"] = True
    pillar = give_pillar(minion, {"daemons": {"sleeper": fields}})
    assert both(minion, "porto_daemons", **pillar)["pillar-sleeper.yml"]["changes"]["process"] == {
        "old": "running",
        "new": "absent",
    }


def test_a_missing_directory_is_made_for_daemons_of_pillar(
    minion: Minion, host: ExampleHost
) -> None:
    shutil.rmtree(host.specs_dir)
    fields = sleeper("x")
    fields.pop("name")
    run = both(minion, "porto_daemons", **give_pillar(minion, {"daemons": {"sleeper": fields}}))
    assert run["porto-daemons"]["changes"]
    assert run["pillar-sleeper.yml"]["result"] is True, run["pillar-sleeper.yml"]["comment"]


@pytest.mark.parametrize(
    "daemons",
    [
        {"sleeper": "x"},
        {"sleeper": {"name": "other"}},
        {"../escape": {"properties": {"cmd": "x"}}},
        {"sleeper": {"version": 1.1, "properties": {"cmd": "x"}}},
        {"sleeper": {"properties": "{% raise %}"}},
        ["sleeper"],
    ],
)
def test_bad_daemons_of_pillar_fail_alone(
    minion: Minion, host: ExampleHost, daemons: object
) -> None:
    write_spec(host, "good")
    run = both(minion, "porto_daemons", **give_pillar(minion, {"daemons": daemons}))
    assert not run.errors
    assert [item["result"] for item in run.results.values()].count(False) == 1
    assert [path.name for path in host.specs_dir.iterdir()] == ["good.yaml"]


def test_settings_of_pillar_go_over_all_others(minion: Minion, host: ExampleHost) -> None:
    other = host.folder / "other"
    other.mkdir()
    run = both(minion, "porto_daemons", **give_pillar(minion, {"specs_dir": str(other)}))
    assert run["porto-daemons"]["name"] == str(other)


def test_pillar_and_a_file_of_one_name_is_a_conflict(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    fields = sleeper("x")
    fields.pop("name")
    run = both(minion, "porto_daemons", **give_pillar(minion, {"daemons": {"sleeper": fields}}))
    assert str(path) in run["pillar-sleeper.yml"]["comment"]
    assert run["pillar-sleeper.yml"]["result"] is False


def test_the_example_of_the_document_through_an_sls(minion: Minion, host: ExampleHost) -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    arguments = [{"version": document["meta"]["version"]}]
    arguments += [{key: value} for key, value in document["spec"].items()]
    run = both(minion, {NAME: {"porto_daemon.managed": arguments}})
    assert run[NAME]["result"] is True, run[NAME]["comment"]


def test_a_daemon_of_a_state_alone_is_no_orphan(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "filed")
    mine = sleeper("mine")
    sls = {"mine": {"porto_daemon.managed": [{key: value} for key, value in mine.items()]}}
    assert minion.run(sls)["mine"]["result"] is True
    assert host.run("apply").returncode == 0
    with host.client() as client:
        assert client.get_property("mine", "state") == "running"
    told = minion.status("mine")
    assert (told["phase"], told["path"]) == ("Managed", "state mine of SLS given")
    assert told["conditions"]["ready"]["status"] is True
    assert "mine: defined by state mine of SLS given" in host.run("status").stdout
    assert minion.status(summary=True)["phases"] == {"Managed": 2}
    assert "state mine of SLS given" in minion.why("mine")["file"]
    # So it is where the state names a file that is not the directory's.
    path = write_spec(host, "mine").rename(host.folder / "mine.yaml")
    from_file = [{"name": "mine"}, {"source": str(path)}]
    assert minion.run({"mine": {"porto_daemon.managed": from_file}})["mine"]["result"] is True
    assert host.run("apply").returncode == 0
    told = minion.status("mine")
    assert (told["phase"], told["path"]) == ("Managed", f"state mine of SLS given ({path})")
    # A file takes it over.
    write_spec(host, "mine")
    assert host.run("apply").returncode == 0
    assert minion.status("mine")["path"] == str(host.specs_dir / "mine.yaml")
