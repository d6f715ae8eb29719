"""Schedules of faults, each checked at every step by somebody who sees everything.

More of them: `fedring simulate faults`. A failing one prints itself as a test.
"""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from fedring.lab.processes import Child
from fedring.lab.programs import FEDRING
from fedring.lab.simulate import campaign, schedules
from fedring.lab.simulate.cli import command
from fedring.lab.simulate.network import CALM, Faults
from fedring.lab.simulate.running import Outcome, run
from fedring.lab.simulate.schedules import (
    COORDINATOR_STEPS,
    FULL_EVERY,
    KINDS,
    STEPS,
    Fault,
    Happening,
    Schedule,
)
from fedring.lab.simulate.watch import Broken, bodies
from fedring.shared import messages, tokens
from fedring.shared.encryption.hybrid import Hybrid

SCHEDULES = 150


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command prints and writes for some hundred schedules."""
    report = tmp_path_factory.mktemp("faults") / "faults.json"
    result = CliRunner().invoke(
        command,
        ["faults", f"--schedules={SCHEDULES}", "--seed=10000", "--processes=1", f"--json={report}"],
    )
    assert result.exit_code == 0, result.output
    return result.output, json.loads(report.read_text())


def test_no_schedule_breaks_a_promise(counted: tuple[str, dict[str, Any]]) -> None:
    output, facts = counted
    assert (facts["schedules"], facts["broken"], facts["broken_seeds"]) == (SCHEDULES, 0, [])
    assert "0 schedules broke a promise" in output


def test_at_least_half_of_the_rounds_end_in_a_sum(counted: tuple[str, dict[str, Any]]) -> None:
    output, facts = counted
    assert facts["rounds"] >= SCHEDULES
    assert facts["sums"] + facts["voids"] == facts["rounds"]
    assert facts["rounds"] / 2 <= facts["sums"] < facts["rounds"]
    assert f"{facts['sums']:,} ended in a sum" in output


def test_each_kind_of_fault_happens_in_a_twentieth_of_the_schedules(
    counted: tuple[str, dict[str, Any]],
) -> None:
    output, facts = counted
    assert set(facts["faults"]) == set(KINDS)
    assert {kind: share for kind, share in facts["faults"].items() if share < 0.05} == {}
    for kind, share in facts["faults"].items():
        assert f"  {kind:28} in {share:6.1%} of the schedules" in output


@pytest.fixture
def some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "LEAST_JUDGED", 20)


def counts(n_schedules: int) -> Result:
    return CliRunner().invoke(command, ["faults", f"--schedules={n_schedules}", "--processes=1"])


@pytest.mark.usefixtures("some_are_enough")
def test_a_kind_of_fault_that_hardly_happens_is_told_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(schedules._WEIGHTS, (Fault.EPOCH, "nobody"), 0)
    result = counts(20)
    assert result.exit_code == 1
    assert "0 schedules broke a promise" in result.output
    assert (
        "too few: store lost, next epoch: in 0.0% of the schedules, at least 5% must have it"
        in result.output
    )


@pytest.mark.usefixtures("some_are_enough")
def test_faults_that_leave_few_sums_are_told_and_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    many = dict.fromkeys(schedules._WEIGHTS, 0) | {(Fault.EPOCH, "nobody"): 1}
    monkeypatch.setattr(schedules, "_WEIGHTS", many)
    result = counts(20)
    assert result.exit_code == 1
    assert re.search(
        r"too few: [0-9.]+% of the rounds ended in a sum, at least 50% must", result.output
    )


def test_a_few_schedules_are_not_judged_by_their_shares() -> None:
    few = campaign.Tally(schedules=campaign.LEAST_JUDGED - 1, rounds=1000)
    assert few.shortcomings == []
    few.schedules += 1
    assert len(few.shortcomings) == 1 + len(KINDS)


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    reports = {}
    for processes in (1, 2):
        report = tmp_path / f"{processes}.json"
        CliRunner().invoke(
            command,
            ["faults", "--schedules=30", f"--processes={processes}", f"--json={report}"],
            catch_exceptions=False,
        )
        reports[processes] = json.loads(report.read_text())
        del reports[processes]["seconds"]
    assert reports[1] == reports[2]


def test_a_schedule_does_the_same_every_time() -> None:
    assert run(Schedule.draw(7)) == run(Schedule.draw(7))


def test_a_full_schedule_is_run_with_parameters_of_production() -> None:
    drawn = Schedule.draw(FULL_EVERY - 1)
    assert drawn.full
    assert not any(Schedule.draw(seed).full for seed in range(FULL_EVERY - 1))
    assert run(drawn).rounds == len(drawn.rounds)


# -- one fault at a time ---------------------------------------------------------------------


def schedule(
    *happenings: Happening,
    n_devices: int = 5,
    ring_size: int = 8,
    threshold: int = 1,
    faults: Faults = CALM,
    sync_s: float = 0.02,
    seed: int = 0,
) -> Schedule:
    """Two rounds, and the last, calm one; what happens, happens in the first."""
    return Schedule(
        seed=seed,
        thresholds=(threshold,) * n_devices,
        ring_size=ring_size,
        n_weights=5,
        faults=faults,
        sync_s=sync_s,
        rounds=(happenings, ()),
    )


def dies(fault: Fault, who: int, step: str, lasts_s: float) -> Outcome:
    return run(schedule(Happening(fault=fault, who=(who,), step=step, lasts_s=lasts_s)))


FROM_THE_LIST_ON = ("spent", "spent sync", "release")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("who", [1, 3, 5], ids=["first", "middle", "last"])
def test_a_device_that_dies_at_any_step_costs_one_round_at_most(step: str, who: int) -> None:
    outcome = dies(Fault.POWER, who, step, 30.0)
    assert outcome.sums >= 1
    if step not in FROM_THE_LIST_ON:
        assert outcome.sums == 2, "before the list it is gone round, or left out of a lap"


@pytest.mark.parametrize("fault", [Fault.KILLED, Fault.POWER])
@pytest.mark.parametrize("step", STEPS)
def test_a_device_that_restarts_at_any_step_is_in_the_next_round(step: str, fault: Fault) -> None:
    assert dies(fault, 2, step, 1.0).sums >= 1


@pytest.mark.parametrize("step", COORDINATOR_STEPS)
def test_a_coordinator_that_dies_at_any_step_loses_that_round_and_no_more(step: str) -> None:
    outcome = dies(Fault.KILLED, 0, step, 1.0)
    assert outcome.sums == (2 if step == "concluded" else 1)
    assert "coordinator dies at a step" in outcome.kinds


@pytest.mark.parametrize("lasts_s", [0.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("at", [0.1, 2.0, 2.9, 3.0])
def test_a_coordinator_that_is_cut_off_for_a_while_costs_nothing(at: float, lasts_s: float) -> None:
    cut = Happening(fault=Fault.CUT, who=(0,), at=at, lasts_s=lasts_s)
    assert run(schedule(cut)).sums == 2


@pytest.mark.parametrize("lasts_s", [10.0, 30.0])
@pytest.mark.parametrize("at", [0.1, 1.5, 2.0, 2.9, 2.95, 3.0, 3.05, 3.1])
def test_a_coordinator_that_stands_still_for_a_while_costs_nothing(
    at: float, lasts_s: float
) -> None:
    """What was said meanwhile is read, all of it, before anybody is called silent or late."""
    still = Happening(fault=Fault.STILL, who=(0,), at=at, lasts_s=lasts_s)
    assert run(schedule(still, threshold=4)).sums == 2


@pytest.mark.parametrize(
    ("fault", "at"), [(Fault.MUTE, 3.8), (Fault.MUTE, 5.0), (Fault.DEAF, 6.0), (Fault.DEAF, 6.4)]
)
def test_a_coordinator_that_is_deaf_or_mute_when_it_calls_costs_nothing(
    fault: Fault, at: float
) -> None:
    """Its connection looks alive; and without those who seem silent the ring would be void."""
    happening = Happening(fault=fault, who=(0,), at=at, lasts_s=4.0)
    slow = Faults(most_delay_s=0.5)
    assert run(schedule(happening, threshold=4, faults=slow)).sums == 2


@pytest.mark.parametrize("fault", [Fault.BROKER, Fault.FORGETS])
@pytest.mark.parametrize("at", [0.0, 1.0, 2.9, 2.95, 3.0, 3.05])
def test_a_broker_that_restarts_costs_nothing(at: float, fault: Fault) -> None:
    assert run(schedule(Happening(fault=fault, at=at, lasts_s=2.0))).sums == 2


@pytest.mark.parametrize("at", [0.0, 1.0, 2.9, 3.0, 3.1])
def test_a_lost_store_costs_that_round_and_no_more(at: float) -> None:
    outcome = run(schedule(Happening(fault=Fault.EPOCH, at=at)))
    assert outcome.sums >= 1
    assert Fault.EPOCH in outcome.kinds


def test_a_third_of_all_messages_lost_breaks_nothing() -> None:
    for seed in range(6):
        assert run(schedule(faults=Faults(loss=0.33), seed=seed)).rounds == 2


def test_everything_twice_and_out_of_order_changes_nothing() -> None:
    for seed in range(6):
        faults = Faults(duplicates=1.0, reordered=1.0, most_delay_s=0.3)
        assert run(schedule(faults=faults, seed=seed)).sums == 2


# -- tokens of many chunks -------------------------------------------------------------------


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of twelve coefficients: the smallest body has four, each handed on by itself."""
    for module in (messages, tokens, bodies):
        monkeypatch.setattr(module, "CHUNK_BYTES", 96)


