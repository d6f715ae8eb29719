"""Training by a .tflite file: what numpy computes as well comes out the same."""

import threading
from pathlib import Path

import attrs
import numpy as np
import pytest

from fedring.device.settings import Training
from fedring.device.trainers import NumpyTrainer, Trainer, TrainingStopped, trainer_of
from fedring.device.trainers.litert_trainer import LitertTrainer
from fedring.shared import networks
from fedring.shared.errors import MessageError, ModelError
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.messages import Plan
from fedring.shared.models import Model
from fedring.shared.networks import MEAN, RANGE, SPREAD
from fedring.shared.samples import Dataset, read_samples

FEATURES, CLASSES = tuple(f"x{number}" for number in range(56)), ("a", "b", "c", "d", "e", "f")
PLAN = Plan(
    task="train",
    epochs=3,
    batch=16,
    rate=0.1,
    clip=0.0,
    value_range=2.0,
    evaluation_samples=32,
    max_samples=512,
)
LITERT: Trainer = trainer_of(Training(litert=SHIPPED["hapt-dense"]))
NUMPY: Trainer = NumpyTrainer()


def a_model(*, normalised: bool = True) -> Model:
    model = networks.initialise("mlp", FEATURES, CLASSES, hidden=[64], seed=1, ranges=2.0)
    if not normalised:
        return model
    mean, spread = np.full(56, 0.25, np.float32), np.full(56, 0.5, np.float32)
    return model.with_arrays(**{MEAN: mean, SPREAD: spread})


def a_dataset(n: int = 120) -> Dataset:
    """Six clouds; one sample far outside, which standardising cuts."""
    rng = np.random.default_rng(6)
    y = rng.integers(0, 6, n)
    x = rng.normal(size=(6, 56))[y] + rng.normal(size=(n, 56))
    x[3, 5] = 1e6
    return Dataset(x.astype(np.float32), y, FEATURES, CLASSES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, 1, 1])


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("n", [10, 16, 33, 120])
def test_an_mlp_learns_the_same_as_in_numpy(n: int, normalised: bool) -> None:
    """The last batch of an epoch is smaller, alone, or missing."""
    model, data = a_model(normalised=normalised), a_dataset(n)
    expected, found = (trainer.train(model, data, PLAN, rng()) for trainer in (NUMPY, LITERT))
    assert found.update.dtype == np.float32
    assert np.abs(expected.update).max() > 0.05
    np.testing.assert_allclose(found.update, expected.update, atol=2e-5)
    assert (found.n_samples, found.correct) == (n, expected.correct)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_training_repeats_itself_and_changes_nothing() -> None:
    model, data = a_model(), a_dataset()
    digest, x = model.digest, data.x.copy()
    first, second, other = (LITERT.train(model, data, PLAN, rng(s)).update for s in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert Model.from_chunks(model.chunks()).digest == digest
    np.testing.assert_array_equal(data.x, x)
    again = trainer_of(Training(litert=SHIPPED["hapt-dense"]))
    np.testing.assert_array_equal(again.train(model, data, PLAN, rng()).update, first)


def test_samples_stored_as_bytes_learn_like_any_other(tmp_path: Path) -> None:
    """Raw windows may be int8; the model standardises them."""
    conv = Computation.load(SHIPPED["hapt-conv"])
    features = tuple(f"x{number}" for number in range(384))
    model = conv.initial(features, CLASSES, (100.0,) * 384)
    x = np.random.default_rng(1).integers(-128, 128, (40, 384)).astype(np.int8)
    y = np.array(CLASSES)[np.arange(40) % 6]
    np.savez(tmp_path / "bytes.npz", x=x, y=y, features=np.array(features))
    np.savez(tmp_path / "floats.npz", x=x.astype(np.float64), y=y, features=np.array(features))
    small, large = (
        LitertTrainer(conv).train(
            model, read_samples(tmp_path / f"{name}.npz", features, CLASSES), PLAN, rng()
        )
        for name in ("bytes", "floats")
    )
    assert np.abs(small.update).max() > 0.01
    np.testing.assert_array_equal(small.update, large.update)


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
        LITERT.train(a_model(), a_dataset(), PLAN, rng(), stop)
    assert stop.left == 0


def test_no_evaluation_where_none_is_asked_for() -> None:
    found = LITERT.train(a_model(), a_dataset(), attrs.evolve(PLAN, evaluation_samples=0), rng())
    assert (found.correct, found.loss) == (0, 0.0)


def test_training_that_diverges_says_so_in_its_update() -> None:
    lost = a_model().with_weights(a_model().weights() * np.float32(1e38))
    assert not np.isfinite(LITERT.train(lost, a_dataset(), PLAN, rng()).update).all()


def test_statistics_are_those_of_numpy() -> None:
    model, plan = a_model(normalised=False), attrs.evolve(PLAN, task="statistics")
    expected, found = (t.statistics(model, a_dataset(), plan, rng()) for t in (NUMPY, LITERT))
    np.testing.assert_array_equal(found, expected)


def test_a_model_that_the_file_does_not_compute_is_refused() -> None:
    model = networks.initialise("mlp", FEATURES, CLASSES, hidden=[32])
    for work in (LITERT.train, LITERT.statistics):
        with pytest.raises(MessageError, match=r"layer1\.bias is 32 announced, 64 here"):
            work(model, a_dataset(), PLAN, rng())


def test_a_model_of_a_file_needs_that_file() -> None:
    own = Computation.load(SHIPPED["hapt-dense"]).initial(FEATURES, CLASSES, (2.0,) * 56)
    assert RANGE in own.arrays
    LITERT.check(own)
    with pytest.raises(MessageError, match=r"known without a \.tflite file are mlp, softmax"):
        NUMPY.check(own)


def test_larger_batches_than_the_file_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Computation, "batch", 8)
    with pytest.raises(MessageError, match=r"16 samples a step, hapt-dense\.tflite on this device"):
        LITERT.train(a_model(), a_dataset(), PLAN, rng())


def test_without_a_file_numpy_computes_and_with_a_wrong_one_nothing_starts(tmp_path: Path) -> None:
    assert isinstance(trainer_of(Training()), NumpyTrainer)
    with pytest.raises(ModelError, match="no such model file"):
        trainer_of(Training(litert=tmp_path / "own.tflite"))
