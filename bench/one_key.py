"""The plainer way to limit hosts, to compare with: one key that lists all who hold.

A host reads the list, adds itself, and writes it if nobody has meanwhile; else it tries again.
"""

from __future__ import annotations

import json

from ya_salt.gate.etcd import Etcd, Put, Range, unchanged


def try_once(etcd: Etcd, key: str, host: str, limit: int) -> bool:
    """Whether the host is on the list now. Raises GateError."""
    (found,) = etcd.read(Range(key)).found
    hosts: list[str] = json.loads(found[0].value) if found else []
    if host in hosts:
        return True
    if len(hosts) >= limit:
        return False
    revision = found[0].mod_revision if found else 0
    put = Put(key, json.dumps([*hosts, host], separators=(",", ":")))
    return etcd.transact([unchanged(key, revision)], [put]).succeeded


def count_hosts(etcd: Etcd, key: str) -> int:
    (found,) = etcd.read(Range(key)).found
    return len(json.loads(found[0].value)) if found else 0
