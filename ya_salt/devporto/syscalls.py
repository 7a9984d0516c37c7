"""The few calls of libc that Python does not offer. Standard library only."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WRDE_NOCMD = 4
_WRDE_UNDEF = 32
_WORDEXP_ERRORS = {
    2: "illegal newline or one of | & ; < > ( ) { }",
    3: "undefined variable",
    4: "command substitution is not supported",
    5: "syntax error",
}


class _WordExp(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_size_t),
        ("words", ctypes.POINTER(ctypes.c_char_p)),
        ("offset", ctypes.c_size_t),
    )


class WordExpError(ValueError):
    """wordexp(3) refused the command line."""


def become_subreaper() -> None:
    """Orphans below this process come to it, not to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(sig: int) -> None:
    """Receive `sig` when the parent ends. A change of credentials forgets it."""
    _prctl(_PR_SET_PDEATHSIG, sig)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def split_words(command: str) -> list[bytes]:
    """Expand `command` as portod does: wordexp(3), without commands, undefined variables refused.

    Uses the environment and the directory of the calling process. Raises WordExpError.
    """
    result = _WordExp()
    code = _LIBC.wordexp(os.fsencode(command), ctypes.byref(result), _WRDE_NOCMD | _WRDE_UNDEF)
    if code:
        raise WordExpError(_WORDEXP_ERRORS.get(code, f"error {code}"))
    return [result.words[index] or b"" for index in range(result.count)]
