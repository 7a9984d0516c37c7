"""The states, one at a time, through Salt's own loaders."""

from __future__ import annotations

import ast
import datetime
import fcntl
import re
import shutil
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.example import CONFIG_VERSION, NAME, VERSION, ExampleHost
from salt_minion import EXAMPLE, REPO, Minion, sleeper, write_spec

from ya_salt.salt_api import states as states_of
from ya_salt.specs.daemon import META_FIELDS, SPEC_FIELDS

NEW = "2.4.2002010000"


def take(result: Any) -> dict[str, Any]:
    """A state's answer as the plain mapping that Salt has."""
    return dict(result.full_return)


def both(minion: Minion, function: str, **arguments: Any) -> dict[str, Any]:
    """Foretell, then do: what is done has to be what was foretold. Returns what was done."""
    told = take(minion.state(function, test=True, **arguments))
    done = take(minion.state(function, **arguments))
    if done["result"] is False:
        assert told["result"] is False
    else:
        assert told["result"] is (None if done["changes"] else True)
    assert told["changes"] == done["changes"]
    return done


def test_a_daemon_that_is_missing_is_created(minion: Minion) -> None:
    done = both(minion, "managed", **sleeper("sleeper", properties={"memory_limit": "2Gb"}))
    assert done["result"] is True, done["comment"]
    assert done["changes"] == {
        "container": {
            "command_argv": {"old": "", "new": "sleep 1000"},
            "isolate": {"old": "", "new": "false"},
            "memory_limit": {"old": "", "new": "2147483648"},
        },
        "process": {"old": "absent", "new": "running"},
    }
    assert "sleeper is ready" in done["comment"]


def test_a_daemon_that_is_as_it_should_be_is_left_alone(minion: Minion) -> None:
    both(minion, "managed", **sleeper("sleeper"))
    again = both(minion, "managed", **sleeper("sleeper"))
    assert (again["result"], again["changes"]) == (True, {})
    assert again["comment"] == "sleeper is ready, nothing had to be done"


