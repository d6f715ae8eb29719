"""Schedules of faults, drawn from a seed, and the run of a fleet under one of them.

The same seed draws the same fleet, network and faults. A run raises `Broken`, with the seed in its
text, as soon as a promise is broken.
"""

from __future__ import annotations

import random as seeded
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from attrs import evolve, field, frozen

from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Effect as DeviceEffect
from fedring.device.effects import Joined, Spent
from fedring.lab.simulate.fleet import QUICK, SimulatedFleet
from fedring.lab.simulate.network import Faults
from fedring.lab.simulate.watch import Broken, Watch
from fedring.shared import contributions
from fedring.shared.effects import Send
from fedring.shared.envelopes import Signed, open_envelope
from fedring.shared.messages import COORDINATOR_NAME, Announce, RingTerms
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, largest_value

ROUND_LIMIT_S = 400.0
"""By then every round has ended: ready time, three laps with choice and call, twice, releases."""


class Fault(StrEnum):
    """What can happen to a party at a time."""

    CRASH = "crash"
    CUT = "cut off"
    LAST_WILL = "cut off, and the coordinator is told"
    POWER = "power cut before an effect"
    COORDINATOR_CRASH = "coordinator crash"
    COORDINATOR_CUT = "coordinator cut off"


@frozen
class Happening:
    """One fault.

    Attributes:
        at: seconds after the round began.
        fault: what happens.
        who: index of the device; of no meaning for the coordinator.
        lasts_s: until it is over.
        before: the effect before which the power goes, for `POWER`.
    """

    at: float
    fault: Fault
    who: int
    lasts_s: float
    before: str = ""


