"""Check `spec.properties`: from nodes to what portod is told and to the document. Pure."""

from __future__ import annotations

from ya_salt.porto import values
from ya_salt.porto.properties import (
    PROGRAM_OWNED,
    PROPERTIES,
    READ_ONLY,
    SECRET_MASK,
    Property,
    find_controller,
)
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.specs.checks import (
    Diagnostics,
    Fields,
    Member,
    convert,
    describe,
    index,
    nearest,
    read_fields,
    read_members,
    read_text,
    read_value,
    spellings,
)
from ya_salt.specs.tree import ListNode, Node, Scalar

MAX_LABELS = 90
"""portod holds 100 on a container; some are ya-salt's."""

_OTHERS = spellings((*PROGRAM_OWNED, *READ_ONLY))

Json = str | int | float | bool | list["Json"] | dict[str, "Json"]


@dataclass
class ContainerDraft:
    """Porto's names and texts in the order of setting, and the same as protobuf JSON."""

    texts: dict[str, str] = field(default_factory=dict)
    document: dict[str, Json] = field(default_factory=dict)
    has_command: bool = False


def read_container(report: Diagnostics, node: Node, path: str) -> ContainerDraft:
    members = read_fields(report, node, path, _FIELDS)
    container = ContainerDraft()
    _read_command(report, members, container)
    for name, row in PROPERTIES.items():
        if name in members:
            _READERS[row.shape](report, row, members[name], container)
    _check_together(report, members, container.texts)
    return container


def _explain(key: str) -> str:
    name = _OTHERS.get(key, key)
    if name in PROGRAM_OWNED:
        return PROGRAM_OWNED[name]
    if name in READ_ONLY:
        return "is reported by portod and cannot be set; leave it out"
    base = name.partition("[")[0]
    if base in PROPERTIES and base != name:
        return f"is one key of {base}; write {base} as a mapping"
    return f"is not a property known to ya-salt; {nearest(name, ('cmd', *PROPERTIES))}"


_FIELDS = Fields(spellings(("cmd", "command", *PROPERTIES)), _explain)


def _read_command(
    report: Diagnostics, members: dict[str, Member], container: ContainerDraft
) -> None:
    cmd, command = members.get("cmd"), members.get("command")
    container.has_command = bool(cmd or command)
    if cmd and command:
        report.add(command.key.place, command.field, "stands beside cmd; keep one of the two")
    elif cmd and isinstance(cmd.node, ListNode):
        _read_argv(report, cmd.node, cmd.field, container)
    elif cmd and not isinstance(cmd.node, Scalar):
        report.add(
            cmd.node.place,
            cmd.field,
            f"{describe(cmd.node)}; write a list of arguments, or one string",
        )
    elif one := cmd or command:
        text = read_value(report, one.node, one.field, values.parse_command)
        if text is not None:
            container.texts["command"] = text
            container.document["command"] = text


def _read_argv(report: Diagnostics, node: ListNode, path: str, container: ContainerDraft) -> None:
    if not node.items:
        report.add(node.place, path, "is an empty list; write the program and its arguments")
    items = [
        read_value(report, item, f"{path}[{number}]", values.check_argument)
        for number, item in enumerate(node.items)
    ]
    argv = tuple(item for item in items if item is not None)
    if not argv:
        return
    text = convert(report, node.place, path, "", lambda _: values.parse_argv(argv))
    if text is not None:
        container.texts["command_argv"] = text
        container.document["cmd"] = list(argv)


def _to_json(row: Property, text: str) -> Json:
    match row.json:
        case "integer":
            return int(text)
        case "number":
            return float(text)
        case "boolean":
            return text == "true"
        case "string":
            return SECRET_MASK if row.is_secret else row.show(text)


def _read_one(
    report: Diagnostics, row: Property, member: Member, container: ContainerDraft
) -> None:
    text = read_value(report, member.node, member.field, row.parse)
    if text is not None:
        container.texts[row.name] = text
        container.document[row.name] = _to_json(row, text)


def _read_list(
    report: Diagnostics, row: Property, member: Member, container: ContainerDraft
) -> None:
    items = _list_items(report, member, row.joint)
    found = [convert(report, node.place, path, text, row.parse) for node, path, text in items]
    good = [text for text in found if text is not None]
    if not good:
        return
    if row.is_unordered:
        good = sorted(set(good))
    container.texts[row.name] = row.joint.join(good)
    container.document[row.name] = [_to_json(row, text) for text in good]