def test_the_whole_life_of_the_example(minion: Minion, host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    source = {"name": NAME, "source": str(host.spec_file)}

    made = both(minion, "managed", **source)
    assert made["result"] is True, made["comment"]
    assert made["changes"]["packages"] == {
        "juggler-client-core": {"old": "", "new": VERSION},
        "yandex-rtc-juggler-config": {"old": "", "new": CONFIG_VERSION},
    }
    assert made["changes"]["process"] == {"old": "absent", "new": "running"}
    assert any("memory_guarantee" in warning for warning in made["warnings"])

    host.release(NEW)
    text = host.spec_file.read_text().replace(VERSION, NEW)
    host.spec_file.write_text(text)
    updated = both(minion, "managed", **source)
    assert updated["changes"] == {
        "packages": {"juggler-client-core": {"old": VERSION, "new": NEW}},
        "process": {"old": "running", "new": "restarted"},
    }

    pid = host.pid()
    host.spec_file.write_text(text.replace('memory_limit: "2Gb"', 'memory_limit: "3Gb"'))
    changed = both(minion, "managed", **source)
    assert changed["changes"] == {
        "container": {"memory_limit": {"old": "2147483648", "new": "3221225472"}}
    }
    assert host.pid() == pid

    host.spec_file.write_text(text.replace("delete_requested: False", "delete_requested: True"))
    removed = both(minion, "absent", **source)
    assert removed["result"] is True, removed["comment"]
    assert removed["changes"] == {
        "packages": {
            "juggler-client-core": {"old": NEW, "new": ""},
            "yandex-rtc-juggler-config": {"old": CONFIG_VERSION, "new": ""},
        },
        "process": {"old": "running", "new": "absent"},
    }
    again = both(minion, "absent", **source)
    assert (again["result"], again["changes"]) == (True, {})


def test_a_static_property_restarts_and_only_what_differs_is_told(minion: Minion) -> None:
    both(minion, "managed", **sleeper("sleeper", properties={"env": {"A": "1", "B": "2"}}))
    env = {"env": {"A": "1", "B": "3", "C": "4"}, "memory_limit": "1Gb"}
    done = both(minion, "managed", **sleeper("sleeper", properties=env))
    assert done["changes"] == {
        "container": {
            "env[B]": {"old": "2", "new": "3"},
            "env[C]": {"old": "", "new": "4"},
            "memory_limit": {
                "old": done["changes"]["container"]["memory_limit"]["old"],
                "new": "1073741824",
            },
        },
        "process": {"old": "running", "new": "restarted"},
    }


def test_secrets_are_never_told(minion: Minion) -> None:
    def ask(secret: str) -> str:
        wanted = sleeper("sleeper", properties={"env_secret": {"TOKEN": secret}})
        done = both(minion, "managed", **wanted)
        assert done["changes"]["container"]["env_secret[TOKEN]"]["new"] == "***"
        return str(done)

    assert "hunter1" not in ask("hunter1")
    told = ask("hunter2")
    assert "hunter1" not in told
    assert "hunter2" not in told


def test_what_somebody_changed_by_hand_is_put_right_and_told(
    minion: Minion, host: ExampleHost
) -> None:
    both(minion, "managed", **sleeper("sleeper", properties={"memory_limit": "2Gb"}))
    with host.client() as client:
        client.set_property("sleeper", "memory_limit", "1Gb")
    done = both(minion, "managed", **sleeper("sleeper", properties={"memory_limit": "2Gb"}))
    assert done["changes"] == {
        "container": {"memory_limit": {"old": "1073741824", "new": "2147483648"}}
    }


def test_a_stopped_daemon_is_started(minion: Minion, host: ExampleHost) -> None:
    both(minion, "managed", **sleeper("sleeper"))
    with host.client() as client:
        client.stop("sleeper", 5)
    done = both(minion, "managed", **sleeper("sleeper"))
    assert done["changes"] == {"process": {"old": "stopped", "new": "running"}}


def test_a_container_of_somebody_else_is_refused_and_left(
    minion: Minion, host: ExampleHost
) -> None:
    with host.client() as client:
        client.create_weak("sleeper")
        done = both(minion, "managed", **sleeper("sleeper"))
        assert (done["result"], done["changes"]) == (False, {})
        assert "ya-salt did not make" in done["comment"]
        assert client.get_property("sleeper", "state") == "stopped"


def test_what_failed_half_way_is_not_told_as_done(minion: Minion, host: ExampleHost) -> None:
    wanted = sleeper("sleeper", packages=[{"juggler-client-core": "9.9"}])
    done = take(minion.state("managed", **wanted))
    assert (done["result"], done["changes"]) == (False, {})
    assert "9.9" in done["comment"]
    assert "ya-salt logs sleeper" in done["comment"]
    wanted = sleeper(
        "sleeper", packages=[{"juggler-client-core": VERSION}], properties={"user": "nosuch"}
    )
    done = take(minion.state("managed", **wanted))
    assert done["result"] is False
    assert done["changes"] == {"packages": {"juggler-client-core": {"old": "", "new": VERSION}}}


def test_a_daemon_that_dies_at_once_fails_with_what_it_said(minion: Minion) -> None:
    dying = sleeper("dying", min_ready_s=2, ready_timeout_s=3)
    dying["properties"]["cmd"] = ["sh", "-c", "echo cannot find my teeth >&2; exit 3"]
    done = take(minion.state("managed", **dying))
    assert done["result"] is False
    assert "cannot find my teeth" in done["comment"]


# -- absent ----------------------------------------------------------------------------------------


def test_absent_removes_a_daemon_that_no_file_names(minion: Minion, host: ExampleHost) -> None:
    both(minion, "managed", **sleeper("sleeper", packages=[{"juggler-client-core": VERSION}]))
    done = both(minion, "absent", name="sleeper")
    assert done["changes"] == {
        "packages": {"juggler-client-core": {"old": VERSION, "new": ""}},
        "process": {"old": "running", "new": "absent"},
    }
    assert host.installed() == {}
    again = both(minion, "absent", name="sleeper")
    assert (again["result"], again["changes"]) == (True, {})


def test_absent_of_what_never_was_is_fine(minion: Minion) -> None:
    done = both(minion, "absent", name="sleeper")
    assert (done["result"], done["changes"]) == (True, {})
    assert done["comment"] == "sleeper is not there, as asked"


def test_absent_keeps_packages_that_another_daemon_needs(minion: Minion, host: ExampleHost) -> None:
    package = [{"juggler-client-core": VERSION}]
    both(minion, "managed", **sleeper("one", packages=package))
    both(minion, "managed", **sleeper("two", packages=package))
    done = both(minion, "absent", name="one")
    assert done["changes"] == {"process": {"old": "running", "new": "absent"}}
    assert any("is kept" in warning for warning in done["warnings"])


def test_absent_against_a_file_that_wants_it_is_a_conflict(
    minion: Minion, host: ExampleHost
) -> None:
    path = write_spec(host, "sleeper")
    done = both(minion, "absent", name="sleeper")
    assert done["result"] is False
    assert str(path) in done["comment"]


# -- what is wrong ---------------------------------------------------------------------------------


def test_a_bad_file_fails_with_every_line_also_in_test_mode(
    minion: Minion, host: ExampleHost
) -> None:
    path = host.specs_dir / "bad.yaml"
    path.write_text("meta: {name: bad}\nspec:\n  propertis: {}\n  min_ready_s: no\n")
    done = both(minion, "managed", name="bad", source=str(path))
    assert done["result"] is False
    assert f"{path}:3:3: spec.propertis: " in done["comment"]
    assert f"{path}:4:16: spec.min_ready_s: " in done["comment"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"proprties": {}}, "there is no argument proprties; did you mean properties?"),
        ({"properties": {"cmd": ["x"], "memory_limt": 1}}, "properties.memory_limt: "),
        ({"version": 1.1, "properties": {"cmd": ["x"]}}, "version: 1.1 is a number"),
        ({"source": "/x.yaml", "version": "1"}, "not both"),
        ({"source": "/nonexistent.yaml"}, "/nonexistent.yaml: cannot be read"),
        ({"source": "salt://nonexistent.yaml"}, "the master has no such file"),
        ({}, "properties.cmd: is missing"),
        ({"properties": {"cmd": ["x"]}, "lock_wait_s": "soon"}, "not a number of seconds"),
    ],
)
def test_wrong_arguments_fail_with_a_sentence(
    minion: Minion, arguments: dict[str, Any], said: str
) -> None:
    for test in (True, False):
        done = take(minion.state("managed", test=test, name="sleeper", **arguments))
        assert (done["result"], done["changes"]) == (False, {})
        assert said in done["comment"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"version": 1.1}, "version: 1.1 is a number, not text: YAML made"),
        ({"packages": [{"agent": 1.1}]}, "packages[0].version: 1.1 is a number"),
        ({"packages": [{"name": "agent", "version": 12}]}, "packages[0].version: 12 is a number"),
        (
            {"annotations": {"at": datetime.date(2020, 1, 22)}},
            "annotations[at]: 2020-01-22 is a date",
        ),
        ({"properties": {"cmd": ["agent", 1.1]}}, "properties.cmd[1]: 1.1 is a number"),
        ({"properties": {"cmd": ["agent", False]}}, "properties.cmd[1]: false is a boolean"),
        ({"properties": {"env": {"PORT": 8080}}}, "properties.env[PORT]: 8080 is a number"),
        ({"properties": {"env": {"DEBUG": True}}}, "properties.env[DEBUG]: true is a boolean"),
        ({"properties": {"env": {False: "x"}}}, "properties.env: false is a boolean"),
        ({"properties": {"umask": 18}}, "properties.umask: 18 is a number"),
        ({"properties": {"io_limit": {480: 1}}}, "properties.io_limit: 480 is a number"),
        (
            {
                "properties": {
                    "env": {"AT": datetime.datetime(2020, 1, 22, tzinfo=datetime.timezone.utc)}
                }
            },
            "properties.env[AT]: 2020-01-22 00:00:00+00:00 is a date or a time",
        ),
        ({"properties": {"env": {"A": 1, "B": 2}}}, "properties.env[B]: 2 is a number"),
        (
            {"properties": {"envSecret": {"PIN": 4711}}},
            "properties.env_secret[PIN]: it is a number",
        ),
    ],
)
def test_a_text_that_yaml_took_for_something_else_is_refused(
    minion: Minion, arguments: dict[str, Any], said: str
) -> None:
    arguments.setdefault("properties", {}).setdefault("cmd", ["sleep", "9"])
    done = take(minion.state("managed", name="sleeper", **arguments))
    assert (done["result"], done["changes"]) == (False, {})
    assert said in done["comment"]
    assert "quote it as it is meant" in done["comment"]
    assert "4711" not in done["comment"]


