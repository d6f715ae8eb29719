"""`fedring watch`: a fleet live, from its public topics alone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fedring.fleet.listening import Listener, find_fleets, listen_to_fleet
from fedring.fleet.screen import dashboard, news_line
from fedring.fleet.view import CoordinatorView, FleetView, News, facts
from fedring.shared.broker import Broker
from fedring.shared.config.broker import PLAIN_PORT, TLS_PORT
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import Authority, Identity, Role
from fedring.shared.tls import tls_context
from fedring.shared.topics import Topics

REDRAW_S: Final = 0.5
_ONCE_LINES: Final = 10_000  # a printed page has no end


@click.command(epilog="Example: fedring watch --broker mqtt://broker.local:1883 --once")
@click.option(
    "--broker",
    "url",
    metavar="URL",
    help=f"The broker.  [default: mqtt://localhost:{PLAIN_PORT}; {TLS_PORT} with TLS]",
)
@click.option(
    "--fleet",
    "name",
    metavar="NAME",
    help="The fleet's name; needed where a broker serves several.",
)
@click.option("--ca", type=click.Path(path_type=Path), metavar="FILE", help="For TLS: ca.crt.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="For TLS: a certificate of this laptop, made by `fedring fleet add`.",
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="For TLS: its key.")
@click.option("--once", is_flag=True, help="Show what is known now, and end.")
@click.option(
    "--json", "as_json", is_flag=True, help="JSON: all with --once, else a line a change."
)
def command(
    *,
    url: str | None,
    name: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    once: bool,
    as_json: bool,
) -> None:
    """Watch a fleet live.

    All that is shown comes from topics that anybody on the broker may read, unsigned: good to look
    at, not to rely on.
    """
    files = [file for file in (ca, certificate, key) if file is not None]
    port = TLS_PORT if files else PLAIN_PORT
    broker = Broker.from_url(url or f"mqtt://localhost:{port}")
    if files:
        if ca is None or certificate is None or key is None:
            raise click.UsageError("TLS needs all of --ca, --certificate and --key")
        _refuse_coordinator(certificate, key)
        broker = attrs.evolve(broker, tls=tls_context(ca, certificate, key, judge_dates=True))
        name = name or Authority.load(ca).fleet
    asyncio.run(_watch(broker, name, once=once, as_json=as_json))


def _refuse_coordinator(certificate: Path, key: Path) -> None:
    if Identity.load(key, certificate).role is Role.COORDINATOR:
        raise CertificateError(
            f"{certificate} is the coordinator's: a broker that goes by certificates would throw"
            " the coordinator off to let us in",
            name="certificate.role",
            hint="make one for this laptop: fedring fleet add NAME",
        )


async def _watch(broker: Broker, name: str | None, *, once: bool, as_json: bool) -> None:
    view = FleetView(Topics(name or await _only_fleet(broker)))
    console = Console()
    if once:
        async with listen_to_fleet(broker, view) as listener:
            await listener.settled()
        if as_json:
            click.echo(json.dumps(view.as_dict(), indent=1))
        else:
            console.print(dashboard(view, datetime.now(UTC), _ONCE_LINES))
    elif as_json or not console.is_terminal:
        await _tell(broker, view, as_json=as_json)
    else:
        await _show(broker, view, console)


async def _only_fleet(broker: Broker) -> str:
    found = list(await find_fleets(broker))
    if not found:
        raise StateError(
            f"no coordinator has left a word on the broker at {broker}",
            name="watch.no-fleet",
            hint="start the coordinator, or name its fleet with --fleet NAME to wait for it",
        )
    if len(found) > 1:
        raise StateError(
            f"the broker at {broker} serves {len(found)} fleets: {', '.join(found)}",
            name="watch.several-fleets",
            hint=f"choose one, such as --fleet {found[0]}",
        )
    return found[0]


async def _tell(broker: Broker, view: FleetView, *, as_json: bool) -> None:
    """Write each piece of news as a line, until Ctrl-C."""
    coordinator = ""

    def write(news: News) -> None:
        nonlocal coordinator
        kind = type(news).__name__.removesuffix("View").lower()
        line = json.dumps({"kind": kind, **facts(news)}) if as_json else news_line(news)
        if isinstance(news, CoordinatorView):
            if line == coordinator:  # a count of devices has changed
                return
            coordinator = line
        click.echo(line)

    async with listen_to_fleet(broker, view, write):
        await asyncio.Event().wait()


async def _show(broker: Broker, view: FleetView, console: Console) -> None:
    """Draw the fleet over the whole screen, until Ctrl-C."""
    async with listen_to_fleet(broker, view) as listener:
        await listener.settled()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_page(view, listener, console.height), refresh=True)
                await asyncio.sleep(REDRAW_S)


def _page(view: FleetView, listener: Listener, height: int) -> RenderableType:
    trouble = Text(
        listener.trouble or "Ctrl-C to leave", style="red" if listener.trouble else "dim"
    )
    return Group(dashboard(view, datetime.now(UTC), height - 2), Text(), trouble)
