"""The sinks: send what is rendered, and judge the answer. Each runs in a thread of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from ya_salt.hostname import HostName
from ya_salt.http import (
    Answer,
    Client,
    Deadline,
    NotSentError,
    RefusedError,
    UnansweredError,
)
from ya_salt.model import (
    AlertmanagerSettings,
    JugglerSettings,
    PrometheusSettings,
    YasmSettings,
)
from ya_salt.monitoring.counters import Totals
from ya_salt.monitoring.metrics import Metrics
from ya_salt.monitoring.render import alertmanager, juggler, prometheus, yasm
from ya_salt.monitoring.steady import write_text
from ya_salt.monitoring.verdicts import find_refused, says_no
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.trusted_files import UntrustedError, explain, find_problem

State = Literal["accepted", "absent", "refused", "unanswered"]

_MAX_ANSWER_BYTES = 1 << 20
_RETRY_PAUSE_S = 0.1
_SERVER_ERROR = 500


@dataclass(frozen=True)
class Delivery:
    """How a sink took it, and what to remember of that."""

    sink: str
    state: State
    message: str = ""
    totals: Mapping[str, Totals] = field(default_factory=dict)
    """Totals that it has accepted."""
    alerts: Mapping[str, Any] | None = None
    """What fires there now; None where that did not change."""
    answers: tuple[bytes, ...] = ()
    """What it said to each request, where it took them all at once."""


class Sink(Protocol):
    """Somebody who is told. Nothing that `send` raises goes further than its thread."""

    @property
    def name(self) -> str: ...

    def send(self, deadline: Deadline) -> Delivery: ...


class _SaidNoError(Exception):
    """It did not take what we sent, and said so."""


def judge(sink: str, url: str, send: Callable[[], Delivery]) -> Delivery:
    """What `send` returns or raises, as a delivery."""
    try:
        return send()
    except (_SaidNoError, RefusedError) as error:
        return Delivery(sink, "refused", str(error))
    except NotSentError as error:
        parts = urlsplit(url)
        where = f"nobody listens on {parts.scheme}://{parts.netloc}"
        return Delivery(sink, "absent", f"{where}: {error}")
    except UnansweredError as error:
        return Delivery(sink, "unanswered", f"no answer: {error}")


def _post(
    url: str,
    render: Callable[[], object],
    deadline: Deadline,
    before_send: Callable[[], None] | None = None,
) -> Answer:
    """Nothing is rendered where nobody listens."""
    client = Client(max_answer_bytes=_MAX_ANSWER_BYTES)
    return client.post(url, render, deadline, before_send=before_send)


@dataclass(frozen=True)
class YasmSink:
    """Signals; the only sink that is told deltas, so `mark` is called before they leave us."""

    metrics: Metrics
    settings: YasmSettings
    totals: Mapping[str, Totals]
    mark: Callable[[], bool]
    """Write down that the totals are on their way; False where that cannot be written."""
    is_in_doubt: bool = False
    """The last counts that it was sent got no answer."""
    name: str = "yasm"

    def send(self, deadline: Deadline) -> Delivery:
        return judge(self.name, self.settings.url, lambda: self._send(deadline))

    def _send(self, deadline: Deadline) -> Delivery:
        has_news = any(any(news) for news in self.metrics.news.values())
        if not has_news:
            return self._judge(_post(self.settings.url, self._render, deadline), self.totals)

        if self.is_in_doubt:
            # Counts go to nobody who does not answer: first see whether it does.
            delivery = self._judge(_post(self.settings.url, self._render_states, deadline), {})
            if delivery.state != "accepted":
                return delivery

        def before_send() -> None:
            if not self.mark():
                raise _UnmarkedError

        try:
            answer = _post(self.settings.url, self._render, deadline, before_send)
            return self._judge(answer, self.totals)
        except _UnmarkedError:
            # What cannot be written down would be told twice: only the states are told.
            return self._judge(_post(self.settings.url, self._render_states, deadline), {})

    def _render(self) -> list[dict[str, Any]]:
        return yasm.render_push(self.metrics, self.settings)

    def _render_states(self) -> list[dict[str, Any]]:
        return yasm.render_push(replace(self.metrics, news={}), self.settings)

    def _judge(self, answer: Answer, totals: Mapping[str, Totals]) -> Delivery:
        if answer.ok and not says_no(answer.parse()):
            return Delivery(self.name, "accepted", totals=totals, answers=(answer.body or b"",))
        return Delivery(self.name, "refused", answer.describe())


class _UnmarkedError(Exception):
    """The store cannot be written."""


@dataclass(frozen=True)
class JugglerSink:
    """Raw events, at most fifty a request, each with a verdict of its own."""

    metrics: Metrics
    settings: JugglerSettings
    hostname: HostName
    name: str = "juggler"

    def send(self, deadline: Deadline) -> Delivery:
        return judge(self.name, self.settings.url, lambda: self._send(deadline))

    def _send(self, deadline: Deadline) -> Delivery:
        refused: list[tuple[juggler.Event, int, str]] = []
        problems: list[Exception] = []
        answers: list[bytes] = []
        # A name that has changed is remembered whoever listens.
        list_groups = cache(partial(self._render, self.hostname.find()))
        number, total = 0, 1
        while number < total:
            try:
                refused += self._push(deadline, partial(_pick, list_groups, number), answers)
            except (_SaidNoError, UnansweredError) as error:
                # The next fifty may be luckier, as long as there is time.
                problems.append(error)
                if not deadline.seconds_left():
                    break
            number, total = number + 1, len(list_groups())
        if refused:
            count = sum(map(len, list_groups()))
            return Delivery(self.name, "refused", _describe_refused(refused, count))
        if problems:
            raise problems[0]
        told = tuple(answers) if len(answers) == total else ()
        return Delivery(self.name, "accepted", answers=told)

    def _render(self, hostname: str) -> list[Sequence[juggler.Event]]:
        """The events of each request; there is one at least, the host's."""
        events = juggler.render_events(self.metrics, self.settings, hostname)
        requests = juggler.render_requests(events, self.settings.source)
        return [request["events"] for request in requests]

    def _push(
        self,
        deadline: Deadline,
        find_events: Callable[[], Sequence[juggler.Event]],
        answers: list[bytes],
        tries: int = 2,
    ) -> list[tuple[juggler.Event, int, str]]:
        """What was refused for good; an event may come twice, so a 5xx is tried once more.

        An answer that takes all of them at once is added to `answers`.
        """

        def render() -> object:
            return {"source": self.settings.source, "events": find_events()}

        answer = _post(self.settings.url, render, deadline)
        may_try_again = tries > 1 and deadline.seconds_left() > _RETRY_PAUSE_S
        if answer.status >= _SERVER_ERROR and may_try_again:
            time.sleep(_RETRY_PAUSE_S)
            return self._push(deadline, find_events, [], tries - 1)
        if not answer.ok:
            raise _SaidNoError(answer.describe())
        if answer.body is None:
            raise UnansweredError(answer.missing)
        refused = find_refused(find_events(), answer.parse())
        again = [event for event, code, _ in refused if code >= _SERVER_ERROR]
        if not refused:
            answers.append(answer.body)
        if not again or not may_try_again:
            return refused
        time.sleep(_RETRY_PAUSE_S)
        final = [item for item in refused if item[1] < _SERVER_ERROR]
        return [*final, *self._push(deadline, lambda: again, [], tries - 1)]


