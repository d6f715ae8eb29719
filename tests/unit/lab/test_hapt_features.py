"""The feature function against slow, obvious versions; windows against label by label."""

import cmath
import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fedring.lab.hapt.features import AXES, BANDS, NAMES, RANGES, window_features
from fedring.lab.hapt.people import FILE
from fedring.lab.hapt.windows import HOP, overlap, stretches, window_starts

WINDOW = 128


def obvious(samples: NDArray[np.float64]) -> dict[str, float]:
    """The features of one window in g and rad/s, by name, in plain Python."""
    columns = {axis: [float(v) for v in samples[:, i]] for i, axis in enumerate(AXES)}
    for length in ("acc", "gyro"):
        triples = zip(*(columns[f"{length}_{axis}"] for axis in "xyz"), strict=True)
        columns[length] = [math.sqrt(x * x + y * y + z * z) for x, y, z in triples]
    found = {}
    for name, values in columns.items():
        mean = sum(values) / WINDOW
        found[f"{name}.mean"] = mean
        found[f"{name}.std"] = math.sqrt(sum((v - mean) ** 2 for v in values) / WINDOW)
        found[f"{name}.min"] = min(values)
        found[f"{name}.max"] = max(values)
        steps = [abs(b - a) for a, b in pairwise(values)]
        found[f"{name}.step"] = sum(steps) / len(steps)
    for one, other in ("xy", "xz", "yz"):
        a, b = columns[f"acc_{one}"], columns[f"acc_{other}"]
        of_a, of_b = sum(a) / WINDOW, sum(b) / WINDOW
        products = [(x - of_a) * (y - of_b) for x, y in zip(a, b, strict=True)]
        found[f"acc_{one}{other}.cov"] = sum(products) / WINDOW
    for name in ("acc", "acc_x", "gyro"):
        for number, (low, high) in enumerate(BANDS, start=1):
            energy = 0.0
            for k in range(low, high):
                turns = (cmath.exp(-2j * math.pi * k * t / WINDOW) for t in range(WINDOW))
                energy += abs(sum(v * w for v, w in zip(columns[name], turns, strict=True))) ** 2
            found[f"{name}.band{number}"] = math.log(energy / WINDOW + 1e-3)
    return {name: found[name] for name in NAMES}


def movement(seed: int) -> NDArray[np.float64]:
    """A window of somebody who walks, more or less."""
    rng = np.random.default_rng(seed)
    time = np.arange(WINDOW) / 50
    strides = np.sin(2 * np.pi * 1.9 * time[:, np.newaxis] + rng.uniform(0, 6, 6))
    return np.array([1, 0, 0, 0, 0, 0]) + 0.4 * strides + rng.normal(0, 0.1, (WINDOW, 6))


def test_fifty_six_names_in_the_documented_order() -> None:
    assert len(NAMES) == len(set(NAMES)) == 56
    assert NAMES[:6] == (
        *(f"acc_x.{name}" for name in ("mean", "std", "min", "max", "step")),
        "acc_y.mean",
    )
    assert NAMES[30:41] == (
        *(f"acc.{name}" for name in ("mean", "std", "max", "step")),
        *(f"gyro.{name}" for name in ("mean", "std", "max", "step")),
        *(f"acc_{pair}.cov" for pair in ("xy", "xz", "yz")),
    )
    assert [name for name in NAMES if "band" in name] == list(NAMES[41:])
    assert all(r > 0 for r in RANGES.values())


@pytest.mark.parametrize("seed", range(3))
def test_features_agree_with_the_obvious_version(seed: int) -> None:
    samples = movement(seed)
    found = window_features(samples)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, list(obvious(samples).values()), rtol=1e-5, atol=1e-6)


def test_a_board_that_lies_still() -> None:
    samples = np.zeros((WINDOW, 6))
    samples[:, 2] = 1
    found = dict(zip(NAMES, window_features(samples).tolist(), strict=True))
    assert found["acc_z.mean"] == found["acc.mean"] == found["acc_z.min"] == 1
    assert found["acc.std"] == found["gyro.mean"] == found["acc_xz.cov"] == found["acc.step"] == 0
    assert found["acc.band1"] == pytest.approx(math.log(1e-3))


def test_whole_numbers_are_mg_and_mrad() -> None:
    raw = np.round(movement(4) * 1000).astype(np.int16)
    np.testing.assert_array_equal(window_features(raw), window_features(raw / 1000))


def test_many_windows_at_once_are_each_as_alone() -> None:
    many = np.stack([movement(seed) for seed in range(6)]).reshape(2, 3, WINDOW, 6)
    found = window_features(many)
    assert found.shape == (2, 3, 56)
    np.testing.assert_array_equal(found[1, 2], window_features(many[1, 2]))


@pytest.mark.parametrize("shape", [(127, 6), (128, 3), (6, 128)])
def test_other_shapes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"not \(128, 6\)"):
        window_features(np.zeros(shape))


def test_the_data_file_holds_what_the_function_gives() -> None:
    with np.load(FILE) as file:
        assert file["names"].tolist() == list(NAMES)
        kept = file["features"][::100]
        np.testing.assert_allclose(window_features(file["excerpt"]), kept, rtol=1e-5, atol=1e-6)


def test_ranges_bound_nearly_everything_but_are_not_far_off() -> None:
    with np.load(FILE) as file:
        scaled = np.abs(file["features"]) / np.array(list(RANGES.values()))
    assert (scaled > 1).mean(axis=0).max() < 0.02
    assert (scaled.max(axis=0) > 0.25).all()


def test_windows_lie_in_stretches_of_one_label() -> None:
    rng = np.random.default_rng(1)
    label = np.repeat(rng.integers(0, 3, 30), rng.integers(1, 400, 30))
    person = (np.arange(len(label)) > len(label) // 2).astype(int)
    found = list(stretches(label, person))
    assert [start for start, _ in found[1:]] == [stop for _, stop in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, len(label))
    for start, stop in found:
        assert len(set(label[start:stop])) == len(set(person[start:stop])) == 1
        for row in window_starts(start, stop):
            assert (row - start) % HOP == 0
            assert row + WINDOW <= stop
        n_windows = max(0, (stop - start - WINDOW) // HOP + 1)
        assert len(window_starts(start, stop)) == n_windows
    for (start, _), (other, _) in pairwise(found):
        assert (label[start], person[start]) != (label[other], person[other])


def test_overlap_is_shared_samples() -> None:
    rows = np.array([0, 64, 128, 500])
    assert overlap(rows, 128).tolist() == [False, True, True, False]
