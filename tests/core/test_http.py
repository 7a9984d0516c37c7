"""The one HTTP client, against servers on real sockets that do everything that they should not."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.certificates import Certificates, make_certificates
from helpers.hostile import HostileServer, Script, Visit

from ya_salt.http import (
    Answer,
    Client,
    Deadline,
    HttpError,
    NotSentError,
    RefusedError,
    Tls,
    TlsFileError,
    UnansweredError,
)

LIMIT_S = 0.6
SLACK_S = 1.5
"""For threads on a machine that is busy with other tests."""
SECRET = "s3cret-w0rd"
HEAD = b"HTTP/1.1 200 OK\r\n"


def ask(server: HostileServer, client: Client | None = None, limit_s: float = LIMIT_S) -> Answer:
    """Post something, and see that it is over at the deadline."""
    started = time.monotonic()
    try:
        return (client or Client()).post(
            server.url, {"password": SECRET}, Deadline.after(limit_s), {"Authorization": SECRET}
        )
    finally:
        assert time.monotonic() - started < limit_s + SLACK_S


def after_request(action: Callable[[Visit], object]) -> Script:
    def script(visit: Visit) -> None:
        visit.take_request()
        action(visit)

    return script


# -- answers ------------------------------------------------------------------------------------


def test_what_is_asked_arrives_and_what_is_answered_comes_back() -> None:
    seen: list[bytes] = []

    def serve(visit: Visit) -> None:
        seen.append(visit.take_request())
        visit.answer('{"größe": 1}'.encode(), b"HTTP/1.1 201 Created\r\nLocation: /there")

    with HostileServer(serve) as server:
        url = server.url.replace("/path", "/a b/ü?x=1&y=%20z")
        answer = Client().post(url, ["ä", "\udcff"], Deadline.after(5), {"X-Extra": "yes"})
    assert (answer.status, answer.location, answer.ok) == (201, "/there", True)
    assert answer.parse() == {"größe": 1}
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a%20b/%C3%BC?x=1&y=%20z HTTP/1.1"
    assert {
        f"Host: 127.0.0.1:{server.port}",
        "Content-Type: application/json",
        "User-Agent: ya-salt",
        "X-Extra: yes",
        "Connection: close",
        "Accept-Encoding: identity",
    } <= set(lines)
    assert body.decode() == '["ä", "?"]'


def test_get_has_no_body() -> None:
    seen: list[bytes] = []

    def serve(visit: Visit) -> None:
        seen.append(visit.take_request())
        visit.answer(b"[1]")

    with HostileServer(serve) as server:
        answer = Client().get(server.url.replace("/path", ""), Deadline.after(5), {"A": "b"})
    assert answer.parse() == [1]
    assert seen[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"A: b\r\n" in seen[0]
    assert b"Content-" not in seen[0]


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[1, \r\n2\r\n2]\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[1, 2]and what nobody asked for",
        b"HTTP/1.0 200 OK\r\n\r\n[1, 2]",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[1, 2]",
    ],
)
def test_every_way_to_end_a_body_is_known(wire: bytes) -> None:
    with HostileServer(after_request(lambda visit: visit.send(wire))) as server:
        assert ask(server).parse() == [1, 2]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b'{"a": Infinity}', b"1e999", b"\xff\xfe\xfa", b"[" * 100_000]
)
def test_what_is_no_json_is_none(body: bytes) -> None:
    assert Answer(200, "", body).parse() is None


def test_redirects_are_told_and_not_followed() -> None:
    with HostileServer(lambda visit: visit.stay()) as elsewhere:
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere.url}".encode()
        with HostileServer(after_request(lambda visit: visit.answer(b"", head))) as server:
            answer = ask(server)
        assert (answer.status, answer.location, answer.ok) == (307, elsewhere.url, False)
        assert elsewhere.visits == []


def test_an_answer_is_described_on_one_harmless_line() -> None:
    told = Answer(503, "", b"no,\r\n thank \x1b[2J you\xe2\x80\xae" + b"x" * 9000).describe()
    assert told.startswith("it answered 503 no, thank \\x1b[2J you\\u202exxx")
    assert len(told) <= 220
    assert Answer(503, "", None).describe() == "it answered 503"


# -- bodies without an end ----------------------------------------------------------------------


def flood(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not visit.over.is_set():
        visit.send(b"x" * 65536)


def flood_chunks(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not visit.over.is_set():
        visit.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def send_200_mb(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
    for _ in range(3200):
        visit.send(b"x" * 65536)


@pytest.mark.parametrize("script", [flood, flood_chunks, send_200_mb])
@pytest.mark.parametrize("bound", [1 << 16, 8 << 20])
def test_an_answer_is_read_up_to_its_bound(script: Script, bound: int) -> None:
    with HostileServer(after_request(script)) as server:
        answer = ask(server, Client(max_answer_bytes=bound), 5)
    assert (answer.status, answer.body) == (200, None)
    assert str(bound) in answer.missing


def test_an_answer_of_just_the_bound_is_taken() -> None:
    with HostileServer(after_request(lambda visit: visit.answer(b"x" * 1000))) as server:
        assert ask(server, Client(max_answer_bytes=1000)).body == b"x" * 1000
        assert ask(server, Client(max_answer_bytes=999)).body is None


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
    ],
)
def test_half_a_body_is_none(wire: bytes) -> None:
    with HostileServer(after_request(lambda visit: visit.send(wire))) as server:
        answer = ask(server)
    assert (answer.status, answer.body, answer.missing) == (200, None, "its answer broke off")


def test_a_body_that_drips_is_over_at_the_deadline() -> None:
    def drip(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        visit.drip(b"x" * 1000)

    with HostileServer(after_request(drip)) as server:
        answer = ask(server)
        assert answer.body is None
        assert "in time" in answer.missing
        # Whoever needs no body does not wait for one.
        started = time.monotonic()
        assert ask(server, Client(unread=frozenset({200})), 5) == Answer(200, "", None)
        assert time.monotonic() - started < SLACK_S


# -- no answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda visit: visit.stay(), "in time"),
        (after_request(lambda visit: visit.stay()), "in time"),
        (
            after_request(lambda visit: visit.drip(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 999)),
            "time",
        ),
        (after_request(lambda visit: None), "closed connection"),
        (after_request(Visit.reset), "reset by peer"),
        (after_request(lambda visit: visit.send(b"220 smtp.example.org\r\n")), "not HTTP"),
        (after_request(lambda visit: visit.send(visit.read)), "not HTTP"),
        (after_request(lambda visit: visit.send(b"\0" * 300_000)), "not HTTP"),
        (after_request(lambda visit: visit.send(b"HTTP/1.1 0x1 \xff\r\n\r\n")), "not HTTP"),
        (
            after_request(lambda visit: visit.send(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 9999)),
            "HTTP",
        ),
        (after_request(lambda visit: visit.send(b"HTTP/1.1 100 Go\r\n\r\n" * 100_000)), ""),
    ],
)
def test_what_was_sent_and_not_answered_is_so(script: Script, words: str) -> None:
    with HostileServer(script) as server, pytest.raises(UnansweredError) as caught:
        ask(server)
    assert words in str(caught.value)
    assert_silent(caught.value)


def assert_silent(error: BaseException) -> None:
    """Nothing of what was sent is in it, nor in anything that hangs on it."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert SECRET not in text
    chained: BaseException | None = error
    while chained is not None:
        assert SECRET not in repr(chained)
        assert SECRET not in repr(vars(chained))
        chained = chained.__cause__ or chained.__context__


