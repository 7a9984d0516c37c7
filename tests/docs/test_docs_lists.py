"""What the documents list is all that there is: settings, commands, flags, alerts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest
import yaml
from helpers.documents import DOCS, PARSERS

from ya_salt.model import Settings
from ya_salt.settings import SETTINGS

_SETTING = re.compile(r"\| `([a-z_.]+)` \| `(YA_SALT_\w+)`[^|]*\| ([^|]*)\| ([^|]*) \|", re.ASCII)
_IN_WORDS = {
    "hostname": "the host's FQDN",
    "gate.ca_file": "the system's",
    "gate.group": "one a daemon",
    "monitoring.juggler.instance": "empty",
    "monitoring.yasm.tags": "itype: hostman",
}
"""Defaults that people are told otherwise than as they are kept."""

_PAGES = {
    "ya-salt": ("commands.md", "settings.md"),
    "orlyctl": ("orlyctl.md", "simulate.md"),
    "dev-portod": ("dev-portod.md",),
}


def test_every_setting_stands_with_its_variable_flag_and_default() -> None:
    told = {
        name: (variable, flag.strip(" `"), default.strip("`"))
        for name, variable, flag, default in _SETTING.findall((DOCS / "settings.md").read_text())
    }
    known = {}
    for item in SETTINGS:
        flag = f"--{item.name.replace('_', '-')}" if item.has_flag else ""
        value = item.get(Settings())
        default = "true" if value is True else str(value or "none")
        known[item.name] = (item.variable, flag, _IN_WORDS.get(item.name, default))
    assert told == known


def list_commands(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from list_commands(below, word)


@pytest.mark.parametrize("program", PARSERS)
def test_every_command_and_flag_stands_in_a_page_about_it(program: str) -> None:
    text = "\n".join((DOCS / page).read_text() for page in _PAGES[program])
    words = set(re.findall(r"[\w-]+", text))
    missing = []
    for name, parser in list_commands(PARSERS[program](), program):
        missing += [] if name in words else [name]
        for action in parser._actions:
            flags = set(action.option_strings)
            # Those that every program has.
            if flags and not flags & {*words, "--help", "--version"}:
                missing.append(f"{name} {' '.join(action.option_strings)}")
    assert missing == []


def test_every_alert_stands_in_the_table_of_alerts() -> None:
    rules = yaml.safe_load((DOCS / "dashboards/porto-daemons.rules.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    text = (DOCS / "monitoring.md").read_text()
    assert sorted(re.findall(r"^\| (Porto\w+) \|", text, re.MULTILINE)) == sorted(alerts)
