"""What a daemon's messages come to, and whose word counts."""

from __future__ import annotations

import pytest

from ya_salt.agent.drainer import find_container
from ya_salt.told import (
    ENDING,
    Told,
    decode,
    drop_before,
    encode,
    find_deadline,
    is_news,
    is_worth_keeping,
    judge,
    note_missed,
    parse_message,
    take,
)

START, PATIENCE_S = 100.0, 300.0


def hear(*said: tuple[float, str], since: float = 50.0) -> Told:
    told = Told(listened_since=since)
    for at, text in said:
        told = take(told, parse_message(text.encode()), at)
    return told


@pytest.mark.parametrize(
    ("said", "now", "says", "words"),
    [
        ([], 101, "no", "has not said READY=1"),
        ([(101, "READY=1")], 101, "yes", "READY=1"),
        ([(101, "READY=0")], 101, "no", "has not said READY=1"),
        ([(101, "READY=1\nSTATUS=well  done\n")], 101, "yes", "READY=1: well done"),
        ([(101, "STATUS=starts"), (102, "X=1")], 102, "no", "has not said READY=1: starts"),
        # Another process has said so.
        ([(99, "READY=1\nSTATUS=old")], 101, "no", "has not said READY=1"),
        ([(99, "STOPPING=1"), (101, "READY=1")], 101, "yes", "READY=1"),
        ([(101, "READY=1"), (102, "RELOADING=1")], 103, "yes", "RELOADING=1"),
        ([(101, "READY=1"), (102, "RELOADING=1")], 403, "no", "RELOADING=1 without READY=1"),
        ([(101, "READY=1"), (102, "RELOADING=1"), (103, "READY=1")], 500, "yes", "READY=1"),
        ([(101, "READY=1"), (102, "STOPPING=1")], 103, "wait", ENDING),
        ([(101, "READY=1"), (102, "STOPPING=1")], 403, "no", ENDING),
        ([(101, "READY=1"), (102, "STOPPING=1"), (103, "READY=1")], 104, "yes", "READY=1"),
        ([(101, "EXTEND_TIMEOUT_USEC=9000000")], 105, "wait", "asked for more time"),
        ([(101, "EXTEND_TIMEOUT_USEC=9000000")], 111, "no", "has not said READY=1"),
        ([(99, "EXTEND_TIMEOUT_USEC=9000000")], 105, "no", "has not said READY=1"),
        (
            [(101, "READY=1"), (102, "STOPPING=1\nEXTEND_TIMEOUT_USEC=500000000")],
            500,
            "wait",
            ENDING,
        ),
        ([(101, "READY=1"), (102, "WATCHDOG=trigger")], 103, "no", "WATCHDOG=trigger"),
        ([(101, "READY=1"), (102, "WATCHDOG=trigger"), (103, "WATCHDOG=1")], 104, "yes", "READY"),
    ],
)
def test_verdict(said: list[tuple[float, str]], now: float, says: str, words: str) -> None:
    word = judge(hear(*said), START, now, 0.0, PATIENCE_S)
    assert word.says == says
    assert word.words.startswith(words) or words in word.words


def test_what_was_said_before_anybody_listened_is_unknown() -> None:
    assert judge(hear(since=102), START, 500, 0.0, PATIENCE_S).says == "unknown"
    # What it says later counts.
    assert judge(hear((103, "READY=1"), since=102), START, 500, 0.0, PATIENCE_S).says == "yes"


