"""Plans, case by case (tests/cases/plan.yaml), and the promise that a plan carried out is final."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ya_salt.converge.drift import (
    decode_last_applied,
    encode_last_applied,
    hash_entries,
    hash_packages,
    hash_sent,
    hash_values,
    make_mark,
    name_key,
    wanted_properties,
)
from ya_salt.converge.lives import Intent
from ya_salt.converge.plan import _add_restart, defer, make_plan
from ya_salt.model import (
    LABEL,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
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
    StopContainer,
    describe_step,
)
from ya_salt.specs.digest import make_digest

CASES = yaml.safe_load((Path(__file__).parent.parent / "cases" / "plan.yaml").read_text())
DYNAMIC = frozenset(
    {
        "memory_limit",
        "cpu_limit",
        "thread_limit",
        "labels",
        "respawn",
        "respawn_delay",
        "private",
        "ulimit",
        "io_limit",
        "symlink",
        "resolv_conf",
    }
)
GOOD: dict[str, Any] = {
    "packages": {"juggler": "1.0", "config": "2.0-1"},
    "properties": {
        "command_argv": "/usr/bin/juggler",
        "user": "monitor",
        "memory_limit": "2147483648",
    },
}


def make_spec(patch: dict[str, Any], name: str = "juggler") -> DaemonSpec:
    packages = {**GOOD["packages"], **patch.get("packages", {})}
    wanted = tuple(Package(key, value) for key, value in packages.items() if value is not None)
    properties = {**GOOD["properties"], **patch.get("properties", {})}
    rest = {key: value for key, value in patch.items() if key not in {"packages", "properties"}}
    return DaemonSpec(
        name=name,
        path=f"/specs/{name}.yaml",
        digest=make_digest(name, properties, wanted),
        properties=properties,
        packages=wanted,
        **{"version": "1", **rest},
    )


def read_back(wanted: dict[str, str]) -> dict[str, str]:
    """What portod reads back: `A=1;B=2` for variables, `a: 1; ` for other maps."""
    values: dict[str, str] = {}
    for name, text in wanted.items():
        base, _, entry = name.rstrip("]").partition("[")
        if base == "env":
            values[base] = values.get(base, "") + f"{entry}={text};"
        elif entry and base not in {"labels", "controllers"}:
            values[base] = values.get(base, "") + f"{entry}: {text}; "
        elif base != "labels":
            values[name] = text
    return values


def make_container(
    spec: DaemonSpec,
    *,
    unsupported: tuple[str, ...] = (),
    defaults: Any = None,
    names: Any = (),
    key: bytes = b"",
    refused: str = "",
) -> Container:
    """What a container looks like right after it was made from `spec`."""
    wanted = wanted_properties(spec)
    values = read_back({n: t for n, t in wanted.items() if n not in unsupported})
    labels = {name[7:-1]: text for name, text in wanted.items() if name.startswith("labels[")}
    applied = LastApplied(
        sent=hash_sent(wanted, key),
        entries=hash_entries(wanted, key),
        key=name_key(key),
        refused=refused,
        read=hash_values(values),
        defaults=defaults or {},
        unsupported=unsupported,
        packages=hash_packages(spec.packages),
        package_names=tuple(names),
        portod="5.3",
    )
    return Container(
        name=spec.name,
        state="running",
        labels={LABEL: spec.digest, **labels},
        applied=decode_last_applied(encode_last_applied(applied)),
        running_s=60,
        values=values,
    )


def parse_packages(texts: dict[str, str]) -> dict[str, InstalledPackage]:
    """`"1.0 half-configured"` is a version and dpkg's word for the state."""
    parts = {name: (*text.split(), "installed")[:2] for name, text in texts.items()}
    return {name: InstalledPackage(name, *found) for name, found in parts.items()}


@dataclass
class Case:
    spec: DaemonSpec
    context: tuple[DaemonSpec, ...]
    observed: Observed

    def plan(self) -> DaemonPlan:
        return make_plan((self.spec,), self.context, self.observed)[0]


def make_case(data: dict[str, Any]) -> Case:
    host = data.get("host", {})
    spec = make_spec(data.get("spec", {}))
    was = make_spec(data.get("was", data.get("spec", {})))
    containers = (
        {"juggler": _patch_container(spec, was, host)} if host.get("container") != "none" else {}
    )
    neighbour = host.get("neighbour")
    context = (spec, _make_other("neighbour", neighbour)) if neighbour else (spec,)
    records = {"juggler": _make_record(host)}
    if "orphan" in host:
        orphan = _make_other("orphan", host["orphan"])
        records["orphan"] = Record("orphan", spec=orphan, status=DaemonStatus("orphan"))
    observed = Observed(
        packages=parse_packages(host.get("packages", GOOD["packages"])),
        packages_error=host.get("packages_error", ""),
        containers=containers,
        dynamic=DYNAMIC,
        key=host.get("key", "").encode(),
        portod=host.get("portod", "5.3"),
        records=records,
    )
    return Case(spec, context, observed)


