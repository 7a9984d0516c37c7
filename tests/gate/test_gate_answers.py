"""Whatever a gate answers, and whatever somebody put into etcd: a GateError, never a traceback.

What asks waits then; a "yes" comes of nothing but an answer that is right in every part.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from helpers.etcd_proxy import EtcdProxy
from helpers.hostile import HostileServer, Visit
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ya_salt.errors import GateError
from ya_salt.gate.admin import NotPossibleError, RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import MAX_ANSWER_BYTES, Etcd, Put, Range, UnknownOutcomeError, absent
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.fleetlock import FleetLockGate
from ya_salt.gate.protocol import Granted, Identity, Slot, SlotRequest
from ya_salt.gate.records import Keys
from ya_salt.gate.rule_file import parse_rule
from ya_salt.http import Client, Deadline
from ya_salt.model import Deferral, GateSettings

UPDATE = SlotRequest("web", "update", "2.0")
HELD = Slot("web", "0123", "update", "2.0", since=1.0, slot=0, revision=7, lost_after_s=60)
RULE = parse_rule("meta: {name: porto-daemon-web}\nspec: {max_concurrent: 1}\n", "rule.yaml")
STEERING = "\x1b[2J\x9b31m\u202egnorts\u2066\u2028next\x85line\x00"
DEEP = "[" * 3000 + "]" * 3000
DEEPER = "[" * 200_000 + "]" * 200_000

Answer = tuple[int, bytes]


class FakeEtcd:
    """Answers everything with the same, however wrong; a token first, if it is asked for one."""

    def __init__(self) -> None:
        self.answer: Callable[[str, Any], Answer] = lambda path, payload: (200, b"{}")
        self.proxy = EtcdProxy(0)
        self.proxy.ask = lambda path, body, headers: self.answer(path, json.loads(body))

    def settings(self, **more: Any) -> GateSettings:
        return GateSettings(endpoints=(self.proxy.url,), prefix="/orly/", **more)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeEtcd]:
    made = FakeEtcd()
    with made.proxy:
        yield made


def encode(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def make_item(**changes: Any) -> dict[str, Any]:
    """A key with its value, as the gateway writes it, changed; ... takes a field away."""
    item = {
        "key": encode("/a"),
        "create_revision": "3",
        "mod_revision": "4",
        "version": "1",
        "value": encode("{}"),
    } | changes
    return {name: value for name, value in item.items() if value is not ...}


def make_answer(*kvs: Any, **changes: Any) -> dict[str, Any]:
    """To a read of the key /a."""
    found = {"kvs": list(kvs), "count": str(len(kvs))} if kvs else {}
    answer = {
        "header": {"cluster_id": "1", "member_id": "2", "revision": "9", "raft_term": "2"},
        "succeeded": True,
        "responses": [{"response_range": {"header": {"revision": "9"}, **found}}],
    } | changes
    return {name: value for name, value in answer.items() if value is not ...}


def make_range(**changes: Any) -> dict[str, Any]:
    return make_answer(responses=[{"response_range": changes}])


def write(answer: Any) -> bytes:
    return json.dumps(answer).encode()


# -- etcd's answers -----------------------------------------------------------------------------


def test_the_answers_that_are_changed_below_are_right_as_they_are(fake: FakeEtcd) -> None:
    fake.answer = lambda path, payload: (200, write(make_answer(make_item())))
    etcd = Etcd(fake.settings())
    (found,), revision = etcd.read(Range("/a"))
    assert revision == 9
    (item,) = found
    assert (item.key, item.value, item.create_revision, item.mod_revision) == ("/a", "{}", 3, 4)
    fake.answer = lambda path, payload: (200, write(make_answer()))
    assert etcd.read(Range("/a")).found == ((),)


WRONG_BODIES = {
    "nothing": b"",
    "empty object": b"{}",
    "list": b"[]",
    "null": b"null",
    "text": b'"yes"',
    "NaN": b"NaN",
    "html": b"<html>welcome</html>",
    "no UTF-8": b'{"header": {"revision": "9"}, "x": "\xff\xfe"}',
    "two documents": b"{}{}",
    "cut off": write(make_answer(make_item()))[:-3],
    "deep": b'{"header": {"revision": "9"}, "succeeded": true, "responses": '
    + DEEP.encode()
    + b"}",
    "deeper": DEEPER.encode(),
}
WRONG_ANSWERS: dict[str, Any] = {
    "no header": make_answer(header=...),
    "header is no object": make_answer(header=[]),
    "no revision": make_answer(header={}),
    "revision of 0": make_answer(header={"revision": "0"}),
    "negative revision": make_answer(header={"revision": "-9"}),
    "negative revision, a number": make_answer(header={"revision": -9}),
    "fraction": make_answer(header={"revision": 9.5}),
    "huge": make_answer(header={"revision": 10**400}),
    "huge text": make_answer(header={"revision": "9" * 5000}),
    "just too big": make_answer(header={"revision": str(1 << 63)}),
    "Infinity": make_answer(header={"revision": float("inf")}),
    "yes for a number": make_answer(header={"revision": True}),
    "words for a number": make_answer(header={"revision": "nine"}),
    "other digits": make_answer(header={"revision": "\u00b2"}),
    "not carried out": make_answer(succeeded=False),
    "carried out: text": make_answer(succeeded="true"),
    "no responses": make_answer(responses=...),
    "responses: object": make_answer(responses={"0": {}}),
    "one too many": make_answer(responses=[{"response_range": {}}] * 2),
    "response: null": make_answer(responses=[None]),
    "response: another kind": make_answer(responses=[{"response_delete_range": {}}]),
    "range: list": make_answer(responses=[{"response_range": []}]),
    "kvs: object": make_range(kvs={"0": make_item()}),
    "kvs: text": make_range(kvs="none"),
    "no kvs but a count": make_range(count="3"),
    "fewer kvs than counted": make_range(kvs=[make_item()], count="2"),
    "count: negative": make_range(kvs=[], count=-1),
    "item: null": make_answer(None),
    "item: list": make_answer([]),
    "item: empty": make_answer({}),
    "key: no base64": make_answer(make_item(key="/a")),
    "key: number": make_answer(make_item(key=5)),
    "another key": make_answer(make_item(key=encode("/b"))),
    "no key": make_answer(make_item(key=...)),
    "value: no base64": make_answer(make_item(value="{}")),
    "value: not ASCII": make_answer(make_item(value="\u00e4\u00f6")),
    "value: object": make_answer(make_item(value={})),
    "value: null": make_answer(make_item(value=None)),
    "no create_revision": make_answer(make_item(create_revision=...)),
    "mod_revision: negative": make_answer(make_item(mod_revision="-4")),
    "mod_revision: null": make_answer(make_item(mod_revision=None)),
    "mod_revision: list": make_answer(make_item(mod_revision=[4])),
    "lease: negative": make_answer(make_item(lease="-1")),
    "lease: deep": make_answer(make_item(lease=json.loads("[" * 500 + "]" * 500))),
}


@pytest.mark.parametrize("body", [*WRONG_BODIES.values(), *map(write, WRONG_ANSWERS.values())])
def test_an_answer_that_is_none_of_etcds_is_an_error(fake: FakeEtcd, body: bytes) -> None:
    fake.answer = lambda path, payload: (200, body)
    with pytest.raises(GateError, match="not etcd") as caught:
        Etcd(fake.settings(), deadline_s=0.15).read(Range("/a"))
    assert_plain(caught.value)
    # Nobody knows what became of a write that is answered so.
    with pytest.raises(UnknownOutcomeError):
        Etcd(fake.settings(), deadline_s=2).transact([], [Put("/a", "x")], [], [Range("/a")] * 3)


def assert_plain(error: GateError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("call", "answers"),
    [
        (
            lambda etcd: etcd.grant_lease(60),
            [{}, {"ID": "x"}, {"ID": "-5"}, {"ID": 0}, {"ID": None}, {"ID": [1]}, {"ID": "9" * 30}],
        ),
        (
            lambda etcd: etcd.keep_alive(5),
            [
                {},
                {"result": []},
                {"result": {}},
                {"result": {"ID": "5", "TTL": "-1"}},
                {"result": {"ID": "6", "TTL": "60"}},
                {"result": {"ID": "5", "TTL": {}}},
                {"result": {"ID": "5", "TTL": 1.5}},
            ],
        ),
        (lambda etcd: etcd.revoke_lease(5), [{}, {"header": 5}, {"header": {"revision": None}}]),
    ],
)
def test_a_lease_of_nonsense_is_an_error(
    fake: FakeEtcd, call: Callable[[Etcd], Any], answers: list[Any]
) -> None:
    for answer in answers:
        fake.answer = lambda path, payload, answer=answer: (200, write(answer))
        with pytest.raises(GateError, match="not etcd"):
            call(Etcd(fake.settings(), deadline_s=0.15))


@pytest.mark.parametrize("stream", [b'{"result": {"ID": "5", "TTL": "60"}}\n{"result": {}}', b"\n"])
def test_a_stream_that_goes_on_is_an_error(fake: FakeEtcd, stream: bytes) -> None:
    fake.answer = lambda path, payload: (200, stream)
    with pytest.raises(GateError):
        Etcd(fake.settings(), deadline_s=0.15).keep_alive(5)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 503])
@pytest.mark.parametrize(
    "error",
    [
        {"error": None},
        {"error": []},
        {"error": "x" * 9000, "code": 3},
        {"error": {"grpc_code": "3", "message": "x"}},
        {"error": {"grpc_code": 3, "message": STEERING}},
        {"error": {"message": "x"}},
        {"error": STEERING, "code": 7, "message": [STEERING]},
        {"error": STEERING, "code": 7},
        {"error": STEERING, "code": 5, "message": STEERING},
        {"error": "x", "code": 10**30},
        {"error": "x", "code": -1},
        {"error": "x", "code": True},
        {"error": "x", "code": float("nan")},
        {"code": 3, "message": "x"},
    ],
)
def test_an_error_of_any_form_is_an_error(fake: FakeEtcd, status: int, error: Any) -> None:
    fake.answer = lambda path, payload: (status, write(error))
    with pytest.raises(GateError) as caught:
        Etcd(fake.settings(), deadline_s=0.15).read(Range("/a"))
    assert_plain(caught.value)


def test_where_it_redirects_to_is_told_without_harm(fake: FakeEtcd) -> None:
    where = "http://elsewhere.example.org/\x1b[2J\x9b"
    fake.proxy.ask = lambda path, body, headers: (307, b"", where)
    with pytest.raises(GateError, match="redirects to http://elsewhere") as caught:
        Etcd(fake.settings(), deadline_s=0.15).read(Range("/a"))
    assert_plain(caught.value)
    fake.proxy.ask = lambda path, body, headers: fake.answer(path, json.loads(body))


def test_an_answer_without_measure_is_read_to_its_bound() -> None:
    def flood(visit: Visit) -> None:
        visit.take_request()
        visit.send(b'HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n{"responses": [')
        for _ in range(3200):
            visit.send(b'"' + b"x" * 65533 + b'",')

    with (
        HostileServer(flood) as server,
        pytest.raises(GateError, match=f"longer than {8 << 20} bytes"),
    ):
        Etcd(GateSettings(endpoints=(server.url,)), deadline_s=5).read(Range("/a"))
    assert MAX_ANSWER_BYTES == 8 << 20


def test_an_answer_that_is_none_is_told_though_the_last_one_was_cut_short() -> None:
    def speak(visit: Visit) -> None:
        visit.take_request()
        visit.answer(b"nope")

    def hang(visit: Visit) -> None:
        visit.take_request()
        visit.stay()

    with (
        HostileServer(speak, hang) as server,
        pytest.raises(GateError, match="what answered is not etcd"),
    ):
        Etcd(GateSettings(endpoints=(server.url,)), deadline_s=1).read(Range("/a"))
    assert len(server.visits) == 2


@pytest.fixture
def password_file(tmp_path: Any) -> str:
    path = tmp_path / "password"
    path.write_text("pa55 w\u00f6rd\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "token",
    [
        *({"token": token} for token in (None, 5, ["x"], {}, "", "a\r\nX: y", "\u20ac")),
        *({}, [], "x"),
    ],
)
def test_a_token_that_is_none_is_an_error(fake: FakeEtcd, password_file: str, token: Any) -> None:
    asked: list[str] = []

    def answer(path: str, payload: Any) -> Answer:
        asked.append(path)
        return 200, write(token)

    fake.answer = answer
    settings = fake.settings(username="ya-salt", password_file=password_file)
    with pytest.raises(GateError, match="no token for ya-salt"):
        Etcd(settings, deadline_s=0.15).transact([], [Put("/a", "x")])
    assert set(asked) == {"/v3/auth/authenticate"}, "what was to be written was not sent"


def test_a_server_that_repeats_the_password_tells_nobody(
    fake: FakeEtcd, password_file: str
) -> None:
    settings = fake.settings(username="ya-salt", password_file=password_file)
    for make in (
        lambda told: {"error": f"who is {told}?", "code": 16, "message": f"who is {told}?"},
        lambda told: {"token": None, told: told},
        lambda told: told,
    ):
        fake.answer = lambda path, payload, make=make: (200, write(make(payload["password"])))
        with pytest.raises(GateError) as caught:
            Etcd(settings, deadline_s=0.15).read(Range("/a"))
        error: BaseException | None = caught.value
        while error is not None:
            assert "pa55" not in repr(error) + repr(vars(error))
            error = error.__cause__ or error.__context__
    # The token is a secret, too.
    fake.answer = lambda path, payload: (
        (200, b'{"token": "t0ken"}')
        if "auth" in path
        else (200, b'{"error": "what is t0ken?", "code": 7}')
    )
    with pytest.raises(GateError, match=r"what is \*\*\*") as caught:
        Etcd(settings, deadline_s=2).read(Range("/a"))
    assert caught.value.reason == "GateRefused"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["9", "-1", encode("/a"), encode("{}"), STEERING]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@st.composite
def changed_answers(draw: st.DrawFn) -> Any:
    """A right answer, with something else at one place or with a place missing."""
    answer = make_answer(make_item(lease="5"))
    place: Any = answer
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(list(keys)))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, dict) and draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        return answer


@given(answer=changed_answers() | JSON, status=st.sampled_from([200, 200, 200, 400, 503]))
@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_answer_at_all_gets_past_as_anything_but_an_error(
    fake: FakeEtcd, answer: Any, status: int
) -> None:
    fake.answer = lambda path, payload: (status, write(answer))
    etcd = Etcd(fake.settings(), deadline_s=0.09)
    try:
        (found,), revision = etcd.read(Range("/a"))
    except GateError as error:
        assert_plain(error)
    else:
        assert status == 200
        assert revision > 0
        assert all(item.key == "/a" and item.mod_revision > 0 for item in found)


# -- all that asks ------------------------------------------------------------------------------

GATE_CALLS: dict[str, Callable[[OrlyGate], Any]] = {
    "ask": lambda gate: gate.ask(UPDATE),
    "preview": lambda gate: gate.preview(UPDATE),
    "find": lambda gate: gate.find("web"),
    "tell": lambda gate: gate.tell(HELD, "failed", "it broke"),
    "release": lambda gate: gate.release(HELD),
    "renew": lambda gate: gate.renew(HELD),
}
ADMIN_CALLS: dict[str, Callable[[RuleAdmin], Any]] = {
    "read_all": lambda admin: admin.read_all(),
    "read": lambda admin: admin.read(RULE.name),
    "apply": lambda admin: admin.apply(RULE),
    "delete": lambda admin: admin.delete(RULE.name),
    "release": lambda admin: admin.release(RULE.name, "h1", "why", "me", 1.0),
    "pause": lambda admin: admin.pause(RULE.name, Pause("why", "me", 1.0)),
    "resume": lambda admin: admin.resume(RULE.name),
}


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_hosts_and_operators_get_a_gate_error_whatever_they_ask(
    fake: FakeEtcd, body: bytes
) -> None:
    fake.answer = lambda path, payload: (200, body)
    for ask in GATE_CALLS.values():
        etcd = Etcd(fake.settings(), deadline_s=0.09)
        with pytest.raises(GateError):
            ask(OrlyGate(etcd, "/orly/", Identity("h1")))
    for do in ADMIN_CALLS.values():
        etcd = Etcd(fake.settings(), deadline_s=0.09)
        with pytest.raises(GateError):
            do(RuleAdmin(etcd, "/orly/"))


# -- what stands in etcd ------------------------------------------------------------------------

NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "half": b"{",
    "list": b"[]",
    "null": b"null",
    "empty": b"{}",
    "text": b'"web"',
    "NaN": b"NaN",
    "deep": DEEP.encode(),
    "deeper": DEEPER.encode(),
    "deep inside": b'{"target": %s, "id": %s}' % (DEEP.encode(), DEEP.encode()),
    "no UTF-8": b'{"target": "\xff\xfe", "id": "\xff"}',
    "wrong types": b'{"id": 5, "slot": "0", "operation": [], "target": {}, "state": 1}',
    "huge": b'{"slot": 1' + b"0" * 9000 + b"}",
    "half a character": b'{"target": "\\ud800", "id": "\\udfff"}',
    "steering": json.dumps({"id": "1", "target": STEERING, "reason": STEERING}).encode(),
}


@pytest.fixture
def put(settings: GateSettings) -> Callable[[str, bytes], None]:
    """Write bytes to etcd, text or not."""
    client = Client()

    def write(key: str, value: bytes) -> None:
        url = f"{settings.endpoints[0]}/v3/kv/put"
        payload = {"key": encode(key), "value": encode(value)}
        assert client.post(url, payload, Deadline.after(10)).ok

    return write


def make_holder(**changes: Any) -> bytes:
    holder = {
        "host": "h1",
        "id": "0123",
        "slot": 0,
        "operation": "update",
        "target": "2.0",
        "reason": "",
        "since": 1.5,
        "state": "working",
        "error": "",
    } | changes
    return json.dumps({name: value for name, value in holder.items() if value is not ...}).encode()


WRONG_HOLDERS: dict[str, bytes] = {
    **NONSENSE,
    "no id": make_holder(id=...),
    "id: empty": make_holder(id=""),
    "slot: missing": make_holder(slot=...),
    "slot: yes": make_holder(slot=True),
    "slot: negative": make_holder(slot=-1),
    "slot: fraction": make_holder(slot=0.5),
    "slot: huge": make_holder(slot=10**20),
    "operation": make_holder(operation="dance"),
    "state": make_holder(state="asleep"),
    "since: Infinity": make_holder(since=float("inf")),
    "since: text": make_holder(since="today"),
    "error: list": make_holder(error=[STEERING]),
    "target: null": make_holder(target=None),
}

MakeGate = Callable[..., OrlyGate]


@pytest.mark.parametrize("value", WRONG_HOLDERS.values(), ids=WRONG_HOLDERS)
def test_an_own_record_of_nonsense_lets_nothing_start_and_can_be_released(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
    value: bytes,
) -> None:
    put_rule("max_concurrent: 2")
    put(keys.holder("h1"), value)
    put(keys.slot(0), b'{"host": "h1", "id": "0123"}')
    gate = make_gate("h1")
    for name, call in GATE_CALLS.items():
        with pytest.raises(GateError, match=f"orlyctl release {keys.name} h1") as caught:
            call(gate)
        assert keys.holder("h1") in str(caught.value), name
        assert_plain(caught.value)
    # Nobody else is kept from anything by it.
    assert isinstance(make_gate("h2").ask(UPDATE), Granted)
    admin = RuleAdmin(client, keys.prefix)
    assert {holder.host for holder in admin.read(keys.name).holders} == {"h1", "h2"}
    admin.release(keys.name, "h1", "", "me", 1.0)
    assert isinstance(gate.ask(UPDATE), Granted)


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE)
def test_a_failure_note_of_nonsense_lets_nothing_start_and_can_be_released(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
    value: bytes,
) -> None:
    """It may be the failure that halts this very version."""
    put_rule("max_failures: 1")
    put(keys.failed("h9"), value)
    gate = make_gate("h1")
    for name in ("ask", "preview"):
        with pytest.raises(GateError, match=f"orlyctl release {keys.name} h9") as caught:
            GATE_CALLS[name](gate)
        assert keys.failed("h9") in str(caught.value)
        assert_plain(caught.value)
    admin = RuleAdmin(client, keys.prefix)
    assert set(admin.read(keys.name).failures) == {"h9"}
    admin.release(keys.name, "h9", "", "me", 1.0)
    assert isinstance(gate.ask(UPDATE), Granted)


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE)
def test_a_rule_of_nonsense_lets_nothing_start(
    make_gate: MakeGate, put: Callable[[str, bytes], None], client: Etcd, keys: Keys, value: bytes
) -> None:
    put(keys.rule, value)
    gate = make_gate("h1")
    for answer in (gate.ask(UPDATE), gate.preview(UPDATE)):
        assert isinstance(answer, Deferral)
        assert answer.reason == "RuleUnreadable"
        assert answer.message.isprintable()
        assert "orlyctl apply-rule" in answer.message
    assert gate.find("web") is None
    admin = RuleAdmin(client, keys.prefix)
    assert admin.read(keys.name).rule is None
    assert admin.apply(parse_rule(f"meta: {{name: {keys.name}}}\nspec: {{max_concurrent: 1}}", ""))
    assert isinstance(gate.ask(UPDATE), Granted)


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE)
def test_a_pause_of_nonsense_is_one(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
    value: bytes,
) -> None:
    put_rule("")
    put(keys.pause, value)
    answer = make_gate("h1").ask(UPDATE)
    assert isinstance(answer, Deferral)
    assert answer.reason == "Paused"
    assert answer.message.isprintable()
    admin = RuleAdmin(client, keys.prefix)
    assert admin.resume(keys.name) is not None
    assert isinstance(make_gate("h1").ask(UPDATE), Granted)


@pytest.mark.parametrize("name", ["x", "", "-1", "1.5", "9" * 5000, "\u0661", "0/0", STEERING])
@pytest.mark.parametrize("kind", ["slots", "starts"])
def test_a_slot_without_a_number_lets_nothing_start(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
    kind: str,
    name: str,
) -> None:
    put_rule("max_concurrent: 2, rate: {count: 5, window: 1m}")
    put((keys.slots if kind == "slots" else keys.starts) + name, b"{}")
    for call in ("ask", "preview"):
        with pytest.raises(GateError, match=f"{kind}/{keys.name}") as caught:
            GATE_CALLS[call](make_gate("h1"))
        assert str(caught.value).isprintable()
    assert RuleAdmin(client, keys.prefix).read(keys.name).rule is not None


@pytest.mark.parametrize("value", WRONG_HOLDERS.values(), ids=WRONG_HOLDERS)
def test_a_lost_host_that_cannot_be_read_keeps_its_slot(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    keys: Keys,
    value: bytes,
) -> None:
    put_rule("on_lost: free")
    put(keys.holder("h9"), value)
    put(keys.slot(0), b'{"host": "h9"}')
    answer = make_gate("h1").ask(UPDATE)
    assert isinstance(answer, Deferral)
    assert answer.reason == "Full"


def test_names_that_steer_reach_no_message(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
) -> None:
    put_rule("max_failures: 1")
    host = f"h9{STEERING}"
    put(keys.failed(host), b'{"target": "2.0"}')
    answer = make_gate("h1").ask(UPDATE)
    assert isinstance(answer, Deferral)
    assert answer.reason == "Halted"
    assert answer.message.isprintable()
    put(keys.slot(0), json.dumps({"host": host}).encode())
    for call in (
        lambda admin: admin.delete(keys.name),
        lambda admin: admin.release(keys.name, "h1", "", "me", 1.0),
    ):
        with pytest.raises(NotPossibleError) as caught:
            call(RuleAdmin(client, keys.prefix))
        assert str(caught.value).isprintable()


def test_what_a_newer_version_adds_to_a_record_changes_nothing(
    make_gate: MakeGate,
    put_rule: Callable[[str], None],
    put: Callable[[str, bytes], None],
    client: Etcd,
    keys: Keys,
) -> None:
    put_rule("")
    gate = make_gate("h1")
    answer = gate.ask(UPDATE)
    assert isinstance(answer, Granted)
    (holders,) = client.read(Range(keys.holder("h1"))).found
    more = json.loads(holders[0].value) | {"newer": "kept", "nested": {"a": [1]}}
    put(keys.holder("h1"), json.dumps(more).encode())
    assert answer.held is not None
    told = gate.tell(answer.held, "failed", "it broke")
    assert told is not None
    assert told.state == "failed"
    (holders,) = client.read(Range(keys.holder("h1"))).found
    assert json.loads(holders[0].value)["newer"] == "kept"


# -- FleetLock ----------------------------------------------------------------------------------


def make_fleetlock(url: str) -> FleetLockGate:
    return FleetLockGate(GateSettings("fleetlock", (url,)), Identity("h1"))


FLEETLOCK_BODIES = [
    *WRONG_BODIES.values(),
    b'{"kind": [], "value": {}}',
    b'{"kind": "failed_lock", "value": 5}',
    b'{"kind": NaN}',
    b'{"kind": %s}' % DEEP.encode(),
    json.dumps({"kind": STEERING, "value": STEERING}).encode(),
    json.dumps({"kind": "x", "value": "\ud800"}).encode(),
    b'{"value": "' + b"x" * 300_000 + b'"}',
]


@pytest.mark.parametrize("status", [99, 101, 204, 299, 302, 400, 409, 418, 500, 503, 999])
@pytest.mark.parametrize("body", FLEETLOCK_BODIES)
def test_whatever_a_fleetlock_server_answers_is_no_yes(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    monkeypatch.setattr("ya_salt.gate.fleetlock.LIMIT_S", 2.0)

    def serve(visit: Visit) -> None:
        visit.take_request()
        head = f"HTTP/1.1 {status} {STEERING!a}\r\nLocation: /\u00ab\x1b[2J".encode("latin-1")
        visit.answer(body, head)

    with HostileServer(serve) as server:
        gate = make_fleetlock(server.url)
        try:
            answer = gate.ask(UPDATE)
        except GateError as error:
            assert_plain(error)
        else:
            assert isinstance(answer, Deferral)
            assert answer.message.isprintable()
        try:
            gate.release(HELD)
        except GateError as error:
            assert_plain(error)
        else:
            pytest.fail(f"{status} is taken for a yes")


@given(wire=st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@examples(max_examples=100, deadline=None)
def test_no_bytes_of_a_fleetlock_server_get_past_as_anything_but_an_error(wire: bytes) -> None:
    def serve(visit: Visit) -> None:
        visit.take_request()
        visit.send(b"HTTP/1.1 " + wire)

    with ExitStack() as stack:
        server = stack.enter_context(HostileServer(serve))
        try:
            answer = make_fleetlock(server.url).ask(UPDATE)
        except GateError as error:
            assert_plain(error)
        else:
            assert isinstance(answer, Deferral) or wire.startswith(b"200")


def test_a_transaction_that_compares_is_read_as_strictly(fake: FakeEtcd) -> None:
    """What `otherwise` asked for has to be there where it was not carried out."""
    etcd = Etcd(fake.settings(), deadline_s=2)
    fake.answer = lambda path, payload: (200, write(make_answer(succeeded=...)))
    assert not etcd.transact([absent("/a")], [Put("/a", "x")], [], [Range("/a")]).succeeded
    fake.answer = lambda path, payload: (200, write(make_answer(succeeded=..., responses=...)))
    assert not etcd.transact([absent("/a")], [Put("/a", "x")]).succeeded
    with pytest.raises(UnknownOutcomeError):
        etcd.transact([absent("/a")], [Put("/a", "x")], [], [Range("/a")])
