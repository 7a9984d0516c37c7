"""A process that dies at a chosen call, as one does that is killed there."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

_DIED = 77


def die_at(
    act: Callable[[], object], module: ModuleType | type, names: tuple[str, ...], nth: int
) -> bool:
    """Run `act` in a child that is gone at the nth call of these functions; whether it came to it.

    They are numbered from 1, all of them together, and not carried out the last time.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _arm(module, names, nth)
            act()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, _DIED}, code
    return code == _DIED


def _arm(module: ModuleType | type, names: tuple[str, ...], nth: int) -> None:
    left = nth

    def watch(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os._exit(_DIED)
            return real(*arguments, **more)

        return call

    for name in names:
        setattr(module, name, watch(getattr(module, name)))
