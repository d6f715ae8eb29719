"""`fedring device`: taking part with this board's data, and using the model."""

from __future__ import annotations

from pathlib import Path

import click

from fedring.device.predict_cli import predict
from fedring.device.settings import DeviceSettings


@click.group(epilog="Example: fedring device run --config device.toml")
def command() -> None:
    """Take part with this board's own data, and use the model."""


@command.command(epilog="Example: fedring device run --config device.toml")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="device.toml",
    metavar="FILE",
    help="The device's settings.",
)
def run(config: Path) -> None:
    """Take part in rounds until Ctrl-C. The data stays here."""
    settings = DeviceSettings.load(config)
    from fedring.device.agent import run as run_agent  # noqa: PLC0415 - MQTT and ciphers only where used

    run_agent(settings)


command.add_command(predict)
