"""Rounds in the clear: the very integers of a ring, and FedAvg to compare with."""

from collections.abc import Mapping
from itertools import islice

import attrs
import numpy as np
import pytest

from fedring.lab.hapt import ACTIVITIES, NAMES, RANGES, people
from fedring.lab.simulate.plaintext import (
    FEDAVG,
    add_up,
    float_rounds,
    integer_rounds,
    lone_rounds,
)
from fedring.shared import networks
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, SumVector
from fedring.shared.samples import Dataset

PLAN = attrs.evolve(FEDAVG, epochs=1)


def untrained() -> Model:
    return networks.initialise(
        "mlp", NAMES, ACTIVITIES, hidden=[8], seed=3, ranges=list(RANGES.values())
    )


def four_people() -> dict[int, Dataset]:
    return {number: people()[number].early for number in (2, 5, 7, 11)}


def test_the_first_round_normalises_the_others_train() -> None:
    first, second, third = islice(integer_rounds(untrained(), four_people(), PLAN, seed=1), 3)
    assert [first.number, second.number, third.number] == [1, 2, 3]
    np.testing.assert_array_equal(first.model.weights(), untrained().weights())
    everything = np.concatenate([data.x for data in four_people().values()])
    standard = networks.standardise(first.model, everything)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=0.15)
    assert (second.model.weights() != first.model.weights()).any()
    assert second.model.arrays[networks.MEAN] is first.model.arrays[networks.MEAN]
    assert second.summed is not None
    assert third.summed is not None
    assert second.summed.evaluated == 4
    assert second.summed.loss is not None
    assert third.summed.loss is not None
    assert third.summed.loss < second.summed.loss


def test_all_goes_through_the_summation_and_nothing_else() -> None:
    seen: list[Mapping[int, IntVector]] = []

    def watched(vectors: Mapping[int, IntVector]) -> tuple[SumVector, int]:
        seen.append(vectors)
        return add_up(vectors)

    rounds = integer_rounds(untrained(), four_people(), PLAN, seed=1, summation=watched)
    found = list(islice(rounds, 3))
    plain = list(islice(integer_rounds(untrained(), four_people(), PLAN, seed=1), 3))
    assert [each.model for each in found] == [each.model for each in plain]
    assert [list(vectors) for vectors in seen] == [[2, 5, 7, 11]] * 3
    for each, vectors in zip(found, seen, strict=True):
        assert each.summed is not None
        exact = [sum(map(int, column)) for column in zip(*vectors.values(), strict=True)]
        assert each.summed.update.tolist() == exact[:-7]


def test_one_flipped_bit_gives_another_model() -> None:
    def flipped(vectors: Mapping[int, IntVector]) -> tuple[SumVector, int]:
        total, n_contributors = add_up(vectors)
        total[5] ^= 1
        return total, n_contributors

    right, wrong = (
        list(islice(integer_rounds(untrained(), four_people(), PLAN, seed=1, summation=s), 2))
        for s in (add_up, flipped)
    )
    assert right[-1].model != wrong[-1].model


def test_seeds_repeat_and_differ() -> None:
    def after(seed: int) -> Model:
        return list(islice(integer_rounds(untrained(), four_people(), PLAN, seed=seed), 2))[1].model

    assert after(1) == after(1)
    assert after(1) != after(2)


@pytest.mark.parametrize(("bits", "apart"), [(16, 3e-4), (8, 0.05)])
def test_integers_stay_close_to_floats(bits: int, apart: float) -> None:
    start = next(float_rounds(untrained(), four_people(), PLAN, seed=1)).model
    whole = list(islice(integer_rounds(start, four_people(), PLAN, seed=1, bits=bits), 2))
    exact = list(islice(float_rounds(start, four_people(), PLAN, seed=1), 2))
    difference = whole[-1].model.weights() - exact[-1].model.weights()
    assert 0 < abs(difference).max() < apart


def test_alone_learns_and_a_fleets_model_keeps_its_normalisation() -> None:
    person = people()[9]
    *_, alone = islice(lone_rounds(untrained(), person.early, seed=1), 4)
    assert networks.evaluate(alone.model, person.late.x, person.late.y).accuracy > 0.7
    personal = next(lone_rounds(alone.model, people()[8].early, seed=1)).model
    for name in (networks.MEAN, networks.SPREAD):
        assert personal.arrays[name] is alone.model.arrays[name]
    assert personal != alone.model
