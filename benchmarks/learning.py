"""What federated learning reaches on thirty people's movements, in per cent of right answers.

A fleet of 24 devices trains the MLP 56-64-6 (5 local epochs, rate 0.1, batch 32, L2 clip 2); six
people are held out. Five splits of the people, three seeds each; `--quick` takes one run of 20
rounds on the main split. Accuracies are means of the last five rounds. "New people" are the six
held out, "own future" the last 20 % of every training person's windows of each activity.

The rounds run in the clear, by the functions of coordinator and device and over the same integers
as in a ring: `fedring.lab.simulate.plaintext`. Sums of 16-bit and 8-bit integers are compared, run
by run, with ordinary FedAvg of the same shuffles.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads cost more than such small layers

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from fedring.lab.benchmarks import Row, main
from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, RANGES, SPLITS, Split, evaluation, people
from fedring.lab.hapt.people import joined
from fedring.lab.simulate.plaintext import Round, float_rounds, integer_rounds, lone_rounds
from fedring.shared.models import Model
from fedring.shared.networks import evaluate, initialise
from fedring.shared.samples import Dataset

LAST = 5
"""Rounds at the end over which accuracies are averaged."""
LONE_ROUNDS = 20
"""Of 5 epochs each, for models without a fleet: they have stopped climbing by then."""

Curve = NDArray[np.float64]
"""Accuracy on new people in per cent, after the round of statistics and each training round."""


@frozen
class Run:
    """One split and seed, trained in all ways."""

    split: Split
    seed: int
    rounds: int

    def __call__(self) -> Found:
        new = evaluation(self.split)
        early = {number: people()[number].early for number in self.split.devices}
        late = {number: people()[number].late for number in self.split.devices}
        untrained = initialise(
            "mlp", NAMES, ACTIVITIES, hidden=[64], seed=self.seed, ranges=list(RANGES.values())
        )
        learned = {
            name: self.curve(rounds, new, self.rounds)
            for name, rounds in (
                ("float", float_rounds(untrained, early, seed=self.seed)),
                ("8 bit", integer_rounds(untrained, early, seed=self.seed, bits=8)),
                ("16 bit", integer_rounds(untrained, early, seed=self.seed)),
            )
        }
        _, fleet = learned["16 bit"]
        central, _ = self.curve(self.alone(untrained, joined([*early.values()])), new, LONE_ROUNDS)
        alone = [self.curve(self.alone(untrained, d), new, LONE_ROUNDS)[0] for d in early.values()]
        return Found(
            split=self.split,
            curves={name: curve for name, (curve, _) in learned.items()},
            centralised=settled(central),
            alone=mean(settled(curve) for curve in alone),
            own=mean(accuracy(fleet, late[number]) for number in early),
            personal=mean(self.personal(fleet, early[n], late[n]) for n in early),
        )

    def curve(self, rounds: Iterable[Round], new: Dataset, n_rounds: int) -> tuple[Curve, Model]:
        """Accuracy on new people after each round, and the last model."""
        models = [found.model for found in islice(rounds, 1 + n_rounds)]
        return np.array([accuracy(model, new) for model in models]), models[-1]

    def alone(self, model: Model, data: Dataset) -> Iterator[Round]:
        """Training on one set of samples."""
        return lone_rounds(model, data, seed=self.seed)

    def personal(self, fleet: Model, early: Dataset, late: Dataset) -> float:
        """The fleet's model, five epochs later on a device, on its owner's own future."""
        return accuracy(next(self.alone(fleet, early)).model, late)


@frozen(eq=False)
class Found:
    """What a run found, in per cent.

    Attributes:
        split: the split.
        curves: FedAvg on new people, by width of the sum.
        centralised: everybody's samples in one place, on new people.
        alone: a device without a fleet, on new people; mean over the devices.
        own: the fleet's model on own future; mean over the devices.
        personal: the same, after five more epochs on the device.
    """

    split: Split
    curves: dict[str, Curve]
    centralised: float
    alone: float
    own: float
    personal: float

    @property
    def fleet(self) -> float:
        """FedAvg over sums of 16-bit integers, on new people."""
        return settled(self.curves["16 bit"])

    def rounds_to(self, goal: float) -> int:
        """Training rounds until FedAvg first has so much; one more than there are if never."""
        reached = np.flatnonzero(self.curves["16 bit"] >= goal)
        return int(reached[0]) if len(reached) else len(self.curves["16 bit"])

    def apart(self, name: str) -> float:
        """How far sums of integers end from ordinary FedAvg."""
        return settled(self.curves[name]) - settled(self.curves["float"])


def accuracy(model: Model, data: Dataset) -> float:
    """Per cent of right answers."""
    return 100 * evaluate(model, data.x, data.y).accuracy


def settled(curve: Curve) -> float:
    """Mean of the last rounds."""
    return float(curve[-LAST:].mean())


def mean(figures: Iterable[float]) -> float:
    """Mean, as a plain float."""
    return float(np.mean(list(figures)))


def measure(quick: bool) -> Iterator[Row]:
    """Train in all ways, then compare."""
    runs = (
        [Run(MAIN, 0, 20)]
        if quick
        else [Run(split, seed, 100) for split in SPLITS for seed in range(3)]
    )
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(Run.__call__, runs))
    yield from learned(found, quick)
    yield from rounded(found, quick)
    yield from compared(found, quick)


def learned(found: list[Found], quick: bool) -> Iterator[Row]:
    """What the fleet's model knows about new people."""
    for split in [MAIN] if quick else SPLITS:
        yield Row(
            f"FedAvg, new people, {split.name} split",
            mean(run.fleet for run in found if run.split == split),
            "%",
            at_least=(80 if quick else 84.5) if split == MAIN else None,
        )
    if not quick:
        name = "FedAvg, new people, five splits"
        yield Row(name, mean(run.fleet for run in found), "%", at_least=91.0)


