"""What an announce asks for, from the owner's settings."""

import numpy as np

from fedring.coordinator.planning import plan_of, terms_of
from fedring.coordinator.settings import Ring, Training
from fedring.shared.networks import MEAN, SPREAD, initialise

MODEL = initialise("softmax", ["x", "y"], ["a", "b"])
NORMALISED = MODEL.with_arrays(**{MEAN: np.zeros(2, np.float32), SPREAD: np.ones(2, np.float32)})


def test_statistics_come_first_and_training_after_them() -> None:
    assert plan_of(Training(), MODEL).task == "statistics"
    assert plan_of(Training(), NORMALISED).task == "train"


def test_without_statistics_training_begins_at_once() -> None:
    assert plan_of(Training(statistics=False), MODEL).task == "train"


def test_the_plan_says_what_the_owner_set() -> None:
    training = Training(epochs=3, batch=8, rate=0.5, clip=1.5, value_range=0.5)
    plan = plan_of(training, NORMALISED)
    assert (plan.epochs, plan.batch, plan.rate, plan.clip, plan.value_range) == (
        3,
        8,
        0.5,
        1.5,
        0.5,
    )


def test_a_lap_has_the_longer_the_more_members_and_values_and_the_slower_the_link() -> None:
    base = terms_of(Ring(), 1_000, members=8, rate=1e5)
    assert terms_of(Ring(), 1_000_000, members=8, rate=1e5).lap_s > base.lap_s
    assert terms_of(Ring(), 1_000, members=64, rate=1e5).lap_s > base.lap_s
    assert terms_of(Ring(), 1_000, members=8, rate=1e3).lap_s > base.lap_s
    assert base.size == Ring().size
