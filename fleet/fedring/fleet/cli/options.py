"""What commands of `fedring fleet` have in common: which fleet, its passphrase, what comes next."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from fedring.fleet.authority import Fleet
from fedring.shared.certificates import read_file
from fedring.shared.errors import CertificateError

PASSPHRASE_VARIABLE: Final = "FEDRING_FLEET_PASSPHRASE"  # noqa: S105 - its name, no passphrase

in_fleet = click.option(
    "--fleet",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    metavar="FOLDER",
    help="The fleet's folder.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"First line is the passphrase. Else ${PASSPHRASE_VARIABLE}, else it is asked for.",
)


def hide_passphrase(context: click.Context) -> None:
    """Take the passphrase out of the environment, which programs that are started would inherit."""
    given = os.environ.pop(PASSPHRASE_VARIABLE, None)
    if given is not None:
        context.meta[PASSPHRASE_VARIABLE] = given
        context.call_on_close(lambda: os.environ.__setitem__(PASSPHRASE_VARIABLE, given))


def unlocked(folder: Path, passphrase_file: Path | None) -> Fleet:
    """Open a fleet for a command that signs."""
    fleet = Fleet(folder)
    fleet.unlock(entered_passphrase(passphrase_file) if fleet.needs_passphrase else None)
    return fleet


def entered_passphrase(file: Path | None, *, new: bool = False) -> str:
    """Take the passphrase from where nobody else sees it: never from the command line."""
    if file is not None:
        content = read_file(file, "passphrase", private=True).decode(errors="replace")
        return content.split("\n", maxsplit=1)[0].rstrip("\r")
    given: str | None = click.get_current_context().meta.get(PASSPHRASE_VARIABLE)
    if given is not None:
        return given
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


def next_steps(*steps: str) -> None:
    """Say what to do now, on stderr: what stdout says may be meant for a program."""
    for step in steps:
        click.echo(f"next: {step}", err=True)


def apply_step(fleet: Fleet) -> str:
    """What brings a change to the machines of broker and coordinator."""
    return (
        f"fedring coordinator apply {fleet.server_folder} --broker USER@{fleet.broker[0]}"
        " (or copy that folder there, and run it there without --broker)"
    )
