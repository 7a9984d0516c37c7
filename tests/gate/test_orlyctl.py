"""The command orlyctl, run as an operator runs it, on a real etcd; hosts ask through the gate."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.contracts import check_output
from helpers.etcd import EtcdServer
from helpers.programs import find_free_ports

from ya_salt.gate.etcd import Etcd, Put, Range
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Identity, Slot, SlotRequest
from ya_salt.model import GateSettings

RULE = "porto-daemon-x"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def run(*words: str, stdin: str = "", **variables: str) -> Ran:
    """orlyctl with only these variables of its own; nothing of the machine's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("YA_SALT_", "ORLY_", "SUDO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "ya_salt.cli.orlyctl", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, **variables},
    )
    assert "Traceback" not in done.stderr, done.stderr
    check_output(words, done.stdout, "orlyctl-")
    return Ran(done.returncode, done.stdout, done.stderr)


class Bench:
    """Rules of one test, below a prefix of their own."""

    def __init__(self, settings: GateSettings, folder: Path) -> None:
        self.url = settings.endpoints[0]
        self.prefix = settings.prefix
        self.folder = folder
        # The machine that runs the tests may be slow.
        self.etcd = Etcd(settings, deadline_s=10)

    def orlyctl(self, *words: str, **variables: str) -> Ran:
        where = {"ORLY_ENDPOINTS": self.url, "YA_SALT_GATE_PREFIX": self.prefix}
        return run(*words, **{**where, **variables})

    def write(self, name: str = "rule.yaml", rule: str = RULE, **spec: object) -> str:
        path = self.folder / name
        path.write_text(
            yaml.safe_dump({"meta": {"name": rule}, "spec": {"max_concurrent": 2, **spec}})
        )
        return str(path)

    def apply(self, **spec: object) -> str:
        ran = self.orlyctl("apply-rule", "-f", self.write(**spec))
        assert ran.code == 0, ran
        return ran.out

    def gate(self, host: str) -> OrlyGate:
        return OrlyGate(self.etcd, self.prefix, Identity(host))

    def start(self, host: str, target: str = "1.1") -> Slot:
        answer = self.gate(host).ask(SlotRequest("x", "update", target, "x 1.0 -> 1.1"))
        assert isinstance(answer, Granted), answer
        assert answer.held is not None
        return answer.held

    def fail(self, host: str, target: str = "1.1") -> None:
        assert self.gate(host).tell(self.start(host, target), "failed", "Dead:\nexit code 1")

    def put(self, key: str, value: str) -> None:
        self.etcd.transact([], [Put(self.prefix + key, value)])

    def keys(self) -> list[str]:
        (found,) = self.etcd.read(Range(self.prefix, is_prefix=True)).found
        return [item.key.removeprefix(self.prefix) for item in found]

    def status(self) -> Any:
        ran = self.orlyctl("status", RULE, "-o", "json")
        assert ran.code == 0, ran
        (rule,) = ran.data["rules"]
        return rule


@pytest.fixture
def bench(settings: GateSettings, tmp_path: Path) -> Iterator[Bench]:
    found = Bench(settings, tmp_path)
    yield found
    found.etcd.close()


# -- apply-rule --------------------------------------------------------------------------------


def test_apply_rule_says_created_unchanged_and_what_changed(bench: Bench) -> None:
    assert bench.apply(max_concurrent=8) == f"{RULE}: created\n"
    assert bench.apply(max_concurrent=8) == f"{RULE}: unchanged\n"
    changed = bench.apply(max_concurrent=3, rate={"count": 5, "window": "10m"})
    assert changed.startswith(f"{RULE}: changed: max_concurrent 8 -> 3, ")
    assert "rate.count unset -> 5" in changed
    assert bench.keys() == [f"rules/{RULE}"]


