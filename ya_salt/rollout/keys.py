"""Where everything of a rule is in etcd. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ya_salt.rollout.etcd_values import Range

_DIGITS = 5


@dataclass(frozen=True)
class Keys:
    """The keys of one rule below `prefix`, which ends with a slash. Plurals begin many keys."""

    prefix: str
    name: str

    @property
    def rule(self) -> str:
        """The rule's document, as JSON."""
        return f"{self.prefix}rules/{self.name}"

    @property
    def pause(self) -> str:
        """There while the rule is stopped by hand: {"reason", "by", "since"}."""
        return f"{self.prefix}pause/{self.name}"

    @property
    def slots(self) -> str:
        return f"{self.prefix}slots/{self.name}/"

    @property
    def holders(self) -> str:
        return f"{self.prefix}holders/{self.name}/"

    @property
    def starts(self) -> str:
        return f"{self.prefix}starts/{self.name}/"

    @property
    def alives(self) -> str:
        return f"{self.prefix}alive/{self.name}/"

    @property
    def failures(self) -> str:
        return f"{self.prefix}failed/{self.name}/"

    @property
    def releases(self) -> str:
        return f"{self.prefix}released/{self.name}/"

    def slot(self, number: int) -> str:
        """Of the holder, as long as it holds: {"host", "id"}."""
        return f"{self.slots}{number:0{_DIGITS}}"

    def holder(self, host: str) -> str:
        """{"host", "id", "slot", "operation", "target", "reason", "since", "state", "error"}."""
        return self.holders + host

    def start(self, number: int) -> str:
        """A token of the rate, on a lease of the rate's window: {"host"}."""
        return f"{self.starts}{number:0{_DIGITS}}"

    def alive(self, host: str) -> str:
        """On a lease of the rule's `lost_after`, kept up by the holder: {"host"}."""
        return self.alives + host

    def failed(self, host: str) -> str:
        """Of a holder that has failed, so that asking need not read all holders.

        {"target", "error", "since"}; written and deleted together with the holder's own state.
        """
        return self.failures + host

    def released(self, host: str) -> str:
        """Who gave the host's slot back, on a lease of a week: {"reason", "by", "at"}."""
        return self.releases + host

    def list_ranges(self) -> tuple[Range, ...]:
        """Everything that there is of the rule."""
        many = (self.slots, self.holders, self.starts, self.alives, self.failures, self.releases)
        return (
            Range(self.rule),
            Range(self.pause),
            *(Range(prefix, is_prefix=True) for prefix in many),
        )


def list_numbers(keys: tuple[str, ...]) -> frozenset[int]:
    """The numbers of slots or tokens."""
    texts = (key.rpartition("/")[2] for key in keys)
    return frozenset(int(text) for text in texts if text.isdecimal())
