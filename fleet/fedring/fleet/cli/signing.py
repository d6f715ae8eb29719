"""`fedring fleet sign`: certificates for boards that ask for one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from fedring.fleet.authority import Fleet
from fedring.fleet.cli.options import apply_step, in_fleet, next_steps, passphrase_option, unlocked
from fedring.fleet.signing import burn, judge
from fedring.shared.config.broker import TLS_PORT
from fedring.shared.enrolment import Carried
from fedring.shared.errors import StateError, mistakes_alone
from fedring.shared.state import lock_folder, refuse_overwrite, write_file


@click.command(epilog="Example: fedring fleet sign --fleet greenhouse --watch")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@in_fleet
@click.option("--watch", is_flag=True, help="Stay, and sign what comes, until Ctrl-C.")
@click.option("--host", metavar="HOST", help="Of the broker.  [default: as the fleet knows it]")
@click.option("--port", type=click.IntRange(1, 65_535), default=TLS_PORT, help="Of the broker.")
@click.option("--force", is_flag=True, help="Overwrite FILE.answers.")
@passphrase_option
def sign(
    *,
    file: Path | None,
    folder: Path,
    watch: bool,
    host: str | None,
    port: int,
    force: bool,
    passphrase_file: Path | None,
) -> None:
    """Give boards that know their code a certificate.

    With FILE, which `fedring coordinator requests` wrote, answers go to FILE.answers, for `fedring
    coordinator answers`. Without it they go over the broker.
    """
    fleet = unlocked(folder, passphrase_file)
    before = fleet.list_number
    if file is not None:
        _sign_file(fleet, file, force=force)
    else:
        _sign_live(fleet, host or fleet.broker[0], port, watch=watch)
    if fleet.list_number != before:
        click.echo(f"an earlier certificate was revoked, with list {fleet.list_number}")
        next_steps(apply_step(fleet))


def _sign_live(fleet: Fleet, host: str, port: int, *, watch: bool) -> None:
    from fedring.fleet.signing_live import SigningDesk, owner_broker  # noqa: PLC0415 - MQTT only where used

    desk = SigningDesk(fleet, owner_broker(fleet, host, port), click.echo)
    lock = lock_folder(fleet.owner_folder)  # a second connection would throw ours off
    try:
        with suppress(KeyboardInterrupt), mistakes_alone():
            asyncio.run(desk.serve(watch=watch))
    finally:
        lock.close()


def _sign_file(fleet: Fleet, file: Path, *, force: bool) -> None:
    carried = Carried.load(file)
    if carried.fleet != fleet.name:
        raise StateError(
            f"{file} is of fleet {carried.fleet}, this one is {fleet.name}", name="enrolment.file"
        )
    target = file.with_name(f"{file.name}.answers")
    refuse_overwrite(target, force=force)
    for name, serial in carried.seen:
        if burn(fleet, name, serial):
            click.echo(f"{name} was seen with its certificate; its code is burnt")
    verdicts = [judge(fleet, name, raw) for name, raw in carried.items]
    for verdict in verdicts:
        click.echo(str(verdict))
    answers = tuple((one.name, one.raw) for one in verdicts if one.is_certified)
    write_file(target, Carried(fleet=fleet.name, items=answers).encode())
    next_steps(f"carry {target} back, run there: fedring coordinator answers {target.name}")


COMMANDS: Final = (sign,)
