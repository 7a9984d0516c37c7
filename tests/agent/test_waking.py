"""What wakes the agent, and how soon."""

from __future__ import annotations

import signal
import time

from helpers.agents import AgentHost, measure
from helpers.programs import wait_for

from ya_salt.store import read_store


def test_a_dropped_file_runs_within_two_seconds(host: AgentHost) -> None:
    host.start()
    took_s = measure(lambda: host.drop("one"), lambda: host.is_running("one"), "one runs")
    assert took_s < 2


def test_a_changed_limit_is_live_within_a_second(host: AgentHost) -> None:
    host.drop("one", "memory_limit: 100Mb")
    host.start()
    pid = host.value("one", "root_pid")
    took_s = measure(
        lambda: host.drop("one", "memory_limit: 200Mb"),
        lambda: host.value("one", "memory_limit") == str(200 << 20),
        "the new limit",
    )
    assert took_s < 1
    assert host.value("one", "root_pid") == pid


def test_a_killed_daemon_is_told_within_a_second(host: AgentHost) -> None:
    host.drop("one")
    host.start()
    before = host.last_pass()
    took_s = measure(
        lambda: host.kill_daemon("one"), lambda: host.last_pass() != before, "a pass has seen it"
    )
    assert took_s < 1
    assert "a pass, as porto-daemon-one: respawning" in host.log()


def test_a_dead_daemon_is_started_again_within_a_second(host: AgentHost) -> None:
    host.drop("one", "max_respawns: 0")
    host.start()
    old = host.value("one", "root_pid")
    took_s = measure(
        lambda: host.kill_daemon("one"),
        lambda: host.value("one", "root_pid") not in {"", old},
        "one runs again",
    )
    assert took_s < 1


def test_one_that_keeps_dying_is_started_when_it_has_rested(host: AgentHost) -> None:
    host.drop("one", "max_respawns: 0")
    host.start()
    for least_s, most_s in ((0, 1), (1, 3.5), (3, 5.5)):
        old = host.value("one", "root_pid")

        def has_new_process(old: str = old) -> bool:
            return host.value("one", "root_pid") not in {"", old}

        took_s = measure(lambda: host.kill_daemon("one"), has_new_process, "one runs again")
        assert least_s <= took_s < most_s


def test_a_pass_does_not_wake_the_next_one(host: AgentHost) -> None:
    host.start()
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs")
    time.sleep(1)
    assert host.passes() == 1, host.log()


def test_a_burst_is_one_pass(host: AgentHost) -> None:
    host.start()
    for number in range(20):
        host.drop(f"d{number}")
    wait_for(lambda: all(host.is_running(f"d{number}") for number in range(20)), "all run")
    time.sleep(0.5)
    assert host.passes() <= 2, host.log()


def test_a_half_written_file_waits_until_it_is_whole(host: AgentHost) -> None:
    host.start()
    text = host.text("one", "memory_limit: 100Mb")
    with (host.specs_dir / "one.yaml").open("w") as file:
        # What stands in the file so far is a valid spec of its own.
        file.write(text.replace("    memory_limit: 100Mb\n", ""))
        file.flush()
        host.drop("two")
        wait_for(lambda: host.is_running("two"), "two runs")
        assert host.value("one", "state") == ""
        file.write("    memory_limit: 100Mb\n")
    wait_for(lambda: host.is_running("one"), "one runs")
    assert host.value("one", "memory_limit") == str(100 << 20)
    assert "rejected" not in host.log()


def test_a_broken_file_is_told_soon_all_the_same(host: AgentHost) -> None:
    host.start()
    (host.specs_dir / "one.yaml").write_text("meta: {name: one}\nspec: [\n")
    wait_for(lambda: "porto-daemon-one" in host.log() and "rejected" in host.log(), "it is told", 5)


def test_settings_are_read_anew_when_their_file_changes_and_on_sighup(host: AgentHost) -> None:
    host.start()
    host.settings_file.write_text("interval_s: 1\n")
    wait_for(lambda: "the settings were read anew" in host.log(), "the settings are read")
    before = host.last_pass()
    wait_for(lambda: host.last_pass() != before, "a pass by the clock", 10)
    host.settings_file.write_text("no_such_setting: 1\n")
    wait_for(lambda: "the settings stay as they were" in host.log(), "the error is told")
    assert host.process is not None
    host.process.send_signal(signal.SIGHUP)
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "it works on")


def test_a_change_of_dpkg_wakes_it(host: AgentHost) -> None:
    host.start()
    status = host.root / "var/lib/dpkg/status"
    new = status.with_name("status-new")
    new.write_text("")
    new.rename(status)
    wait_for(lambda: "dpkg's status file changed" in host.log(), "a pass", 5)


def test_a_daemons_directory_that_comes_later_is_found(host: AgentHost) -> None:
    host.specs_dir.rmdir()
    host.begin()
    aside = host.folder / "aside"
    aside.mkdir(mode=0o755)
    (aside / "one.yaml").write_text(host.text("one"))
    aside.rename(host.specs_dir)
    wait_for(lambda: host.is_running("one"), "one runs", 5)
    host.drop("two")
    wait_for(lambda: host.is_running("two"), "two runs", 5)


def test_a_pass_that_waits_for_a_daemon_does_not_hold_up_another(host: AgentHost) -> None:
    host.drop("old", "max_respawns: 0")
    host.start()
    slow = host.text("slow").replace("min_ready_s: 0", "min_ready_s: 6\n  ready_timeout_s: 60")
    (host.specs_dir / "slow.yaml").write_text(slow)
    wait_for(lambda: host.is_running("slow"), "slow runs")
    assert measure(lambda: host.drop("one"), lambda: host.is_running("one"), "one runs") < 2
    old = host.value("old", "root_pid")
    took_s = measure(
        lambda: host.kill_daemon("old"),
        lambda: host.value("old", "root_pid") not in {"", old},
        "old runs again",
    )
    assert took_s < 2
    wait_for(lambda: "porto-daemon-slow: ready" in host.log(), "slow is told to be ready", 15)


def test_an_update_that_dies_in_its_probation_is_undone_at_once(host: AgentHost) -> None:
    """The pass that its death wakes comes before portod starts it again, and counts it."""
    host.drop("d")
    host.start()
    assert host.is_running("d")
    good = host.text("d").replace("version: '1'", "version: '2'")
    draft = host.folder / "draft"
    draft.write_text(
        good.replace("[sleep, '1000']", "[sh, -c, 'sleep 3; exit 4']\n    respawn_delay: 30s")
    )
    draft.rename(host.specs_dir / "d.yaml")

    def look() -> tuple[str, str, str]:
        store = read_store(str(host.state_dir))
        assert store
        status = store.load_records()["d"].status
        store.close()
        assert status
        assert status.ready
        return status.version, status.ready.reason, status.ready.message

    wait_for(lambda: look()[0] == "2", "the update")
    wait_for(lambda: look()[:2] == ("1", "RolledBack"), "the update is undone", 15)
    assert host.is_running("d")
    assert "after it had become ready" in look()[2]
