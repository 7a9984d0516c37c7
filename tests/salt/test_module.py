"""The execution module, through Salt's own loaders."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import salt.payload
import yaml
from helpers.example import NAME, VERSION, ExampleHost
from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt_minion import EXAMPLE, Minion, write_spec

from ya_salt.salt_api.speech import name_job


def test_every_function_has_an_example(minion: Minion) -> None:
    functions = [name for name in minion.functions if name.startswith("porto_daemon.")]
    names = {name.partition(".")[2] for name in functions}
    assert names == {
        *("specs", "status", "ready", "plan", "apply", "validate", "restart", "logs", "history"),
        *("why", "report", "settings", "version", "gate_status"),
        *("stop", "start", "retry", "rollback", "generations", "describe", "adopt"),
    }
    for name in functions:
        text = inspect.getdoc(minion.functions[name])
        assert "CLI Example:" in text, name
        assert f" {name}" in text, name
        assert ".. versionadded:: " in text, name


def test_the_example_is_applied_and_shown(minion: Minion, host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    assert list(minion.plan()) == [NAME]
    assert minion.plan()[NAME]["changes"]["process"] == {"old": "absent", "new": "running"}
    foretold = minion.apply(test=True)
    assert foretold["daemons"][NAME]["result"] is None
    done = minion.apply()
    assert done["ok"], done
    assert done["daemons"][NAME]["changes"] == foretold["daemons"][NAME]["changes"]
    assert minion.plan() == {}
    assert minion.status() == {NAME: f"ready, running, version {VERSION}"}
    assert minion.status(details=True) == {
        NAME: {"ready": True, "phase": "Managed", "state": "running", "version": VERSION}
    }
    assert minion.status(NAME)["conditions"]["ready"]["status"] is True
    assert minion.ready(NAME) is True
    assert "juggler-client" in minion.logs(NAME)["stdout"]
    assert minion.logs(NAME, lines=0) == {"stdout": "", "stderr": ""}
    assert any("create" in item["what"] for item in minion.history(NAME))
    assert minion.why(NAME)["next"] == "nothing"


def test_restart_gives_a_new_process(minion: Minion, host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    minion.apply()
    pid = host.pid()
    assert minion.restart(NAME, test=True)["result"] is None
    assert host.pid() == pid
    done = minion.restart(NAME)
    assert (done["result"], done["changes"]) == (
        True,
        {"process": {"old": "running", "new": "restarted"}},
    )
    assert host.pid() != pid
    assert minion.status(NAME)["restartCount"] == 1


def test_a_single_daemon_is_applied_alone(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "one")
    write_spec(host, "two")
    assert list(minion.apply("one")["daemons"]) == ["one"]
    assert list(minion.status()) == ["one"]


def test_specs_tell_rejected_and_ignored_files(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "good")
    (host.specs_dir / "bad.yaml").write_text("meta: {name: bad}\n")
    (host.specs_dir / "old.yaml~").write_text("")
    found = minion.specs()
    assert [item["name"] for item in found["specs"]] == ["good"]
    assert [item["name"] for item in found["rejected"]] == ["bad"]
    assert "bad.yaml:1:1: spec: is missing" in found["rejected"][0]["problems"][0]
    assert [Path(item["path"]).name for item in found["ignored"]] == ["old.yaml~"]
    done = minion.apply()
    assert not done["ok"]
    assert done["daemons"]["good"]["result"] is True
    assert [item["name"] for item in done["rejected"]] == ["bad"]


def test_validate_takes_a_file_or_a_directory(minion: Minion, host: ExampleHost) -> None:
    path = host.specs_dir / "bad.yaml"
    path.write_text("meta: {name: bad}\n")
    for given in (str(path), str(host.specs_dir)):
        found = minion.validate(given)
        assert found["valid"] == []
        assert str(path) in found["problems"][0]


def test_why_leads_from_a_bad_file_to_what_to_type(minion: Minion, host: ExampleHost) -> None:
    path = host.specs_dir / "bad.yaml"
    path.write_text("meta: {name: bad}\n")
    told = minion.why("bad")
    assert told["next"] == f"correct the file, then: ya-salt validate {path}"
    assert "spec: is missing" in told["problems"][0]


def test_why_tells_what_is_pending_and_what_is_orphaned(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    assert minion.why("sleeper")["next"] == "salt-call porto_daemon.apply sleeper"
    minion.apply()
    path.unlink()
    minion.apply()
    told = minion.why("sleeper")
    assert told["phase"] == "Orphaned"
    assert "delete_requested" in told["next"]


def test_why_names_the_line_and_the_next_step_in_salts_words(
    minion: Minion, host: ExampleHost
) -> None:
    path = write_spec(host, "sleeper")
    minion.apply()
    write_spec(host, "sleeper", properties={"cwd": "/tmp"})
    told = minion.why("sleeper")
    assert (told["kind"], told["next"]) == ("Pending", "salt-call porto_daemon.apply sleeper")
    assert any(cause.startswith(f"{path}:") and "cwd: " in cause for cause in told["causes"])
    assert minion.describe("sleeper")["why"]["next"] == told["next"]


def test_plan_of_one_daemon(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "one")
    write_spec(host, "two")
    assert list(minion.plan("two")) == ["two"]


def test_history_says_that_salt_had_it_done(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "sleeper")
    minion.apply()
    assert minion.restart("sleeper", reason="it leaks", test=True)["result"] is None
    assert minion.restart("sleeper", reason="it leaks")["result"] is True
    told = {item["what"]: item["who"] for item in minion.history("sleeper")}
    assert told["restart: asked for by Salt: it leaks"] == "Salt"


def test_somebodys_container_is_adopted_with_its_process(minion: Minion, host: ExampleHost) -> None:
    with host.client() as client:
        client.create("theirs")
        client.set_property("theirs", "command_argv", "sleep\t1000")
        client.set_property("theirs", "isolate", "false")
        client.start("theirs")
    was = host.values("root_pid", name="theirs")
    path = host.specs_dir / "theirs.yaml"
    assert "sleep" in minion.adopt("theirs")["spec"]
    foretold = minion.adopt("theirs", write=True, test=True)
    assert (foretold["result"], path.exists()) == (None, False)
    done = minion.adopt("theirs", write=True)
    assert (done["result"], done["changes"]) == (True, foretold["changes"]), done
    assert minion.plan() == {}
    assert host.values("root_pid", name="theirs") == was
    assert [i["who"] for i in minion.history("theirs") if i["what"][:5] == "adopt"] == ["Salt"]


def test_what_cannot_be_adopted_is_foretold(minion: Minion, host: ExampleHost) -> None:
    with host.client() as client:
        client.create("theirs")
        client.set_property("theirs", "command_argv", "sleep\t1000")
        client.set_property("theirs", "isolate", "false")
    assert minion.adopt("theirs")["result"] is True
    foretold = minion.adopt("theirs", write=True, test=True)
    assert (foretold["result"], foretold["changes"]) == (False, {})
    assert "theirs cannot be taken over as it is: " in foretold["comment"]
    with pytest.raises(CommandExecutionError, match="cannot be taken over as it is"):
        minion.adopt("theirs", write=True)


def test_orders_are_the_shells(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "sleeper")
    minion.apply()
    assert minion.stop("sleeper", duration="2h", reason="disk", test=True)["result"] is None
    assert host.values("state", name="sleeper")["state"] == "running"
    assert minion.stop("sleeper", duration="2h", reason="disk")["result"] is True
    assert host.values("state", name="sleeper")["state"] == "dead"
    told = minion.why("sleeper")
    assert (told["kind"], told["next"]) == ("Held", "salt-call porto_daemon.start sleeper")
    with pytest.raises(SaltInvocationError, match=r"salt-call porto_daemon\.start sleeper"):
        minion.restart("sleeper")
    assert minion.start("sleeper")["result"] is True
    assert host.values("state", name="sleeper")["state"] == "running"
    assert [item["version"] for item in minion.generations("sleeper")] == [""]
    with pytest.raises(SaltInvocationError, match="no span of time"):
        minion.stop("sleeper", duration="soon")


def test_the_job_is_named_by_the_minions_note_of_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    note = tmp_path / "proc/20261125220000000000"
    note.write_bytes(salt.payload.dumps({"pid": os.getpid(), "jid": note.name, "fun": "x"}))
    (tmp_path / "proc/other").write_bytes(salt.payload.dumps({"pid": 1, "jid": "other"}))
    (tmp_path / "proc/broken").write_bytes(b"\xc1")
    opts = {"cachedir": str(tmp_path)}
    assert name_job(opts, salt.payload.loads) == f"Salt job {note.name}"
    note.unlink()
    assert name_job(opts, salt.payload.loads) == "Salt"


def test_a_summary_of_a_thousand_daemons_is_small(minion: Minion, host: ExampleHost) -> None:
    for number in range(30):
        write_spec(host, f"d{number}")
    minion.apply()
    told = minion.status(summary=True)
    assert (told["daemons"], told["ready"], told["to_look_at"]) == (30, 30, [])
    with host.client() as client:
        for number in range(30):
            client.stop(f"d{number}", 1)
    told = minion.status(summary=True)
    assert (told["to_look_at_count"], len(told["to_look_at"])) == (30, 20)
    assert len(yaml.safe_dump(told)) < 1000


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("ready", (None,)),
        ("ready", (1.1,)),
        ("ready", ("nobody",)),
        ("status", ("nobody",)),
        ("restart", ("nobody",)),
        ("apply", ("nobody",)),
        ("why", ("nobody",)),
        ("plan", ("nobody",)),
        ("stop", ("nobody",)),
        ("start", ("nobody",)),
        ("retry", ("nobody",)),
        ("rollback", ("nobody",)),
        ("rollback", ("nobody", "first")),
        ("generations", ("nobody",)),
        ("describe", ("nobody",)),
        ("logs", ("nobody",)),
        ("logs", ("x", -1)),
        ("gate_status", ("nobody",)),
        ("history", ("nobody",)),
        ("history", (None, "many")),
        ("validate", ("",)),
    ],
)
def test_bad_arguments_are_the_callers_fault(
    minion: Minion, function: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(SaltInvocationError):
        getattr(minion, function)(*arguments)


@pytest.mark.parametrize(
    "function", ["ready", "status", "history", "logs", "generations", "gate_status"]
)
def test_what_no_pass_has_seen_is_told_with_what_to_type(
    minion: Minion, host: ExampleHost, function: str
) -> None:
    write_spec(host, "sleeper")
    minion.apply()
    path = write_spec(host, "other")
    step = rf"no pass has seen daemon other of {path} yet; salt-call porto_daemon\.apply other"
    with pytest.raises(SaltInvocationError, match=step):
        getattr(minion, function)("other")
    with pytest.raises(SaltInvocationError, match="did you mean sleeper"):
        getattr(minion, function)("sleepr")


def test_what_the_world_refuses_is_said_in_a_sentence(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "sleeper")
    minion.apply()
    with host.client() as client:
        client.destroy("sleeper")
    with pytest.raises(CommandExecutionError, match=r"has no container .* porto_daemon\.status s"):
        minion.logs("sleeper")
    host.portod.stop()
    with pytest.raises(CommandExecutionError, match="no portod answers"):
        minion.status()
    minion.settings_file.write_text("specs_dir: /nonexistent\n")
    for function in ("specs", "plan", "apply"):
        with pytest.raises(CommandExecutionError, match="daemons directory does not exist"):
            getattr(minion, function)()


def test_settings_come_from_minion_configuration_over_the_file(
    make_minion: Callable[..., Minion], host: ExampleHost
) -> None:
    minion = make_minion(
        porto_daemons={"parallel": 2, "packages_policy": {"allow_removals": ["ab"]}}
    )
    minion.settings_file.write_text("parallel: 3\nlock_timeout_s: 4\n")
    told = minion.settings()
    assert told["parallel"] == {"value": 2, "origin": "salt config"}
    assert told["packages_policy.allow_removals"] == {"value": ["ab"], "origin": "salt config"}
    assert told["lock_timeout_s"]["value"] == 4
    assert told["root"]["origin"] == "default"


def test_version_tells_what_runs_where(minion: Minion) -> None:
    told = minion.version()
    assert told["api"] == "3"
    assert told["salt"].startswith("300")
    assert told["adapter"].endswith("_modules/porto_daemon.py")


def test_files_that_cannot_be_used_are_in_the_status(minion: Minion, host: ExampleHost) -> None:
    path = write_spec(host, "sleeper")
    minion.apply()
    path.write_text(path.read_text().replace("min_ready_s", "min_redy_s"))
    unseen = host.specs_dir / "unseen.yaml"
    unseen.write_text("meta: {name: unseen}\nspec: {}\n")
    lines = minion.status()
    assert lines["sleeper"].startswith(f"Rejected, ready, running: {path}:")
    assert lines["unseen"].startswith(f"Rejected, not ready: {unseen}:2:7: ")
    told = minion.status(details=True)
    assert told["sleeper"]["phase"] == told["unseen"]["phase"] == "Rejected"
    # What runs is told all the same.
    assert (told["sleeper"]["ready"], told["unseen"]["ready"]) == (True, False)
    assert "min_redy_s" in told["sleeper"]["problems"][0]
    assert f"{unseen}:2:7: " in minion.status("unseen")["problems"][0]
    full = minion.status("sleeper")
    assert (full["path"], full["conditions"]["running"]["status"]) == (str(path), True)
    summary = minion.status(summary=True)
    assert summary["rejected_files"] == 2
    assert summary["to_look_at"] == ["sleeper", "unseen"]
    # Repaired, it is not told of any more, before any pass.
    write_spec(host, "sleeper")
    unseen.unlink()
    assert "problems" not in minion.status(details=True)["sleeper"]
    assert minion.status(summary=True)["to_look_at"] == []


def list_documented() -> dict[str, set[str]]:
    """Function -> its arguments with a value, as the table in docs/salt.md has them."""
    text = (Path(__file__).parent.parent.parent / "docs/salt.md").read_text()
    table = text.partition("\n## By hand\n")[2].partition("\n\nBad arguments")[0]
    found: dict[str, set[str]] = {}
    for row in table.splitlines()[3:]:
        first, second = row.strip("| ").split(" | ", 1)
        told = [words.split() for words in re.findall(r"`([^`]+)`", first)]
        for name, *_ in told:
            found.setdefault(name, set())
        for owner in {name for name, *_ in told}:
            mine = [words for words in told if words[0] == owner]
            found[owner] |= set(re.findall(r"\[?(\w+)=", " ".join(map(" ".join, mine))))
        if len(told) == 1:
            found[told[0][0]] |= set(re.findall(r"`(\w+)=", second))
    return found


def test_what_salt_and_the_document_tell_of_functions_is_the_same(minion: Minion) -> None:
    told = minion.functions.sys.doc("porto_daemon")
    functions = {name.partition(".")[2]: text for name, text in told.items()}
    documented = list_documented()
    assert functions.keys() == documented.keys()
    specs = minion.functions.sys.argspec("porto_daemon")
    for name, arguments in documented.items():
        known = specs[f"porto_daemon.{name}"]["args"] or []
        assert arguments <= set(known), name
        # Whose name it is goes without saying; of the others the document tells once for all.
        for argument in set(known) - {"name", "test", "lock_wait_s"}:
            assert f"\n    {argument}\n" in functions[name], (name, argument)