def _make_record(host: dict[str, Any]) -> Record:
    return Record(
        "juggler",
        package_names=tuple(host.get("record_names", ())),
        restart_pending=host.get("restart_pending", False),
    )


def _make_other(name: str, packages: dict[str, str]) -> DaemonSpec:
    return make_spec({"packages": {**dict.fromkeys(GOOD["packages"]), **packages}}, name)


def _patch_container(spec: DaemonSpec, was: DaemonSpec, host: dict[str, Any]) -> Container:
    patch = host.get("container", {})
    if patch == "foreign":
        return Container("juggler", "running", labels={"OTHER.tool": "mine"})
    good = make_container(
        was,
        unsupported=tuple(host.get("unsupported", ())),
        defaults=host.get("defaults"),
        names=patch.get("names", ()),
        key=host.get("was_key", host.get("key", "")).encode(),
        refused={True: make_mark(spec, b""), "other": "other"}.get(host.get("refused"), ""),
    )
    labels = {**good.labels, **patch.get("labels", {})}
    return replace(
        good,
        state=patch.get("state", "running"),
        applied=decode_last_applied(patch["private"]) if "private" in patch else good.applied,
        values={**good.values, **patch.get("values", {})},
        labels={k: v for k, v in labels.items() if k not in patch.get("lose_labels", ())},
    )


def carry_out(case: Case) -> Case:
    """The host after the plan's steps, by what each step promises."""
    observed = case.observed
    for step in case.plan().steps:
        match step:
            case InstallPackages(packages=packages):
                done = {item.name: InstalledPackage(item.name, item.version) for item in packages}
                observed = replace(observed, packages={**observed.packages, **done})
            case CreateContainer(spec=spec) | ReplaceContainer(spec=spec) | ChangeLive(spec=spec):
                made = make_container(spec, key=observed.key)
                state = "running"
                if isinstance(step, ChangeLive):
                    state = observed.containers[spec.name].state
                observed = replace(observed, containers={spec.name: replace(made, state=state)})
                records = {**observed.records, spec.name: Record(spec.name)}
                observed = replace(observed, records=records)
            case StartContainer(name=name):
                started = replace(observed.containers[name], state="running")
                observed = replace(observed, containers={name: started})
            case RemoveContainer():
                observed = replace(observed, containers={})
            case PurgePackages(packages=names):
                rest = {k: v for k, v in observed.packages.items() if k not in names}
                observed = replace(observed, packages=rest)
    return replace(case, observed=observed)


@pytest.mark.parametrize("data", CASES, ids=[item["case"] for item in CASES])
def test_case(data: dict[str, Any]) -> None:
    case = make_case(data)
    plan = case.plan()
    assert [describe_step(step) for step in plan.steps] == data["plan"]
    assert plan.refusal_reason == data.get("refused", "")
    assert bool(plan.refusal) == bool(data.get("refused"))
    assert list(plan.notes) == data.get("notes", [])


@pytest.mark.parametrize("data", CASES, ids=[item["case"] for item in CASES])
def test_a_plan_carried_out_leaves_nothing_to_do(data: dict[str, Any]) -> None:
    after = carry_out(make_case(data))
    assert [describe_step(step) for step in after.plan().steps] == []


@pytest.mark.parametrize("data", CASES, ids=[item["case"] for item in CASES])
def test_what_changes_live_matters_only_where_there_are_steps(
    data: dict[str, Any],
) -> None:
    case = make_case(data)
    unknown = replace(case.observed, dynamic=frozenset())
    if not data.get("host", {}).get("neighbour"):
        plan = make_plan((case.spec,), (case.spec,), unknown)[0]
        assert bool(plan.steps) == bool(data["plan"])


def test_a_conflict_names_both_files_and_lines() -> None:
    one = replace(make_spec({}), packages=(Package("tool", "1", line=7),))
    other = replace(make_spec({}, "other"), packages=(Package("tool", "2", line=9),))
    plans = make_plan((one, other), (one, other), Observed())
    assert [plan.refusal.split("; ")[0] for plan in plans] == [
        "/specs/juggler.yaml:7 wants tool 1, but /specs/other.yaml:9 wants 2",
        "/specs/other.yaml:9 wants tool 2, but /specs/juggler.yaml:7 wants 1",
    ]
    assert not any(plan.steps for plan in plans)


def test_a_live_change_sends_the_new_text_and_a_lost_property_its_default() -> None:
    data = {
        "spec": {"properties": {"memory_limit": "5"}},
        "was": {"properties": {"thread_limit": "50"}},
        "host": {"defaults": {"thread_limit": "10000"}},
    }
    (step,) = make_case(data).plan().steps
    assert isinstance(step, ChangeLive)
    assert step.changes == {"memory_limit": "5", "thread_limit": "10000"}


