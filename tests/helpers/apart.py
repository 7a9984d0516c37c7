"""Monitoring settings that keep tests, demo and benchmarks away from the machine they run on."""

from __future__ import annotations

from pathlib import Path

from ya_salt.model import (
    JugglerSettings,
    MonitoringSettings,
    PrometheusSettings,
    YasmSettings,
)

NOBODY = "http://127.0.0.1:1/"
"""tcpmux's port: connections are refused."""


def set_apart(folder: Path) -> MonitoringSettings:
    """Nobody listens, and node_exporter's directory is `folder`/textfile, should that exist."""
    return MonitoringSettings(
        yasm=YasmSettings(url=NOBODY),
        juggler=JugglerSettings(url=NOBODY),
        prometheus=PrometheusSettings(textfile_dir=str(folder / "textfile")),
    )


def name_variables(folder: Path) -> dict[str, str]:
    """The same for the environment of a command."""
    return {
        "YA_SALT_MONITORING_YASM_URL": NOBODY,
        "YA_SALT_MONITORING_JUGGLER_URL": NOBODY,
        "YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR": str(folder / "textfile"),
    }
