"""Answers to `wait`, `AsyncWait` and `StopAsyncWait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ya_salt.devporto import matching
from ya_salt.devporto.container import Container
from ya_salt.devporto.desk import Queued
from ya_salt.devporto.refusal import Refusal, make_invalid
from ya_salt.devporto.waiters import Waiter
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client
    from ya_salt.devporto.desk import Desk

Request = pb.TContainerRequest
Response = pb.TContainerResponse


def wait(desk: Desk, client: Client, request: Request, out: Response) -> None:
    if not request.wait.name:
        raise make_invalid("Containers to wait are not set")
    waiter = Waiter(client.caller, client.answer_wait, is_async=False)
    if _look_around(desk, waiter, request.wait, out) or _ends_now(waiter, request.wait):
        raise Queued
    client.replace_waiter(waiter)
    desk.waiters.add(waiter, request.wait.timeout_ms)
    raise Queued


def async_wait(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.AsyncWait
    waiter = Waiter(client.caller, client.send, is_async=True, target=asked.target_state)
    _look_around(desk, waiter, asked, out)
    if _ends_now(waiter, asked):
        return
    client.replace_waiter(waiter)
    if waiter.names or waiter.masks:
        desk.waiters.add(waiter, asked.timeout_ms)


def _ends_now(waiter: Waiter, asked: pb.TContainerWaitRequest) -> bool:
    if asked.HasField("timeout_ms") and asked.timeout_ms == 0:
        waiter.report("", "timeout")
        return True
    return False


def stop_async_wait(desk: Desk, client: Client, request: Request, _: Response) -> None:
    asked = request.StopAsyncWait
    wanted = Waiter(client.caller, client.send, is_async=True, target=asked.target_state)
    wanted.labels.extend(asked.label)
    for name in asked.name:
        _enlist(desk, wanted, name)
    current = client.async_waiter
    if current is None or current.key() != wanted.key() or not desk.waiters.is_active(current):
        raise make_invalid("Waiter not found")
    desk.waiters.remove(current)


def _enlist(desk: Desk, waiter: Waiter, name: str) -> str:
    """Add a name or a mask to what is waited for; the full name, empty for a mask."""
    if name == "***":
        waiter.masks.append(name)
        return ""
    full = desk.registry.resolve(waiter.caller, name)
    (waiter.masks if matching.is_mask(name) else waiter.names).append(full)
    return "" if matching.is_mask(name) else full


def _look_around(
    desk: Desk, waiter: Waiter, asked: pb.TContainerWaitRequest, out: Response
) -> bool:
    """Report what is so already; True once a synchronous waiter has its answer."""
    waiter.labels.extend(asked.label)
    for name in asked.name:
        try:
            full = _enlist(desk, waiter, name)
            container = desk.registry.find(full) if full else None
        except Refusal as error:
            if waiter.is_async and error.code == pb.ContainerDoesNotExist:
                continue
            out.wait.name = name
            raise
        if container and waiter.wants(container) and _report(waiter, container, name):
            return True
    return any(
        waiter.wants(one) and _report(waiter, one, seen)
        for one in (desk.registry if waiter.masks else ())
        if (seen := desk.registry.compose(waiter.caller, one)) is not None
    )


def _report(waiter: Waiter, container: Container, name: str) -> bool:
    state = container.state.value
    if not waiter.labels:
        waiter.report(name, state)
        return not waiter.is_async
    for label in sorted(container.labels):
        if waiter.wants_label(label):
            waiter.report(name, state, label, container.labels[label])
            if not waiter.is_async:
                return True
    return False
