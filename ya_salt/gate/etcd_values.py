"""Keys, ranges and conditions, and how etcd's gateway writes them in JSON. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True)
class KeyValue:
    """A key of etcd's; no `value` where only keys were asked for, `lease` 0 where it has none."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    lease: int


@dataclass(frozen=True)
class Range:
    """A key, or all keys that begin with it; the first `limit` of them (0: all), by key."""

    key: str
    is_prefix: bool = False
    keys_only: bool = False
    limit: int = 0


@dataclass(frozen=True)
class Compare:
    """What has to be so for a transaction to be carried out; made by the functions below."""

    key: str
    target: Literal["CREATE", "MOD"]
    revision: int
    is_prefix: bool = False
    result: Literal["EQUAL", "LESS"] = "EQUAL"


def absent(key: str) -> Compare:
    return Compare(key, "CREATE", 0)


def absent_prefix(prefix: str) -> Compare:
    """No key begins with it: etcd takes an empty range for a key that was created at 0."""
    return Compare(prefix, "CREATE", 0, is_prefix=True)


def created(key: str, revision: int) -> Compare:
    """It is there, and has been ever since it was created at `revision`."""
    return Compare(key, "CREATE", revision)


def untouched_since(prefix: str, revision: int) -> Compare:
    """No key that begins with it was written after `revision`; deleted ones do not count."""
    return Compare(prefix, "MOD", revision + 1, is_prefix=True, result="LESS")


def unchanged(key: str, mod_revision: int) -> Compare:
    return Compare(key, "MOD", mod_revision)


@dataclass(frozen=True)
class Put:
    """A key to write; the lease of 0 is none."""

    key: str
    value: str
    lease: int = 0


class ReadResult(NamedTuple):
    """What was found for each range, in order, and etcd's revision at that moment."""

    found: tuple[tuple[KeyValue, ...], ...]
    revision: int


@dataclass(frozen=True)
class TxnResult:
    """Whether it was carried out; where not, what `otherwise` asked for."""

    succeeded: bool
    revision: int
    found: tuple[tuple[KeyValue, ...], ...] = ()


def encode_read(ranges: Sequence[Range]) -> dict[str, Any]:
    return {"success": [_encode_range(wanted) for wanted in ranges]}


def encode_txn(
    compares: Sequence[Compare],
    puts: Sequence[Put],
    deletes: Sequence[str | Range],
    otherwise: Sequence[Range],
) -> dict[str, Any]:
    return {
        "compare": [_encode_compare(compare) for compare in compares],
        "success": [
            *(_encode_put(put) for put in puts),
            *(_encode_delete(deleted) for deleted in deletes),
        ],
        "failure": [_encode_range(wanted) for wanted in otherwise],
    }


def decode_ranges(answer: Mapping[str, Any]) -> tuple[tuple[KeyValue, ...], ...]:
    """The gateway leaves out what is empty or 0, and writes 64-bit numbers as text."""
    return tuple(
        tuple(_decode_key_value(item) for item in part.get("response_range", {}).get("kvs", ()))
        for part in answer.get("responses", ())
    )


def decode_revision(answer: Mapping[str, Any]) -> int:
    return int(answer["header"]["revision"])


def _encode_range(wanted: Range) -> dict[str, Any]:
    data = _encode_keys(wanted.key, wanted.is_prefix)
    if wanted.keys_only:
        data["keys_only"] = True
    if wanted.limit:
        data["limit"] = wanted.limit
    return {"request_range": data}


def _encode_compare(compare: Compare) -> dict[str, Any]:
    field = "create_revision" if compare.target == "CREATE" else "mod_revision"
    return {
        **_encode_keys(compare.key, compare.is_prefix),
        "target": compare.target,
        "result": compare.result,
        field: compare.revision,
    }


def _encode_put(put: Put) -> dict[str, Any]:
    data = {**_encode_keys(put.key, is_prefix=False), "value": _encode(put.value.encode())}
    return {"request_put": {**data, "lease": put.lease} if put.lease else data}


def _encode_delete(deleted: str | Range) -> dict[str, Any]:
    wanted = Range(deleted) if isinstance(deleted, str) else deleted
    return {"request_delete_range": _encode_keys(wanted.key, wanted.is_prefix)}


def _encode_keys(key: str, is_prefix: bool) -> dict[str, Any]:
    data = key.encode()
    if not is_prefix:
        return {"key": _encode(data)}
    # All keys of ours are UTF-8, so the last byte is never 255.
    return {"key": _encode(data), "range_end": _encode(data[:-1] + bytes([data[-1] + 1]))}


def _encode(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _decode_key_value(item: Mapping[str, Any]) -> KeyValue:
    return KeyValue(
        _decode(item.get("key", "")),
        _decode(item.get("value", "")),
        int(item.get("create_revision", 0)),
        int(item.get("mod_revision", 0)),
        int(item.get("lease", 0)),
    )


def _decode(text: str) -> str:
    return b64decode(text).decode(errors="replace")
