"""`dataclass` as the standard library has it, defined in a twentieth of the time.

That one writes the text of six methods for each class and has each compiled, close to a
millisecond a class before Python 3.13; a pass loads two hundred of them, and uses the half. Here
the methods that are the same for all are shared, and `__init__` is written when the first
instance is made. Fields are those of the standard library, so that its `fields` and `asdict` do
as ever; what no class of ours asks for (order, slots, keyword-only, `init=False`, `__post_init__`)
is not there. So `replace` is a copy of the fields, in a fourth of the time of a call of `__init__`.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter

__all__ = ["dataclass", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # What checks types knows the real one, and whatever it demands.
    from dataclasses import dataclass, replace
    from typing import Any, NoReturn
else:

    def dataclass(cls=None, /, *, frozen=False):
        """Make a class whose instances are told apart by their fields; `frozen`: for good."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        # Here as in the standard library: what a class says itself goes before what is made.
        methods = {"__init__": _make_first_init(cls, frozen), "__repr__": _repr, "__eq__": _eq}
        for name, method in methods.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        if frozen:
            cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
        if vars(cls).get("__hash__") is None:
            cls.__hash__ = _hash if frozen else None
        return dataclasses.dataclass(init=False, repr=False, eq=False)(cls)

    def replace(instance, /, **changes):
        """Make another one that differs in these fields. Raises TypeError where one is none."""
        cls = type(instance)
        fields = cls.__dataclass_fields__
        if not changes.keys() <= fields.keys():
            unknown = ", ".join(sorted(changes.keys() - fields.keys()))
            raise TypeError(f"{cls.__name__} has no field {unknown}")
        made = object.__new__(cls)
        values = made.__dict__
        values.update(instance.__dict__)
        if not values.keys() <= fields.keys():
            # What was found out of the old values (a `cached_property`) may not be true of the new.
            for name in values.keys() - fields.keys():
                del values[name]
        values.update(changes)
        return made


_MISSING = object()


def _make_first_init(cls: Any, is_frozen: bool) -> Callable[..., None]:
    """An `__init__` that gives way to the real one when it is called."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it is one
        cls.__init__ = _write_init(cls, is_frozen)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _write_init(cls: Any, is_frozen: bool) -> Any:
    """What the standard library would write: arguments in the order of fields, with defaults."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": _MISSING}
    arguments, body = ["self"], []
    for field in dataclasses.fields(cls):
        name, value = field.name, field.name
        if field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            arguments.append(f"{name}=_default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"] = field.default_factory
            arguments.append(f"{name}=_MISSING")
            value = f"_make_{name}() if {name} is _MISSING else {name}"
        else:
            arguments.append(name)
        body.append(f"_set(self, {name!r}, {value})" if is_frozen else f"self.{name} = {value}")
    text = f"def __init__({', '.join(arguments)}):\n " + "\n ".join(body or ["pass"])
    exec(text, known)  # noqa: S102 - names of our own classes' fields, as in the standard library
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _pick_compared(cls: Any) -> Any:
    """What makes a tuple of the fields that instances are told apart by, made once a class."""
    if "_compared" not in vars(cls):
        names = [field.name for field in dataclasses.fields(cls) if field.compare]
        pick = attrgetter(*names) if names else lambda _: ()
        cls._compared = staticmethod(pick if len(names) != 1 else lambda item: (pick(item),))
    return cls._compared


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    pick = _pick_compared(self.__class__)
    return pick(self) == pick(other)


def _hash(self: Any) -> int:
    return hash(_pick_compared(self.__class__)(self))


def _repr(self: Any) -> str:
    shown = [field.name for field in dataclasses.fields(self) if field.repr]
    said = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{self.__class__.__qualname__}({said})"


def _refuse_to_set(_self: Any, name: str, _value: Any) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
