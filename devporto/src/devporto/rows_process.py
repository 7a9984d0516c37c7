"""Rows for what runs and how: command, mode, directories, streams, users, environment."""

from __future__ import annotations

from dataclasses import replace

from devporto import porto_pb2 as pb
from devporto.containers import Container, Stream
from devporto.environment import (
    Variables,
    find_variable,
    format_variables,
    hide_variables,
    list_environment,
    parse_variables,
)
from devporto.property import (
    Property,
    Question,
    add_bool,
    add_choice,
    add_property,
    add_setting,
    add_text,
    enable_controller,
)
from devporto.refusal import Refusal, make_denied, make_invalid
from devporto.users import Credentials
from devporto.values import (
    format_bool,
    format_octal,
    merge_list,
    normalize_path,
    parse_bool,
    parse_int,
    parse_octal,
    parse_size,
    parse_uint64,
    split_list,
)

_COMMAND_MAX = 128 * 1024


_STDOUT_LIMIT_MAX = 1 << 30


_MODES = ("app", "os", "job", "host", "docker")


def _write_command(_: Question, container: Container, text: str) -> None:
    _check_length(len(text))
    container.command = text
    container.argv = None
    container.touched.discard("command_argv")


def _check_length(length: int) -> None:
    if length > _COMMAND_MAX:
        raise make_invalid(f"Command too long, max {_COMMAND_MAX}")


def _write_argv(_: Question, container: Container, text: str) -> None:
    _check_length(len(text))
    _store_argv(container, split_list(text, "\t"))


def _store_argv(container: Container, argv: list[str]) -> None:
    container.argv = argv or None
    container.command = "".join("'" + word.replace("'", "'\\''") + "' " for word in argv)


def _read_argv(_: Question, container: Container) -> str:
    return merge_list(container.argv or (), "\t")


def _parse_position(text: str) -> int:
    try:
        return parse_uint64(text)
    except Refusal as error:
        raise Refusal(pb.InvalidProperty, "Invalid index") from error


def _read_word(_: Question, container: Container, index: str) -> str:
    position = _parse_position(index)
    if position >= len(container.argv or ()):
        raise Refusal(pb.InvalidProperty, "Invalid index")
    return (container.argv or [])[position]


def _write_word(_: Question, container: Container, index: str, text: str) -> None:
    position = _parse_position(index)
    _check_length(max(position, len(container.command) + len(text)))
    argv = list(container.argv or [])
    argv += [""] * (position + 1 - len(argv))
    argv[position] = text
    _store_argv(container, argv)


def _write_mode(_: Question, container: Container, text: str) -> None:
    if text not in _MODES:
        raise make_invalid(f"Unknown: {text}")
    # An old name; what it did is gone.
    container.mode = "app" if text == "docker" else text
    if container.mode in ("host", "job"):
        container.isolate = False


def _write_isolate(_: Question, container: Container, text: str) -> None:
    value = parse_bool(text)
    if value and container.mode in ("host", "job"):
        raise make_invalid("isolate=true incompatible with virt_mode")
    container.isolate = value


def _write_userns(_: Question, container: Container, text: str) -> None:
    value = parse_bool(text)
    if value and container.mode in ("host", "job"):
        raise make_invalid("userns=true incompatible with virt_mode")
    container.values["userns"] = value


def _refuse_fuse(_: Question, __: Container, ___: str) -> None:
    # Of no effect but with a setting of portod's that is off by default.
    raise Refusal(pb.NotSupported, "enable_fuse is not supported")


def _write_root(_: Question, container: Container, text: str) -> None:
    enable_controller(container, "devices")
    if normalize_path(text).startswith(".."):
        raise make_denied("root path starts with ..")
    container.values["root"] = text


def _write_stdout_limit(question: Question, container: Container, text: str) -> None:
    limit = parse_size(text)
    if limit > _STDOUT_LIMIT_MAX and not question.caller.is_superuser:
        raise make_denied(f"Maximum limit is: {_STDOUT_LIMIT_MAX}")
    container.stdout_limit = limit


def _parse_oom_score(text: str) -> int:
    value = parse_int(text)
    if not -1000 <= value <= 1000:
        raise make_invalid("out of range")
    return value


