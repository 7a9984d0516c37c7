"""The one exception that becomes an `error` in an answer. Pure."""

from __future__ import annotations

from devporto import porto_pb2 as pb


class Refusal(Exception):  # noqa: N818 - it is what portod says, not a fault of ours
    """Porto says no. `code` is a number of EError, `text` is for people."""

    def __init__(self, code: pb.EError.ValueType, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{pb.EError.Name(self.code)}:({self.text})"


def make_invalid(text: str) -> Refusal:
    """Refuse with InvalidValue, the most common."""
    return Refusal(pb.InvalidValue, text)


def make_bad_state(text: str) -> Refusal:
    """Refuse with InvalidState."""
    return Refusal(pb.InvalidState, text)


def make_denied(text: str) -> Refusal:
    """Refuse with Permission: this caller may not do that."""
    return Refusal(pb.Permission, text)
