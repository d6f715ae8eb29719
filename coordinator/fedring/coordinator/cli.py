"""`fedring coordinator`: rounds, and the models that come out of them."""

from __future__ import annotations

from pathlib import Path

import click

from fedring.coordinator import check_cli, history_cli
from fedring.coordinator.apply import cli as apply_cli
from fedring.coordinator.enrolment import cli as enrolment_cli
from fedring.coordinator.settings import CoordinatorSettings


@click.group(epilog="Example: fedring coordinator run --config coordinator.toml")
def command() -> None:
    """Run rounds beside the broker, and look after the models."""


@command.command(epilog="Example: fedring coordinator run --config coordinator.toml")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="coordinator.toml",
    metavar="FILE",
    help="The coordinator's settings.",
)
def run(config: Path) -> None:
    """Run rounds until Ctrl-C.

    After the last one it stays, for boards that come later and for `rollback`.
    """
    settings = CoordinatorSettings.load(config)
    from fedring.coordinator.service import run as run_service  # noqa: PLC0415 - MQTT and ciphers only where used

    run_service(settings)


for _more in (
    *apply_cli.COMMANDS,
    *check_cli.COMMANDS,
    *history_cli.COMMANDS,
    *enrolment_cli.COMMANDS,
):
    command.add_command(_more)
