"""Samples in CSV and npz files: one file, or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from heapq import nlargest
from pathlib import Path

import numpy as np
from attrs import frozen

from fedring.shared.errors import DataError
from fedring.shared.samples import Dataset, check_samples, read_samples
from fedring.shared.samples.dataset import MAX_DATA_BYTES, check_size, missing
from fedring.shared.samples.files import KINDS

MAX_FILES = 10_000
"""Files of a folder that are looked at, the newest ones."""


@frozen
class FileSource:
    """A CSV or npz file.

    Attributes:
        path: the file.
        kind: `csv` or `npz`; empty to go by the ending of its name.
        label: label column of a CSV file.
    """

    path: Path
    kind: str = ""
    label: str = "label"

    def check(self) -> None:
        """See that the file can be one of samples; see `Source.check`."""
        check_samples(self.path, kind=self.kind, label=self.label)

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The samples of the file; see `Source.read`."""
        return read_samples(self.path, features, classes, kind=self.kind, label=self.label)


@frozen
class FolderSource:
    """A folder of CSV and npz files, of which the newest count.

    Files are taken whole, by the time at which each was last changed, the newest first, while their
    features fit into memory together. Of the oldest that is needed, the last samples count. Hidden
    files, files of other kinds and folders inside are passed over.

    Attributes:
        path: the folder.
        newest: most samples.
        label: label column of the CSV files.
        max_bytes: most memory for the features of all of them.
    """

    path: Path
    newest: int
    label: str = "label"
    max_bytes: int = MAX_DATA_BYTES

    def check(self) -> None:
        """See that there are files, and that the newest can be one of samples."""
        check_samples(self._files()[0], label=self.label)

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The newest samples of the folder; see `Source.read`."""
        parts: list[Dataset] = []
        n_samples = n_bytes = 0
        for file in self._files():
            try:
                part = read_samples(
                    file,
                    features,
                    classes,
                    label=self.label,
                    max_bytes=self.max_bytes - n_bytes,
                    min_samples=0,
                )
            except DataError as error:
                if error.name == "data.too-large" and n_samples > 0:
                    break
                raise
            part = part.take(np.arange(len(part))[n_samples - self.newest :])
            parts.append(part)
            n_samples += len(part)
            n_bytes += part.x.nbytes
            if n_samples == self.newest:
                break
        check_size(self.path, n_samples)
        x, y = (np.concatenate([getattr(part, name) for part in parts]) for name in "xy")
        return Dataset(x, y, tuple(features), tuple(classes))

    def _files(self) -> list[Path]:
        """The newest first; of the same time, the last by name."""
        try:
            with os.scandir(self.path) as entries:
                dated = nlargest(
                    MAX_FILES,
                    (
                        (entry.stat().st_mtime_ns, entry.name)
                        for entry in entries
                        if not entry.name.startswith(".")
                        and Path(entry.name).suffix.lower().removeprefix(".") in KINDS
                        and entry.is_file()
                    ),
                )
        except FileNotFoundError as error:
            raise missing(self.path, "folder") from error
        except OSError as error:
            raise DataError(
                f"{self.path}: not a folder that can be read ({error.strerror})",
                name="data.unreadable",
            ) from error
        if not dated:
            raise DataError(
                f"{self.path}: no CSV or npz file in this folder",
                name="data.missing-file",
                hint="put one there; names that begin with a point are passed over",
            )
        return [self.path / name for _, name in dated]