def test_dry_run_changes_nothing_and_exits_with_4_while_anything_would(bench: Bench) -> None:
    path = bench.write()
    ran = bench.orlyctl("apply-rule", "-f", path, "--dry-run")
    assert (ran.code, ran.out) == (4, f"{RULE}: would be created\n")
    assert bench.keys() == []
    bench.apply()
    ran = bench.orlyctl("apply-rule", "-f", path, "--dry-run")
    assert (ran.code, ran.out) == (0, f"{RULE}: unchanged\n")
    bench.write(max_concurrent=1)
    ran = bench.orlyctl("apply-rule", "-f", path, "--dry-run", "-o", "json")
    assert ran.code == 4
    assert ran.data == {
        "dryRun": True,
        "rules": [
            {
                "name": RULE,
                "result": "changed",
                "changes": [{"field": "max_concurrent", "old": 2, "new": 1}],
                "pause": None,
            }
        ],
    }
    assert bench.status()["maxConcurrent"] == 2


def test_one_broken_file_keeps_all_from_being_applied(bench: Bench) -> None:
    good = bench.write("good.yaml")
    bad = bench.folder / "bad.yaml"
    bad.write_text("meta: {name: porto-daemon-y}\nspec:\n  max_concurent: 3\n")
    gone = str(bench.folder / "gone.yaml")
    ran = bench.orlyctl("apply-rule", "-f", good, str(bad), "-f", gone)
    assert ran.code == 2
    assert f"{bad}:3:3: spec.max_concurent: " in ran.err
    assert f"{gone}: cannot be read: No such file" in ran.err
    assert bench.keys() == []


def test_a_rule_in_two_files_is_refused(bench: Bench) -> None:
    one, two = bench.write("one.yaml"), bench.write("two.yaml", max_concurrent=5)
    ran = bench.orlyctl("apply-rule", "-f", one, two)
    assert (ran.code, ran.err) == (2, f"{two}: {RULE} is also in {one}; keep it in one file\n")
    assert bench.keys() == []


def test_several_files_are_several_rules(bench: Bench) -> None:
    other = bench.write("y.yaml", rule="porto-daemon-y")
    ran = bench.orlyctl("apply-rule", "-f", bench.write(), "-f", other)
    assert (ran.code, ran.out) == (0, f"{RULE}: created\nporto-daemon-y: created\n")


def test_a_rule_that_cannot_be_read_is_put_right_by_applying_it(bench: Bench) -> None:
    bench.put(f"rules/{RULE}", '["what is this"]')
    assert bench.status()["state"] == "unreadable"
    assert bench.orlyctl("get", RULE).code == 1
    assert bench.apply().startswith(f"{RULE}: changed: ")
    assert bench.status()["state"] == "open"


# -- validate, get, list, delete-rule ----------------------------------------------------------


def test_validate_asks_no_etcd(bench: Bench) -> None:
    path = bench.write()
    ran = run("validate", "-f", path)
    assert (ran.code, ran.out) == (0, f"{path}: {RULE}: valid\n")
    ran = run("validate", "-f", bench.write(first_install="maybe"))
    assert ran.code == 2
    assert ran.err.startswith(f"{path}:")


def test_what_get_prints_is_applied_without_a_change(bench: Bench) -> None:
    bench.apply(
        rate={"count": 5, "window": "90s"},
        selector={"dc": ["man", "no", "12"]},
        max_failures=3,
        min_healthy_time="5m",
        time_zone="Europe/Moscow",
        freeze=[{"from": "2030-12-30 18:00", "to": "2031-01-09", "reason": "holidays: all"}],
        windows=[{"days": ["mon-fri"], "from": "00:00", "to": "24:00"}],
    )
    for form in ("yaml", "json"):
        got = bench.orlyctl("get", RULE, "-o", form)
        assert got.code == 0
        assert "max_concurrent" in got.out
        path = bench.folder / f"got.{form}"
        path.write_text(got.out)
        ran = bench.orlyctl("apply-rule", "-f", str(path))
        assert (ran.code, ran.out) == (0, f"{RULE}: unchanged\n")


