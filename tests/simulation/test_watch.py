"""The watch itself can see: promises that are broken around state machines that keep theirs."""

import numpy as np
import pytest

from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.network import Hold, Note, Passage
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.rehearsal import small_model
from fedring.lab.simulate.watch import Broken, Watch, can_form_a_ring, liveness
from fedring.lab.simulate.watch.causes import AFTERMATH_S, OWN_FAULT, Causes, Span
from fedring.shared.contributions import contribution
from fedring.shared.envelopes import Signed
from fedring.shared.messages import COORDINATOR_NAME, Announce
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


def drop_unseen(fleet: SimulatedFleet, kind: str, *sources: str) -> None:
    """Messages of a kind vanish, and the network does not know."""
    fleet.network.drops = lambda source, _to, data: (
        source in sources and message_in(data).kind == kind
    )
    fleet.network._lose = lambda *_: None  # type: ignore[method-assign]


def cut_off(fleet: SimulatedFleet, name: str, seconds: float) -> None:
    network = fleet.network
    network.hold(name, Hold.CUT)
    network.at(network.now + seconds, lambda: network.free(name, Hold.CUT))


def list_is_out(fleet: SimulatedFleet) -> bool:
    round_ = fleet.coordinator.round
    return bool(round_ and "list" in round_.stages.values())


def test_it_sees_a_ring_that_ends_void_for_no_reason(fleet: SimulatedFleet) -> None:
    drop_unseen(fleet, "release", "b02")
    with pytest.raises(Broken, match=r"whoever stays up gives its release.*'b02'"):
        fleet.run_round()


@pytest.mark.parametrize("who", ["b01", "b02"])
def test_a_short_outage_excuses_no_missing_release(fleet: SimulatedFleet, who: str) -> None:
    drop_unseen(fleet, "release", "b02")
    fleet.when(lambda: list_is_out(fleet), lambda: cut_off(fleet, who, 1.0))
    with pytest.raises(Broken, match=r"whoever stays up gives its release.*'b02'"):
        fleet.run_round()


def test_a_long_outage_excuses_a_missing_release(fleet: SimulatedFleet) -> None:
    drop_unseen(fleet, "release", "b02")
    fleet.when(lambda: list_is_out(fleet), lambda: cut_off(fleet, "b02", 5.0))
    concluded = fleet.run_round()
    assert concluded is not None
    assert [void.reason for void in concluded.ended.voids] == ["no release from b02"]


def test_it_sees_a_member_that_is_dropped_for_no_reason(fleet: SimulatedFleet) -> None:
    drop_unseen(fleet, "here", "b02")
    fleet.when(lambda: fleet.coordinator.round is not None, lambda: cut_off(fleet, "b01", 0.2))
    with pytest.raises(Broken, match=r"nobody is dropped for nothing.*'b02'"):
        fleet.run_round()


def test_it_sees_laps_that_are_in_vain_for_no_reason(fleet: SimulatedFleet) -> None:
    drop_unseen(fleet, "hop", "b01", "b02", "b03")
    with pytest.raises(Broken, match="no lap is in vain for nothing"):
        fleet.run_round()


def test_it_sees_devices_that_find_no_ring(fleet: SimulatedFleet) -> None:
    drop_unseen(fleet, "ready", "b02")
    with pytest.raises(Broken, match="those who stay up form a ring"):
        fleet.run_round()


def deafen_coordinator(fleet: SimulatedFleet, seconds: float) -> None:
    """As soon as the first `ready` has come: from then on its deadline runs."""
    network = fleet.network

    def begin() -> None:
        network.hold(COORDINATOR_NAME, Hold.DEAF)
        network.at(network.now + seconds, lambda: network.free(COORDINATOR_NAME, Hold.DEAF))

    def a_ready_has_come() -> bool:
        return fleet.coordinator.round is not None and bool(fleet.coordinator.round._waiting)

    fleet.when(a_ready_has_come, begin)


