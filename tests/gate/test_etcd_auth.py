"""etcd with users: hosts get as far as docs/rollout-etcd.md says, and no password gets anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.etcd import EtcdServer

from ya_salt.errors import GateError
from ya_salt.gate.etcd import Etcd, Put, Range, absent
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Identity, SlotRequest
from ya_salt.gate.records import Keys
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings

DOC = Path(__file__).parent.parent.parent / "docs/rollout-etcd.md"
KEYS = Keys("/orly/", "porto-daemon-web")
RULE = """\
meta: {name: porto-daemon-web}
spec: {max_concurrent: 1, on_lost: free, rate: {count: 5, window: 1m}}
"""
PASSWORDS = {"root": "the-root", "ya-salt": "l0ng-and-random", "operator": "an-other"}


class Guarded:
    """An etcd with users and roles as documented."""

    def __init__(self, server: EtcdServer, folder: Path) -> None:
        self.server = server
        self._folder = folder

    def enable(self) -> None:
        (script,) = re.findall(r"```sh\n(etcdctl.*?)```", DOC.read_text(), re.DOTALL)
        self.server.run_shell(script, cwd=self._folder)

    def connect(self, user: str, password_of: str = "") -> Etcd:
        file = self._folder / f"{password_of or user}.password"
        return Etcd(
            GateSettings(endpoints=self.server.endpoints, username=user, password_file=str(file)),
            deadline_s=10,
        )


@pytest.fixture
def unguarded(etcd_programs: None, folder: Path) -> Iterator[Guarded]:
    for name, password in PASSWORDS.items():
        file = folder / f"{name}.password"
        file.touch(0o600)
        file.write_text(password + "\n")
    with EtcdServer() as server:
        yield Guarded(server, folder)


@pytest.fixture
def guarded(unguarded: Guarded) -> Guarded:
    unguarded.enable()
    return unguarded


def apply_rule(etcd: Etcd) -> None:
    put = Put(KEYS.rule, parse_rule(RULE, "rule.yaml").document)
    assert etcd.transact([], [put]).succeeded


def test_host_may_do_all_that_the_gate_needs(guarded: Guarded) -> None:
    apply_rule(guarded.connect("operator"))
    gates = [
        OrlyGate(guarded.connect("ya-salt"), "/orly/", Identity(host)) for host in ("h1", "h2")
    ]
    ask = SlotRequest("web", "update", "2.0")

    answer = gates[0].ask(ask)
    assert isinstance(answer, Granted)
    held = answer.held
    assert held is not None
    assert gates[0].renew(held) == held
    held = gates[0].tell(held, "failed", "exit 1")
    assert held is not None
    again = gates[0].ask(SlotRequest("web", "update", "2.1"))
    assert isinstance(again, Granted)
    # A lost host is taken the slot from.
    assert again.held is not None
    guarded.connect("operator").revoke_lease(again.held.lease)
    other = gates[1].ask(SlotRequest("web", "update", "2.1"))
    assert isinstance(other, Granted)
    assert other.held is not None
    gates[1].release(other.held)

    (slots, holders) = guarded.connect("operator").read(
        Range(KEYS.slots, is_prefix=True), Range(KEYS.holders, is_prefix=True)
    )[0]
    assert (slots, holders) == ((), ())


@pytest.mark.parametrize("key", [KEYS.rule, KEYS.pause, "/orly/other/x", "/elsewhere"])
def test_host_may_not_edit_rules_nor_anything_else(guarded: Guarded, key: str) -> None:
    apply_rule(guarded.connect("operator"))
    host = guarded.connect("ya-salt")
    for call in (
        lambda: host.transact([], [Put(key, "x")]),
        lambda: host.transact([], deletes=[key]),
        lambda: host.transact([absent(KEYS.slot(0))], [Put(KEYS.slot(0), "x"), Put(key, "x")]),
    ):
        with pytest.raises(GateError, match=r"refuses user ya-salt: .*permission denied") as raised:
            call()
        assert raised.value.reason == "GateRefused"
    root = guarded.connect("root")
    (found,) = root.read(Range("/", is_prefix=True)).found
    assert [item.key for item in found] == [KEYS.rule]


@pytest.mark.parametrize(
    ("user", "password_of"), [("ya-salt", "operator"), ("nobody", "ya-salt"), ("", "ya-salt")]
)
def test_whoever_is_not_known_is_refused_by_name_and_without_secrets(
    guarded: Guarded, user: str, password_of: str
) -> None:
    with pytest.raises(GateError) as raised:
        guarded.connect(user, password_of).read(Range(KEYS.rule))
    assert raised.value.reason == "GateRefused"
    assert (f"user {user}" if user else "without gate.username") in str(raised.value)
    assert guarded.server.url in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        assert not any(password in repr(error) for password in PASSWORDS.values())
        error = error.__cause__ or error.__context__


def test_password_that_others_may_read_is_not_used(guarded: Guarded, folder: Path) -> None:
    (folder / "ya-salt.password").chmod(0o640)
    with pytest.raises(GateError, match="chmod 600") as raised:
        guarded.connect("ya-salt").read(Range(KEYS.rule))
    assert raised.value.reason == "GateRefused"


def test_login_is_done_once_and_again_where_etcd_forgot_it(guarded: Guarded) -> None:
    operator = guarded.connect("operator")
    apply_rule(operator)
    # Tokens are in the memory of a member.
    guarded.server.kill(0)
    guarded.server.start(0)
    guarded.server.wait_for(0)
    assert operator.transact([absent(KEYS.pause)], [Put(KEYS.pause, "{}")]).succeeded
    assert len(operator.read(Range(KEYS.pause)).found[0]) == 1


def test_role_that_is_changed_holds_at_once(guarded: Guarded) -> None:
    host = guarded.connect("ya-salt")
    assert host.transact([], [Put(KEYS.slot(0), "x")]).succeeded
    guarded.server.control(
        "role", "revoke-permission", "--prefix", "orly-host", "/orly/slots/", user="root:the-root"
    )
    with pytest.raises(GateError, match="permission denied"):
        host.transact([], [Put(KEYS.slot(1), "x")])
    assert len(host.read(Range(KEYS.rule)).found) == 1


def test_users_that_are_made_while_hosts_run_are_used_at_once(unguarded: Guarded) -> None:
    host, nobody = (
        unguarded.connect("ya-salt"),
        Etcd(GateSettings(endpoints=unguarded.server.endpoints)),
    )
    apply_rule(host)
    assert len(nobody.read(Range(KEYS.rule)).found[0]) == 1
    unguarded.enable()
    assert len(host.read(Range(KEYS.rule)).found[0]) == 1
    with pytest.raises(GateError, match=r"gate\.username"):
        nobody.read(Range(KEYS.rule))
