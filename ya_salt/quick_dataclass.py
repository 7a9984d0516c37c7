"""`dataclass` as the standard library has it, defined in a fiftieth of the time.

That one writes the text of six methods for each class and has each compiled, close to a
millisecond a class before Python 3.13; a pass loads two hundred of them, and uses the half. Here
the methods that are the same for all are shared, and `__init__` is written once some instances
have been made: most classes never have more. The standard library's module itself takes as long
to load as fifty of ours: it is loaded when somebody asks it about one of them, and knows them
then. What no class of ours asks for (order, slots, keyword-only, `init=False`, `__post_init__`) is
not there.
"""

from __future__ import annotations

from operator import attrgetter

__all__ = ["MISSING", "asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # What checks types knows the real ones, and whatever they demand.
    from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
    from typing import Any, NoReturn
else:
    MISSING = object()

    class field:  # noqa: N801 - it stands for the standard library's
        """One field of a class, and what it is when it is not given."""

        __slots__ = ("compare", "default", "default_factory", "kind", "name", "repr")

        def __init__(
            self,
            *,
            default=MISSING,
            default_factory=MISSING,
            repr=True,  # noqa: A002 - as the standard library has it
            compare=True,
        ):
            self.name = self.kind = ""
            self.default = default
            self.default_factory = default_factory
            self.repr = repr
            self.compare = compare

    def dataclass(cls=None, /, *, frozen=False):
        """Make a class whose instances are told apart by their fields; `frozen`: for good."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        cls._quick_fields = _list_fields(cls)
        cls.__dataclass_fields__ = _ForTheStandardLibrary()
        cls.__match_args__ = tuple(item.name for item in cls._quick_fields)
        cls._field_names = frozenset(cls.__match_args__)
        # Here as in the standard library: what a class says itself goes before what is made.
        methods = {"__init__": _make_first_init(cls, frozen), "__repr__": _repr, "__eq__": _eq}
        for name, method in methods.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        if frozen:
            cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
        if vars(cls).get("__hash__") is None:
            cls.__hash__ = _hash if frozen else None
        return cls

    def is_dataclass(kind):
        return hasattr(kind, "_quick_fields")

    def fields(kind):
        return kind._quick_fields

    def replace(instance, /, **changes):
        """Make another one that differs in these fields. Raises TypeError where one is none.

        A copy of the fields, in a fourth of the time of a call of `__init__`.
        """
        cls = type(instance)
        names = cls._field_names
        if not names.issuperset(changes):
            unknown = ", ".join(sorted(changes.keys() - names))
            raise TypeError(f"{cls.__name__} has no field {unknown}")
        made = object.__new__(cls)
        values = made.__dict__
        values.update(instance.__dict__)
        if not names.issuperset(values):
            # What was found out of the old values (a `cached_property`) may not be true of the new.
            for name in values.keys() - names:
                del values[name]
        values.update(changes)
        return made

    def asdict(item):
        return {name: _copy(getattr(item, name)) for name in item.__match_args__}


def _copy(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copy, value))
    return value


def _list_fields(cls: Any) -> tuple[Any, ...]:
    """Its own after those of the class that it is made from. What has a default keeps it."""
    found = {item.name: item for item in getattr(cls, "_quick_fields", ())}
    for name, kind in cls.__annotations__.items():
        if str(kind).startswith(("ClassVar", "typing.ClassVar")):
            continue
        said: Any = vars(cls).get(name, MISSING)
        is_field = isinstance(said, field)  # type: ignore[arg-type]  # ours is a class
        item: Any = said if is_field else field(default=said)
        item.name, item.kind = name, kind
        found[name] = item
        if item.default is not MISSING:
            setattr(cls, name, item.default)
        elif said is not MISSING:
            delattr(cls, name)
    return tuple(found.values())


class _ForTheStandardLibrary:
    """What its `fields` and all that go by them look for: made when they do."""

    def __get__(self, _instance: object, cls: Any) -> dict[str, Any]:
        import dataclasses

        said = []
        for item in cls._quick_fields:
            kept = {"default": item.default, "default_factory": item.default_factory}
            kept = {name: value for name, value in kept.items() if value is not MISSING}
            one = dataclasses.field(**kept, repr=item.repr, compare=item.compare)
            said.append((item.name, item.kind, one))
        like: Any = dataclasses.make_dataclass(cls.__name__, said)
        cls.__dataclass_fields__ = like.__dataclass_fields__
        found: dict[str, Any] = cls.__dataclass_fields__
        return found


_FEW = 8
"""So many instances are made before it pays to have an `__init__` compiled."""


def _make_first_init(cls: Any, is_frozen: bool) -> Callable[..., None]:
    """An `__init__` for a few instances, which gives way to the real one after them."""
    made, defaults, factories = 0, {}, []
    for item in cls._quick_fields:
        if item.default is not MISSING:
            defaults[item.name] = item.default
        elif item.default_factory is not MISSING:
            factories.append((item.name, item.default_factory))
    names, all_names = cls.__match_args__, cls._field_names

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it is one
        nonlocal made
        made += 1
        values = dict(zip(names, args, strict=False))
        is_plain = len(args) <= len(names) and values.keys().isdisjoint(kwargs)
        values = {**defaults, **values, **kwargs}
        for name, make in factories:
            if name not in values:
                values[name] = make()
        if is_plain and made <= _FEW and values.keys() == all_names:
            vars(self).update(values)
        else:
            # Also for what was not asked as it may be: this one says what is wrong.
            cls.__init__ = _write_init(cls, is_frozen)
            cls.__init__(self, *args, **kwargs)

    return __init__


def _write_init(cls: Any, is_frozen: bool) -> Any:
    """What the standard library would write: arguments in the order of fields, with defaults."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": MISSING}
    arguments, body = ["self"], []
    for item in fields(cls):
        name, value = item.name, item.name
        if item.default is not MISSING:
            known[f"_default_{name}"] = item.default
            arguments.append(f"{name}=_default_{name}")
        elif item.default_factory is not MISSING:
            known[f"_make_{name}"] = item.default_factory
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
        names = [item.name for item in fields(cls) if item.compare]
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
    shown = [item.name for item in fields(self) if item.repr]
    said = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{self.__class__.__qualname__}({said})"


def _refuse_to_set(_self: Any, name: str, _value: Any) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")
