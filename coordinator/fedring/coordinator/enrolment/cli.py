"""The commands of `fedring coordinator` for an owner whose machine is not connected.

`requests` writes what waits into a file, `answers` takes the file that comes back. Both work beside
a running coordinator, which does the rest.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import click

from fedring.coordinator.enrolment.files import ANSWERS, FOLDER, REQUESTS
from fedring.coordinator.settings import CoordinatorSettings
from fedring.shared.enrolment import Carried
from fedring.shared.errors import StateError
from fedring.shared.identity import Authority
from fedring.shared.state import prepare_folder, refuse_overwrite, write_file

_config: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="coordinator.toml",
    metavar="FILE",
    help="The coordinator's settings.",
)
_file: Final = click.argument("file", type=click.Path(path_type=Path))


@click.command(epilog="Example: fedring coordinator requests requests.bin")
@_file
@_config
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def requests(file: Path, config: Path, force: bool) -> None:
    """Write what boards ask for into FILE, to be carried to the owner.

    There it is signed with `fedring fleet sign FILE`; the file that this makes is brought back and
    given to `fedring coordinator answers`.
    """
    source = CoordinatorSettings.load(config).state.folder / FOLDER / REQUESTS
    if not source.exists():
        raise StateError(
            "no board has asked for a certificate yet",
            name="enrolment.nothing-waits",
            hint="is the coordinator running, with [enrolment] in its settings?",
        )
    waiting = Carried.load(source)
    refuse_overwrite(file, force=force)
    write_file(file, waiting.encode())
    names = sorted({name for name, _ in waiting.items})
    click.echo(f"{len(waiting.items)} requests of {len(names)} boards: {file}")
    for name in names:
        click.echo(f"  {name}")
    click.echo(f"next: on the owner's machine: fedring fleet sign {file.name}", err=True)


@click.command(epilog="Example: fedring coordinator answers requests.bin.answers")
@_file
@_config
def answers(file: Path, config: Path) -> None:
    """Give boards the certificates that were carried back in FILE."""
    settings = CoordinatorSettings.load(config)
    carried = Carried.load(file)
    fleet = Authority.load(settings.fleet.ca).fleet
    if carried.fleet != fleet:
        raise StateError(
            f"{file} is of fleet {carried.fleet}, this coordinator of fleet {fleet}",
            name="enrolment.file",
        )
    folder = settings.state.folder / FOLDER
    prepare_folder(folder)
    raw = carried.encode()
    write_file(folder / f"{ANSWERS}{sha256(raw).hexdigest()[:16]}", raw)
    click.echo(f"{len(carried.items)} answers are with the coordinator, which gives them out")


COMMANDS: Final = (requests, answers)
