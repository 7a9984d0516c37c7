"""Porto's notation, both ways: numbers, sizes, times, lists, maps, names, masks, limits. Pure.

The forms are those of portod 5.3 (its `util/string.cpp` and `env.cpp`, read for facts): numbers
are read the way strtoull(3) and strtod(3) read them, which is why `-1` is a huge size and
`0x100000` one mebibyte.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from devporto import porto_pb2 as pb
from devporto.refusal import Refusal, make_invalid

UINT64_MAX = 2**64 - 1
INT64_MAX = 2**63 - 1
CPU_POWER = 1_000_000_000
"""One core, in the nanoseconds per second that portod counts in."""

_SPACE = " \t\n\v\f\r"
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(\d+)")
_DOUBLE = re.compile(
    r"[ \t\n\v\f\r]*([+-]?(?:0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?\d+)?"
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))"
)
_SIZE_UNIT = re.compile(r"(?:[bB]|([kKmMgGtTpPeE])(?:[bB]|iB)?)?\Z")
_SIZE_SHIFT = {letter: 10 * (index + 1) for index, letter in enumerate("kmgtpe")}
_NSEC_UNIT = {"": 1.0}
for _prefix, _mult in (("", 1e9), ("m", 1e6), ("u", 1e3), ("n", 1.0), ("p", 1e-3), ("f", 1e-6)):
    _NSEC_UNIT[f"{_prefix}s"] = _NSEC_UNIT[f"{_prefix}sec"] = _mult


def trim(text: str) -> str:
    """Without spaces, tabs and newlines at both ends."""
    return text.strip(" \t\n")


def parse_bool(text: str) -> bool:
    """Take `true` or `false`, nothing else. Raises Refusal(Unknown), for want of a code."""
    if text not in ("true", "false"):
        raise Refusal(pb.Unknown, f"Bad boolean value: {text}")
    return text == "true"


def format_bool(value: bool) -> str:
    return "true" if value else "false"


def _take_unsigned(text: str) -> tuple[int, str]:
    """As strtoull: (value, rest). A minus sign wraps around. Raises Refusal."""
    found = _INTEGER.match(text)
    if not found or int(found[2]) > UINT64_MAX:
        raise make_invalid(f"Bad value: {text}")
    value = int(found[2])
    return (-value & UINT64_MAX if found[1] == "-" else value), text[found.end() :]


def _take_double(text: str) -> tuple[float, str]:
    """As strtod: (value, rest trimmed)."""
    found = _DOUBLE.match(text)
    if not found:
        raise make_invalid(f"Bad value: {text}")
    word = found[1]
    value = float.fromhex(word) if "x" in word.lower() else float(word)
    if math.isinf(value):
        raise make_invalid(f"Bad value: {text}")
    return value, text[found.end() :].strip(_SPACE)


def parse_uint64(text: str) -> int:
    value, rest = _take_unsigned(text)
    if rest.strip(_SPACE):
        raise make_invalid(f"Bad uint64 value: {text}")
    return value


def parse_int64(text: str) -> int:
    found = _INTEGER.match(text)
    if not found or text[found.end() :].strip(_SPACE):
        raise make_invalid(f"Bad int64 value: {text}")
    value = int(found[1] + found[2])
    if not -INT64_MAX - 1 <= value <= INT64_MAX:
        raise make_invalid(f"Bad int64 value: {text}")
    return value


def parse_int(text: str) -> int:
    """Take a C int."""
    value = parse_int64(text)
    if not -(2**31) <= value < 2**31:
        raise make_invalid(f"Bad int value: {text}")
    return value


def wrap_int64(value: int) -> int:
    """Read a 64-bit word as a signed number."""
    return value - 2**64 if value > INT64_MAX else value


def parse_octal(text: str) -> int:
    found = re.match(r"[ \t\n\v\f\r]*\+?([0-7]+)[ \t\n\v\f\r]*\Z", text)
    if not found or int(found[1], 8) >= 2**32:
        raise make_invalid(f"Bad base-8 value: {text}")
    return int(found[1], 8)


def format_octal(value: int) -> str:
    """As printf's %#o."""
    return f"0{value:o}" if value else "0"


def parse_plain_double(text: str) -> tuple[float, str]:
    """Return (number, unit)."""
    return _take_double(text)


def format_double(value: float) -> str:
    """As printf's %g."""
    return f"{value:g}"


def _size_multiplier(unit: str, text: str) -> int:
    found = _SIZE_UNIT.match(unit)
    if not found:
        raise make_invalid(f"Bad value unit: {text}")
    return 1 << _SIZE_SHIFT[found[1].lower()] if found[1] else 1


def parse_size(text: str) -> int:
    """Bytes of `600Mb`, `600 Mb`, `1.5G`, `2KiB`, `-1` (all ones). Raises Refusal(InvalidValue)."""
    try:
        value, rest = _take_unsigned(text)
        multiplier = _size_multiplier(rest.strip(_SPACE), text)
    except Refusal:
        return _parse_fractional_size(text)
    if value * multiplier > UINT64_MAX:
        raise make_invalid(f"Too big: {text}")
    return value * multiplier