def rounded(found: list[Found], quick: bool) -> Iterator[Row]:
    """How far sums of integers end from ordinary FedAvg."""
    for name, most, at_worst in (("16 bit", 0.1, 0.5), ("8 bit", 0.15, None)):
        apart = [run.apart(name) for run in found]
        yield Row(
            f"{name} sums against float, difference of the means",
            abs(mean(apart)),
            "points",
            at_most=None if quick else most,
        )
        yield Row(
            f"{name} sums against float, worst run",
            max(map(abs, apart)),
            "points",
            at_most=at_worst,
        )


def compared(found: list[Found], quick: bool) -> Iterator[Row]:
    """The fleet against everybody's samples in one place, and against a device alone."""
    fleet = mean(run.fleet for run in found)
    yield Row(
        "FedAvg against centralised, new people",
        fleet,
        "%",
        baseline=mean(run.centralised for run in found),
    )
    # One centralised run swings by two points from epoch to epoch: take those of all seeds.
    central = {
        split: mean(run.centralised for run in found if run.split == split)
        for split in {run.split for run in found}
    }
    to_95 = [run.rounds_to(0.95 * central[run.split]) for run in found]
    median = float(np.median(to_95))
    yield Row("to 95 % of centralised, median", median, "rounds", at_most=None if quick else 15)
    yield Row("to 95 % of centralised, slowest run", max(to_95), "rounds", at_most=30)
    alone = mean(run.alone for run in found)
    yield Row("FedAvg against a device alone, new people", fleet, "%", baseline=alone)
    yield Row("FedAvg above a device alone", fleet - alone, "points", at_least=12)
    personal, own = mean(run.personal for run in found), mean(run.own for run in found)
    yield Row("personalised against FedAvg, own future", personal, "%", baseline=own)
    yield Row("personalised, own future", personal, "%", at_least=None if quick else 94.5)


if __name__ == "__main__":
    main(measure, __doc__)
