"""What changed files ask of the plan, case by case, and what is remembered of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ya_salt.converge.watched_files import expand, look_at
from ya_salt.converge.watching import Wish, find_wish, remember
from ya_salt.life import Life, SeenFile
from ya_salt.model import (
    LABEL,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    FileNow,
    Observed,
    Outcome,
    SignalContainer,
    StartContainer,
    Step,
    StepResult,
    Watch,
    WatchedFiles,
)

NOW = 10_000.0
SPEC = DaemonSpec("d", "1", "/specs/d.yaml", "digest", {}, (), watch=(Watch("/x"), Watch("/y")))
RUNS = Container("d", "running", {LABEL: "digest"}, started_at=5000)
OLD, NEW = SeenFile("old"), FileNow("new", changed_at=6000.0)


def look(
    found: dict[str, dict[str, FileNow]],
    watched: dict[str, dict[str, SeenFile]],
    container: Container | None = RUNS,
    **more: object,
) -> Observed:
    return Observed(
        containers={} if container is None else {"d": container},
        lives={"d": Life(watched=watched)},
        files={"d": replace(WatchedFiles(found), **more)},
    )


@pytest.mark.parametrize(
    ("found", "watched", "restart"),
    [
        ({"/x": {"/x": NEW}}, {"/x": {"/x": OLD}}, "changed: /x"),
        ({"/x": {"/x": FileNow("old")}}, {"/x": {"/x": OLD}}, ""),
        ({"/x": {"/x": NEW}}, {"/x": {}}, "changed: /x (new)"),
        ({"/x": {"/x": FileNow("", changed_at=6000)}}, {"/x": {"/x": OLD}}, "changed: /x (gone)"),
        # The first look only learns; so does one at which the entry could not be told.
        ({"/x": {"/x": NEW}}, {}, ""),
        ({}, {"/x": {"/x": OLD}}, ""),
        # The process was started after it.
        ({"/x": {"/x": replace(NEW, changed_at=4999.9)}}, {"/x": {"/x": OLD}}, ""),
        ({"/x": {"/x": replace(NEW, changed_at=5000.5)}}, {"/x": {"/x": OLD}}, "changed: /x"),
    ],
)
def test_what_starts_it_anew(
    found: dict[str, dict[str, FileNow]], watched: dict[str, dict[str, SeenFile]], restart: str
) -> None:
    assert find_wish(SPEC, look(found, watched), NOW) == Wish(restart=restart)


def test_within_a_second_the_exact_start_counts() -> None:
    found = {"/x": {"/x": replace(NEW, changed_at=5000.5)}}
    watched = {"/x": {"/x": OLD}}
    assert not find_wish(SPEC, look(found, watched, started_at=5000.6), NOW).restart
    assert find_wish(SPEC, look(found, watched, started_at=5000.4), NOW).restart


@pytest.mark.parametrize("state", ["dead", "stopped", "respawning", "starting", "absent"])
def test_one_that_does_not_run_is_neither_told_nor_restarted(state: str) -> None:
    container = None if state == "absent" else replace(RUNS, state=state)
    observed = look({"/x": {"/x": NEW}}, {"/x": {"/x": OLD}}, container)
    assert find_wish(SPEC, observed, NOW) == Wish()
    # And the change stays one.
    assert remember(SPEC, observed, None, NOW).watched["/x"]["/x"] == OLD


def signals(*watches: Watch, hostname: str = "h", noticed: float | None = None) -> Wish:
    paths = {watch.name for watch in watches}
    observed = look({path: {"/f": NEW} for path in paths}, {path: {"/f": OLD} for path in paths})
    life = replace(observed.lives["d"], noticed={"/f": noticed} if noticed else {})
    observed = replace(observed, hostname=hostname, lives={"d": life})
    return find_wish(replace(SPEC, watch=watches), observed, NOW)


def test_signals() -> None:
    (step,) = signals(Watch("/f", "SIGHUP")).signals
    assert step == SignalContainer("d", "SIGHUP", "changed: /f", {"/f": "new"})
    both = signals(Watch("/f", "SIGHUP"), Watch("/*", "SIGUSR1"))
    assert [item.signal for item in both.signals] == ["SIGHUP", "SIGUSR1"]
    assert signals(Watch("/f", "SIGHUP"), Watch("/*")) == Wish(restart="changed: /f")


def test_hosts_spread_a_signal_each_at_its_own_moment() -> None:
    due = set()
    for number in range(100):
        watch = Watch("/f", "SIGHUP", 100.0)
        waits = signals(watch, hostname=f"h{number}", noticed=NOW)
        assert waits == signals(watch, hostname=f"h{number}", noticed=NOW)
        assert not waits.signals
        due.add(waits.notes)
        assert signals(watch, hostname=f"h{number}", noticed=NOW - 100).signals
    assert len(due) > 50
    early = [
        signals(Watch("/f", "SIGHUP", 100.0), hostname=f"h{n}", noticed=NOW - 50)
        for n in range(100)
    ]
    assert 30 < sum(bool(wish.signals) for wish in early) < 70


def test_what_cannot_be_told_is_a_warning_and_is_kept() -> None:
    observed = look({"/x": {}}, {"/x": {"/x": OLD}}, unknown={"/x": "no permission"})
    assert find_wish(SPEC, observed, NOW) == Wish(notes=("/x: not watched now: no permission",))
    assert remember(SPEC, observed, None, NOW).watched == {"/x": {"/x": OLD}}


@pytest.mark.parametrize(
    ("step", "is_seen"),
    [
        (CreateContainer(SPEC, "new"), True),
        (StartContainer("d", "dead", "dead"), True),
        (StartContainer("d", "paused", "paused"), False),
        (SignalContainer("d", "SIGHUP", "changed", {"/x": "new"}), True),
        (SignalContainer("d", "SIGHUP", "changed", {"/y": "new"}), False),
    ],
)
def test_what_was_seen_is_remembered(step: Step, is_seen: bool) -> None:
    observed = look({"/x": {"/x": NEW}}, {"/x": {"/x": OLD}})
    outcome = Outcome(DaemonPlan("d"), (StepResult(step),))
    life = remember(SPEC, observed, outcome, NOW)
    assert life.watched == {"/x": {"/x": SeenFile("new") if is_seen else OLD}}
    assert life.noticed == ({} if is_seen else {"/x": NOW})
    failed = Outcome(DaemonPlan("d"), (StepResult(step, "it did not work"),))
    assert remember(SPEC, observed, failed, NOW).watched == {"/x": {"/x": OLD}}


def test_when_it_was_noticed_stays_while_it_waits() -> None:
    observed = look({"/x": {"/x": NEW}}, {"/x": {"/x": OLD}})
    life = remember(SPEC, observed, None, NOW)
    again = remember(SPEC, replace(observed, lives={"d": life}), None, NOW + 60)
    assert again.noticed == {"/x": NOW}


def test_an_entry_that_is_gone_is_forgotten() -> None:
    observed = look({}, {"/x": {"/x": OLD}})
    assert remember(replace(SPEC, watch=()), observed, None, NOW).watched == {}


def test_wildcards_are_the_shells(tmp_path: Path) -> None:
    for name in ("a1/x.conf", "a2/x.conf", "a2/.x.conf", "b1/x.conf", "a1/y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def match(pattern: str) -> list[str]:
        return sorted(path.removeprefix(f"{tmp_path}/") for path in expand(f"{tmp_path}/{pattern}"))

    assert match("a?/*.conf") == ["a1/x.conf", "a2/x.conf"]
    assert match("a2/.*") == ["a2/.x.conf"]
    assert match("[!b]*/x.conf") == ["a1/x.conf", "a2/x.conf"]
    assert match("*.conf") == []
    assert match("none/*") == []
    assert match("none/x") == ["none/x"]


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found = look_at(str(fifo))
    assert found is not None
    assert found.hash.startswith("kind")
    assert look_at(str(tmp_path)) is None
    missing = look_at(str(tmp_path / "none"))
    assert missing is not None
    assert missing.hash == ""


def test_a_link_that_somebody_else_has_made_is_not_followed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a link away")
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    assert look_at(str(link)) is not None
    os.lchown(link, 12345, 12345)
    with pytest.raises(OSError, match="12345"):
        look_at(str(link))


def test_a_large_file_is_compared_by_size_and_time(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 33)
    found = look_at(str(large))
    assert found is not None
    assert found.hash.startswith(f"size {1 << 33} at ")