def test_list_shows_all_rules(bench: Bench) -> None:
    assert bench.orlyctl("list").out == "no rules\n"
    bench.apply(rate={"count": 5, "window": "90s"})
    bench.put("rules/broken", "{}")
    lines = bench.orlyctl("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["RULE", "broken", RULE]
    assert "5 in 90s" in lines[2]
    broken, good = bench.orlyctl("list", "-o", "json").data["rules"]
    assert (broken["rule"], bool(broken["problem"])) == (None, True)
    assert good["name"] == RULE
    assert good["rule"]["spec"]["maxConcurrent"] == 2
    assert good["problem"] == ""


@pytest.mark.parametrize("words", [("get",), ("status",), ("pause", "--reason", "w"), ("resume",)])
def test_no_such_rule_is_1_with_the_nearest_name(bench: Bench, words: tuple[str, ...]) -> None:
    bench.apply()
    ran = bench.orlyctl(words[0], "x", *words[1:])
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"orlyctl: there is no rule x; did you mean {RULE}?\n"


def test_delete_rule_is_refused_while_a_host_holds(bench: Bench) -> None:
    bench.apply()
    held = bench.start("a.example.org")
    ran = bench.orlyctl("delete-rule", RULE)
    assert ran.code == 1
    assert "held by a.example.org (update to 1.1, working)" in ran.err
    bench.gate("a.example.org").release(held)
    assert bench.orlyctl("pause", RULE, "--reason", "first").code == 0
    assert bench.orlyctl("delete-rule", RULE).code == 0
    assert bench.keys() == []
    assert bench.orlyctl("delete-rule", RULE).code == 1


# -- status ------------------------------------------------------------------------------------


def test_status_of_a_rule_that_nobody_holds(bench: Bench) -> None:
    bench.apply(rate={"count": 5, "window": "10m"})
    assert bench.status() == {
        "name": RULE,
        "state": "open",
        "problem": "",
        "maxConcurrent": 2,
        "held": 0,
        "failed": 0,
        "lost": 0,
        "rate": {"count": 5, "windowS": 600, "used": 0},
        "haltedTargets": [],
        "pause": None,
        "blocks": [],
        "holders": [],
        "strays": [],
        "released": [],
    }


def test_status_shows_who_holds_and_since_when(bench: Bench) -> None:
    bench.apply(rate={"count": 5, "window": "10m"})
    held = bench.start("a.example.org")
    (holder,) = bench.status()["holders"]
    assert abs(time.time() - held.since) < 60
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(held.since))
    assert holder == {
        "host": "a.example.org",
        "slot": held.slot,
        "operation": "update",
        "target": "1.1",
        "reason": "x 1.0 -> 1.1",
        "since": since,
        "state": "working",
        "alive": True,
        "error": "",
    }
    text = bench.orlyctl("status", RULE).out
    assert "1 of 2 slots held, 0 failed, 0 lost, 1 of 5 in 10m started" in text
    assert "a.example.org" in text


def test_status_shows_what_failed_and_whom_that_halts(bench: Bench) -> None:
    bench.apply()
    bench.fail("a.example.org")
    status = bench.status()
    assert (status["state"], status["haltedTargets"], status["failed"]) == ("halted", ["1.1"], 1)
    assert [block["whom"] for block in status["blocks"]] == ["every host that wants 1.1"]
    text = bench.orlyctl("status", RULE).out
    assert text.startswith(f"{RULE}: halted for 1.1\n")
    assert "a.example.org: failed: Dead: exit code 1" in text
    row = bench.orlyctl("status").out.splitlines()[1]
    assert row.split() == [RULE, "halted", "for", "1.1", "2", "1", "1", "0", "-"]


def test_status_shows_that_a_failed_version_takes_slots_from_itself_alone(bench: Bench) -> None:
    bench.apply(max_concurrent=1, max_failures=3)
    bench.fail("a.example.org")
    status = bench.status()
    assert [(block["reason"], block["whom"]) for block in status["blocks"]] == [
        ("Full", "every host that wants 1.1")
    ]
    assert (status["held"], status["holders"][0]["slot"], status["strays"]) == (1, -1, [])
    bench.start("b.example.org", "1.2")
    status = bench.status()
    assert (status["held"], status["failed"]) == (2, 1)
    assert [block["whom"] for block in status["blocks"] if block["reason"] == "Full"] == [
        "every host without a slot"
    ]
    text = bench.orlyctl("status", RULE).out
    assert "2 of 1 slots held, 1 failed (each takes a slot from its own version alone)" in text
    ran = bench.orlyctl("delete-rule", RULE)
    assert (ran.code, "a.example.org (update to 1.1, failed)" in ran.err) == (1, True)
    assert bench.orlyctl("release", RULE, "a.example.org", "--reason", "seen").code == 0
    assert bench.status()["held"] == 1


