"""What a round asks of a device, and what becomes of data that do not fit."""

import asyncio
import os
from collections.abc import Sequence

import numpy as np
import pytest

from fedring.device.preparing import Preparation
from fedring.device.trainers import NumpyTrainer
from fedring.device.work import Failed, Worked, Workshop
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.envelopes import Signed
from fedring.shared.errors import DataError
from fedring.shared.messages import Announce, ModelReference
from fedring.shared.models import Model
from fedring.shared.networks import initialise
from fedring.shared.samples import Dataset

ROWS = 12


class Shelf:
    """A library that has one model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def fetch(self, _epoch: int, _reference: ModelReference) -> Model:
        return self.model


class Columns:
    """A data file with these columns."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def check(self) -> None: ...

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        if not set(features) <= set(self.names):
            raise DataError("data.csv: no such column", name="data.missing-column")
        x = np.ones((ROWS, len(features)), np.float32)
        return Dataset(x, np.zeros(ROWS, np.int64), tuple(features), tuple(classes))


def model_of(*features: str) -> Model:
    return initialise("softmax", features, ["a", "b"])


def announce_for(model: Model) -> Signed[Announce]:
    stage = Rehearsal((2,))
    stage.model = model
    return stage.announcing().announce


def workshop(shelf: Shelf) -> Workshop:
    return Workshop(
        shelf,  # type: ignore[arg-type]  # a shelf is all that is needed of a library
        Preparation(os.urandom),
        Columns("x", "y"),
        NumpyTrainer(),
        number=1,
        seed=1,
    )


def test_a_file_that_fits_no_first_model_is_the_owners_to_mend() -> None:
    work = workshop(Shelf(model_of("x", "z")))
    with pytest.raises(DataError):
        asyncio.run(work.work(announce_for(model_of("x", "z")), evaluate=False))


def test_once_trained_no_announce_ends_the_agent() -> None:
    shelf = Shelf(model_of("x", "y"))
    work = workshop(shelf)
    done = asyncio.run(work.work(announce_for(shelf.model), evaluate=False))
    assert isinstance(done, Worked)
    shelf.model = model_of("x", "z")
    failed = asyncio.run(work.work(announce_for(shelf.model), evaluate=False))
    assert isinstance(failed, Failed)
    assert "no such column" in failed.reason
