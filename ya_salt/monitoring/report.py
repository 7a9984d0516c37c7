"""Tell every sink how the daemons stand: side by side, within a second, and never with an error."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ya_salt.errors import StoreError
from ya_salt.hostname import FACT as HOSTNAME
from ya_salt.hostname import HostName
from ya_salt.http import Deadline
from ya_salt.model import DaemonStatus, PrometheusSettings, Settings
from ya_salt.monitoring import steady
from ya_salt.monitoring.counters import Counter, Memory, Totals, decode_memory, encode_memory
from ya_salt.monitoring.metrics import Metrics, make_metrics
from ya_salt.monitoring.render import alertmanager, juggler, prometheus, yasm
from ya_salt.monitoring.sinks import (
    AlertmanagerSink,
    Delivery,
    JugglerSink,
    PrometheusSink,
    Sink,
    YasmSink,
    remove_textfile,
)
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.store import Store

LIMIT_S = 1.0
"""What all sinks together may take, as each runs in a thread of its own."""
_ABORT_S = 0.9
"""When whoever still hangs is woken, so that it can say what became of it."""

FACT = "monitoring"

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Whoever is elsewhere may take a resolver, which knows no deadline."""

_log = logging.getLogger("ya_salt.monitoring")


class _LastWritten:
    """The memory that was written last, and its text: neither is made of the other again.

    A pass writes it three times, and the next one of an agent begins with the same. Of what is
    new in it most counters are the same objects, which never change. For several threads: each
    text goes with the memory that it was made of, whichever is the last.
    """

    def __init__(self) -> None:
        self._known = ("", Memory())
        self._counters: dict[str, tuple[Counter, str]] = {}

    def read(self, text: str) -> Memory:
        """Raises ValueError."""
        known, memory = self._known
        return memory.copy() if text == known else decode_memory(json.loads(text))

    def write(self, memory: Memory) -> str:
        text, known = self._known
        if memory != known or not text:
            counters = {
                name: self._find_member(name, counter)
                for name, counter in sorted(memory.counters.items())
            }
            members = ",".join([member for _, member in counters.values()])
            rest = encode_memory(replace(memory, counters={}))
            del rest["counters"]
            text = f'{{"counters":{{{members}}},{_dump(rest)[1:]}'
            self._counters, self._known = counters, (text, memory.copy())
        return text

    def _find_member(self, name: str, counter: Counter) -> tuple[Counter, str]:
        known = self._counters.get(name)
        if known is not None and known[0] is counter:
            return known
        return counter, f"{_dump(name)}:{_dump(vars(counter))}"


