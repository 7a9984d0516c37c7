"""How a rule stands: who holds, who failed, what blocks whom. Pure.

What blocks is asked of decide.py, as the hosts' own asking is, so both say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ya_salt.gate.decide import Pause, View, decide
from ya_salt.gate.protocol import Identity, SlotRequest
from ya_salt.gate.rule import Rule
from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass, field, replace

_STATES = {
    "Paused": "paused",
    "Frozen": "frozen",
    "OutsideWindow": "closed",
    "Halted": "halted",
    "Full": "full",
    "RateLimited": "rate-limited",
    "RuleUnreadable": "unreadable",
}
_NO_TARGET = ""
"""No version is called so, thus none failed that is: what blocks this blocks any version."""


@dataclass(frozen=True)
class Holder:
    """A host that has a slot. Times are seconds since 1970."""

    host: str
    id: str = ""
    slot: int = -1
    operation: str = ""
    target: str = ""
    reason: str = ""
    since: float = 0.0
    state: str = "working"
    error: str = ""
    is_alive: bool = True
    """Whether it was heard of within the rule's lost_after."""

    @property
    def doing(self) -> str:
        return f"{self.operation} to {self.target}"


@dataclass(frozen=True)
class Release:
    """An operator gave a host's slot back."""

    host: str
    reason: str
    by: str
    at: float


@dataclass(frozen=True)
class RuleStatus:
    """One consistent look at all that etcd keeps of a rule."""

    name: str
    rule: Rule | None = None
    """None where it cannot be read, see `problem`."""
    problem: str = ""
    pause: Pause | None = None
    slots: Mapping[int, str] = field(default_factory=dict)
    """Number of a slot that is taken -> the host that took it."""
    starts: frozenset[int] = frozenset()
    """Numbers of the rate tokens taken within the window."""
    holders: tuple[Holder, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    """Host whose operation failed -> the target that it failed with."""
    aside: frozenset[str] = frozenset()
    """Those of them that have no number among `slots` any more."""
    releases: tuple[Release, ...] = ()
    """Of the last days, the newest first."""

    @property
    def held(self) -> int:
        """Slots that somebody has, those of hosts that failed included."""
        return len(self.slots) + len(self.aside)

    def count_lost(self) -> int:
        return sum(not holder.is_alive for holder in self.holders)

    def find_strays(self) -> dict[int, str]:
        """Slots that are taken by a host whose record is gone or speaks of another slot."""
        known = {(holder.slot, holder.host) for holder in self.holders}
        return {number: host for number, host in self.slots.items() if (number, host) not in known}


@dataclass(frozen=True)
class Block:
    """Something that keeps hosts from starting."""

    reason: str
    """A reason of Deferral."""
    whom: str
    message: str
    target: str = ""
    """The version that is halted."""


@dataclass(frozen=True)
class Released:
    """What an operator gives back: the holder (None where only slots are left of it), its slots."""

    holder: Holder | None
    slots: tuple[int, ...]


def find_released(status: RuleStatus, host: str) -> Released | None:
    """What `host` has of the rule's slots; None: nothing."""
    holder = next((item for item in status.holders if item.host == host), None)
    slots = tuple(number for number, owner in status.slots.items() if owner == host)
    failed = host in status.failures
    return Released(holder, slots) if holder or slots or failed else None


def judge_state(blocks: tuple[Block, ...]) -> str:
    """The word for what blocks most; "open" where nothing does."""
    return _STATES.get(blocks[0].reason, blocks[0].reason) if blocks else "open"


def list_halted(blocks: tuple[Block, ...]) -> list[str]:
    """The versions that no further host gets."""
    return [block.target for block in blocks if block.reason == "Halted"]


def list_blocks(status: RuleStatus, now: float) -> tuple[Block, ...]:
    """All that blocks anybody at `now` (seconds since 1970), what a person has to end in front."""
    rule = status.rule
    if rule is None:
        return (Block("RuleUnreadable", "every host", status.problem),)
    gated = "every host" if rule.first_install == "gate" else "every host but for a first install"
    found = [
        Block(deferral.reason, f"{gated}{whom}", deferral.message, target)
        for whom, target, view in _list_views(status, rule)
        if (deferral := _ask_as_anybody(view, target, now)) is not None
    ]
    if any(block.reason == "Full" and not block.target for block in found):
        # Then it is not one version that waits for a slot.
        found = [block for block in found if block.reason != "Full" or not block.target]
    return tuple(_note_lost(block, status, rule) for block in found)


def _list_views(status: RuleStatus, rule: Rule) -> Iterator[tuple[str, str, View]]:
    """Whom it may block, the target, and a look that shows only one cause."""
    yield "", _NO_TARGET, View(replace(rule, freeze=(), windows=()), pause=status.pause)
    yield "", _NO_TARGET, View(rule)
    always = replace(rule, freeze=(), windows=())
    taken = frozenset(status.slots)
    for target in sorted(set(status.failures.values())):
        failed = View(always, taken, failures=status.failures, aside=status.aside)
        yield f" that wants {target}", target, failed
    yield " without a slot", _NO_TARGET, View(always, taken)
    yield " that wants to start", _NO_TARGET, View(always, starts=status.starts)


def _ask_as_anybody(view: View, target: str, now: float) -> Deferral | None:
    facts = {fact: values[0] for fact, values in view.rule.selector.items()}
    decision = decide(view, Identity("", facts), SlotRequest("", "update", target), now)
    return decision if isinstance(decision, Deferral) else None


def _note_lost(block: Block, status: RuleStatus, rule: Rule) -> Block:
    lost = status.count_lost()
    if block.reason != "Full" or not lost:
        return block
    fate = (
        "the next host that asks takes over from them"
        if rule.on_lost == "free"
        else f"orlyctl release {rule.name} HOST frees the slot of one that does not come back"
    )
    return replace(block, message=f"{block.message}; {lost} of them not heard of: {fate}")
