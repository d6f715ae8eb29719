"""Training and statistics of one device."""

import threading

import attrs
import numpy as np
import pytest

from fedring.device.trainers import NumpyTrainer, Trainer, TrainingStopped
from fedring.shared import networks
from fedring.shared.errors import MessageError
from fedring.shared.messages import Plan
from fedring.shared.models import Model
from fedring.shared.samples import Dataset

FEATURES, CLASSES = ("a", "b", "c"), ("x", "y")
PLAN = Plan(
    task="train",
    epochs=3,
    batch=8,
    rate=0.1,
    clip=0.0,
    value_range=2.0,
    evaluation_samples=16,
    max_samples=512,
)


def a_model(kind: str = "mlp", ranges: float = 2.0) -> Model:
    hidden = [5] if kind == "mlp" else []
    return networks.initialise(kind, FEATURES, CLASSES, hidden=hidden, seed=1, ranges=ranges)


def a_dataset(n: int = 50) -> Dataset:
    """Class y lies on one side of a plane."""
    x = np.random.default_rng(6).normal(size=(n, 3)).astype(np.float32)
    return Dataset(x, (x.sum(axis=1) > 0).astype(np.int64), FEATURES, CLASSES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, 1, 1])


TRAINER: Trainer = NumpyTrainer()


@pytest.mark.parametrize("kind", ["mlp", "softmax"])
def test_training_learns(kind: str) -> None:
    model, data = a_model(kind), a_dataset()
    trained = TRAINER.train(model, data, attrs.evolve(PLAN, epochs=50), rng())
    assert trained.update.dtype == np.float32
    assert trained.update.shape == (model.n_weights,)
    assert trained.n_samples == 50
    better = model.with_weights(model.weights() + trained.update)
    assert networks.evaluate(better, data.x, data.y).accuracy > 0.9


class StopAt(threading.Event):
    """Set when it is looked at for the n-th time."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_training_stops_between_two_batches_of_an_epoch() -> None:
    stop = StopAt(5)
    with pytest.raises(TrainingStopped):
        TRAINER.train(a_model(), a_dataset(), PLAN, rng(), stop)
    assert stop.left == 0


def test_training_is_plain_sgd_in_shuffled_batches() -> None:
    model, data = a_model(), a_dataset(20)
    weights = model.weights().astype(np.float64)
    order = rng()
    for _ in range(PLAN.epochs):
        shuffled = order.permutation(20)
        for batch in (shuffled[:8], shuffled[8:16], shuffled[16:]):
            network = networks.layers(model.with_weights(weights))
            inputs = networks.standardise(model, data.x[batch])
            slopes = networks.gradients(network, inputs, data.y[batch])
            flat = np.concatenate([array.ravel() for pair in slopes for array in pair])
            weights -= PLAN.rate * flat
    found = TRAINER.train(model, data, PLAN, rng()).update
    np.testing.assert_allclose(found, weights - model.weights(), atol=1e-6)


def test_training_repeats_itself_and_changes_nothing() -> None:
    model, data = a_model(), a_dataset()
    digest, x = model.digest, data.x.copy()
    first, second, other = (TRAINER.train(model, data, PLAN, rng(s)).update for s in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert Model.from_chunks(model.chunks()).digest == digest
    np.testing.assert_array_equal(data.x, x)


def test_the_incoming_model_is_evaluated_on_a_fixed_number_of_samples() -> None:
    model, data = a_model(), a_dataset(200)
    whole = networks.evaluate(model, data.x, data.y)
    found = TRAINER.train(model, data, attrs.evolve(PLAN, evaluation_samples=127, epochs=1), rng())
    assert found.correct / 127 == pytest.approx(whole.accuracy, abs=0.15)
    assert found.loss == pytest.approx(whole.loss, abs=0.2)
    none = TRAINER.train(model, data, attrs.evolve(PLAN, evaluation_samples=0), rng())
    assert (none.correct, none.loss) == (0, 0.0)


def test_a_device_with_few_samples_draws_some_twice() -> None:
    data = a_dataset(10)
    empty = a_model().with_weights(np.zeros(a_model().n_weights))
    found = TRAINER.train(empty, data, attrs.evolve(PLAN, evaluation_samples=100), rng())
    first = (data.y == 0).mean()  # a model of zeros always answers with the first class
    assert 0 < found.correct < 100
    assert found.correct / 100 == pytest.approx(first, abs=0.2)
    assert found.loss == pytest.approx(np.log(2), rel=1e-5)


def test_training_that_diverges_says_so_in_its_update() -> None:
    lost = a_model().with_weights(a_model().weights() * np.float32(1e38))
    assert not np.isfinite(TRAINER.train(lost, a_dataset(), PLAN, rng()).update).all()


def test_models_of_other_kinds_are_refused() -> None:
    stranger = attrs.evolve(a_model(), kind="cnn")
    for work in (TRAINER.train, TRAINER.statistics):
        with pytest.raises(MessageError, match="kind 'cnn'"):
            work(stranger, a_dataset(), PLAN, rng())


def test_statistics_are_scaled_sums() -> None:
    data = a_dataset(50)
    found = TRAINER.statistics(a_model(ranges=4.0), data, PLAN, rng())
    assert found.dtype == np.float32
    assert found.shape == (7,)
    assert abs(found).max() <= 1
    scaled = data.x / 4
    assert abs(scaled).max() < 1
    expected = [50 / 512, *(scaled.sum(0) / 512), *((scaled**2).sum(0) / 512)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_broken_sample_does_not_own_the_statistics() -> None:
    data = a_dataset(50)
    broken = Dataset(data.x.copy(), data.y, FEATURES, CLASSES)
    broken.x[0] = 1e30
    whole, found = (TRAINER.statistics(a_model(), d, PLAN, rng()) for d in (data, broken))
    assert abs(found).max() <= 1
    assert abs(found - whole).max() <= 2 / 512 + 1e-6


def test_of_many_samples_a_random_part_counts() -> None:
    data = a_dataset(600)
    found = TRAINER.statistics(a_model(), data, PLAN, rng())
    assert found[0] == 1
    whole = TRAINER.statistics(a_model(), data, attrs.evolve(PLAN, max_samples=600), rng())
    np.testing.assert_allclose(found, whole, atol=0.05)
    assert (found != TRAINER.statistics(a_model(), data, PLAN, rng(1))).any()