def _dump(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


_last = _LastWritten()


def load_memory(store: Store) -> Memory:
    """What was remembered; a fact that cannot be read is begun anew."""
    text = store.load_text(FACT)
    if text is None:
        return Memory()
    try:
        return _last.read(text)
    except ValueError:
        return Memory()


def save_memory(store: Store, memory: Memory) -> None:
    """Write it, in the caller's transaction."""
    store.save_text(FACT, _last.write(memory))


@dataclass(frozen=True)
class ReportInput:
    """What is told: `statuses` of all daemons that we know, and how the last pass went."""

    statuses: tuple[DaemonStatus, ...]
    last_pass: Mapping[str, Any] | None
    """As the store's fact of that name has it; None where no pass was made yet."""
    now: float
    gate: Mapping[str, Any] = field(default_factory=dict)
    """How the gate stood in the last pass: type, state, message, since, override, slots; what is
    left out is as without a gate."""


def report(
    store: Store,
    settings: Settings,
    memory: Memory,
    found: ReportInput,
    hostname: HostName | None = None,
) -> tuple[Delivery, ...]:
    """Tell every sink that is on. Raises nothing; call it under the pass lock.

    `memory` has counted what happened; what was accepted is put into it, and it is saved.
    `hostname` is the name that the gate was given in this pass.
    """
    try:
        if hostname is None:
            has_slots = bool(found.gate.get("slots"))
            remembered = store.load_fact(HOSTNAME)
            hostname = HostName(settings.hostname, remembered, lambda: has_slots)
        return _report(store, settings, memory, found, hostname)
    except Exception:  # noqa: BLE001 - monitoring may not fail what it watches
        _log.exception("monitoring: nobody was told: a bug in ya-salt")
        return ()


def _report(
    store: Store, settings: Settings, memory: Memory, found: ReportInput, hostname: HostName
) -> tuple[Delivery, ...]:
    memory.settle()
    if not settings.monitoring.yasm.enabled:
        memory.accept("yasm", memory.list_totals())
    metrics = make_metrics(found.statuses, memory, found.last_pass, found.now, found.gate)
    desk = _Desk()
    sinks = _list_sinks(settings, metrics, memory, hostname, desk)
    deliveries = desk.run(sinks, lambda totals: _mark(store, memory, totals))
    _remember(memory, deliveries, found.now)
    _clear_textfiles(memory, settings.monitoring.prometheus, deliveries)
    memory.forget((status.name for status in found.statuses), ("yasm",))
    with store.transaction():
        save_memory(store, memory)
        save_hostname(store, hostname)
    return deliveries


def save_hostname(store: Store, hostname: HostName) -> None:
    """Remember the name in the caller's transaction, if anybody asked for it."""
    fact = hostname.to_fact()
    if fact is not None:
        store.save_fact(HOSTNAME, fact)


def _list_sinks(
    settings: Settings, metrics: Metrics, memory: Memory, hostname: HostName, desk: _Desk
) -> list[Sink]:
    told = settings.monitoring
    sinks: list[Sink] = []
    if told.yasm.enabled:
        totals = memory.list_totals()
        is_in_doubt = "yasm" in memory.doubted
        sinks.append(
            YasmSink(metrics, told.yasm, totals, lambda: desk.ask_mark(totals), is_in_doubt)
        )
    if told.juggler.enabled:
        sinks.append(JugglerSink(metrics, told.juggler, hostname))
    if told.prometheus.enabled:
        sinks.append(PrometheusSink(metrics, told.prometheus))
    if told.alertmanager.enabled and told.alertmanager.url:
        before = dict(memory.alerts)
        sinks.append(AlertmanagerSink(metrics, told.alertmanager, hostname, before))
    return sinks


def _mark(store: Store, memory: Memory, totals: dict[str, Totals]) -> bool:
    memory.handed_over["yasm"] = totals
    try:
        with store.transaction(must_last=True):
            save_memory(store, memory)
    except StoreError as error:
        del memory.handed_over["yasm"]
        _log.error("monitoring: counts are not told to yasm: %s", error)
        return False
    return True


def render_steady(
    settings: Settings,
    memory: Memory,
    found: ReportInput,
    deliveries: Iterable[Delivery],
    find_name: Callable[[], str],
) -> dict[str, Any] | None:
    """What a quick pass needs to tell the sinks that nothing has changed, as plain data.

    `deliveries`: how they took what this pass told them.

    "absent": where nobody was to be told (a directory, or host and port); "pushes": what the others
    are told, for `steady.push_all`; "textfile": directory, name and what of it stays, or None.
    None where that takes a full pass: counts are pending, an alert fires, somebody did not take
    what he was told or is not on this host. Raises OSError, ValueError.
    """
    metrics = make_metrics(found.statuses, memory, found.last_pass, found.now, found.gate)
    if memory.alerts or _has_pending(memory, metrics):
        return None
    told = settings.monitoring
    urls = {
        "yasm": told.yasm.url,
        "juggler": told.juggler.url,
        "alertmanager": told.alertmanager.url.rstrip("/") + alertmanager.API,
    }
    answers = {delivery.sink: delivery.answers for delivery in deliveries}
    steady_data: dict[str, Any] = {"absent": [], "pushes": [], "textfile": None}
    for name, sink in memory.sinks.items():
        is_there = sink.state == "accepted"
        if not is_there and sink.state != "absent":
            return None
        if name == "prometheus":
            path = told.prometheus.textfile_dir
            if is_there:
                sign = steady.sign_file(path, prometheus.FILE_NAME)
                steady_data["textfile"] = [path, prometheus.FILE_NAME, sign]
            else:
                steady_data["absent"].append(path)
            continue
        parts = urlsplit(urls[name])
        if parts.hostname not in _LOCAL or (is_there and parts.scheme != "http"):
            return None
        place = [parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)]
        if not is_there:
            steady_data["absent"].append(place)
            continue
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        bodies = _render_bodies(name, metrics, settings, find_name)
        said = answers.get(name, ())
        steady_data["pushes"] += [
            [name, place, path, json.dumps(body, ensure_ascii=False).encode(), answer]
            for body, answer in zip(
                bodies, said if len(said) == len(bodies) else [None] * len(bodies), strict=True
            )
        ]
    return steady_data


def _has_pending(memory: Memory, metrics: Metrics) -> bool:
    """Whether YASM is to be told of counts; where it is not there, they wait until it is."""
    sink = memory.sinks.get("yasm")
    if sink is None or sink.state == "absent":
        return False
    return bool(memory.doubted) or any(map(any, metrics.news.values()))


def _render_bodies(
    name: str, metrics: Metrics, settings: Settings, find_name: Callable[[], str]
) -> list[Any]:
    told = settings.monitoring
    if name == "yasm":
        return [yasm.render_push(metrics, told.yasm)]
    if name == "juggler":
        events = juggler.render_events(metrics, told.juggler, find_name())
        return list(juggler.render_requests(events, told.juggler.source))
    # Nothing fires.
    return [[]]


# -- threads -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Question:
    """A sink asks that something be written down; only the pass's own thread writes the store."""

    totals: dict[str, Totals]
    answer: queue.SimpleQueue[bool]


