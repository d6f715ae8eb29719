"""Own bodies: of whatever came, in whatever order, the most that can be opened together."""

import random

import numpy as np
import pytest

from fedring.coordinator.own_bodies import OwnBodies
from fedring.coordinator.rosters import without_company
from fedring.lab.simulate.rehearsal import Rehearsal

SUITE = Rehearsal((2, 2)).announcing().suite


def body(number: int) -> np.ndarray:
    """Whoever is in a sum of these shows as a bit."""
    return np.full(SUITE.body_bytes // 8, 1 << number, np.uint64)


@pytest.mark.parametrize("seed", range(30))
def test_the_sum_is_over_the_most_that_all_want_to_be_in(seed: int) -> None:
    draw = random.Random(seed)
    thresholds = {number: draw.randint(1, 6) for number in range(1, draw.randint(2, 9))}
    came = draw.sample(sorted(thresholds), draw.randint(1, len(thresholds)))
    own = OwnBodies(thresholds, SUITE)
    for now, number in enumerate(came):
        own.add(number, body(number), float(now))
        so_far = {one: thresholds[one] for one in came[: now + 1]}
        assert set(own.names) == so_far.keys() - without_company(so_far).keys()
        if own.names:
            assert (own.total() == sum(1 << number for number in own.names)).all()


def test_the_first_body_of_a_member_counts() -> None:
    own = OwnBodies({1: 1, 2: 1}, SUITE)
    for now, (number, what) in enumerate([(1, 1), (1, 5), (2, 2), (1, 6)]):
        own.add(number, body(what), float(now))
    assert (own.total() == (1 << 1) + (1 << 2)).all()
    assert own.came_at == {1: 0.0, 2: 2.0}
