"""`fedring coordinator check-broker`: does Mosquitto on this machine keep revoked boards out?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from fedring.coordinator.apply.broker_check import check_broker
from fedring.coordinator.apply.broker_machine import BrokerMachine
from fedring.shared.errors import StateError

_WHOLE_MACHINE: Final = Path("/")


@click.command("check-broker", epilog="Example: fedring coordinator check-broker")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=_WHOLE_MACHINE,
    help="Where etc/mosquitto is.",
)
def check(root: Path) -> None:
    """See that Mosquitto keeps revoked boards out.

    Tries to get in with a revoked certificate and with a good one, and changes nothing. Mosquitto
    goes on without lists that it cannot read, and nothing but trying tells.
    """
    if root == _WHOLE_MACHINE and os.geteuid() != 0:
        raise StateError(
            "files of services belong to root",
            name="apply.not-root",
            hint="sudo fedring coordinator check-broker",
        )
    check_broker(BrokerMachine(root))
    click.echo("the broker keeps revoked boards out, and goes by its access list")


COMMANDS: Final = (check,)
