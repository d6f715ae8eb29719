"""Invariant 8: what a state machine holds and sends is bounded."""

from __future__ import annotations

from collections import Counter

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.gathering import MAX_ARRIVALS as MAX_COORDINATOR_ARRIVALS
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Effect
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.watch.checks import Check, require
from fedring.shared.effects import Send
from fedring.shared.messages import COORDINATOR_NAME

MESSAGES_A_SECOND = 30
"""Each of three tokens and one question may be repeated to a receiver every two thirds of one."""
MESSAGES_A_ROUND = 1000


class Bounds(Check):
    def __init__(self, fleet: SimulatedFleet) -> None:
        super().__init__(fleet)
        self._began = 0.0
        self._sent: Counter[str] = Counter()

    def announcing(self, _: Announcing, /) -> None:
        self._began = self.fleet.network.now
        self._sent.clear()

    def device_did(self, device: str, effect: Effect, /) -> None:
        if isinstance(effect, Send):
            self._sends(device)
        member = self.fleet.devices[device].member
        held = member._round if member else None  # noqa: SLF001
        if held is not None and held.relay is not None:
            relay = held.relay
            tokens = len(relay._holdings) + len(relay._gone)  # noqa: SLF001
            require(tokens <= MAX_ADDITIONS, "few tokens", device, tokens)
            require(len(relay._arrivals) <= MAX_ARRIVALS, "few arrivals", device)  # noqa: SLF001

    def coordinator_did(self, effect: CoordinatorEffect, /) -> None:
        if isinstance(effect, Send):
            self._sends(COORDINATOR_NAME)
        round_ = self.fleet.coordinator.round
        for ring in round_._rings if round_ else ():  # noqa: SLF001
            arriving = ring.gathering.arriving if ring.gathering else 0
            require(arriving <= MAX_COORDINATOR_ARRIVALS, "few arrivals at the coordinator")

    def _sends(self, who: str) -> None:
        self._sent[who] += 1
        seconds = self.fleet.network.now - self._began
        most = MESSAGES_A_ROUND + MESSAGES_A_SECOND * seconds
        require(self._sent[who] <= most, "few messages", who, self._sent[who], seconds)
