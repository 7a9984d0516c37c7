"""Porto's notation, row by row."""

from __future__ import annotations

import pytest
from devporto.hardware import Topology, parse_cpu_set
from devporto.network import is_address_inside, parse_ip_limit
from devporto.refusal import Refusal
from devporto.values import (
    check_label,
    check_name,
    format_ulimits,
    match_mask,
    normalize_path,
    parse_ulimits,
)

from devporto import values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12B", 12),
        ("2K", 2048),
        ("2Kb", 2048),
        ("2KiB", 2048),
        ("2kiB", 2048),
        ("600 Mb", 600 << 20),
        ("  7  ", 7),
        ("1.5G", 3 << 29),
        ("1e3", 1000),
        (".5K", 512),
        ("0x100000", 1 << 20),
        ("-1", 2**64 - 1),
        ("1E", 1 << 60),
    ],
)
def test_size_is_read_as_strtoull_and_strtod_read_it(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "1X", "1Kib", "1BB", "1 K b", "-1.5", "99999999999999999999", "32E", "inf"]
)
def test_bad_size_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="InvalidValue"):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1", 1),
        ("500ms", 500_000_000),
        ("1.5 s", 1_500_000_000),
        ("2sec", 2 * 10**9),
        ("3us", 3000),
    ],
)
def test_duration(text: str, nanoseconds: int) -> None:
    assert values.parse_nanoseconds(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1m", "-1s", "1h", "x"])
def test_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="InvalidValue"):
        values.parse_nanoseconds(text)


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("3c", "3c"),
        ("50", "1c"),
        ("1500000000ns", "1.5c"),
        ("1.23456789c", "1.23457c"),
        ("0", "0c"),
    ],
)
def test_cpu_power(text: str, back: str) -> None:
    assert values.format_cpu_power(values.parse_cpu_power(text, cores=2)) == back


@pytest.mark.parametrize("text", ["", "-1c", "1C", "c", "1 core"])
def test_bad_cpu_power_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="InvalidValue"):
        values.parse_cpu_power(text, cores=2)


def test_words_survive_escaping_but_not_blanks() -> None:
    words = ["a\\b", "c;d", "e"]
    assert values.split_list(values.merge_list(words, ";"), ";") == words
    assert values.split_list(" a ;; b\\;c ;\\x", ";") == ["a", "b;c", "\\x"]
    assert values.split_escaped("a b; ;c", " ", ";") == [["a", "b"], ["c"]]
    assert values.split_escaped("", " ", ";") == []


@pytest.mark.parametrize(
    ("text", "back"),
    [("0-3,7", "0-3,7"), ("3,1,2", "1-3"), ("5", "5"), ("0,2", "0,2"), ("1-1", "1")],
)
def test_bitmap(text: str, back: str) -> None:
    assert values.format_bitmap(values.parse_bitmap(text)) == back


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("nofile: 1024 2048", "nofile: 1024 2048; "),
        ("nofile: 1K; core: unlimited", "nofile: 1024 1024; core: unlimited unlimited; "),
        ("core: 0 -1", "core: 0 unlimited; "),
        ("", ""),
    ],
)
def test_ulimit(text: str, back: str) -> None:
    assert format_ulimits(parse_ulimits(text)) == back


@pytest.mark.parametrize("text", ["nofile", "bogus: 1", "nofile: x", "nofile:", "nofile: 1 y"])
def test_bad_ulimit_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="InvalidValue"):
        parse_ulimits(text)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0o022, "022"), (0o2, "02")])
def test_octal(value: int, text: str) -> None:
    assert values.format_octal(value) == text
    assert values.parse_octal(text) == value


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("a", "***", True),
        ("a/b", "***", True),
        ("a/b", "*", False),
        ("a/b", "*/*", True),
        ("a/b/c", "a/***", True),
        ("ab/c", "a***", True),
        ("x/a", "***a", True),
        ("a1", "a?", True),
        ("a/", "a?", False),
        ("ab", "[a-c]b", True),
        ("db", "[!a-c]b", True),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("a*b", "a\\*b", True),
    ],
)
def test_mask(name: str, mask: str, expected: bool) -> None:
    assert match_mask(name, mask) is expected


@pytest.mark.parametrize(
    ("path", "normal"),
    [("", ""), ("a/", "a"), ("a//b", "a/b"), ("a/..", "."), ("//a", "/a"), ("/..", "/")],
)
def test_path_is_normalised(path: str, normal: str) -> None:
    assert normalize_path(path) == normal


@pytest.mark.parametrize(
    "name", ["", "/a", "a//b", "a/self", "a/.", "a b", "é", "x" * 129, "a/" * 120 + "a"]
)
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="InvalidValue"):
        check_name(name, superuser=True)


def test_long_path_is_for_root_only() -> None:
    path = "/".join(["x" * 69] * 3)
    check_name(path, superuser=True)
    with pytest.raises(Refusal, match="InvalidValue"):
        check_name(path, superuser=False)


@pytest.mark.parametrize(
    "label", ["a.b", "A.b", "AB", "ab.C", "AB.c d", "PORTO.x", "X" * 17 + ".a", "AB." + "c" * 126]
)
def test_bad_label_is_refused(label: str) -> None:
    with pytest.raises(Refusal, match="InvalidLabel"):
        check_label(label, "1")


def test_good_labels_pass() -> None:
    check_label("HOSTMAN.spec", "sha256:ab_-@.9")
    check_label("AB.", "")
    with pytest.raises(Refusal, match="InvalidLabel"):
        check_label("AB.c", "a b")


MACHINE = Topology(frozenset(range(8)), {0: frozenset(range(4)), 1: frozenset(range(4, 8))})


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("1,0,3", "0-1,3"),
        ("node 1", "node 1"),
        ("jail 7", "jail 7"),
        ("node 1; jail 3", "jail 3; node 1"),
        ("inherit", ""),
    ],
)
def test_cpu_set(text: str, back: str) -> None:
    assert parse_cpu_set(text, MACHINE).format() == back


@pytest.mark.parametrize(
    "text",
    [
        "8",
        "node 2",
        "jail 8",
        "jail 4; node 0",
        "jail 0",
        "jail x",
        "cores 1",
        "0; jail 1",
        "x y z",
    ],
)
def test_cpu_set_that_the_machine_cannot_give_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        parse_cpu_set(text, MACHINE)


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [("192.0.2.7/24", True), ("192.0.3.7", False), ("2001:db8::1", True), ("default", False)],
)
def test_address_inside_an_ip_limit(address: str, is_inside: bool) -> None:
    limits = parse_ip_limit("192.0.2.0/24 2001:db8::/64")
    assert is_address_inside(address, limits) is is_inside
