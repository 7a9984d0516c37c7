"""The gate on FleetLock, over real sockets: locks, groups, refusals, servers that are difficult."""

from __future__ import annotations

import os
import pty
import re
import socket
import string
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.certificates import Certificates, make_certificates
from helpers.fleetlock import AIRLOCK_FULL, Face, Locks
from hypothesis import given
from hypothesis import strategies as st

from ya_salt.errors import GateError
from ya_salt.gate.fleetlock import FleetLockGate, name_group
from ya_salt.gate.protocol import REMOVAL, Gate, Granted, Identity, Slot, SlotRequest
from ya_salt.http import Client, Deadline, UnansweredError
from ya_salt.model import Deferral, GateSettings

UPDATE = SlotRequest("d", "update", "1.2", "version 1.2")
OTHER = SlotRequest("e", "restart", "abc")
GROUP = "porto-daemon-d"
NOBODY = "http://127.0.0.1:1"
BOUND_S = 6
"""Twice the deadline, for a machine that is busy with other tests."""


@pytest.fixture
def locks() -> Locks:
    return Locks()


@pytest.fixture
def start(locks: Locks) -> Iterator[Callable[..., Face]]:
    """Start a face of the one server."""
    with ExitStack() as stack:
        yield lambda **about: stack.enter_context(Face(locks, **about))


@pytest.fixture
def face(start: Callable[..., Face]) -> Face:
    return start()


def make_gate(
    *endpoints: Face | str, host: str = "web1", held: Callable[[], list[Slot]] = list, **settings
) -> FleetLockGate:
    urls = tuple(one if isinstance(one, str) else one.url for one in endpoints)
    return FleetLockGate(
        GateSettings("fleetlock", urls, **settings), Identity(host), held=held, clock=lambda: 7.0
    )


def take(gate: Gate, ask: SlotRequest = UPDATE) -> Slot:
    answer = gate.ask(ask)
    assert isinstance(answer, Granted), answer
    assert answer.held is not None
    return answer.held


