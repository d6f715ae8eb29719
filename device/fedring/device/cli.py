"""`fedring device`: taking part with this board's data, and using the model.

Each command is imported when it is asked for: the doctor must speak where a library is missing that
the others need.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import click

_LATER: Final = {
    "check-model": ("fedring.device.check_model_cli", "check_model"),
    "doctor": ("fedring.device.doctor.cli", "doctor"),
    "predict": ("fedring.device.predict_cli", "predict"),
    "tryout": ("fedring.device.update.cli", "tryout"),
    "update": ("fedring.device.update.cli", "update"),
}


class Commands(click.Group):
    """Commands of which most are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LATER:
            return super().get_command(ctx, cmd_name)
        module, name = _LATER[cmd_name]
        command = getattr(import_module(module), name)
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, epilog="Example: fedring device run --config device.toml")
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
    from fedring.device.agent import run as run_agent  # noqa: PLC0415 - see above
    from fedring.device.settings import DeviceSettings  # noqa: PLC0415

    run_agent(DeviceSettings.load(config))
