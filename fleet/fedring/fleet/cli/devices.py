"""`fedring fleet add`, `list`, `reset`, `revoke`: its devices."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import click

from fedring.fleet.authority import Fleet
from fedring.fleet.cli.names import expanded
from fedring.fleet.cli.options import apply_step, in_fleet, next_steps, passphrase_option, unlocked
from fedring.fleet.codes import Invitation
from fedring.fleet.register import Device, Standing
from fedring.shared.cli import command as fedring
from fedring.shared.messages import MAX_ROSTER


@click.command(epilog="Example: fedring fleet add --fleet greenhouse b01..b20")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@in_fleet
@click.option(
    "--with-keys",
    is_flag=True,
    help="Make keys and certificates here, in folders to carry over: no code, no `fleet sign`.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, MAX_ROSTER - 1),
    help="With --with-keys: devices share only in sums of more than so many."
    "  [default: 3, from 16 devices on 7]",
)
@passphrase_option
def add(
    names: tuple[str, ...],
    folder: Path,
    with_keys: bool,
    threshold: int | None,
    passphrase_file: Path | None,
) -> None:
    """Add devices to the fleet.

    Each gets a number and a code with which its board asks for a certificate, once and within a
    week. b01..b20 means all names from b01 to b20.
    """
    wanted = list(expanded(names))
    if with_keys:
        _add_with_keys(unlocked(folder, passphrase_file), wanted, threshold)
        return
    if threshold is not None:
        raise click.UsageError("--threshold goes with --with-keys; `fleet flash` has its own")
    for invitation in Fleet(folder).invite(wanted):
        click.echo(f"added {invitation.name} with number {invitation.number}: {_code(invitation)}")
    next_steps(*_board_steps(folder, wanted[0]))


@click.command("list", epilog="Example: fedring fleet list --fleet greenhouse")
@in_fleet
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
                    "devices": [
                        attrs.asdict(device) | {"standing": device.standing}
                        for device in fleet.devices
                    ],
                },
                indent=1,
            )
        )
        return
    click.echo(f"fleet {fleet.name}, epoch {fleet.epoch}, revocation list {fleet.list_number}")
    now = datetime.now(UTC)
    for device in fleet.devices:
        click.echo(_row(device, now))
    next_steps(*_list_steps(fleet, folder, now))


@click.command(epilog="Example: fedring fleet reset --fleet greenhouse b07")
@click.argument("name")
@in_fleet
@passphrase_option
def reset(name: str, folder: Path, passphrase_file: Path | None) -> None:
    """Give a board a new code.

    For a code that expired, and for a board that is flashed anew. A certificate that the board had
    is revoked.
    """
    fleet = unlocked(folder, passphrase_file)
    before = fleet.list_number
    invitation = fleet.reset(name)
    click.echo(f"reset {name}, number {invitation.number}: {_code(invitation)}")
    if fleet.list_number > before:
        click.echo(f"revoked what it had before, with list {fleet.list_number}")
        next_steps(apply_step(fleet))
    next_steps(*_board_steps(folder, name))


@click.command(epilog="Example: fedring fleet revoke --fleet greenhouse b07")
@click.argument("name")
@in_fleet
@click.option(
    "--broker",
    "destination",
    metavar="USER@HOST",
    help="Also cut it off there, over ssh: `fedring coordinator apply`.",
)
@passphrase_option
def revoke(name: str, folder: Path, destination: str | None, passphrase_file: Path | None) -> None:
    """Take a device out of the fleet.

    For boards that are lost, stolen or broken. Its name may be given again, its number never is.
    It takes part until broker and coordinator know: with --broker at once.
    """
    fleet = unlocked(folder, passphrase_file)
    before = fleet.list_number
    device = fleet.revoke(name)
    if fleet.list_number == before:
        click.echo(f"{name} was revoked on {device.revoked}; list {before} is written again")
    else:
        click.echo(f"revoked {name}, number {device.number}, with list {fleet.list_number}")
    if destination is None:
        next_steps(f"cut it off: {apply_step(fleet)}")
        return
    sys.stdout.flush()  # the other machine's words come after ours
    words = ["coordinator", "apply", str(fleet.server_folder), "--broker", destination]
    status = fedring.main(words, prog_name="fedring", standalone_mode=False)
    if status:
        next_steps(f"{name} is not cut off yet; once that is mended: {apply_step(fleet)}")
        sys.exit(status)


def _add_with_keys(fleet: Fleet, names: list[str], threshold: int | None) -> None:
    for device_folder in fleet.add_all(names, threshold=threshold):
        device = fleet.find(device_folder.name)
        click.echo(f"added {device.name} with number {device.number}: {device_folder}")
    next_steps(
        "move each folder to its board, edit its device.toml,"
        " run: fedring device run --config device.toml",
    )


def _code(invitation: Invitation) -> str:
    return f"its code ends {invitation.ends:%Y-%m-%d %H:%M} UTC"


def _board_steps(folder: Path, name: str) -> tuple[str, str]:
    return (
        f"bring code and software to each board: fedring fleet flash card --fleet {folder}"
        f" {name} /dev/sdX",
        f"once they are on: fedring fleet sign --fleet {folder} --watch",
    )


def _list_steps(fleet: Fleet, folder: Path, now: datetime) -> list[str]:
    """What the devices wait for."""
    waiting: dict[Standing, list[str]] = {}
    late = []
    for device in fleet.devices:
        waiting.setdefault(device.standing, []).append(device.name)
        if device.standing is Standing.INVITED and device.code_expired(now):
            late.append(device.name)
    if set(waiting) <= {Standing.REVOKED}:
        return [f"fedring fleet add --fleet {folder} b01..b04"]
    steps = [f"another code: fedring fleet reset --fleet {folder} {name}" for name in late[:1]]
    if invited := [name for name in waiting.get(Standing.INVITED, ()) if name not in late]:
        steps += _board_steps(folder, invited[0])
    elif certified := waiting.get(Standing.CERTIFIED):
        steps.append(f"to see {certified[0]} come in: fedring fleet sign --fleet {folder} --watch")
    if not steps:
        steps.append(f"see them at work: fedring watch --broker mqtt://{fleet.broker[0]}:8883")
    return steps


def _row(device: Device, now: datetime) -> str:
    return f"{device.number:>6}  {device.name:<32}  added {device.added}  {_state(device, now)}"


def _state(device: Device, now: datetime) -> str:
    match device.standing:
        case Standing.REVOKED:
            return f"revoked {device.revoked}"
        case Standing.INVITED if device.code_expired(now):
            return f"invited, its code expired {_when(device)}"
        case Standing.INVITED:
            return f"invited, its code ends {_when(device)}"
        case Standing.CERTIFIED:
            return f"certified until {_end(device)}, not seen yet"
    return f"enrolled, certified until {_end(device)}"


def _when(device: Device) -> str:
    return str(device.code_ends).replace("T", " ").replace("Z", " UTC")


def _end(device: Device) -> str:
    return device.certificates[-1].ends


COMMANDS: Final = (add, list_, reset, revoke)
