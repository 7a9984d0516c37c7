"""`ya-salt run`: start the agent with its settings, its log and systemd's word."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ya_salt.agent.loop import Surroundings, run
from ya_salt.agent.repeats import Repeats
from ya_salt.agent.service_manager import ServiceManager
from ya_salt.cli.logs import open_log
from ya_salt.cli.output import outlive_terminal
from ya_salt.model import Settings
from ya_salt.settings import InForce, find_settings_file


def run_agent(
    read_settings: Callable[[], InForce], config: str | None, source: Mapping[str, Any]
) -> None:
    """Until it is told to end. Raises LockHeldError where there is one already, SettingsError."""
    outlive_terminal()
    repeats = Repeats()
    run(
        Surroundings(
            read_settings=lambda: read_settings().settings,
            settings_file=find_settings_file(os.environ, config),
            source=source,
            manager=ServiceManager(os.environ),
            repeats=repeats,
            take_settings=partial(_open_log, repeats),
        )
    )


def _open_log(repeats: Repeats, settings: Settings) -> None:
    open_log(settings.log_file).addFilter(repeats)
