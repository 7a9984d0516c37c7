"""Make the gate that the settings name; what it needs is only loaded then."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ya_salt.gate.protocol import Gate, Identity, Slot
from ya_salt.model import GateSettings


def make_gate(
    settings: GateSettings, host: str, held: Callable[[], Collection[Slot]] = lambda: ()
) -> Gate | None:
    """None where no gate is configured. `host` is our name; `held` what we hold at the moment.

    Nothing is asked yet. Raises GateError where a file that the settings name cannot be used.
    """
    identity = Identity(host, {"hostname": host, **settings.facts})
    if settings.type == "orly":
        from ya_salt.gate.etcd import Etcd  # noqa: PLC0415 - 0.1 s, for those who ask only
        from ya_salt.gate.etcd_gate import OrlyGate  # noqa: PLC0415

        return OrlyGate(Etcd(settings), settings.prefix, identity)
    if settings.type == "fleetlock":
        from ya_salt.gate.fleetlock import FleetLockGate  # noqa: PLC0415

        return FleetLockGate(settings, identity, held=held)
    return None