@frozen
class Schedule:
    """What a fleet goes through.

    Attributes:
        seed: of all the rest.
        thresholds: of the devices.
        ring_size: members that a ring is dealt.
        n_weights: of the model; 20,000 and more travel in several chunks.
        faults: of the network.
        rounds: for each round what happens in it.
    """

    seed: int
    thresholds: tuple[int, ...]
    ring_size: int
    n_weights: int
    faults: Faults
    rounds: tuple[tuple[Happening, ...], ...]

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        """A schedule of moderate faults: most rounds should come to a sum."""
        draw = seeded.Random(seed)  # noqa: S311
        n_devices = draw.randint(3, 9)
        ring_size = draw.choice([3, 4, 5, 9])
        highest = max(1, min(ring_size, n_devices) // 2)
        loss, duplicates, reordered = (
            draw.choice([0.0, 0.0, most / 4, most]) for most in (0.06, 0.2, 0.3)
        )
        return cls(
            seed=seed,
            thresholds=tuple(draw.randint(1, highest) for _ in range(n_devices)),
            ring_size=ring_size,
            n_weights=draw.choice([1, 5, 20, 50, 40_000 if draw.random() < 0.4 else 10]),
            faults=Faults(
                loss=loss,
                duplicates=duplicates,
                reordered=reordered,
                least_delay_s=0.001,
                most_delay_s=draw.choice([0.005, 0.05, 0.5]),
            ),
            rounds=tuple(
                tuple(_happening(draw, n_devices) for _ in range(draw.choice([0, 1, 1, 2, 3])))
                for _ in range(draw.choice([2, 3]))
            ),
        )


def _happening(draw: seeded.Random, n_devices: int) -> Happening:
    fault = draw.choices(list(Fault), weights=[4, 4, 3, 4, 1, 2])[0]
    return Happening(
        at=draw.choice([draw.uniform(0.0, 5.0), draw.uniform(0.0, 20.0)]),
        fault=fault,
        who=draw.randrange(n_devices),
        lasts_s=draw.choice([0.2, 3.0, draw.uniform(0.0, 30.0)]),
        before=draw.choice(["joined", "ready", "spent", "release", "hop", "here", "taken"]),
    )


@frozen
class Outcome:
    """How a schedule went.

    Attributes:
        rounds: that were begun.
        sums: that ended in a sum.
        voids: rings that ended without.
        lost: rounds that died with the coordinator.
        faults: kinds of faults that occurred, the network's among them.
    """

    rounds: int
    sums: int
    voids: int
    lost: int
    faults: frozenset[str] = field(factory=frozenset)


def run(schedule: Schedule) -> Outcome:
    """Run a fleet through a schedule.

    Raises:
        Broken: a promise does not hold; names it and the seed.
    """
    try:
        return _Run(schedule).outcome()
    except Broken as broken:
        raise Broken(f"seed {schedule.seed}: {broken}") from broken


class _Run:
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
            record=self.watch,
        )
        self.watch.fleet = self.fleet
        self.names = list(self.fleet.devices)

    def _contribute(self, _name: str, announce: Signed[Announce], evaluate: bool) -> IntVector:
        largest = largest_value(announce.message.bits)
        length = announce.message.n_values - len(contributions.Check)
        drawn = self._values.integers(-largest, largest + 1, length).astype(np.int32)
        return contributions.contribution(
            drawn, evaluated=evaluate, correct=3 if evaluate else 0, loss=1.0 if evaluate else 0.0
        )

    def outcome(self) -> Outcome:
        sums = voids = lost = 0
        faults = {
            name
            for name, share in (
                ("loss", self.schedule.faults.loss),
                ("duplicates", self.schedule.faults.duplicates),
                ("reordering", self.schedule.faults.reordered),
                ("delay", self.schedule.faults.most_delay_s - 0.1),
            )
            if share > 0
        }
        for happenings in self.schedule.rounds:
            before = len(self.watch.conclusions)
            self.fleet.coordinator.begin_round()
            for happening in happenings:
                faults.add(happening.fault)
                self._plan(happening)
            self._let_it_end(before)
            if len(self.watch.conclusions) == before:
                lost += 1
            else:
                conclusion = self.watch.conclusions[-1]
                sums += bool(conclusion.ended.sums)
                voids += len(conclusion.ended.voids)
            self._come_back()
        return Outcome(len(self.schedule.rounds), sums, voids, lost, frozenset(faults))

    def _let_it_end(self, before: int) -> None:
        network, coordinator = self.fleet.network, self.fleet.coordinator

        def over() -> bool:
            return len(self.watch.conclusions) > before or coordinator.round is None

        if not network.run(over, network.now + ROUND_LIMIT_S):
            stages = coordinator.round.stages if coordinator.round else {}
            raise Broken(f"a round does not end: rings {stages}")

    def _come_back(self) -> None:
        """Between rounds everybody gets up again."""
        for device in self.fleet.devices.values():
            device.power_cut = _never
            if device.member is None:
                device.start()
            elif not self.fleet.network.is_up(device.name):
                device.reconnect()
        if not self.fleet.network.is_up(COORDINATOR_NAME):
            self.fleet.coordinator.start()

    def _plan(self, happening: Happening) -> None:
        network = self.fleet.network
        start = network.now + happening.at
        begin, end = self._actions(happening)
        network.at(start, begin)
        network.at(start + happening.lasts_s, end)

    def _actions(self, happening: Happening) -> tuple[Callable[[], None], Callable[[], None]]:
        network, coordinator = self.fleet.network, self.fleet.coordinator
        device = self.fleet.devices[self.names[happening.who]]

        def start_again() -> None:
            if device.member is None:
                device.power_cut = _never
                device.start()

        def cut() -> None:
            if device.member is not None:
                network.leave(device.name)

        def reconnect() -> None:
            if device.member is not None and not network.is_up(device.name):
                device.reconnect()

        def cut_and_told() -> None:
            cut()
            coordinator.saw(device.identity.number, online=False)

        match happening.fault:
            case Fault.CRASH:
                return device.crash, start_again
            case Fault.CUT:
                return cut, reconnect
            case Fault.LAST_WILL:
                return cut_and_told, reconnect
            case Fault.POWER:
                device.power_cut = _before(happening.before)
                return _nothing, start_again
            case Fault.COORDINATOR_CRASH:
                return coordinator.crash, _nothing
            case Fault.COORDINATOR_CUT:
                return (lambda: network.leave(COORDINATOR_NAME)), self._coordinator_reconnects
        raise AssertionError(happening)

    def _coordinator_reconnects(self) -> None:
        if self.fleet.coordinator.round is not None:
            self.fleet.coordinator.reconnect()


def terms(ring_size: int) -> RingTerms:
    """Short times, for a virtual clock."""
    return evolve(QUICK, size=max(2, ring_size))


def _nothing() -> None:
    pass


def _never(_: object) -> bool:
    return False


def _before(what: str) -> Callable[[DeviceEffect | CoordinatorEffect], bool]:
    """Whether an effect is the one before which the power goes."""

    def goes(effect: object) -> bool:
        match effect:
            case Joined():
                return what == "joined"
            case Spent("release"):
                return what == "spent"
            case Send(_, data):
                return open_envelope(data).message.kind == what
        return False

    return goes
