"""The run of a fleet under a schedule of faults, watched at every step.

Rounds follow each other as they would: nobody waits for what is broken to be mended, but there is
no round without the coordinator and two devices. At last everything is mended and the network
calm, and one more round has to end in a sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import evolve, frozen

from fedring.coordinator.rosters import Bench
from fedring.lab.simulate.afflictions import Afflictions
from fedring.lab.simulate.fleet import QUICK, SMALL, SMALL_KEY_BITS, SimulatedFleet
from fedring.lab.simulate.network import CALM
from fedring.lab.simulate.schedules import Schedule
from fedring.lab.simulate.watch import Broken, Watch, can_form_a_ring, require
from fedring.shared import contributions
from fedring.shared.encryption import PRODUCTION, Parameters
from fedring.shared.envelopes import Signed
from fedring.shared.messages import COORDINATOR_NAME, MAX_LAPS, Announce, RingTerms
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, largest_value

PRODUCTION_KEY_BITS = 3072
PAUSE_S = 1.0
"""Longest time between two rounds."""
REST_SHARE = 0.3
"""After so many rounds the coordinator says that it rests."""
MEND_S = 120.0
"""By then whatever a schedule broke is mended."""
LONG_DELAY_S = 0.1
LONG_MODEL = 1000
MIDDLE = Parameters(dimension=256)
"""For long models, which would need hundreds of polynomials of the smallest ones."""

LONGEST_RING_S = MAX_LAPS * (QUICK.lap_s + 2 * QUICK.patience_s) + QUICK.release_s
LONGEST_ROUND_S = QUICK.ready_s + 2 * LONGEST_RING_S + 10.0
"""The late ring may begin when the others have ended; some seconds for messages on their way."""


@frozen
class Outcome:
    """How a schedule went.

    Attributes:
        rounds: begun while things went wrong.
        sums: of these, that ended in a sum.
        voids: of these, that did not.
        kinds: kinds of faults that did happen.
    """

    rounds: int
    sums: int
    voids: int
    kinds: frozenset[str]


def run(schedule: Schedule) -> Outcome:
    """Run a fleet through a schedule.

    Raises:
        Broken: a promise does not hold; names it and the seed.
    """
    return Run(schedule).go()


class Run:
    """A fleet that goes through a schedule, once.

    Args:
        schedule: what happens.

    Attributes:
        fleet: the devices, the coordinator, the network.
        watch: what was seen.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._values = np.random.default_rng(schedule.seed)
        self.watch = Watch()
        self.fleet = SimulatedFleet(
            schedule.thresholds,
            Model(
                kind="softmax",
                features=("a",),
                classes=("x", "y"),
                arrays={"layer1.weight": np.zeros(schedule.n_weights, np.float32)},
                trained=("layer1.weight",),
            ),
            self._contribute,
            seed=schedule.seed,
            faults=schedule.faults,
            terms=terms(schedule.ring_size),
            suite_name=schedule.suite,
            parameters=_parameters(schedule),
            key_bits=PRODUCTION_KEY_BITS if schedule.full else SMALL_KEY_BITS,
            sync_s=schedule.sync_s,
            quick=not schedule.full,
            record=self.watch,
        )
        self.watch.attend(self.fleet)
        self._afflictions = Afflictions(self.fleet)

    def go(self) -> Outcome:
        """Run to the end; raises as `run` does."""
        try:
            return self._go()
        except Broken as broken:
            raise Broken(f"seed {self.schedule.seed}: {broken}") from broken
        except Exception as error:
            raise Broken(f"seed {self.schedule.seed}: no step fails: {error!r}") from error

    def _go(self) -> Outcome:
        sums = 0
        network = self.fleet.network
        for happenings in self.schedule.rounds:
            self._wait_for(self._can_begin, "somebody comes back")
            network.log.clear()
            for happening in happenings:
                self._afflictions.plan(happening)
            outage_s = sum(
                happening.lasts_s
                for happening in self._afflictions.pending
                if 0 in happening.who or not happening.who
            )
            sums += self._round(LONGEST_ROUND_S + outage_s)
            if network.random.random() < REST_SHARE:
                self.fleet.coordinator.rest()
            network.run(lambda: False, network.now + PAUSE_S * network.random.random())
        self._afflictions.disarm()
        self._wait_for(
            lambda: network.is_whole and not self._afflictions.pending, "everything is mended"
        )
        network.faults = CALM
        network.run(lambda: False, network.now + PAUSE_S)
        network.log.clear()
        self._wait_for(self._can_begin, "everybody is seen")
        thresholds = self._thresholds_of_the_unbenched()
        summed = self._round(LONGEST_ROUND_S)
        enough = can_form_a_ring(thresholds)
        require(summed or not enough, "in the end there is a sum", thresholds)
        rounds = len(self.schedule.rounds)
        return Outcome(rounds, sums, rounds - sums, frozenset(self._kinds()))

    def _round(self, limit_s: float) -> bool:
        """One round to its end, or the coordinator's; whether it came to a sum."""
        network, coordinator = self.fleet.network, self.fleet.coordinator
        before, lives = len(self.watch.conclusions), coordinator.lives

        def over() -> bool:
            return len(self.watch.conclusions) > before or coordinator.lives > lives

        coordinator.begin_round()
        ended = network.run(over, network.now + limit_s)
        stages = coordinator.round.stages if coordinator.round else {}
        require(ended, "every round ends", stages)
        return len(self.watch.conclusions) > before and bool(self.watch.conclusions[-1].ended.sums)

    def _can_begin(self) -> bool:
        coordinator = self.fleet.coordinator
        idle = coordinator.alive and coordinator.running is None
        return idle and self.fleet.network.is_up(COORDINATOR_NAME) and len(coordinator.online) > 1

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        network = self.fleet.network
        require(network.run(condition, network.now + MEND_S), f"in time {what}")

    def _thresholds_of_the_unbenched(self) -> list[int]:
        """Of all that may join the next round."""
        store = self.fleet.coordinator.store
        bench, number = Bench(*store.devices.bench()), store.last_round() + 1
        return [
            device.threshold
            for device in self.fleet.devices.values()
            if not bench.rounds_left(device.identity.number, number)
        ]

    def _kinds(self) -> set[str]:
        kinds = set(self._afflictions.happened)
        kinds |= {kind for kind, count in self.fleet.network.happened.items() if count}
        if self.schedule.faults.most_delay_s > LONG_DELAY_S:
            kinds.add("delay")
        return kinds

    def _contribute(self, _name: str, announce: Signed[Announce], evaluate: bool) -> IntVector:
        largest = largest_value(announce.message.bits)
        length = announce.message.n_values - len(contributions.Check)
        drawn = self._values.integers(-largest, largest + 1, length).astype(np.int32)
        return contributions.contribution(
            drawn, evaluated=evaluate, correct=3 if evaluate else 0, loss=1.0 if evaluate else 0.0
        )


def _parameters(schedule: Schedule) -> Parameters:
    if schedule.full:
        return PRODUCTION
    return MIDDLE if schedule.n_weights > LONG_MODEL else SMALL


def terms(ring_size: int) -> RingTerms:
    """Short times, for a virtual clock."""
    return evolve(QUICK, size=max(2, ring_size))
