"""Replay etcd's history of one rule, and say at which revision something was not as it has to be.

It shares no code with what it judges: the keys and values are read by their documented form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from helpers.watched import Event

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Start:
    """A host was let to start: its holder appeared, or was written anew for another operation."""

    revision: int
    host: str
    id: str
    target: str
    since: float
    """By the host's clock, before etcd had it."""
    arrived_at: float
    """By the watcher's clock on the same machine, after etcd had it."""
    failed: int
    """Other hosts that had failed with this target by then."""
    limit: int


@dataclass(frozen=True)
class Moment:
    """How many hold slots, from a revision on, and under which limit."""

    revision: int
    slots: int
    limit: int


@dataclass(frozen=True)
class _Terms:
    """What the rule says."""

    limit: int
    rate: tuple[int, int] | None
    max_failures: int | None


@dataclass
class History:
    """What came to light. `problems` are sentences, each with its revision."""

    problems: list[str] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    """One for each change of the slots or of the rule."""
    failures: list[tuple[int, float, str, str]] = field(default_factory=list)
    """(revision, arrived_at, host, target) of each operation told as failed."""
    max_tokens: int = 0
    final: dict[str, str] = field(default_factory=dict)
    """What is left, by key."""
    last_revision: int = 0

    @property
    def max_slots(self) -> int:
        return max((moment.slots for moment in self.moments), default=0)

    def list_hosts(self, target: str) -> list[str]:
        """Hosts of the starts with this target, in order; one twice if it started twice."""
        return [start.host for start in self.starts if start.target == target]

    def find_halt(self, target: str, max_failures: int) -> tuple[int, float] | None:
        """(revision, arrived_at) of the failure that made up the number."""
        hosts: set[str] = set()
        for revision, arrived_at, host, failed in self.failures:
            hosts |= {host} if failed == target else set()
            if len(hosts) == max_failures:
                return revision, arrived_at
        return None

    def list_rate_breaches(self, count: int, window_s: float) -> list[str]:
        """Windows in which more than `count` started, for certain.

        The first of count + 1 starts was not before its `since`, and the last not after its
        arrival: if these are less than a window apart, the starts are, too.
        """
        return [
            f"revisions {first.revision} to {last.revision}: {count + 1} starts within "
            f"{last.arrived_at - first.since:.3f} s"
            for first, last in zip(self.starts, self.starts[count:], strict=False)
            if last.arrived_at - first.since < window_s
        ]


def replay(prefix: str, rule: str, events: Iterable[Event]) -> History:
    """`events` are etcd's from before the rule's first key on."""
    replayer = _Replayer(prefix, rule)
    for revision, group in groupby(events, key=lambda event: event.revision):
        replayer.step(revision, list(group))
    replayer.history.final = dict(replayer.values)
    return replayer.history


