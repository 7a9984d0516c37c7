"""Which answer belongs to which request, and what portod puts on every one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from ya_salt.devporto import (
    answers_read,
    answers_wait,
    answers_write,
    readings,
    readings_host,
    settings_limits,
    settings_misc,
    settings_places,
    settings_process,
    settings_users,
)
from ya_salt.devporto.refusal import Refusal, make_denied
from ya_salt.devporto.users import READ_ONLY
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client
    from ya_salt.devporto.desk import Desk

Request = pb.TContainerRequest
Response = pb.TContainerResponse
Answer = Awaitable[None] | None

_TABLES = (
    *(settings_limits, settings_misc, settings_places, settings_process, settings_users),
    *(readings, readings_host),
)
for _module in _TABLES:
    _module.add_rows()

_READERS: Mapping[str, Callable[[Desk, Client, Request, Response], None]] = {
    "list": answers_read.list_containers,
    "getProperty": answers_read.get_property,
    "get": answers_read.get,
    "propertyList": answers_read.property_list,
    "version": answers_read.version,
    "wait": answers_wait.wait,
    "AsyncWait": answers_wait.async_wait,
    "StopAsyncWait": answers_wait.stop_async_wait,
    "FindLabel": answers_read.find_labels,
}
_WRITERS: Mapping[str, Callable[[Desk, Client, Request, Response], Answer]] = {
    "create": answers_write.create,
    "createWeak": answers_write.create_weak,
    "destroy": answers_write.destroy,
    "setProperty": answers_write.set_property,
    "start": answers_write.start,
    "stop": answers_write.stop,
    "pause": answers_write.pause,
    "resume": answers_write.resume,
    "Respawn": answers_write.respawn,
    "kill": answers_write.kill,
    "SetLabel": answers_write.set_one_label,
    "IncLabel": answers_write.inc_label,
}
# Of several fields in one request portod obeys the first of these.
_ORDER = (
    *("create", "createWeak", "destroy", "list", "getProperty", "setProperty", "get", "start"),
    *("stop", "pause", "resume", "Respawn", "propertyList", "kill", "version", "wait"),
    *("AsyncWait", "StopAsyncWait", "FindLabel", "SetLabel", "IncLabel"),
)


def find_method(request: Request) -> str:
    """Return the field to answer; empty for a request without a field we know."""
    fields = {descriptor.name for descriptor, _ in request.ListFields()}
    return next((name for name in _ORDER if name in fields), "")


def answer(desk: Desk, client: Client, request: Request, out: Response) -> Answer:
    """Fill `out` now, or return what to await for it. Raises Refusal, Queued."""
    method = find_method(request)
    reader = _READERS.get(method)
    if reader is not None:
        reader(desk, client, request, out)
        return None
    if client.caller.level <= READ_ONLY:
        raise make_denied("Write access denied")
    writer = _WRITERS.get(method)
    if writer is None:
        raise Refusal(pb.InvalidMethod, "invalid RPC method")
    return writer(desk, client, request, out)


def finish(out: Response, error: Refusal | None) -> Response:
    """Put the outcome on an answer; what is half filled goes, as in portod."""
    if error is not None and not out.IsInitialized():
        out.Clear()
    out.error = error.code if error else pb.Success
    out.errorMsg = error.text if error else ""
    out.timestamp = int(time.time())
    return out
