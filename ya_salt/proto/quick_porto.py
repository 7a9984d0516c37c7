"""The messages of porto.proto, out of protobuf's C part alone where it has one.

What protoc writes makes the same classes in the same way, but has all of protobuf's modules in
Python loaded before: parsers of text and a second implementation, which nobody uses then. They take
longer to load than a pass over a hundred daemons takes to talk to portod.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ya_salt.proto.porto_pb2 import (
        EError,
        Success,
        TContainerGetResponse,
        TContainerRequest,
        TContainerResponse,
    )

__all__ = [
    "EError",
    "Success",
    "TContainerGetResponse",
    "TContainerRequest",
    "TContainerResponse",
]


def _load_c_part() -> Any:
    """None where there is none, it is older than 4.21, or the environment asks for another."""
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "upb":
        return None
    from google._upb import _message  # type: ignore[import-untyped]  # it has no types

    return _message


if not TYPE_CHECKING:
    _c_part = _load_c_part()
    if _c_part is None:
        from ya_salt.proto.porto_pb2 import (
            EError,
            Success,
            TContainerGetResponse,
            TContainerRequest,
            TContainerResponse,
        )
    else:
        from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
        from google.protobuf.message import Message

        from ya_salt.proto.porto_file import FILE

        _file = _c_part.default_pool.AddSerializedFile(FILE)

        def _make_class(name):
            known = {"DESCRIPTOR": _file.message_types_by_name[name], "__module__": "porto_pb2"}
            return _c_part.MessageMeta(name, (Message,), known)

        TContainerGetResponse = _make_class("TContainerGetResponse")
        TContainerRequest = _make_class("TContainerRequest")
        TContainerResponse = _make_class("TContainerResponse")
        EError = EnumTypeWrapper(_file.enum_types_by_name["EError"])
        Success = EError.Value("Success")
