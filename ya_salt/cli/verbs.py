"""The commands about one daemon: each makes a pass about it, through its lock, plan and gate."""

from __future__ import annotations

import time
from typing import Any

from ya_salt.cli.commands import check_known, make_pass, name_caller
from ya_salt.cli.lines import render_table
from ya_salt.cli.output import answer, complain, say
from ya_salt.cli.sizes import show_sizes
from ya_salt.converge.host import make_host
from ya_salt.converge.inquiry import describe_all, gather, load_quietly
from ya_salt.converge.single import ask_apply, ask_order, ask_restart, parse_span
from ya_salt.converge.why import explain, render, to_data
from ya_salt.life import Order
from ya_salt.messages import make_generations
from ya_salt.model import Settings
from ya_salt.settings import InForce
from ya_salt.specs.kept import KeptSpecs
from ya_salt.store import read_store
from ya_salt.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

OK = 0

_LOCK_WAIT_S = 30.0
"""How long another pass is waited for: the agent makes one after every change."""


def restart(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt restart NAME [--reason TEXT]`."""
    return _act(options, in_force.settings, None)


def stop(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt stop NAME [--for TIME] [--reason TEXT]`."""
    until = time.time() + parse_span(options.span) if options.span else 0.0
    order = Order("stop", name_caller(), " ".join(options.reason.split()), until)
    return _act(options, in_force.settings, order)


def start(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt start NAME`."""
    return _act(options, in_force.settings, Order("start", name_caller()))


def retry(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt retry NAME`."""
    return _act(options, in_force.settings, Order("retry", name_caller()))


def rollback(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt rollback NAME [--to GENERATION]`."""
    order = Order("rollback", name_caller(), number=options.number)
    return _act(options, in_force.settings, order)


def generations(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt generations NAME`."""
    store = read_store(in_force.settings.state_dir)
    records = store.load_records() if store else {}
    check_known(options.name, records, in_force.settings)
    data = make_generations(records[options.name])
    rows = [
        (str(item["number"]), item["version"] or "-", item["readyAt"], item["state"], _join(item))
        for item in data
    ]
    head = ("NUMBER", "VERSION", "READY AT", "STATE", "PACKAGES")
    answer(
        options.output,
        lambda: render_table(head, rows) if rows else "nothing of it was ready yet",
        lambda: {"generations": data},
    )
    return OK


def adopt(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt adopt NAME [--write]`."""
    from ya_salt.converge.adopt import read_container, take_over

    settings = in_force.settings
    host, loaded = make_host(settings), load_quietly(settings.specs_dir)
    adoption = read_container(host, options.name, loaded)
    for blocker in adoption.blockers:
        complain(f"{options.name}: {blocker}")
    if not options.write:
        say(adoption.text.rstrip("\n"))
        return OK
    for note in adoption.notes:
        complain(f"{options.name}: {note}")
    who = name_caller()
    path = take_over(host, adoption, who, _LOCK_WAIT_S)
    complain(f"{options.name}: written: {path}; it runs on and is ya-salt's from now on")
    loaded = load_quietly(settings.specs_dir)
    request = ask_apply(options.name, loaded, {}, who)
    options.dry_run, options.no_wait, options.override_gate = False, False, None
    return make_pass(options, settings, request, lock_wait_s=_LOCK_WAIT_S)


def why(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt why NAME`."""
    found = gather(make_host(in_force.settings), options.name)
    told = explain(found)
    answer(
        options.output,
        lambda: "\n".join(escape(show_sizes(line)) for line in render(options.name, told)),
        lambda: {"name": options.name, **to_data(told)},
    )
    return OK


def describe(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt describe NAME`."""
    told = describe_all(make_host(in_force.settings), options.name)
    answer(options.output, str, lambda: told)
    return OK


def _join(generation: dict[str, Any]) -> str:
    packages = generation["packages"].items()
    return ", ".join(f"{name} {version}" for name, version in packages) or "-"


# -- pieces ------------------------------------------------------------------------------------


def _act(options: argparse.Namespace, settings: Settings, order: Order | None) -> int:
    store = read_store(settings.state_dir)
    records = store.load_records() if store else {}
    kept = KeptSpecs(settings.state_dir)
    loaded = load_quietly(settings.specs_dir, kept)
    if order is None:
        request = ask_restart(options.name, loaded, records, name_caller(), options.reason)
    else:
        request = ask_order(options.name, loaded, records, order)
    code = make_pass(options, settings, request, lock_wait_s=_LOCK_WAIT_S)
    if loaded.specs:
        # All files were read. Not before: whoever types it waits for what it does.
        kept.save()
    return code
