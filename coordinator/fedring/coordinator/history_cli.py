"""The commands of `fedring coordinator` that look at the model history and steer it.

All but `restore` work beside a running coordinator, which notices before its next round.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from fedring.coordinator.backups import back_up
from fedring.coordinator.backups import restore as bring_back
from fedring.coordinator.history import export as export_version
from fedring.coordinator.history import models_json, models_table
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.tables import NEW_EPOCH

_Command = Callable[..., None]

_config: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="coordinator.toml",
    metavar="FILE",
    help="The coordinator's settings.",
)
_file: Final = click.argument("file", type=click.Path(path_type=Path))


def _force(what: str) -> Callable[[_Command], _Command]:
    return click.option("--force", is_flag=True, help=what)


def _folder(config: Path) -> Path:
    return CoordinatorSettings.load(config).state.folder


def _open(config: Path) -> CoordinatorStore:
    return CoordinatorStore.open_beside(_folder(config))


@click.command(epilog="Example: fedring coordinator models --json")
@_config
@click.option("--json", "as_json", is_flag=True, help="All that is known, for scripts.")
def models(config: Path, as_json: bool) -> None:
    """List the versions of the model, newest first."""
    with _open(config) as store:
        click.echo(json.dumps(models_json(store), indent=2) if as_json else models_table(store))


@click.command(epilog="Example: fedring coordinator export 12 model.npz")
@click.argument("version", type=int)
@_file
@_config
@_force("Overwrite FILE.")
def export(version: int, file: Path, config: Path, force: bool) -> None:
    """Write a VERSION to FILE, as npz.

    The file holds the arrays with the normalisation, and a note of how the model came about.
    """
    with _open(config) as store:
        exported = export_version(store, version, file, force=force)
    click.echo(f"wrote version {exported.version} to {file}", err=True)


@click.command(epilog="Example: fedring coordinator rollback 12")
@click.argument("version", type=int)
@_config
def rollback(version: int, config: Path) -> None:
    """Go on from an older VERSION.

    It becomes the newest version; those between stay in the history. A round that is running gives
    nothing then.
    """
    with _open(config) as store:
        back = store.rollback(version)
    click.echo(f"version {back.version} is version {version} again", err=True)


@click.command(epilog="Example: fedring coordinator pause")
@_config
def pause(config: Path) -> None:
    """Begin no rounds until `resume`.

    A round that is running is finished.
    """
    with _open(config) as store:
        store.set_paused(True)
    click.echo("paused: fedring coordinator resume goes on", err=True)


@click.command(epilog="Example: fedring coordinator resume")
@_config
def resume(config: Path) -> None:
    """Begin rounds again after `pause`."""
    with _open(config) as store:
        store.set_paused(False)
    click.echo("rounds go on", err=True)


@click.command(epilog="Example: fedring coordinator backup monday.zip")
@_file
@_config
@_force("Overwrite FILE.")
def backup(file: Path, config: Path, force: bool) -> None:
    """Copy models, rounds and key to FILE.

    FILE is a zip file and holds a secret key: keep it as safe as the coordinator.
    """
    done = back_up(_folder(config), file, force=force)
    click.echo(f"wrote {file}: up to round {done.round} of epoch {done.epoch}", err=True)


@click.command(epilog="Example: fedring coordinator restore monday.zip")
@_file
@_config
@_force("Replace the state that is there; its rounds and models are lost.")
def restore(file: Path, config: Path, force: bool) -> None:
    """Bring a backup FILE back.

    Devices may have gone on after the backup, so the coordinator runs again only in a new epoch.
    """
    done = bring_back(_folder(config), file, force=force)
    click.echo(f"restored the state of {done.created}, epoch {done.epoch}", err=True)
    click.echo(f"next: {NEW_EPOCH}", err=True)


COMMANDS: Final[tuple[click.Command, ...]] = (
    models,
    export,
    rollback,
    pause,
    resume,
    backup,
    restore,
)
"""For `cli` to add to the group."""
