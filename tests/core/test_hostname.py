"""Which name this host goes by: what was found once, whatever the weather is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from ya_salt import hostname
from ya_salt.hostname import HostName, KnownName, choose_name, read_machine_id

ONE, TWO = "1" * 32, "2" * 32
SHORT = KnownName("web1", "node", "web1", ONE)
LONG = KnownName("web1.example.org", "resolver", "web1", ONE)
MOVED = KnownName("web1.example.net", "resolver", "web1", ONE)
RENAMED = KnownName("web9", "node", "web9", ONE)
SET = KnownName("front.example.org", "setting", "web1", ONE)


@pytest.mark.parametrize(
    ("sentence", "remembered", "found", "holds_slots", "name", "is_told"),
    [
        ("the first pass takes what there is", None, SHORT, False, "web1", False),
        ("nothing has changed", LONG, LONG, True, LONG.name, False),
        ("the resolver is away", LONG, SHORT, False, LONG.name, False),
        ("the resolver is away while a slot is held", LONG, SHORT, True, LONG.name, False),
        ("the resolver is there at last", SHORT, LONG, False, LONG.name, True),
        ("the resolver is there at last, a slot is held", SHORT, LONG, True, "web1", True),
        ("another domain", LONG, MOVED, False, MOVED.name, True),
        ("another domain while a slot is held", LONG, MOVED, True, LONG.name, True),
        ("the host was renamed", LONG, RENAMED, False, "web9", True),
        ("the host was renamed while a slot is held", LONG, RENAMED, True, LONG.name, True),
        ("somebody has set a name", LONG, SET, False, SET.name, True),
        ("somebody has set a name while a slot is held", LONG, SET, True, LONG.name, True),
        ("the setting is gone and the resolver away", SET, SHORT, False, "web1", True),
    ],
)
def test_the_name_to_go_by(
    sentence: str,
    remembered: KnownName | None,
    found: KnownName,
    holds_slots: bool,
    name: str,
    is_told: bool,
) -> None:
    choice = choose_name(remembered, found, holds_slots=holds_slots)
    assert (choice.known.name, bool(choice.note)) == (name, is_told)
    # Chosen again under the same sky, it stays, and the change is told no second time.
    again = choose_name(choice.known, found, holds_slots=holds_slots)
    assert again.known == choice.known
    assert bool(again.note) == (is_told and holds_slots)


@pytest.mark.parametrize("holds_slots", [True, False])
def test_a_store_cloned_with_an_image_does_not_make_two_hosts_one(holds_slots: bool) -> None:
    clone = KnownName("web2", "node", "web2", TWO)
    choice = choose_name(LONG, clone, holds_slots=holds_slots)
    assert choice.known == clone
    assert "web1.example.org" in choice.note


@pytest.mark.parametrize(("was", "now"), [("", ONE), (ONE, ""), ("", "")])
def test_a_machine_id_that_is_not_there_tells_nothing(was: str, now: str) -> None:
    remembered = KnownName(LONG.name, "resolver", "web1", was)
    choice = choose_name(remembered, KnownName("web1", "node", "web1", now), holds_slots=True)
    assert choice.known == KnownName(LONG.name, "resolver", "web1", was or now)


@pytest.mark.parametrize(
    ("remembered", "is_other"),
    [({"machine_id": TWO}, True), ({"machine_id": ONE}, False), ({"machine_id": ""}, False)],
)
def test_slots_of_another_machine_are_known_as_such(
    monkeypatch: pytest.MonkeyPatch, remembered: dict[str, str], is_other: bool
) -> None:
    monkeypatch.setattr(hostname, "read_machine_id", lambda: ONE)
    fact = {"name": "web1", "source": "node", "node": "web1", **remembered}
    assert HostName("", fact).is_other_machine is is_other


@pytest.mark.parametrize(
    ("text", "found"), [(f"{ONE}\n", ONE), ("uninitialized\n", ""), ("", ""), ("x" * 32, "")]
)
def test_only_a_machine_id_is_one(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "id").write_text(text)
    assert read_machine_id(str(tmp_path / "id")) == found
    assert read_machine_id(str(tmp_path / "none")) == ""
