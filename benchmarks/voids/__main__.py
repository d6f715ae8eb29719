"""How often rings are void when boards die and links drop, for short and long rings and hops.

The production state machines on a simulated network: one ring at a time, all devices in it, round
after round, with the thresholds that boards are enrolled with. A hop takes 0.1 or 5 s; every
device dies, or loses its connection, so many times an hour, at moments of its own. A death costs
30 s, an outage 10 s. Beside the share of void rings stands the share that would be void in a
protocol without calls, which asks for releases as soon as a token is complete; and both for members
that hand on whole tokens only. `--quick`: few rounds.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Final

from attrs import evolve
from benchmarks.voids.picture import draw
from benchmarks.voids.trouble import Outcome, Trouble, watch_rings

from fedring.lab.benchmarks import Row, main

SIZES: Final = (8, 16, 32)
HOPS_S: Final = (0.1, 5.0)
TIMES_AN_HOUR: Final = (1, 4)
BLOCK: Final = 50
"""Rings that one fleet goes through, one after the other; each block has a fleet of its own."""


def cells() -> list[Trouble]:
    """All that is measured."""
    calm = [Trouble(members, hop_s) for hop_s, members in product(HOPS_S, SIZES)]
    found = [evolve(cell, deaths=times) for cell in calm for times in TIMES_AN_HOUR]
    found += [evolve(cell, outages=times) for cell in calm for times in TIMES_AN_HOUR]
    return found + [evolve(cell, whole_tokens=True) for cell in found if cell.hop_s == max(HOPS_S)]


COMPARED: Final = {8: 500, 16: 1000, 32: 200}
"""Rings at hops of 5 s and a death an hour, for which the design expected about one per cent."""


def n_rings(cell: Trouble) -> int:
    """How many rings a share is taken of."""
    if cell.hop_s < max(HOPS_S):
        return 50
    return COMPARED[cell.members] if cell.deaths == 1 else 100


class Table:
    """What was found, cell by cell."""

    def __init__(self) -> None:
        self.found: dict[Trouble, Outcome] = {}

    def measure(self, quick: bool) -> Iterator[Row]:
        """Run all cells, side by side on all cores."""
        blocks = [
            (cell, 10 if quick else BLOCK)
            for cell in cells()
            for _ in range(1 if quick else n_rings(cell) // BLOCK)
        ]
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            outcomes = pool.map(watch_rings, *zip(*blocks, strict=True), range(len(blocks)))
            for (cell, _), outcome in zip(blocks, outcomes, strict=True):
                known = self.found.get(cell)
                self.found[cell] = outcome if known is None else known + outcome
        for cell, outcome in self.found.items():
            yield Row(f"rings, {cell}", outcome.rings, "")
            yield Row(f"void rings, {cell}", 100 * outcome.void_share, "%")
            yield Row(f"void without calls, {cell}", 100 * outcome.void_without_calls, "%")
            yield Row(f"members in the sum, {cell}", 100 * outcome.kept, "%")

    def draw(self, file: Path) -> None:
        """Draw the table."""
        draw(self.found, file)


if __name__ == "__main__":
    table = Table()
    main(table.measure, __doc__, draw=table.draw)