def fail(action: Callable[[], object]) -> GateError:
    """What it raises, within the deadline."""
    started = time.monotonic()
    with pytest.raises(GateError) as caught:
        action()
    assert time.monotonic() - started < BOUND_S
    return caught.value


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that never answer, where the deadline itself is tested elsewhere."""
    monkeypatch.setattr("ya_salt.gate.fleetlock.LIMIT_S", 0.8)


# -- lock and unlock ----------------------------------------------------------------------------


def test_asking_takes_the_host_s_lock(locks: Locks, face: Face) -> None:
    held = take(make_gate(face))
    assert locks.holders == {GROUP: {"web1"}}
    assert held == Slot("d", held.id, "update", "1.2", since=7.0)
    assert (held.slot, held.revision, held.lease, held.min_healthy_s) == (-1, 0, 0, None)
    assert face.problems == []


def test_a_full_group_defers_with_the_server_s_words(locks: Locks, face: Face) -> None:
    take(make_gate(face))
    answer = make_gate(face, host="web2").ask(UPDATE)
    assert isinstance(answer, Deferral)
    assert answer.reason == "Full"
    assert "all slots are locked already" in answer.message
    assert GROUP in answer.message
    assert locks.holders == {GROUP: {"web1"}}


@pytest.mark.parametrize(
    "words",
    [
        AIRLOCK_FULL,
        (423, "all_slots_full", "all slots in the group are locked"),
        (423, "lock_held", "held by web1"),
        (423, "", ""),
        (409, "", ""),
    ],
)
def test_every_server_s_way_to_say_full_is_known(
    locks: Locks, face: Face, words: tuple[int, str, str]
) -> None:
    locks.full = words
    take(make_gate(face))
    answer = make_gate(face, host="web2").ask(UPDATE)
    assert isinstance(answer, Deferral)
    assert answer.reason == "Full"
    assert (words[2] or str(words[0])) in answer.message
    assert face.seen == 2, "an answer settles it"


def test_a_slot_that_came_free_is_taken(locks: Locks, face: Face) -> None:
    first, second = make_gate(face), make_gate(face, host="web2")
    held = take(first)
    assert isinstance(second.ask(UPDATE), Deferral)
    first.release(held)
    take(second)
    assert locks.history == [
        ("lock", GROUP, "web1"),
        ("unlock", GROUP, "web1"),
        ("lock", GROUP, "web2"),
    ]


def test_asking_again_keeps_the_slot_and_takes_no_more(locks: Locks, face: Face) -> None:
    locks.others = 2
    gate = make_gate(face)
    held = take(gate)
    assert take(gate) == held
    assert locks.history == [("lock", GROUP, "web1")]
    assert face.seen == 2, "the server may have been told to forget: it is asked each time"


def test_another_process_goes_on_with_what_the_host_remembers(face: Face) -> None:
    held = replace(take(make_gate(face)), state="failed", error="it broke")
    assert take(make_gate(face, held=lambda: [held])) == held


@pytest.mark.parametrize(
    ("ask", "state"),
    [
        (replace(UPDATE, target="1.3"), "failed"),
        (SlotRequest("d", "remove", REMOVAL), "working"),
        (UPDATE, "settling"),
    ],
)
def test_another_operation_is_a_slot_of_its_own(face: Face, ask: SlotRequest, state: str) -> None:
    held = replace(take(make_gate(face)), state=state)
    taken = take(make_gate(face, held=lambda: [held]), ask)
    assert taken.id != held.id
    assert (taken.operation, taken.target, taken.state) == (ask.operation, ask.target, "working")


def test_a_slot_that_the_server_gave_to_another_is_lost(locks: Locks, face: Face) -> None:
    gate = make_gate(face)
    take(gate)
    locks.holders[GROUP] = {"web2"}
    assert isinstance(gate.ask(UPDATE), Deferral)


def test_unlocking_twice_is_fine(locks: Locks, face: Face) -> None:
    gate = make_gate(face)
    held = take(gate)
    gate.release(held)
    gate.release(held)
    assert locks.holders == {GROUP: set()}
    assert locks.asked["/v1/steady-state"] == 2


def test_a_host_without_a_memory_can_unlock(locks: Locks, face: Face) -> None:
    take(make_gate(face))
    make_gate(face).release(Slot("d", "", "update", "1.2", since=0.0))
    assert locks.holders == {GROUP: set()}


def test_nobody_unlocks_for_another_host(locks: Locks, face: Face) -> None:
    held = take(make_gate(face))
    make_gate(face, host="web2").release(held)
    assert locks.holders == {GROUP: {"web1"}}


def test_a_failure_keeps_the_lock_and_sends_nothing(locks: Locks, face: Face) -> None:
    gate = make_gate(face)
    held = take(gate)
    told = gate.tell(held, "failed", "it broke")
    assert told == replace(held, state="failed", error="it broke")
    assert gate.renew(told) == told
    assert take(gate) == told
    assert locks.holders == {GROUP: {"web1"}}
    assert face.seen == 2


def test_looking_reads_nothing_and_takes_nothing(face: Face) -> None:
    held = take(make_gate(face))
    seen = face.seen
    gate = make_gate(face, held=lambda: [held])
    assert gate.preview(UPDATE) == Granted(held)
    assert gate.preview(OTHER) == Granted(None)
    assert gate.find("d") is None
    gate.close()
    assert face.seen == seen


# -- groups -------------------------------------------------------------------------------------


def test_each_daemon_has_a_group_of_its_own(locks: Locks, face: Face) -> None:
    gate = make_gate(face)
    held = take(gate)
    take(gate, OTHER)
    gate.release(held)
    assert locks.holders == {GROUP: set(), "porto-daemon-e": {"web1"}}


def test_two_daemons_in_one_group_share_the_host_s_lock(locks: Locks, face: Face) -> None:
    gate = make_gate(face, group="fleet")
    first, second = take(gate), take(gate, OTHER)
    gate.release(first)
    assert locks.holders == {"fleet": {"web1"}}, "the other still holds"
    gate.release(second)
    assert locks.holders == {"fleet": set()}
    assert locks.asked["/v1/steady-state"] == 1


def test_the_last_of_one_group_is_told_by_what_the_host_remembers(locks: Locks, face: Face) -> None:
    first, second = (take(make_gate(face, group="fleet"), ask) for ask in (UPDATE, OTHER))
    remembered = [first, second]
    gate = make_gate(face, group="fleet", held=lambda: remembered)
    gate.release(first)
    assert locks.holders == {"fleet": {"web1"}}
    # The host has not forgotten the first one yet.
    gate.release(second)
    assert locks.holders == {"fleet": set()}


def test_who_failed_keeps_the_one_lock_of_a_group(locks: Locks, face: Face) -> None:
    gate = make_gate(face, group="fleet")
    failed = gate.tell(take(gate), "failed", "it broke")
    gate.release(take(gate, OTHER))
    assert locks.holders == {"fleet": {"web1"}}
    assert failed is not None
    gate.release(failed)
    assert locks.holders == {"fleet": set()}


def test_what_another_gate_gave_holds_nothing_here(locks: Locks, face: Face) -> None:
    elsewhere = Slot("e", "0123abcd", "update", "2", since=0.0, slot=3, revision=9)
    gate = make_gate(face, group="fleet", held=lambda: [elsewhere])
    gate.release(take(gate))
    assert locks.holders == {"fleet": set()}
    assert take(gate, SlotRequest("e", "update", "2")).id != elsewhere.id


def test_daemons_side_by_side_never_lose_the_lock_of_their_group(locks: Locks, face: Face) -> None:
    """Between the answers to `ask` and `release` the server has the host's lock, at any moment."""
    gate = make_gate(face, group="fleet")

    def work(name: str) -> int:
        found = 0
        for _ in range(25):
            held = take(gate, SlotRequest(name, "restart", "x"))
            found += locks.holders["fleet"] == {"web1"}
            gate.release(held)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, "abcd")) == [25, 25, 25, 25]
    assert locks.holders == {"fleet": set()}


