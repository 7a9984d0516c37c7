"""Which answer belongs to which request, and what portod puts on every one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from devporto import porto_pb2 as pb
from devporto import rows_life, rows_limits, rows_places, rows_process, rows_readings
from devporto.containers import Container, Registry
from devporto.machine import Machine
from devporto.processes import Census
from devporto.property import (
    TABLE,
    Question,
    check_real,
    find_label,
    read_property,
    set_label,
    write_property,
)
from devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from devporto.users import READ_ONLY, Caller, UserBook
from devporto.values import (
    INT64_MAX,
    LABEL_COUNT_MAX,
    check_label,
    is_mask,
    match_mask,
    parse_int64,
)
from devporto.waiters import Waiter, Waiters

Request = pb.TContainerRequest
Response = pb.TContainerResponse
Answer = Awaitable[None] | None
VERSION_TAG = "5.3.59"
VERSION_REVISION = "ya-salt dev-portod"
_STOP_TIMEOUT_MS = 30_000


class Client(Protocol):
    """A connection, as far as answers need it."""

    caller: Caller
    weak: list[Container]
    async_waiter: Waiter | None

    def send(self, out: Response) -> None:
        """Send an answer, or a message of AsyncWait."""

    def answer_wait(self, out: Response) -> None:
        """Send the answer to a `wait`, whenever it comes."""

    def replace_waiter(self, waiter: Waiter) -> None:
        """Keep one waiter of each kind; the older one hears nothing more."""


class Queued(Exception):  # noqa: N818 - no error: somebody answers later
    """The answer comes from a waiter."""


@dataclass(frozen=True)
class Desk:
    """Where requests are answered."""

    registry: Registry
    machine: Machine
    waiters: Waiters
    users: UserBook
    keeper_pid: int

    def ask(self, caller: Caller) -> Question:
        return Question(caller, self.registry, self.users, Census(), self.keeper_pid)

    async def change(
        self, client: Client, name: str, work: Callable[[Container], Awaitable[None]]
    ) -> None:
        """Do `work` on a container nobody else is changing."""
        container = self.registry.find_writable(client.caller, name)
        await self.registry.lock(container)
        try:
            await work(container)
        finally:
            self.registry.unlock(container)

    def change_now(self, client: Client, name: str, work: Callable[[Container], None]) -> Answer:
        """As `change`, for work that takes no time: done at once unless somebody is at it."""
        container = self.registry.find_writable(client.caller, name)
        if not self.registry.is_locked(container):
            work(container)
            return None

        async def work_later(one: Container) -> None:
            work(one)

        return self.change(client, name, work_later)


# -- answers that change nothing, but for waiting


def list_containers(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.list
    mask = asked.mask if asked.HasField("mask") else "***"
    names = [
        name
        for one in desk.registry
        if one.changed_at >= asked.changed_since
        and (name := desk.registry.compose(client.caller, one)) is not None
        and match_mask(name, mask)
    ]
    if names:
        out.list.name.extend(names)


def _wire(text: str) -> bytes:
    """What was no UTF-8 where it was read goes out as it was."""
    return text.encode("utf-8", "surrogateescape")


def get_property(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.getProperty
    container = desk.registry.find_for(client.caller, asked.name)
    if asked.real:
        check_real(container, asked.property)
    question = desk.ask(client.caller)
    out.getProperty.value = _wire(read_property(question, container, asked.property))


def get(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.get
    out.get.SetInParent()
    found = _find_all(desk, client.caller, list(asked.name))
    question = desk.ask(client.caller)
    variables = list(asked.variable)
    for name, one in found:
        entry = out.get.list.add(name=name)
        if isinstance(one, Refusal):
            for variable in variables:
                entry.keyval.add(variable=variable, error=one.code, errorMsg=_wire(one.text))
            continue
        entry.change_time = one.changed_at
        if one.changed_at < asked.changed_since:
            entry.no_changes = True
            continue
        _fill(question, one, variables, entry, real=asked.real)


def _find_all(
    desk: Desk, caller: Caller, asked: list[str]
) -> list[tuple[str, Container | Refusal]]:
    """Names first, as they were asked, then what the masks match, by name."""
    found: list[tuple[str, Container | Refusal]] = []
    for name in asked:
        if not is_mask(name):
            try:
                found.append((name, desk.registry.find_for(caller, name)))
            except Refusal as error:
                found.append((name, error))
    masks = [name for name in asked if is_mask(name)]
    for one in desk.registry if masks else ():
        seen = desk.registry.compose(caller, one)
        if seen is not None and any(match_mask(seen, mask) for mask in masks):
            found.append((seen, one))
    return found


def _fill(
    question: Question,
    container: Container,
    variables: list[str],
    entry: pb.TContainerGetResponse.TContainerGetListResponse,
    *,
    real: bool,
) -> None:
    add = entry.keyval.add
    for variable in variables:
        try:
            if real:
                check_real(container, variable)
            value = read_property(question, container, variable)
            add(variable=variable, value=_wire(value))
        except Refusal as error:
            add(variable=variable, error=error.code, errorMsg=_wire(error.text))


def property_list(_desk: Desk, _: Client, __: Request, out: Response) -> None:
    for name in sorted(TABLE):
        row = TABLE[name]
        if row.supported and not row.hidden:
            out.propertyList.list.add(
                name=name,
                desc=row.describe(),
                read_only=row.read_only,
                dynamic=row.dynamic,
            )


def version(_desk: Desk, _: Client, __: Request, out: Response) -> None:
    out.version.tag, out.version.revision = VERSION_TAG, VERSION_REVISION


def find_labels(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.FindLabel
    out.FindLabel.SetInParent()
    wanted, mask = asked.label, asked.mask if asked.HasField("mask") else "***"
    wanted_state = asked.state if asked.HasField("state") else None
    wanted_value = asked.value if asked.HasField("value") else None
    add = out.FindLabel.list.add
    for one in desk.registry:
        state = one.state.value
        if wanted_state not in (None, state):
            continue
        name = desk.registry.compose(client.caller, one)
        if name is None or not match_mask(name, mask):
            continue
        for label, value in _pick_labels(one, wanted):
            if wanted_value in (None, value):
                add(name=name, state=state, label=label, value=value)


def _pick_labels(container: Container, label: str) -> list[tuple[str, str]]:
    if is_mask(label):
        every = sorted(container.labels.items())
        return [pair for pair in every if match_mask(pair[0], label)]
    if not label.startswith("."):
        return [(label, container.labels[label])] if label in container.labels else []
    try:
        return [(label, find_label(container, label))]
    except Refusal:
        return []


# -- answers that change containers; those that take time are coroutines


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
    def work(container: Container) -> None:
        desk.machine.resume(container)

    return desk.change_now(client, request.resume.name, work)


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

    def work(container: Container) -> None:
        before = dict(container.labels)
        question = desk.ask(client.caller)
        write_property(question, container, asked.property, asked.value)
        if before != container.labels:
            _notify_labels(desk, container, before)

    return desk.change_now(client, asked.name, work)


def _notify_labels(desk: Desk, container: Container, before: dict[str, str]) -> None:
    for label in sorted(before.keys() | container.labels.keys()):
        value = container.labels.get(label, "")
        if before.get(label, "") != value:
            desk.waiters.notify(container, label, value)


def set_one_label(desk: Desk, client: Client, request: Request, out: Response) -> Answer:
    asked = request.SetLabel
    out.SetLabel.SetInParent()
    check_label(asked.label, asked.value)

    def work(container: Container) -> None:
        old = container.labels.get(asked.label)
        if old is not None:
            out.SetLabel.prev_value = old
        out.SetLabel.state = container.state.value
        _check_label_change(asked, container, old)
        set_label(container, asked.label, asked.value)
        container.touch()
        desk.waiters.notify(container, asked.label, asked.value)

    return desk.change_now(client, asked.name, work)


def inc_label(desk: Desk, client: Client, request: Request, out: Response) -> Answer:
    asked = request.IncLabel
    check_label(asked.label, "")

    def work(container: Container) -> None:
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

    return desk.change_now(client, asked.name, work)


def _check_label_change(asked: pb.TSetLabelRequest, container: Container, old: str | None) -> None:
    if asked.HasField("prev_value"):
        if old is None and asked.prev_value:
            raise Refusal(pb.LabelNotFound, f"Container has no label {asked.label}")
        if old is not None and asked.prev_value != old:
            raise Refusal(pb.Busy, f"label {asked.label} is {old} not {asked.prev_value}")
    if asked.HasField("state") and container.state.value != asked.state:
        raise make_bad_state(f"Container is {container.state.value} not {asked.state}")
    if asked.value and len(container.labels) >= LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")


def _check_label_count(add: int, container: Container, old: str | None, label: str) -> None:
    if old is not None:
        return
    if not add:
        raise Refusal(pb.LabelNotFound, f"Label {label} is not set")
    if len(container.labels) >= LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")


# -- waiting


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
    (waiter.masks if is_mask(name) else waiter.names).append(full)
    return "" if is_mask(name) else full


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


# -- which answer belongs to which request

for _rows in (rows_limits, rows_life, rows_places, rows_process, rows_readings):
    _rows.add_rows()

_READERS: Mapping[str, Callable[[Desk, Client, Request, Response], None]] = {
    "list": list_containers,
    "getProperty": get_property,
    "get": get,
    "propertyList": property_list,
    "version": version,
    "wait": wait,
    "AsyncWait": async_wait,
    "StopAsyncWait": stop_async_wait,
    "FindLabel": find_labels,
}
_WRITERS: Mapping[str, Callable[[Desk, Client, Request, Response], Answer]] = {
    "create": create,
    "createWeak": create_weak,
    "destroy": destroy,
    "setProperty": set_property,
    "start": start,
    "stop": stop,
    "pause": pause,
    "resume": resume,
    "Respawn": respawn,
    "kill": kill,
    "SetLabel": set_one_label,
    "IncLabel": inc_label,
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
    out.errorMsg = _wire(error.text) if error else b""
    out.timestamp = int(time.time())
    return out
