"""Who is started after whom, and where that goes round in a circle. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_circles(after: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Daemon -> the shortest way from it back to itself, `a -> b -> a`, of those that have one."""
    found = {}
    for name, others in after.items():
        if others and (way := _find_way_back(name, after)):
            found[name] = " -> ".join((name, *way))
    return found


def _find_way_back(name: str, after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    came_from: dict[str, tuple[str, ...]] = {name: ()}
    rest = [name]
    for here in rest:
        for other in after.get(here, ()):
            if other == name:
                return (*came_from[here], name)
            if other in after and other not in came_from:
                came_from[other] = (*came_from[here], other)
                rest.append(other)
    return ()


def sort_by_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, each behind those that it is started after; `after` has no circles."""
    done: dict[str, None] = {}
    for name in after:
        _add(name, after, done)
    return list(done)


def _add(first: str, after: Mapping[str, Sequence[str]], done: dict[str, None]) -> None:
    way = [first]
    while way:
        left = [name for name in after[way[-1]] if name in after and name not in done]
        if left:
            way.append(left[0])
        else:
            done[way.pop()] = None
