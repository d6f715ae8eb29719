"""Who goes into which ring, who has no company, and who sits out."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.coordinator.rosters import (
    BENCH_AFTER,
    BENCH_ROUNDS,
    FORGIVEN_AFTER,
    Bench,
    Choice,
    Cohorts,
    choose,
    without_company,
)
from fedring.lab.simulate.cast import cast, device
from fedring.shared.envelopes import sign
from fedring.shared.identity import Identity
from fedring.shared.membership import Joined
from fedring.shared.messages import MAX_ROSTER, Ready, tag


def joined(
    number: int, threshold: int = 2, *, key: bytes = b"", who: Identity | None = None
) -> Joined:
    identity = who or device(number)
    ready = Ready(
        **tag("rehearsal", 1, 1, number),
        announce=bytes(32),
        certificate=identity.certificate,
        threshold=threshold,
        round_key=key or number.to_bytes(32, "little"),
    )
    return Joined(identity.peer, sign(ready, identity))


def numbers(choice: Choice) -> list[int]:
    return [one.number for one in choice.members]


# -- cohorts --------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=200), st.integers(2, 64))
def test_the_first_devices_are_dealt_evenly(devices: set[int], ring_size: int) -> None:
    cohorts = Cohorts()
    cohorts.deal(devices, ring_size)
    sizes = Counter(cohorts.table.values())
    assert cohorts.table.keys() == devices
    assert len(sizes) == -(-len(devices) // ring_size)
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert max(sizes.values()) <= ring_size


def test_twenty_four_devices_are_two_rings_of_twelve() -> None:
    cohorts = Cohorts()
    cohorts.deal(range(1, 25), 16)
    assert Counter(cohorts.table.values()) == {0: 12, 1: 12}


def test_a_later_device_joins_the_smallest_and_stays() -> None:
    cohorts = Cohorts({1: 0, 2: 0, 3: 1})
    assert [cohorts.of(number) for number in (9, 8, 7)] == [1, 0, 1]
    assert [cohorts.of(number) for number in (7, 8, 9, 1)] == [1, 0, 1, 0]
    assert cohorts.table == {1: 0, 2: 0, 3: 1, 9: 1, 8: 0, 7: 1}


def test_the_first_of_all_begins_a_cohort() -> None:
    cohorts = Cohorts()
    cohorts.deal([], 16)
    assert cohorts.table == {}
    assert cohorts.of(5) == 0


def test_no_cohort_grows_beyond_a_roster() -> None:
    cohorts = Cohorts(dict.fromkeys(range(1, MAX_ROSTER + 1), 0))
    assert cohorts.of(100) == 1


# -- the ring that they can form ------------------------------------------------------------


def test_those_who_are_ready_form_a_ring_in_order_of_their_numbers() -> None:
    choice = choose([joined(5), joined(1), joined(3)])
    assert numbers(choice) == [1, 3, 5]
    assert choice.turned_away == {}


def test_no_ring_below_the_highest_threshold_in_it() -> None:
    assert numbers(choose([joined(1), joined(2), joined(3)])) == [1, 2, 3]
    choice = choose([joined(1), joined(2)])
    assert numbers(choice) == []
    assert choice.turned_away.keys() == {1, 2}


def test_the_demanding_go_and_the_others_go_on() -> None:
    choice = choose([joined(1, 2), joined(2, 9), joined(3, 2), joined(4, 4), joined(5, 2)])
    assert numbers(choice) == [1, 3, 5]
    assert choice.turned_away == {
        2: "ring of 5, it answers above 9",
        4: "ring of 4, it answers above 4",
    }


def test_one_device_is_no_ring() -> None:
    assert choose([joined(1, 1)]).members == ()
    assert choose([]).members == ()


def test_a_ring_holds_sixty_four() -> None:
    choice = choose([joined(number) for number in range(1, 71)])
    assert numbers(choice) == list(range(1, 65))
    assert set(choice.turned_away) == set(range(65, 71))


def test_a_copied_round_key_costs_the_copier_its_place_and_nobody_else() -> None:
    copied = choose([joined(5, key=b"k" * 32), joined(1, key=b"k" * 32), joined(2), joined(3)])
    assert numbers(copied) == [2, 3, 5]
    assert "round key" in copied.turned_away[1]


def test_one_board_under_two_numbers_is_in_the_ring_once() -> None:
    again = cast().device(70, "b01")
    choice = choose([joined(1), joined(70, who=again), joined(2), joined(3)])
    assert numbers(choice) == [1, 2, 3]


@given(st.lists(st.integers(1, 64), min_size=0, max_size=12))
def test_every_member_of_a_ring_has_enough_company(thresholds: list[int]) -> None:
    candidates = [joined(number, t) for number, t in enumerate(thresholds, start=1)]
    choice = choose(candidates)
    assert len(choice.members) != 1
    assert all(one.ready.message.threshold < len(choice.members) for one in choice.members)
    assert {*numbers(choice), *choice.turned_away} == {one.number for one in candidates}
    for size in range(len(choice.members) + 1, len(candidates) + 1):
        content = [threshold for threshold in thresholds if threshold < size]
        assert len(content) < size or size < 2, "a larger ring was possible"


# -- the bench ------------------------------------------------------------------------------


def test_only_repeated_silence_benches() -> None:
    bench = Bench()
    for _ in range(BENCH_AFTER - 1):
        assert not bench.silent(7, 10)
    assert bench.rounds_left(7, 11) == 0
    assert bench.silent(7, 12)
    assert [bench.rounds_left(7, 13 + later) for later in range(BENCH_ROUNDS + 1)] == [3, 2, 1, 0]


def test_sums_make_up_for_a_silence() -> None:
    bench = Bench()
    bench.silent(7, 10)
    for _ in range(FORGIVEN_AFTER):
        bench.contributed(7)
    assert bench.strikes == {}
    assert not bench.silent(7, 12)
    assert bench.rounds_left(7, 13) == 0


@pytest.mark.parametrize("every", range(2, 10))
def test_whoever_breaks_rings_now_and_then_is_benched_if_it_is_often(every: int) -> None:
    bench = Bench()
    benched = False
    for number in range(200):
        if number % every:
            bench.contributed(7)
        else:
            benched |= bench.silent(7, number)
    assert benched == (every <= FORGIVEN_AFTER)


def test_whoever_comes_back_and_does_it_again_is_benched_at_once() -> None:
    bench = Bench()
    for number in range(9):
        bench.silent(7, number)
    assert bench.silent(7, 20)
    for _ in range(BENCH_AFTER * FORGIVEN_AFTER):
        bench.contributed(7)
    assert not bench.silent(7, 40)


def test_one_devices_silence_is_nobody_elses() -> None:
    bench = Bench()
    for number in (1, 2, 3):
        assert not bench.silent(number, 10)


@given(st.lists(st.integers(1, 7), max_size=7))
def test_nobody_is_left_out_in_vain(thresholds: list[int]) -> None:
    candidates = dict(enumerate(thresholds, start=1))
    together = candidates.keys() - without_company(candidates).keys()
    assert all(candidates[number] < len(together) for number in together)
    larger = itertools.chain.from_iterable(
        itertools.combinations(candidates, size)
        for size in range(len(together) + 1, len(candidates) + 1)
    )
    for names in larger:
        assert any(candidates[number] >= len(names) for number in names)
