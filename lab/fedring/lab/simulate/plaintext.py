"""The rounds of a fleet without ring, cipher or network: what learning alone does.

Devices do here what they do in a ring, by the same function, with the same random numbers: device d
draws for round r from `default_rng([seed, d, r])`, shuffles first, roundings last. So the sum is
the very sum that a ring of all devices would give, and the model after each round the very model.

Only a `Summation` stands between the devices' vectors and their sum. `add_up` adds in the clear;
whoever hands in another (rings in the simulated network) must come to the same integers.

To compare with: `float_rounds`, the ordinary FedAvg with the same shuffles and means of float
updates; `lone_rounds`, one model on one set of samples: a device without a fleet or, with
everybody's samples in one place, what a fleet gives up for privacy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import numpy as np
from attrs import frozen

from fedring.coordinator.strategies import (
    STATISTICS_BITS,
    FedAvg,
    mean_update,
    normalise,
    statistics_plan,
)
from fedring.device.contributing import contribute
from fedring.device.trainers import NumpyTrainer, Trainer
from fedring.device.trainers.statistics import statistics_vector
from fedring.shared.contributions import ContributionSum, read_sum
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    DIGEST_BYTES,
    EXCHANGE_KEY_BYTES,
    Announce,
    ModelReference,
    Plan,
    RingTerms,
    tag,
)
from fedring.shared.models import Model
from fedring.shared.networks import is_normalised
from fedring.shared.numbers import IntVector, MeanVector, SumVector, clip_norm
from fedring.shared.samples import Dataset
from fedring.shared.tasks import n_values

Datasets = Mapping[int, Dataset]
"""Own samples of each device, by device number."""

Summation = Callable[[Mapping[int, IntVector]], tuple[SumVector, int]]
"""From the vector of each device to their sum and the number of those that are in it."""

TRAINER: Trainer = NumpyTrainer()
FEDAVG = Plan(
    task="train",
    epochs=5,
    batch=32,
    rate=0.1,
    clip=2.0,
    value_range=2.0,
    evaluation_samples=64,
    max_samples=512,
)
"""Five local epochs at rate 0.1: what the demo and the benchmarks train with."""


@frozen
class Round:
    """What a round came to.

    Attributes:
        number: from 1 on.
        model: after the round.
        summed: what the sum said; None where nothing was added as integers.
    """

    number: int
    model: Model
    summed: ContributionSum | None = None


def add_up(vectors: Mapping[int, IntVector]) -> tuple[SumVector, int]:
    """The sum in the clear."""
    total: SumVector = np.stack(list(vectors.values())).sum(axis=0, dtype=np.int64)
    return total, len(vectors)


def integer_rounds(
    model: Model,
    datasets: Datasets,
    plan: Plan = FEDAVG,
    *,
    seed: int,
    bits: int = 16,
    summation: Summation = add_up,
    trainer: Trainer = TRAINER,
) -> Iterator[Round]:
    """FedAvg over sums of integers, as a ring gives them, without end.

    Args:
        model: to begin with; one without normalisation gets a round of statistics first.
        datasets: of the devices, all of which take part in each round.
        plan: of the training rounds.
        seed: of the devices' random numbers.
        bits: width of a value in the training rounds, 8 or 16.
        summation: adds the vectors of a round.
        trainer: of every device.
    """
    for number in count(1):
        trains = is_normalised(model)
        task = plan if trains else statistics_plan(plan)
        width = bits if trains else STATISTICS_BITS
        announce = _announce(number, model, task, width)
        vectors = {
            device: contribute(
                trainer, model, data, announce, evaluate=trains, rng=_rng(seed, device, number)
            )
            for device, data in datasets.items()
        }
        total, n_contributors = summation(vectors)
        summed = read_sum(total, n_contributors, width)
        model = _next(model, mean_update(summed.update, summed.weight, task, width))
        yield Round(number, model, summed)


def float_rounds(
    model: Model, datasets: Datasets, plan: Plan = FEDAVG, *, seed: int
) -> Iterator[Round]:
    """Ordinary FedAvg: as `integer_rounds`, with nothing rounded."""
    for number in count(1):
        updates = []
        for device, data in datasets.items():
            rng = _rng(seed, device, number)
            if is_normalised(model):
                update = TRAINER.train(model, data, plan, rng).update
                updates.append(clip_norm(update, plan.clip)[0] if plan.clip else update)
            else:
                updates.append(statistics_vector(model, data, plan.max_samples, rng))
        model = _next(model, np.stack(updates).mean(axis=0, dtype=np.float64))
        yield Round(number, model)


def lone_rounds(
    model: Model, data: Dataset, plan: Plan = FEDAVG, *, seed: int, trainer: Trainer = TRAINER
) -> Iterator[Round]:
    """One model, trained on one set of samples; `plan.epochs` epochs to a round.

    A model that has its normalisation keeps it, so that this also makes a fleet's model personal.
    """
    for number in count(1):
        rng = _rng(seed, COORDINATOR_NUMBER, number)
        if is_normalised(model):
            update = trainer.train(model, data, plan, rng).update
        else:
            update = statistics_vector(model, data, len(data), rng)
        model = _next(model, update.astype(np.float64))
        yield Round(number, model)


def _next(model: Model, mean: MeanVector) -> Model:
    return FedAvg().step(model, mean) if is_normalised(model) else normalise(model, mean)


def _rng(seed: int, device: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, device, number])


def _announce(number: int, model: Model, plan: Plan, bits: int) -> Announce:
    """What devices are told in a round, with nothing in it that only a ring needs."""
    return Announce(
        **tag("plaintext", 1, number, COORDINATOR_NUMBER),
        model=ModelReference(
            version=number - 1, parent=max(number - 2, 0), digest=model.digest, size=1
        ),
        plan=plan,
        ring=RingTerms(size=2, ready_s=1, patience_s=1, release_s=1, lap_s=1),
        suite="none",
        bits=bits,
        n_values=n_values(model, plan.task),
        paillier_n=bytes(DIGEST_BYTES),
        exchange_key=bytes(EXCHANGE_KEY_BYTES),
        revocation=0,
        certificate=bytes(1),
    )