def test_status_tells_full_rate_limited_and_frozen(bench: Bench) -> None:
    day = 24 * 3600
    dates = [time.strftime("%Y-%m-%d", time.gmtime(time.time() + d * day)) for d in (-2, 3)]
    bench.apply(max_concurrent=1, rate={"count": 1, "window": "10m"})
    bench.start("a.example.org")
    status = bench.status()
    assert status["state"] == "full"
    assert [block["reason"] for block in status["blocks"]] == ["Full", "RateLimited"]
    bench.apply(
        max_concurrent=5,
        rate={"count": 1, "window": "10m"},
        freeze=[{"from": dates[0], "to": dates[1], "reason": "holidays"}],
    )
    status = bench.status()
    assert [block["reason"] for block in status["blocks"]] == ["Frozen", "RateLimited"]
    assert (status["state"], "holidays" in status["blocks"][0]["message"]) == ("frozen", True)


def test_a_host_without_a_sign_of_life_is_lost(bench: Bench) -> None:
    bench.apply(max_concurrent=1)
    bench.start("a.example.org")
    bench.etcd.transact([], [], [f"{bench.prefix}alive/{RULE}/a.example.org"])
    status = bench.status()
    assert (status["lost"], status["holders"][0]["alive"]) == (1, False)
    (full,) = status["blocks"]
    assert f"orlyctl release {RULE} HOST" in full["message"]


def test_nothing_that_hosts_write_speaks_to_the_terminal(bench: Bench) -> None:
    bench.apply()
    value = {
        "host": "a",
        "slot": 0,
        "target": "1\x1b[2J",
        "state": "failed",
        "error": "\x1b]0;x\x07",
    }
    bench.put(f"holders/{RULE}/a", json.dumps(value))
    bench.put(f"slots/{RULE}/00000", '{"host": "a"}')
    bench.put(f"failed/{RULE}/a", json.dumps({"target": "1\x1b[2J"}))
    shown = [bench.orlyctl("status", RULE), bench.orlyctl("status")]
    refused = bench.orlyctl("delete-rule", RULE)
    assert refused.code == 1
    assert "\x1b" not in "".join(ran.out for ran in shown) + refused.err
    assert bench.status()["holders"][0]["target"] == "1\x1b[2J"


# -- release -----------------------------------------------------------------------------------


def test_release_gives_the_slot_back_and_leaves_a_note_on_a_lease(bench: Bench) -> None:
    bench.apply(max_concurrent=1)
    held = bench.start("a.example.org")
    words = ("release", RULE, "a.example.org", "--reason", "dead disk")
    ran = bench.orlyctl(*words, SUDO_USER="ann")
    assert ran.code == 0
    assert "asks again before it disturbs" in ran.out
    assert bench.gate("a.example.org").find("x") is None
    assert bench.gate("a.example.org").renew(held) is None
    bench.start("b.example.org")
    (note,) = bench.status()["released"]
    assert (note["host"], note["reason"]) == ("a.example.org", "dead disk")
    assert note["by"].startswith("ann@")
    (found,) = bench.etcd.read(Range(f"{bench.prefix}released/{RULE}/a.example.org")).found
    assert bench.etcd.keep_alive(found[0].lease) == 7 * 24 * 3600
    assert bench.orlyctl(*words).code == 1


def test_release_of_a_failed_host_ends_the_halt(bench: Bench) -> None:
    bench.apply()
    bench.fail("a.example.org")
    ran = bench.orlyctl("release", RULE, "a.example.org", "--reason", "was the host")
    assert "its failure counts no more: other hosts may get 1.1 now" in ran.out
    bench.start("b.example.org", "1.1")


