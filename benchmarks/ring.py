"""Learning through the real protocol: every sum of the ring against the sum in the clear.

The fleet of the benchmark `learning` (24 devices in two rings of 12, thresholds of 7, main split)
trains in the simulated network with the cryptography of production: bodies, pads, releases, one
decryption a round. The very same integers are added up in the clear beside it. `--quick` takes 3
rounds, otherwise 100.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads cost more than such small layers

import time
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from fedring.lab.benchmarks import Row, main
from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, RANGES, evaluation, people
from fedring.lab.simulate.plaintext import add_up, float_rounds, integer_rounds
from fedring.lab.simulate.summing import RingSummation
from fedring.shared.encryption import PRODUCTION
from fedring.shared.messages import RingTerms
from fedring.shared.networks import evaluate, initialise
from fedring.shared.numbers import IntVector, SumVector

TERMS = RingTerms(size=12, ready_s=60.0, patience_s=5.0, release_s=15.0, lap_s=30.0)
LAST = 5


class Checked:
    """Adds vectors up along rings, and compares with the sum in the clear."""

    def __init__(self, n_devices: int) -> None:
        self._rings = RingSummation(
            n_devices, threshold=7, terms=TERMS, parameters=PRODUCTION, key_bits=3072
        )
        self.rounds = 0
        self.equal = 0

    def __call__(self, vectors: Mapping[int, IntVector]) -> tuple[SumVector, int]:
        names = range(1, len(vectors) + 1)
        total, n_contributors = self._rings(dict(zip(names, vectors.values(), strict=True)))
        expected, n_vectors = add_up(vectors)
        self.rounds += 1
        self.equal += n_contributors == n_vectors and np.array_equal(total, expected)
        return total, n_contributors


def measure(quick: bool) -> Iterator[Row]:
    """Train through the rings and by ordinary FedAvg with the same shuffles."""
    n_rounds = 1 + (3 if quick else 100)  # the first one sums up statistics
    new = evaluation(MAIN)
    early = {number: people()[number].early for number in MAIN.devices}
    untrained = initialise(
        "mlp", NAMES, ACTIVITIES, hidden=[64], seed=0, ranges=list(RANGES.values())
    )
    checked = Checked(len(early))
    began = time.process_time()
    through_rings = [
        100 * evaluate(found.model, new.x, new.y).accuracy
        for found in islice(integer_rounds(untrained, early, seed=0, summation=checked), n_rounds)
    ]
    seconds = time.process_time() - began
    in_float = [
        100 * evaluate(found.model, new.x, new.y).accuracy
        for found in islice(float_rounds(untrained, early, seed=0), n_rounds)
    ]
    yield Row("rounds with the sum of the ring bit for bit", checked.equal, at_least=checked.rounds)
    value, baseline = float(np.mean(through_rings[-LAST:])), float(np.mean(in_float[-LAST:]))
    goal = None if quick else 84.5
    yield Row("FedAvg through rings, new people, main split", value, "%", at_least=goal)
    apart = abs(value - baseline)
    yield Row("rings against ordinary FedAvg", apart, "points", at_most=None if quick else 0.5)
    yield Row("CPU time of all 25 parties for a round", seconds / checked.rounds, "s")


if __name__ == "__main__":
    main(measure, __doc__)
