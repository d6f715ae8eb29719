"""What `coordinator.toml` may say; `coordinator.toml` beside this module is the commented template.

The fleet's name stands in the certificate, not here. Ranges of what is announced to devices are
those of the messages (docs/protocol.md, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen

from fedring.shared import contributions
from fedring.shared.config import (
    BrokerSettings,
    Kind,
    choice,
    flag,
    load,
    names,
    number,
    path,
    text,
    whole,
    wholes,
)
from fedring.shared.encryption import SUITES, max_values
from fedring.shared.litert.shipped import litert_file
from fedring.shared.messages import MAX_ROSTER, MAX_UINT32

MAX_FEATURES = 4_096
MAX_RANGE = 1e9
MAX_NUMBERS = 16_000_000
"""Of a model: the most that a device can be set to take part with."""


@frozen(kw_only=True)
class Fleet:
    """Who this coordinator is: files that `fedring fleet` makes.

    Attributes:
        ca: certificate of the fleet authority, PEM.
        key: this coordinator's identity key, PEM, readable by its owner only.
        certificate: its certificate, PEM.
        revoked: the fleet authority's newest revocation list, which also tells the epoch; looked
            at between rounds, and told to all devices.
    """

    ca: Annotated[Path, path("the fleet authority's certificate")]
    key: Annotated[Path, path("the coordinator's key")]
    certificate: Annotated[Path, path("the coordinator's certificate")]
    revoked: Annotated[Path, path("the fleet authority's revocation list")]


@frozen(kw_only=True)
class State:
    """Where models, rounds and the Paillier key are kept.

    Attributes:
        folder: made when missing; back it up with `fedring coordinator backup`.
    """

    folder: Annotated[Path, path("the folder that keeps models and keys")]


def _range_or_ranges() -> Kind:
    def positive(value: Any) -> float:
        if type(value) not in {int, float}:
            raise TypeError
        if not 0 < value <= MAX_RANGE:
            raise ValueError
        return float(value)

    def read(value: Any, _: Path) -> tuple[float, ...]:
        return tuple(map(positive, value if isinstance(value, list) else [value]))

    return Kind(f"a number above 0 and up to {MAX_RANGE:g}, or a list of them", read)


@frozen(kw_only=True)
class Model:
    """The first model; what the state folder has learned must be of this shape.

    Attributes:
        features: names of the columns that the model reads, 1..4,096, in its order.
        classes: names of what it tells apart, 2..1,000, in the order of its outputs.
        kind: `mlp` (layers of ReLU), `softmax` (no hidden layer), or `litert`.
        hidden: widths of the hidden layers of an mlp, at most 8, each 1..8,192.
        feature_ranges: greatest magnitude that a feature is expected to have, in its own unit, > 0:
            one number for all, or one for each. Public; larger values are cut while statistics are
            collected, so better too wide than too narrow.
        seed: makes the first weights, 0..2**32 - 1; those of a .tflite file stand in it.
        litert: of kind `litert`, the .tflite file that computes the network, or the name of one
            that comes along. Every device needs the same file.
    """

    features: Annotated[tuple[str, ...], names("column names", 1, MAX_FEATURES)]
    classes: Annotated[tuple[str, ...], names("class names", 2, 1_000)]
    kind: Annotated[str, choice("mlp", "softmax", "litert")] = "mlp"
    hidden: Annotated[tuple[int, ...], wholes("layer widths", 1, 8_192, 8)] = (64,)
    feature_ranges: Annotated[tuple[float, ...], _range_or_ranges()] = (100.0,)
    seed: Annotated[int, whole(0, MAX_UINT32)] = 0
    litert: Annotated[Path | None, litert_file()] = None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if (self.litert is None) is (self.kind == "litert"):
            yield "litert", '`litert` with `kind = "litert"`, and nowhere else'
        if self.kind == "mlp" and not self.hidden:
            yield "hidden", 'at least one layer, or `kind = "softmax"`'
        if self.n_numbers > MAX_NUMBERS:
            yield (
                "hidden" if self.layers else "features",
                f"a model of at most {MAX_NUMBERS:,} numbers, this one has {self.n_numbers:,}",
            )
        if len(self.feature_ranges) not in {1, len(self.features)}:
            yield (
                "feature_ranges",
                f"one number, or one for each of the {len(self.features)} features",
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """Widths of the hidden layers that this kind of model has."""
        return self.hidden if self.kind == "mlp" else ()

    @property
    def n_weights(self) -> int:
        """What is trained: weights and biases; of kind `litert` the file decides, this is 0."""
        if self.kind == "litert":
            return 0
        widths = (len(self.features), *self.layers, len(self.classes))
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))

    @property
    def n_numbers(self) -> int:
        """Numbers in the model: weights, biases, and the normalisation to come."""
        return self.n_weights + 3 * len(self.features)

    @property
    def ranges(self) -> tuple[float, ...]:
        """One range for each feature."""
        if len(self.feature_ranges) == len(self.features):
            return self.feature_ranges
        return self.feature_ranges * len(self.features)


@frozen(kw_only=True)
class Training:
    """What devices are asked to do in a round, and for how many rounds.

    Attributes:
        rounds: training rounds after which the coordinator stops announcing, 1..1,000,000;
            statistics rounds and void rounds are not counted.
        epochs: passes over a device's own data in a round, 1..1,000.
        batch: samples of one step, 1..65,536.
        rate: step size of SGD, 1e-6..10.
        clip: L2 bound of a device's update, in units of a weight; 0 for none.
        value_range: greatest magnitude of one value of an update, in units of a weight.
        bits: width of a value in the encrypted sum, 16 or 8.
        evaluation_samples: own samples on which each device evaluates the model, 0..127.
        statistics: begin with a round that sums means and spreads for the normalisation.
    """

    rounds: Annotated[int, whole(1, 1_000_000)] = 100
    epochs: Annotated[int, whole(1, 1_000)] = 5
    batch: Annotated[int, whole(1, 65_536, "samples")] = 32
    rate: Annotated[float, number(1e-6, 10)] = 0.1
    clip: Annotated[float, number(0, 1e6)] = 2.0
    value_range: Annotated[float, number(1e-6, 1e6)] = 2.0
    bits: Annotated[int, choice(16, 8)] = 16
    evaluation_samples: Annotated[int, whole(0, 127, "samples")] = 64
    statistics: Annotated[bool, flag()] = True


@frozen(kw_only=True)
class Ring:
    """How rings are formed, how long they wait, what hides a contribution.

    Attributes:
        size: devices that a ring is dealt, 2..64.
        min_devices: devices that must be alive before a round is announced, 2..100,000.
        ready_s: how long rings wait for devices after the first one is ready, 1..86,400 seconds;
            training happens in this time.
        patience_s: how long a silent neighbour is waited for, 0.2..600 seconds.
        release_s: how long the coordinator waits for releases, 0.2..600 seconds.
        suite: encryption suite: `hybrid` for any model, `paillier` for small ones.
        key_bits: length of the Paillier modulus, 2048, 3072 or 4096; a new one is made only with a
            new epoch.
    """

    size: Annotated[int, whole(2, MAX_ROSTER, "devices")] = 16
    min_devices: Annotated[int, whole(2, 100_000, "devices")] = 2
    ready_s: Annotated[float, number(1, 86_400, "seconds")] = 60.0
    patience_s: Annotated[float, number(0.2, 600, "seconds")] = 5.0
    release_s: Annotated[float, number(0.2, 600, "seconds")] = 15.0
    suite: Annotated[str, choice(*SUITES)] = SUITES[0]
    key_bits: Annotated[int, choice(2048, 3072, 4096)] = 3072


@frozen(kw_only=True)
class Evaluation:
    """Data of the coordinator's own, on which every new model is evaluated.

    Attributes:
        file: CSV or npz with the features of the model and the label.
        label: column of the label in a CSV file.
    """

    file: Annotated[Path, path("a CSV or npz file")]
    label: Annotated[str, text("the name of a column")] = "label"


@frozen(kw_only=True)
class Enrolment:
    """The Mosquitto of its own at which boards without a certificate ask for one.

    It runs on the broker's machine, `[broker] host`.

    Attributes:
        port: of its listener for the coordinator.
    """

    port: Annotated[int, whole(1, 65_535)] = 8885


@frozen(kw_only=True)
class CoordinatorSettings:
    """All of `coordinator.toml`, one attribute for each table."""

    fleet: Fleet
    broker: BrokerSettings
    state: State
    model: Model
    training: Training = Training()
    ring: Ring = Ring()
    evaluation: Evaluation | None = None
    enrolment: Enrolment | None = None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        # Sums for the normalisation, two a feature, are shorter than any suite's limit.
        length, most = contributions.n_values(self.model.n_weights), max_values(self.ring.suite)
        if length > most:
            yield (
                "ring.suite",
                f'"{SUITES[0]}", or a smaller model: this one is too large for suite'
                f" {self.ring.suite}, {length:,} values instead of {most:,} at most",
            )

    @classmethod
    def load(cls, file: Path) -> CoordinatorSettings:
        """Read and check the file; raises ConfigError with all mistakes at once."""
        return load(file, cls)
