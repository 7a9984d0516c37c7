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


def _make_of_c_part() -> dict[str, Any] | None:
    """None where there is none, it is older than 4.21, or the environment asks for another.

    It is for protobuf's own use, so a later version may have it otherwise: protoc's way then.
    """
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "upb":
        return None
    try:
        from google._upb import _message  # type: ignore[import-untyped]  # it has no types
        from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
        from google.protobuf.message import Message

        from ya_salt.proto.porto_file import FILE

        file = _message.default_pool.AddSerializedFile(FILE)
        messages, errors = file.message_types_by_name, file.enum_types_by_name["EError"]
        made: dict[str, Any] = {
            name: _message.MessageMeta(
                name, (Message,), {"DESCRIPTOR": messages[name], "__module__": "porto_pb2"}
            )
            for name in __all__
            if name.startswith("T")
        }
        made["EError"] = EnumTypeWrapper(errors)
        made["Success"] = made["EError"].Value("Success")
    except (ImportError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return made


if not TYPE_CHECKING:
    _made = _make_of_c_part()
    if _made is None:
        from ya_salt.proto.porto_pb2 import (
            EError,
            Success,
            TContainerGetResponse,
            TContainerRequest,
            TContainerResponse,
        )
    else:
        globals().update(_made)
