"""One worker of a fleet: plays its hosts until its standard input ends. Run by helpers.fleet."""

from __future__ import annotations

import heapq
import json
import os
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from helpers.fleet import Note, Orders, name_host, read_notes
from ya_salt.errors import GateError
from ya_salt.gate.etcd import Etcd
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Identity, Slot, SlotRequest
from ya_salt.model import Deferral, GateSettings

_IDLE_S = 2.0


@dataclass
class PlayedHost:
    """What a host remembers. `ends_at`: when its operation is over; None: it is at none."""

    name: str
    gate: OrlyGate
    has: str = ""
    held: Slot | None = None
    ends_at: float | None = None
    is_unsure: bool = False
    """There may be a slot from before we were killed."""
    said: str = ""
    """The target with which it was said that all is over."""

    @property
    def is_busy(self) -> bool:
        """It has something to do with its slot."""
        return self.ends_at is not None or (self.held is not None and self.held.target == self.has)


@dataclass(order=True)
class _Turn:
    due: float
    host: PlayedHost = field(compare=False)


class Worker:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._target = orders.target
        self._random = random.Random()
        self._log = os.open(orders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        settings = GateSettings(endpoints=orders.endpoints, prefix=orders.prefix)
        self._etcd = Etcd(settings, deadline_s=orders.deadline_s)
        self._changed = threading.Condition()
        now = time.monotonic()
        self._idle = [
            _Turn(now + self._random.uniform(0, orders.pause_s[1]), host)
            for host in self._remember_hosts()
        ]
        heapq.heapify(self._idle)
        self._busy: list[_Turn] = []
        """Those that hold a slot come first: there are fewer threads than hosts."""

    def _remember_hosts(self) -> list[PlayedHost]:
        orders = self._orders
        names = [name_host(orders.first + number) for number in range(orders.count)]
        hosts = {
            name: PlayedHost(name, OrlyGate(self._etcd, orders.prefix, Identity(name)))
            for name in names
        }
        log = Path(orders.log)
        if log.read_bytes()[-1:] not in {b"", b"\n"}:
            os.write(self._log, b"\n")
        for note in read_notes(log)[0]:
            host = hosts[note.host]
            host.is_unsure = note.what != "released"
            host.has = note.target if note.what == "done" else host.has
            host.said = note.target if note.what == "released" else host.said
        return list(hosts.values())

    def run(self) -> None:
        for number in range(self._orders.threads):
            threading.Thread(target=self._work, name=f"hosts {number}", daemon=True).start()
        for line in sys.stdin:
            self._target = json.loads(line)["target"]
            with self._changed:
                latest = time.monotonic() + self._orders.pause_s[1]
                for turn in self._idle:
                    turn.due = min(turn.due, self._random.uniform(time.monotonic(), latest))
                heapq.heapify(self._idle)
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            turn = self._take_turn()
            began = time.time()
            try:
                pause_s = self._act(turn.host)
            except GateError as error:
                self._note(turn.host, "unreachable", began, detail=str(error))
                pause_s = self._pause()
            with self._changed:
                turns = self._busy if turn.host.is_busy else self._idle
                heapq.heappush(turns, _Turn(time.monotonic() + pause_s, turn.host))
                self._changed.notify()

    def _take_turn(self) -> _Turn:
        with self._changed:
            while True:
                now = time.monotonic()
                for turns in (self._busy, self._idle):
                    if turns and turns[0].due <= now:
                        return heapq.heappop(turns)
                dues = [turns[0].due for turns in (self._busy, self._idle) if turns]
                self._changed.wait(min(dues) - now if dues else None)

    def _act(self, host: PlayedHost) -> float:
        """The host's next step; seconds until the one after."""
        began = time.time()
        if host.is_unsure:
            host.held, host.is_unsure = host.gate.find(self._orders.daemon), False
        if host.ends_at is not None:
            return self._end(host, began)
        if host.has == self._target:
            return self._rest(host, began)
        return self._ask(host, began)

    def _ask(self, host: PlayedHost, began: float) -> float:
        target = self._target
        ask = SlotRequest(self._orders.daemon, "update", target, "it is a test")
        # Should this raise, we may have a slot all the same; the next one finds it by itself.
        answer = host.gate.ask(ask)
        if isinstance(answer, Deferral):
            self._note(host, "refused", began, target, detail=answer.reason)
            return self._pause()
        assert answer.held is not None
        host.held = answer.held
        self._note(host, "allowed", began, target)
        work_s = self._random.uniform(*self._orders.work_s)
        host.ends_at = time.monotonic() + work_s
        return work_s

    def _end(self, host: PlayedHost, began: float) -> float:
        assert host.held is not None
        target = host.held.target
        if target in self._orders.bad:
            told = host.gate.tell(host.held, "failed", "it does not come up")
            self._note(host, "failed" if told else "lost", began, target)
            host.held, host.ends_at = told, None
            return self._pause()
        # The disk has it before the gate hears of it, as on a host.
        host.has, host.ends_at = target, None
        self._note(host, "done", began, target)
        return 0.0

    def _rest(self, host: PlayedHost, began: float) -> float:
        if host.held is not None:
            host.gate.release(host.held)
        if host.said != host.has:
            self._note(host, "released", began, host.has)
        host.held, host.said = None, host.has
        return _IDLE_S

    def _pause(self) -> float:
        return self._random.uniform(*self._orders.pause_s)

    def _note(
        self, host: PlayedHost, what: str, began: float, target: str = "", detail: str = ""
    ) -> None:
        held_id = host.held.id if host.held else ""
        note = Note(time.time(), began, host.name, what, target, held_id, detail)
        # One call, one line: other threads write here, too.
        os.write(self._log, json.dumps(asdict(note)).encode() + b"\n")


def main() -> None:
    data = json.loads(sys.argv[1])
    Worker(Orders(**{key: tuple(v) if isinstance(v, list) else v for key, v in data.items()})).run()


if __name__ == "__main__":
    main()
