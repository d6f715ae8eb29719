"""From sums to the next model."""

import attrs
import numpy as np
import pytest

from fedring.coordinator.strategies import (
    STATISTICS_BITS,
    FedAvg,
    doubtful_ranges,
    mean_update,
    normalise,
    statistics_plan,
)
from fedring.device.trainers import NumpyTrainer
from fedring.shared import networks
from fedring.shared.errors import SumError
from fedring.shared.messages import Plan
from fedring.shared.models import Floats, Model
from fedring.shared.networks import MEAN, RANGE, SPREAD
from fedring.shared.numbers import MeanVector, largest_value, quantise
from fedring.shared.samples import Dataset

FEATURES, CLASSES = ("a", "b", "c"), ("x", "y")
PLAN = Plan(
    task="train",
    epochs=1,
    batch=8,
    rate=0.1,
    clip=2.0,
    value_range=1.5,
    evaluation_samples=16,
    max_samples=512,
)


def a_model(ranges: float | list[float] = 1.0) -> Model:
    return networks.initialise("softmax", FEATURES, CLASSES, seed=1, ranges=ranges)


def test_fedavg_takes_the_mean_of_the_weights() -> None:
    model, rng = a_model(), np.random.default_rng(0)
    theirs = model.weights() + rng.normal(size=(5, model.n_weights))
    updates = theirs - model.weights()
    found = FedAvg().step(model, updates.mean(axis=0))
    np.testing.assert_allclose(found.weights(), theirs.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert found.arrays[RANGE] is model.arrays[RANGE]


def test_the_mean_of_a_sum_is_in_units_of_a_weight() -> None:
    updates = np.random.default_rng(1).normal(0, 0.1, (6, 40)).astype(np.float32)
    for bits in (8, 16):
        rng = np.random.default_rng(2)
        coded = [quantise(update, PLAN.value_range, bits, rng) for update in updates]
        found = mean_update(np.sum(coded, axis=0, dtype=np.int64), 6, PLAN, bits)
        step = PLAN.value_range / largest_value(bits)
        np.testing.assert_allclose(found, updates.mean(axis=0), atol=step)


def test_a_mean_longer_than_an_honest_one_is_cut() -> None:
    total = np.full(100, 3 * 32_767, np.int64)
    found = mean_update(total, 3, PLAN, 16)
    np.testing.assert_allclose(found, 0.2)
    assert np.linalg.norm(found) == pytest.approx(2)
    free = mean_update(total, 3, attrs.evolve(PLAN, clip=0.0), 16)
    np.testing.assert_allclose(free, 1.5)


def summed(model: Model, parts: list[Floats]) -> MeanVector:
    """What a ring makes of the devices' statistics."""
    plan, rng = statistics_plan(PLAN), np.random.default_rng(5)
    coded = []
    for x in parts:
        data = Dataset(x, np.zeros(len(x), np.int64), FEATURES, CLASSES)
        vector = NumpyTrainer().statistics(model, data, plan, rng)
        coded.append(quantise(vector, plan.value_range, STATISTICS_BITS, rng))
    return mean_update(np.sum(coded, axis=0, dtype=np.int64), len(parts), plan, STATISTICS_BITS)


def test_statistics_of_a_fleet_give_mean_and_spread_of_all_samples() -> None:
    rng = np.random.default_rng(3)
    centre, width = np.array([0.5, -20, 300]), np.array([0.3, 10, 100])
    parts = [
        (centre + width * rng.normal(rng.normal(0, 0.5, 3), 1, (n, 3))).astype(np.float32)
        for n in (20, 300, 150, 500, 80)
    ]
    everything = np.concatenate(parts)
    model = a_model([2.0, 80.0, 1_000.0])
    found = normalise(model, summed(model, parts))
    networks.check(found)
    assert networks.is_normalised(found)
    mean, spread = everything.mean(axis=0), everything.std(axis=0)
    np.testing.assert_allclose((found.arrays[MEAN] - mean) / spread, 0, atol=0.01)
    np.testing.assert_allclose(found.arrays[SPREAD] / spread, 1, atol=0.02)
    assert found.trained == model.trained
    assert doubtful_ranges(found) == {}


def test_features_that_do_not_vary_are_not_blown_up() -> None:
    rng = np.random.default_rng(4)
    x = np.stack([np.full(200, 3.7), rng.normal(0, 1, 200), rng.normal(90, 1, 200)], axis=1)
    model = a_model([10.0, 10_000.0, 50.0])
    found = normalise(model, summed(model, [x.astype(np.float32)] * 4))
    networks.check(found)
    standard = networks.standardise(found, x.astype(np.float32))
    assert abs(standard[:, 0]).max() < 0.1
    assert abs(standard[:, 1]).max() < 0.5
    doubts = doubtful_ranges(found)
    assert "hardly changes" in doubts["a"]
    assert "far too large" in doubts["b"]
    assert "beyond its range" in doubts["c"]


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(SumError, match="no samples"):
        normalise(a_model(), np.zeros(7))


def test_the_plan_of_statistics_has_no_training_in_it() -> None:
    plan = statistics_plan(PLAN)
    assert (plan.task, plan.clip, plan.value_range) == ("statistics", 0.0, 1.0)
    assert plan.evaluation_samples == 0
