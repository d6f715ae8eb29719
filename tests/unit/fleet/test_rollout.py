"""Waves of an update: who is asked when, and what stops it."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.fleet.rollout import (
    LOST_S,
    SILENT_S,
    STEADY_S,
    Heard,
    Record,
    Rollout,
    Shelved,
    Wave,
    Withdraw,
)


def rollout_of(n_boards: int, *, away: int = 0) -> Rollout:
    names = [f"b{number:02d}" for number in range(1, n_boards + 1)]
    rollout = Rollout(names, 5, steady_s=0.0)
    for name in names[: n_boards - away]:
        rollout.present(name, is_there=True)
    return rollout


def follow(rollout: Rollout, wave: Wave, now: float, state: str = "updated") -> None:
    """Let all boards of a wave that are there come to this end."""
    for name, board in rollout.boards.items():
        if board.present and (wave.names is None or name in wave.names):
            rollout.heard(name, Heard(wave.number, "fetching", 0.5), now)
            rollout.heard(name, Heard(wave.number, state), now)


@pytest.mark.parametrize(
    ("n_boards", "sizes"), [(1, [1, None]), (2, [1, None]), (3, [1, 1, None]), (40, [1, 4, None])]
)
def test_one_then_a_tenth_then_all(n_boards: int, sizes: list[int | None]) -> None:
    rollout = rollout_of(n_boards)
    asked = []
    for now in (3.0 * number for number in range(len(sizes))):
        (wave,) = rollout.tick(now)
        assert isinstance(wave, Wave)
        asked.append(wave)
        assert rollout.tick(now + 1) == [], "a wave waits for the one before"
        assert rollout.complete == (n_boards == 1 and wave.names is None)
        follow(rollout, wave, now + 2)
    assert rollout.tick(10.0) == []
    assert rollout.complete
    assert [None if wave.names is None else len(wave.names) for wave in asked] == sizes
    assert [wave.number for wave in asked] == list(range(5, 5 + len(sizes)))
    named = [name for wave in asked for name in wave.names or ()]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("state", ["rolled_back", "refused"])
@pytest.mark.parametrize("at_wave", [1, 2, 3])
def test_the_first_failure_stops_it(state: str, at_wave: int) -> None:
    rollout = rollout_of(40)
    wave = Wave(0, ())
    for number in range(1, at_wave + 1):
        (effect,) = rollout.tick(0.0)
        assert isinstance(effect, Wave)
        wave = effect
        if number < at_wave:
            follow(rollout, wave, 0.0)
    name = wave.names[0] if wave.names else "b30"
    rollout.heard(name, Heard(wave.number, state, reason="no READY"), 1.0)
    assert rollout.tick(1.0) == [Withdraw()]
    assert rollout.stopped == f"{name}: {state}: no READY"
    assert rollout.tick(2.0) == []
    assert not rollout.complete


def test_a_board_that_was_well_and_goes_back_later_stops_it() -> None:
    rollout = rollout_of(40)
    (wave,) = rollout.tick(0.0)
    assert isinstance(wave, Wave)
    follow(rollout, wave, 0.0)
    rollout.tick(0.0)
    rollout.heard("b01", Heard(wave.number, "rolled_back", reason="ended 3 times"), 9.0)
    assert rollout.tick(9.0) == [Withdraw()]


def test_a_bad_agent_that_ends_after_ready_stays_on_the_first_board() -> None:
    names = [f"b{number:02d}" for number in range(1, 21)]
    rollout = Rollout(names, 5)
    for name in names:
        rollout.present(name, is_there=True)
    (wave,) = rollout.tick(0.0)
    assert isinstance(wave, Wave)
    rollout.heard("b01", Heard(wave.number, "updated"), 40.0)
    assert rollout.tick(40.0 + STEADY_S - 1) == []
    rollout.heard("b01", Heard(wave.number, "rolled_back", reason="ended 3 times"), 100.0)
    assert rollout.tick(100.0) == [Withdraw()]
    assert rollout.waves == [wave], "nobody else was asked"


def test_the_next_wave_begins_when_the_last_one_has_run_for_a_while() -> None:
    rollout = Rollout(["b01", "b02"], 5)
    rollout.present("b01", is_there=True)
    rollout.present("b02", is_there=True)
    (wave,) = rollout.tick(0.0)
    assert isinstance(wave, Wave)
    rollout.heard("b01", Heard(wave.number, "updated"), 40.0)
    assert rollout.tick(40.0 + STEADY_S - 1) == []
    assert rollout.tick(40.0 + STEADY_S) == [Wave(6, None)]


def test_a_board_that_begins_and_falls_silent_stops_it() -> None:
    rollout = rollout_of(3)
    (wave,) = rollout.tick(0.0)
    assert isinstance(wave, Wave)
    rollout.heard("b01", Heard(wave.number, "installing"), 10.0)
    rollout.present("b01", is_there=False)
    assert rollout.tick(10.0 + LOST_S - 1) == []
    assert rollout.tick(10.0 + LOST_S) == [Withdraw()]
    assert rollout.stopped == "b01: lost: said installing, and nothing more for 15 minutes"


def test_a_board_that_says_what_nobody_knows_holds_no_wave_for_ever() -> None:
    """Also when it always says something else."""
    rollout = rollout_of(2)
    (wave,) = rollout.tick(0.0)
    assert isinstance(wave, Wave)
    for second in range(1, int(LOST_S)):
        assert rollout.heard("b01", Heard(wave.number, f"thinking {second}"), float(second))
        assert rollout.tick(float(second)) == []
    assert rollout.tick(LOST_S) == [Withdraw()]
    said = f"thinking {int(LOST_S) - 1}"
    assert rollout.stopped == f"b01: lost: said {said}, and nothing more for 15 minutes"


def test_a_board_that_never_answers_is_passed_over() -> None:
    rollout = rollout_of(3)
    (first,) = rollout.tick(0.0)
    (second,) = rollout.tick(SILENT_S)
    assert isinstance(first, Wave)
    assert isinstance(second, Wave)
    assert (first.names, second.names) == (("b01",), ("b02",))
    assert rollout.boards["b01"].state == "silent"
    follow(rollout, second, SILENT_S)
    (third,) = rollout.tick(SILENT_S)
    assert third == Wave(7, None)
    follow(rollout, Wave(7, ("b03",)), SILENT_S)
    assert rollout.complete


def test_nobody_who_takes_updates() -> None:
    rollout = rollout_of(2)
    rollout.tick(0.0)
    rollout.tick(SILENT_S)
    assert rollout.tick(2 * SILENT_S) == [Withdraw()]
    assert rollout.stopped == "b01, b02: no answer to the order"


def test_boards_that_are_away_follow_later() -> None:
    rollout = rollout_of(4, away=3)
    (wave,) = rollout.tick(0.0)
    assert wave == Wave(5, ("b01",))
    follow(rollout, Wave(5, ("b01",)), 0.0)
    assert rollout.tick(0.0) == [Wave(6, None)]
    assert rollout.complete, "all that are there"
    assert [board.state for _, board in rollout.rows()] == ["updated", "away", "away", "away"]
    rollout.present("b02", is_there=True)
    assert not rollout.complete
    rollout.heard("b02", Heard(6, "updated"), 1.0)
    assert rollout.complete


def test_nobody_is_there_yet() -> None:
    rollout = rollout_of(2, away=2)
    assert rollout.tick(0.0) == []
    assert rollout.tick(1000.0) == []
    rollout.present("b02", is_there=True)
    assert rollout.tick(1001.0) == [Wave(5, ("b02",))]


def test_words_about_other_orders_count_for_nothing() -> None:
    rollout = rollout_of(2)
    rollout.tick(0.0)
    assert not rollout.heard("b01", Heard(4, "rolled_back"), 0.0)
    assert not rollout.heard("b09", Heard(5, "rolled_back"), 0.0)
    assert rollout.tick(1.0) == []
    assert rollout.boards["b01"].state == "waiting"


def test_a_new_process_goes_on_where_the_old_one_was() -> None:
    first = rollout_of(40)
    (one,) = first.tick(0.0)
    assert isinstance(one, Wave)
    follow(first, one, 0.0)
    (tenth,) = first.tick(0.0)
    assert isinstance(tenth, Wave)
    # What is retained on the broker is heard again.
    second = Rollout(first.boards, 7, first.waves, steady_s=0.0)
    for name in second.boards:
        second.present(name, is_there=True)
    second.heard("b01", Heard(5, "updated"), 0.0)
    assert second.tick(0.0) == [], "the tenth is still at work"
    follow(second, tenth, 1.0)
    assert second.tick(1.0) == [Wave(7, None)]


words = st.sampled_from(["fetching", "installing", "updated", "rolled_back", "refused", "nonsense"])


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), words), max_size=60))
def test_whatever_is_heard_nobody_is_asked_after_a_failure(
    n_boards: int, heard: list[tuple[int, str]]
) -> None:
    rollout = rollout_of(n_boards)
    failed = False
    for now, (index, state) in enumerate(heard):
        effects = rollout.tick(float(now))
        assert not (failed and any(isinstance(effect, Wave) for effect in effects))
        name = f"b{index % n_boards + 1:02d}"
        asked = {n for wave in rollout.waves for n in wave.names or rollout.boards}
        if rollout.waves and name in asked and not rollout.stopped:
            rollout.heard(name, Heard(rollout.waves[-1].number, state), float(now))
        failed = any(board.state in {"rolled_back", "refused"} for board in rollout.boards.values())
    numbers = [wave.number for wave in rollout.waves]
    assert numbers == sorted(set(numbers))


def test_a_record_is_read_back() -> None:
    record = Record(
        last_number=7,
        version="0.2.0",
        shelved=(Shelved("cp311", "aarch64", "ab" * 32, 9),),
        offered=("ab" * 32,),
        waves=(Wave(6, ("b01",)), Wave(7, None)),
    )
    assert Record.from_fields(attrs.asdict(record)) == record
