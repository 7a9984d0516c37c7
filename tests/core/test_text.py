"""Text from outside reaches nobody's terminal raw."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ya_salt.text import printable, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the lock is broken", "the lock is broken"),
        ("Größe 7 µs, 日本, 🙂", "Größe 7 µs, 日本, 🙂"),
        (" two\r\nlines\tand\x0b more \n", "two lines and more"),
        ("line\u2028or\u2029paragraph\x85next\u00a0word", "line or paragraph next word"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("\x9b31mred\x7f\x00", "\\x9b31mred\\x7f\\x00"),
        ("user\u202etxt.exe\u202c", "user\\u202etxt.exe\\u202c"),
        ("\u2066a\u2069\u200fb\u200b\ufeff", "\\u2066a\\u2069\\u200fb\\u200b\\ufeff"),
        ("\udc9b\U000e0041", "\\udc9b\\U000e0041"),
        ("", ""),
    ],
)
def test_what_does_not_show_itself_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.characters(), max_size=50), st.integers(0, 60))
def test_nothing_that_steers_is_left(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {unicodedata.category(char) for char in shown} & hidden
    assert shown.splitlines() in ([], [shown])
    assert shown.isascii() or shown.encode()


def test_secrets_are_taken_out_wherever_they_are() -> None:
    assert redact("pass word, pass word!", ["pass word", ""]) == "***, ***!"
