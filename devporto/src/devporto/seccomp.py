"""The `seccomp` property: a profile in protobuf text format; checked, read back, not loaded."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from devporto.refusal import make_invalid

_ACTIONS = ("Allow", "Errno", "Trace", "Notify", "Log", "Trap", "KillProcess", "Kill")
_COMPARISONS = ("Ne", "Lt", "Le", "Eq", "Ge", "Gt", "MaskedEq")
_VALUE_MASK = 0xFFFF
_REQUIRED, _OPTIONAL, _REPEATED = "REQUIRED", "OPTIONAL", "REPEATED"
# Message: (field, label, type); a type with a dot is a message or an enum below.
_MESSAGES = {
    "TArg": (
        ("index", _REQUIRED, "UINT64"),
        ("compare", _REQUIRED, ".ECompare"),
        ("value", _REQUIRED, "UINT64"),
    ),
    "TAction": (("action", _REQUIRED, ".EAction"), ("value", _OPTIONAL, "UINT64")),
    "TRule": (
        ("syscall", _REQUIRED, "STRING"),
        ("args", _REPEATED, ".TArg"),
        ("action", _REQUIRED, ".TAction"),
    ),
    "TProfile": (
        ("name", _OPTIONAL, "STRING"),
        ("default_action", _OPTIONAL, ".TAction"),
        ("rules", _REPEATED, ".TRule"),
    ),
}


@lru_cache(1)
def _find_profile_class() -> Any:
    """The message of portod's profiles, which no file of ours describes otherwise."""
    file = descriptor_pb2.FileDescriptorProto(name="seccomp.proto", package="seccomp")
    for enum, words in (("EAction", _ACTIONS), ("ECompare", _COMPARISONS)):
        kind = file.enum_type.add(name=enum)
        for number, word in enumerate(words):
            kind.value.add(name=word, number=number)
    types = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, label, kind_name) in enumerate(fields, 1):
            added = message.field.add(name=field, number=number)
            added.label = types.Label.Value(f"LABEL_{label}")
            if kind_name.startswith("."):
                added.type_name = f".seccomp{kind_name}"
                word = "ENUM" if kind_name.startswith(".E") else "MESSAGE"
                added.type = types.Type.Value(f"TYPE_{word}")
            else:
                added.type = types.Type.Value(f"TYPE_{kind_name}")
    pool: Any = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("seccomp.TProfile")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def parse_seccomp(text: str) -> str:
    """Find the form in which portod reads a profile back. Raises Refusal(InvalidValue)."""
    asked = _find_profile_class()()
    try:
        text_format.Parse(text, asked)
    except text_format.ParseError as error:
        raise make_invalid(f"invalid seccomp profile: {error}") from error
    if not asked.IsInitialized():
        raise make_invalid("invalid seccomp profile: a required field is missing")
    kept = _find_profile_class()()
    _copy_action(asked.default_action, kept.default_action)
    for rule in asked.rules:
        if not _is_syscall(rule.syscall):
            raise make_invalid(f"unknown syscall {rule.syscall}")
        fresh = kept.rules.add(syscall=rule.syscall)
        fresh.args.MergeFrom(rule.args)
        _copy_action(rule.action, fresh.action)
    return text_format.MessageToString(kept, as_one_line=True) + " "


def _copy_action(asked: Any, kept: Any) -> None:
    """Only two actions have a value, and those always have one."""
    kept.action = asked.action
    if _ACTIONS[asked.action] in ("Errno", "Trace"):
        kept.value = asked.value & _VALUE_MASK


@lru_cache(1)
def _find_library() -> Any:
    try:
        return ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None


def _is_syscall(name: str) -> bool:
    """Ask libseccomp; without it any name will do."""
    library = _find_library()
    return library is None or library.seccomp_syscall_resolve_name(name.encode()) >= 0