def _parse_fractional_size(text: str) -> int:
    value, unit = _take_double(text)
    if value < 0:
        raise make_invalid(f"Negative: {text}")
    size = value * _size_multiplier(unit, text)
    if size > UINT64_MAX:
        raise make_invalid(f"Too big: {text}")
    return int(size)


def parse_nanoseconds(text: str) -> int:
    """Nanoseconds of `500ms`, `1s`, `7` (nanoseconds). Raises Refusal(InvalidValue)."""
    value, unit = _take_double(text)
    if value < 0:
        raise make_invalid(f"Negative: {text}")
    if unit not in _NSEC_UNIT:
        raise make_invalid(f"Unknown unit: {unit}")
    if value * _NSEC_UNIT[unit] > UINT64_MAX:
        raise make_invalid(f"Too big: {text}")
    return int(value * _NSEC_UNIT[unit])


def parse_cpu_power(text: str, cores: int) -> int:
    """Power of `2.5c`, `500ns`, or a bare percentage of all `cores`."""
    value, unit = _take_double(text)
    if value < 0:
        raise make_invalid(f"Invalid cpu power value {text}")
    factors = {"": CPU_POWER / 100 * cores, "c": CPU_POWER, "ns": 1}
    if unit not in factors:
        raise make_invalid(f"Invalid cpu power unit {text}")
    return int(value * factors[unit])


def format_cpu_power(power: int) -> str:
    return f"{power / CPU_POWER:g}c"


def split_escaped(text: str, inner: str, outer: str = "") -> list[list[str]]:
    """Rows separated by `outer`, words by `inner`; backslash protects both; blanks vanish."""
    rows: list[list[str]] = [[]]
    word: list[str] = []
    special = "\\" + inner + outer
    index = 0
    while index <= len(text):
        char = text[index : index + 1]
        if char in ("", inner) or char == outer:
            _end_word(rows[-1], word)
            if char and char == outer and rows[-1]:
                rows.append([])
        elif char == "\\" and text[index + 1 : index + 2] and text[index + 1] in special:
            index += 1
            word.append(text[index])
        else:
            word.append(char)
        index += 1
    return rows if rows[-1] else rows[:-1]


def _end_word(row: list[str], word: list[str]) -> None:
    joined = trim("".join(word))
    word.clear()
    if joined:
        row.append(joined)


def split_list(text: str, separator: str) -> list[str]:
    """Split a list with one kind of separator."""
    rows = split_escaped(text, separator)
    return rows[0] if rows else []


def _escape(word: str, separators: str) -> str:
    out = word.replace("\\", "\\\\")
    for separator in separators:
        out = out.replace(separator, "\\" + separator)
    return out


def merge_rows(rows: Iterable[Sequence[str]], inner: str, outer: str) -> str:
    """Undo `split_escaped`."""
    return outer.join(
        inner.join(_escape(word, inner + outer) for word in row) for row in rows if row
    )


def merge_list(words: Iterable[str], separator: str) -> str:
    return separator.join(_escape(word, separator) for word in words)


def _parse_pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in split_list(text, ";"):
        pair = split_list(line, ":")
        if len(pair) != 2:
            raise make_invalid(f"Invalid format: {line}")
        yield pair[0], pair[1]


def parse_string_map(text: str) -> dict[str, str]:
    """`key: value; ...`. Raises Refusal(InvalidValue)."""
    return dict(_parse_pairs(text))


def parse_size_map(text: str) -> dict[str, int]:
    """`key: size; ...`. Raises Refusal(InvalidValue)."""
    return {key: parse_size(value) for key, value in _parse_pairs(text)}


def format_map(pairs: Mapping[str, object]) -> str:
    """`key: value; ...`, sorted as a std::map is."""
    return "; ".join(f"{key}: {pairs[key]}" for key in sorted(pairs))


def parse_flags(text: str, names: Sequence[str]) -> frozenset[str]:
    """Take the named flags of `a;b`. Raises Refusal(InvalidValue)."""
    found = {trim(word) for word in text.split(";")} - {""}
    unknown = sorted(found.difference(names))
    if unknown:
        raise make_invalid(f'Unknown flag "{unknown[0]}"')
    return frozenset(found)


def parse_bitmap(text: str) -> frozenset[int]:
    """`0-3,7`."""
    bits: set[int] = set()
    for row in split_escaped(text, "-", ","):
        numbers = [_parse_bit(word) for word in row]
        if len(numbers) > 2 or numbers[-1] < numbers[0]:
            raise make_invalid("wrong bitmap format")
        bits.update(range(numbers[0], numbers[-1] + 1))
    return frozenset(bits)


def _parse_bit(word: str) -> int:
    value = parse_int(word)
    if not 0 <= value <= 65535:
        raise make_invalid("wrong bitmap format")
    return value