def test_a_lock_goes_back_to_where_it_was_taken(locks: Locks, face: Face) -> None:
    held = take(make_gate(face, group="before"))
    gate = make_gate(face, group="after", held=lambda: [held])
    assert take(gate) == held
    gate.release(held)
    assert locks.holders == {"before": set()}
    take(gate)
    assert locks.holders == {"before": set(), "after": {"web1"}}


@pytest.mark.parametrize(
    ("rule", "group"),
    [
        ("porto-daemon-nginx", "porto-daemon-nginx"),
        ("porto-daemon-nginx.v2-B", "porto-daemon-nginx.v2-B"),
        ("porto-daemon-a_b@c:d", "porto-daemon-a.x5Fb.x40c.x3Ad"),
        ("porto-daemon-a.x5Fb", "porto-daemon-a.x2Ex5Fb"),
    ],
)
def test_a_rule_s_name_becomes_a_group(rule: str, group: str) -> None:
    assert name_group(rule) == group


@given(st.text(alphabet="_@:.-x2E5FaBf" + string.digits, max_size=24))
def test_groups_are_in_fleetlock_s_alphabet_and_tell_rules_apart(name: str) -> None:
    group = name_group(f"r{name}")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+", group)
    # What can be read back is not the group of anybody else.
    back = re.sub(r"\.x([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), group)
    assert back == f"r{name}"


# -- refusals -----------------------------------------------------------------------------------


def test_an_unknown_group_is_refused_in_the_server_s_words(locks: Locks, face: Face) -> None:
    locks.others = 0
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert error.reason == "GateRefused"
    assert f"unknown group {GROUP}" in str(error)
    error = fail(lambda: make_gate(face).release(Slot("d", "", "update", "1.2", since=0.0)))
    assert error.reason == "GateRefused"
    assert "unlock" in str(error)


def test_a_server_that_is_no_fleetlock_is_refused(face: Face) -> None:
    face.mode = "page"
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert error.reason == "GateRefused"
    assert "404" in str(error)
    assert "gate.endpoints" in str(error)


def test_no_endpoint_is_an_error_of_the_settings() -> None:
    error = fail(lambda: make_gate().ask(UPDATE))
    assert error.reason == "GateRefused"
    assert "gate.endpoints" in str(error)


def test_a_server_below_a_path_is_found(start: Callable[..., Face], locks: Locks) -> None:
    face = start(base="/base")
    take(make_gate(face.url + "/"))
    assert locks.holders == {GROUP: {"web1"}}


def test_a_server_on_ipv6_is_reached(start: Callable[..., Face]) -> None:
    try:
        face = start(address="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    take(make_gate(face))
    assert face.problems == []


# -- password -----------------------------------------------------------------------------------

PASSWORD = "pa55 w\u00f6rd"
ENCODED = b64encode(f"agent:{PASSWORD}".encode()).decode()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


def test_user_and_password_are_shown(start: Callable[..., Face], password_file: Path) -> None:
    face = start(login=f"agent:{PASSWORD}")
    take(make_gate(face, username="agent", password_file=str(password_file)))
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert error.reason == "GateRefused"
    assert "who are you?" in str(error)
    assert "gate.password_file" in str(error)


@pytest.mark.parametrize("mode", ["tell", "echo", "redirect", "garbage", "500", "drop-after"])
def test_the_password_is_in_no_error(face: Face, password_file: Path, mode: str) -> None:
    face.mode = mode
    face.elsewhere = f"http://example.org/?token={ENCODED}&password={PASSWORD}"
    gate = make_gate(face, username="agent", password_file=str(password_file))
    error = fail(lambda: gate.ask(UPDATE))
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for secret in (PASSWORD, ENCODED, "pa55"):
        assert secret not in text
        assert secret not in repr(vars(error))


def test_the_password_is_not_in_the_cause_of_an_error(face: Face) -> None:
    face.mode = "echo"
    with pytest.raises(UnansweredError) as caught:
        Client().post(face.url, {}, Deadline.after(3), {"Authorization": f"Basic {ENCODED}"})
    assert ENCODED not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_what_a_server_says_cannot_steer_a_terminal(face: Face) -> None:
    face.mode = "tell"
    text = str(fail(lambda: make_gate(face).ask(UPDATE)))
    assert "say" in text
    assert text.isprintable()


def test_a_password_file_that_others_can_read_is_refused(face: Face, password_file: Path) -> None:
    password_file.chmod(0o640)
    gate = make_gate(face, username="agent", password_file=str(password_file))
    error = fail(lambda: gate.ask(UPDATE))
    assert error.reason == "GateRefused"
    assert "chmod 600" in str(error)
    assert face.seen == 0


# -- difficult servers --------------------------------------------------------------------------


def test_an_answer_may_take_its_time(locks: Locks, face: Face) -> None:
    face.mode = "slow"
    take(make_gate(face))
    assert locks.asked["/v1/pre-reboot"] == 1


def test_a_lock_whose_answer_was_lost_is_settled_by_asking_again(locks: Locks, face: Face) -> None:
    face.modes = ["drop-after"]
    take(make_gate(face))
    assert locks.history == [("lock", GROUP, "web1")]
    assert face.seen == 2


def test_a_lock_that_no_answer_came_for_is_asked_for_again_in_time(
    locks: Locks, face: Face
) -> None:
    face.modes = ["stall"]
    started = time.monotonic()
    take(make_gate(face))
    assert time.monotonic() - started < BOUND_S
    assert locks.history == [("lock", GROUP, "web1")]


def test_an_unlock_whose_answer_was_lost_is_settled_by_asking_again(
    locks: Locks, face: Face
) -> None:
    gate = make_gate(face)
    held = take(gate)
    face.modes = ["drop-after"]
    gate.release(held)
    assert locks.holders == {GROUP: set()}


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("stall", "nothing came in time"),
        ("deaf", "nothing came in time"),
        ("drip", "nothing came in time"),
        ("drop-before", "no answer: Remote end closed connection"),
        ("drop-after", "no answer: Remote end closed connection"),
        ("garbage", "not HTTP"),
        ("500", "the lock is broken"),
        ("503", "the lock is broken"),
    ],
)
def test_no_answer_is_an_error_within_the_deadline(face: Face, mode: str, words: str) -> None:
    face.mode = mode
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert error.reason == "GateUnreachable"
    assert f"{face.url}: " in str(error)
    assert words in str(error)


