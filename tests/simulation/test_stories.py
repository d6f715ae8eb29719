"""Stories of a whole fleet on a calm network: epochs, late devices, thresholds, silent ones."""

import numpy as np
from attrs import evolve

from fedring.device.effects import Joined
from fedring.lab.simulate.cast import cast
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import FLEET, QUICK, SimulatedFleet
from fedring.lab.simulate.network import Hold
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.rehearsal import small_model
from fedring.lab.simulate.watch import Watch
from fedring.shared.contributions import contribution
from fedring.shared.effects import Report, Send
from fedring.shared.envelopes import Signed, sign
from fedring.shared.messages import COORDINATOR_NAME, Announce, Lap, Refused
from fedring.shared.numbers import IntVector


def contribute(name: str, _announce: Signed[Announce], evaluate: bool) -> IntVector:
    return contribution(np.full(9, int(name[1:]), np.int32), evaluated=evaluate)


def stage_of(fleet: SimulatedFleet, ring: int) -> str | None:
    """How far a ring of the running round is; None before it is formed."""
    round_ = fleet.coordinator.round
    return None if round_ is None else round_.stages.get(ring)


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
    watch.attend(fleet)
    return fleet


def contributors(conclusion: Concluded | None) -> list[int]:
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
    fleet = SimulatedFleet([2, 2, 2, 2], small_model(9), contribute)
    for _ in range(3):
        fleet.run_round()
    fleet.coordinator.die()
    fleet.coordinator.lose_store(cast(FLEET).revocation())
    fleet.coordinator.start()
    assert contributors(fleet.run_round()) == []
    told = [
        (name, effect.facts["reason"])
        for _, name, effect in fleet.record.device_effects
        if isinstance(effect, Report) and "reason" in effect.facts
    ]
    reason = "round 1/1 lies in the past"
    assert sorted(told) == [(f"b{number:02}", reason) for number in (1, 2, 3, 4)]


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
    fleet.when(lambda: stage_of(fleet, 2) == "list", lambda: fleet.network.hold("b03", Hold.MUTE))
    conclusion = fleet.run_round()
    assert contributors(conclusion) == [2, 4, 6]
    assert conclusion is not None
    assert [void.unreleased for void in conclusion.ended.voids] == [(3,)]
    fleet.network.free("b03", Hold.MUTE)
    assert contributors(fleet.run_round()) == [1, 2, 3, 4, 5, 6]


def test_a_ring_takes_at_most_three_laps() -> None:
    fleet = fleet_of(*[1] * 5)
    fleet.network.drops = lambda _source, _to, data: message_in(data).kind == "hop"
    conclusion = fleet.run_round()
    assert contributors(conclusion) == []
    laps = {
        message.lap
        for _, effect in fleet.record.coordinator_effects
        if isinstance(effect, Send) and isinstance(message := message_in(effect.data), Lap)
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