def _list_items(
    report: Diagnostics, member: Member, joint: str
) -> list[tuple[Node, str, str | None]]:
    """Read a list, or one string in Porto's own syntax: entries between semicolons or blanks."""
    node, path = member.node, member.field
    if isinstance(node, ListNode):
        if not node.items:
            report.add(node.place, path, "is an empty list; list something or leave it out")
        paths = [f"{path}[{number}]" for number in range(len(node.items))]
        return [(n, p, read_text(report, n, p)) for n, p in zip(node.items, paths, strict=True)]
    if not isinstance(node, Scalar):
        report.add(node.place, path, f"{describe(node)}; write a list")
        return []
    text = read_text(report, node, path)
    written = (text or "").replace(joint, ";") if joint == " " else text or ""
    parts = [part.strip() for part in written.split(";") if part.strip()]
    if text is not None and not parts:
        report.add(node.place, path, "is empty; write a list or leave it out")
    return [(node, path, part) for part in parts]


def _read_map(
    report: Diagnostics, row: Property, member: Member, container: ContainerDraft
) -> None:
    shown: dict[str, Json] = {}
    for entry in read_members(report, member.node, member.field, index, "write a mapping"):
        key = convert(report, entry.key.place, entry.field, entry.key.text, row.check_key or str)
        text = read_value(report, entry.node, entry.field, row.parse)
        if key is not None and text is not None:
            container.texts[f"{row.name}[{key}]"] = text
            shown[key] = _to_json(row, text)
    if shown:
        container.document[row.name] = shown


_READERS = {"one": _read_one, "list": _read_list, "map": _read_map}


def _check_together(report: Diagnostics, members: dict[str, Member], texts: dict[str, str]) -> None:
    """Refuse what portod refuses only because of another property, most of it at the start."""
    if texts.get("virt_mode") == "host":
        _check_host_mode(report, members, texts)
    _check_networks(report, members, texts)
    _check_controllers(report, members, texts)
    for key in [key for key in texts if key.startswith("env_secret[")]:
        if key.replace("env_secret", "env", 1) in texts:
            name = key.partition("[")[2][:-1]
            _add(report, members["env_secret"], f"sets {name}, as env does; keep one of the two")
    if sum(key.startswith("labels[") for key in texts) > MAX_LABELS:
        _add(report, members["labels"], f"holds too many labels; keep at most {MAX_LABELS}")


def _check_host_mode(
    report: Diagnostics, members: dict[str, Member], texts: dict[str, str]
) -> None:
    """Refuse what portod takes and then does not start: conformance/host-mode-refusals."""
    for name, row in PROPERTIES.items():
        if name not in texts or row.in_host is None or texts[name] in row.in_host:
            continue
        if row.json == "boolean":
            _add(report, members[name], "cannot be true with virt_mode host; write false")
        elif row.in_host:
            right = f"leave it out, or write {' or '.join(row.in_host)}"
            _add(report, members[name], f"cannot be changed with virt_mode host; {right}")
        else:
            _add(report, members[name], "cannot be set with virt_mode host; leave it out")


def _check_networks(report: Diagnostics, members: dict[str, Member], texts: dict[str, str]) -> None:
    if "net" in texts:
        problem = values.check_net_together(texts["net"].split(";"))
        if problem:
            _add(report, members["net"], problem)
    # In os mode portod gives it one that is empty.
    default = "none" if texts.get("virt_mode") == "os" else "inherited"
    own_net = values.has_own_net(texts.get("net", default))
    if not own_net and any(key.startswith("net_rx_limit[") for key in texts):
        # Taken live, and then no start whatever for goes well any more.
        _add(report, members["net_rx_limit"], f"needs a network of its own; {_SET_NET}")
    ipc = texts.get("virt_mode") != "host" and texts.get("isolate") != "false"
    for key in [key for key in texts if key.startswith("sysctl[")]:
        name = key[len("sysctl[") : -1]
        if name.startswith("net.") and not own_net:
            _add(report, members["sysctl"], f"{name} needs a network of its own; {_SET_NET}")
        elif not name.startswith("net.") and not ipc:
            words = "needs isolation; leave it out, or leave isolate true and virt_mode not host"
            _add(report, members["sysctl"], f"{name} {words}")
    addresses = texts.get("ip_limit", "").split(" ")
    if len(addresses) > 1 and {"any", "none"} & set(addresses):
        _add(report, members["ip_limit"], "has any or none beside others; write it alone")


_SET_NET = "leave it out, or set net, such as L3 veth"


def _check_controllers(
    report: Diagnostics, members: dict[str, Member], texts: dict[str, str]
) -> None:
    """Refuse a property with the controller it needs switched off: portod never takes both.

    One that asks for nothing is left unsaid.
    """
    off = {key for key, text in texts.items() if key.startswith("controllers[") and text == "false"}
    if not off:
        return
    told = set[str]()
    for key, text in list(texts.items()):
        name = key.partition("[")[0]
        controller = find_controller(key, text)
        if f"controllers[{controller}]" not in off:
            continue
        if text == PROPERTIES[name].off:
            del texts[key]
        elif name not in told:
            told.add(name)
            words = f"needs the controller {controller}, which controllers switches off"
            _add(report, members[name], f"{words}; leave one of the two out")


def _add(report: Diagnostics, member: Member, message: str) -> None:
    report.add(member.node.place, member.field, message)