class _Desk:
    """Where the sinks' threads leave questions and results."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Question | Delivery] = queue.SimpleQueue()

    def ask_mark(self, totals: dict[str, Totals]) -> bool:
        """For a sink's thread: have the totals written down; False where that did not happen."""
        question = _Question(totals, queue.SimpleQueue())
        self._inbox.put(question)
        try:
            return question.answer.get(timeout=LIMIT_S)
        except queue.Empty:
            return False

    def run(
        self, sinks: Sequence[Sink], mark: Callable[[dict[str, Totals]], bool]
    ) -> tuple[Delivery, ...]:
        """Run every sink until it is done or time is over."""
        started = time.monotonic()
        deadlines = {sink.name: Deadline(started + _ABORT_S) for sink in sinks}
        for sink in sinks:
            self._start(sink, deadlines[sink.name])
        found: dict[str, Delivery] = {}
        self._collect(found, len(sinks), started + _ABORT_S, mark)
        if len(found) < len(sinks):
            for deadline in deadlines.values():
                deadline.abort()
            self._collect(found, len(sinks), started + LIMIT_S, lambda _totals: False)
        late = "it did not come to an end within a second"
        return tuple(
            found.get(sink.name, Delivery(sink.name, "unanswered", late)) for sink in sinks
        )

    def _start(self, sink: Sink, deadline: Deadline) -> None:
        def work() -> None:
            try:
                delivery = sink.send(deadline)
            except Exception as error:  # noqa: BLE001 - as above
                _log.exception("monitoring: %s failed: a bug in ya-salt", sink.name)
                delivery = Delivery(sink.name, "refused", f"a bug in ya-salt: {error!r}")
            self._inbox.put(delivery)

        try:
            # A thread that cannot be woken (a resolver, a dead file system) is left behind.
            threading.Thread(target=work, name=f"ya-salt-{sink.name}", daemon=True).start()
        except RuntimeError as error:
            self._inbox.put(Delivery(sink.name, "refused", f"cannot be told: {error}"))

    def _collect(
        self,
        found: dict[str, Delivery],
        wanted: int,
        until: float,
        mark: Callable[[dict[str, Totals]], bool],
    ) -> None:
        while len(found) < wanted:
            try:
                item = self._inbox.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(item, _Question):
                item.answer.put(mark(item.totals))
            else:
                found[item.sink] = item


# -- remembering and saying --------------------------------------------------------------------


def _remember(memory: Memory, deliveries: Sequence[Delivery], now: float) -> None:
    for delivery in deliveries:
        if delivery.state == "accepted" and delivery.totals:
            memory.accept(delivery.sink, delivery.totals)
        # No yes came, so it stays to be told: better twice than never, but not more often.
        if delivery.state == "unanswered":
            memory.doubt(delivery.sink)
        memory.handed_over.pop(delivery.sink, None)
        if delivery.alerts is not None:
            memory.alerts = dict(delivery.alerts)
        old = memory.sinks.get(delivery.sink)
        _say(delivery, old.state if old else "")
        memory.set_sink(delivery.sink, delivery.state, delivery.message, now)
    told = {delivery.sink for delivery in deliveries}
    memory.sinks = {name: item for name, item in memory.sinks.items() if name in told}


def _clear_textfiles(
    memory: Memory, settings: PrometheusSettings, deliveries: Sequence[Delivery]
) -> None:
    """Take away files that nobody writes any more: they would show old states for ever."""
    here = settings.textfile_dir
    stale = {memory.textfile_dir} - {here if settings.enabled else "", ""}
    if not settings.enabled and here:
        stale.add(here)
    for path in sorted(stale):
        # A file system that hangs is left behind.
        thread = threading.Thread(target=_clear_textfile, args=(path,), daemon=True)
        thread.start()
        thread.join(LIMIT_S)
    states = {delivery.sink: delivery.state for delivery in deliveries}
    if memory.textfile_dir in stale or states.get("prometheus") == "accepted":
        memory.textfile_dir = here if settings.enabled else ""


def _clear_textfile(path: str) -> None:
    problem = remove_textfile(path)
    if problem:
        _log.warning("monitoring: prometheus: %s", problem)


def _say(delivery: Delivery, before: str) -> None:
    """What was refused is said each time; that nobody is there, or is there again, once."""
    match delivery.state:
        case "refused" | "unanswered":
            _log.warning("monitoring: %s %s: %s", delivery.sink, delivery.state, delivery.message)
        case "absent" if before != "absent":
            _log.info("monitoring: %s is not told: %s", delivery.sink, delivery.message)
        case "accepted" if before not in {"", "accepted"}:
            _log.info("monitoring: %s is told again", delivery.sink)
        case _:
            pass


def list_sinks(memory: Memory) -> list[dict[str, Any]]:
    """The sinks as they were told last: name, state, message, since."""
    return [
        {"name": name, "state": item.state, "message": item.message, "since": item.since}
        for name, item in sorted(memory.sinks.items())
    ]