@pytest.mark.usefixtures("short_chunks")
def test_tokens_of_many_chunks_break_no_promise() -> None:
    drawn = [Schedule.draw(seed) for seed in range(20_000, 20_060)]
    outcomes = [run(one) for one in drawn if one.n_weights < 1000]
    rounds, sums = sum(one.rounds for one in outcomes), sum(one.sums for one in outcomes)
    assert rounds > 60
    assert rounds / 2 <= sums < rounds


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("step", ["hop", "chunk", "progress", "taken", "passed"])
@pytest.mark.parametrize("who", [1, 3, 5], ids=["first", "middle", "last"])
def test_a_device_that_dies_half_way_through_a_token_costs_no_sum(step: str, who: int) -> None:
    assert dies(Fault.POWER, who, step, 30.0).sums == 2


@pytest.mark.usefixtures("short_chunks")
def test_a_piece_added_in_the_wrong_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    added = Hybrid.add_piece
    monkeypatch.setattr(
        Hybrid, "add_piece", lambda suite, piece, body, start: added(suite, piece, body, start % 96)
    )
    with pytest.raises(Broken, match="a token is the sum of the bodies that it names"):
        run(schedule())


def test_a_killed_command_leaves_no_process_behind(tmp_path: Path) -> None:
    one = Child.start(
        [*FEDRING, "simulate", "faults", "--schedules=100000", "--processes=2"],
        name="faults",
        log=tmp_path / "log",
    )
    started: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(started) < 2:
        assert one.running, one.last_words()
        assert time.monotonic() < deadline
        time.sleep(0.05)
        children = psutil.Process(one.pid).children()
        started = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    one.send(signal.SIGKILL)
    one.wait(60)
    _, left = psutil.wait_procs(started, timeout=20)
    for process in left:
        process.kill()
    assert not left