def test_a_refusal_without_an_end_is_one(face: Face) -> None:
    face.mode = "endless"
    started = time.monotonic()
    answer = make_gate(face).ask(UPDATE)
    assert time.monotonic() - started < BOUND_S
    assert isinstance(answer, Deferral)
    assert len(answer.message) < 500


def test_a_lock_of_unknown_fate_can_be_given_back(locks: Locks, face: Face) -> None:
    face.mode = "drop-after"
    gate = make_gate(face)
    fail(lambda: gate.ask(UPDATE))
    assert locks.holders == {GROUP: {"web1"}}
    face.mode = "serve"
    gate.release(Slot("d", "", "update", "1.2", since=0.0))
    assert locks.holders == {GROUP: set()}


def test_a_lock_that_was_not_given_back_is_held_until_it_is(locks: Locks, face: Face) -> None:
    gate = make_gate(face, group="fleet")
    held = take(gate)
    face.mode = "503"
    assert "the lock is broken" in str(fail(lambda: gate.release(held)))
    face.mode = "serve"
    gate.release(held)
    assert locks.holders == {"fleet": set()}


def test_airlock_s_trouble_with_an_unlock_is_no_full_group(face: Face) -> None:
    gate = make_gate(face)
    held = take(gate)
    face.locks.carry_out = lambda *_: AIRLOCK_FULL  # type: ignore[method-assign]
    assert fail(lambda: gate.release(held)).reason == "GateUnreachable"


