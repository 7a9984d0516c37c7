"""What is remembered in a container's `private` text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ya_salt.converge.drift import (
    PRIVATE_MAX_BYTES,
    decode_last_applied,
    encode_last_applied,
    hash_packages,
    hash_sent,
)
from ya_salt.model import LastApplied, Package

TEXTS = st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=8)


@given(TEXTS, TEXTS, st.lists(st.text(max_size=20), max_size=5), st.text(max_size=12))
def test_it_comes_back_as_it_was(sent, defaults, names, packages) -> None:
    applied = LastApplied(
        sent=sent,
        read=sent,
        defaults=defaults,
        unsupported=tuple(names),
        packages=packages,
        package_names=tuple(names),
    )
    text = encode_last_applied(applied)
    assert len(text.encode()) <= PRIVATE_MAX_BYTES
    assert decode_last_applied(text) == applied


def test_what_does_not_fit_loses_what_can_be_done_without_first() -> None:
    sent = {f"property-{i}": "x" * 12 for i in range(60)}
    long = {f"property-{i}": "y" * 60 for i in range(60)}
    kept = decode_last_applied(
        encode_last_applied(LastApplied(sent=sent, defaults=long, package_names=("a",)))
    )
    assert kept == LastApplied(sent=sent, package_names=("a",))
    names = tuple(f"package-{i}" for i in range(400))
    kept = decode_last_applied(encode_last_applied(LastApplied(sent=sent, package_names=names)))
    assert kept == LastApplied(sent=sent)
    huge = {f"property-{i}": "x" * 12 for i in range(600)}
    text = encode_last_applied(LastApplied(sent=huge, packages="p"))
    assert len(text) <= PRIVATE_MAX_BYTES
    assert decode_last_applied(text) == LastApplied(packages="p")


@given(st.text(max_size=100))
def test_any_other_text_is_nobodys_memory(text: str) -> None:
    assert decode_last_applied(text) is None


def test_other_programs_json_is_not_ours() -> None:
    for text in ("[]", "{}", '{"v":2}', '{"v":1}', '{"v":1,"packages":"a","sent":[1]}', "null"):
        assert decode_last_applied(text) is None


def test_the_order_of_packages_does_not_count_their_versions_do() -> None:
    a, b = Package("a", "1", line=3), Package("b", "2")
    assert hash_packages([a, b]) == hash_packages([b, Package("a", "1")])
    assert hash_packages([a, b]) != hash_packages([a, Package("b", "3")])


def test_maps_that_need_a_restart_are_remembered_whole() -> None:
    one = hash_sent({"env[A]": "1", "env[B]": "2", "labels[X.y]": "z", "user": "u"})
    assert set(one) == {"env", "labels[X.y]", "user"}
    other = hash_sent({"env[A]": "1", "env[B]": "3", "labels[X.y]": "z", "user": "u"})
    assert one["env"] != other["env"]
