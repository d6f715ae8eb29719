"""What faults do to a fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from fedring.lab.simulate.coordinators import SimulatedCoordinator
from fedring.lab.simulate.devices import SimulatedDevice
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.network import Hold
from fedring.lab.simulate.schedules import Fault, Happening

MOST_BROKER_DOWN_S = 5.0
LAG_S = (0.2, 1.5)

HOLDS = {Fault.CUT: Hold.CUT, Fault.DEAF: Hold.DEAF, Fault.MUTE: Hold.MUTE}


class Afflictions:
    """Brings what a schedule holds upon a fleet, and mends it again.

    Args:
        fleet: on whom.

    Attributes:
        pending: what was planned or has begun, and is not over.
        happened: how often a kind of fault did happen.
    """

    def __init__(self, fleet: SimulatedFleet) -> None:
        self.fleet = fleet
        self.pending: list[Happening] = []
        self.happened: Counter[str] = Counter()
        self._arms = True
        self._parties: list[SimulatedCoordinator | SimulatedDevice] = [
            fleet.coordinator,
            *fleet.devices.values(),
        ]

    def plan(self, happening: Happening) -> None:
        """Let it happen at its time from now."""
        self.pending.append(happening)
        network = self.fleet.network
        if happening.at:
            network.at(network.now + happening.at, lambda: self._begin(happening))
        else:
            self._begin(happening)

    def disarm(self) -> None:
        """Whoever was to die at a step that never came lives on, from now on."""
        self._arms = False
        for party in self._parties:
            party.dies_at = ""

    def _begin(self, happening: Happening) -> None:
        self.pending.remove(happening)
        network = self.fleet.network
        parties = [self._parties[one] for one in happening.who]
        fault = happening.fault
        match fault:
            case Fault.KILLED | Fault.POWER:
                (party,) = parties
                if not party.alive:
                    return
                if not happening.step:
                    self._kill(party, happening)
                elif self._arms:
                    party.dies_at = happening.step
                    party.on_death = lambda: self._kill(party, happening)
                return
            case Fault.CUT | Fault.DEAF | Fault.MUTE:
                for party in parties:
                    network.hold(party.name, HOLDS[fault])
                    self._later(happening, partial(network.free, party.name, HOLDS[fault]))
            case Fault.STILL:
                (party,) = parties
                party.freeze()
                network.hold(party.name, Hold.STILL)
                self._later(happening, partial(self._goes_on, party))
            case Fault.SLOW:
                (party,) = parties
                network.lag(party.name, network.random.uniform(*LAG_S))
                self._later(happening, partial(network.lag, party.name, 0.0))
            case Fault.BROKER | Fault.FORGETS:
                down_s = min(happening.lasts_s, MOST_BROKER_DOWN_S)
                network.restart_broker(down_s, forgets=fault is Fault.FORGETS)
            case Fault.EPOCH:
                self.fleet.begin_epoch()
        self.happened[happening.kind] += 1

    def _kill(self, party: SimulatedCoordinator | SimulatedDevice, happening: Happening) -> None:
        """Kill a party, and start it again later."""
        self.happened[happening.kind] += 1
        if isinstance(party, SimulatedDevice):
            party.die(power_cut=happening.fault is Fault.POWER)
        else:
            party.die()
        self._later(happening, lambda: None if party.alive else party.start())

    def _goes_on(self, party: SimulatedCoordinator | SimulatedDevice) -> None:
        if self.fleet.network.holds(party.name, Hold.STILL) == 1:
            party.thaw()
        self.fleet.network.free(party.name, Hold.STILL)

    def _later(self, happening: Happening, mend: Callable[[], object]) -> None:
        def over() -> None:
            self.pending.remove(happening)
            mend()

        self.pending.append(happening)
        self.fleet.network.at(self.fleet.network.now + happening.lasts_s, over)
