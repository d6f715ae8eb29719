"""The benchmark of void rings: what it counts."""

from __future__ import annotations

from attrs import evolve
from benchmarks.voids.trouble import Trouble, watch_rings

from fedring.device import relay
from fedring.shared import messages, tokens


def test_without_trouble_all_are_in_every_sum() -> None:
    outcome = watch_rings(Trouble(4, 0.1), rounds=2, seed=1)
    assert outcome.rings == 2
    assert (outcome.void_share, outcome.void_without_calls, outcome.kept) == (0, 0, 1)


def test_who_dies_is_missed_by_a_call_and_missing_in_the_sum() -> None:
    outcome = watch_rings(Trouble(6, 5.0, deaths=60), rounds=5, seed=3)
    assert 0 < outcome.kept < 1
    assert outcome.void_share < outcome.void_without_calls


def test_who_is_cut_off_for_a_while_comes_back() -> None:
    outcome = watch_rings(Trouble(6, 5.0, outages=30), rounds=5, seed=3)
    assert outcome.void_share <= outcome.void_without_calls
    assert outcome.kept > 0.5


def test_members_that_wait_for_whole_tokens_are_missed_more_often() -> None:
    """By the time that a token has come round, more has happened."""
    deaths = Trouble(8, 5.0, deaths=8)
    at_once = watch_rings(deaths, rounds=12, seed=1)
    whole = watch_rings(evolve(deaths, whole_tokens=True), rounds=12, seed=1)
    assert whole.void_without_calls > at_once.void_without_calls
    assert relay.MAX_BROKEN == 3
    assert messages.CHUNK_BYTES == vars(tokens)["CHUNK_BYTES"] == 65_536


def test_thresholds_are_those_that_boards_are_enrolled_with() -> None:
    assert [Trouble(size, 0.1).threshold for size in (8, 16, 32)] == [3, 7, 7]
