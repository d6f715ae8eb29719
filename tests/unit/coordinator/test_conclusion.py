"""From the sums of rings to the next model: through simulated rings, opened for real."""

import numpy as np
import pytest
from attrs import evolve

from fedring.coordinator.conclusion import Conclusion, conclude
from fedring.coordinator.rounds import Ended
from fedring.coordinator.strategies import FedAvg, statistics_plan
from fedring.lab.simulate.devices import Contribute
from fedring.lab.simulate.fleet import QUICK, TRAIN, SimulatedFleet, paillier_key
from fedring.shared.contributions import contribution
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce, Plan
from fedring.shared.networks import initialise
from fedring.shared.numbers import IntVector, largest_value
from fedring.shared.samples import Dataset

MODEL = initialise("softmax", ["x", "y"], ["a", "b"], seed=1)
UNIT = TRAIN.value_range / largest_value(16)


def contribute(name: str, _announce: Signed[Announce], evaluate: bool) -> IntVector:
    number = int(name[1:])
    update = np.full(MODEL.n_weights, 100 * number, np.int32)
    return contribution(update, evaluated=evaluate, correct=number, loss=0.5)


class Finished:
    """A round of two rings of three, with what it was before it was opened."""

    def __init__(self, contribute: Contribute = contribute, plan: Plan = TRAIN) -> None:
        terms = evolve(QUICK, size=3)
        self.fleet = SimulatedFleet([1] * 6, MODEL, contribute, terms=terms, plan=plan)
        round_ = self.fleet.run_round()
        assert round_ is not None
        self.announcing, self.ended = round_.running.announcing, round_.ended


def concluded(
    finished: Finished, ended: Ended | None = None, evaluation: Dataset | None = None
) -> Conclusion:
    return conclude(
        finished.announcing,
        finished.ended if ended is None else ended,
        private_key=paillier_key(256),
        model=MODEL,
        strategy=FedAvg(),
        evaluation=evaluation,
    )


@pytest.fixture(scope="module")
def finished() -> Finished:
    return Finished()


def test_the_next_model_is_the_old_one_plus_the_mean_update(finished: Finished) -> None:
    conclusion = concluded(finished)
    assert sorted(conclusion.contributors) == [1, 2, 3, 4, 5, 6]
    assert conclusion.model is not None
    step = conclusion.model.weights() - MODEL.weights()
    np.testing.assert_allclose(step, 350 * UNIT, rtol=1e-4)
    asked = 6 * TRAIN.evaluation_samples
    assert conclusion.metrics["fleet_accuracy"] == pytest.approx(21 / asked)
    assert conclusion.metrics["clipped"] == 0
    assert "accuracy" not in conclusion.metrics


def test_own_data_evaluate_the_new_model(finished: Finished) -> None:
    own = Dataset(
        np.zeros((4, 2), np.float32), np.zeros(4, np.int64), MODEL.features, MODEL.classes
    )
    conclusion = concluded(finished, evaluation=own)
    assert 0 <= conclusion.metrics["accuracy"] <= 1
    assert conclusion.metrics["loss"] > 0


def test_a_ring_whose_sum_is_wrong_is_left_out_and_named(finished: Finished) -> None:
    bad, good = finished.ended.sums
    damaged = evolve(bad, body=bad.body + np.uint64(1 << 11))
    conclusion = concluded(finished, Ended((damaged, good), ()))
    assert conclusion.contributors == good.names
    assert [void.ring for void in conclusion.voids] == [int(bad.label)]
    assert conclusion.voids[0].members == 3


def test_no_ring_gives_no_model(finished: Finished) -> None:
    conclusion = concluded(finished, Ended((), ()))
    assert conclusion.model is None
    assert conclusion.contributors == ()


def statistics_of(finished: Finished) -> Conclusion:
    return conclude(
        finished.announcing,
        finished.ended,
        private_key=paillier_key(256),
        model=MODEL,
        strategy=FedAvg(),
        evaluation=None,
    )


def without_samples(*numbers: int) -> Contribute:
    """Statistics in which these devices take away the samples of all others."""

    def count(name: str, _announce: Signed[Announce], _evaluate: bool) -> IntVector:
        vector = np.full(1 + 2 * len(MODEL.features), 100, np.int32)
        vector[0] = -32_000 if int(name[1:]) in numbers else 100
        return contribution(vector)

    return count


def test_statistics_of_no_samples_void_the_round_and_nothing_else() -> None:
    """Every value is in its range, so no other check notices."""
    conclusion = statistics_of(Finished(without_samples(3, 4), statistics_plan(TRAIN)))
    assert conclusion.model is None
    assert conclusion.contributors == ()
    assert {void.ring for void in conclusion.voids} == {1, 2}
    assert all("no samples" in void.reason for void in conclusion.voids)


def test_statistics_of_no_samples_in_one_ring_are_left_out_of_the_others() -> None:
    finished = Finished(without_samples(3), statistics_plan(TRAIN))
    (spoilt,) = [ring for ring in finished.ended.sums if 3 in ring.names]
    conclusion = statistics_of(finished)
    assert conclusion.model is not None
    assert set(conclusion.contributors) == {1, 2, 3, 4, 5, 6} - {*spoilt.names}
    (void,) = conclusion.voids
    assert (void.ring, void.members) == (int(spoilt.label), 3)
    assert "no samples" in void.reason
