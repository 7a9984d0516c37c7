"""The same trouble again and again is a line a minute."""

from __future__ import annotations

import logging

from ya_salt.agent.repeats import Repeats


class Log:
    """What comes through at which time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repeats = Repeats(lambda: self.now)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        record = logging.LogRecord("x", logging.INFO, "", 0, text, (), None)
        if self.repeats.filter(record):
            self.lines.append(record.getMessage())


def test_an_hour_of_the_same_is_a_line_a_minute_with_its_count() -> None:
    log = Log()
    for second in range(3600):
        log.now = float(second)
        log.say(f"pass: failed, portod cannot be asked: no answer in time (call {second})")
    assert len(log.lines) == 60
    assert log.lines[1].endswith("(and 59 more like it)")


def test_each_daemon_has_its_own_lines_also_where_names_differ_in_numbers() -> None:
    log = Log()
    for number in range(3):
        log.say(f"porto-daemon-web{number}: start: it is dead")
    log.say("porto-daemon-web0: ready reason=Ready: running for 1 s")
    log.say("porto-daemon-web0: ready reason=Ready: running for 2 s")
    assert len(log.lines) == 4


def test_what_does_not_come_again_is_counted_all_the_same() -> None:
    log = Log()
    for _ in range(5):
        log.say("porto-daemon-one: start: it is dead")
    assert log.repeats.take_over() == []
    log.now = 61.0
    assert log.repeats.take_over() == ["porto-daemon-one: start: it is dead (and 4 more like it)"]
    assert log.repeats.take_over() == []


def test_however_many_reasons_there_are_its_memory_is_bounded() -> None:
    log = Log()
    for number in range(10_000):
        log.say(f"porto-daemon-d{number}: start: it is dead")
    assert len(log.lines) == 10_000
    assert len(log.repeats._kinds) <= 500
