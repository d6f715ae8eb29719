"""Dense networks: their gradients are checked against differences, their scores by hand."""

import numpy as np
import pytest

from fedring.shared import networks
from fedring.shared.errors import MessageError
from fedring.shared.models import Floats, Model
from fedring.shared.networks import MEAN, RANGE, SPREAD

FEATURES, CLASSES = ("a", "b", "c", "d", "e"), ("x", "y", "z")
KINDS = [("softmax", ()), ("mlp", (7,)), ("mlp", (6, 4))]


def a_network(kind: str = "mlp", hidden: tuple[int, ...] = (7,)) -> Model:
    return networks.initialise(kind, FEATURES, CLASSES, hidden=hidden, seed=3, ranges=2.0)


def samples(n: int = 20) -> tuple[Floats, networks.Classes]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n)


@pytest.mark.parametrize(("kind", "hidden"), KINDS)
def test_gradients_agree_with_differences(kind: str, hidden: tuple[int, ...]) -> None:
    model = a_network(kind, hidden)
    model = model.with_weights(model.weights() + np.float32(0.1))
    features, labels = samples()
    # In float64, so that a difference of 1e-6 is not lost in rounding.
    network = [tuple(array.astype(np.float64) for array in pair) for pair in networks.layers(model)]
    inputs = features.astype(np.float64)

    def loss() -> float:
        probabilities = networks.forward(network, inputs)[-1]  # type: ignore[arg-type]
        return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())

    found = networks.gradients(network, inputs, labels)  # type: ignore[arg-type]
    for pair, slopes in zip(network, found, strict=True):
        for values, slope in zip(pair, slopes, strict=True):
            for index in np.ndindex(values.shape):
                before = values[index]
                values[index] = before + 1e-6
                above = loss()
                values[index] = before - 1e-6
                below = loss()
                values[index] = before
                assert slope[index] == pytest.approx((above - below) / 2e-6, abs=1e-7)


def test_gradients_leave_their_inputs_alone() -> None:
    model = a_network()
    features, labels = samples()
    before = features.copy()
    networks.gradients(networks.layers(model), features, labels)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize(("kind", "hidden"), KINDS)
def test_probabilities(kind: str, hidden: tuple[int, ...]) -> None:
    features, _ = samples()
    found = networks.predict(a_network(kind, hidden), features)
    assert found.dtype == np.float32
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    huge = networks.predict(a_network(kind, hidden), features * np.float32(1e30))
    assert np.isfinite(huge).all()


def test_raw_features_are_standardised_inside() -> None:
    model = a_network("softmax", ())
    features, _ = samples()
    assert not networks.is_normalised(model)
    np.testing.assert_array_equal(networks.standardise(model, features), features / 2)
    mean, spread = np.arange(5, dtype=np.float32), np.full(5, 0.01, np.float32)
    normalised = model.with_arrays(**{MEAN: mean, SPREAD: spread})
    networks.check(normalised)
    assert networks.is_normalised(normalised)
    found = networks.standardise(normalised, features)
    np.testing.assert_array_equal(found, np.clip((features - mean) / spread, -8, 8))
    assert abs(found).max() == 8
    assert normalised.n_weights == model.n_weights


def test_scores_by_hand() -> None:
    """A model that answers x, x, y, y to x, y, y, y: z neither asked nor given."""
    arrays = {
        "layer1.weight": np.array([[5, -5, 0]], np.float32),
        "layer1.bias": np.array([0, 0, -50], np.float32),
        RANGE: np.ones(1, np.float32),
    }
    model = Model("softmax", ("f",), CLASSES, arrays, ("layer1.weight", "layer1.bias"))
    networks.check(model)
    found = networks.evaluate(
        model, np.array([[1], [1], [-1], [-1]], np.float32), np.array([0, 1, 1, 1])
    )
    assert (found.n_samples, found.correct, found.accuracy) == (4, 3, 0.75)
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.loss == pytest.approx(np.log1p(np.exp(-10)) + 10 / 4, rel=1e-5)


def test_a_hopeless_answer_has_a_finite_loss() -> None:
    model = a_network("softmax", ())
    sure = model.with_weights(model.weights() * 1e30)
    assert np.isfinite(networks.evaluate(sure, *samples()).loss)


def test_the_first_weights_follow_the_seed() -> None:
    def made(seed: int) -> Model:
        return networks.initialise("mlp", FEATURES, CLASSES, hidden=[4], seed=seed)

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_ranges_for_each_feature() -> None:
    model = networks.initialise("softmax", FEATURES, CLASSES, ranges=[1, 2, 3, 4, 5])
    np.testing.assert_array_equal(model.arrays[RANGE], [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("kind", "hidden", "ranges"),
    [("mlp", (), 1.0), ("softmax", (3,), 1.0), ("cnn", (), 1.0), ("softmax", (), 0.0)],
)
def test_impossible_models_are_not_made(kind: str, hidden: tuple[int, ...], ranges: float) -> None:
    with pytest.raises(ValueError, match="model"):
        networks.initialise(kind, FEATURES, CLASSES, hidden=hidden, ranges=ranges)


def remade(model: Model, kind: str = "mlp", **arrays: Floats | None) -> Model:
    """The model with arrays replaced, added or (None) left out; dots written as double lines."""
    changes = {name.replace("__", "."): array for name, array in arrays.items()}
    merged = {**model.arrays, **changes}
    kept = {name: array for name, array in merged.items() if array is not None}
    trained = tuple(name for name in kept if name.startswith("layer"))
    return Model(kind, model.features, model.classes, kept, trained)


def floats(*shape: int) -> Floats:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        ("cnn", {}),
        ("softmax", {}),
        ("mlp", {"layer1__bias": None}),
        ("mlp", {"layer2__bias": None}),
        ("mlp", {"layer1__weight": floats(4, 7)}),
        ("mlp", {"layer1__bias": floats(1)}),
        ("mlp", {"layer2__weight": floats(7)}),
        ("mlp", {"layer2__weight": floats(7, 2), "layer2__bias": floats(2)}),
        ("mlp", {"layer3__weight": floats(3, 3)}),
        ("mlp", {"normalisation__range": None}),
        ("mlp", {"normalisation__range": floats(4)}),
        ("mlp", {"normalisation__range": -floats(5)}),
        ("mlp", {"normalisation__mean": floats(5)}),
        ("mlp", {"normalisation__mean": floats(5), "normalisation__spread": 0 * floats(5)}),
        ("mlp", {"normalisation__mean": floats(1), "normalisation__spread": floats(5)}),
        ("mlp", {"other__array": floats(5)}),
    ],
)
def test_models_that_do_not_compute_are_refused(kind: str, arrays: dict[str, Floats]) -> None:
    model = remade(a_network(), kind, **arrays)
    assert Model.from_chunks(model.chunks()) == model
    with pytest.raises(MessageError, match="model"):
        networks.check(model)
