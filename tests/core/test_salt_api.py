"""What the Salt adapters build on, without Salt: settings, a state's companions, events."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ya_salt.errors import SettingsError
from ya_salt.lock import hold_lock
from ya_salt.model import Condition, DaemonStatus, Record
from ya_salt.salt_api import find_file_root, list_loader_folders
from ya_salt.salt_api.beacon import Seen, find_events
from ya_salt.salt_api.configuration import name_source, read_in_force
from ya_salt.salt_api.grain import tell_daemons
from ya_salt.salt_api.states import AGGREGATED, find_watched, list_companions
from ya_salt.store import open_store

# -- settings --------------------------------------------------------------------------------------


@pytest.fixture
def opts(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "settings.yaml").write_text("parallel: 2\nlock_timeout_s: 5\n")
    return {"porto_daemons": {"config": str(tmp_path / "settings.yaml"), "parallel": 3}}


def test_pillar_goes_over_minion_configuration_over_the_file(opts: dict[str, Any]) -> None:
    found = read_in_force(opts, {"porto_daemons": {"parallel": 4, "daemons": {"x": {}}}})
    assert (found.settings.parallel, found.origins["parallel"]) == (4, "pillar")
    assert read_in_force(opts, {}).origins["parallel"] == "salt config"
    assert found.settings.lock_timeout_s == 5


def test_the_environment_goes_over_pillar(
    opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YA_SALT_PARALLEL", "7")
    assert read_in_force(opts, {"porto_daemons": {"parallel": 4}}).settings.parallel == 7


def test_pillar_may_name_another_file(opts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("lock_timeout_s: 6\n")
    found = read_in_force(opts, {"porto_daemons": {"config": str(tmp_path / "other.yaml")}})
    assert found.settings.lock_timeout_s == 6


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"paralel": 3}, "pillar porto_daemons: paralel: there is no such setting"),
        ({"parallel": "many"}, "pillar porto_daemons: parallel: 'many' is not a whole number"),
        ({"parallel": None}, "one value is wanted"),
        ({"packages_policy": {"allow_removals": "x"}}, "a list is wanted"),
        (["x"], "pillar porto_daemons: it is a mapping"),
        ({"grain": True}, "pillar porto_daemons: grain: say it in the minion's configuration"),
    ],
)
def test_what_cannot_be_used_names_its_place(section: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_in_force({}, {"porto_daemons": section})


def test_a_checkout_has_its_folders() -> None:
    repo = Path(__file__).parent.parent.parent
    assert list_loader_folders() == {
        kind: [str(repo / f"_{kind}")] for kind in ("modules", "states", "beacons", "grains")
    }
    assert find_file_root() == str(repo)


# -- grains ----------------------------------------------------------------------------------------


def remember(folder: Path, *records: Record) -> dict[str, Any]:
    """A store of these, and the minion's configuration that leads to it."""
    store = open_store(str(folder / "state"))
    with store.transaction():
        store.save_records(records)
    config = folder / "no-settings.yaml"
    config.write_text("{}")
    return {"porto_daemons": {"config": str(config), "state_dir": str(folder / "state")}}


def seen(name: str, version: str = "", reason: str = "Installed", **more: Any) -> Record:
    installed = Condition(reason == "Installed", reason, "", 0.0)
    return Record(name, status=DaemonStatus(name, version=version, installed=installed, **more))


def test_grains_tell_what_the_last_pass_left(tmp_path: Path) -> None:
    packages = (("core", "1:2.0", "1:2.0"), ("config", "2.0", "1.9"), ("extra", "1", ""))
    opts = remember(
        tmp_path,
        seen("agent", "2.4", packages=packages),
        seen("gone", "1.0", phase="Removed"),
        seen("never-ran", wanted_version="1.0", phase="Managed"),
        seen("orphan", "3", phase="Orphaned"),
    )
    assert tell_daemons(opts) == {
        "porto_daemons": ["agent", "never-ran", "orphan"],
        "porto_daemon_versions": {"agent": "2.4", "orphan": "3"},
        "porto_daemon_packages": {"agent": {"core": "1:2.0", "config": "1.9"}},
    }


def test_what_is_not_known_is_no_absent_grain(tmp_path: Path) -> None:
    packages = (("core", "2.0", ""),)
    opts = remember(
        tmp_path, seen("agent", "2", "DpkgUnavailable", packages=packages), Record("not-looked-at")
    )
    told = tell_daemons(opts)
    assert told["porto_daemon_versions"] == {"agent": "2", "not-looked-at": "unknown"}
    assert told["porto_daemon_packages"] == {"agent": {"core": "unknown"}}


def test_where_no_pass_was_made_there_are_no_daemons(tmp_path: Path) -> None:
    section = {"config": str(tmp_path / "none.yaml"), "state_dir": str(tmp_path / "none")}
    (tmp_path / "none.yaml").write_text("{}")
    assert tell_daemons({"porto_daemons": section}) == {
        "porto_daemons": [],
        "porto_daemon_versions": {},
        "porto_daemon_packages": {},
    }


def test_a_store_that_is_gone_is_told_and_is_not_taken_for_no_daemons(tmp_path: Path) -> None:
    opts = remember(tmp_path, seen("agent", "1"))
    with hold_lock(str(tmp_path / "state")):
        pass
    (tmp_path / "state/store.sqlite3").unlink()
    told = tell_daemons(opts)
    assert told.keys() == {"porto_daemons_unknown"}
    assert "store.sqlite3 is gone" in told["porto_daemons_unknown"]


