"""`fedring fleet init`, `renew` and `epoch`: the fleet as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from fedring.fleet.authority import create_fleet
from fedring.fleet.cli.options import (
    apply_step,
    entered_passphrase,
    in_fleet,
    next_steps,
    passphrase_option,
    unlocked,
)
from fedring.shared.identity import Authority


@click.command(epilog="Example: fedring fleet init greenhouse --broker broker.local,192.168.1.10")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the fleet.  [default: as the folder]")
@click.option(
    "--broker",
    required=True,
    metavar="HOST[,IP...]",
    help="Names and addresses of the broker; its certificate names all, settings the first.",
)
@passphrase_option
def init(folder: Path, name: str | None, broker: str, passphrase_file: Path | None) -> None:
    """Make a fleet in FOLDER.

    It gets an authority, whose key the passphrase protects, and a signed folder for the machines
    of broker and coordinator.
    """
    passphrase = entered_passphrase(passphrase_file, new=True)
    fleet = create_fleet(folder, name or folder.resolve().name, _addresses(broker), passphrase)
    click.echo(f"made fleet {fleet.name} in {folder}")
    click.echo(f"its authority: {Authority.load(fleet.ca_file).fingerprint}")
    next_steps(apply_step(fleet), f"fedring fleet add --fleet {folder} b01..b04")


@click.command(epilog="Example: fedring fleet renew --fleet greenhouse")
@in_fleet
@click.option(
    "--broker",
    metavar="HOST[,IP...]",
    help="New names and addresses of the broker.  [default: as they are]",
)
@passphrase_option
def renew(folder: Path, broker: str | None, passphrase_file: Path | None) -> None:
    """Make the keys of broker, coordinator and owner anew.

    For a server machine that was stolen or broken into, and for a broker that moves. Boards renew
    their certificates by themselves.
    """
    fleet = unlocked(folder, passphrase_file)
    fleet.renew_servers(None if broker is None else _addresses(broker))
    click.echo(
        f"made keys and certificates of broker, coordinator and owner of {fleet.name} anew,"
        f" and revoked those they had, with list {fleet.list_number}"
    )
    next_steps(apply_step(fleet), "restart Mosquitto and the coordinator there")


@click.command(epilog="Example: fedring fleet epoch --fleet greenhouse")
@in_fleet
@passphrase_option
def epoch(folder: Path, passphrase_file: Path | None) -> None:
    """Begin the next epoch.

    Needed when the coordinator's state was lost, or put back from a backup: within an epoch
    devices never take a round number twice.
    """
    fleet = unlocked(folder, passphrase_file)
    click.echo(f"fleet {fleet.name} is in epoch {fleet.next_epoch()}, list {fleet.list_number}")
    next_steps(apply_step(fleet))


def _addresses(broker: str) -> list[str]:
    return [address.strip() for address in broker.split(",")]


COMMANDS: Final = (init, renew, epoch)
