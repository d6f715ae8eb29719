"""Nobody is left behind for being slow: rounds with several cohorts on a virtual clock."""

import numpy as np
import pytest
from attrs import evolve

from fedring.coordinator.rosters import BENCH_ROUNDS
from fedring.device.effects import Joined
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import QUICK, SimulatedFleet
from fedring.lab.simulate.network import Hold
from fedring.shared.contributions import contribution
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce
from fedring.shared.networks import initialise
from fedring.shared.numbers import IntVector

MODEL = initialise("softmax", ["x", "y"], ["a", "b"], seed=1)


def contribute(_name: str, _announce: Signed[Announce], evaluate: bool) -> IntVector:
    return contribution(np.ones(MODEL.n_weights, np.int32), evaluated=evaluate)


def fleet_of(n_devices: int, *, size: int = 2, threshold: int = 1) -> SimulatedFleet:
    terms = evolve(QUICK, size=size)
    return SimulatedFleet([threshold] * n_devices, MODEL, contribute, terms=terms)


def contributors(conclusion: Concluded | None) -> list[int]:
    assert conclusion is not None
    return sorted(conclusion.opened.names) if conclusion.opened else []


def away_from(fleet: SimulatedFleet, name: str, start: float, end: float) -> None:
    """Cut a device off for a while; nobody tells the coordinator."""
    now = fleet.network.now
    fleet.network.at(now + start, lambda: fleet.network.hold(name, Hold.CUT))
    fleet.network.at(now + end, lambda: fleet.network.free(name, Hold.CUT))


def test_a_cohort_that_trains_longer_than_the_other_rings_run_contributes() -> None:
    fleet = fleet_of(4)  # cohorts 1 and 3, 2 and 4
    for slow in ("b02", "b04"):
        away_from(fleet, slow, 0.0, 12.0)
    assert contributors(fleet.run_round()) == [1, 2, 3, 4]


def test_late_members_of_a_formed_cohort_do_not_close_the_door_on_another() -> None:
    fleet = fleet_of(6, size=3)  # cohorts 1 3 5, 2 4 6
    for slow in ("b02", "b04", "b06"):
        away_from(fleet, slow, 0.0, 12.0)
    away_from(fleet, "b05", 0.0, 6.0)
    fleet.coordinator.begin_round()
    fleet.coordinator.seen("b05", online=False)
    assert fleet.network.run(lambda: bool(fleet.record.conclusions), 600)
    assert contributors(fleet.record.conclusions[-1]) == [1, 2, 3, 4, 6]


def test_a_device_that_never_answers_costs_the_ready_time_and_no_more() -> None:
    fleet = fleet_of(6, size=3)
    began = fleet.network.now
    fleet.coordinator.begin_round()
    fleet.network.hold("b01", Hold.CUT)
    assert fleet.network.run(lambda: bool(fleet.record.conclusions), 600)
    assert contributors(fleet.record.conclusions[-1]) == [2, 3, 4, 5, 6]
    assert fleet.network.now - began < 2 * QUICK.ready_s


@pytest.mark.parametrize("seed", range(5))
def test_a_device_that_restarts_between_list_and_release_voids_its_ring_unbenched(
    seed: int,
) -> None:
    fleet = SimulatedFleet([2] * 4, MODEL, contribute, terms=evolve(QUICK, size=4), seed=seed)
    victim = fleet.devices["b02"]

    def restart() -> None:
        victim.die()
        victim.start()

    def asked() -> bool:
        stages = fleet.coordinator.round.stages if fleet.coordinator.round else {}
        return "list" in stages.values()

    fleet.coordinator.begin_round()
    fleet.when(asked, restart)
    began = fleet.network.now
    assert fleet.network.run(lambda: bool(fleet.record.conclusions), began + 600)
    conclusion = fleet.record.conclusions[-1]
    if conclusion.opened is None:  # the restart came before the release, not after it
        assert conclusion.ended.voids[0].unreleased == ()
        assert "left between list and release" in conclusion.ended.voids[0].reason
        assert fleet.coordinator.store.devices.bench() == ({}, {})
    assert contributors(fleet.run_round()) == [1, 2, 3, 4]


def test_a_benched_device_does_not_hold_up_its_cohort() -> None:
    fleet = fleet_of(4, size=4)
    fleet.run_round()
    store = fleet.coordinator.store
    store.devices.save_bench({}, {1: store.last_round() + 1 + BENCH_ROUNDS})
    began = fleet.network.now
    assert contributors(fleet.run_round()) == [2, 3, 4]
    assert fleet.network.now - began < QUICK.ready_s
    joined = [d for _, d, effect in fleet.record.device_effects if isinstance(effect, Joined)]
    assert "b01" in joined
