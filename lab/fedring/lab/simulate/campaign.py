"""Schedules of faults by the thousand, on all cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from attrs import define, field

from fedring.lab.simulate.failures import Failure, examine
from fedring.lab.simulate.running import Outcome
from fedring.lab.simulate.schedules import KINDS, Schedule
from fedring.lab.tether import end_with

BATCH = 25
"""Schedules between two looks at what came out."""
LEAST_SUMS = 0.5
"""Share of rounds that end in a sum: else faults leave nothing to break."""
LEAST_SHARE = 0.05
"""Share of schedules in which each kind of fault happens: else it was not tried."""
LEAST_JUDGED = 1000
"""Schedules from which on both shares are judged: at 8 % the deviation is 0.9 % by then."""


@define
class Tally:
    """What came out of many schedules.

    Attributes:
        schedules: that were run.
        full: of these, with production's parameters.
        rounds: begun while things went wrong.
        sums: of these, that ended in a sum.
        failures: promises that broke.
        kinds: in how many schedules a kind of fault happened.
    """

    schedules: int = 0
    full: int = 0
    rounds: int = 0
    sums: int = 0
    failures: list[Failure] = field(factory=list)
    kinds: Counter[str] = field(factory=Counter)

    def count(self, outcome: Outcome) -> None:
        """Count how a schedule went."""
        self.rounds += outcome.rounds
        self.sums += outcome.sums
        self.kinds.update(outcome.kinds)

    def add(self, other: Tally) -> None:
        """Add what another one counted."""
        self.schedules += other.schedules
        self.full += other.full
        self.rounds += other.rounds
        self.sums += other.sums
        self.failures += other.failures
        self.kinds.update(other.kinds)

    @property
    def shares(self) -> dict[str, float]:
        """The share of schedules in which each kind of fault happened, 0..1."""
        return {kind: self.kinds[kind] / max(1, self.schedules) for kind in KINDS}

    @property
    def shortcomings(self) -> list[str]:
        """Why these schedules say little, one line each; nothing is said of a few."""
        if self.schedules < LEAST_JUDGED:
            return []
        short = []
        if self.sums < LEAST_SUMS * self.rounds:
            share = self.sums / self.rounds
            short.append(
                f"{share:.1%} of the rounds ended in a sum, at least {LEAST_SUMS:.0%} must"
            )
        short += [
            f"{kind}: in {share:.1%} of the schedules, at least {LEAST_SHARE:.0%} must have it"
            for kind, share in self.shares.items()
            if share < LEAST_SHARE
        ]
        return short

    def facts(self) -> dict[str, Any]:
        """The counts as JSON holds them."""
        return {
            "schedules": self.schedules,
            "full": self.full,
            "rounds": self.rounds,
            "sums": self.sums,
            "voids": self.rounds - self.sums,
            "broken": len(self.failures),
            "broken_seeds": [failure.seed for failure in self.failures],
            "shortcomings": self.shortcomings,
            "faults": {kind: round(share, 4) for kind, share in self.shares.items()},
        }


def run_batch(seeds: range, exit_first: bool) -> Tally:
    """Run the schedules of these seeds, one after the other, all or up to the first failure."""
    tally = Tally()
    gc.disable()  # what a schedule leaves behind can wait for the end of the batch
    try:
        for seed in seeds:
            schedule = Schedule.draw(seed)
            tally.schedules += 1
            tally.full += schedule.full
            match examine(schedule):
                case Failure() as failure:
                    tally.failures.append(failure)
                    if exit_first:
                        break
                case outcome:
                    tally.count(outcome)
    finally:
        gc.enable()
        gc.collect()
    return tally


def run_schedules(
    first: int, count: int, processes: int, *, exit_first: bool = False
) -> Iterator[Tally]:
    """Run the schedules of some seeds; gives batches in their order, as they are done.

    Args:
        first: the first seed.
        count: how many.
        processes: that run side by side; 1 runs them in this one.
        exit_first: end at the first failure.
    """
    for tally in _batches(first, count, processes, exit_first):
        yield tally
        if exit_first and tally.failures:
            return


def _begin(parent: int) -> None:
    """In each process: it ends with its parent, and what was imported is no garbage."""
    end_with(parent)
    gc.freeze()


def _batches(first: int, count: int, processes: int, exit_first: bool) -> Iterator[Tally]:
    end = first + count
    batches = [range(at, min(at + BATCH, end)) for at in range(first, end, BATCH)]
    if processes == 1:
        yield from (run_batch(batch, exit_first) for batch in batches)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (os.getpid(),)) as pool:
        futures: list[Future[Tally]] = [
            pool.submit(run_batch, batch, exit_first) for batch in batches
        ]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