def test_a_server_that_reads_nothing_of_much_is_given_up() -> None:
    with HostileServer(lambda visit: visit.stay()) as server, pytest.raises(UnansweredError):
        Client().post(server.url, "x" * (16 << 20), Deadline.after(3))


def test_nobody_listening_is_nothing_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(NotSentError, match="Connection refused") as caught:
        Client().get(f"http://127.0.0.1:{port}/", Deadline.after(5))
    assert not isinstance(caught.value, RefusedError)


@pytest.mark.parametrize("value", ["two\r\nlines: 1", "ä\u20ac"])
def test_a_header_that_cannot_be_sent_is_nothing_sent(value: str) -> None:
    with HostileServer(lambda visit: visit.stay()) as server, pytest.raises(NotSentError) as caught:
        Client().post(server.url, {}, Deadline.after(5), {"Authorization": SECRET + value})
    assert_silent(caught.value)


def test_without_time_nothing_is_begun() -> None:
    with HostileServer(lambda visit: visit.stay()) as server, pytest.raises(NotSentError):
        ask(server, limit_s=0)


@pytest.mark.parametrize(
    "host", ["x..example.org", "a" * 64 + ".example.org", ".example.org", "no."]
)
def test_a_name_that_is_none_is_nothing_sent(host: str) -> None:
    with pytest.raises(NotSentError):
        Client().get(f"http://{host}/", Deadline.after(5))


