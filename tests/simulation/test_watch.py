"""The watch itself can see: promises that are broken around state machines that keep theirs."""

import numpy as np
import pytest

from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.rehearsal import small_model
from fedring.lab.simulate.watch import Broken, Watch
from fedring.shared.contributions import contribution
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce
from fedring.shared.numbers import IntVector


def contribute(name: str, _announce: Signed[Announce], evaluate: bool) -> IntVector:
    return contribution(np.full(9, int(name[1:]), np.int32), evaluated=evaluate)


@pytest.fixture
def fleet() -> SimulatedFleet:
    watch = Watch()
    fleet = SimulatedFleet((2, 2, 2), small_model(9), contribute, record=watch, quick=True)
    watch.attend(fleet)
    return fleet


def test_it_sees_nothing_where_all_is_well(fleet: SimulatedFleet) -> None:
    for _ in range(2):
        concluded = fleet.run_round()
        assert concluded is not None
        assert concluded.opened is not None


def test_it_sees_a_release_below_the_threshold(fleet: SimulatedFleet) -> None:
    fleet.devices["b01"].threshold = 3
    with pytest.raises(Broken, match="more than its threshold"):
        fleet.run_round()


def test_it_sees_a_release_for_a_list_that_nobody_asked(fleet: SimulatedFleet) -> None:
    watch = fleet.record
    see = watch.coordinator_did
    watch.coordinator_did = lambda effect, now: (  # type: ignore[method-assign]
        None if "list" in repr(getattr(effect, "data", b"")) else see(effect, now)
    )
    with pytest.raises(Broken, match="a release is for a list that was asked"):
        fleet.run_round()


def test_it_sees_a_disk_that_was_not_synced(fleet: SimulatedFleet) -> None:
    for device in fleet.devices.values():
        device.sync = lambda: None  # type: ignore[method-assign]
    with pytest.raises(Broken, match="an evaluation is durable before the work"):
        fleet.run_round()


def test_it_sees_a_version_that_no_round_made(fleet: SimulatedFleet) -> None:
    fleet.run_round()
    fleet.coordinator.store.rollback(0)
    with pytest.raises(Broken, match="the history is what rounds made"):
        fleet.run_round()


def test_it_sees_a_store_that_goes_back(fleet: SimulatedFleet) -> None:
    fleet.run_round()
    fleet.coordinator.die()
    fleet.coordinator.lose_store(fleet.coordinator._revocation)
    fleet.coordinator.start()
    with pytest.raises(Broken, match="no round number twice"):
        fleet.run_round()


def test_it_sees_a_ring_that_ends_void_for_no_reason(fleet: SimulatedFleet) -> None:
    fleet.network.drops = lambda _source, _to, data: message_in(data).kind == "release"
    fleet.network._lose = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(Broken, match="undisturbed rings end in sums"):
        fleet.run_round()