def _add_stream(name: str) -> None:
    def find(container: Container) -> Stream:
        stream: Stream = getattr(container, name)
        return stream

    def write(question: Question, container: Container, text: str) -> None:
        redirect = ""
        if text.startswith("/dev/fd/"):
            number = parse_int(text.removeprefix("/dev/fd/"))
            redirect = f"/proc/{question.caller.pid}/fd/{number}"
        setattr(container, name, Stream(text, inside=True, redirect=redirect))

    add_property(Property(f"{name}_path", f"Path of {name}", lambda _, one: find(one).path, write))


def _add_command() -> None:
    add_property(
        Property(
            "command",
            "Command executed upon container start",
            lambda _, one: one.command,
            _write_command,
        )
    )
    add_property(
        Property(
            *(
                "command_argv",
                "Verbatim command line: argv0\\targv1\\t...",
                _read_argv,
                _write_argv,
            ),
            read_index=_read_word,
            write_index=_write_word,
        )
    )
    add_property(Property("virt_mode", "Virtualization mode", lambda _, one: one.mode, _write_mode))
    add_property(
        Property(
            "isolate",
            "New pid/ipc/utc/env namespace",
            lambda _, one: format_bool(one.isolate),
            _write_isolate,
        )
    )
    add_property(
        Property(
            "userns",
            "New user namespace",
            lambda _, one: format_bool(one.values.get("userns", False)),
            _write_userns,
        )
    )
    add_setting("oom_score_adj", "OOM score adjustment: -1000..1000", _parse_oom_score, str, 0)
    add_setting("umask", "Set file mode creation mask", parse_octal, format_octal, 0o002)
    add_bool("unshare_on_exec", "New mount namespace right before exec")
    add_property(
        Property("enable_fuse", "Abort fuse connections", lambda _, __: "false", _refuse_fuse)
    )
    add_choice("cgroupfs", "Cgroup fs: none|ro|rw", ("none", "ro", "rw"), "none")


def _add_places() -> None:
    add_property(
        Property(
            "cwd",
            "Container working directory",
            lambda _, one: one.find_cwd(),
            lambda _, one, text: one.values.__setitem__("cwd", text),
        )
    )
    add_property(
        Property(
            "root",
            "Container root path in parent namespace",
            lambda _, one: one.values.get("root", "/"),
            _write_root,
        )
    )
    add_bool("root_readonly", "Make filesystem read-only")
    for name in ("stdin", "stdout", "stderr"):
        _add_stream(name)
    add_property(
        Property(
            "stdout_limit",
            "Limit for stored stdout and stderr size",
            lambda _, one: str(one.stdout_limit),
            _write_stdout_limit,
            dynamic=True,
        )
    )
    add_text("hostname", "Container hostname")
    add_text("etc_hosts", "Override /etc/hosts content")


def _write_user(question: Question, container: Container, text: str) -> None:
    # The group stays what it was: portod counts it as set from creation on.
    try:
        found = question.users.find(text)
    except Refusal:
        found = Credentials(question.users.find_uid(text))
    container.task = replace(found, gid=container.task.gid)


def _write_group(question: Question, container: Container, text: str) -> None:
    gid = question.users.find_gid(text)
    container.task = replace(container.task, gid=gid)


def _write_task_cred(question: Question, container: Container, text: str) -> None:
    container.task = question.users.find(text)


def _write_owner_user(question: Question, container: Container, text: str) -> None:
    fresh = question.users.find(text)
    old, caller = container.owner.gid, question.caller
    if fresh.is_member(old) or caller.credentials.is_member(old) or caller.is_superuser:
        fresh = replace(fresh, gid=old)
    caller.check_control(fresh)
    container.owner = fresh


def _write_owner_group(question: Question, container: Container, text: str) -> None:
    gid = question.users.find_gid(text)
    caller = question.caller
    members = (container.owner, caller.credentials)
    if not caller.is_superuser and not any(one.is_member(gid) for one in members):
        raise make_denied(f"Desired group {text} is not among the user's own")
    container.owner = replace(container.owner, gid=gid)


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
        ("user", lambda q, c: q.users.describe_user(c.task), _write_user),
        ("group", lambda q, c: q.users.name_group(c.task.gid), _write_group),
        ("task_cred", lambda _, c: c.task.format(), _write_task_cred),
        ("owner_user", lambda q, c: q.users.describe_user(c.owner), _write_owner_user),
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
    _add_command()
    _add_places()
    _add_credentials()
    _add_environment()
