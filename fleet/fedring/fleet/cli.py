"""`fedring fleet`: the owner's tools, for the one machine that holds the authority's key."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs
import click

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.register import Device
from fedring.shared.certificates import read_file
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.messages import MAX_ROSTER

PASSPHRASE_VARIABLE: Final = "FEDRING_FLEET_PASSPHRASE"  # noqa: S105 - its name, no passphrase
MAX_RANGE: Final = 10_000

_RANGE: Final = re.compile(r"([a-z0-9-]*?)([0-9]{1,9})\.\.([a-z0-9-]*?)([0-9]{1,9})")

_in_fleet = click.option(
    "--fleet",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    metavar="FOLDER",
    help="The fleet's folder.",
)
_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"First line is the passphrase. Else ${PASSPHRASE_VARIABLE}, else it is asked for.",
)


@click.group(epilog="Example: fedring fleet init greenhouse --broker broker.local")
def command() -> None:
    """Certify, list and revoke devices.

    The folder of a fleet holds the key that decides who belongs to it. Keep it on a machine of
    your own, not on the coordinator's, and keep a copy.
    """


@command.command(epilog="Example: fedring fleet init greenhouse --broker broker.local,192.168.1.10")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the fleet.  [default: as the folder]")
@click.option(
    "--broker",
    required=True,
    metavar="HOST[,IP...]",
    help="Names and addresses of the broker; its certificate names all, settings the first.",
)
@_passphrase_file
def init(folder: Path, name: str | None, broker: str, passphrase_file: Path | None) -> None:
    """Make a fleet in FOLDER.

    It gets an authority, whose key the passphrase protects, and ready folders for the machines of
    broker and coordinator.
    """
    passphrase = _passphrase(passphrase_file, new=True)
    addresses = [address.strip() for address in broker.split(",")]
    fleet = create_fleet(folder, name or folder.resolve().name, addresses, passphrase)
    click.echo(f"made fleet {fleet.name} in {folder}")
    _next(
        f"copy {fleet.broker_folder} to the broker's machine, as broker_config/mosquitto.conf says",
        f"copy {fleet.coordinator_folder} to the coordinator's machine, edit its coordinator.toml,"
        " run: fedring coordinator run --config coordinator.toml",
        f"fedring fleet add --fleet {folder} b01..b04",
    )


@command.command(epilog="Example: fedring fleet add --fleet greenhouse b01..b20")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_in_fleet
@click.option(
    "--threshold",
    type=click.IntRange(1, MAX_ROSTER - 1),
    help="Devices share only in sums of more than so many.  [default: 3, from 16 devices on 7]",
)
@_passphrase_file
def add(
    names: tuple[str, ...], folder: Path, threshold: int | None, passphrase_file: Path | None
) -> None:
    """Add devices to the fleet.

    Each gets a number, a key, a certificate, and a ready folder for its board. b01..b20 means all
    names from b01 to b20.
    """
    fleet = _unlocked(folder, passphrase_file)
    wanted = list(_expanded(names))
    for device_folder in fleet.add_all(wanted, threshold=threshold):
        device = fleet.find(device_folder.name)
        click.echo(f"added {device.name} with number {device.number}: {device_folder}")
    _next(
        "move each folder to its board, edit its device.toml,"
        " run: fedring device run --config device.toml",
    )


@command.command("list", epilog="Example: fedring fleet list --fleet greenhouse")
@_in_fleet
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_(folder: Path, as_json: bool) -> None:
    """Show all devices, revoked ones too.

    Needs no passphrase.
    """
    fleet = Fleet(folder)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "fleet": fleet.name,
                    "epoch": fleet.epoch,
                    "revocation_list": fleet.list_number,
                    "devices": [attrs.asdict(device) for device in fleet.devices],
                },
                indent=1,
            )
        )
        return
    click.echo(f"fleet {fleet.name}, epoch {fleet.epoch}, revocation list {fleet.list_number}")
    for device in fleet.devices:
        click.echo(_row(device))
    if not fleet.devices:
        _next(f"fedring fleet add --fleet {folder} b01..b04")


@command.command(epilog="Example: fedring fleet revoke --fleet greenhouse b07")
@click.argument("name")
@_in_fleet
@_passphrase_file
def revoke(name: str, folder: Path, passphrase_file: Path | None) -> None:
    """Take a device out of the fleet.

    For boards that are lost, stolen or broken. Its name may be given again, its number never is.
    """
    fleet = _unlocked(folder, passphrase_file)
    before = fleet.list_number
    device = fleet.revoke(name)
    if fleet.list_number == before:
        click.echo(f"{name} was revoked on {device.revoked}; list {before} is written again")
    else:
        click.echo(f"revoked {name}, number {device.number}, with list {fleet.list_number}")
    _next(*_distribute(fleet))


@command.command(epilog="Example: fedring fleet epoch --fleet greenhouse")
@_in_fleet
@_passphrase_file
def epoch(folder: Path, passphrase_file: Path | None) -> None:
    """Begin the next epoch.

    Needed when the coordinator's state was lost, or put back from a backup: within an epoch
    devices never take a round number twice.
    """
    fleet = _unlocked(folder, passphrase_file)
    click.echo(f"fleet {fleet.name} is in epoch {fleet.next_epoch()}, list {fleet.list_number}")
    _next(*_distribute(fleet))


def _row(device: Device) -> str:
    state = f"revoked {device.revoked}" if device.revoked else "in the fleet"
    return f"{device.number:>6}  {device.name:<32}  added {device.added}  {state}"


def _distribute(fleet: Fleet) -> Iterator[str]:
    yield (
        f"copy {fleet.coordinator_folder / 'revoked'} over the coordinator's: it tells all devices"
    )
    yield (
        f"copy {fleet.broker_folder / 'crl.pem'} over the broker's (beside it, then rename),"
        " run there: systemctl reload mosquitto"
    )


def _next(*steps: str) -> None:
    for step in steps:
        click.echo(f"next: {step}", err=True)


def _expanded(names: Iterable[str]) -> Iterator[str]:
    """Write ranges out: b08..b11 is b08, b09, b10, b11."""
    for name in names:
        match = _RANGE.fullmatch(name)
        if match is None:
            yield name
            continue
        stem, first, other_stem, last = match.groups()
        n_names = int(last) - int(first) + 1
        if stem != other_stem or not 1 <= n_names <= MAX_RANGE:
            raise StateError(
                f"{name} is no range of names",
                name="fleet.name",
                hint="like b01..b20: the same letters, a smaller and a greater number",
            )
        for number in range(int(first), int(last) + 1):
            yield f"{stem}{number:0{len(first)}}"


def _unlocked(folder: Path, passphrase_file: Path | None) -> Fleet:
    fleet = Fleet(folder)
    fleet.unlock(_passphrase(passphrase_file) if fleet.needs_passphrase else None)
    return fleet


def _passphrase(file: Path | None, *, new: bool = False) -> str:
    """Take the passphrase from where nobody else sees it: never from the command line."""
    if file is not None:
        content = read_file(file, "passphrase", private=True).decode(errors="replace")
        return content.split("\n", maxsplit=1)[0].rstrip("\r")
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        raise CertificateError(
            "the fleet authority's key needs a passphrase, and there is no terminal to ask on",
            name="fleet.passphrase",
            hint=f"use --passphrase-file FILE, or set {PASSPHRASE_VARIABLE}",
        )
    entered: str = click.prompt(
        "Passphrase for the fleet's new key" if new else "Passphrase of the fleet's key",
        hide_input=True,
        confirmation_prompt=new,
        err=True,
    )
    return entered
