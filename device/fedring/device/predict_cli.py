"""`fedring device predict`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from fedring.device.predict import load_model, predict_lines
from fedring.device.settings import DeviceSettings
from fedring.shared import networks
from fedring.shared.errors import DataError
from fedring.shared.litert import Computation

STDIN = "-"


@click.command(
    short_help="Use the newest model on samples of a CSV FILE.",
    epilog="Example: fedring device predict --config device.toml samples.csv",
)
@click.argument("samples", metavar="[FILE|-]", default=STDIN)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="device.toml",
    metavar="FILE",
    help="The device's settings; they say where the model is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a sample.")
def predict(samples: str, config: Path, as_json: bool) -> None:
    """Say what the model makes of each sample in a CSV FILE, or on standard input.

    Columns are the raw features, found by their names in the first line.
    """
    settings = DeviceSettings.load(config)
    check, compute = networks.check, networks.predict
    if settings.training.litert is not None:
        computation = Computation.load(settings.training.litert)
        check, compute = computation.check, computation.predict
    model = load_model(settings.model_file, check)
    with ExitStack() as stack:
        lines = sys.stdin
        source = Path("standard input" if samples == STDIN else samples)
        if samples != STDIN:
            try:
                lines = stack.enter_context(source.open(newline="", encoding="utf-8"))
            except OSError as error:
                raise DataError(f"{source}: {error.strerror}", name="data.missing-file") from error
        for prediction in predict_lines(model, lines, source, compute):
            click.echo(prediction.json() if as_json else prediction.text())