def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    opts = remember(tmp_path, seen("agent", "1"))
    (tmp_path / "state/store.sqlite3").write_bytes(b"no store")
    told = tell_daemons(opts)
    assert told.keys() == {"porto_daemons_unknown"}
    assert "store.sqlite3 cannot be used" in told["porto_daemons_unknown"]


def test_a_store_that_lost_a_daemon_says_so_beside_the_others(tmp_path: Path) -> None:
    opts = remember(tmp_path, seen("agent", "1"), seen("other", "1"))
    with closing(sqlite3.connect(tmp_path / "state/store.sqlite3")) as db, db:
        db.execute("UPDATE daemon SET data = '{}' WHERE name = 'other'")
    told = tell_daemons(opts)
    assert told["porto_daemons"] == ["agent"]
    assert "damaged" in told["porto_daemons_unknown"]


def test_settings_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    told = tell_daemons({"porto_daemons": {"grain": "yes"}})
    assert told.keys() == {"porto_daemons_unknown"}
    assert "grain: true or false is wanted" in told["porto_daemons_unknown"]


def test_the_grain_is_no_setting(opts: dict[str, Any]) -> None:
    asked = {"porto_daemons": {**opts["porto_daemons"], "grain": True}}
    assert read_in_force(asked, {}) == read_in_force(opts, {})
    # So that a state run and a command leave each other the quick way.
    assert name_source(asked, {}) == name_source(opts, {})


# -- companions ------------------------------------------------------------------------------------


def chunk(name: str, **more: object) -> dict[str, Any]:
    return {
        "state": "porto_daemon",
        "fun": "managed",
        "name": name,
        "__id__": name,
        "__sls__": "x",
        "order": 1,
        "together": True,
        **more,
    }


def companions(*others: dict[str, Any], running: dict | None = None, **low: object) -> list[str]:
    first = chunk("first", **low)
    found = list_companions(first, [first, *others], running or {}, failhard=False)
    return [item["name"] for item in found]


def test_those_that_wait_for_nothing_go_along() -> None:
    assert companions(chunk("a"), chunk("b", fun="absent")) == ["a", "b"]


@pytest.mark.parametrize(
    "more",
    [
        {"require": [{"file": "x"}]},
        {"watch": [{"file": "x"}]},
        {"onlyif": ["true"]},
        {"parallel": True},
        {"aggregate": False},
        {"retry": {"attempts": 2}},
        {"something_of_a_later_salt": 1},
        {"properties": {"cmd": "__slot__:salt:test.echo(x)"}},
        {"together": False},
    ],
)
def test_those_that_wait_or_want_a_turn_of_their_own_do_not(more: dict[str, Any]) -> None:
    assert companions(chunk("a", **more)) == []


def test_aggregation_takes_those_that_did_not_ask() -> None:
    assert companions(chunk("a", together=None), **{AGGREGATED: True}) == ["a"]


def test_those_that_ran_or_that_others_want_to_precede_do_not() -> None:
    done = {"porto_daemon_|-a_|-a_|-managed": {"changes": {}}}
    assert companions(chunk("a"), chunk("b"), running=done) == ["b"]
    drain = {"state": "cmd", "fun": "run", "name": "x", "prereq": [{"porto_daemon": "b"}]}
    assert companions(chunk("a"), chunk("b"), drain) == ["a"]


def test_failhard_lets_nobody_go_ahead() -> None:
    assert companions(chunk("a", failhard=True), chunk("b")) == []
    first = chunk("first")
    assert list_companions(first, [first, chunk("a")], {}, failhard=True) == []


@pytest.mark.parametrize("ref", [{"file": "/x"}, {"file": "conf"}, "conf", {"sls": "web"}])
def test_a_watched_state_that_changed_is_found(ref: object) -> None:
    tag = "file_|-conf_|-/x_|-managed"
    low = chunk("a", watch=[ref])
    assert find_watched(low, {tag: {"changes": {"diff": ""}, "__sls__": "web"}}) == (
        "watched file /x changed"
    )
    assert find_watched(low, {tag: {"changes": {}, "__sls__": "web"}}) == ""


# -- events ----------------------------------------------------------------------------------------


def status(*, ready: bool = True, respawns: int = 0, digest: str = "a") -> DaemonStatus:
    condition = Condition(ready, "Ready" if ready else "Dead", "why", 0.0)
    return DaemonStatus("d", ready=condition, respawn_count=respawns, digest=digest)


@pytest.mark.parametrize(
    ("before", "now", "kinds"),
    [
        (None, status(), []),
        (None, status(ready=False), ["not_ready"]),
        (Seen(True, 0, "a"), status(), []),
        (Seen(True, 0, "a"), status(ready=False), ["not_ready"]),
        (Seen(False, 0, "a"), status(), ["ready"]),
        (Seen(True, 1, "a"), status(respawns=2), ["respawned"]),
        (Seen(True, 5, "a"), status(digest="b"), ["changed"]),
        (Seen(True, 5, "a"), status(digest="b", respawns=1), ["respawned", "changed"]),
    ],
)
def test_events_tell_what_changed(before: Seen | None, now: DaemonStatus, kinds: list) -> None:
    seen = {"d": before} if before else {}
    assert [event["event"] for event in find_events([now], seen)] == kinds
    assert find_events([now], seen) == []


def test_only_wanted_events_are_told_but_all_are_remembered() -> None:
    seen = {"d": Seen(True, 0, "a")}
    assert find_events([status(ready=False)], seen, ["ready"]) == []
    assert [event["tag"] for event in find_events([status()], seen, ["ready"])] == ["ready/d"]
