import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedring.shared.errors import UpdateError
from fedring.shared.numbers import (
    BLOCK,
    FloatVector,
    check_finite,
    clip_norm,
    dequantise,
    largest_value,
    quantise,
)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
updates = hnp.arrays(np.float32, st.integers(1, 50), elements=finite)
bits = st.sampled_from((8, 16))
clips = st.floats(1e-6, 1e6)
seeds = st.integers(0, 2**32 - 1)


@given(updates, clips, bits, seeds)
def test_quantised_values_are_the_neighbours_of_the_scaled_value(
    update: FloatVector, clip: float, bits: int, seed: int
) -> None:
    values = quantise(update, clip, bits, np.random.default_rng(seed))
    largest = largest_value(bits)
    scaled = np.clip(update.astype(np.float64) * (largest / clip), -largest, largest)
    assert values.dtype == np.int32
    assert abs(values).max() <= largest
    assert (abs(values - scaled) < 1).all()


@given(st.floats(-1, 1, width=32), bits, seeds)
def test_rounding_has_no_bias(value: float, bits: int, seed: int) -> None:
    n = 20_000
    values = quantise(np.full(n, value, np.float32), 1.0, bits, np.random.default_rng(seed))
    standard_error = 0.5 / math.sqrt(n)
    assert abs(values.mean() - value * largest_value(bits)) < 7 * standard_error


def test_the_extremes_stay_in_range_whatever_is_drawn() -> None:
    class Highest(np.random.Generator):
        def random(self, size=None, dtype=np.float64, out=None):  # type: ignore[no-untyped-def]
            return np.full(size, 1 - 2**-53)

    update = np.array([1, -1, 2, -2], np.float32)
    values = quantise(update, 1.0, 16, Highest(np.random.PCG64(0)))
    assert values.tolist() == [32767, -32767, 32767, -32767]


@given(updates, clips, bits, seeds)
def test_back_to_floats_within_one_step(
    update: FloatVector, clip: float, bits: int, seed: int
) -> None:
    values = quantise(update, clip, bits, np.random.default_rng(seed)).astype(np.int64)
    step = clip / largest_value(bits)
    back = dequantise(values, clip, bits, 1)
    assert (abs(back - np.clip(update, -clip, clip)) <= step * (1 + 1e-9)).all()
    np.testing.assert_allclose(dequantise(values, clip, bits, 4), back / 4)


@given(updates, st.floats(1e-3, 1e3))
def test_clipping_keeps_the_direction_and_bounds_the_norm(
    update: FloatVector, bound: float
) -> None:
    clipped, was = clip_norm(update, bound)
    wide = update.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    assume(abs(norm / bound - 1) > 1e-12)  # there the order of adding up decides
    assert was == (norm > bound)
    if was:
        assert float(np.linalg.norm(clipped.astype(np.float64))) <= bound * (1 + 2**-20)
        np.testing.assert_allclose(clipped, wide * (bound / norm), rtol=1e-6, atol=1e-44)
    else:
        assert clipped is update


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 7, BLOCK, 2 * BLOCK + 4])
def test_a_value_that_is_no_number_is_named(bad: float, index: int) -> None:
    update = np.zeros(2 * BLOCK + 5, np.float32)
    update[index] = bad
    update[-1] = math.nan
    with pytest.raises(UpdateError) as caught:
        quantise(update, 1.0, 16, np.random.default_rng(0))
    assert caught.value.index == index
    with pytest.raises(UpdateError, match=f"value {index} of the update is"):
        clip_norm(update, 1.0)
    with pytest.raises(UpdateError):
        check_finite(update)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_senseless_bounds_are_refused(bad: float) -> None:
    update = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="positive"):
        quantise(update, bad, 16, np.random.default_rng(0))
    with pytest.raises(ValueError, match="positive"):
        clip_norm(update, bad)
    with pytest.raises(ValueError, match="positive"):
        dequantise(np.ones(3, np.int64), 1.0, 16, bad)
    with pytest.raises(ValueError, match="8 or 16 bits"):
        largest_value(12)