class _Replayer:
    def __init__(self, prefix: str, rule: str) -> None:
        self.history = History()
        self.values: dict[str, str] = {}
        self._prefix = prefix
        self._rule_key = f"{prefix}rules/{rule}"
        self._pause_key = f"{prefix}pause/{rule}"
        self._folders = {
            kind: f"{prefix}{kind}/{rule}/"
            for kind in ("slots", "holders", "starts", "alive", "failed")
        }
        self._live: dict[str, dict[str, Any]] = {kind: {} for kind in self._folders}
        """Kind -> rest of the key -> value, of what there is at this revision."""
        self._first_ids: dict[str, str] = {}
        """Host -> the id that its slot was taken with."""

    def step(self, revision: int, events: Sequence[Event]) -> None:
        """Apply one revision and look at it."""
        self.history.last_revision = revision
        before = {kind: dict(live) for kind, live in self._touched(events)}
        had_rule = self._rule_key in self.values
        for event in events:
            self._apply(event)
        if self._rule_key in self.values and (
            "slots" in before or any(event.key == self._rule_key for event in events)
        ):
            terms = self._read_terms()
            self.history.moments.append(Moment(revision, len(self._live["slots"]), terms.limit))
        self._note_failures(revision, events, before)
        started = self._find_started(before)
        if started:
            self._check_start(revision, events, before, started, had_rule=had_rule)
        elif self._list_new(before, "slots") or self._list_new(before, "starts"):
            self._blame(revision, "a slot or a token was taken without a start")
        self._check_kept(revision, events, before)
        if before:
            self._check_match(revision)

    def _touched(self, events: Sequence[Event]) -> list[tuple[str, dict[str, Any]]]:
        return [
            (kind, self._live[kind])
            for kind, folder in self._folders.items()
            if any(event.key.startswith(folder) for event in events)
        ]

    def _apply(self, event: Event) -> None:
        if not event.key.startswith(self._prefix):
            return
        if event.value is None:
            self.values.pop(event.key, None)
        else:
            self.values[event.key] = event.value
        for kind, folder in self._folders.items():
            if event.key.startswith(folder):
                rest = event.key.removeprefix(folder)
                if event.value is None:
                    self._live[kind].pop(rest, None)
                else:
                    self._live[kind][rest] = json.loads(event.value)

    def _read_terms(self) -> _Terms:
        spec = json.loads(self.values[self._rule_key])["spec"]
        rate = spec.get("rate")
        halts = spec.get("haltOnFailure", True)
        return _Terms(
            limit=spec["maxConcurrent"],
            rate=(rate["count"], _read_seconds(rate["window"])) if rate else None,
            max_failures=spec.get("maxFailures", 1) if halts else None,
        )

    # -- what is looked at ---------------------------------------------------------------------

    def _find_started(self, before: dict[str, dict[str, Any]]) -> list[str]:
        """Hosts with a holder that was not there, or was another operation's."""
        old = before.get("holders", {})
        new = self._live["holders"] if "holders" in before else {}
        return [host for host, now in new.items() if old.get(host, {}).get("id") != now["id"]]

    def _check_start(
        self,
        revision: int,
        events: Sequence[Event],
        before: dict[str, dict[str, Any]],
        started: Sequence[str],
        *,
        had_rule: bool,
    ) -> None:
        if len(started) != 1 or not had_rule:
            self._blame(revision, f"{started} started at once, or without a rule")
            return
        (host,) = started
        terms = self._read_terms()
        self._note_start(revision, host, events[0].arrived_at, terms)
        if self._pause_key in self.values:
            self._blame(revision, f"{host} started while the rule was paused")
        new_slots = self._list_new(before, "slots")
        # Who has failed has no number, and takes one for another version as any other host does.
        is_first = before["holders"].get(host, {"slot": -1})["slot"] == -1
        if is_first:
            self._first_ids[host] = self._live["holders"][host]["id"]
        if len(new_slots) != is_first:
            self._blame(revision, f"{host} took the slots {new_slots}")
        target = self._live["holders"][host]["target"]
        kept = [value["target"] for value in self._live["failed"].values() if value.get("aside")]
        taken = len(self._live["slots"]) + kept.count(target)
        if is_first and taken > terms.limit:
            self._blame(revision, f"{host} made it {taken} slots, of {terms.limit}")
        self._check_token(revision, host, self._list_new(before, "starts"), terms)
        alive = {event.key for event in events if event.lease and event.value is not None}
        if self._folders["alive"] + host not in alive:
            self._blame(revision, f"{host} started without a sign of life on a lease")

    def _note_start(self, revision: int, host: str, arrived_at: float, terms: _Terms) -> None:
        held = self._live["holders"][host]
        failed = [
            other
            for other, value in self._live["holders"].items()
            if other != host and value["state"] == "failed" and value["target"] == held["target"]
        ]
        self.history.starts.append(
            Start(
                revision,
                host,
                held["id"],
                held["target"],
                held["since"],
                arrived_at,
                len(failed),
                terms.limit,
            )
        )

    def _check_token(self, revision: int, host: str, tokens: Sequence[str], terms: _Terms) -> None:
        live = self._live["starts"]
        self.history.max_tokens = max(self.history.max_tokens, len(live))
        if terms.rate is None:
            return
        if len(tokens) != 1 or live[tokens[0]]["host"] != host:
            self._blame(revision, f"{host} started with the tokens {tokens}")
        if len(live) > terms.rate[0]:
            self._blame(revision, f"{host} made it {len(live)} tokens, of {terms.rate[0]}")

    def _check_kept(
        self, revision: int, events: Sequence[Event], before: dict[str, dict[str, Any]]
    ) -> None:
        """Slots and tokens are never written over, and operations keep what they began with."""
        for event in events:
            for kind in ("slots", "starts"):
                rest = event.key.removeprefix(self._folders[kind])
                if event.value is not None and rest in before.get(kind, {}) and rest != event.key:
                    self._blame(revision, f"{event.key} was written over")
            is_leased = event.value is not None and event.lease != 0
            if is_leased and event.key.startswith(
                (self._folders["slots"], self._folders["holders"])
            ):
                self._blame(revision, f"{event.key} has a lease: it would end by itself")
            if event.key.startswith(self._folders["starts"]) and event.value and not event.lease:
                self._blame(revision, f"{event.key} has no lease: it would never end")
        for host, old in before.get("holders", {}).items():
            new = self._live["holders"].get(host)
            lasting = ["host", "target", "since", "operation"]
            # It is given up when the operation fails, and never comes back to it.
            lasting += [] if new and new["state"] == "failed" and new["slot"] == -1 else ["slot"]
            if new and new["id"] == old["id"] and any(new[key] != old[key] for key in lasting):
                self._blame(revision, f"{host}'s holder became another without a start")

    def _check_match(self, revision: int) -> None:
        """Every slot has its holder, every holder a slot or a failure, every failure its record."""
        slots = {
            (int(number), value["host"], value["id"])
            for number, value in self._live["slots"].items()
        }
        holders = {
            (value["slot"], host, self._first_ids.get(host, ""))
            for host, value in self._live["holders"].items()
            if value["slot"] >= 0 or value["state"] != "failed"
        }
        if slots != holders:
            self._blame(revision, f"slots and holders differ by {sorted(slots ^ holders)}")
        failed = {host: value["target"] for host, value in self._live["failed"].items()}
        told = {
            host: value["target"]
            for host, value in self._live["holders"].items()
            if value["state"] == "failed"
        }
        if failed != told:
            self._blame(revision, f"failures are {failed}, and by the holders {told}")

    def _note_failures(
        self, revision: int, events: Sequence[Event], before: dict[str, dict[str, Any]]
    ) -> None:
        new = self._list_new(before, "failed")
        self.history.failures += [
            (revision, events[0].arrived_at, host, self._live["failed"][host]["target"])
            for host in new
        ]

    def _list_new(self, before: dict[str, dict[str, Any]], kind: str) -> list[str]:
        old = before.get(kind)
        return [] if old is None else sorted(set(self._live[kind]) - set(old))

    def _blame(self, revision: int, words: str) -> None:
        self.history.problems.append(f"revision {revision}: {words}")


def _read_seconds(text: str) -> int:
    return sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