def test_nobody_listening_is_said_for_each_endpoint() -> None:
    error = fail(lambda: make_gate(NOBODY, "http://127.0.0.1:2").ask(UPDATE))
    assert error.reason == "GateUnreachable"
    assert f"{NOBODY}: no connection: Connection refused" in str(error)
    assert "http://127.0.0.1:2: no connection" in str(error)


@pytest.mark.parametrize("mode", ["deaf", "stall", "503", "garbage", "drop-before", "redirect"])
def test_another_face_answers_for_a_bad_one(
    start: Callable[..., Face], locks: Locks, mode: str
) -> None:
    bad, good = start(), start()
    bad.mode = mode
    gate = make_gate(NOBODY, bad, good)
    started = time.monotonic()
    held = take(gate)
    assert time.monotonic() - started < BOUND_S
    assert locks.history == [("lock", GROUP, "web1")]
    seen = bad.seen
    gate.release(held)
    assert bad.seen == seen, "whoever answered last is asked first"


def test_a_full_group_is_full_on_every_face(start: Callable[..., Face], locks: Locks) -> None:
    first, second = start(), start()
    take(make_gate(second))
    assert isinstance(make_gate(first, second, host="web2").ask(UPDATE), Deferral)
    assert second.seen == 1


def test_a_server_that_comes_back_is_asked(face: Face) -> None:
    gate = make_gate(face)
    face.mode = "503"
    fail(lambda: gate.ask(UPDATE))
    face.mode = "serve"
    take(gate)


@pytest.mark.usefixtures("in_a_hurry")
def test_a_resolver_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [over.wait(20)])
    error = fail(lambda: make_gate("http://fleetlock.example.org").ask(UPDATE))
    over.set()
    assert "looked up" in str(error)


@pytest.mark.usefixtures("in_a_hurry")
def test_a_host_that_takes_no_connection_ends_in_time() -> None:
    with ExitStack() as stack:
        crowded = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = crowded.getsockname()
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        started = time.monotonic()
        error = fail(lambda: make_gate(f"http://127.0.0.1:{address[1]}").ask(UPDATE))
        assert time.monotonic() - started < 3
    assert "no connection: nothing came in time" in str(error)