# -- the way there ------------------------------------------------------------------------------


def test_a_resolver_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [over.wait(20)])
    started = time.monotonic()
    with pytest.raises(NotSentError, match="looked up in time"):
        Client().get("http://server.example.org/", Deadline.after(LIMIT_S))
    assert time.monotonic() - started < LIMIT_S + SLACK_S
    over.set()


def test_a_name_that_does_not_resolve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NotSentError, match="Name or service not known"):
        Client().get("http://server.example.org/", Deadline.after(5))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, tuple[object, ...]]) -> None:
    found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_of_several_addresses_the_one_that_listens_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with HostileServer(after_request(lambda visit: visit.answer(b"1"))) as server:
        # Port 1 of ::1 refuses; a family that this machine does not have fails even earlier.
        resolve_to(
            monkeypatch,
            (socket.AF_INET6, ("::1", 1, 0, 0)),
            (9999, ("::1", 1)),
            (socket.AF_INET, ("127.0.0.1", server.port)),
        )
        url = f"http://server.example.org:{server.port}/"
        assert Client().get(url, Deadline.after(5)).parse() == 1


def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.socket() as first,
        socket.socket() as second,
        HostileServer(after_request(lambda visit: visit.answer(b"1"))) as server,
    ):
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        addresses = [full.getsockname(), ("127.0.0.1", server.port)]
        resolve_to(monkeypatch, *[(socket.AF_INET, address) for address in addresses])
        assert Client().get("http://server.example.org/", Deadline.after(2)).parse() == 1


def test_ipv6_is_spoken() -> None:
    try:
        server = HostileServer(after_request(lambda visit: visit.answer(b"1")), address="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert Client().get(f"http://[::1]:{server.port}/", Deadline.after(5)).parse() == 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    with HostileServer(after_request(lambda visit: visit.answer(b"1"))) as server:
        assert ask(server).parse() == 1


def test_it_loads_nothing_before_somebody_listens() -> None:
    code = """
import sys
from ya_salt.http import Client, Deadline, NotSentError
try:
    Client().post('http://127.0.0.1:1/', {}, Deadline.after(5))
except NotSentError:
    print([name for name in sys.modules if name in {'ssl', 'http.client', 'urllib.request'}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- before it is sent, and woken ---------------------------------------------------------------


def test_the_hook_is_called_when_somebody_listens_and_nothing_was_sent() -> None:
    seen: list[object] = []

    def serve(visit: Visit) -> None:
        visit.connection.settimeout(0.2)
        try:
            seen.append(visit.connection.recv(1))
        except TimeoutError:
            seen.append("nothing yet")
        visit.connection.settimeout(5)
        visit.take_request()
        visit.answer(b"1")

    with HostileServer(serve) as server:
        answer = Client().post(
            server.url, {}, Deadline.after(5), before_send=lambda: time.sleep(0.5)
        )
        assert answer.parse() == 1
        assert seen == ["nothing yet"]
    with pytest.raises(NotSentError):
        Client().post("http://127.0.0.1:1/", {}, Deadline.after(5), before_send=seen.clear)
    assert seen == ["nothing yet"]


def test_a_payload_is_made_where_somebody_listens_and_before_the_hook_is_called() -> None:
    seen: list[str] = []

    def make() -> list[str]:
        seen.append("made")
        return ["ä"]

    with HostileServer(after_request(lambda visit: visit.answer(b"1"))) as server:
        Client().post(server.url, make, Deadline.after(5), before_send=lambda: seen.append("hook"))
    assert seen == ["made", "hook"]
    with pytest.raises(NotSentError):
        Client().post("http://127.0.0.1:1/", make, Deadline.after(5))
    assert seen == ["made", "hook"]


def test_what_the_hook_raises_is_raised_and_nothing_is_sent() -> None:
    seen: list[bytes] = []
    done = threading.Event()

    def serve(visit: Visit) -> None:
        seen.append(visit.connection.recv(1))
        done.set()

    def fail() -> None:
        raise ZeroDivisionError

    with HostileServer(serve) as server:
        with pytest.raises(ZeroDivisionError):
            Client().post(server.url, {}, Deadline.after(5), before_send=fail)
        assert done.wait(5)
    assert seen == [b""]


def test_time_that_the_hook_took_is_gone() -> None:
    with (
        HostileServer(after_request(lambda visit: visit.answer(b"1"))) as server,
        pytest.raises(RefusedError, match="nothing could be sent"),
    ):
        Client().post(server.url, {}, Deadline.after(0.2), before_send=lambda: time.sleep(0.3))


@pytest.mark.parametrize("stage", ["resolve", "connect", "handshake", "head", "body"])
def test_another_thread_wakes_it_wherever_it_hangs(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The deadline is far: nothing but the other thread can end it."""
    deadline, over = Deadline.after(60), threading.Event()

    def serve(visit: Visit) -> None:
        if stage == "body":
            visit.take_request()
            visit.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
        visit.stay()

    with HostileServer(serve) as server, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(2)]
        for item in waiting:
            item.setblocking(False)
            item.connect_ex(full.getsockname())
        if stage == "resolve":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [over.wait(20)])
        url = {
            "resolve": "http://server.example.org/",
            "connect": f"http://127.0.0.1:{full.getsockname()[1]}/",
            "handshake": server.url.replace("http:", "https:"),
        }.get(stage, server.url)
        started = time.monotonic()
        threading.Timer(0.3, deadline.abort).start()
        try:
            answer = Client().get(url, deadline)
        except HttpError as error:
            assert stage != "body"
            assert "in time" in str(error)
        else:
            assert (answer.body, stage) == (None, "body")
        assert 0.25 < time.monotonic() - started < 0.3 + SLACK_S
        over.set()
        for item in waiting:
            item.close()
    with pytest.raises(NotSentError):
        Client().get(server.url, deadline)