def format_bitmap(bits: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for bit in sorted(bits):
        if ranges and ranges[-1][1] == bit - 1:
            ranges[-1][1] = bit
        else:
            ranges.append([bit, bit])
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)


_NAME_CHARS = re.compile(r"[a-zA-Z0-9_\-@:./]*\Z")
_LABEL = re.compile(r"[A-Z]{2,16}\.[a-zA-Z0-9_\-@:.]*\Z")
_LABEL_VALUE = re.compile(r"[a-zA-Z0-9_\-@:.]*\Z")
_LABEL_NAME_MAX = 128
_LABEL_VALUE_MAX = 65536
_PART_MAX = 128
_PATH_MAX = 200
_PATH_MAX_ROOT = 220
LABEL_COUNT_MAX = 100


def is_mask(name: str) -> bool:
    return "*" in name or "?" in name


def match_mask(text: str, mask: str) -> bool:
    """`*` and `?` stop at `/`; a `***` at either end does not."""
    if mask == "***":
        return True
    if mask.endswith("***"):
        return text.startswith(mask[: mask.index("***")])
    if mask.startswith("***"):
        return text.endswith(mask[3:])
    return _compile_mask(mask).match(text) is not None


@lru_cache(256)
def _compile_mask(mask: str) -> re.Pattern[str]:
    """fnmatch(3) with FNM_PATHNAME."""
    out, index = "", 0
    while index < len(mask):
        char = mask[index]
        index += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (bracket := re.match(r"([!^]?)(\]?[^\]]*)\]", mask[index:])):
            negation = "^/" if bracket[1] else ""
            out += f"(?!/)[{negation}{bracket[2]}]".replace("\\", "\\\\")
            index += bracket.end()
        elif char == "\\" and index < len(mask):
            out += re.escape(mask[index])
            index += 1
        else:
            out += re.escape(char)
    return re.compile(out + r"\Z", re.DOTALL)


def check_name(name: str, *, superuser: bool) -> None:
    """Accept a full container name. Raises Refusal(InvalidValue)."""
    limit = _PATH_MAX_ROOT if superuser else _PATH_MAX
    if not name or len(name) > limit:
        raise make_invalid(f"container path is empty or longer than {limit}")
    if name == "/":
        return
    for part in name.split("/"):
        if not part or len(part) > _PART_MAX or part in ("self", "."):
            raise make_invalid(f"bad component in container path: {name}")
    if not _NAME_CHARS.match(name):
        raise make_invalid(f"forbidden character in container path: {name}")


def normalize_path(path: str) -> str:
    """Without empty parts, `.` and `..`; empty stays empty."""
    if not path:
        return ""
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


def check_label(label: str, value: str) -> None:
    """Accept a label and its value. Raises Refusal(InvalidLabel)."""
    long = len(label) > _LABEL_NAME_MAX or len(value) > _LABEL_VALUE_MAX
    if long or not _LABEL.match(label) or label.startswith("PORTO"):
        raise Refusal(pb.InvalidLabel, f"Invalid label name: {label}")
    if not _LABEL_VALUE.match(value):
        raise Refusal(pb.InvalidLabel, f"Invalid label value: {value}")


Ulimits = dict[str, tuple[int, int]]
"""(soft, hard) by type, in the order they were set; UINT64_MAX is unlimited."""

_TYPES = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
_UNLIMITED = ("unlimited", "unlim", "inf", "-1")

DEFAULT: Ulimits = {
    "core": (0, UINT64_MAX),
    "nofile": (8 << 10, 1 << 20),
    "memlock": (8 << 20, UINT64_MAX),
}
"""What portod gives to everybody (its default_ulimit and memlock_minimal)."""


def parse_ulimits(text: str) -> Ulimits:
    """Parse a list of limits. Raises Refusal(InvalidValue)."""
    limits: Ulimits = {}
    for part in map(trim, text.split(";")):
        if part:
            limits |= _parse_one(part)
    return limits


def _parse_one(text: str) -> Ulimits:
    name, colon, numbers = text.partition(":")
    name = trim(name)
    if not colon or name not in _TYPES:
        raise make_invalid(f"Invalid ulimit: {text}")
    soft, _, hard = trim(numbers).partition(" ")
    low = _parse_number(soft)
    return {name: (low, _parse_number(trim(hard)) if trim(hard) else low)}


def _parse_number(text: str) -> int:
    return UINT64_MAX if text in _UNLIMITED else parse_size(text)


def format_ulimits(limits: Mapping[str, tuple[int, int]]) -> str:
    """Every entry ends with `; `, the last too."""
    return "".join(
        f"{name}: {_format(soft)} {_format(hard)}; " for name, (soft, hard) in limits.items()
    )


def _format(value: int) -> str:
    return "unlimited" if value >= UINT64_MAX else str(value)


def merge_ulimits(old: Ulimits, fresh: Ulimits) -> Ulimits:
    """`fresh` wins, places are kept."""
    return {**old, **fresh}
