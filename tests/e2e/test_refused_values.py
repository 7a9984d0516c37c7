"""A value that portod refuses never costs a running daemon its life, whenever it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.drift import decode_last_applied
from ya_salt.errors import PortoError
from ya_salt.porto.client import PortoClient

NAME = "standing"
GOOD = "memory_limit: 64Mb\nenv: {A: '1', B: 'x;y'}\nlabels: {TEAM.x: a}\nulimit: {nofile: 10 20}"

# A network of its own could be taken from the one that runs, so nothing is started to try it.
UNSTARTABLE = "net: L3 veth\ncapabilities: [KILL]\ncapabilities_ambient: [SYS_ADMIN]"

SEEN_BEFORE_THE_STOP = [
    # What only a start refuses: seen on the host, or by starting something else first.
    ("a folder that is not there", "cwd: /nonexistent", "InvalidPath", "cwd"),
    ("a folder that is a file", "cwd: /etc/passwd", "InvalidPath", "cwd"),
    ("input that is not there", "stdin_path: /nonexistent", "InvalidValue", "stdin_path"),
    ("a root that is not there", "root: /nonexistent", "InvalidPath", "root"),
    ("output that has no folder", "stdout_path: /nonexistent/log", "InvalidValue", "stdout_path"),
    (
        "output that its user may not make",
        "user: nobody\nstdout_path: /etc/no-such-log",
        "InvalidValue",
        "stdout_path",
    ),
    ("output into a folder", "stderr_path: /tmp", "InvalidValue", "stderr_path"),
    ("a link where a folder is", "symlink: {/tmp: /var}", "InvalidValue", "symlink"),
    (
        "a link of host mode where its user may not write",
        "virt_mode: host\nuser: nobody\nsymlink: {/etc/no-such-link: /var}",
        "Permission",
        "symlink",
    ),
    ("a volume that is not there", "volumes_required: [/nonexistent]", "VolumeNotFound", "volume"),
    ("a place of the system", "place: [/etc]", "Permission", "/etc"),
    (
        "a capability that is out of bounds",
        "capabilities: [KILL]\ncapabilities_ambient: [SYS_ADMIN]",
        "Permission",
        "SYS_ADMIN",
    ),
    # What portod refuses when it is set.
    ("a user that is not there", "user: nosuchuser", "InvalidValue", "nosuchuser"),
    ("a group that is not there", "group: nosuchgroup", "InvalidValue", "nosuchgroup"),
    ("a filter that is none", "seccomp: bogus", "InvalidValue", "seccomp"),
    ("what the host does not support", "anon_limit: 10Mb", "NotSupported", "anon_limit"),
]
COMMANDS = [
    ("a program that is not there", "cmd: [/nonexistent/program]", "cmd"),
    ("a program that is nowhere in PATH", "cmd: [nosuchprogram]", "nosuchprogram"),
    ("a file that is no program", "cmd: [/etc/passwd]", "/etc/passwd"),
    ("a folder", "cmd: [/etc]", "/etc"),
    ("a command as one string", "command: /nonexistent/program --now", "cmd"),
    ("a variable that nobody sets", "command: sleep 1000 $NO_SUCH_VARIABLE", "undefined"),
]


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def passes(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    made.write(NAME, GOOD)
    made.run_one()
    yield made
    made.remove_all()


def read(passes: Passes, *names: str) -> dict[str, str]:
    with passes.client() as client:
        return client.get([NAME], ["state", "root_pid", *names])[NAME]


def check_stands(passes: Passes, before: dict[str, str]) -> str:
    """A pass that fails and leaves the process alone; what it says."""
    result = passes.run()
    assert not result.ok
    (status,) = result.statuses
    assert read(passes) == before
    assert before["state"] == "running"
    assert "the old one runs on" in status.error
    assert "ya-salt-rehearsal" not in status.error
    with passes.client() as client:
        assert list(client.get(["***"], ["state"])) == [NAME]
    return f"{status.ready.reason if status.ready else ''}: {status.error}"


@pytest.mark.parametrize(
    ("what", "properties", "code", "word"),
    SEEN_BEFORE_THE_STOP,
    ids=[row[0] for row in SEEN_BEFORE_THE_STOP],
)
def test_a_refused_value_leaves_the_old_process_alone(
    passes: Passes, what: str, properties: str, code: str, word: str
) -> None:
    before = read(passes)
    passes.write(NAME, f"{GOOD}\n{properties}")
    said = check_stands(passes, before)
    assert code in said
    assert word in said
    # The next pass says the same, and repaired it goes on.
    assert check_stands(passes, before) == said
    passes.write(NAME, f"{GOOD}\ncwd: /tmp")
    assert passes.run_one().restart_count == 1


@pytest.mark.parametrize(("what", "command", "word"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_a_program_that_cannot_run_leaves_the_old_process_alone(
    passes: Passes, what: str, command: str, word: str
) -> None:
    before = read(passes)
    passes.write(NAME, GOOD, command=command)
    said = check_stands(passes, before)
    assert said.startswith("InvalidCommand")
    assert word in said


def test_a_program_that_its_user_may_not_execute(passes: Passes, folder: Path) -> None:
    program = folder / "program"
    program.write_text("#!/bin/sh\nsleep 1000\n")
    program.chmod(0o700)
    folder.chmod(0o755)
    before = read(passes)
    passes.write(NAME, f"{GOOD}\nuser: nobody\ngroup: nogroup", command=f"cmd: [{program}]")
    if os.geteuid() == 0:
        assert "nobody" in check_stands(passes, before)
    program.chmod(0o755)
    program.write_text("#!/nonexistent/sh\n")
    passes.write(NAME, GOOD, command=f"cmd: [{program}]")
    assert "/nonexistent/sh" in check_stands(passes, before)


def test_what_only_the_real_start_refuses_brings_the_old_one_back(passes: Passes) -> None:
    before = read(passes, "env", "ulimit", "memory_limit", "labels", "command_argv")
    passes.write(NAME, f"{GOOD}\n{UNSTARTABLE}")
    (status,) = passes.run().statuses
    after = read(passes, "env", "ulimit", "memory_limit", "labels", "command_argv")
    assert "brought back" in status.error
    assert {**after, "root_pid": ""} == {**before, "root_pid": ""}
    assert after["state"] == "running"
    assert status.restart_count == 1
    # Told, and not tried again: each try would cost a process.
    for _ in range(2):
        (status,) = passes.run().statuses
        assert status.ready is not None
        assert status.ready.reason == "Refused"
        assert f"ya-salt retry {NAME}" in status.error
        assert read(passes)["root_pid"] == after["root_pid"]
    assert not passes.plan()[NAME].steps
    # Dead, it is started as it was; repaired, the new one comes.
    with passes.client() as client:
        client.set_property(NAME, "respawn", "false")
        client.kill(NAME, 9)
        assert client.wait_dead(NAME, 10)
    passes.run()
    assert read(passes)["state"] == "running"
    passes.write(NAME, GOOD)
    assert passes.run_one().ready
    assert passes.run_one().actions == ()


def test_secrets_come_back_as_far_as_the_new_spec_has_them(passes: Passes) -> None:
    passes.write(NAME, f"{GOOD}\nenv_secret: {{KEPT: one, DROPPED: two}}")
    passes.run_one()
    passes.write(NAME, f"{GOOD}\n{UNSTARTABLE}\nenv_secret: {{KEPT: one}}")
    (status,) = passes.run().statuses
    assert "without env_secret[DROPPED]" in status.error
    assert "two" not in status.error
    environ = Path(f"/proc/{read(passes)['root_pid']}/environ").read_text().split("\0")
    assert "KEPT=one" in environ
    # What is lost is remembered as lost: it comes with the spec that has it.
    passes.write(NAME, f"{GOOD}\nenv_secret: {{KEPT: one, DROPPED: two}}")
    assert passes.run_one().actions == ("restart: changed in the spec: env_secret[DROPPED]",)
    assert passes.run_one().actions == ()


def test_a_secret_that_came_from_the_new_spec_goes_with_it(passes: Passes) -> None:
    passes.write(NAME, f"{GOOD}\nenv_secret: {{TOKEN: one}}")
    passes.run_one()
    passes.write(NAME, f"{GOOD}\n{UNSTARTABLE}\nenv_secret: {{TOKEN: two}}")
    passes.run()
    passes.write(NAME, f"{GOOD}\nenv_secret: {{TOKEN: one}}")
    assert passes.run_one().actions == ("restart: changed in the spec: env_secret[TOKEN]",)
    environ = Path(f"/proc/{read(passes)['root_pid']}/environ").read_text().split("\0")
    assert "TOKEN=one" in environ


@pytest.mark.parametrize("nth", range(5))
def test_a_portod_that_is_reloaded_within_a_live_change_or_a_start(
    passes: Passes, portod: DevPortod, nth: int
) -> None:
    class Reloaded(PortoClient):
        """portod drops every connection right after its n-th write."""

        left = nth

        def _write(self, *arguments, **more):
            answer = super()._write(*arguments, **more)
            Reloaded.left -= 1
            if Reloaded.left == -1:
                portod.reload()
            return answer

    with passes.client() as client:
        client.stop(NAME, 1)
    passes.write(NAME, f"{GOOD}\ncpu_limit: 1c\nthread_limit: 70")
    result = passes.run(Reloaded)
    assert result.ok, result.statuses
    after = read(passes, "cpu_limit", "thread_limit")
    assert (after["state"], after["cpu_limit"], after["thread_limit"]) == ("running", "1c", "70")
    assert passes.run_one().actions == ()


def test_what_was_refused_is_tried_again_on_demand(passes: Passes) -> None:
    passes.write(NAME, f"{GOOD}\n{UNSTARTABLE}")
    passes.run()
    process = read(passes)["root_pid"]
    (status,) = passes.run(restarts={NAME: "asked for"}).statuses
    assert "brought back" in status.error
    assert read(passes)["root_pid"] != process


def test_what_asks_for_nothing_is_no_request_where_it_is_not_supported(passes: Passes) -> None:
    passes.write(
        NAME,
        f"{GOOD}\nanon_only: false\nanon_limit: 0\nmemory_lock_policy: disabled\n"
        "recharge_on_pgfault: false\nmemory_guarantee: 0",
    )
    passes.run_one()
    assert passes.run_one().actions == ()


def test_a_live_change_that_portod_refuses_ends(passes: Passes) -> None:
    # conformance/limits-without-their-controller: NotSupported, not InvalidState.
    passes.write(NAME, f"{GOOD}\nnet_tos: CS1")
    (status,) = passes.run().statuses
    again = passes.run()
    assert again.ok == status.ready.status if status.ready else False
    assert not again.ok or not passes.plan()[NAME].steps
    assert read(passes)["state"] == "running"


def test_a_link_that_only_root_may_make_comes_with_a_restart(passes: Passes, folder: Path) -> None:
    # In a running container portod makes links as its user, at the start as who starts it.
    folder.chmod(0o755)
    passes.write(NAME, "user: nobody")
    passes.run_one()
    passes.write(NAME, f"user: nobody\nsymlink: {{{folder}/link: /tmp}}")
    status = passes.run_one()
    assert [action.split(":")[0] for action in status.actions] == ["restart"]
    assert str((folder / "link").resolve()) == "/tmp"
    assert passes.run_one().actions == ()


@pytest.mark.parametrize("is_respawning", [False, True])
def test_links_of_host_mode_are_made_whatever_state_it_was_in(
    passes: Passes, folder: Path, is_respawning: bool
) -> None:
    # conformance/symlink-live: in host mode no start makes them.
    passes.write(NAME, "virt_mode: host\nrespawn_delay: 100s")
    passes.run_one()
    with passes.client() as client:
        if is_respawning:
            client.kill(NAME, 9)
        else:
            client.stop(NAME, 1)
    passes.write(NAME, f"virt_mode: host\nrespawn_delay: 100s\nsymlink: {{{folder}/link: /tmp}}")
    passes.run_one()
    assert str((folder / "link").resolve()) == "/tmp"
    assert passes.run_one().actions == ()


def test_links_of_the_one_that_is_brought_back_lead_where_they_led(
    passes: Passes, folder: Path
) -> None:
    class Stumbling(PortoClient):
        """portod makes one link of the new container, and not the other."""

        def set_property(self, name: str, variable: str, value: str) -> None:
            if variable == f"symlink[{folder}/second]" and name == NAME and self.is_started:
                raise PortoError("Unknown", "no", f"set {name} {variable}")
            super().set_property(name, variable, value)

        is_started = False

        def start(self, name: str) -> None:
            super().start(name)
            self.is_started = self.is_started or name == NAME

    passes.write(NAME, f"virt_mode: host\nsymlink: {{{folder}/first: /tmp}}")
    passes.run_one()
    more = f"{folder}/first: /var, {folder}/second: /var"
    passes.write(NAME, f"virt_mode: host\ncwd: /tmp\nsymlink: {{{more}}}")
    (status,) = passes.run(Stumbling).statuses
    assert "brought back" in status.error
    assert str((folder / "first").resolve()) == "/tmp"


def test_a_rehearsal_is_seen_by_nobody(passes: Passes, folder: Path) -> None:
    link, log = folder / "link", folder / "log"
    log.write_text("kept\n")
    passes.write(NAME, f"{GOOD}\nsymlink: {{{link}: /tmp}}\nstdout_path: {log}")
    passes.run_one()
    seen: list[tuple[str, ...]] = []

    class Watched(PortoClient):
        """Somebody looks around whenever something is about to be started."""

        def start(self, name: str) -> None:
            if name != NAME:
                super().start(name)
                with passes.client() as other:
                    labels = other.get_property(name, "labels")
                    seen.append((name, labels, str(link.readlink()), log.read_text()))
                raise PortoError("InvalidValue", "no", f"start {name}")
            super().start(name)

    text = f"{GOOD}\nsymlink: {{{link}: /var}}\nstdout_path: {log}\ncwd: /tmp"
    passes.write(NAME, text)
    before = str(link.readlink())
    (status,) = passes.run(Watched).statuses
    assert "the old one runs on" in status.error
    assert seen == [(f"ya-salt-rehearsal.{NAME}", "", before, "kept\n")]
    assert str(link.readlink()) == before
    with passes.client() as client:
        assert list(client.get(["***"], ["state"])) == [NAME]


def test_somebody_elses_rehearsal_is_in_nobodys_way(passes: Passes) -> None:
    with passes.client() as client:
        client.create_weak(f"ya-salt-rehearsal.{NAME}")
        client.set_property(f"ya-salt-rehearsal.{NAME}", "weak", "false")
    passes.write(NAME, f"{GOOD}\ncwd: /tmp")
    status = passes.run_one()
    assert [action.split(":")[0] for action in status.actions] == ["restart"]
    with passes.client() as client:
        assert list(client.get(["***"], ["state"])) == [NAME]


def test_a_link_that_somebody_removed_is_taken_out(passes: Passes, folder: Path) -> None:
    # conformance/symlink-live: portod cannot remove what is not there, while it runs.
    link = folder / "link"
    passes.write(NAME, f"virt_mode: host\nsymlink: {{{link}: /tmp}}")
    passes.run_one()
    link.unlink(missing_ok=True)
    passes.write(NAME, "virt_mode: host")
    passes.run_one()
    assert passes.run_one().actions == ()


def test_what_is_ours_is_put_right_whoever_changed_it(passes: Passes) -> None:
    before = read(passes)
    for name, text in (("weak", "true"), ("aging_time", "60"), ("private", "mine")):
        keeper = passes.client()
        right = keeper.get([NAME], [name])[NAME][name]
        keeper.set_property(NAME, name, text)
        status = passes.run_one()
        assert [action.split(":")[0] for action in status.actions] == ["live change"]
        assert passes.run_one().actions == ()
        keeper.close()
        after = read(passes, name)
        assert after["root_pid"] == before["root_pid"]
        if name == "private":
            assert decode_last_applied(after[name]) is not None
        else:
            assert after[name] == right


def test_what_no_file_declares_is_nobodys(passes: Passes) -> None:
    with passes.client() as client:
        client.set_property(NAME, "thread_limit", "77")
        assert passes.run_one().actions == ()
        assert client.get_property(NAME, "thread_limit") == "77"


def test_a_change_by_hand_between_look_and_act_is_seen_by_the_next_pass(passes: Passes) -> None:
    class Meddled(PortoClient):
        """Somebody sets a limit right before our own change."""

        def set_property(self, name: str, variable: str, value: str) -> None:
            if variable == "cpu_limit":
                super().set_property(name, "memory_limit", "33554432")
            super().set_property(name, variable, value)

    passes.write(NAME, f"{GOOD}\ncpu_limit: 1c")
    passes.run(Meddled)
    assert read(passes, "memory_limit")["memory_limit"] == "33554432"
    status = passes.run_one()
    assert status.actions == ("live change: changed by somebody else: memory_limit",)
    assert read(passes, "memory_limit")["memory_limit"] == "67108864"


def test_hashes_of_secrets_need_the_hosts_key(passes: Passes) -> None:
    passes.write(NAME, f"{GOOD}\nenv_secret: {{TOKEN: hunter2}}")
    passes.run_one()
    key = Path(passes.settings.state_dir, "secret.key")
    assert key.stat().st_mode & 0o777 == 0o600
    before = read(passes, "private")
    key.unlink()
    status = passes.run_one()
    assert [action.split(":")[0] for action in status.actions] == ["live change"]
    after = read(passes, "private")
    assert after["root_pid"] == before["root_pid"]
    assert after["private"] != before["private"]
    assert passes.run_one().actions == ()
    passes.write(NAME, f"{GOOD}\nenv_secret: {{TOKEN: hunter3}}")
    assert passes.run_one().actions == ("restart: changed in the spec: env_secret[TOKEN]",)


@pytest.mark.parametrize("nth", range(24))
def test_a_portod_that_is_reloaded_within_a_restart_leaves_a_daemon(
    passes: Passes, portod: DevPortod, nth: int
) -> None:
    class Reloaded(PortoClient):
        """portod drops every connection before or after its n-th write."""

        left = nth

        def _write(self, *arguments, **more):
            Reloaded.left -= 1
            if Reloaded.left == -1 and nth % 2:
                portod.reload()
            answer = super()._write(*arguments, **more)
            if Reloaded.left == -1 and not nth % 2:
                portod.reload()
            return answer

    before = read(passes)
    passes.write(NAME, f"{GOOD}\ncwd: /tmp")
    result = passes.run(Reloaded)
    assert Reloaded.left < 0
    assert result.ok, result.statuses
    after = read(passes, "cwd", "weak")
    assert (after["state"], after["cwd"], after["weak"]) == ("running", "/tmp", "false")
    assert after["root_pid"] != before["root_pid"]
    assert passes.run_one().actions == ()
    passes.write(NAME, GOOD)
    passes.run_one()
