"""Times of things that are done in turns, so that a busy machine is busy for all of them.

Processor time of this process by default: on a machine with other work, what is long loses the
processor now and then and what is short does not, and the ratio of their wall times says nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final, TypeAlias

from attrs import frozen

Clock: TypeAlias = Callable[[], float]

TURN_S: Final = 0.004
"""What is done sooner is repeated, so that a turn takes about so long."""
MOST_REPEATS: Final = 32
LONG_S: Final = 0.1


@frozen
class Timed:
    """Something to be timed.

    Attributes:
        run: what is timed; gets what `ready` made.
        ready: made before, untimed, for each single run; for what can be used once.
    """

    run: Callable[[Any], object]
    ready: Callable[[], Any] = lambda: None


def in_turns(
    contenders: Mapping[str, Timed], n_turns: int, clock: Clock = time.process_time
) -> dict[str, float]:
    """Median seconds of one run of each, over so many turns; a turn is each of them once."""
    repeats = {name: _repeats(timed, clock) for name, timed in contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(n_turns):
        for name, timed in contenders.items():
            found[name].append(_seconds(timed, repeats[name], clock))
    return {name: median(seconds) for name, seconds in found.items()}


def _repeats(timed: Timed, clock: Clock) -> int:
    seconds = _seconds(timed, 1, clock)
    if seconds < LONG_S:  # the first run may have found a table not yet made
        seconds = _seconds(timed, 1, clock)
    return max(1, min(MOST_REPEATS, int(TURN_S / seconds)))


def _seconds(timed: Timed, repeats: int, clock: Clock) -> float:
    inputs = [timed.ready() for _ in range(repeats)]
    run = timed.run
    gc.disable()
    began = clock()
    for given in inputs:
        run(given)
    seconds = clock() - began
    gc.enable()
    return seconds / repeats