def test_a_coordinator_that_hears_nobody_until_the_deadline_finds_no_ring(
    fleet: SimulatedFleet,
) -> None:
    deafen_coordinator(fleet, 40.0)
    concluded = fleet.run_round()
    assert concluded is not None
    assert (concluded.ended.sums, concluded.ended.voids) == ((), ())


def test_it_sees_devices_that_find_no_ring_though_the_coordinator_heard_them_again(
    fleet: SimulatedFleet,
) -> None:
    drop_unseen(fleet, "ready", "b02")
    deafen_coordinator(fleet, 3.0)
    with pytest.raises(Broken, match="those who stay up form a ring"):
        fleet.run_round()


@pytest.mark.parametrize("deaf_s", [0.0, 0.5])
def test_it_sees_a_round_that_ends_without_a_ring_long_before_its_deadline(
    fleet: SimulatedFleet, deaf_s: float
) -> None:
    def close() -> None:
        assert fleet.coordinator.round is not None
        fleet.coordinator.round._closed = True

    if deaf_s:
        deafen_coordinator(fleet, deaf_s)
    fleet.when(lambda: bool(fleet.coordinator.round and fleet.coordinator.round._waiting), close)
    with pytest.raises(Broken, match="those who stay up form a ring"):
        fleet.run_round()


def test_it_sees_a_ring_that_does_not_end(
    fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LONGEST_RING_S", 0.01)
    with pytest.raises(Broken, match="every ring ends"):
        fleet.run_round()


def test_benched_or_away_devices_form_no_ring() -> None:
    assert can_form_a_ring([1, 1])
    assert can_form_a_ring([1, 5, 1])
    assert can_form_a_ring([2, 2, 2])
    assert not can_form_a_ring([2, 2])
    assert not can_form_a_ring([1, 2, 3])
    assert not can_form_a_ring([0])


# -- causes ----------------------------------------------------------------------------------


def note(at: float, who: str, text: str, *, sound: bool) -> Note:
    return Note(at, who, text, sound)


def test_a_trouble_lasts_from_its_begin_to_a_while_after_its_end() -> None:
    log = [note(3.0, "b01", "cut off", sound=False), note(4.0, "b01", "no longer", sound=True)]
    causes = Causes((), 0.0, log, 20.0)
    assert not causes.troubled("b01", Span(0.0, 2.9))
    assert causes.troubled("b01", Span(3.5, 3.6))
    assert causes.troubled("b01", Span(4.0 + AFTERMATH_S, 10.0))
    assert not causes.troubled("b01", Span(4.1 + AFTERMATH_S, 10.0))
    assert not causes.troubled("b02", Span(0.0, 20.0))
    assert causes.longest_calm_s(("b01", "b02"), Span(2.0, 9.0)) == 5.0


def test_a_trouble_that_began_before_or_has_not_ended_is_one() -> None:
    log = [note(3.0, "b02", "dies", sound=False)]
    causes = Causes({"b01"}, 1.0, log, 9.0)
    assert causes.troubled("b01", Span(1.0, 1.1))
    assert causes.troubled("b02", Span(8.0, 9.0))
    assert causes.died("b02", Span(2.0, 3.0))
    assert not causes.died("b02", Span(3.1, 9.0))
    assert causes.longest_calm_s(("b01",), Span(1.0, 9.0)) == 0.0


def test_lost_messages_count_where_the_network_lost_them() -> None:
    log = [
        Passage(1.0, 1.1, "b01", "b02", b"", "lost"),
        Passage(1.0, 1.1, "b01", "b02", b""),
        Passage(1.0, 1.1, "b02", "b03", b"", "lost"),
        Passage(1.0, 1.1, "b02", "b01", b"", OWN_FAULT),
        Passage(5.0, 5.1, "b02", "b01", b"", "the broker restarted"),
    ]
    causes = Causes((), 0.0, log, 9.0)
    assert causes.n_lost(("b01", "b02"), Span(0.0, 2.0)) == 1
    assert causes.n_lost(("b01", "b02"), Span(0.0, 9.0)) == 2
    assert causes.n_lost(("b01", "b02", "b03"), Span(0.0, 9.0)) == 3