def test_release_of_who_holds_nothing_is_1_and_says_who_does(bench: Bench) -> None:
    bench.apply()
    bench.start("a.example.org")
    ran = bench.orlyctl("release", RULE, "b.example.org", "--reason", "w")
    assert ran.code == 1
    assert ran.err == f"orlyctl: b.example.org holds no slot of {RULE}; a.example.org does\n"
    assert "released" not in " ".join(bench.keys())


def test_a_slot_without_a_record_is_shown_and_can_be_released(bench: Bench) -> None:
    bench.apply()
    bench.put(f"slots/{RULE}/00001", '{"host": "a.example.org", "id": "i"}')
    assert bench.status()["strays"] == [{"slot": 1, "host": "a.example.org"}]
    assert "slot 1 is a.example.org's without a record" in bench.orlyctl("status", RULE).out
    assert bench.orlyctl("release", RULE, "a.example.org", "--reason", "w").code == 0
    assert bench.status()["strays"] == []


# -- pause, resume -----------------------------------------------------------------------------


def test_a_pause_lets_nobody_start_until_it_is_resumed(bench: Bench) -> None:
    bench.apply()
    ran = bench.orlyctl("pause", RULE, "--reason", "look at this", SUDO_USER="ann")
    assert (ran.code, ran.out) == (0, f"{RULE}: paused; no further daemon is stopped\n")
    answer = bench.gate("a").ask(SlotRequest("x", "update", "1.1"))
    assert getattr(answer, "reason", "") == "Paused"
    status = bench.status()
    assert status["state"] == "paused"
    assert status["pause"]["reason"] == "look at this"
    assert status["pause"]["by"].startswith("ann@")
    ran = bench.orlyctl("resume", RULE)
    assert ran.code == 0
    assert ran.out.startswith(f"{RULE}: resumed; was paused by ann@")
    bench.start("a")


def test_pausing_and_resuming_twice_says_what_was(bench: Bench) -> None:
    bench.apply()
    bench.orlyctl("pause", RULE, "--reason", "one", SUDO_USER="ann")
    first = bench.status()["pause"]
    again = bench.orlyctl("pause", RULE, "--reason", "one", SUDO_USER="bob")
    assert again.code == 0
    assert again.out.startswith(f"{RULE}: is already paused by ann@")
    assert bench.status()["pause"] == first
    other = bench.orlyctl("pause", RULE, "--reason", "two", SUDO_USER="bob")
    assert "was paused by ann@" in other.out
    assert bench.status()["pause"]["reason"] == "two"
    assert bench.orlyctl("resume", RULE).code == 0
    ran = bench.orlyctl("resume", RULE)
    assert (ran.code, ran.out) == (0, f"{RULE}: was not paused\n")


def test_applying_does_not_resume_a_pause_and_says_so(bench: Bench) -> None:
    bench.apply()
    bench.orlyctl("pause", RULE, "--reason", "look at this")
    said = bench.apply(max_concurrent=7)
    assert said.startswith(f"{RULE}: changed: max_concurrent 2 -> 7; paused by ")
    assert f"orlyctl resume {RULE} ends that" in said
    assert bench.status()["state"] == "paused"


# -- where etcd is, exit codes -----------------------------------------------------------------


def test_flags_go_over_the_variable_and_that_over_the_settings_file(
    bench: Bench, tmp_path: Path
) -> None:
    bench.apply()
    nobody = f"http://127.0.0.1:{find_free_ports(1)[0]}"
    config = tmp_path / "settings.yaml"
    config.write_text(f"gate: {{endpoints: ['{bench.url}'], prefix: '{bench.prefix}'}}\n")
    assert RULE in run("list", "--config", str(config)).out
    assert run("list", "--config", str(config), ORLY_ENDPOINTS=nobody).code == 3
    flags = ("--endpoints", f"{nobody},{bench.url}")
    ran = run(*flags, "list", "--config", str(config), ORLY_ENDPOINTS=nobody)
    assert (ran.code, RULE in ran.out) == (0, True)
    ran = run("list", "--prefix", "/elsewhere/", "--config", str(config))
    assert (ran.code, ran.out) == (0, "no rules\n")


