"""What steps change, told from the plan and the host before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ya_salt.converge.changes import describe_changes
from ya_salt.converge.drift import hash_sent, wanted_properties
from ya_salt.model import (
    LABEL,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonSpec,
    InstalledPackage,
    InstallPackages,
    LastApplied,
    Observed,
    Package,
    PurgePackages,
    Record,
    RemoveContainer,
    ReplaceContainer,
    StartContainer,
)

SPEC = DaemonSpec(
    name="d",
    version="1",
    path="/specs/d.yaml",
    digest="a" * 64,
    properties={
        "command_argv": "sleep\t1 000",
        "memory_limit": "1024",
        "env[A]": "1",
        "env_secret[T]": "secret",
    },
    packages=(Package("p", "2"),),
)


def make_observed(sent: DaemonSpec, remembered: DaemonSpec | None = None) -> Observed:
    """A container that runs from `sent`."""
    applied = LastApplied(sent=hash_sent(wanted_properties(sent)))
    container = Container(
        "d", "running", {LABEL: sent.digest}, applied, values={"memory_limit": "1024"}
    )
    return Observed(
        packages={"p": InstalledPackage("p", "1")},
        containers={"d": container},
        records={"d": Record("d", spec=remembered or sent)},
    )


def change(**properties: str) -> DaemonSpec:
    return replace(SPEC, digest="b" * 64, properties={**SPEC.properties, **properties})


def test_a_new_container_has_all_its_properties_and_no_secret() -> None:
    told = describe_changes(SPEC, (CreateContainer(SPEC, ""),), Observed())
    assert told == {
        "container": {
            "command_argv": {"old": "", "new": "sleep '1 000'"},
            "memory_limit": {"old": "", "new": "1024"},
            "env[A]": {"old": "", "new": "1"},
            "env_secret[T]": {"old": "", "new": "***"},
        },
        "process": {"old": "absent", "new": "running"},
    }


@pytest.mark.parametrize(
    ("before", "old"),
    [
        (InstalledPackage("p", "1"), "1"),
        (InstalledPackage("p", "2", "half-configured"), "2 (half-configured)"),
        (InstalledPackage("p", "", "not-installed"), ""),
        (InstalledPackage("p", "1", "config-files"), "config-files"),
        (None, ""),
    ],
)
def test_packages_go_from_what_dpkg_has(before: InstalledPackage | None, old: str) -> None:
    observed = Observed(packages={"p": before} if before else {})
    told = describe_changes(SPEC, (InstallPackages("d", SPEC.packages, ""),), observed)
    assert told == {"packages": {"p": {"old": old, "new": "2"}}}


def test_a_live_change_tells_only_what_differs() -> None:
    new = change(memory_limit="2048")
    told = describe_changes(new, (ChangeLive(new, {}, ""),), make_observed(SPEC))
    assert told == {"container": {"memory_limit": {"old": "1024", "new": "2048"}}}


def test_a_map_that_is_remembered_as_one_is_told_by_its_entries() -> None:
    new = change(**{"env[B]": "2"})
    told = describe_changes(new, (ReplaceContainer(new, ""),), make_observed(SPEC))
    assert told == {
        "container": {"env[B]": {"old": "", "new": "2"}},
        "process": {"old": "running", "new": "restarted"},
    }


def test_a_property_that_left_the_spec_has_no_new_value() -> None:
    new = replace(SPEC, digest="b" * 64, properties={"command_argv": "sleep\t1 000"})
    told = describe_changes(new, (ReplaceContainer(new, ""),), make_observed(SPEC))
    assert told["container"] == {
        "memory_limit": {"old": "1024", "new": ""},
        "env[A]": {"old": "1", "new": ""},
        "env_secret[T]": {"old": "***", "new": ""},
    }


def test_a_remembered_spec_that_was_never_carried_out_is_not_the_old_one() -> None:
    new = change(memory_limit="4096")
    observed = make_observed(SPEC, remembered=change(memory_limit="2048"))
    told = describe_changes(new, (ChangeLive(new, {}, ""),), observed)
    assert told == {"container": {"memory_limit": {"old": "1024", "new": "4096"}}}


def test_a_label_that_is_out_of_date_is_all_that_changes() -> None:
    new = replace(SPEC, digest="b" * 64)
    told = describe_changes(new, (ChangeLive(new, {}, ""),), make_observed(SPEC))
    assert told == {"container": {f"labels[{LABEL}]": {"old": "a" * 12, "new": "b" * 12}}}


def test_starting_and_removing_are_changes_of_the_process() -> None:
    observed = make_observed(SPEC)
    start = StartContainer("d", "dead", "")
    dead = replace(observed, containers={"d": replace(observed.containers["d"], state="dead")})
    assert describe_changes(SPEC, (start,), dead)["process"]["new"] == "running"
    back = describe_changes(SPEC, (StartContainer("d", "stopped", ""),), observed)
    assert back["process"] == {"old": "running", "new": "restarted"}
    steps = (RemoveContainer("d", ""), PurgePackages("d", ("p",), (), ""))
    assert describe_changes(SPEC, steps, observed) == {
        "packages": {"p": {"old": "1", "new": ""}},
        "process": {"old": "running", "new": "absent"},
    }


def test_nothing_to_do_changes_nothing() -> None:
    assert describe_changes(SPEC, (), make_observed(SPEC)) == {}


def test_a_bug_met_by_one_daemon_is_told_in_the_place_of_its_changes() -> None:
    odd = PurgePackages("d", None, (), "")  # type: ignore[arg-type]
    told = describe_changes(SPEC, (odd,), make_observed(SPEC))
    assert "a bug in ya-salt" in told["container"]["unknown"]["new"]
