"""Stories of a whole fleet on a calm network: epochs, late devices, thresholds, silent ones."""

import numpy as np
import pytest
from attrs import evolve

from fedring.device.effects import Joined
from fedring.lab.simulate.fleet import QUICK, Conclusion, SimulatedFleet
from fedring.lab.simulate.rehearsal import small_model
from fedring.lab.simulate.watch import Broken, Watch
from fedring.shared.contributions import contribution
from fedring.shared.effects import Report, Send
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.messages import COORDINATOR_NAME, Announce, Lap, Refused, Release
from fedring.shared.numbers import IntVector


def contribute(name: str, _announce: Signed[Announce], evaluate: bool) -> IntVector:
    return contribution(np.full(9, int(name[1:]), np.int32), evaluated=evaluate)


def fleet_of(*thresholds: int, ring_size: int = 16, seed: int = 0) -> SimulatedFleet:
    watch = Watch()
    fleet = SimulatedFleet(
        thresholds,
        small_model(9),
        contribute,
        terms=evolve(QUICK, size=ring_size),
        record=watch,
        seed=seed,
    )
    watch.fleet = fleet
    return fleet


def contributors(conclusion: Conclusion | None) -> list[int]:
    assert conclusion is not None
    return sorted(conclusion.opened.names) if conclusion.opened else []


def test_rounds_follow_each_other() -> None:
    fleet = fleet_of(2, 2, 2, 2)
    for number in range(1, 6):
        conclusion = fleet.run_round()
        assert contributors(conclusion) == [1, 2, 3, 4]
        assert conclusion is not None
        assert conclusion.announce.message.round == number
    assert fleet.record.faults == []


def test_a_new_epoch_begins_at_round_one_and_devices_follow() -> None:
    fleet = fleet_of(2, 2, 2, 2)
    for _ in range(3):
        fleet.run_round()
    fleet.begin_epoch()
    conclusion = fleet.run_round()
    assert contributors(conclusion) == [1, 2, 3, 4]
    assert conclusion is not None
    assert (conclusion.announce.message.epoch, conclusion.announce.message.round) == (2, 1)
    joined = [effect for _, _, effect in fleet.record.device_effects if isinstance(effect, Joined)]
    assert max((one.epoch, one.round) for one in joined) == (2, 1)


def test_without_a_new_epoch_a_lost_store_is_refused_by_every_device() -> None:
    fleet = fleet_of(2, 2, 2, 2)
    for _ in range(3):
        fleet.run_round()
    fleet.coordinator.last_round = 0
    with pytest.raises(Broken, match="no round number twice"):
        fleet.run_round()


def test_a_device_that_wants_more_company_says_why_and_the_others_go_on() -> None:
    fleet = fleet_of(2, 2, 2, 9, ring_size=8)
    assert contributors(fleet.run_round()) == [1, 2, 3]
    told = [
        effect.facts["reason"]
        for _, name, effect in fleet.record.device_effects
        if name == "b04" and isinstance(effect, Report) and "reason" in effect.facts
    ]
    assert told == ["rings have 8 members, this device answers above 9"]


def test_one_silent_between_list_and_release_costs_that_ring_that_round() -> None:
    fleet = fleet_of(*[1] * 6, ring_size=3)
    original = fleet.network.send

    def loses_releases(source: str, to: str, data: bytes) -> None:
        if source != "b03" or not isinstance(open_envelope(data).message, Release):
            original(source, to, data)

    fleet.network.send = loses_releases  # type: ignore[method-assign]
    conclusion = fleet.run_round()
    assert contributors(conclusion) == [2, 4, 6]
    assert conclusion is not None
    assert [void.unreleased for void in conclusion.ended.voids] == [(3,)]
    fleet.network.send = original  # type: ignore[method-assign]
    assert contributors(fleet.run_round()) == [1, 2, 3, 4, 5, 6]


def test_a_ring_takes_at_most_three_laps() -> None:
    fleet = fleet_of(*[1] * 5)
    original = fleet.network.send

    def loses_hops(source: str, to: str, data: bytes) -> None:
        if open_envelope(data).message.kind != "hop":
            original(source, to, data)

    fleet.network.send = loses_hops  # type: ignore[method-assign]
    conclusion = fleet.run_round()
    assert contributors(conclusion) == []
    laps = {
        message.lap
        for _, effect in fleet.record.coordinator_effects
        if isinstance(effect, Send)
        and isinstance(message := open_envelope(effect.data).message, Lap)
    }
    assert laps == {1, 2, 3}


def test_a_member_that_floods_its_neighbours_does_not_stop_the_ring() -> None:
    """10,000 junk messages, some signed: nothing is kept, the ring ends in its sum."""
    fleet = fleet_of(*[2] * 5)
    fleet.coordinator.begin_round()
    hostile = fleet.devices["b02"]
    about = b"x" * 32
    where = {"fleet": "simulated", "epoch": 1, "round": 1, "sender": 2}
    signed = sign(Refused(**where, about=about, reason="no"), hostile.identity).raw  # type: ignore[arg-type]

    def flood() -> None:
        for number in range(2000):
            for to in ("b01", "b03", "b04", "b05", COORDINATOR_NAME):
                fleet.network.send("b02", to, signed if number % 50 == 0 else b"junk")

    fleet.network.at(1.0, flood)
    assert fleet.network.run(lambda: bool(fleet.record.conclusions), 600)
    assert contributors(fleet.record.conclusions[0]) == [1, 2, 3, 4, 5]
    assert {fault.sender for _, fault in fleet.record.faults} <= {"b02", ""}


# -- the watch itself can see ---------------------------------------------------------------


def test_the_watch_sees_a_wrong_sum() -> None:
    fleet = fleet_of(2, 2, 2)
    fleet.coordinator.begin_round()
    fleet.network.run(lambda: len(fleet.record.contributions) == 3, 600)
    fleet.record.contributions[1, "b02"][-1][0] += 1
    with pytest.raises(Broken, match="the sum is exact"):
        fleet.network.run(lambda: bool(fleet.record.conclusions), 600)


def test_the_watch_sees_a_release_below_the_threshold() -> None:
    fleet = fleet_of(2, 2, 2)
    fleet.devices["b01"].threshold = 3
    with pytest.raises(Broken, match="more than its threshold"):
        fleet.run_round()


def test_the_watch_sees_a_disk_that_forgets() -> None:
    fleet = fleet_of(2, 2, 2)
    fleet.run_round()
    device = fleet.devices["b01"]
    device.crash()
    device.disk.joined = (0, 0)
    fleet.coordinator.last_round -= 1
    fleet.record._announces.clear()  # type: ignore[attr-defined]
    device.start()
    with pytest.raises(Broken, match="joined grows"):
        fleet.run_round()
