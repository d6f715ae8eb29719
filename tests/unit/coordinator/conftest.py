"""A coordinator's store with a history that grows by one line of a test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from fedring.coordinator.records import Outcome, Version
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.models import Model
from fedring.shared.networks import initialise

ModelOf: TypeAlias = Callable[..., Model]
Train: TypeAlias = Callable[..., Version]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[CoordinatorStore]:
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        store.enter_epoch(1)
        yield store


@pytest.fixture
def model_of() -> ModelOf:
    """Makes a model whose weights are all one value."""

    def model_of(value: float, *, n_features: int = 4) -> Model:
        names = [f"f{number}" for number in range(n_features)]
        model = initialise("softmax", names, ["still", "moving"])
        return model.with_weights(np.full(model.n_weights, value))

    return model_of


@pytest.fixture
def train(model_of: ModelOf) -> Train:
    """Runs one whole round that makes the model of a value."""

    def train(store: CoordinatorStore, value: float, *, contributors: int = 12) -> Version:
        epoch, number = store.next_round()
        current = store.current_version()
        assert current is not None
        version = store.commit_version(
            model_of(value),
            Outcome(epoch=epoch, round=number, contributors=contributors, rings=1),
            parent=current.version,
            metrics={"accuracy": value / 10},
            plan={"epochs": 5},
        )
        assert version is not None
        return version

    return train
