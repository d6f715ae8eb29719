"""`fedring device check-model`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click
import numpy as np

from fedring.shared.errors import ModelError
from fedring.shared.litert import SHIPPED, Computation

TRIAL: Final = """
import sys
from contextlib import suppress
from pathlib import Path
from fedring.shared.errors import UserError
from fedring.shared.litert import Computation
with suppress(UserError):
    Computation.load(Path(sys.argv[1]))
"""
_BATCH: Final = 32
_STEPS: Final = 50
_MOST_ARRAYS: Final = 8


@click.command(
    "check-model",
    short_help="Say whether devices can learn by a .tflite FILE.",
    epilog="Example: fedring device check-model network.tflite",
)
@click.argument("file", metavar="FILE")
def check_model(file: str) -> None:
    """Say whether devices can learn by a .tflite FILE, or what it lacks.

    FILE may also be hapt-dense or hapt-conv, which come along. Give it only files whose maker you
    trust: LiteRT is not made for others.
    """
    path = SHIPPED.get(file, Path(file))
    _try_apart(path)
    computation = Computation.load(path)
    arrays = [
        f"{name} {' x '.join(map(str, shape)) or 1}" for name, shape in computation.shapes.items()
    ]
    more = len(arrays) - _MOST_ARRAYS
    rows = [
        ("takes", f"{computation.n_features} features, {_batch(computation)} at a time"),
        ("tells apart", f"{computation.n_classes} classes"),
        ("learns", f"{computation.n_weights:,} weights in {len(arrays)} arrays"),
        *(("", text) for text in arrays[:_MOST_ARRAYS]),
        *([("", f"and {more} more")] if more > 0 else []),
        ("computes", _computes(computation)),
        ("size", f"{computation.n_bytes:,} bytes"),
        ("one step", f"{_step_ms(computation):.2f} ms on this machine"),
    ]
    click.echo(f"{computation.path}: sound")
    for name, text in rows:
        click.echo(f"  {name:12}{text}")


def _try_apart(path: Path) -> None:
    """Load the file in a process of its own: LiteRT dies of some damaged files.

    Raises:
        ModelError: it did.
    """
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", TRIAL, path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode < 0:
        raise ModelError(
            f"{path}: LiteRT dies of it ({signal.Signals(-done.returncode).name})",
            name="model.unreadable",
            hint="it is damaged, or of a converter that does not fit: copy or make it anew",
        )


def _batch(computation: Computation) -> str:
    return "any number" if computation.batch is None else f"at most {computation.batch}"


def _computes(computation: Computation) -> str:
    if computation.dense_kind is None:
        return f"a network of its own, kind {computation.kind}: every device needs this file"
    return f"what kind {computation.dense_kind} computes in numpy: not every device needs the file"


def _step_ms(computation: Computation) -> float:
    """Median time of a step."""
    rows = np.zeros((computation.batch or _BATCH, computation.n_features), np.float32)
    labels = np.zeros(len(rows), np.int64)
    steps, times = computation.steps(computation.first), []
    for _ in range(_STEPS):
        begun = time.perf_counter()
        steps.step(rows, labels, 0.01)
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times))
