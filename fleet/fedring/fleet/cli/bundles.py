"""`fedring fleet bundle`: what a board runs, ready to be copied."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from fedring.fleet.authority import Fleet
from fedring.fleet.bundles.building import build_bundle, bundle_file
from fedring.fleet.bundles.targets import ARCHS, PYTHONS, Target
from fedring.fleet.cli.options import in_fleet, next_steps, passphrase_option, unlocked

ABOUT_BYTES: Final = 23_000_000
ABOUT_LITERT_BYTES: Final = 39_000_000
"""What a bundle that was not made yet will have; measured: 21 to 23 and 37 MB."""

for_litert = click.option("--litert", is_flag=True, help="With LiteRT, for `.tflite` models.")


@click.command(epilog="Example: fedring fleet bundle --fleet greenhouse --python 3.11")
@click.option(
    "--python",
    type=click.Choice(PYTHONS),
    default=PYTHONS[-1],
    help="The board's: 3.11 with Raspberry Pi OS bookworm, 3.13 with trixie.",
)
@click.option("--arch", type=click.Choice(ARCHS), default=ARCHS[0], help="Its processor.")
@for_litert
@in_fleet
@passphrase_option
def bundle(
    python: str, arch: str, litert: bool, folder: Path, passphrase_file: Path | None
) -> None:
    """Make a bundle: fedring and all it needs, ready to run on a board.

    pip brings the packages for that board; nothing is compiled, here or there. The commands
    `flash` and `update` use it, and make what is missing.
    """
    made = make_bundle(unlocked(folder, passphrase_file), Target(python, arch), litert=litert)
    next_steps(
        f"fedring fleet flash card --fleet {folder} b01 /dev/sdX; or, by hand on a board that"
        f" runs fedring: fedring-update {made.name}",
    )


def make_bundle(fleet: Fleet, target: Target, *, litert: bool) -> Path:
    """Make a bundle, and tell so."""
    click.echo(f"getting the packages for {target}, about a minute", err=True)
    made = build_bundle(fleet, target, litert=litert)
    click.echo(
        f"made {made.path}: {format_size(made.packed_bytes)},"
        f" {format_size(made.slot_bytes)} on the board"
    )
    return made.path


def has_bundle(fleet: Fleet, target: Target, *, litert: bool) -> Path:
    """Give this fedring's bundle for a kind of board; made when there is none."""
    path = bundle_file(fleet, target, litert=litert)
    return path if path.exists() else make_bundle(fleet, target, litert=litert)


def format_size(n_bytes: int) -> str:
    """Write bytes as people do."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"


COMMANDS: Final = (bundle,)
