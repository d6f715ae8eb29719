"""`fedring fleet`: the owner's tools, for the one machine that holds the authority's key.

Each file of this package has the commands of one matter, and lists them in `COMMANDS`.
"""

from __future__ import annotations

import click

from fedring.fleet.cli import bundles, devices, flashing, fleets, signing, updating
from fedring.fleet.cli.options import hide_passphrase


@click.group(epilog="Example: fedring fleet init greenhouse --broker broker.local")
@click.pass_context
def command(context: click.Context) -> None:
    """Certify, list and revoke devices.

    The folder of a fleet holds the key that decides who belongs to it. Keep it on a machine of
    your own, not on the coordinator's, and keep a copy.
    """
    hide_passphrase(context)


for _commands in (
    fleets.COMMANDS,
    devices.COMMANDS,
    signing.COMMANDS,
    bundles.COMMANDS,
    flashing.COMMANDS,
    updating.COMMANDS,
):
    for _command in _commands:
        command.add_command(_command)
