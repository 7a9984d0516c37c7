"""Values at the edges of what portod takes."""

from __future__ import annotations

import pytest

from ya_salt.porto import values

GOOD = [
    (values.parse_size, "9223372036854775807", "9223372036854775807"),
    (values.parse_size, "7E", str(7 << 60)),
    (values.parse_size, "1.9999b", "1"),
    (values.parse_size, "1tiB", str(1 << 40)),
    (values.parse_size, "1e3", "1000"),
    (values.parse_memory_limit, "1048576", "1048576"),
    (values.parse_memory_limit, "0K", "0"),
    (values.parse_cpu, "100%", "100"),
    (values.parse_cpu, "100000c", "100000c"),
    (values.parse_cpu, "0.0000000019c", "0.000000001c"),
    (values.parse_duration, "1000000", "1000000ns"),
    (values.parse_cpu_period, "1ms", "1000000"),
    (values.parse_cpu_period, "1s", "1000000000"),
    (values.parse_umask, "777", "0777"),
    (values.parse_rlimit, "1 1", "1 1"),
    (values.parse_rlimit, "0 INF", "0 unlimited"),
    (values.parse_command, "a 'x;y' \"|\" \\&", "a 'x;y' \"|\" \\&"),
    (values.check_label, "AB." + "x" * 125, "AB." + "x" * 125),
    (values.check_label, "A" * 16 + ".x", "A" * 16 + ".x"),
    (values.parse_label, "x" * 256, "x" * 256),
    (values.parse_hostname, "x" * 64, "x" * 64),
    (values.parse_user, "2147483647", "2147483647"),
    (values.parse_user, "x" * 31 + "$", "x" * 31 + "$"),
]


@pytest.mark.parametrize(("parse", "text", "expected"), GOOD)
def test_edge_is_taken(parse: object, text: str, expected: str) -> None:
    assert callable(parse)
    assert parse(text) == expected
    assert values.quote(text).isprintable()


BAD = [
    (values.parse_size, "9223372036854775808"),
    (values.parse_size, "12Bb"),
    (values.parse_size, "1Kib"),
    (values.parse_size, "1 K b"),
    (values.parse_size, "1e999999999"),
    (values.parse_size, "1" * 41),
    (values.parse_size, "٣"),
    (values.parse_size, "+1"),
    (values.parse_memory_limit, "1048575"),
    (values.parse_memory_limit, "1"),
    (values.parse_cpu, "100.1%"),
    (values.parse_cpu, "100001c"),
    (values.parse_cpu, "3"),
    (values.parse_duration, "999999"),
    (values.parse_duration, "1ps"),
    (values.parse_cpu_period, "999us"),
    (values.parse_umask, "1000"),
    (values.parse_rlimit, ""),
    (values.parse_rlimit, "unlimited 5"),
    (values.parse_command, "a\nb"),
    (values.parse_command, "x" * (128 * 1024 + 1)),
    (values.check_label, "AB." + "x" * 126),
    (values.check_label, "A" * 17 + ".x"),
    (values.check_label, "A.x"),
    (values.check_label, "AB."),
    (values.parse_label, "x" * 257),
    (values.parse_hostname, "x" * 65),
    (values.parse_hostname, "-x"),
    (values.parse_user, "2147483648"),
    (values.parse_user, "x" * 33),
    (values.parse_stream, "/proc/self/fd/1"),
    (values.parse_stream, "/dev/stdout"),
    (values.parse_bind, "relative /target"),
    (values.parse_path, "/a\u202eb"),
]


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_beyond_the_edge_is_refused_with_a_way_out(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match="; ") as caught:
        parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["5000000000ns", "1500000000ns", "7ns", "0ns", "1000ns"])
def test_shown_duration_is_the_same(text: str) -> None:
    assert values.parse_duration(values.show_duration(text)) == text


@pytest.mark.parametrize("text", ["3c", "0.5c", "12.5"])
def test_shown_cpu_power_is_the_same(text: str) -> None:
    assert values.parse_cpu(values.show_cpu(text)) == text
