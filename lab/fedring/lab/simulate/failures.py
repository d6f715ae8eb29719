"""A schedule that breaks a promise: made smaller, drawn, and ready to be pasted as a test."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from attrs import evolve, frozen

from fedring.lab.simulate.diagram import diagram
from fedring.lab.simulate.network import CALM
from fedring.lab.simulate.running import Outcome, Run
from fedring.lab.simulate.schedules import Schedule
from fedring.lab.simulate.watch import Broken
from fedring.shared.messages import COORDINATOR_NAME

MOST_TRIES = 60
"""Runs spent on making one schedule smaller."""


@frozen
class Failure:
    """A broken promise.

    Attributes:
        seed: of the schedule that was drawn.
        schedule: the smallest one found that breaks the same promise.
        promise: which, and the facts.
        log: what was sent in the round in which it broke.
    """

    seed: int
    schedule: Schedule
    promise: str
    log: str

    def __str__(self) -> str:
        return (
            f"{self.promise}\n\n"
            f"The round in which it broke; ## marks what went wrong around it:\n\n{self.log}\n\n"
            f"As a test:\n\n{as_test(self.schedule)}"
        )


def examine(schedule: Schedule) -> Outcome | Failure:
    """Run a schedule; tells how it went, or what broke, in a smaller schedule if one breaks it."""
    found = _run(schedule)
    if isinstance(found, Outcome):
        return found
    tries = 0
    smaller = _smaller(found.schedule)
    while tries < MOST_TRIES and (candidate := next(smaller, None)) is not None:
        tries += 1
        again = _run(candidate)
        if isinstance(again, Failure) and _promise(again) == _promise(found):
            found = again
            smaller = _smaller(found.schedule)
    return evolve(found, seed=schedule.seed)


def _run(schedule: Schedule) -> Outcome | Failure:
    run = Run(schedule)
    try:
        return run.go()
    except Broken as broken:
        parties = [COORDINATOR_NAME, *run.fleet.devices]
        log = diagram(parties, run.fleet.network.log)
        return Failure(schedule.seed, schedule, str(broken), log)


def _promise(failure: Failure) -> str:
    """The promise without the facts."""
    return failure.promise.split(": ")[1]


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules with one thing less, those first that save most."""
    rounds = schedule.rounds
    for place in range(len(rounds)):
        yield evolve(schedule, rounds=rounds[:place] + rounds[place + 1 :])
    for place, happenings in enumerate(rounds):
        for one in range(len(happenings)):
            fewer = happenings[:one] + happenings[one + 1 :]
            yield evolve(schedule, rounds=(*rounds[:place], fewer, *rounds[place + 1 :]))
    for name in ("loss", "duplicates", "reordered", "most_delay_s"):
        calm = getattr(CALM, name)
        if getattr(schedule.faults, name) != calm:
            yield evolve(schedule, faults=evolve(schedule.faults, **{name: calm}))
    plain = (
        evolve(schedule, sync_s=0.0),
        evolve(schedule, n_weights=1),
        evolve(schedule, full=False),
    )
    yield from (one for one in plain if one != schedule)


def as_test(schedule: Schedule) -> str:
    """A test that runs this very schedule, whatever becomes of drawing."""
    fields = [
        f"            {field.name}={getattr(schedule, field.name)!r},"
        for field in attrs.fields(Schedule)
    ]
    return "\n".join(
        [
            "from fedring.lab.simulate.network import Faults",
            "from fedring.lab.simulate.running import run",
            "from fedring.lab.simulate.schedules import Fault, Happening, Schedule",
            "",
            "",
            f"def test_schedule_{schedule.seed}() -> None:",
            "    run(",
            "        Schedule(",
            *fields,
            "        )",
            "    )",
        ]
    )
