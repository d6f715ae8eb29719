"""What `device.toml` may say; `device.toml` beside this module is the commented template.

What protects the owner of the data (threshold, budgets, limits) is set here and nowhere else: no
announce can widen it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from attrs import frozen

from fedring.shared.config import (
    BrokerSettings,
    FunctionName,
    choice,
    choices,
    function,
    load,
    number,
    path,
    text,
    whole,
)
from fedring.shared.encryption import SUITES
from fedring.shared.litert.shipped import litert_file
from fedring.shared.messages import MAX_ROSTER, MAX_UINT32, USUAL_LIMIT_S
from fedring.shared.samples.dataset import MIN_SAMPLES


@frozen(kw_only=True)
class Fleet:
    """Who this device is: files that `fedring fleet` makes, or that a board makes itself.

    Attributes:
        ca: certificate of the fleet authority, PEM.
        key: this device's identity key, PEM, readable by its owner only.
        certificate: its certificate, PEM.
        bootstrap: where a board without a certificate asks for one, with its one-time code. It
            makes its key itself then.
    """

    ca: Annotated[Path, path("the fleet authority's certificate")]
    key: Annotated[Path, path("this device's key")]
    certificate: Annotated[Path, path("this device's certificate")]
    bootstrap: Annotated[Path | None, path("the bootstrap.json of this board")] = None


@frozen(kw_only=True)
class State:
    """Where the device remembers rounds, budgets and the revocation list.

    Attributes:
        folder: made when missing; one for each device.
    """

    folder: Annotated[Path, path("a folder of this device's own")]


@frozen(kw_only=True)
class Privacy:
    """How much of this device's data may be learned.

    Attributes:
        threshold: this device releases only into sums of more contributors than this, 1..63. To
            stay hidden among k honest devices beside f hostile ones, choose at least f + k.
        release_budget_per_day: releases that a day of uptime brings, 1..1,000,000; as many
            are saved up at most.
        evaluation_budget_per_day: of these, rounds of statistics or with evaluation
            values, 1..1,000,000.
        forbidden_suites: encryption suites that this device never takes part in.
    """

    threshold: Annotated[int, whole(1, MAX_ROSTER - 1, "contributors")]
    release_budget_per_day: Annotated[int, whole(1, 1_000_000)] = 2_000
    evaluation_budget_per_day: Annotated[int, whole(1, 1_000_000)] = 500
    forbidden_suites: Annotated[frozenset[str], choices(*SUITES)] = frozenset()


@frozen(kw_only=True)
class Limits:
    """The most that a coordinator may ask; announces beyond are refused with the reason.

    Attributes:
        epochs: passes over the data in one round, 1..1,000.
        values: length of the vector contributed (weights of the model, and 7 check values),
            1..16,000,000: a bound on memory, also for the model that is fetched.
        duration_s: longest deadline of a round, 1..86,400 seconds.
    """

    epochs: Annotated[int, whole(1, 1_000)] = 100
    values: Annotated[int, whole(1, 16_000_000)] = 2_000_000
    duration_s: Annotated[float, number(1, 86_400, "seconds")] = USUAL_LIMIT_S


@frozen(kw_only=True)
class Data:
    """The data that stays on this device: read at each round, never written.

    Exactly one of `file`, `folder`, `database` and `function` says where it is.

    Attributes:
        file: a CSV file (a header line, one sample a line) or an npz file (see `write_npz`).
        folder: holds such files; the newest count.
        database: an SQLite file.
        function: gives the samples; its module may lie in the folder of `device.toml`.
        source: `csv` or `npz`, of `file`; empty to go by the ending of its name.
        table: of `database`: a table or view.
        newest: most samples of `folder` or `database`, 10..10,000,000.
        label: column of the label, everywhere but in npz files.
    """

    file: Annotated[Path | None, path("this device's data file")] = None
    folder: Annotated[Path | None, path("a folder of data files")] = None
    database: Annotated[Path | None, path("an SQLite database")] = None
    function: Annotated[FunctionName | None, function("this device's samples")] = None
    source: Annotated[str, choice("csv", "npz")] = ""
    table: Annotated[str, text("the name of a table")] = ""
    newest: Annotated[int, whole(MIN_SAMPLES, 10_000_000, "samples")] = 100_000
    label: Annotated[str, text("the name of a column")] = "label"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        places = {
            "file": self.file,
            "folder": self.folder,
            "database": self.database,
            "function": self.function,
        }
        given = [key for key, place in places.items() if place is not None]
        if len(given) != 1:
            *others, last = (f"`{key}`" for key in places)
            yield (
                (given or ["file"])[-1],
                f"exactly one of {', '.join(others)} and {last} in [data]",
            )
        elif self.source and self.file is None:
            yield "source", "no such key without `file`"
        elif (self.table == "") is not (self.database is None):
            yield "table", "`table` with `database`, and nowhere else"


@frozen(kw_only=True)
class Model:
    """The model as other programs on this device find it.

    Attributes:
        file: where the newest verified model is written (npz); by default `model.npz` in the
            state folder.
    """

    file: Annotated[Path | None, path("an npz file to write")] = None


@frozen(kw_only=True)
class Training:
    """How the device trains, beyond what the plan of a round says.

    Attributes:
        seed: makes shuffles and rounding repeat themselves, 0..2**32 - 1: for experiments only,
            since whoever knows it knows the rounding. None draws from the operating system.
        litert: a .tflite file that computes the network, or the name of one that comes along; None
            to compute it in numpy.
    """

    seed: Annotated[int | None, whole(0, MAX_UINT32)] = None
    litert: Annotated[Path | None, litert_file()] = None


@frozen(kw_only=True)
class DeviceSettings:
    """All of `device.toml`, one attribute for each table."""

    fleet: Fleet
    broker: BrokerSettings
    state: State
    privacy: Privacy
    data: Data
    limits: Limits = Limits()
    model: Model = Model()
    training: Training = Training()

    @classmethod
    def load(cls, file: Path) -> DeviceSettings:
        """Read and check the file; raises ConfigError with all mistakes at once."""
        return load(file, cls)

    @property
    def model_file(self) -> Path:
        """Where the newest verified model is kept."""
        return self.model.file or self.state.folder / "model.npz"
