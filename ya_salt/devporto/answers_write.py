"""Answers that change containers. Those that take time are coroutines."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ya_salt.devporto import matching
from ya_salt.devporto.container import Container
from ya_salt.devporto.property import (
    set_label,
    write_property,
)
from ya_salt.devporto.refusal import Refusal, make_bad_state, make_invalid
from ya_salt.devporto.values import INT64_MAX, parse_int64
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client
    from ya_salt.devporto.desk import Desk

Request = pb.TContainerRequest
Response = pb.TContainerResponse
Answer = Awaitable[None] | None
_STOP_TIMEOUT_MS = 30_000


def create(desk: Desk, client: Client, request: Request, _: Response) -> None:
    desk.waiters.notify(desk.registry.create(client.caller, request.create.name))


def create_weak(desk: Desk, client: Client, request: Request, _: Response) -> None:
    container = desk.registry.create(client.caller, request.createWeak.name)
    container.weak = True
    client.weak.append(container)
    desk.waiters.notify(container)


def destroy(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    return desk.change(client, request.destroy.name, desk.machine.destroy)


def start(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    async def work(container: Container) -> None:
        await desk.machine.start(client.caller, container)

    return desk.change(client, request.start.name, work)


def stop(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    given = request.stop.HasField("timeout_ms")
    timeout_ms = request.stop.timeout_ms if given else _STOP_TIMEOUT_MS

    async def work(container: Container) -> None:
        await desk.machine.stop(container, timeout_ms)

    return desk.change(client, request.stop.name, work)


def pause(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    async def work(container: Container) -> None:
        await desk.machine.pause(container)

    return desk.change(client, request.pause.name, work)


def resume(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    async def work(container: Container) -> None:
        desk.machine.resume(container)

    return desk.change(client, request.resume.name, work)


def respawn(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    async def work(container: Container) -> None:
        await desk.machine.respawn(container, client.caller)

    return desk.change(client, request.Respawn.name, work)


def kill(desk: Desk, client: Client, request: Request, _: Response) -> None:
    container = desk.registry.find_for(client.caller, request.kill.name)
    desk.registry.check_control(client.caller, container)
    desk.machine.kill(container, request.kill.sig)


def set_property(desk: Desk, client: Client, request: Request, _: Response) -> Answer:
    asked = request.setProperty

    async def work(container: Container) -> None:
        before = dict(container.labels)
        question = desk.ask(client.caller, [])
        write_property(question, container, asked.property, asked.value)
        if before != container.labels:
            _notify_labels(desk, container, before)

    return desk.change(client, asked.name, work)


def _notify_labels(desk: Desk, container: Container, before: dict[str, str]) -> None:
    for label in sorted(before.keys() | container.labels.keys()):
        value = container.labels.get(label, "")
        if before.get(label, "") != value:
            desk.waiters.notify(container, label, value)


def set_one_label(desk: Desk, client: Client, request: Request, out: Response) -> Answer:
    asked = request.SetLabel
    out.SetLabel.SetInParent()
    matching.check_label(asked.label, asked.value)

    async def work(container: Container) -> None:
        old = container.labels.get(asked.label)
        if old is not None:
            out.SetLabel.prev_value = old
        out.SetLabel.state = container.state.value
        _check_label_change(asked, container, old)
        set_label(container, asked.label, asked.value)
        container.touch()
        desk.waiters.notify(container, asked.label, asked.value)

    return desk.change(client, asked.name, work)


def inc_label(desk: Desk, client: Client, request: Request, out: Response) -> Answer:
    asked = request.IncLabel
    matching.check_label(asked.label, "")

    async def work(container: Container) -> None:
        old = container.labels.get(asked.label)
        out.IncLabel.result = 0
        _check_label_count(asked.add, container, old, asked.label)
        value = parse_int64(old) if old is not None else 0
        out.IncLabel.result = value
        if not -INT64_MAX - 1 <= value + asked.add <= INT64_MAX:
            raise make_invalid(f"Label {asked.label} overflow")
        out.IncLabel.result = value + asked.add
        container.labels[asked.label] = str(value + asked.add)
        container.touched.add("labels")
        container.touch()
        desk.waiters.notify(container, asked.label, str(value + asked.add))

    return desk.change(client, asked.name, work)


def _check_label_change(asked: pb.TSetLabelRequest, container: Container, old: str | None) -> None:
    if asked.HasField("prev_value"):
        if old is None and asked.prev_value:
            raise Refusal(pb.LabelNotFound, f"Container has no label {asked.label}")
        if old is not None and asked.prev_value != old:
            raise Refusal(pb.Busy, f"label {asked.label} is {old} not {asked.prev_value}")
    if asked.HasField("state") and container.state.value != asked.state:
        raise make_bad_state(f"Container is {container.state.value} not {asked.state}")
    if asked.value and len(container.labels) >= matching.LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")


def _check_label_count(add: int, container: Container, old: str | None, label: str) -> None:
    if old is not None:
        return
    if not add:
        raise Refusal(pb.LabelNotFound, f"Label {label} is not set")
    if len(container.labels) >= matching.LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")
