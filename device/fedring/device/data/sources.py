"""Sources of a device's own samples: read at each round, never written, never sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fedring.device.data.database import DatabaseSource
from fedring.device.data.files import FileSource, FolderSource
from fedring.device.data.function import FunctionSource
from fedring.device.settings import Data
from fedring.shared.samples import Dataset


class Source(Protocol):
    """Something that has labelled samples."""

    def check(self) -> None:
        """See, before any model is known, that there is something to read and of which columns.

        Raises:
            DataError: it is not there, cannot be read, or has no labels or no numbers.
        """
        ...

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The samples as they are now, in the columns and classes of a model.

        Args:
            features: the model's features, in its order.
            classes: the model's classes, in its order.

        Raises:
            DataError: they cannot be read, or do not fit the model.
        """
        ...


def source_of(data: Data) -> Source:
    """The source that the owner's settings name."""
    if data.folder is not None:
        return FolderSource(data.folder, data.newest, data.label)
    if data.database is not None:
        return DatabaseSource(data.database, data.table, data.newest, data.label)
    if data.function is not None:
        return FunctionSource(data.function, data.label)
    if data.file is not None:
        return FileSource(data.file, data.source, data.label)
    raise AssertionError("settings name a source")
