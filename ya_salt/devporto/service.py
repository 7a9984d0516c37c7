"""Answers to requests: what portod's rpc does with each of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ya_salt.devporto import (
    matching,
    readings,
    readings_host,
    settings_limits,
    settings_misc,
    settings_places,
    settings_process,
    settings_users,
)
from ya_salt.devporto.container import Container
from ya_salt.devporto.machine import Machine
from ya_salt.devporto.processes import Census
from ya_salt.devporto.property import (
    TABLE,
    Question,
    check_real,
    find_label,
    read_property,
    set_label,
    write_property,
)
from ya_salt.devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from ya_salt.devporto.registry import Registry
from ya_salt.devporto.users import READ_ONLY, Caller, UserBook
from ya_salt.devporto.values import INT64_MAX, parse_int64
from ya_salt.devporto.waiters import Waiter, Waiters
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client

VERSION_TAG = "5.3.59"
VERSION_REVISION = "ya-salt dev-portod"
_STOP_TIMEOUT_MS = 30_000

Request = pb.TContainerRequest
Response = pb.TContainerResponse
Answer = Awaitable[None] | None

_TABLES = (
    *(settings_limits, settings_misc, settings_places, settings_process, settings_users),
    *(readings, readings_host),
)
for _module in _TABLES:
    _module.add_rows()


class Queued(Exception):  # noqa: N818 - no error: somebody answers later
    """The answer comes from a waiter."""


class Service:
    """Handlers by name of the request's field. Those that change containers are coroutines."""

    def __init__(
        self,
        registry: Registry,
        machine: Machine,
        waiters: Waiters,
        users: UserBook,
        keeper_pid: int,
    ) -> None:
        self._registry = registry
        self._machine = machine
        self._waiters = waiters
        self._users = users
        self._keeper_pid = keeper_pid
        # In portod's order: of several fields in one request it obeys the first.
        self._readers: dict[str, Callable[[Client, Request, Response], None]] = {
            "list": self._list,
            "getProperty": self._get_property,
            "get": self._get,
            "propertyList": self._property_list,
            "version": self._version,
            "wait": self._wait,
            "AsyncWait": self._async_wait,
            "StopAsyncWait": self._stop_async_wait,
            "FindLabel": self._find_label,
        }
        self._writers: dict[str, Callable[[Client, Request, Response], Answer]] = {
            "create": self._create,
            "createWeak": self._create_weak,
            "destroy": self._destroy,
            "setProperty": self._set_property,
            "start": self._start,
            "stop": self._stop,
            "pause": self._pause,
            "resume": self._resume,
            "Respawn": self._respawn,
            "kill": self._kill,
            "SetLabel": self._set_label,
            "IncLabel": self._inc_label,
        }

    def find_method(self, request: Request) -> str:
        """Empty for a request without a field we know."""
        fields = [descriptor.name for descriptor, _ in request.ListFields()]
        for name in _ORDER:
            if name in fields:
                return name
        return ""

    def answer(self, client: Client, method: str, request: Request, out: Response) -> Answer:
        """Fill `out` now, or return what to await for it. Raises Refusal, Queued."""
        reader = self._readers.get(method)
        if reader is not None:
            reader(client, request, out)
            return None
        if client.caller.level <= READ_ONLY:
            raise make_denied("Write access denied")
        writer = self._writers.get(method)
        if writer is None:
            raise Refusal(pb.InvalidMethod, "invalid RPC method")
        return writer(client, request, out)

    def _ask(self, caller: Caller, containers: list[Container] | None = None) -> Question:
        chosen = list(self._registry) if containers is None else containers
        inits = [
            one.run.init
            for container in chosen
            for one in ([container] if not container.children else container.subtree())
            if one.run
        ]
        return Question(caller, self._registry, self._users, Census(inits), self._keeper_pid)

    async def _with(
        self, client: Client, name: str, work: Callable[[Container], Awaitable[None]]
    ) -> None:
        """Do `work` on a container nobody else is changing."""
        container = self._registry.find_writable(client.caller, name)
        await self._registry.lock(container)
        try:
            await work(container)
        finally:
            self._registry.unlock(container)

    def _create(self, client: Client, request: Request, _: Response) -> None:
        self._waiters.notify(self._registry.create(client.caller, request.create.name))

    def _create_weak(self, client: Client, request: Request, _: Response) -> None:
        container = self._registry.create(client.caller, request.createWeak.name)
        container.weak = True
        client.weak.append(container)
        self._waiters.notify(container)

    def _destroy(self, client: Client, request: Request, _: Response) -> Answer:
        return self._with(client, request.destroy.name, self._machine.destroy)

    def _start(self, client: Client, request: Request, _: Response) -> Answer:
        async def work(container: Container) -> None:
            await self._machine.start(client.caller, container)

        return self._with(client, request.start.name, work)

    def _stop(self, client: Client, request: Request, _: Response) -> Answer:
        given = request.stop.HasField("timeout_ms")
        timeout_ms = request.stop.timeout_ms if given else _STOP_TIMEOUT_MS

        async def work(container: Container) -> None:
            await self._machine.stop(container, timeout_ms)

        return self._with(client, request.stop.name, work)

    def _pause(self, client: Client, request: Request, _: Response) -> Answer:
        async def work(container: Container) -> None:
            self._machine.pause(container)

        return self._with(client, request.pause.name, work)

    def _resume(self, client: Client, request: Request, _: Response) -> Answer:
        async def work(container: Container) -> None:
            self._machine.resume(container)

        return self._with(client, request.resume.name, work)

    def _respawn(self, client: Client, request: Request, _: Response) -> Answer:
        async def work(container: Container) -> None:
            await self._machine.respawn(container, client.caller)

        return self._with(client, request.Respawn.name, work)

    def _kill(self, client: Client, request: Request, _: Response) -> None:
        container = self._registry.find_for(client.caller, request.kill.name)
        self._registry.check_control(client.caller, container)
        self._machine.kill(container, request.kill.sig)

    def _set_property(self, client: Client, request: Request, _: Response) -> Answer:
        asked = request.setProperty

        async def work(container: Container) -> None:
            before = dict(container.labels)
            question = self._ask(client.caller, [])
            write_property(question, container, asked.property, asked.value)
            if before != container.labels:
                self._notify_labels(container, before)

        return self._with(client, asked.name, work)

    def _notify_labels(self, container: Container, before: dict[str, str]) -> None:
        for label in sorted(before.keys() | container.labels.keys()):
            value = container.labels.get(label, "")
            if before.get(label, "") != value:
                self._waiters.notify(container, label, value)

    def _list(self, client: Client, request: Request, out: Response) -> None:
        asked = request.list
        mask = asked.mask if asked.HasField("mask") else "***"
        names = [
            name
            for one in self._registry
            if one.changed_at >= asked.changed_since
            and (name := self._registry.compose(client.caller, one)) is not None
            and matching.match_mask(name, mask)
        ]
        if names:
            out.list.name.extend(names)

    def _get_property(self, client: Client, request: Request, out: Response) -> None:
        asked = request.getProperty
        container = self._registry.find_for(client.caller, asked.name)
        if asked.real:
            check_real(container, asked.property)
        question = self._ask(client.caller, [container])
        out.getProperty.value = read_property(question, container, asked.property)

    def _get(self, client: Client, request: Request, out: Response) -> None:
        asked = request.get
        out.get.SetInParent()
        found = self._find_all(client.caller, list(asked.name))
        question = self._ask(client.caller, [one for _, one in found if isinstance(one, Container)])
        variables = list(asked.variable)
        for name, one in found:
            entry = out.get.list.add(name=name)
            if isinstance(one, Refusal):
                for variable in variables:
                    entry.keyval.add(variable=variable, error=one.code, errorMsg=one.text)
                continue
            entry.change_time = one.changed_at
            if one.changed_at < asked.changed_since:
                entry.no_changes = True
                continue
            self._fill(question, one, variables, entry, real=asked.real)

    def _find_all(self, caller: Caller, asked: list[str]) -> list[tuple[str, Container | Refusal]]:
        """Names first, as they were asked, then what the masks match, by name."""
        found: list[tuple[str, Container | Refusal]] = []
        for name in asked:
            if not matching.is_mask(name):
                try:
                    found.append((name, self._registry.find_for(caller, name)))
                except Refusal as error:
                    found.append((name, error))
        masks = [name for name in asked if matching.is_mask(name)]
        for one in self._registry if masks else ():
            seen = self._registry.compose(caller, one)
            if seen is not None and any(matching.match_mask(seen, mask) for mask in masks):
                found.append((seen, one))
        return found

    @staticmethod
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
                add(variable=variable, value=read_property(question, container, variable))
            except Refusal as error:
                add(variable=variable, error=error.code, errorMsg=error.text)

    @staticmethod
    def _property_list(_: Client, __: Request, out: Response) -> None:
        for name in sorted(TABLE):
            row = TABLE[name]
            if row.supported and not row.hidden:
                out.propertyList.list.add(
                    name=name,
                    desc=row.describe(),
                    read_only=row.read_only,
                    dynamic=row.dynamic,
                )

    @staticmethod
    def _version(_: Client, __: Request, out: Response) -> None:
        out.version.tag, out.version.revision = VERSION_TAG, VERSION_REVISION

    def _find_label(self, client: Client, request: Request, out: Response) -> None:
        asked = request.FindLabel
        out.FindLabel.SetInParent()
        for one in self._registry:
            name = self._registry.compose(client.caller, one)
            if name is None or (asked.HasField("state") and one.state.value != asked.state):
                continue
            if asked.HasField("mask") and not matching.match_mask(name, asked.mask):
                continue
            for label, value in _pick_labels(one, asked.label):
                if not asked.HasField("value") or asked.value == value:
                    out.FindLabel.list.add(
                        name=name, state=one.state.value, label=label, value=value
                    )

    def _set_label(self, client: Client, request: Request, out: Response) -> Answer:
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
            self._waiters.notify(container, asked.label, asked.value)

        return self._with(client, asked.name, work)

    def _inc_label(self, client: Client, request: Request, out: Response) -> Answer:
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
            self._waiters.notify(container, asked.label, str(value + asked.add))

        return self._with(client, asked.name, work)

    def _wait(self, client: Client, request: Request, out: Response) -> None:
        if not request.wait.name:
            raise make_invalid("Containers to wait are not set")
        waiter = Waiter(client.caller, client.answer_wait, is_async=False)
        if self._look_around(waiter, request.wait, out) or self._ends_now(waiter, request.wait):
            raise Queued
        client.replace_waiter(waiter)
        self._waiters.add(waiter, request.wait.timeout_ms)
        raise Queued

    def _async_wait(self, client: Client, request: Request, out: Response) -> None:
        asked = request.AsyncWait
        waiter = Waiter(client.caller, client.send, is_async=True, target=asked.target_state)
        self._look_around(waiter, asked, out)
        if self._ends_now(waiter, asked):
            return
        client.replace_waiter(waiter)
        if waiter.names or waiter.masks:
            self._waiters.add(waiter, asked.timeout_ms)

    @staticmethod
    def _ends_now(waiter: Waiter, asked: pb.TContainerWaitRequest) -> bool:
        if asked.HasField("timeout_ms") and asked.timeout_ms == 0:
            waiter.report("", "timeout")
            return True
        return False

    def _stop_async_wait(self, client: Client, request: Request, _: Response) -> None:
        asked = request.StopAsyncWait
        wanted = Waiter(client.caller, client.send, is_async=True, target=asked.target_state)
        wanted.labels.extend(asked.label)
        for name in asked.name:
            self._enlist(wanted, name)
        current = client.async_waiter
        if current is None or current.key() != wanted.key() or not self._waiters.is_active(current):
            raise make_invalid("Waiter not found")
        self._waiters.remove(current)

    def _enlist(self, waiter: Waiter, name: str) -> str:
        """Add a name or a mask to what is waited for; the full name, empty for a mask."""
        if name == "***":
            waiter.masks.append(name)
            return ""
        full = self._registry.resolve(waiter.caller, name)
        (waiter.masks if matching.is_mask(name) else waiter.names).append(full)
        return "" if matching.is_mask(name) else full

    def _look_around(self, waiter: Waiter, asked: pb.TContainerWaitRequest, out: Response) -> bool:
        """Report what is so already; True once a synchronous waiter has its answer."""
        waiter.labels.extend(asked.label)
        for name in asked.name:
            try:
                full = self._enlist(waiter, name)
                container = self._registry.find(full) if full else None
            except Refusal as error:
                if waiter.is_async and error.code == pb.ContainerDoesNotExist:
                    continue
                out.wait.name = name
                raise
            if container and waiter.wants(container) and self._report(waiter, container, name):
                return True
        return any(
            waiter.wants(one) and self._report(waiter, one, seen)
            for one in (self._registry if waiter.masks else ())
            if (seen := self._registry.compose(waiter.caller, one)) is not None
        )

    @staticmethod
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


_ORDER = (
    *("create", "createWeak", "destroy", "list", "getProperty", "setProperty", "get", "start"),
    *("stop", "pause", "resume", "Respawn", "propertyList", "kill", "version", "wait"),
    *("AsyncWait", "StopAsyncWait", "FindLabel", "SetLabel", "IncLabel"),
)


def _pick_labels(container: Container, label: str) -> list[tuple[str, str]]:
    if matching.is_mask(label):
        every = sorted(container.labels.items())
        return [pair for pair in every if matching.match_mask(pair[0], label)]
    try:
        return [(label, find_label(container, label))]
    except Refusal:
        return []


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


def finish(out: Response, error: Refusal | None) -> Response:
    """Put the outcome on an answer; what is half filled goes, as in portod."""
    if error is not None and not out.IsInitialized():
        out.Clear()
    out.error = error.code if error else pb.Success
    out.errorMsg = error.text if error else ""
    out.timestamp = int(time.time())
    return out