# -- kept connections ---------------------------------------------------------------------------


def serve_on(visit: Visit) -> None:
    """One answer after the other, on one connection."""
    while request := visit.take_request():
        visit.answer(json.dumps(request.partition(b"\r\n\r\n")[2].decode()).encode())


def test_a_connection_is_kept_and_used_again() -> None:
    with HostileServer(serve_on) as server:
        client = Client(keeps_connections=True)
        for number in range(5):
            answer = client.post(server.url, number, Deadline.after(5))
            assert answer.parse() == str(number)
        assert len(server.visits) == 1
        client.close()
        client.post(server.url, 5, Deadline.after(5))
        assert len(server.visits) == 2
        # Whoever does not keep them has one each.
        for _ in range(2):
            Client().post(server.url, 6, Deadline.after(5))
        assert len(server.visits) == 4


@pytest.mark.parametrize(
    "then",
    [
        lambda visit: None,
        Visit.reset,
        lambda visit: (visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9"), visit.stay()),
    ],
)
def test_a_kept_connection_that_is_over_is_no_lost_answer(then: Callable[[Visit], object]) -> None:
    """The server closes it, breaks it off, or sends what nobody asked for, before the next one."""
    is_done = threading.Event()

    def serve_once(visit: Visit) -> None:
        visit.take_request()
        visit.answer(b'"first"')
        time.sleep(0.1)
        then(visit)

    def serve_next(visit: Visit) -> None:
        is_done.set()
        serve_on(visit)

    with HostileServer(serve_once, serve_next) as server:
        client = Client(keeps_connections=True)
        assert client.post(server.url, 1, Deadline.after(5)).parse() == "first"
        time.sleep(0.3)
        assert client.post(server.url, 2, Deadline.after(5)).parse() == "2"
    assert is_done.is_set()


def test_a_kept_connection_that_breaks_after_the_request_is_a_lost_answer() -> None:
    """It is not sent again: it may have been done."""

    def serve_one_and_a_half(visit: Visit) -> None:
        visit.take_request()
        visit.answer(b"1")
        visit.take_request()

    with HostileServer(serve_one_and_a_half) as server:
        client = Client(keeps_connections=True)
        client.post(server.url, 1, Deadline.after(5))
        with pytest.raises(UnansweredError):
            client.post(server.url, 2, Deadline.after(5))
        assert len(server.visits) == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"1" * 100000,
    ],
)
def test_what_is_not_read_to_its_end_is_not_kept(wire: bytes) -> None:
    def serve(visit: Visit) -> None:
        while visit.take_request():
            visit.send(wire)

    with HostileServer(serve) as server:
        client = Client(keeps_connections=True, max_answer_bytes=1000)
        for _ in range(2):
            client.post(server.url, 1, Deadline.after(5))
        assert len(server.visits) == 2