def test_a_map_is_set_anew_with_what_is_left_of_it() -> None:
    kept = {"io_limit[/]": "1", "io_limit[sda r]": "2"}
    data = {
        "spec": {"properties": kept},
        "was": {"properties": {**kept, "io_limit[sdb]": "3"}},
    }
    (step,) = make_case(data).plan().steps
    assert isinstance(step, ChangeLive)
    assert step.changes == {"io_limit": "/: 1; sda r: 2"}
    data["spec"] = {}
    (step,) = make_case(data).plan().steps
    assert isinstance(step, ChangeLive)
    assert step.changes == {"io_limit": ""}


# -- held, resting, slowed down --------------------------------------------------------------------


@pytest.mark.parametrize("data", CASES, ids=[item["case"] for item in CASES])
def test_one_that_is_held_is_stopped_and_nothing_else(data: dict[str, Any]) -> None:
    case = make_case(data)
    plan = plan_with(case, Intent(held="held by eve", restart="a file changed"))
    container = case.observed.containers.get("juggler")
    if case.spec.delete_requested or (container is not None and not container.is_ours):
        assert plan == case.plan()
        return
    runs = container is not None and container.state not in {"dead", "stopped"}

    assert plan.steps == ((StopContainer("juggler", "held by eve", "true"),) if runs else ())
    assert (plan.refusal, plan.rests) == ("", "held by eve")
    assert _add_restart(plan, case.spec, "asked for").steps == plan.steps
    assert "ya-salt start juggler" in _add_restart(plan, case.spec, "asked for").refusal
    if container is not None:
        # A stop that was cut short has left it dead with respawn off.
        is_over = container.values["respawn"] == "true"
        assert (plan_with(stand(case, "dead"), Intent(held="held by eve")).steps == ()) == is_over
    assert defer(plan, Deferral("Full", "no slot"), case.observed).steps == ()


@pytest.mark.parametrize("data", CASES, ids=[item["case"] for item in CASES])
def test_one_that_rests_is_not_started(data: dict[str, Any]) -> None:
    case = make_case(data)
    container = case.observed.containers.get("juggler")
    if container is None or not container.is_ours:
        return
    case = stand(case, "dead")
    usual, plan = case.plan(), plan_with(case, Intent(resting="it has died 4 times"))

    assert plan.steps == tuple(s for s in usual.steps if not isinstance(s, StartContainer))
    assert defer(plan, Deferral("Full", "no slot"), case.observed).steps == ()
    stopped = stand(case, "stopped")
    assert plan_with(stopped, Intent(resting="it has died 4 times")).steps == stopped.plan().steps


@pytest.mark.parametrize("text", ["5s", ""])
@pytest.mark.parametrize("state", ["running", "respawning", "dead"])
def test_a_delay_is_raised_live_and_taken_back(text: str, state: str) -> None:
    case = stand(
        make_case({"spec": {"properties": {"respawn_delay": text} if text else {}}}), state
    )
    slowed = Intent(respawn_delay="64s", resting="it has died 7 times")
    (raised,) = plan_with(case, slowed).steps

    assert isinstance(raised, ChangeLive)
    assert raised.changes == {"respawn_delay": "64s"}
    assert raised.spec.digest == case.spec.digest
    assert "64s" in raised.reason

    case = carry_out_live(case, raised, state)
    assert plan_with(case, slowed).steps == ()
    (back,) = plan_with(case, Intent(resting="it has died 7 times")).steps
    assert isinstance(back, ChangeLive)
    assert back.changes == {"respawn_delay": text or "1s"}
    (replaced,) = plan_with(case, replace(slowed, restart="a file changed")).steps
    assert isinstance(replaced, ReplaceContainer)
    assert replaced.spec == case.spec


def test_a_portod_that_does_not_change_the_delay_live_is_not_made_to() -> None:
    case = stand(make_case({}), "respawning")
    case.observed = replace(case.observed, dynamic=DYNAMIC - {"respawn_delay"})

    assert plan_with(case, Intent(respawn_delay="64s")).steps == ()


def test_a_delay_under_way_is_cut_short_where_something_changed() -> None:
    assert plan_with(
        stand(make_case({}), "respawning"), Intent(retry="its spec changed")
    ).steps == (StartContainer("juggler", "respawning", "its spec changed"),)
    assert plan_with(stand(make_case({}), "running"), Intent(retry="its spec changed")).steps == ()


def plan_with(case: Case, intent: Intent) -> DaemonPlan:
    return make_plan((case.spec,), case.context, case.observed, {"juggler": intent})[0]


def stand(case: Case, state: str) -> Case:
    """The case with its container in this state."""
    container = replace(case.observed.containers["juggler"], state=state)
    return replace(case, observed=replace(case.observed, containers={"juggler": container}))


def carry_out_live(case: Case, step: ChangeLive, state: str) -> Case:
    container = make_container(step.spec)
    observed = replace(case.observed, containers={"juggler": replace(container, state=state)})
    return replace(case, observed=observed)
