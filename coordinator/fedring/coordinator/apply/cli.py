"""`fedring coordinator apply`: a signed folder of the owner into its places on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from attrs import evolve

from fedring.coordinator.apply.broker_machine import BrokerMachine
from fedring.coordinator.apply.broker_side import apply_broker
from fedring.coordinator.apply.coordinator_side import CoordinatorMachine, apply_coordinator
from fedring.coordinator.apply.receiving import (
    AUTHORITY,
    PURPOSE,
    keep_authority,
    keep_number,
    make_home,
    receive,
)
from fedring.coordinator.apply.remote import apply_there
from fedring.shared.errors import BrokerError, StateError
from fedring.shared.identity import Authority
from fedring.shared.signed_folders import MANIFEST_FILE, SIGNATURE_FILE, read_folder
from fedring.shared.state import lock_folder

PARTS: Final = {"broker": ("broker", "canary"), "coordinator": ("coordinator",)}
"""Folders of the signed folder that each machine needs."""
_WHOLE_MACHINE: Final = Path("/")


@click.command(epilog="Example: fedring coordinator apply server")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--broker",
    "destination",
    metavar="USER@HOST",
    help="Do it on that machine, over ssh; as root, or with sudo.",
)
@click.option(
    "--only",
    type=click.Choice(sorted(PARTS)),
    help="The other part runs on another machine.",
)
@click.option("--program", metavar="PATH", help="With --broker: where fedring is on that machine.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=_WHOLE_MACHINE,
    help="Where etc/fedring and etc/mosquitto are.",
)
@click.option("--reload", metavar="COMMAND", help="Reloads Mosquitto.  [default: systemctl]")
@click.option("--restart", metavar="COMMAND", help="Restarts Mosquitto.  [default: systemctl]")
@click.pass_context
def apply(
    context: click.Context,
    *,
    folder: Path,
    destination: str | None,
    only: str | None,
    program: str | None,
    root: Path,
    reload: str | None,
    restart: str | None,
) -> None:
    """Put FLEET/server into place.

    The first folder decides whose machine this is. Afterwards only folders of that authority are
    taken, and none that is older than one it was given before. Your coordinator.toml stays.
    """
    parts = [only] if only else sorted(PARTS)
    if destination is not None:
        options = {"--only": only, "--reload": reload, "--restart": restart}
        given = [word for name, value in options.items() if value for word in (name, value)]
        given += [] if root == _WHOLE_MACHINE else ["--root", str(root)]
        context.exit(apply_there(destination, _files(folder, parts), program, given))
    if root == _WHOLE_MACHINE and os.geteuid() != 0:
        raise StateError(
            "files of services belong to root",
            name="apply.not-root",
            hint=f"sudo fedring coordinator apply {folder}",
        )
    coordinator = CoordinatorMachine(root) if "coordinator" in parts else None
    broker = BrokerMachine(root) if "broker" in parts else None
    if broker is not None:
        if reload:
            broker = evolve(broker, reload=_telling(reload))
        if restart:
            broker = evolve(broker, restart=_telling(restart))
    _apply_here(folder, root / "etc" / "fedring", coordinator, broker)


def _apply_here(
    folder: Path,
    home: Path,
    coordinator: CoordinatorMachine | None,
    broker: BrokerMachine | None,
) -> None:
    parts = [
        part for part, machine in (("coordinator", coordinator), ("broker", broker)) if machine
    ]
    make_home(home)
    lock = lock_folder(home)  # two at once would each see the other's half
    try:
        received = receive(folder, home, _needed(parts))
        fleet = received.manifest.fleet
        if received.is_first:
            fingerprint = received.authority.fingerprint
            click.echo(f"this machine trusts fleet {fleet} from now on: {fingerprint}")
            click.echo("that must be what `fedring fleet init` said")
        keep_authority(received, home)
        # Before anything is in place: what fails half-way must not make way for an older one.
        keep_number(received, home)
        steps = []
        if coordinator is not None:
            steps = apply_coordinator(
                received.contents, coordinator, received.authority, click.echo
            )
        if broker is not None:
            apply_broker(received.contents, broker, click.echo)
    finally:
        lock.close()
    click.echo(f"number {received.manifest.number} of fleet {fleet} is in place")
    for step in steps:
        click.echo(f"next: {step}", err=True)


def _needed(parts: list[str]) -> set[str]:
    return {folder for part in parts for folder in PARTS[part]}


def _files(folder: Path, parts: list[str]) -> dict[str, bytes]:
    """What a machine needs of a folder, manifest and signature with it."""
    needed = _needed(parts)
    authority = Authority.load(folder / AUTHORITY)
    manifest, contents = read_folder(folder, authority, PURPOSE, needed)
    files = {
        path: content
        for path, content in contents.items()
        if "/" not in path or path.split("/")[0] in needed
    }
    signature = (folder / SIGNATURE_FILE).read_bytes()
    return {MANIFEST_FILE: manifest.encode(), SIGNATURE_FILE: signature, **files}


def _telling(command: str) -> Callable[[], None]:
    def tell() -> None:
        done = subprocess.run(shlex.split(command), check=False, capture_output=True, text=True)  # noqa: S603  # the person's own command
        if done.returncode:
            raise BrokerError(
                f"`{command}` failed: {done.stderr.strip()}",
                name="broker.not-told",
                hint="the new files are in place: start Mosquitto, then apply the folder again",
            )

    return tell


COMMANDS: Final = (apply,)
