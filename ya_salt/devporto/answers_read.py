"""Answers that change nothing, but for waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ya_salt.devporto import matching
from ya_salt.devporto.container import Container
from ya_salt.devporto.property import (
    TABLE,
    Question,
    check_real,
    find_label,
    read_property,
)
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.users import Caller
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client
    from ya_salt.devporto.desk import Desk

VERSION_TAG = "5.3.59"
VERSION_REVISION = "ya-salt dev-portod"

Request = pb.TContainerRequest
Response = pb.TContainerResponse


def list_containers(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.list
    mask = asked.mask if asked.HasField("mask") else "***"
    names = [
        name
        for one in desk.registry
        if one.changed_at >= asked.changed_since
        and (name := desk.registry.compose(client.caller, one)) is not None
        and matching.match_mask(name, mask)
    ]
    if names:
        out.list.name.extend(names)


def get_property(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.getProperty
    container = desk.registry.find_for(client.caller, asked.name)
    if asked.real:
        check_real(container, asked.property)
    question = desk.ask(client.caller, [container])
    out.getProperty.value = read_property(question, container, asked.property)


def get(desk: Desk, client: Client, request: Request, out: Response) -> None:
    asked = request.get
    out.get.SetInParent()
    found = _find_all(desk, client.caller, list(asked.name))
    question = desk.ask(client.caller, [one for _, one in found if isinstance(one, Container)])
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
        _fill(question, one, variables, entry, real=asked.real)


def _find_all(
    desk: Desk, caller: Caller, asked: list[str]
) -> list[tuple[str, Container | Refusal]]:
    """Names first, as they were asked, then what the masks match, by name."""
    found: list[tuple[str, Container | Refusal]] = []
    for name in asked:
        if not matching.is_mask(name):
            try:
                found.append((name, desk.registry.find_for(caller, name)))
            except Refusal as error:
                found.append((name, error))
    masks = [name for name in asked if matching.is_mask(name)]
    for one in desk.registry if masks else ():
        seen = desk.registry.compose(caller, one)
        if seen is not None and any(matching.match_mask(seen, mask) for mask in masks):
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
            add(variable=variable, value=read_property(question, container, variable))
        except Refusal as error:
            add(variable=variable, error=error.code, errorMsg=error.text)


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
    for one in desk.registry:
        name = desk.registry.compose(client.caller, one)
        if name is None or (asked.HasField("state") and one.state.value != asked.state):
            continue
        if asked.HasField("mask") and not matching.match_mask(name, asked.mask):
            continue
        for label, value in _pick_labels(one, asked.label):
            if not asked.HasField("value") or asked.value == value:
                out.FindLabel.list.add(name=name, state=one.state.value, label=label, value=value)


def _pick_labels(container: Container, label: str) -> list[tuple[str, str]]:
    if matching.is_mask(label):
        every = sorted(container.labels.items())
        return [pair for pair in every if matching.match_mask(pair[0], label)]
    try:
        return [(label, find_label(container, label))]
    except Refusal:
        return []
