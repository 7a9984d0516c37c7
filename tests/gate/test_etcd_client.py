"""The client on real etcd: what it reads and writes, and what it does where etcd fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.certificates import make_certificates
from helpers.etcd import EtcdCluster, EtcdServer
from helpers.etcd_proxy import EtcdProxy, find_dead_url, hold_deaf_port, hold_full_port

from ya_salt.errors import GateError
from ya_salt.gate.etcd import (
    Etcd,
    Put,
    Range,
    UnknownOutcomeError,
    absent,
    absent_prefix,
    created,
    unchanged,
)
from ya_salt.model import GateSettings

GENEROUS_S = 5.0
"""The deadline is 3 s; this machine may be busy."""


def read_values(client: Etcd, prefix: str) -> dict[str, str]:
    (found,) = client.read(Range(prefix, is_prefix=True)).found
    return {item.key.removeprefix(prefix): item.value for item in found}


@pytest.fixture
def proxy(etcd_server: EtcdServer) -> Iterator[EtcdProxy]:
    with EtcdProxy(etcd_server.ports[0]) as made:
        yield made


# -- keys ------------------------------------------------------------------------------------------


def test_one_read_shows_several_ranges_at_one_moment(client: Etcd, prefix: str) -> None:
    done = client.transact(
        [], [Put(prefix + "a", "ä"), Put(prefix + "b/1", ""), Put(prefix + "b/2", "x")]
    )

    look = client.read(
        Range(prefix + "a"),
        Range(prefix + "absent"),
        Range(prefix + "b/", is_prefix=True, keys_only=True),
        Range(prefix, is_prefix=True, limit=2),
    )

    one, none, many, limited = look.found
    assert [(item.key, item.value) for item in one] == [(prefix + "a", "ä")]
    assert (one[0].create_revision, one[0].mod_revision, one[0].lease) == (done.revision,) * 2 + (
        0,
    )
    assert none == ()
    assert [(item.key, item.value) for item in many] == [(prefix + "b/1", ""), (prefix + "b/2", "")]
    assert [item.key for item in limited] == [prefix + "a", prefix + "b/1"]
    assert look.revision >= done.revision


def test_a_prefix_does_not_take_in_its_neighbours(client: Etcd, prefix: str) -> None:
    client.transact([], [Put(prefix + name, "x") for name in ("a/1", "a", "a0", "b")])
    (found,) = client.read(Range(prefix + "a/", is_prefix=True)).found
    assert [item.key for item in found] == [prefix + "a/1"]


def test_transaction_writes_all_or_nothing(client: Etcd, prefix: str) -> None:
    first, second = prefix + "a", prefix + "b"
    assert client.transact([absent(first), absent(second)], [Put(first, "1")]).succeeded

    refused = client.transact(
        [absent(first), absent(second)], [Put(second, "2")], otherwise=[Range(first), Range(second)]
    )

    assert not refused.succeeded
    assert [[item.value for item in part] for part in refused.found] == [["1"], []]
    assert read_values(client, prefix) == {"a": "1"}


def test_comparing_sees_what_was_changed_and_what_was_made_anew(client: Etcd, prefix: str) -> None:
    key = prefix + "a"
    made = client.transact([], [Put(key, "1")]).revision
    assert client.transact([created(key, made), unchanged(key, made)], [Put(key, "2")]).succeeded
    assert not client.transact([unchanged(key, made)], [Put(key, "3")]).succeeded
    assert client.transact([created(key, made)], deletes=[key]).succeeded
    assert client.transact([absent(key)], [Put(key, "4")]).succeeded
    assert not client.transact([created(key, made)], [Put(key, "5")]).succeeded
    assert read_values(client, prefix) == {"a": "4"}


def test_a_prefix_is_absent_until_there_is_one_key(client: Etcd, prefix: str) -> None:
    compare = absent_prefix(prefix + "b/")
    assert client.transact([compare], [Put(prefix + "b/1", "x")]).succeeded
    assert not client.transact([compare], [Put(prefix + "b/2", "x")]).succeeded
    client.transact([], deletes=[Range(prefix + "b/", is_prefix=True)])
    assert client.transact([compare], [Put(prefix + "b/2", "x")]).succeeded


# -- leases ----------------------------------------------------------------------------------------


def test_keys_go_with_their_lease(client: Etcd, prefix: str) -> None:
    lease = client.grant_lease(60)
    client.transact([], [Put(prefix + "a", "x", lease), Put(prefix + "b", "y")])
    assert 50 < client.keep_alive(lease) <= 60
    assert client.read(Range(prefix + "a")).found[0][0].lease == lease

    client.revoke_lease(lease)

    assert read_values(client, prefix) == {"b": "y"}
    assert client.keep_alive(lease) == 0
    client.revoke_lease(lease)


def test_lease_ends_by_itself(client: Etcd, prefix: str) -> None:
    lease = client.grant_lease(2)
    client.transact([], [Put(prefix + "a", "x", lease)])
    give_up = time.monotonic() + 20
    while read_values(client, prefix) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert read_values(client, prefix) == {}


def test_transaction_with_a_lease_that_is_gone_writes_nothing(client: Etcd, prefix: str) -> None:
    lease = client.grant_lease(60)
    client.revoke_lease(lease)
    with pytest.raises(GateError, match="lease not found"):
        client.transact([], [Put(prefix + "a", "x"), Put(prefix + "b", "y", lease)])
    assert read_values(client, prefix) == {}


# -- endpoints that fail ---------------------------------------------------------------------------


def test_nobody_listening_is_said_at_once_and_with_the_address() -> None:
    url = find_dead_url()
    began = time.monotonic()
    with pytest.raises(GateError, match=f"{url}: Connection refused") as raised:
        Etcd(GateSettings(endpoints=(url,))).read(Range("/a"))
    assert raised.value.reason == "GateUnreachable"
    assert time.monotonic() - began < GENEROUS_S


def test_dead_and_deaf_endpoints_leave_time_for_the_one_that_answers(
    etcd_server: EtcdServer, prefix: str
) -> None:
    with hold_deaf_port() as deaf, hold_full_port() as full:
        endpoints = (find_dead_url(), deaf, full, etcd_server.url)
        client = Etcd(GateSettings(endpoints=endpoints))
        began = time.monotonic()
        assert client.read(Range(prefix)).found == ((),)
        assert time.monotonic() - began < GENEROUS_S

        # The one that answered is asked first from now on, so even a write, which would not be
        # handed to another once a deaf one has it, goes through.
        assert client.transact([absent(prefix + "a")], [Put(prefix + "a", "x")]).succeeded
        assert read_values(client, prefix) == {"a": "x"}


def test_write_goes_on_to_the_next_endpoint_only_where_it_was_not_sent(
    etcd_server: EtcdServer, client: Etcd, prefix: str
) -> None:
    put = [Put(prefix + "a", "x")]
    with hold_full_port() as full:
        unsent = Etcd(GateSettings(endpoints=(find_dead_url(), full, etcd_server.url)))
        assert unsent.transact([], put).succeeded
    client.transact([], deletes=[prefix + "a"])

    with hold_deaf_port() as deaf:
        sent = Etcd(GateSettings(endpoints=(deaf, etcd_server.url)))
        with pytest.raises(UnknownOutcomeError, match=deaf):
            sent.transact([], put)
    assert read_values(client, prefix) == {}


@pytest.mark.parametrize("fate", ["lose-answer", "break-answer", "lose-request", "refuse"])
def test_lost_answer_of_a_write_is_unknown_and_leaves_time_to_read(
    proxy: EtcdProxy, prefix: str, fate: str
) -> None:
    client = Etcd(GateSettings(endpoints=(proxy.url,)))
    proxy.lose_once(fate)
    with client.deadline():
        with pytest.raises(UnknownOutcomeError):
            client.transact([], [Put(prefix + "a", "x")])
        assert read_values(client, prefix) == ({"a": "x"} if "answer" in fate else {})
    assert len(proxy.writes) == 1


def test_read_is_asked_of_another_endpoint(
    proxy: EtcdProxy, etcd_server: EtcdServer, client: Etcd, prefix: str
) -> None:
    client.transact([], [Put(prefix + "a", "x")])
    proxy.decide = lambda path, payload: "break-answer"
    other = Etcd(GateSettings(endpoints=(proxy.url, etcd_server.url)))
    assert read_values(other, prefix) == {"a": "x"}
    assert len(proxy.seen) == 1


def test_all_requests_of_one_call_share_the_deadline() -> None:
    with hold_deaf_port() as deaf:
        client = Etcd(GateSettings(endpoints=(deaf, deaf)), deadline_s=1)
        began = time.monotonic()
        with client.deadline():
            for _ in range(3):
                with pytest.raises(GateError):
                    client.read(Range("/a"))
        assert time.monotonic() - began < GENEROUS_S


def test_resolver_that_hangs_costs_no_more_than_the_deadline_and_sends_nothing_later(
    proxy: EtcdProxy, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    resolve, goes_on, is_done = socket.getaddrinfo, threading.Event(), threading.Event()

    def hang(host: str | bytes, *rest: object, **named: object) -> object:
        if host in {"etcd.example.org", b"etcd.example.org"}:
            goes_on.wait(30)
            threading.Timer(0.5, is_done.set).start()
        return resolve("127.0.0.1", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    url = proxy.url.replace("127.0.0.1", "etcd.example.org")
    client = Etcd(GateSettings(endpoints=(url,)))
    began = time.monotonic()
    with pytest.raises(GateError, match="in time") as raised:
        client.transact([], [Put(prefix + "a", "x")])
    assert time.monotonic() - began < GENEROUS_S
    # Not even begun to be sent, so nothing is unknown.
    assert not isinstance(raised.value, UnknownOutcomeError)

    goes_on.set()
    assert is_done.wait(10)
    assert proxy.seen == []


def test_answer_that_never_ends_is_cut_off_by_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        over = threading.Event()

        def drip() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not over.wait(0.05):
                    taken.sendall(b" ")

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Etcd(GateSettings(endpoints=(url,)), deadline_s=1)
        began = time.monotonic()
        with pytest.raises(GateError, match="in time"):
            client.read(Range("/a"))
        over.set()
        assert time.monotonic() - began < 3


def test_somebody_else_who_answers_is_no_etcd(proxy: EtcdProxy) -> None:
    proxy.ask = lambda path, body, headers: (200, b"<html>welcome</html>")
    with pytest.raises(GateError) as raised:
        Etcd(GateSettings(endpoints=(proxy.url,)), deadline_s=1).read(Range("/a"))
    assert raised.value.reason == "GateUnreachable"


def test_redirects_are_not_followed(proxy: EtcdProxy, etcd_server: EtcdServer) -> None:
    with EtcdProxy(etcd_server.ports[0]) as other:

        def redirect(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
            return 307, b"", other.url + path

        proxy.ask = redirect
        with pytest.raises(GateError):
            Etcd(GateSettings(endpoints=(proxy.url,)), deadline_s=1).read(Range("/a"))
        assert other.seen == []


def test_proxies_of_the_environment_are_not_used(
    client: Etcd, settings: GateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, find_dead_url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert Etcd(settings).read(Range("/absent")).found == ((),)


def test_several_threads_may_ask_one_client(client: Etcd, prefix: str) -> None:
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            for count in range(10):
                key = f"{prefix}{number}/{count}"
                assert client.transact([absent(key)], [Put(key, "x")]).succeeded
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(read_values(client, prefix)) == 80


# -- TLS -------------------------------------------------------------------------------------------


def test_tls_with_certificates_on_both_sides(etcd_programs: None, folder: Path) -> None:
    made = make_certificates(folder / "tls")
    with EtcdServer(certificates=made) as server:
        trusting = GateSettings(endpoints=(server.url,), ca_file=str(made.ca.cert))
        known = GateSettings(
            endpoints=(server.url,),
            ca_file=str(made.ca.cert),
            cert_file=str(made.client.cert),
            key_file=str(made.client.key),
        )
        assert Etcd(known).transact([], [Put("/a", "x")]).succeeded
        assert read_values(Etcd(known), "/") == {"a": "x"}

        with pytest.raises(GateError) as refused:
            Etcd(trusting).read(Range("/a"))
        assert refused.value.reason == "GateRefused"

        with pytest.raises(GateError, match="certificate verify failed"):
            Etcd(GateSettings(endpoints=(server.url,))).read(Range("/a"))
        with pytest.raises(GateError, match=r"/nowhere\.pem"):
            Etcd(GateSettings(endpoints=(server.url,), ca_file="/nowhere.pem")).read(Range("/a"))


# -- a cluster -------------------------------------------------------------------------------------


def test_cluster_goes_on_without_its_leader_and_says_so_without_its_majority(
    etcd_programs: None,
) -> None:
    with EtcdCluster(3) as cluster:
        client = Etcd(GateSettings(endpoints=cluster.endpoints))
        assert client.transact([], [Put("/a", "before")]).succeeded

        leader = cluster.leader()
        cluster.kill(leader)
        assert read_values(client, "/") == {"a": "before"}
        write_in_the_end(client, Put("/b", "after"))
        assert read_values(client, "/") == {"a": "before", "b": "after"}

        other = cluster.leader()
        assert other != leader
        cluster.kill(other)
        began = time.monotonic()
        with pytest.raises(GateError) as raised:
            client.read(Range("/a"))
        assert time.monotonic() - began < GENEROUS_S
        assert raised.value.reason == "GateUnreachable"

        cluster.start(leader)
        cluster.wait_for(leader)
        assert read_values(client, "/") == {"a": "before", "b": "after"}


def write_in_the_end(client: Etcd, put: Put) -> None:
    """While a leader is elected the fate of a write may be unknown; this one may be repeated."""
    for _ in range(10):
        try:
            assert client.transact([], [put]).succeeded
        except UnknownOutcomeError:
            continue
        return
    raise AssertionError("no leader was elected")


def test_member_cut_off_from_the_others_is_left_for_one_that_is_not(etcd_programs: None) -> None:
    with EtcdCluster(3) as cluster:
        client = Etcd(GateSettings(endpoints=cluster.endpoints))
        assert client.transact([], [Put("/a", "x")]).succeeded
        cluster.leader()
        cluster.freeze(0)
        try:
            # It was the one that answered last, so it is asked first.
            assert read_values(client, "/") == {"a": "x"}
        finally:
            cluster.thaw(0)
