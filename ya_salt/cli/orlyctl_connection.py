"""Find out which etcd an operator means, and who the operator is."""

from __future__ import annotations

import argparse
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import replace

from ya_salt.errors import UsageError
from ya_salt.model import GateSettings
from ya_salt.settings import SETTINGS, load_settings, parse_text

ENDPOINTS_VARIABLE = "ORLY_ENDPOINTS"
FLAGS = {
    "endpoints": ("URL[,URL…]", "etcd's members, over ORLY_ENDPOINTS and gate.endpoints"),
    "prefix": ("PREFIX", "begins all keys in etcd (gate.prefix)"),
    "username": ("NAME", "etcd's user (gate.username)"),
    "password_file": ("FILE", "file with the user's password (gate.password_file)"),
    "ca_file": ("FILE", "CA certificates for https (gate.ca_file)"),
    "cert_file": ("FILE", "our certificate (gate.cert_file)"),
    "key_file": ("FILE", "our certificate's key (gate.key_file)"),
}
"""Field of GateSettings -> its flag's metavar and help."""


def find_gate_settings(options: argparse.Namespace, environment: Mapping[str, str]) -> GateSettings:
    """Where etcd is: a flag goes over ORLY_ENDPOINTS, and that over the settings of ya-salt.

    Raises SettingsError, UsageError where nothing says it.
    """
    gate = load_settings({}, environment, getattr(options, "config", None)).settings.gate
    kind = gate.type
    if kind == "fleetlock":
        # Another server's address and password: not etcd's.
        gate = GateSettings()
    if environment.get(ENDPOINTS_VARIABLE):
        gate = _put(gate, "endpoints", environment[ENDPOINTS_VARIABLE], ENDPOINTS_VARIABLE)
    for name in FLAGS:
        if hasattr(options, name):
            gate = _put(gate, name, getattr(options, name), f"--{name.replace('_', '-')}")
    if not gate.endpoints:
        raise UsageError(_explain_missing(kind))
    return replace(gate, type="orly")


def _put(gate: GateSettings, name: str, text: str, origin: str) -> GateSettings:
    setting = next(item for item in SETTINGS if item.name == f"gate.{name}")
    return replace(gate, **{name: parse_text(setting, text, origin)})


def _explain_missing(kind: str) -> str:
    remedy = (
        f"give --endpoints http://HOST:2379, set {ENDPOINTS_VARIABLE}, or write gate.endpoints "
        "into the settings file"
    )
    if kind == "fleetlock":
        return f"gate.type is fleetlock, whose server knows no rules; for another gate's: {remedy}"
    return f"nobody said where etcd is: {remedy}"


def name_operator(environment: Mapping[str, str]) -> str:
    """USER@HOST of who typed the command, the one before sudo, for others to ask."""
    return f"{environment.get('SUDO_USER') or _find_login()}@{socket.gethostname()}"


def _find_login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
