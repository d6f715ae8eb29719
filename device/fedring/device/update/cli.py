"""`fedring device update`: the root side of updates, on the board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from fedring.device.update.places import Outcome

REFUSAL: Final = 1
"""Exit status when the agent is the one from before."""


@click.command(epilog="Example: fedring device update fedring-0.2.0-cp311-aarch64.fedring")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--inbox", is_flag=True, help="What the agent was handed, instead of FILE.")
@click.option("--outcome", is_flag=True, help="Only show how the last update ended.")
def update(file: Path | None, *, inbox: bool, outcome: bool) -> None:
    """Put a signed bundle in place, as root.

    The agent starts anew. If it does not reach the coordinator within 150 seconds, or ends three
    times in ten minutes, the agent from before comes back. `fedring-update` is the same, run by
    the agent that proved itself last: use that one where it is installed.
    """
    if (file is not None) + inbox + outcome != 1:
        raise click.UsageError("give one of FILE, --inbox and --outcome")
    from fedring.device.update.places import Places  # noqa: PLC0415 - the agent needs none of it
    from fedring.device.update.updater import UPDATED, Limits, install  # noqa: PLC0415

    root = Path("/")
    ended = Places(root).read_outcome() if outcome else install(root, file, Limits(), _tell)
    click.echo("no update so far" if ended is None else _sentence(ended))
    if not inbox and ended is not None and ended.state != UPDATED:
        sys.exit(REFUSAL)


@click.command(hidden=True, epilog="Example: fedring device tryout")
def tryout() -> None:
    """See whether this agent runs here; the updater asks this of a new one."""
    from fedring.device.update.tryout import try_out  # noqa: PLC0415 - loads all that there is

    try_out()
    click.echo("runs here")


def _tell(step: str) -> None:
    click.echo(f"update: {step}")
    sys.stdout.flush()


def _sentence(outcome: Outcome) -> str:
    versions = f"from {outcome.from_version} to {outcome.to_version or 'another version'}"
    reason = f": {outcome.reason}" if outcome.reason else ""
    return f"{outcome.state} {versions}{reason}"
