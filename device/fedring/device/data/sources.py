"""Sources of a device's own samples: read at each round, never written, never sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from fedring.shared.samples import Dataset, read_samples


class Source(Protocol):
    """Something that has labelled samples."""

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The samples as they are now, in the columns and classes of a model.

        Args:
            features: the model's features, in its order.
            classes: the model's classes, in its order.

        Raises:
            DataError: they cannot be read, or do not fit the model.
        """
        ...


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

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The samples of the file; see `Source.read`."""
        return read_samples(self.path, features, classes, kind=self.kind, label=self.label)