def test_without_endpoints_it_is_2_with_the_remedy(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("{}\n")
    ran = run("list", "--config", str(config))
    assert ran.code == 2
    assert "--endpoints" in ran.err
    assert "ORLY_ENDPOINTS" in ran.err
    config.write_text("gate: {type: fleetlock, endpoints: ['http://127.0.0.1:1']}\n")
    ran = run("list", "--config", str(config))
    assert ran.code == 2
    assert "fleetlock" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--endpoints", "ftp://a"),
        ("get", "a/b"),
        ("release", RULE, "h"),
        ("pause", RULE, "--reason", " "),
        ("apply-rule",),
        ("status", "--config", "/nowhere/settings.yaml"),
    ],
)
def test_what_cannot_be_used_is_2(words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err


def test_an_etcd_that_does_not_answer_is_3_within_seconds(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        ran = run("list", "--endpoints", f"http://127.0.0.1:{mute.getsockname()[1]}")
        took = time.monotonic() - began
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("orlyctl: ")
    # The deadline is 5 s; a machine that is busy starts Python slowly.
    assert took < 15
    # A file that cannot be used is said before etcd is asked.
    nobody = {"ORLY_ENDPOINTS": "http://127.0.0.1:1"}
    assert run("apply-rule", "-f", "/nowhere/r.yaml", **nobody).code == 2
    ran = run("apply-rule", "-f", bench.write(), **nobody)
    assert (ran.code, ran.out) == (3, "")


def test_etcd_that_refuses_us_is_3_without_the_password(
    etcd_programs: None, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("so-secret\n")
    password.chmod(0o600)
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-one\n")
    wrong.chmod(0o600)
    with EtcdServer() as server:
        server.control("user", "add", "root:so-secret")
        server.control("user", "grant-role", "root", "root")
        server.control("auth", "enable")
        login = ("--endpoints", server.url, "--username", "root", "--password-file")
        assert run("list", *login, str(password)).code == 0
        for words in ((*login, str(wrong)), ("--endpoints", server.url)):
            ran = run("list", *words)
            assert (ran.code, ran.out) == (3, "")
            assert "not-the-one" not in ran.err


def test_simulate_is_one_of_the_commands(bench: Bench) -> None:
    ran = run("simulate", "-f", bench.write(), "--hosts", "20", "-o", "json")
    assert ran.code == 0
    assert ran.data


# -- whoever listens -----------------------------------------------------------------------------


def run_in_shell(bench: Bench, script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    where = {"ORLY_ENDPOINTS": bench.url, "YA_SALT_GATE_PREFIX": bench.prefix}
    orlyctl = f"{sys.executable} -m ya_salt.cli.orlyctl"
    return subprocess.run(
        ["bash", "-c", f"{orlyctl} {script}"],
        env={**os.environ, **where, **variables},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("listeners", [">/dev/full", ">&- 2>&-", "| true"])
def test_what_is_done_does_not_depend_on_who_listens(bench: Bench, listeners: str) -> None:
    bench.apply()
    script = f"pause {RULE} --reason tired {listeners}; exit ${{PIPESTATUS[0]}}"
    done = run_in_shell(bench, script)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert bench.status()["state"] == "paused"


def test_any_text_is_shown_in_any_locale(bench: Bench) -> None:
    bench.apply()
    assert bench.orlyctl("pause", RULE, "--reason", "Größe 🔥").code == 0
    for encoding in ("ascii", "koi8-r"):
        for form in ("table", "json", "yaml"):
            done = run_in_shell(bench, f"status {RULE} -o {form}", PYTHONIOENCODING=encoding)
            assert done.returncode == 0, done.stderr
            shown = done.stdout.decode(encoding)
            if form == "table":
                assert "u0001f525" in shown.lower()
            else:
                data = json.loads(shown) if form == "json" else yaml.safe_load(shown)
                assert data["rules"][0]["pause"]["reason"] == "Größe 🔥"