def _pick(
    list_groups: Callable[[], list[Sequence[juggler.Event]]], number: int
) -> Sequence[juggler.Event]:
    return list_groups()[number]


def _describe_refused(refused: Sequence[tuple[juggler.Event, int, str]], total: int) -> str:
    shown = "; ".join(
        f"{event['service']}: {code or 'no code'} {words}".rstrip()
        for event, code, words in refused[:3]
    )
    return f"{len(refused)} of {total} events were refused: {shown}"


@dataclass(frozen=True)
class PrometheusSink:
    """A file that is always whole: written beside, then moved."""

    metrics: Metrics
    settings: PrometheusSettings
    name: str = "prometheus"

    def send(self, deadline: Deadline) -> Delivery:
        path = self.settings.textfile_dir
        if not Path(path).is_dir():
            return Delivery(self.name, "absent", f"there is no directory {path}")
        text = prometheus.render_text(self.metrics)
        if not deadline.seconds_left():
            return Delivery(self.name, "refused", "there was no time left to write the file")
        try:
            with _open_textfile_dir(path) as folder:
                write_text(folder, prometheus.FILE_NAME, text)
        except OSError as error:
            return Delivery(self.name, "refused", f"cannot write to {path}: {explain(error)}")
        except UntrustedError as error:
            return Delivery(self.name, "refused", str(error))
        return Delivery(self.name, "accepted")


@contextmanager
def _open_textfile_dir(path: str) -> Iterator[int]:
    """Lend the directory, opened. Raises UntrustedError where others may write into it, OSError.

    Only itself is looked at: on Debian the one above it belongs to Prometheus.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        problem = find_problem(os.fstat(folder), path)
        if problem:
            raise UntrustedError(f"{path} {problem}")
        yield folder
    finally:
        os.close(folder)


def remove_textfile(path: str) -> str:
    """Take the file out of a directory where nobody writes it any more; why that failed, or ""."""
    try:
        with _open_textfile_dir(path) as folder:
            os.unlink(prometheus.FILE_NAME, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"cannot remove {path}/{prometheus.FILE_NAME}: {explain(error)}"
    except UntrustedError as error:
        return f"{prometheus.FILE_NAME} is not removed: {error}"
    return ""


@dataclass(frozen=True)
class AlertmanagerSink:
    """Alerts that fire, and those that are over until that was accepted."""

    metrics: Metrics
    settings: AlertmanagerSettings
    hostname: HostName
    before: Mapping[str, alertmanager.Alert]
    name: str = "alertmanager"

    def send(self, deadline: Deadline) -> Delivery:
        return judge(self.name, self.settings.url, lambda: self._send(deadline))

    def _send(self, deadline: Deadline) -> Delivery:
        # As for Juggler.
        hostname = self.hostname.find()
        told: dict[str, alertmanager.Alert] = {}

        def render() -> list[alertmanager.Alert]:
            firing = alertmanager.render_firing(self.metrics, hostname)
            alerts = alertmanager.merge_alerts(firing, self.before, self.metrics.now)
            told.update(zip(firing, alerts, strict=False))
            return alerts

        answer = _post(self.settings.url.rstrip("/") + alertmanager.API, render, deadline)
        if not answer.ok:
            raise _SaidNoError(answer.describe())
        return Delivery(self.name, "accepted", alerts=told)
