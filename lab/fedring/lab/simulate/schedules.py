"""Schedules of faults, drawn from a seed: the fleet, its network, and what goes wrong when.

The same seed draws the same schedule, and running it (`running`) does the same every time.
"""

from __future__ import annotations

import random as seeded
from enum import StrEnum

from attrs import frozen

from fedring.lab.simulate.network import Faults
from fedring.shared.encryption import SUITES

FULL_EVERY = 500
"""One schedule in so many has production's parameters."""


class Fault(StrEnum):
    """What can happen to the fleet from outside."""

    KILLED = "killed"
    POWER = "power cut"
    CUT = "cut off"
    DEAF = "hears nothing"
    MUTE = "is not heard"
    STILL = "stands still"
    SLOW = "slow"
    BROKER = "broker restarts"
    FORGETS = "broker restarts and forgets"
    EPOCH = "store lost, next epoch"

    def __repr__(self) -> str:
        return f"Fault.{self.name}"


STEPS = (
    "listed",
    "listed sync",
    "work",
    "joined",
    "joined sync",
    "ready",
    "taken",
    "hop",
    "chunk",
    "progress",
    "passed",
    "here",
    "spent",
    "spent sync",
    "release",
    "refused",
)
"""Where a device may die: before it sends a message of this kind, writes or syncs a record."""

COORDINATOR_STEPS = (
    "transaction",
    "commit",
    "dealt",
    "dealt sync",
    "announced",
    "roster",
    "lap",
    "progress",
    "passed",
    "call",
    "list",
    "ended",
    "conclude",
    "concluded",
)
"""Where the coordinator may die: also before and in a transaction of its store, before sums are
opened, and right after all of that is stored."""


@frozen
class Happening:
    """One fault.

    Attributes:
        fault: what happens.
        at: seconds after its round began.
        lasts_s: until it is over; after a death, until the restart.
        who: whom it happens to: 0 for the coordinator, n for the n-th device; nobody for what
            happens to the broker or the store.
        step: for a death, before which step of its own; "" for at once.
    """

    fault: Fault
    at: float = 0.0
    lasts_s: float = 1.0
    who: tuple[int, ...] = ()
    step: str = ""

    @property
    def kind(self) -> str:
        """What to count it as."""
        if not self.who:
            return str(self.fault)
        if len(self.who) > 1:
            return "partition" if self.fault is Fault.CUT else "one-sided partition"
        who = "device" if self.who[0] else "coordinator"
        return f"{who} dies at a step" if self.step else f"{who} {self.fault}"


NETWORK_KINDS = ("loss", "duplicates", "reordering", "delay")
KINDS = (
    *NETWORK_KINDS,
    "device killed",
    "device power cut",
    "device dies at a step",
    "device cut off",
    "device stands still",
    "device slow",
    "coordinator killed",
    "coordinator dies at a step",
    "coordinator cut off",
    "coordinator stands still",
    "partition",
    "one-sided partition",
    Fault.BROKER.value,
    Fault.FORGETS.value,
    Fault.EPOCH.value,
)
"""Every kind of fault; each occurs in one schedule in twenty, or more."""


@frozen
class Schedule:
    """What a fleet goes through.

    Attributes:
        seed: of all that is drawn while it runs.
        thresholds: of the devices.
        ring_size: members that a ring is dealt.
        n_weights: of the model; 16,000 and more travel in several chunks.
        faults: of the network.
        sync_s: how long a record takes to be synced.
        rounds: for each round what happens in it; another, calm one follows.
        suite: of the encryption.
        full: with production's parameters.
    """

    seed: int
    thresholds: tuple[int, ...]
    ring_size: int
    n_weights: int
    faults: Faults
    sync_s: float
    rounds: tuple[tuple[Happening, ...], ...]
    suite: str = SUITES[0]
    full: bool = False

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        """A schedule of moderate faults: most rounds should come to a sum."""
        draw = seeded.Random(seed)  # noqa: S311  # a simulation repeats itself
        full = seed % FULL_EVERY == FULL_EVERY - 1
        n_devices = draw.choice([3, 3, 3, 4, 4, 5, 6])
        ring_size = draw.choice([3, 4, 5, 8])
        most = min(ring_size, n_devices)
        highest = max(1, draw.choice([most // 2, most // 2, most - 1]))
        loss, duplicates, reordered = (
            draw.choice([0.0, 0.0, share / 4, share]) for share in (0.06, 0.2, 0.3)
        )
        n_weights = draw.choice([1, 5, 20, 50, 17_000 if draw.random() < 0.25 else 10])
        return cls(
            seed=seed,
            thresholds=tuple(draw.randint(1, highest) for _ in range(n_devices)),
            ring_size=ring_size,
            n_weights=n_weights,
            faults=Faults(
                loss=loss,
                duplicates=duplicates,
                reordered=reordered,
                least_delay_s=0.001,
                most_delay_s=draw.choice([0.005, 0.05, 0.5]),
            ),
            sync_s=draw.choice([0.0, 0.02]),
            rounds=tuple(
                tuple(_happening(draw, n_devices) for _ in range(draw.choice([0, 1, 2, 2, 3])))
                for _ in range(draw.choice([1, 1, 1, 1, 2, 3]))
            ),
            suite=draw.choice(SUITES) if n_weights == 5 else SUITES[0],
            full=full,
        )


def _happening(draw: seeded.Random, n_devices: int) -> Happening:
    fault, place = draw.choices(*zip(*_WEIGHTS.items(), strict=True))[0]
    at = draw.choice([draw.uniform(0.0, 5.0), draw.uniform(0.0, 20.0)])
    lasts_s = draw.choice([0.2, 3.0, draw.uniform(0.0, 30.0)])
    match place:
        case "device":
            who: tuple[int, ...] = (draw.randint(1, n_devices),)
        case "coordinator":
            who = (0,)
        case "several":
            n_cut_off = draw.randint(2, n_devices)
            who = tuple(sorted(draw.sample(range(n_devices + 1), n_cut_off)))
        case _:
            who = ()
    step = ""
    if fault in (Fault.KILLED, Fault.POWER) and draw.random() < 0.5:
        step = draw.choice(STEPS if who[0] else COORDINATOR_STEPS)
        at = draw.choice([0.0, at])
    return Happening(fault=fault, at=at, lasts_s=lasts_s, who=who, step=step)


_WEIGHTS = {
    (Fault.KILLED, "device"): 4,
    (Fault.POWER, "device"): 4,
    (Fault.CUT, "device"): 3,
    (Fault.STILL, "device"): 3,
    (Fault.SLOW, "device"): 3,
    (Fault.CUT, "several"): 3,
    (Fault.DEAF, "several"): 2,
    (Fault.MUTE, "several"): 2,
    (Fault.KILLED, "coordinator"): 6,
    (Fault.CUT, "coordinator"): 3,
    (Fault.STILL, "coordinator"): 3,
    (Fault.BROKER, "nobody"): 3,
    (Fault.FORGETS, "nobody"): 3,
    (Fault.EPOCH, "nobody"): 2,
}
