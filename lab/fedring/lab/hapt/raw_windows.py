"""The recordings themselves, small: what a network learns from that makes its own features.

For each window of `people` its 2.56 s at 25 samples a second (means of two neighbours), six axes a
step, in int8: accelerations in 16 mg, rotations in 32 mrad/s. Accelerations of these recordings
stay within the range; of the rotations, fewer than one in a thousand is beyond +-4 rad/s and cut.

`windows.npz` keeps each half window once, since neighbours share one.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedring.lab.hapt.features import AXES, WINDOW
from fedring.lab.hapt.people import ACTIVITIES, FILE, Person, persons
from fedring.lab.hapt.windows import HOP
from fedring.shared.samples import Dataset

WINDOWS_FILE = Path(str(files("fedring.lab.hapt") / "windows.npz"))
"""Made by `scripts/hapt-data`."""

UNITS = np.array([16] * 3 + [32] * 3)
"""Of each axis, in mg and mrad/s."""
STEPS = WINDOW // 2
RAW_NAMES = tuple(f"{axis}.{step:02d}" for step in range(STEPS) for axis in AXES)
"""Columns of a window: all axes of the first step, then of the second, ..."""
RAW_RANGE = 128.0
"""Public range of each column: what int8 can hold."""


def coarse(samples: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
    """Half the rate, a byte a value.

    Args:
        samples: in mg and mrad/s, shape (..., 2 n, 6).

    Returns:
        shape (..., n, 6).
    """
    pairs = samples.astype(np.float64)
    means = (pairs[..., 0::2, :] + pairs[..., 1::2, :]) / 2
    whole: NDArray[np.int8] = np.clip(np.rint(means / UNITS), -128, 127).astype(np.int8)
    return whole


def write_windows(target: Path, raw: NDArray[np.integer[Any]], rows: NDArray[np.int32]) -> None:
    """Write the compact form of windows.

    Args:
        target: the file to write.
        raw: all windows in order, shape (n, 128, 6), in mg and mrad/s.
        rows: where each begins in the recordings, ascending; neighbours are `HOP` apart.
    """
    halves = coarse(raw).reshape(len(raw), 2, STEPS // 2, len(AXES))
    follows = np.append(rows[1:] == rows[:-1] + HOP, False)
    kept = np.stack([np.ones(len(raw), bool), ~follows], axis=1)
    np.savez_compressed(
        target,
        # Column by column, since neighbours in time are alike: smaller.
        halves=np.asfortranarray(halves[kept].reshape(-1, STEPS // 2 * len(AXES))),
        first=(np.cumsum(kept) - 1).reshape(kept.shape)[:, 0].astype(np.int32),
    )


@cache
def raw_people() -> dict[int, Person]:
    """Everybody's windows, as `people` but with the columns `RAW_NAMES`; read once."""
    with np.load(WINDOWS_FILE, allow_pickle=False) as file:
        halves, first = file["halves"], file["first"]
    with np.load(FILE, allow_pickle=False) as file:
        activity, owner, row = (file[name] for name in ("activity", "person", "row"))
    windows = np.concatenate([halves[first], halves[first + 1]], axis=1).astype(np.float32)
    return persons(Dataset(windows, activity.astype(np.int64), RAW_NAMES, ACTIVITIES), owner, row)
