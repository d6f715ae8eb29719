"""Hundreds of schedules of faults, each checked at every step by somebody who sees everything.

A failing one prints its seed: `run(Schedule.draw(SEED))` repeats it.
"""

from collections import Counter

import pytest

from fedring.lab.simulate.network import CALM, Faults
from fedring.lab.simulate.schedules import Fault, Happening, Schedule, run

BATCHES, BATCH = 10, 20


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_schedule_breaks_a_promise_and_most_rounds_end_in_a_sum(batch: int) -> None:
    outcomes = [run(Schedule.draw(seed)) for seed in range(batch * BATCH, (batch + 1) * BATCH)]
    rounds = sum(outcome.rounds for outcome in outcomes)
    sums = sum(outcome.sums for outcome in outcomes)
    assert sums >= rounds / 2


def test_the_schedules_hold_every_kind_of_fault() -> None:
    """At least one in twenty has it, so that what is tested is tested often."""
    drawn = [Schedule.draw(seed) for seed in range(BATCHES * BATCH)]
    kinds = Counter(
        kind
        for schedule in drawn
        for kind in {one.fault for happenings in schedule.rounds for one in happenings}
    )
    assert {kind: kinds[kind] for kind in Fault if kinds[kind] < len(drawn) / 20} == {}
    for share in ("loss", "duplicates", "reordered"):
        assert sum(getattr(one.faults, share) > 0 for one in drawn) > len(drawn) / 20
    assert sum(one.n_weights > 16_000 for one in drawn) > len(drawn) / 40, "several chunks"
    assert sum(len(one.thresholds) > one.ring_size for one in drawn) > len(drawn) / 20


def schedule(
    *happenings: Happening,
    n_devices: int = 5,
    ring_size: int = 9,
    threshold: int = 1,
    faults: Faults = CALM,
    seed: int = 0,
) -> Schedule:
    """Two rounds; what happens, happens in the first."""
    return Schedule(
        seed=seed,
        thresholds=(threshold,) * n_devices,
        ring_size=ring_size,
        n_weights=5,
        faults=faults,
        rounds=(happenings, ()),
    )


STEPS = ("joined", "ready", "taken", "hop", "chunk", "progress", "here", "spent", "release")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("who", [0, 2, 4], ids=["first", "middle", "last"])
def test_a_device_that_dies_before_any_step_costs_one_round_at_most(step: str, who: int) -> None:
    dies = Happening(at=0.0, fault=Fault.POWER, who=who, lasts_s=300.0, before=step)
    outcome = run(schedule(dies))
    assert outcome.sums + outcome.voids >= 2
    assert outcome.sums >= 1
    if step not in ("spent", "release"):
        assert outcome.sums == 2, "before the list it is gone round, or left out of a lap"


@pytest.mark.parametrize("step", STEPS)
def test_a_device_that_restarts_at_any_step_is_in_the_next_round(step: str) -> None:
    dies = Happening(at=0.0, fault=Fault.POWER, who=1, lasts_s=4.0, before=step)
    assert run(schedule(dies)).sums >= 1


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, 2.0, 2.9, 2.95, 3.0, 3.01, 3.02, 3.05, 3.1])
def test_a_coordinator_that_dies_loses_that_round_and_no_more(at: float) -> None:
    dies = Happening(at=at, fault=Fault.COORDINATOR_CRASH, who=0, lasts_s=1.0)
    outcome = run(schedule(dies))
    assert outcome.rounds == 2
    assert outcome.sums == 2 - outcome.lost


@pytest.mark.parametrize("lasts_s", [0.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("at", [0.1, 2.0, 2.9, 3.0])
def test_a_coordinator_that_is_cut_off_for_a_while_costs_nothing(at: float, lasts_s: float) -> None:
    cut = Happening(at=at, fault=Fault.COORDINATOR_CUT, who=0, lasts_s=lasts_s)
    assert run(schedule(cut)).sums == 2


def test_a_third_of_all_messages_lost_still_ends_in_something() -> None:
    for seed in range(6):
        outcome = run(schedule(faults=Faults(loss=0.33), seed=seed))
        assert outcome.sums + outcome.voids >= 2


def test_everything_twice_and_out_of_order_changes_nothing() -> None:
    for seed in range(6):
        faults = Faults(duplicates=1.0, reordered=1.0, most_delay_s=0.3)
        assert run(schedule(faults=faults, seed=seed)).sums == 2