def test_threads_do_not_share_a_connection() -> None:
    with HostileServer(serve_on) as server:
        client = Client(keeps_connections=True)
        wrong: list[object] = []

        def work(number: int) -> None:
            for count in range(20):
                word = f"{number}.{count}"
                answer = client.post(server.url, word, Deadline.after(20)).parse()
                if answer != f'"{word}"':
                    wrong.append(answer)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(server.visits) <= 6


# -- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def with_tls(context: ssl.SSLContext, script: Script) -> Script:
    def serve(visit: Visit) -> None:
        with context.wrap_socket(visit.connection, server_side=True) as wrapped:
            visit.connection = wrapped
            script(visit)

    return serve


def test_https_is_spoken_and_kept(certificates: Certificates) -> None:
    context = certificates.make_server_context(asks_client=True)
    pair = certificates.client
    tls = Tls(str(certificates.ca.cert), str(pair.cert), str(pair.key))
    with HostileServer(with_tls(context, serve_on)) as server:
        url = server.url.replace("http:", "https:")
        client = Client(tls, keeps_connections=True)
        for number in range(3):
            assert client.post(url, number, Deadline.after(5)).parse() == str(number)
        assert len(server.visits) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_our_certificate_says_so(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.make_server_context(asks_client=True)
    context.minimum_version = context.maximum_version = version
    with HostileServer(with_tls(context, serve_on)) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(RefusedError) as caught:
            Client(Tls(str(certificates.ca.cert))).get(url, Deadline.after(5))
    assert caught.value.wants_certificate


def test_a_certificate_that_nobody_signed_for_us_is_not_trusted(certificates: Certificates) -> None:
    context = certificates.make_server_context()
    with HostileServer(with_tls(context, serve_on)) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(RefusedError, match="certificate verify failed") as caught:
            Client().post(url, {}, Deadline.after(5), before_send=pytest.fail)
    assert not caught.value.wants_certificate


def test_a_certificate_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, "DNS:server.example.org")
    with HostileServer(with_tls(made.make_server_context(), serve_on)) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(RefusedError, match="IP address mismatch"):
            Client(Tls(str(made.ca.cert))).get(url, Deadline.after(5))


@pytest.mark.parametrize(
    "script",
    [
        lambda visit: visit.stay(),
        lambda visit: visit.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 999),
        lambda visit: visit.send(b"220 smtp.example.org ESMTP\r\n"),
        Visit.reset,
        lambda visit: None,
    ],
)
def test_a_handshake_that_comes_to_nothing_is_nothing_sent(script: Script) -> None:
    with HostileServer(script) as server:
        url = server.url.replace("http:", "https:")
        started = time.monotonic()
        # Who breaks it off at once may be taken for somebody who does not listen.
        with pytest.raises(NotSentError):
            Client().get(url, Deadline.after(LIMIT_S))
        assert time.monotonic() - started < LIMIT_S + SLACK_S


def test_a_file_that_cannot_be_used_is_named_with_its_setting(
    certificates: Certificates, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    ca, cert = str(certificates.ca.cert), str(certificates.client.cert)
    for tls, words in [
        (Tls(ca_file="/nowhere.pem", section="gate."), "gate.ca_file: /nowhere.pem: No such file"),
        (Tls(ca_file=str(junk)), f"ca_file: {junk}: "),
        (Tls(ca, cert, "/nowhere.key"), f"cert_file or key_file: {cert} /nowhere.key: No such"),
        (Tls(ca, cert, str(certificates.ca.key)), "cert_file or key_file: "),
    ]:
        with pytest.raises(TlsFileError) as caught:
            Client(tls).get("https://127.0.0.1:1/", Deadline.after(5))
        assert str(caught.value).startswith(words)


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_others_could_have_written_is_not_used(
    certificates: Certificates, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "theirs.pem"
    path.write_bytes(Path(certificates.ca.cert).read_bytes())
    path.chmod(0o666)
    tls = Tls(**{"ca_file": str(certificates.ca.cert), name: str(path)}, section="gate.")
    with pytest.raises(TlsFileError) as caught:
        Client(tls).get("https://127.0.0.1:1/", Deadline.after(5))
    assert str(caught.value).startswith(f"gate.{name}: {path}")
    assert "chmod go-w" in str(caught.value)
