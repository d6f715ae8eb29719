"""Invariant 7: where nothing goes wrong, every ring ends in a sum over all its members."""

from __future__ import annotations

from fedring.coordinator.announcing import Announcing
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.network import CALM
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.watch.checks import Check, require, round_of
from fedring.shared.messages import Message, Ready, Roster


class Liveness(Check):
    def __init__(self, fleet: SimulatedFleet) -> None:
        super().__init__(fleet)
        self._disturbances: int | None = None
        self._members: set[int] = set()

    def announcing(self, _: Announcing, /) -> None:
        network = self.fleet.network
        self._disturbances = network.disturbances if network.is_whole else None
        self._members.clear()

    def coordinator_sent(self, message: Message, _: bytes, /) -> None:
        if isinstance(message, Roster):
            readies = [message_in(raw) for raw in message.readies]
            self._members |= {ready.sender for ready in readies if isinstance(ready, Ready)}

    def ended(self, concluded: Concluded, /) -> None:
        network, ended = self.fleet.network, concluded.ended
        if network.disturbances != self._disturbances:
            return
        where = round_of(concluded.announce.message)
        require(not ended.voids, "undisturbed rings end in sums", where, ended.voids)
        if not self.fleet.coordinator.store.devices.bench()[1]:
            require(bool(ended.sums), "an undisturbed round ends in a sum", where)
        if network.faults == CALM:
            names = {name for ring in ended.sums for name in ring.names}
            require(names == self._members, "all members are in the sum", where, names)