def test_quantities_may_be_numbers(minion: Minion) -> None:
    quantities = {"ulimit": {"nofile": 1024}, "memory_limit": 1 << 30}
    done = both(minion, "managed", **sleeper("sleeper", properties=quantities))
    assert done["result"] is True, done["comment"]
    assert done["changes"]["container"]["ulimit[nofile]"]["new"].startswith("1024")


@pytest.mark.parametrize("name", ["../x", "a b", "self", "x" * 101])
def test_names_that_cannot_be_fail(minion: Minion, name: str) -> None:
    done = both(minion, "managed", **sleeper(name))
    assert done["result"] is False


def test_a_file_of_another_daemon_fails(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    done = both(minion, "managed", name="other", source=str(path))
    assert "it is sleeper, but the state says other" in done["comment"]


def test_without_portod_there_is_one_clear_sentence(minion: Minion, host: ExampleHost) -> None:
    host.portod.stop()
    done = both(minion, "managed", **sleeper("sleeper"))
    assert done["result"] is False
    assert "no portod answers" in done["comment"]
    assert "\n" not in done["comment"]


def test_settings_that_cannot_be_used_fail_each_state(make_minion: Callable[..., Minion]) -> None:
    minion = make_minion(porto_daemons={"paralel": 2})
    done = both(minion, "managed", **sleeper("sleeper"))
    assert "salt config porto_daemons: paralel: there is no such setting" in done["comment"]
    assert "did you mean parallel?" in done["comment"]
    assert take(minion.state("directory", name="x"))["result"] is False


# -- sources ---------------------------------------------------------------------------------------


def test_a_source_on_the_master_is_fetched(minion: Minion) -> None:
    (minion.files / "agents").mkdir()
    (minion.files / "agents/sleeper.yaml").write_text(
        "meta: {name: sleeper}\n"
        "spec: {min_ready_s: 0, properties: {cmd: [sleep, '9'], isolate: no}}\n"
    )
    done = both(minion, "managed", name="sleeper", source="salt://agents/sleeper.yaml")
    assert done["result"] is True, done["comment"]
    assert done["changes"]["process"]["new"] == "running"


def test_a_file_may_name_itself(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    done = both(minion, "managed", name=str(path), source=str(path))
    assert done["result"] is True, done["comment"]


def test_a_spec_is_laid_down_as_a_file_and_foretold(minion: Minion, host: ExampleHost) -> None:
    path = host.specs_dir / "pillar-sleeper.yml"
    done = both(minion, "managed", file=str(path), version="1", **sleeper("sleeper"))
    assert done["result"] is True, done["comment"]
    assert done["changes"]["file"] == {str(path): {"old": "absent", "new": "written"}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in host.specs_dir.iterdir()] == [path.name]
    # Passes without Salt know it now.
    assert host.run("plan").stdout == "nothing to do\n"
    assert (
        both(minion, "managed", file=str(path), version="1", **sleeper("sleeper"))["changes"] == {}
    )
    # A word that restarts nothing is a change of the file all the same.
    changed = both(minion, "managed", file=str(path), version="2", **sleeper("sleeper"))
    assert changed["changes"] == {"file": {str(path): {"old": "outdated", "new": "written"}}}


def test_a_file_that_others_may_read_is_closed(minion: Minion, host: ExampleHost) -> None:
    path = host.specs_dir / "pillar-sleeper.yml"
    both(minion, "managed", file=str(path), **sleeper("sleeper"))
    path.chmod(0o644)
    done = both(minion, "managed", file=str(path), **sleeper("sleeper"))
    assert done["changes"] == {"file": {str(path): {"old": "mode 0644", "new": "mode 0600"}}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_where_a_file_is_laid_down(
    minion: Minion, host: ExampleHost, folder: Path
) -> None:
    path, elsewhere = host.specs_dir / "pillar-sleeper.yml", folder / "elsewhere"
    elsewhere.write_text("precious")
    path.symlink_to(elsewhere)
    done = both(minion, "managed", file=str(path), **sleeper("sleeper"))
    assert done["result"] is False
    assert str(path) in done["comment"]
    assert elsewhere.read_text() == "precious"


def test_a_bad_spec_is_not_laid_down(minion: Minion, host: ExampleHost) -> None:
    path = host.specs_dir / "pillar-sleeper.yml"
    done = both(minion, "managed", name="sleeper", file=str(path), properties={"cmd": "x", "no": 1})
    assert done["result"] is False
    assert not path.exists()


# -- waiting ---------------------------------------------------------------------------------------


def test_a_state_waits_for_another_pass_to_end(minion: Minion, host: ExampleHost) -> None:
    host.state_dir.mkdir(mode=0o700)
    held = (host.state_dir / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(1.5, held.close).start()
    started = time.monotonic()
    done = take(minion.state("managed", **sleeper("sleeper")))
    assert done["result"] is True, done["comment"]
    assert time.monotonic() - started >= 1.4


def test_a_state_that_waited_too_long_says_for_whom(minion: Minion, host: ExampleHost) -> None:
    host.state_dir.mkdir(mode=0o700)
    with (host.state_dir / "lock").open("w") as held:
        held.write("4711\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        done = take(minion.state("managed", lock_wait_s=0.3, **sleeper("sleeper")))
        assert done["result"] is False
        assert "pid 4711" in done["comment"]
        # Looking needs no lock.
        assert take(minion.state("managed", test=True, **sleeper("sleeper")))["result"] is None


def test_a_long_wait_is_told_in_the_minions_log(
    minion: Minion, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ya_salt")
    minion.state("managed", **{**sleeper("sleeper"), "min_ready_s": 1.5})
    assert "waiting until ready: sleeper" in caplog.text


def test_what_was_done_is_in_our_own_log_too(minion: Minion, host: ExampleHost) -> None:
    minion.state("managed", **sleeper("sleeper"))
    assert "porto-daemon-sleeper: create" in host.log_file.read_text()


def test_the_directory_is_made_only_when_asked(
    make_minion: Callable[..., Minion], folder: Path
) -> None:
    minion = make_minion(porto_daemons={"specs_dir": str(folder / "new")})
    assert both(minion, "directory", name="x")["result"] is False
    done = both(minion, "directory", name="x", makedirs=True)
    assert done["changes"] == {
        "directory": {str(folder / "new"): {"old": "absent", "new": "created"}}
    }
    assert both(minion, "directory", name="x", makedirs=True)["changes"] == {}


# -- how a daemon lives ----------------------------------------------------------------------------


def test_what_a_file_says_of_its_life_a_state_says_too(
    minion: Minion, host: ExampleHost, folder: Path
) -> None:
    path = host.specs_dir / "salt.yaml"
    arguments = sleeper(
        "sleeper",
        readiness={"exec": ["true"], "period_s": 60},
        update={"max_failures": 2, "state": ["/var/lib/sleeper"]},
        watch_files=[{"path": str(folder / "conf"), "signal": "SIGHUP"}],
        after=["other"],
        drift="report",
        file=str(path),
    )
    write_spec(host, "other")
    assert minion.apply("other")["ok"]
    done = minion.state("managed", **arguments)
    assert done["result"] is True, done
    spec = minion.describe("sleeper")["spec"]["spec"]
    assert spec["readiness"]["periodS"] == 60
    assert spec["update"]["maxFailures"] == 2
    assert [item["path"] for item in spec["watch"]] == [str(folder / "conf")]
    assert (spec["after"], spec["drift"]) == (["other"], "report")


def test_a_daemon_that_somebody_stopped_stays_so_and_fails_nothing(
    minion: Minion, host: ExampleHost
) -> None:
    path = str(host.specs_dir / "salt.yaml")
    both(minion, "managed", **sleeper("sleeper", file=path))
    assert minion.stop("sleeper", duration="2h", reason="disk")["result"] is True
    held = both(minion, "managed", **sleeper("sleeper", file=path))
    assert (held["result"], held["changes"]) == (True, {})
    assert "is held by Salt since" in held["comment"]
    changed = sleeper("sleeper", file=path, properties={"cwd": "/tmp"})
    assert list(both(minion, "managed", **changed)["changes"]) == ["file"]
    watched = take(minion.state("mod_watch", sfun="managed", **changed))
    assert (watched["result"], watched["changes"]) == (True, {}), watched
    assert host.values("state", name="sleeper")["state"] == "dead"
    assert minion.start("sleeper")["changes"]["container"]["cwd"]["new"] == "/tmp"
    watched = take(minion.state("mod_watch", sfun="managed", **changed))
    assert watched["changes"] == {"process": {"old": "running", "new": "restarted"}}


def test_a_version_that_was_rejected_fails_again_without_doing_anything(
    minion: Minion, host: ExampleHost
) -> None:
    more: dict[str, Any] = {"file": str(host.specs_dir / "salt.yaml"), "min_ready_s": 1}
    dies = {"cmd": ["sh", "-c", "echo no config >&2; exit 3"]}
    good = {**sleeper("sleeper", version="1.0"), **more}
    bad = {**sleeper("sleeper", version="1.1", properties=dies), **more}
    both(minion, "managed", **good)
    foretold = take(minion.state("managed", test=True, **bad))
    assert foretold["result"] is None
    assert any("can be undone: back to 1.0" in item for item in foretold["warnings"])
    done = take(minion.state("managed", **bad))
    assert done["result"] is False
    assert done["changes"]["process"] == {"old": "running", "new": "restarted"}
    assert "container" not in done["changes"]
    was = host.values("root_pid", name="sleeper")
    again = both(minion, "managed", **bad)
    assert (again["result"], again["changes"]) == (False, {})
    for told in (done, again):
        assert "sleeper: 1.1 rejected: exited with 3 four times in " in told["comment"]
        assert "1.0 runs again" in told["comment"]
    assert host.values("root_pid", name="sleeper") == was
    short = minion.status(details=True)["sleeper"]
    assert (short["ready"], short["reason"], short["version"]) == (True, "RolledBack", "1.0")
    assert minion.why("sleeper")["kind"] == "VersionRejected"


def test_a_version_gone_back_to_by_hand_says_so(minion: Minion) -> None:
    new = sleeper("sleeper", version="1.1", properties={"cwd": "/tmp"})
    both(minion, "managed", **sleeper("sleeper", version="1.0"))
    both(minion, "managed", **new)
    assert minion.rollback("sleeper")["result"] is True
    again = both(minion, "managed", **new)
    assert (again["result"], again["changes"]) == (True, {})
    assert "1.0 (generation 1) runs, as it was gone back to by Salt" in again["comment"]
    assert minion.status(details=True)["sleeper"]["reason"] == "Pinned"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"watch_files": [{"path": "conf"}]}, "watch_files[0].path"),
        ({"watch_files": [{"path": 1}]}, "watch_files[0].path"),
        ({"readiness": {"exec": ["check", 1]}}, "readiness.exec[1]"),
        ({"readiness": {"tpc": 80}}, "readiness.tpc"),
        ({"update": {"on_failure": "undo"}}, "update.on_failure"),
        ({"after": [1]}, "after[0]"),
        ({"drift": "ignore"}, "drift"),
    ],
)
def test_what_is_wrong_with_it_is_named_as_the_state_has_it(
    minion: Minion, more: dict[str, Any], said: str
) -> None:
    done = minion.state("managed", **sleeper("sleeper", **more))
    assert done["result"] is False
    assert f": {said}: " in done["comment"]


# -- what is written about them -------------------------------------------------------------------


def test_the_signature_shows_every_argument(minion: Minion) -> None:
    def show(function: str) -> dict[str, Any]:
        return minion.functions.sys.state_argspec(f"porto_daemon.{function}")[
            f"porto_daemon.{function}"
        ]

    # `watch` is Salt's own word.
    of_a_spec = {*META_FIELDS, *SPEC_FIELDS, "watch_files"} - {"kind", "name", "watch"}
    common = {"name", "source", "lock_wait_s", "together"}
    assert set(show("managed")["args"]) == of_a_spec | common | {"file"}
    assert set(show("absent")["args"]) == of_a_spec - {"delete_requested"} | common
    assert set(show("directory")["args"]) == {"name", "makedirs", "problem"}


def test_every_state_function_has_an_example_and_its_age(minion: Minion) -> None:
    tree = ast.parse((REPO / "_states/porto_daemon.py").read_text())
    public = [item for item in tree.body if isinstance(item, ast.FunctionDef)]
    texts = {one.name: ast.get_docstring(one) or "" for one in public if one.name[0] != "_"}
    listed = minion.functions.sys.list_state_functions("porto_daemon")
    assert {f"porto_daemon.{name}" for name in texts} == set(listed)
    for name, text in texts.items():
        assert ".. versionadded:: 0.1.0" in text, name
        _, sls = text.split(".. code-block:: yaml")
        ((state,),) = [item.keys() for item in yaml.safe_load(textwrap.dedent(sls)).values()]
        assert state.partition(".")[2] in ("managed", "absent", "directory"), name


def test_the_table_of_arguments_agrees_with_the_signature(minion: Minion) -> None:
    text = (REPO / "docs/salt.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    named: dict[str, set[str]] = {"managed": set(), "absent": set()}
    for arguments, functions, *_ in (row for row in rows if len(row) == 3):
        for function in re.findall(r"managed|absent", functions):
            named[function] |= set(re.findall(r"`(\w+)`", arguments))
    for function, arguments in named.items():
        spec = minion.functions.sys.state_argspec(f"porto_daemon.{function}")
        assert arguments == set(spec[f"porto_daemon.{function}"]["args"]), function


def test_what_is_refused_is_not_done_by_the_turn_of_another(
    minion: Minion, host: ExampleHost
) -> None:
    path = write_spec(host, "two")
    refused = {"name": "two", "source": str(path), "version": "1", "together": True}
    states = {"first": {**sleeper("one"), "together": True}, "second": refused}
    given = {
        key: {"porto_daemon.managed": [{name: states[key][name]} for name in states[key]]}
        for key in states
    }
    for test in (True, False):
        run = minion.run(given, test=test)
        assert "give either source or the spec itself" in run["second"]["comment"]
        assert run["second"]["changes"] == {}
    assert host.values("state", name="one") == {"state": "running"}
    assert host.values("state", name="two") == {}


def test_what_was_refused_leaves_nothing_for_a_run_to_come(
    minion: Minion, host: ExampleHost
) -> None:
    context: dict[str, Any] = {}
    chunks = [
        {"state": "porto_daemon", "fun": "managed", "__id__": name, **sleeper(name), **more}
        for name, more in (("one", {}), ("two", {"source": "elsewhere"}))
    ]
    pillar = {"porto_daemons": {"config": str(minion.settings_file)}}
    for chunk in chunks:
        own = {key: chunk[key] for key in chunk if key not in ("state", "fun", "__id__")}
        low = {**chunk, "together": True}
        others = [{**item, "together": True} for item in chunks]
        run = states_of.Run({}, pillar, context, low, others)
        states_of.run_daemon("managed", {**own, "together": True}, run)
    assert not any(context[states_of._STASH])
