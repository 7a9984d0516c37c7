"""Sinks that refuse, stall, drip or never end: each is judged alone; in a second all is over."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.receiver import Receiver, accept_events, measure, read_last, sum_values
from made import DEAD, GOOD, NOW, make_news, remember

from ya_salt import hostname as hostname_module
from ya_salt.errors import StoreError
from ya_salt.hostname import HostName
from ya_salt.model import (
    AlertmanagerSettings,
    JugglerSettings,
    MonitoringSettings,
    PrometheusSettings,
    Settings,
    YasmSettings,
)
from ya_salt.monitoring import metrics as metrics_module
from ya_salt.monitoring import report as report_module
from ya_salt.monitoring import sinks as sinks_module
from ya_salt.monitoring.counters import Memory, decode_memory
from ya_salt.monitoring.report import LIMIT_S, list_sinks, load_memory, report
from ya_salt.monitoring.sinks import Delivery
from ya_salt.settings import load_settings
from ya_salt.store import Store

NOBODY = "http://127.0.0.1:1/"
SLACK_S = 0.6
"""For threads on a machine that is busy with other tests."""


def make_settings(
    yasm: str = NOBODY, juggler: str = NOBODY, textfile_dir: str = "/nonexistent", **more
) -> Settings:
    return Settings(
        hostname="host.example.org",
        monitoring=MonitoringSettings(
            YasmSettings(url=yasm),
            JugglerSettings(url=juggler),
            PrometheusSettings(textfile_dir=textfile_dir),
            AlertmanagerSettings(**more),
        ),
    )


def tell(store: Store, settings: Settings, memory: Memory, *statuses) -> dict[str, Delivery]:
    told = report(store, settings, memory, make_news(*(statuses or (GOOD,))))
    return {delivery.sink: delivery for delivery in told}


def test_every_sink_is_told(
    store: Store, yasm: Receiver, juggler: Receiver, tmp_path: Path
) -> None:
    settings = make_settings(yasm.url, juggler.url, str(tmp_path))
    told = tell(store, settings, remember(d=(3, 1)), GOOD, DEAD)
    assert {name: item.state for name, item in told.items()} == {
        "yasm": "accepted",
        "juggler": "accepted",
        "prometheus": "accepted",
    }
    assert yasm.problems == juggler.problems == []
    assert read_last(yasm.accepted)["porto-daemon-d-respawn_count_thhh"] == 3
    (request,) = juggler.accepted
    assert [event["status"] for event in request["events"]] == ["OK", "CRIT", "OK"]
    assert {event["host"] for event in request["events"]} == {"host.example.org"}
    path = tmp_path / "ya-salt.prom"
    assert 'porto_daemon_respawns_total{daemon="d"} 3.0' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("silent_for", [1, 2, 4])
@pytest.mark.parametrize("is_taken", [True, False])
def test_counts_are_told_a_silent_yasm_twice_at_most(
    store: Store, yasm: Receiver, silent_for: int, is_taken: bool
) -> None:
    settings = make_settings(yasm.url)
    yasm.mode = "late" if is_taken else "stall"
    memory = remember(d=(1, 0))
    for _ in range(silent_for):
        assert tell(store, settings, memory)["yasm"].state == "unanswered"
        memory = load_memory(store)
    yasm.mode = "accept"
    for _ in range(2):
        assert tell(store, settings, memory)["yasm"].state == "accepted"
        memory = load_memory(store)
    assert sum_values(yasm.accepted, "respawn_count_thhh") == (2 if is_taken else 1)


def test_a_yasm_that_answers_only_what_has_no_counts_gets_no_value_a_third_time(
    store: Store, yasm: Receiver
) -> None:
    settings = make_settings(yasm.url)
    memory = remember(d=(1, 0))

    def answer(body: object) -> object:
        if sum_values([body], "respawn_count_thhh"):
            time.sleep(LIMIT_S + 0.3)
        return {"status": "ok"}

    yasm.answer = answer
    yasm.mode = "accept"
    for _ in range(5):
        tell(store, settings, memory)
        memory = load_memory(store)
    time.sleep(LIMIT_S + 0.5)
    assert sum_values(yasm.seen, "respawn_count_thhh") == 2


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        ("accept", "accepted"),
        ("503", "refused"),
        ("400", "refused"),
        ("302", "refused"),
        ("stall", "unanswered"),
        ("drip", "unanswered"),
        ("drip-body", "accepted"),
        ("endless", "accepted"),
        ("hang-up", "unanswered"),
        ("garbage", "unanswered"),
        ("deaf", "unanswered"),
    ],
)
def test_yasm_is_believed_only_when_it_says_yes(
    store: Store, yasm: Receiver, mode: str, state: str
) -> None:
    yasm.mode = mode
    memory = remember(d=(3, 1))
    told, took_s = measure(lambda: tell(store, make_settings(yasm.url), memory))
    assert told["yasm"].state == state, told
    assert took_s < LIMIT_S + SLACK_S
    left = (0, 0) if state == "accepted" else (3, 1)
    assert load_memory(store).list_news("yasm") == ({"d": left})
    assert load_memory(store).handed_over == {}


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        ("accept", "accepted"),
        ("503", "refused"),
        ("400", "refused"),
        ("stall", "unanswered"),
        ("drip", "unanswered"),
        ("drip-body", "unanswered"),
        ("endless", "unanswered"),
        ("hang-up", "unanswered"),
    ],
)
def test_juggler_is_believed_only_when_it_accepts_each_event(
    store: Store, juggler: Receiver, mode: str, state: str
) -> None:
    juggler.mode = mode
    told, took_s = measure(lambda: tell(store, make_settings(juggler=juggler.url), Memory()))
    assert told["juggler"].state == state, told
    assert took_s < LIMIT_S + SLACK_S


def test_4xx_is_not_tried_again_and_5xx_once(store: Store, juggler: Receiver) -> None:
    juggler.mode = "400"
    tell(store, make_settings(juggler=juggler.url), Memory())
    assert len(juggler.seen) == 1
    juggler.mode = "500"
    tell(store, make_settings(juggler=juggler.url), Memory())
    assert len(juggler.seen) == 3


def test_single_events_that_are_refused_are_told(store: Store, juggler: Receiver) -> None:
    def answer(body):
        told = accept_events(body)
        told["events"][0] = {"code": 400, "error": "no such host"}
        told["events"][1:2] = [{"code": 503, "error": "busy"}] if told["events"][1:] else []
        return told

    juggler.answer = answer
    told = tell(store, make_settings(juggler=juggler.url), Memory(), GOOD, DEAD)["juggler"]
    assert told.state == "refused"
    assert "porto-daemon-d-ready: 400 no such host" in told.message
    # Only the event that may pass came again; there it was the first, which gets a 400.
    assert [len(body["events"]) for body in juggler.seen] == [3, 1]


def test_many_daemons_go_in_many_requests(store: Store, juggler: Receiver) -> None:
    many = [replace(GOOD, name=f"d{number}") for number in range(120)]
    told = tell(store, make_settings(juggler=juggler.url), Memory(), *many)["juggler"]
    assert told.state == "accepted", told
    assert juggler.problems == []
    assert sum(len(body["events"]) for body in juggler.accepted) == 121


def test_slow_sinks_are_slow_side_by_side_and_spoil_nothing(
    store: Store, yasm: Receiver, juggler: Receiver, tmp_path: Path
) -> None:
    yasm.mode = juggler.mode = "stall"
    settings = make_settings(yasm.url, juggler.url, str(tmp_path))
    told, took_s = measure(lambda: tell(store, settings, Memory()))
    assert took_s < LIMIT_S + SLACK_S
    assert told["prometheus"].state == "accepted"


def test_where_nobody_listens_nothing_is_waited_for(store: Store) -> None:
    told, took_s = measure(lambda: tell(store, make_settings(), Memory()))
    assert {item.state for item in told.values()} == {"absent"}
    assert took_s < 0.5


def test_where_nobody_listens_nothing_is_rendered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    alertmanager = {"enabled": True, "url": NOBODY}
    monkeypatch.setattr(metrics_module, "_make_daemon_metrics", lambda *_: pytest.fail("made"))
    told = tell(store, make_settings(**alertmanager), remember(d=(3, 1)))
    assert {name: item.state for name, item in told.items()} == {
        "yasm": "absent",
        "juggler": "absent",
        "prometheus": "absent",
        "alertmanager": "absent",
    }
    # Where somebody does, it is.
    with pytest.raises(pytest.fail.Exception):
        report_module.make_metrics([GOOD], Memory(), None, NOW, {}).find_daemons()


def test_counts_that_could_not_be_rendered_are_not_handed_over(
    store: Store, yasm: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Any]:
        raise ZeroDivisionError

    memory = remember(d=(3, 1))
    with monkeypatch.context() as patch:
        patch.setattr(sinks_module.yasm, "render_push", fail)
        patch.setattr(report_module, "_mark", lambda *_: pytest.fail("they were"))
        assert "a bug" in tell(store, make_settings(yasm.url), memory)["yasm"].message
        assert memory.doubted == {}
    assert tell(store, make_settings(yasm.url), memory)["yasm"].state == "accepted"
    assert read_last(yasm.accepted)["porto-daemon-d-respawn_count_thhh"] == 3


def test_daemons_are_told_as_they_were_counted_when_the_pass_ended() -> None:
    memory = remember(d=(3, 1))
    made = report_module.make_metrics([GOOD], memory, None, NOW, {})
    memory.counters["d"] = replace(memory.counters["d"], respawns=4)
    (daemon,) = made.daemons
    assert (daemon.respawns, daemon.restarts) == (3, 1)
    assert made.daemons is made.daemons


def test_a_machine_that_swallows_packets_is_given_up(store: Store) -> None:
    with socket.socket() as full:
        # A backlog of none that is taken: further connections are never completed.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        settings = make_settings(f"http://127.0.0.1:{port}/")
        told, took_s = measure(lambda: tell(store, settings, Memory()))
        for other in others:
            other.close()
    assert told["yasm"].state in {"absent", "unanswered"}
    assert took_s < LIMIT_S + SLACK_S


def test_proxy_variables_are_not_heeded(
    store: Store, yasm: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert tell(store, make_settings(yasm.url), Memory())["yasm"].state == "accepted"


def test_absence_is_said_once_and_refusal_each_time(
    store: Store, yasm: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ya_salt")
    url = yasm.url
    for settings, mode in [(make_settings(), "")] * 3 + [
        (make_settings(url), "503"),
        (make_settings(url), "503"),
        (make_settings(url), "accept"),
        (make_settings(url), "accept"),
        (make_settings(), ""),
    ]:
        yasm.mode = mode
        tell(store, settings, load_memory(store))
    said = [record.getMessage() for record in caplog.records if "yasm" in record.getMessage()]
    absent = "monitoring: yasm is not told: nobody listens on http://127.0.0.1:1: "
    refused = "monitoring: yasm refused: it answered 503 no, thank you"
    assert said == [
        f"{absent}Connection refused",
        refused,
        refused,
        "monitoring: yasm is told again",
        f"{absent}Connection refused",
    ]


def test_the_status_knows_how_each_sink_took_it(store: Store, yasm: Receiver) -> None:
    yasm.mode = "503"
    tell(store, make_settings(yasm.url), Memory())
    written = decode_memory(store.load_fact("monitoring"))
    states = {item["name"]: item for item in list_sinks(written)}
    assert states["yasm"]["state"] == "refused"
    assert states["yasm"]["since"] == NOW
    assert states["juggler"]["state"] == "absent"


def test_sinks_that_are_off_are_not_told(store: Store, yasm: Receiver) -> None:
    settings = make_settings(yasm.url)
    told = settings.monitoring
    off = replace(
        told,
        yasm=replace(told.yasm, enabled=False),
        juggler=replace(told.juggler, enabled=False),
        prometheus=replace(told.prometheus, enabled=False),
    )
    memory = remember(d=(3, 1))
    assert tell(store, replace(settings, monitoring=off), memory) == {}
    assert yasm.seen == []
    # Whoever turns it on again does not get what happened long ago.
    assert memory.list_news("yasm") == {"d": (0, 0)}


def test_a_bug_in_a_sink_spoils_no_other(
    store: Store, yasm: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(sinks_module.prometheus, "render_text", fail)
    told = tell(store, make_settings(yasm.url, textfile_dir=str(tmp_path)), Memory())
    assert told["yasm"].state == "accepted"
    assert "a bug" in told["prometheus"].message


def test_a_directory_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / ".ya-salt.prom.new").mkdir()
    told = tell(store, make_settings(textfile_dir=str(tmp_path)), Memory())["prometheus"]
    assert told.state == "refused"
    assert str(tmp_path) in told.message


def test_the_textfile_goes_when_its_sink_is_switched_off(store: Store, tmp_path: Path) -> None:
    on = make_settings(textfile_dir=str(tmp_path))
    memory = Memory()
    assert tell(store, on, memory)["prometheus"].state == "accepted"
    (tmp_path / "other.prom").write_text("x 1\n")
    off = replace(on.monitoring.prometheus, enabled=False)
    tell(store, replace(on, monitoring=replace(on.monitoring, prometheus=off)), memory)
    assert [item.name for item in tmp_path.iterdir()] == ["other.prom"]


def test_the_textfile_moves_with_its_directory(store: Store, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    for folder in (one, other):
        tell(store, make_settings(textfile_dir=str(folder)), load_memory(store))
    assert [path.name for path in (*one.iterdir(), *other.iterdir())] == ["ya-salt.prom"]
    assert list(other.iterdir())


@pytest.mark.parametrize("flag", ["root", "state_dir"])
def test_a_trial_leaves_the_hosts_textfile_alone(store: Store, tmp_path: Path, flag: str) -> None:
    textfile = tmp_path / "textfile"
    textfile.mkdir()
    (textfile / "ya-salt.prom").write_text("the host's")
    (tmp_path / "ya-salt.yaml").write_text(
        f"monitoring:\n  yasm: {{enabled: no}}\n  juggler: {{enabled: no}}\n"
        f"  prometheus: {{textfile_dir: {textfile}}}\n"
    )
    config = str(tmp_path / "ya-salt.yaml")
    trial = load_settings({flag: str(tmp_path / "trial")}, {}, config).settings
    assert tell(store, trial, Memory()) == {}
    assert (textfile / "ya-salt.prom").read_text() == "the host's"
    host = load_settings({}, {}, config).settings
    assert tell(store, host, Memory())["prometheus"].state == "accepted"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_textfile_directory_that_others_write_is_refused(
    store: Store, tmp_path: Path, mode: int
) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    folder.chmod(mode)
    told = tell(store, make_settings(textfile_dir=str(folder)), Memory())["prometheus"]
    assert told.state == "refused"
    assert f"chmod go-w {folder}" in told.message
    assert list(folder.iterdir()) == []


def test_counts_that_cannot_be_written_down_are_not_told_but_states_are(
    store: Store, yasm: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = remember(d=(3, 1))

    def fail(must_last: bool = False) -> Any:
        if must_last:
            raise StoreError("the disk is full")
        return contextlib.nullcontext()

    monkeypatch.setattr(store, "transaction", fail)
    assert tell(store, make_settings(yasm.url), memory)["yasm"].state == "accepted"
    last = read_last(yasm.accepted)
    assert last["porto-daemon-d-ready_thhh"] == 1
    assert last["porto-daemon-d-respawn_count_thhh"] == 0
    assert memory.list_news("yasm") == {"d": (3, 1)}


def test_the_host_name_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    known = {"name": "node.example.org", "source": "resolver", "node": "node", "machine_id": ""}
    monkeypatch.setattr(hostname_module.socket, "gethostname", lambda: "node")
    monkeypatch.setattr(hostname_module.socket, "getaddrinfo", lambda *_, **__: hang.wait(5) and [])
    (name, took_s) = measure(HostName("", known).find)
    assert (name, took_s < 1) == ("node.example.org", True)
    assert HostName("", {"node": "of another kind"}).find() == "node"
    assert HostName("set.example.org", {}).find() == "set.example.org"
    hang.set()


def test_the_canonical_name_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(2, 1, 6, "node.example.org", ("192.0.2.1", 0)), (2, 2, 17, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(hostname_module.socket, "gethostname", lambda: "node")
    monkeypatch.setattr(hostname_module.socket, "getaddrinfo", lambda *_, **__: answer)
    name = HostName("")
    assert name.to_fact() is None
    assert name.find() == "node.example.org"
    fact = name.to_fact()
    assert fact is not None
    assert (fact["name"], fact["source"]) == ("node.example.org", "resolver")
    again = HostName("", fact)
    assert (again.find(), again.to_fact()) == ("node.example.org", None)


def test_monitoring_remembers_the_name_that_it_told(
    store: Store, juggler: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["node.example.org", "", ""]
    monkeypatch.setattr(hostname_module.socket, "gethostname", lambda: "node")
    monkeypatch.setattr(hostname_module, "_resolve", lambda _node: answers.pop(0))
    settings = replace(make_settings(juggler=juggler.url), hostname="")
    for _ in range(3):
        tell(store, settings, Memory())
    hosts = [event["host"] for request in juggler.accepted for event in request["events"]]
    assert set(hosts) == {"node.example.org"}
    assert (len(juggler.accepted), answers) == (3, [])
