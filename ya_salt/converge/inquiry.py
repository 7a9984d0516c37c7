"""Gather what is known of one daemon, for whoever asks why it stands as it does. Reads only."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ya_salt.converge.changes import describe_changes
from ya_salt.converge.host import Host, PassRequest
from ya_salt.converge.journal import load_history
from ya_salt.converge.preview import judge_file, look_now, preview_pass
from ya_salt.converge.single import say_unknown
from ya_salt.converge.why import Evidence, explain, to_data
from ya_salt.errors import PortoError, UsageError, YaSaltError
from ya_salt.messages import (
    Details,
    describe_life,
    make_daemon_status,
    make_details,
    make_generations,
)
from ya_salt.model import DaemonPlan, DaemonSpec, DaemonStatus, Event, Loaded, Record
from ya_salt.specs.directory import DaemonsDirectoryError, load_specs
from ya_salt.specs.files import RefusedFileError, read_path
from ya_salt.specs.kept import KeptSpecs
from ya_salt.specs.places import find_lines
from ya_salt.store import read_store

_HISTORY_LINES = 50


def gather(host: Host, name: str) -> Evidence:
    """Everything that bears on how the daemon stands. Raises UsageError where nobody knows it."""
    settings = host.settings
    loaded = load_quietly(settings.specs_dir, KeptSpecs(settings.state_dir))
    store = read_store(settings.state_dir)
    records = store.load_records() if store else {}
    history = load_history(store, settings.state_dir, name, _HISTORY_LINES)
    record = records.get(name)
    spec = next((item for item in loaded.specs if item.name == name), None)
    rejected = tuple(
        item
        for item in loaded.rejected
        if item.name == name or (record and record.spec and item.path == record.spec.path)
    )
    if record is None and spec is None and not rejected:
        raise UsageError(say_unknown(name, loaded, records))
    status, trouble = _look(host, record, loaded)
    plan, changes = (None, {}) if spec is None or trouble else _preview(host, spec, loaded)
    if record is not None and any(item.is_hidden for item in rejected):
        # Who may not read the file is told what the last pass made of it.
        spec, rejected = spec or record.spec, tuple(x for x in rejected if not x.is_hidden)
    known = spec or (record.spec if record else None)
    return Evidence(
        name=name,
        now=host.now(),
        status=status,
        record=record,
        spec=spec,
        rejected=rejected,
        lines=_read_lines(known.path) if known else {},
        plan=plan,
        changes=changes,
        history=history,
        trouble=trouble,
        directory=settings.specs_dir,
        log_file=settings.log_file,
    )


_LIMITS = re.compile(r".*_(limit|guarantee)(\[.*\])?|ulimit(\[.*\])?")
_STDERR_BYTES = 2000


def look_closely(host: Host, record: Record, history: Iterable[Event], trouble: str) -> Details:
    """What is shown of one daemon beside its status; portod is not asked where it is in trouble."""
    limits = [
        name for name in (record.spec.properties if record.spec else ()) if _LIMITS.fullmatch(name)
    ]
    tail = f"stderr[:{_STDERR_BYTES}]"
    found: Mapping[str, str] = {}
    if not trouble:
        with contextlib.suppress(PortoError), host.connect() as client:
            found = client.get([record.name], ["root_pid", tail, *limits]).get(record.name, {})
    pid = found.get("root_pid", "")
    return Details(
        pid=int(pid) if pid.isdecimal() else 0,
        limits={name: found[name] for name in limits if name in found},
        history=tuple(history),
        stderr=found.get(tail, ""),
    )


def describe_all(host: Host, name: str) -> dict[str, Any]:
    """Everything that is known of one daemon, as plain data; secrets are masked.

    Raises UsageError where nobody knows it.
    """
    found = gather(host, name)
    record = found.record or Record(name)
    details = look_closely(host, record, found.history, found.trouble)
    told: dict[str, Any] = {"name": name, "file": found.file}
    if found.trouble:
        told["portod"] = f"cannot be asked: {found.trouble}"
    if found.spec is not None:
        told["spec"] = json.loads(found.spec.document)
    if found.rejected:
        told["problems"] = [problem for item in found.rejected for problem in item.problems]
    if record.spec is not None and record.spec.document != getattr(found.spec, "document", ""):
        # What the passes go by while the file cannot be used, or its version is rejected.
        told["specInEffect"] = json.loads(record.spec.document)
    if found.status is not None:
        told["status"] = {**make_daemon_status(found.status), **make_details(details)}
    told["life"] = describe_life(record.life)
    told["generations"] = make_generations(record)
    if record.change is not None:
        values = {key: list(pair) for key, pair in record.change.values.items()}
        told["lastChange"] = {"what": record.change.what, "values": values}
    told["why"] = to_data(explain(found))
    return told


def load_quietly(directory: str, kept: KeptSpecs | None = None) -> Loaded:
    """The daemons directory; as if it were empty where it cannot be read. `kept` as there."""
    try:
        return load_specs(directory, kept=kept)
    except DaemonsDirectoryError:
        return Loaded()


def _look(host: Host, record: Record | None, loaded: Loaded) -> tuple[DaemonStatus | None, str]:
    if record is None or record.status is None:
        return None, ""
    try:
        (status,) = look_now(host, {record.name: record})
    except PortoError as error:
        return record.status, str(error)
    return judge_file(status, loaded), ""


def _preview(
    host: Host, spec: DaemonSpec, loaded: Loaded
) -> tuple[DaemonPlan | None, dict[str, dict[str, object]]]:
    """What a pass about this daemon would do; None where that cannot be said."""
    try:
        looked = preview_pass(host, PassRequest((spec,), loaded, whole=False))
        observed, (plan,) = looked.observed, looked.plans
    except YaSaltError:
        return None, {}
    return plan, describe_changes(spec, (*plan.steps, *plan.waiting), observed)


def _read_lines(path: str) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError, RefusedFileError):
        return find_lines(read_path(path).decode(), is_json=path.endswith(".json"))
    return {}
