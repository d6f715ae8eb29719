"""`fedring fleet update`: another fedring for the boards, in waves."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from fedring.fleet.cli.options import in_fleet, next_steps, passphrase_option, unlocked
from fedring.fleet.rollout import FAILED, Rollout
from fedring.shared.config.broker import TLS_PORT
from fedring.shared.errors import mistakes_alone
from fedring.shared.identity import Authority
from fedring.shared.state import lock_folder

STOPPED: Final = 1
"""Exit status when a board went back, refused, or fell silent on the way."""


@click.command(epilog="Example: fedring fleet update --fleet greenhouse bundles/*.fedring")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@in_fleet
@click.option("--host", metavar="HOST", help="Of the broker.  [default: as the fleet knows it]")
@click.option("--port", type=click.IntRange(1, 65_535), default=TLS_PORT, help="Of the broker.")
@passphrase_option
def update(
    bundles: tuple[Path, ...],
    folder: Path,
    host: str | None,
    port: int,
    passphrase_file: Path | None,
) -> None:
    """Bring another fedring to the boards, in waves.

    First to one board, then to a tenth of those that are there, then to all. A board that does not
    reach the coordinator with it goes back by itself, and the update stops. Ctrl-C leaves it as it
    stands; without BUNDLE it goes on from there. Boards that are away follow when they come back.
    """
    from fedring.fleet.signing_live import owner_broker  # noqa: PLC0415 - MQTT only where used
    from fedring.fleet.updates import Sender, read_parcels  # noqa: PLC0415

    fleet = unlocked(folder, passphrase_file)
    parcels = read_parcels(bundles, Authority.load(fleet.ca_file))
    broker = owner_broker(fleet, host or fleet.broker[0], port)
    lock = lock_folder(fleet.owner_folder)  # a second connection would throw ours off
    lines = Lines()
    try:
        sender = Sender(fleet, broker, parcels, click.echo, lines.show)
        with suppress(KeyboardInterrupt), mistakes_alone():
            asyncio.run(sender.send())
    finally:
        lock.close()
    _sum_up(sender.rollout, folder)


class Lines:
    """Shows a rollout as lines, one for each change of a board."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def show(self, rollout: Rollout) -> None:
        """Write what has changed."""
        if not rollout.waves:
            return
        for name, board in rollout.rows():
            fetched = f" {board.fetched:.0%}" if board.state == "fetching" else ""
            line = f"{board.state}{fetched}{': ' if board.reason else ''}{board.reason}"
            if self._shown.get(name, "waiting") != line:
                self._shown[name] = line
                loud = board.state in FAILED
                click.secho(f"{name}: {line}", fg="red" if loud else None, bold=loud)


def _sum_up(rollout: Rollout, folder: Path) -> None:
    counts: dict[str, int] = {}
    for _, board in rollout.rows():
        counts[board.state] = counts.get(board.state, 0) + 1
    click.echo(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if rollout.stopped:
        click.secho(f"the update stopped at {rollout.stopped}", fg="red", bold=True)
        next_steps(
            "the others keep what they have; more is told by that board itself:"
            " journalctl -u fedring-device",
            f"another bundle once that is mended: fedring fleet update --fleet {folder} BUNDLE",
        )
        sys.exit(STOPPED)
    if not rollout.complete:
        next_steps(f"the update is not over; go on with: fedring fleet update --fleet {folder}")
        return
    next_steps("nothing: boards that are away follow when they come back")


COMMANDS: Final = (update,)