def test_a_sign_of_life_is_waited_for_once_it_is_ready() -> None:
    assert find_deadline(hear((101, "WATCHDOG=1")), 5.0, 0.0) == 0.0
    ready = hear((101, "READY=1"))
    assert find_deadline(ready, 5.0, 0.0) == 106.0
    assert find_deadline(ready, 0.0, 0.0) == 0.0
    assert find_deadline(hear((101, "READY=1"), (104, "WATCHDOG=1")), 5.0, 0.0) == 109.0
    # It has its own mind; nobody could hear it before; a machine that slept is no daemon's fault.
    assert find_deadline(hear((101, "READY=1\nWATCHDOG_USEC=9000000")), 5.0, 0.0) == 110.0
    assert find_deadline(hear((101, "READY=1"), since=103), 5.0, 0.0) == 108.0
    assert find_deadline(ready, 5.0, 120.0) == 125.0
    assert find_deadline(hear((101, "READY=1"), (102, "STOPPING=1")), 5.0, 0.0) == 0.0
    missed = note_missed(ready)
    assert find_deadline(missed, 5.0, 0.0) == 0.0
    assert judge(missed, START, 107, 5.0, PATIENCE_S).words == "no WATCHDOG=1 within 5 s"
    alive = take(missed, {"WATCHDOG": "1"}, 110)
    assert judge(alive, START, 110, 5.0, PATIENCE_S).says == "yes"
    # Of the process before it that was missed.
    later = take(missed, {"READY": "1"}, 131)
    assert judge(later, 130.0, 131, 5.0, PATIENCE_S).says == "yes"


def test_only_what_may_change_a_verdict_is_news() -> None:
    ready = hear((101, "READY=1"))
    assert is_news(Told(), ready)
    assert is_news(ready, take(ready, {"READY": "1"}, 102))
    for message in ({"WATCHDOG": "1"}, {"STATUS": "x"}, {"X": "1"}):
        assert not is_news(ready, take(ready, message, 102))
    assert not is_worth_keeping(ready, take(ready, {"WATCHDOG": "1"}, 102))
    assert is_worth_keeping(ready, take(ready, {"STATUS": "x"}, 102))
    assert is_news(note_missed(ready), take(note_missed(ready), {"WATCHDOG": "1"}, 102))


def test_what_is_kept_reads_the_same_again() -> None:
    told = hear((101, "READY=1\nSTATUS=ü\nWATCHDOG_USEC=7"), (102, "RELOADING=1"))
    assert decode(encode(told)) == told
    assert decode({}) == Told()
    # Of a later version.
    assert decode({**encode(told), "more": [1]}) == told
    for damaged in (None, [], {"ready_at": "x"}, {"status": 1}, {"ready_at": True}):
        with pytest.raises(ValueError, match="no "):
            decode(damaged)


def test_a_message_is_read_whatever_it_holds() -> None:
    assert parse_message(b"A=1\nB\n=2\nC=a=b\nA=2\n\xff=\xfe") == {"A": "2", "C": "a=b", "�": "�"}
    status = take(Told(), parse_message(b"STATUS=\x1b[31m" + b"x" * 4000), 1.0).status
    assert "\x1b" not in status
    assert len(status) == 200
    for text in ("-1", "x", "", "1" * 40, "٣"):
        assert take(Told(), {"EXTEND_TIMEOUT_USEC": text}, 1.0) == Told()
    assert take(Told(), {"EXTEND_TIMEOUT_USEC": "9" * 19}, 1.0).until == 86401.0


def test_the_word_of_an_earlier_process_is_dropped() -> None:
    told = hear((99, "READY=1\nSTATUS=x\nWATCHDOG_USEC=7000000\nEXTEND_TIMEOUT_USEC=1"))
    assert drop_before(told, START) == Told(listened_since=50.0)
    assert drop_before(told, 99.0) == told


@pytest.mark.parametrize(
    ("text", "container"),
    [
        ("12:freezer:/porto/d\n0::/porto/d\n", "d"),
        ("12:memory:/porto%other\n7:freezer:/porto/d/ya-salt-probe\n", "d/ya-salt-probe"),
        ("0::/porto/d\n", "d"),
        ("12:freezer:/\n0::/user.slice/user-0.slice\n", ""),
        # Somebody's own group of that name in another hierarchy.
        ("9:memory:/porto/d\n3:name=systemd:/porto/d\n12:freezer:/\n", ""),
        ("", ""),
        ("nonsense\n", ""),
    ],
)
def test_control_groups_tell_the_container(text: str, container: str) -> None:
    assert find_container(text) == container
