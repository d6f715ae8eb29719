"""Where windows lie in a recording: stretches of one label, cut every `HOP` samples."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedring.lab.hapt.features import WINDOW

HOP = 64
"""Samples from one window to the next: neighbours share half of theirs."""


def stretches(*marks: NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
    """Longest runs of rows over which no mark changes.

    Args:
        marks: shape (n,) each, n >= 1, e.g. person, recording and label of every row.

    Yields:
        First row and row after the last, in order; together they cover all rows.
    """
    changes = np.any([mark[1:] != mark[:-1] for mark in marks], axis=0)
    borders = [0, *(np.flatnonzero(changes) + 1).tolist(), len(marks[0])]
    yield from pairwise(borders)


def window_starts(start: int, stop: int) -> range:
    """First rows of the windows that lie wholly in a stretch, the first at its start."""
    return range(start, stop - WINDOW + 1, HOP)


def overlap(rows: NDArray[np.integer[Any]], other: int) -> NDArray[np.bool_]:
    """Which of the windows that start in `rows` share samples with the one at `other`."""
    shared: NDArray[np.bool_] = np.abs(rows - other) < WINDOW
    return shared
