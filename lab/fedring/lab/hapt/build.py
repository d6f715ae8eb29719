"""Makes the npz files beside this module from the full recordings: `scripts/hapt-data FILE`.

What `hapt.npz` keeps: the features of every window of the six basic activities in float32 (1.8 MB),
who and what it is of, and which row of the recordings it starts in. The raw samples stay behind:
they would be three times as much. Those of every hundredth window come along, so that a test can
compute their features again and compare. `windows.npz` has the windows themselves, as bytes at half
the rate: see `raw_windows`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fedring.lab.hapt.features import NAMES, WINDOW, window_features
from fedring.lab.hapt.people import ACTIVITIES, FILE
from fedring.lab.hapt.raw_windows import WINDOWS_FILE, write_windows
from fedring.lab.hapt.windows import stretches, window_starts

EXCERPT = 100
"""The raw samples of every so many windows are kept."""


def build(source: Path, target: Path, windows: Path) -> int:
    """Write the compact forms of the recordings.

    Args:
        source: npz with `samples` (n, 6) int16 in mg and mrad/s, and `label`, `user` and
            `recording` (n,): labels 1 to 6 are `ACTIVITIES`, others are passed over.
        target: the file of features to write.
        windows: the file of windows to write.

    Returns:
        How many windows there are.
    """
    with np.load(source, allow_pickle=False) as file:
        samples, label, user, recording = (
            file[name] for name in ("samples", "label", "user", "recording")
        )
    rows = np.array(
        [
            row
            for start, stop in stretches(user, recording, label)
            if 1 <= label[start] <= len(ACTIVITIES)
            for row in window_starts(start, stop)
        ]
    )
    raw = samples[rows[:, np.newaxis] + np.arange(WINDOW)]
    np.savez_compressed(
        target,
        # Column by column, since neighbours in time are alike: a tenth smaller.
        features=np.asfortranarray(window_features(raw)),
        names=np.array(NAMES),
        activity=(label[rows] - 1).astype(np.int8),
        person=user[rows],
        row=rows.astype(np.int32),
        excerpt=raw[::EXCERPT],
    )
    write_windows(windows, raw, rows.astype(np.int32))
    return len(rows)


def main() -> None:
    """Command line of `scripts/hapt-data`."""
    match sys.argv[1:]:
        case [source] if Path(source).is_file():
            n_windows = build(Path(source), FILE, WINDOWS_FILE)
            for file in (FILE, WINDOWS_FILE):
                print(f"{n_windows} windows, {file.stat().st_size / 1e6:.1f} MB: {file}")
        case [source]:
            sys.exit(f"fedring: error: {source}: no such file")
        case _:
            sys.exit("usage: scripts/hapt-data FILE    the recordings, hapt.npz")


if __name__ == "__main__":
    main()
