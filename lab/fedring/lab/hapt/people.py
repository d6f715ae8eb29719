"""Thirty people, each the owner of one device: who trains, who is held out, whose window is whose.

Everybody's windows of each activity are cut in time: the first 80 % are *early*, what a device
trains on; the last 20 % are *late*, its owner's own future. An early window that shares samples
with a late one is dropped, which leaves 10,237 of 10,411.

A *split* holds six people out; the other 24 are the devices. The six never train, and their
windows, early and late, serve to evaluate: they are the new people whom the model is for. Who is
held out matters ten times more than any algorithm, so compare within one split, or over all five.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from fedring.lab.hapt.features import NAMES
from fedring.lab.hapt.windows import overlap
from fedring.shared.samples import Dataset, write_npz

ACTIVITIES = (
    "walking",
    "walking upstairs",
    "walking downstairs",
    "sitting",
    "standing",
    "lying",
)
PEOPLE = tuple(range(1, 31))
FILE = Path(str(files("fedring.lab.hapt") / "hapt.npz"))
"""Made by `scripts/hapt-data`; see `build` and LICENCE.md beside it."""

EARLY_SHARE = 0.8


@frozen
class Split:
    """Six people held out; the others are the devices, numbered as the people are."""

    name: str
    held_out: tuple[int, ...]

    @property
    def devices(self) -> tuple[int, ...]:
        """The people who train, ascending."""
        return tuple(person for person in PEOPLE if person not in self.held_out)


SPLITS = (
    Split("main", (1, 3, 10, 16, 18, 28)),
    Split("second", (11, 12, 13, 14, 22, 25)),
    Split("third", (6, 7, 15, 20, 21, 24)),
    Split("fourth", (4, 8, 19, 27, 29, 30)),
    Split("fifth", (2, 5, 9, 17, 23, 26)),
)
MAIN = SPLITS[0]


@frozen(eq=False)
class Person:
    """One person's windows.

    Attributes:
        early: what this person's device trains on.
        late: the last windows of each activity: its own future.
    """

    early: Dataset
    late: Dataset


@cache
def people() -> dict[int, Person]:
    """Everybody's windows, by number of the person; read once."""
    with np.load(FILE, allow_pickle=False) as file:
        everything = Dataset(
            np.ascontiguousarray(file["features"]),
            file["activity"].astype(np.int64),
            NAMES,
            ACTIVITIES,
        )
        owner, row = file["person"], file["row"]
    return persons(everything, owner, row)


def persons(
    everything: Dataset, owner: NDArray[np.uint8], row: NDArray[np.int32]
) -> dict[int, Person]:
    """Windows by number of the person, cut in time.

    Args:
        everything: all windows, n of them.
        owner: number of the person of each, shape (n,).
        row: where each begins in the recordings, shape (n,).
    """
    return {
        number: _person(everything.take(owner == number), row[owner == number]) for number in PEOPLE
    }


def evaluation(split: Split, of: dict[int, Person] | None = None) -> Dataset:
    """The windows of the people whom a split holds out: of all `people`, or of these."""
    everybody = people() if of is None else of
    held_out = [everybody[number] for number in split.held_out]
    return joined([part for person in held_out for part in (person.early, person.late)])


def joined(parts: list[Dataset]) -> Dataset:
    """Several data sets of the same features and classes as one, in their order."""
    return Dataset(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        parts[0].features,
        parts[0].classes,
    )


def write_device_files(folder: Path, split: Split = MAIN) -> tuple[dict[int, Path], Path]:
    """Write one npz file for each device of a split, and one for the coordinator to evaluate on.

    Args:
        folder: where to; made when it is not there.
        split: who trains and who is held out.

    Returns:
        The file of each device by its number, with its person's early windows only; and the file
        with the windows of the held-out people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number in split.devices:
        paths[number] = folder / f"person-{number:02d}.npz"
        write_npz(paths[number], people()[number].early)
    held_out = folder / "evaluation.npz"
    write_npz(held_out, evaluation(split))
    return paths, held_out


def _person(windows: Dataset, rows: NDArray[np.int32]) -> Person:
    early, late = np.zeros((2, len(windows)), bool)
    for activity in range(len(windows.classes)):
        in_time = np.flatnonzero(windows.y == activity)
        cut = round(EARLY_SHARE * len(in_time))
        late[in_time[cut:]] = True
        early[in_time[:cut]] = [not overlap(rows[late], rows[at]).any() for at in in_time[:cut]]
    return Person(windows.take(early), windows.take(late))
