"""Samples that a Python function of the owner gives, in this very process."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from fedring.shared.config import FunctionName
from fedring.shared.errors import DataError
from fedring.shared.samples import Dataset, Rows, Table
from fedring.shared.samples.dataset import MAX_DATA_BYTES, check_first, check_size, columns_of

ARRAYS = ("x", "y", "features")
_FORMS = "return dicts, one a sample, or one dict with the arrays x, y and features"
_INSTALLED = {"site-packages", "dist-packages"}


@frozen
class FunctionSource:
    """A function without arguments, called at the start of the agent and once in each round.

    It gives either an iterable of samples, each a dict from names of columns to numbers, with the
    class in the label column; or one dict with arrays as in an npz file. It runs in a thread of the
    agent, with all the rights and memory of the agent.

    Attributes:
        function: its module is looked for among the installed ones, then in the given folder.
        label: where a sample has its class.
        max_bytes: most memory for the features.
    """

    function: FunctionName
    label: str = "label"
    max_bytes: int = MAX_DATA_BYTES

    def check(self) -> None:
        """Call the function, and see that what it gives can be samples."""
        given = self._call()
        if isinstance(given, Mapping):
            self._table(given).check(self.max_bytes)
        else:
            for _, row in self._rows(given):
                check_first(self.origin, list(row), list(row.values()), self.label)
                break

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """What the function gives now; see `Source.read`."""
        given = self._call()
        if isinstance(given, Mapping):
            table = self._table(given)
            table.check(self.max_bytes)
            return table.dataset(features, classes)
        rows = Rows(self.origin, features, classes, self.max_bytes)
        wanted = [*features, self.label]
        for place, row in self._rows(given):
            if not row.keys() >= set(wanted):
                columns_of(f"{self.origin}: {place}", wanted, list(row))
            rows.add(place, [row[name] for name in features], str(row[self.label]))
        check_size(self.origin, len(rows))
        return rows.dataset()

    @property
    def origin(self) -> str:
        """What messages call it."""
        return f"{self.function.module}:{self.function.name}"

    def _call(self) -> Any:
        folder = str(self.function.folder)
        if folder not in sys.path:
            sys.path.append(folder)  # last: a file of the owner must not stand in for one of ours
        module = self.function.module
        with self._owners_code():
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # of what the owner's module imports
                raise self._missing(f"no module `{module}`", f"expected in {folder}") from error
        function = getattr(found, self.function.name, None)
        if not callable(function):
            where = getattr(found, "__file__", None) or "built into Python"
            raise self._missing(f"no function `{self.function.name}`", f"the module is {where}")
        with self._owners_code():
            return function()

    def _rows(self, given: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if not isinstance(given, Iterable):
            raise self._unusable(f"gave a value of type {type(given).__name__}")
        with self._owners_code():
            rows = iter(given)
        for number in count(1):
            with self._owners_code():
                try:
                    row = next(rows)
                except StopIteration:
                    return
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise self._unusable(f"sample {number} is of type {type(row).__name__}")
            yield f"sample {number}", row

    def _table(self, given: Mapping[Any, Any]) -> Table:
        absent = [name for name in ARRAYS if name not in given]
        if absent:
            raise DataError(
                f"{self.origin}: no array `{absent[0]}`", name="data.missing-array", hint=_FORMS
            )
        try:
            return Table(self.origin, *(np.asarray(given[name]) for name in ARRAYS))
        except ValueError as error:  # rows of different lengths
            raise self._unusable(str(error)) from error

    @contextmanager
    def _owners_code(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{self._place(error)}: {type(error).__name__}: {error}",
                name="data.function-failed",
                hint=f"`function` in [data] asked for {self.origin}",
            ) from error

    def _place(self, error: BaseException) -> str:
        """The last line of the owner's own that was executed."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [frame for frame in frames if self._is_owners(Path(frame.filename))]
        last = (own or frames)[-1:]
        return f"{last[0].filename}:{last[0].lineno}" if last else self.origin

    def _is_owners(self, file: Path) -> bool:
        return file.is_relative_to(self.function.folder) and not _INSTALLED & set(file.parts)

    def _missing(self, what: str, where: str) -> DataError:
        return DataError(
            f"{self.origin}: {what}",
            name="data.missing-function",
            hint=f"check `function` in the settings; {where}",
        )

    def _unusable(self, what: str) -> DataError:
        return DataError(f"{self.origin}: {what}", name="data.unreadable", hint=_FORMS)
