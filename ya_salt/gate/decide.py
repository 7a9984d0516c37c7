"""Decide who may start: the rule, what one look at the gate's memory shows, the moment. Pure.

Both the gate on etcd and the simulator ask here, so what is simulated is what happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import islice

from ya_salt.gate.protocol import REMOVAL, Identity, Slot, SlotRequest
from ya_salt.gate.rule import Rule
from ya_salt.gate.windows import describe_closed
from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import count, printable


@dataclass(frozen=True)
class Pause:
    """Somebody stopped the rule by hand, until somebody resumes it."""

    reason: str
    by: str
    since: float


@dataclass(frozen=True)
class View:
    """What one consistent look at a rule shows."""

    rule: Rule
    slots: frozenset[int] = frozenset()
    """Numbers of the slots that are taken."""
    starts: frozenset[int] = frozenset()
    """Numbers of the rate tokens that were taken within the window."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Host whose operation failed -> the target that it failed with."""
    aside: Set[str] = frozenset()
    """Those of them whose slot is none of `slots`: it counts for the target they failed with."""
    pause: Pause | None = None
    held: Slot | None = None
    """The slot of the host that asks."""


@dataclass(frozen=True)
class GoOn:
    """The host has a slot for this very operation."""


@dataclass(frozen=True)
class NoSlotNeeded:
    """The rule lets it through without one."""


@dataclass(frozen=True)
class Grant:
    """Any one of `slots` may be taken, with any one of `tokens`.

    No slots: the host keeps the one that it has. No tokens: the rule has no rate. Who has failed
    has none among those in use: it takes one as any other host does.
    """

    slots: tuple[int, ...]
    tokens: tuple[int, ...]


Decision = Grant | GoOn | NoSlotNeeded | Deferral


def decide(view: View, identity: Identity, ask: SlotRequest, now: float) -> Decision:
    """Say whether this host may start the operation now (seconds since 1970)."""
    rule = view.rule
    unselected = _describe_unselected(rule, identity)
    if unselected:
        return Deferral("NotSelected", unselected)
    if ask.operation == "install" and rule.first_install == "allow" and view.held is None:
        # With a slot of an earlier operation it has to be told apart from that one.
        return NoSlotNeeded()
    closed = _find_closed(view, now)
    if closed is not None:
        return closed
    if view.held is not None and _is_same(view.held, ask):
        return GoOn()
    halted = _find_halt(view, identity, ask)
    if halted is not None:
        return halted
    return _find_grant(view, identity, ask)


def _describe_unselected(rule: Rule, identity: Identity) -> str:
    for fact, wanted in rule.selector.items():
        value = identity.facts.get(fact)
        if value is None or value not in wanted:
            has = f"has {fact}: {value}" if value is not None else f"has no fact {fact}"
            return (
                f"{rule.name} is for hosts with {fact}: {', '.join(wanted)}; this one {has} "
                "(setting gate.facts)"
            )
    return ""


def _find_closed(view: View, now: float) -> Deferral | None:
    if view.pause is not None:
        by = f" by {printable(view.pause.by, 200)}" if view.pause.by else ""
        why = f": {printable(view.pause.reason, 500)}" if view.pause.reason else ""
        name = view.rule.name
        return Deferral("Paused", f"{name} is paused{by}{why}; orlyctl resume {name} lets it go on")
    return describe_closed(view.rule, now)


def _is_same(held: Slot, ask: SlotRequest) -> bool:
    """Whether what was started goes on; what came to its end is another operation the next time.

    An update that was cut short after its packages may go on as a restart.
    """
    return held.state != "settling" and held.target == ask.target


def _find_halt(view: View, identity: Identity, ask: SlotRequest) -> Deferral | None:
    limit = view.rule.max_failures
    failed = sorted(
        host
        for host, target in view.failures.items()
        if target == ask.target and host != identity.host
    )
    if limit is None or len(failed) < limit:
        return None
    what = "the removal" if ask.target == REMOVAL else f"version {ask.target}"
    return Deferral(
        "Halted",
        f"{what} failed on {_shorten(failed)}, and {view.rule.name} halts at "
        f"{count(limit, 'failed host')}; another version goes on by itself, "
        f"orlyctl status {view.rule.name} says what failed",
    )


def _find_grant(view: View, identity: Identity, ask: SlotRequest) -> Grant | Deferral:
    rule = view.rule
    tokens: tuple[int, ...] = ()
    if rule.rate is not None:
        # The count may have been lowered within the window, as the limit of hosts may.
        tokens = find_free_slots(rule.rate.count, view.starts)
        if not tokens:
            return Deferral(
                "RateLimited",
                f"{rule.name}: {len(view.starts)} of {rule.rate.count} starts in "
                f"{rule.rate.window_s} s used; a host may start once one of them is that long ago",
            )
    if view.held is not None and identity.host not in view.aside:
        return Grant((), tokens)
    others = {
        host: host in view.aside
        for host, target in view.failures.items()
        if host != identity.host and (host not in view.aside or target == ask.target)
    }
    kept = sum(others.values())
    slots = find_free_slots(rule.max_concurrent, view.slots, kept)
    return Grant(slots, tokens) if slots else _describe_full(view, sorted(others), kept)


def _describe_full(view: View, failed: Sequence[str], kept: int) -> Deferral:
    """`failed` are hosts in the way; `kept` of them are not among the view's slots."""
    rule = view.rule
    text = f"{len(view.slots) + kept} of {rule.max_concurrent} slots in use"
    if not failed:
        return Deferral("Full", f"{text}; orlyctl status {rule.name} shows by whom")
    return Deferral(
        "Full",
        f"{text}: {_shorten(failed)} (failed); a host that failed keeps its slot until it succeeds "
        f"or is released, see orlyctl status {rule.name}",
    )


def _shorten(hosts: Sequence[str]) -> str:
    shown = ", ".join(printable(host) for host in hosts[:3])
    return shown + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")


def find_free_slots(limit: int, taken: frozenset[int], kept: int = 0) -> tuple[int, ...]:
    """Slots that may be taken so that, whoever else takes one by a look of his own, none is over.

    Below the limit slots may be free while those numbered above it, from when it was higher, are
    still held. So no more are given out than are left to the limit, and those the lowest: with n
    the number after them, n and the slots held from n on are within the limit. Whoever looks later
    sees fewer held from there on, never more: new ones are only given out below somebody's n.
    (docs/adr/0005-numbered-slots.md has the proof.) The same goes for rate tokens. `kept` is how
    many more are not to be given out.
    """
    free = (number for number in range(limit) if number not in taken)
    return tuple(islice(free, max(0, limit - len(taken) - kept)))
