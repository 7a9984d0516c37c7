"""Rows for whom a command runs as, who owns the container, and the environment."""

from __future__ import annotations

from ya_salt.devporto.container import Container
from ya_salt.devporto.environment import (
    Variables,
    find_variable,
    format_variables,
    hide_variables,
    list_environment,
    parse_variables,
)
from ya_salt.devporto.property import Property, Question, add_property
from ya_salt.devporto.refusal import Refusal, make_denied
from ya_salt.devporto.settings_common import add_setting
from ya_salt.devporto.users import Credentials


def _write_user(question: Question, container: Container, text: str) -> None:
    # The group stays what it was: portod counts it as set from creation on.
    try:
        found = question.users.find(text)
    except Refusal:
        found = Credentials(question.users.find_uid(text))
    container.task = Credentials(found.uid, container.task.gid, found.groups)


def _write_group(question: Question, container: Container, text: str) -> None:
    gid = question.users.find_gid(text)
    container.task = Credentials(container.task.uid, gid, container.task.groups)


def _write_task_cred(question: Question, container: Container, text: str) -> None:
    container.task = question.users.find(text)


def _write_owner_user(question: Question, container: Container, text: str) -> None:
    fresh = question.users.find(text)
    old, caller = container.owner.gid, question.caller
    if fresh.is_member(old) or caller.credentials.is_member(old) or caller.is_superuser:
        fresh = Credentials(fresh.uid, old, fresh.groups)
    caller.check_control(fresh)
    container.owner = fresh


def _write_owner_group(question: Question, container: Container, text: str) -> None:
    gid = question.users.find_gid(text)
    caller = question.caller
    members = (container.owner, caller.credentials)
    if not caller.is_superuser and not any(one.is_member(gid) for one in members):
        raise make_denied(f"Desired group {text} is not among the user's own")
    container.owner = Credentials(container.owner.uid, gid, container.owner.groups)


def _write_owner_cred(question: Question, container: Container, text: str) -> None:
    fresh = question.users.find(text)
    question.caller.check_control(fresh)
    container.owner = fresh


def _read_env_key(question: Question, container: Container, index: str) -> str:
    return find_variable(list_environment(container, question.users), index)


def _write_env_key(_: Question, container: Container, index: str, text: str) -> None:
    old: Variables = container.values.get("env", {})
    container.values["env"] = {**old, index: text}


def _read_secret_key(_: Question, container: Container, index: str) -> str:
    return find_variable(hide_variables(container.values.get("env_secret", {})), index)


def _write_secret_key(_: Question, container: Container, index: str, text: str) -> None:
    container.values["env_secret"] = {**container.values.get("env_secret", {}), index: text}


def _add_credentials() -> None:
    rows = (
        ("user", lambda q, c: q.users.name_user(c.task.uid), _write_user),
        ("group", lambda q, c: q.users.name_group(c.task.gid), _write_group),
        ("task_cred", lambda _, c: c.task.format(), _write_task_cred),
        ("owner_user", lambda q, c: q.users.name_user(c.owner.uid), _write_owner_user),
        ("owner_group", lambda q, c: q.users.name_group(c.owner.gid), _write_owner_group),
        ("owner_cred", lambda _, c: c.owner.format(), _write_owner_cred),
    )
    for name, read, write in rows:
        add_property(Property(name, f"Credentials: {name}", read, write, flagged=False))


def _add_environment() -> None:
    add_setting("env", "Container environment variables: <name>=<value>; ...", parse_variables,
                format_variables, {}, read_index=_read_env_key,
                write_index=_write_env_key)  # fmt: skip
    add_setting("env_secret", "Secret environment variables", parse_variables,
                lambda pairs: format_variables(hide_variables(pairs)), {},
                read_index=_read_secret_key, write_index=_write_secret_key)  # fmt: skip


def add_rows() -> None:
    """Fill the table."""
    _add_credentials()
    _add_environment()