def test_of_a_name_s_addresses_the_one_that_listens_is_taken(
    start: Callable[..., Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_: str, port: int, **__: object) -> list[object]:
        addresses = [("127.0.0.1", 1), ("127.0.0.1", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    face = start(name="fleetlock.example.org")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    take(make_gate(face))
    assert face.problems == []


def test_daemons_of_a_group_wait_for_the_same_silence(face: Face) -> None:
    """Four daemons side by side need no four deadlines to find out that nobody answers."""
    face.mode = "stall"
    gate = make_gate(face, group="fleet")
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(gate.ask, SlotRequest(name, "restart", "x")) for name in "abcd"]
        reasons = {future.exception().reason for future in asked}
    assert time.monotonic() - started < BOUND_S
    assert reasons == {"GateUnreachable"}


# -- the way there ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_not_used(
    face: Face, locks: Locks, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, NOBODY)
    take(make_gate(face))
    assert locks.holders == {GROUP: {"web1"}}


def test_a_redirect_is_not_followed(start: Callable[..., Face], locks: Locks) -> None:
    face, elsewhere = start(), start()
    face.mode, face.elsewhere = "redirect", f"{elsewhere.url}/v1/pre-reboot"
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert error.reason == "GateUnreachable"
    assert f"redirects to {face.elsewhere}" in str(error)
    assert (elsewhere.seen, locks.holders) == (0, {})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def test_https_with_certificates_of_both(
    start: Callable[..., Face], locks: Locks, certificates: Certificates
) -> None:
    face = start(context=certificates.make_server_context(asks_client=True))
    pair = certificates.client
    files = {"cert_file": str(pair.cert), "key_file": str(pair.key)}
    gate = make_gate(face, ca_file=str(certificates.ca.cert), **files)
    gate.release(take(gate))
    assert locks.history == [("lock", GROUP, "web1"), ("unlock", GROUP, "web1")]
    assert face.problems == []
    error = fail(lambda: make_gate(face, ca_file=str(certificates.ca.cert)).ask(UPDATE))
    assert error.reason == "GateUnreachable"
    assert len(locks.history) == 2


def test_a_certificate_of_nobody_we_know_is_not_trusted(
    start: Callable[..., Face], locks: Locks, certificates: Certificates
) -> None:
    face = start(context=certificates.make_server_context())
    error = fail(lambda: make_gate(face).ask(UPDATE))
    assert "not to be trusted" in str(error)
    assert locks.asked == {}


def test_a_certificate_of_another_host_is_not_trusted(
    start: Callable[..., Face], locks: Locks, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path, "DNS:fleetlock.example.org")
    face = start(context=certificates.make_server_context())
    gate = make_gate(face, ca_file=str(certificates.ca.cert))
    assert "not to be trusted" in str(fail(lambda: gate.ask(UPDATE)))
    assert locks.asked == {}


@pytest.mark.parametrize("mode", ["stall", "drip"])
@pytest.mark.usefixtures("in_a_hurry")
def test_https_ends_in_time_too(
    start: Callable[..., Face], certificates: Certificates, mode: str
) -> None:
    face = start(context=certificates.make_server_context())
    face.mode = mode
    error = fail(lambda: make_gate(face, ca_file=str(certificates.ca.cert)).ask(UPDATE))
    assert error.reason == "GateUnreachable"


@pytest.mark.usefixtures("in_a_hurry")
def test_a_handshake_that_never_ends_ends_in_time(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        error = fail(lambda: make_gate(url, ca_file=str(certificates.ca.cert)).ask(UPDATE))
    assert "nothing came in time" in str(error)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"ca_file": "/nonexistent.pem"}, "gate.ca_file"),
        ({"cert_file": "/nonexistent.pem"}, "gate.cert_file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: dict[str, str], named: str) -> None:
    error = fail(lambda: make_gate("https://127.0.0.1:1", **files).ask(UPDATE))
    assert error.reason == "GateRefused"
    assert named in str(error)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    locked = tmp_path / "locked.key"
    words = ["openssl", "pkey", "-in", str(certificates.client.key), "-aes256"]
    subprocess.run([*words, "-passout", "pass:secret", "-out", str(locked)], check=True, timeout=60)
    files = {"cert_file": str(certificates.client.cert), "key_file": str(locked)}
    assert run_at_terminal(LOAD_CONTEXT, repr(files)) == "gate.cert_file or gate.key_file"
    error = fail(lambda: make_gate("https://127.0.0.1:1", **files).ask(UPDATE))
    assert error.reason == "GateRefused"
    assert "gate.cert_file or gate.key_file" in str(error)


LOAD_CONTEXT = """
import os, sys
from ast import literal_eval
from ya_salt.http import Tls, TlsFileError
os.open(os.ttyname(0), os.O_RDWR)  # the session's own from now on
try:
    Tls(**literal_eval(sys.argv[1]), section="gate.").make_context()
except TlsFileError as error:
    print(str(error).partition(':')[0])
"""


def run_at_terminal(code: str, argument: str) -> str:
    """What it writes to a terminal of its own, where OpenSSL would wait for somebody to type."""
    ours, its = pty.openpty()
    words = [sys.executable, "-c", code, argument]
    with subprocess.Popen(
        words, stdin=its, stdout=its, stderr=its, start_new_session=True
    ) as child:
        try:
            child.wait(20)
        finally:
            child.kill()
            written = os.read(ours, 10000)
            os.close(ours)
            os.close(its)
    return written.decode().strip()
