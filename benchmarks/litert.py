"""LiteRT beside numpy: how well it learns, how fast a step is, what it takes in memory.

A fleet of 24 devices trains for 100 rounds (5 local epochs, rate 0.1, batch 32, L2 clip 2) over
sums of 16-bit integers in the clear; six people are held out; five splits, seed 0; `--quick` takes
10 rounds of the main split. Accuracies are means of the last five rounds.

The dense file that comes along computes the MLP 56-64-6 with the shuffles of numpy, run by run. The
convolutional file learns from windows of raw samples.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads cost more than such small layers

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

import attrs
import numpy as np
from attrs import frozen

from fedring.coordinator.conclusion import Evaluate
from fedring.device.trainers import NumpyTrainer, Trainer
from fedring.device.trainers.litert_trainer import LitertTrainer
from fedring.lab.benchmarks import Row, main
from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, RANGES, SPLITS, Split, evaluation, people
from fedring.lab.hapt.people import Person
from fedring.lab.hapt.raw_windows import RAW_NAMES, RAW_RANGE, raw_people
from fedring.lab.simulate.plaintext import FEDAVG, integer_rounds
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.models import Model
from fedring.shared.networks import evaluate, initialise

LAST = 5
"""Rounds at the end over which accuracies are averaged."""
SEED = 0
WAYS = ("numpy", "hapt-dense", "hapt-conv")
STEP_EPOCHS = 60
RESIDENT = """
import sys
import numpy as np
from fedring.device.settings import Training
from fedring.device.trainers import trainer_of
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.messages import Plan
from fedring.shared.networks import initialise
from fedring.shared.samples import Dataset

name = sys.argv[1]
width = 384 if name == "hapt-conv" else 56
features, classes = tuple(f"x{n}" for n in range(width)), tuple("abcdef")
trainer = trainer_of(Training(litert=SHIPPED.get(name)))
model = initialise("mlp", features, classes, hidden=[64])
if name == "hapt-conv":
    model = Computation.load(SHIPPED[name]).initial(features, classes, (1.0,) * width)
rng = np.random.default_rng(0)
data = Dataset(
    rng.normal(size=(300, width)).astype(np.float32), rng.integers(0, 6, 300), features, classes
)
plan = Plan(
    task="train", epochs=5, batch=32, rate=0.1, clip=2.0, value_range=2.0,
    evaluation_samples=64, max_samples=512,
)
trainer.train(model, data, plan, rng)
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS")))
"""


@frozen(eq=False)
class Way:
    """A network, who computes it, and what it learns from."""

    trainer: Trainer
    evaluate: Evaluate
    model: Model
    people: dict[int, Person]

    @classmethod
    def of(cls, name: str) -> Way:
        """One of `WAYS`."""
        if name == "hapt-conv":
            conv = Computation.load(SHIPPED[name])
            model = conv.initial(RAW_NAMES, ACTIVITIES, (RAW_RANGE,) * len(RAW_NAMES))
            return cls(LitertTrainer(conv), conv.evaluate, model, raw_people())
        ranges = list(RANGES.values())
        model = initialise("mlp", NAMES, ACTIVITIES, hidden=[64], seed=SEED, ranges=ranges)
        if name == "numpy":
            return cls(NumpyTrainer(), evaluate, model, people())
        dense = Computation.load(SHIPPED[name])
        return cls(LitertTrainer(dense), dense.evaluate, model, people())


@frozen
class Run:
    """One network on one split."""

    way: str
    split: Split
    rounds: int

    def __call__(self) -> float:
        """Per cent of right answers on new people."""
        way = Way.of(self.way)
        new = evaluation(self.split, way.people)
        early = {number: way.people[number].early for number in self.split.devices}
        rounds = integer_rounds(way.model, early, seed=SEED, trainer=way.trainer)
        models = [found.model for found in islice(rounds, 1 + self.rounds)][-LAST:]
        return float(np.mean([100 * way.evaluate(m, new.x, new.y).accuracy for m in models]))


def measure(quick: bool) -> Iterator[Row]:
    """Speed and memory first, then learning."""
    yield from steps()
    yield from memory()
    splits, rounds = ([MAIN], 10) if quick else (list(SPLITS), 100)
    runs = [Run(way, split, rounds) for split in splits for way in WAYS]
    # An interpreter's threads do not survive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = dict(zip(runs, pool.map(Run.__call__, runs), strict=True))
    for way in WAYS[1:]:
        means = {}
        for split in splits:
            value = found[Run(way, split, rounds)]
            beside = found[Run("numpy", split, rounds)]
            means[split.name] = value, beside
            yield Row(f"{way}, new people, {split.name} split", value, "%", baseline=beside)
        value, beside = np.mean(list(means.values()), axis=0).tolist()
        yield Row(
            f"{way}, new people, mean",
            value,
            "%",
            baseline=beside,
            at_least=0.99 if way == "hapt-dense" else None,
        )


def steps() -> Iterator[Row]:
    """Steps of training a second of processor time."""
    rates = {}
    for name in WAYS:
        way = Way.of(name)
        data = way.people[MAIN.devices[0]].early
        plan = attrs.evolve(FEDAVG, epochs=STEP_EPOCHS, evaluation_samples=0)
        begun = time.process_time()
        way.trainer.train(way.model, data, plan, np.random.default_rng(SEED))
        n_steps = STEP_EPOCHS * -(-len(data) // plan.batch)
        rates[name] = n_steps / (time.process_time() - begun)
    for name in WAYS[1:]:
        yield Row(f"{name}, steps against the MLP in numpy", rates[name], "/s", rates["numpy"])


def memory() -> Iterator[Row]:
    """Resident memory of a process that has trained once, without agent, ring or lab."""
    found = {}
    for name in WAYS:
        command = [sys.executable, "-c", RESIDENT, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = float(done.stdout)
    for name in WAYS[1:]:
        yield Row(f"{name}, resident", found[name], "MiB", baseline=found["numpy"])


if __name__ == "__main__":
    main(measure, __doc__)
