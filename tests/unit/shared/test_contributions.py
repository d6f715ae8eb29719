import math

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.contributions import (
    MAX_LOSS,
    Check,
    contribution,
    n_values,
    read_sum,
)
from fedring.shared.errors import SumError
from fedring.shared.numbers import IntVector, SumVector, largest_value


@frozen
class Device:
    values: list[int]
    weight: int
    clipped: bool
    evaluated: bool
    correct: int
    loss: float

    def contribution(self) -> IntVector:
        return contribution(
            np.array(self.values, np.int32),
            weight=self.weight,
            clipped=self.clipped,
            evaluated=self.evaluated,
            correct=self.correct if self.evaluated else 0,
            loss=self.loss if self.evaluated else 0.0,
        )


@st.composite
def fleets(draw: st.DrawFn) -> tuple[int, list[Device]]:
    bits = draw(st.sampled_from((8, 16)))
    largest = largest_value(bits)
    d = draw(st.integers(1, 6))
    device = st.builds(
        Device,
        st.lists(st.integers(-largest, largest), min_size=d, max_size=d),
        st.integers(1, 127),
        st.booleans(),
        st.booleans(),
        st.integers(0, 127),
        st.floats(0, 2 * MAX_LOSS),
    )
    return bits, draw(st.lists(device, min_size=1, max_size=5))


def total_of(devices: list[Device]) -> SumVector:
    total: SumVector = np.sum([device.contribution() for device in devices], 0, np.int64)
    return total


@given(fleets())
def test_the_sum_says_what_the_devices_put_in(fleet: tuple[int, list[Device]]) -> None:
    bits, devices = fleet
    read = read_sum(total_of(devices), len(devices), bits)
    assert read.update.tolist() == [
        sum(column) for column in zip(*(device.values for device in devices), strict=True)
    ]
    evaluated = [device for device in devices if device.evaluated]
    assert read.weight == sum(device.weight for device in devices)
    assert read.clipped == sum(device.clipped for device in devices)
    assert read.evaluated == len(evaluated)
    assert read.correct == sum(device.correct for device in evaluated)
    if evaluated:
        mean = sum(min(device.loss, MAX_LOSS) for device in evaluated) / len(evaluated)
        assert read.loss == pytest.approx(mean, abs=MAX_LOSS / 127)
    else:
        assert read.loss is None


@given(fleets(), st.sampled_from(Check), st.sampled_from((-1, 1)))
def test_count_and_zero_tell_any_change(
    fleet: tuple[int, list[Device]], check: Check, change: int
) -> None:
    bits, devices = fleet
    total = total_of(devices)
    total[len(total) - len(Check) + check] += change
    if check in (Check.ONE, Check.ZERO):
        with pytest.raises(SumError) as caught:
            read_sum(total, len(devices), bits)
        assert caught.value.check == {Check.ONE: "count", Check.ZERO: "zero"}[check]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_update_value_out_of_range(bits: int, sign: int) -> None:
    total = total_of([Device([0, 0], 1, False, False, 0, 0.0)] * 3)
    total[1] = sign * 3 * largest_value(bits)
    read_sum(total, 3, bits)
    total[1] += sign
    with pytest.raises(SumError, match="magnitude") as caught:
        read_sum(total, 3, bits)
    assert caught.value.check == "range"


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (Check.WEIGHT, 2),
        (Check.WEIGHT, 3 * 127 + 1),
        (Check.CLIPPED, 4),
        (Check.CLIPPED, -1),
        (Check.EVALUATED, 4),
        (Check.CORRECT, 2 * 127 + 1),
        (Check.LOSS, -1),
    ],
)
def test_a_check_value_out_of_range(check: Check, bad: int) -> None:
    total = total_of([Device([0], 1, False, True, 0, 0.0)] * 2)
    total += total_of([Device([0], 1, False, False, 0, 0.0)])
    read_sum(total, 3, 16)
    total[1 + check] = bad
    with pytest.raises(SumError, match=check.name.lower()):
        read_sum(total, 3, 16)


def test_senseless_values_are_refused() -> None:
    update = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="weight"):
        contribution(update, weight=0)
    with pytest.raises(ValueError, match="correct"):
        contribution(update, evaluated=True, correct=128)
    with pytest.raises(ValueError, match="loss"):
        contribution(update, evaluated=True, loss=-0.1)
    with pytest.raises(ValueError, match="nothing was evaluated"):
        contribution(update, correct=1)
    with pytest.raises(ValueError, match="8 values"):
        read_sum(np.zeros(7, np.int64), 1, 16)
    assert n_values(2) == len(contribution(update))


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30])
def test_a_model_that_diverged_has_the_largest_loss(loss: float) -> None:
    total = contribution(np.zeros(1, np.int32), evaluated=True, loss=loss).astype(np.int64)
    assert read_sum(total, 1, 16).loss == MAX_LOSS
