"""The first start of a board: it makes its key, and asks until it has its certificate.

The shell around `Asking`, on a connection to the enrolment listener: TLS that shows the broker's
certificate and none of ours, a client id that nobody can guess, nothing left behind there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import signal
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from fedring.device import notify
from fedring.device.enrolment.asking import Ask, Asking, Effects, Take, Tell
from fedring.device.enrolment.bootstrap import Bootstrap
from fedring.device.enrolment.key_files import KeyFiles
from fedring.device.settings import DeviceSettings
from fedring.shared.broker import Broker
from fedring.shared.enrolment import ask_first
from fedring.shared.errors import PeerError, StateError, mistakes_alone
from fedring.shared.identity import Authority
from fedring.shared.mqtt import Connected, Connection, Disconnected, Event, Message
from fedring.shared.tls import nameless_context
from fedring.shared.topics import Topics
from fedring.shared.turns import Turns

CONNECT_S: Final = 15.0
"""How long one host is tried before the next."""
STAY_S: Final = 30.0
"""How long a board keeps its place at the listener: there are few, and it may wait for days."""
PAUSE_S: Final = 30.0
"""Longest pause before it comes back, the shortest is half of it; what it asked waits so long."""
LEAST_WAIT_S: Final = 0.05

_log = logging.getLogger(__name__)


def enrol(settings: DeviceSettings) -> bool:
    """See that this board has a certificate; without `bootstrap` in the settings nothing is done.

    Returns:
        Whether to go on: False when told to stop by SIGINT or SIGTERM.

    Raises:
        UserError: what the owner has to mend: files, settings, a code that was used.
    """
    files = KeyFiles(settings.fleet.key, settings.fleet.certificate)
    files.settle()
    bootstrap = settings.fleet.bootstrap
    if bootstrap is None or files.certificate.exists():
        return True
    return asyncio.run(_until_stopped(bootstrap, settings, files))


async def _until_stopped(file: Path, settings: DeviceSettings, files: KeyFiles) -> bool:
    loop = asyncio.get_running_loop()
    notify.start_beating(loop)
    asking = asyncio.create_task(_ask_everywhere(file, settings, files), name="enrolment")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asking.cancel)
    with suppress(asyncio.CancelledError), mistakes_alone():
        await asking
        return True
    return False


async def _ask_everywhere(file: Path, settings: DeviceSettings, files: KeyFiles) -> None:
    """Try the hosts in turn; what is on the card is read anew each time, it may be mended."""
    key = await asyncio.to_thread(files.own_key)
    request, asked_with = b"", b""
    for turn in count():
        bootstrap = _read(file, settings)
        if bootstrap.code != asked_with:  # else the same bytes again: they wait there only once
            asked_with = _code(bootstrap)
            request = ask_first(key, bootstrap.fleet, bootstrap.name, asked_with)
        asking = Asking(
            request,
            key.public_key(),
            Authority.load(settings.fleet.ca),
            name=bootstrap.name,
            random=random.random,
        )
        host = bootstrap.hosts[turn % len(bootstrap.hosts)]
        certificate = await _ask_at(host, asking, bootstrap, settings)
        if certificate is not None:
            await asyncio.to_thread(files.keep, certificate)
            _log.info("enrolled as %s", bootstrap.name)
            return
        await asyncio.sleep(random.uniform(PAUSE_S / 2, PAUSE_S))  # noqa: S311 - no secret


async def _ask_at(
    host: str, asking: Asking, bootstrap: Bootstrap, settings: DeviceSettings
) -> bytes | None:
    """Ask at one host; None when it cannot be reached, hangs up, declines, or does not answer."""
    topics = Topics(bootstrap.fleet)
    answers = topics.enrolment_answer(bootstrap.name)
    tls = nameless_context(settings.fleet.ca, earliest=bootstrap.flashed_at)
    connection = Connection(
        Broker(host, bootstrap.port, tls),
        f"enrol-{secrets.token_hex(8)}",
        subscriptions=[answers],
        persistent=False,
        classify=topics.classify,
    )
    turns: Turns[Event] = Turns(LEAST_WAIT_S)
    async with connection:
        pumping = asyncio.create_task(_pump(connection, turns), name="connection")
        try:
            return await _converse(asking, bootstrap, connection, turns)
        finally:
            pumping.cancel()


async def _pump(connection: Connection, turns: Turns[Event]) -> None:
    async for event in connection.events():
        await turns.put(event)


async def _converse(
    asking: Asking, bootstrap: Bootstrap, connection: Connection, turns: Turns[Event]
) -> bytes | None:
    topic = Topics(bootstrap.fleet).enrolment_request(bootstrap.name)
    give_up = time.monotonic() + CONNECT_S
    while True:
        happening = await turns.next(min(give_up, asking.deadline or give_up))
        if happening is None and time.monotonic() >= give_up:
            return None
        if isinstance(happening, Connected):
            give_up = time.monotonic() + STAY_S
        for effect in _effects(asking, happening):
            match effect:
                case Ask(request):
                    _tell(f"{bootstrap.name} asks for its certificate at {connection.broker}")
                    await connection.send(topic, request)
                case Tell(reason):
                    _tell(f"{bootstrap.name} was declined: {reason}")
                case Take(certificate):
                    return certificate
        if isinstance(happening, Disconnected):
            return None


def _effects(asking: Asking, happening: Event | None) -> Effects:
    now = time.monotonic()
    match happening:
        case Connected():
            return asking.subscribed(now)
        case Message(_, payload) if payload:
            try:
                return asking.receive(payload, now)
            except PeerError as fault:
                _log.warning("ignored an answer: %s", fault)
        case None:
            return asking.tick(now)
    return []


def _tell(text: str) -> None:
    _log.info("%s", text)
    notify.status(text)


def _read(file: Path, settings: DeviceSettings) -> Bootstrap:
    bootstrap = Bootstrap.load(file)
    authority = Authority.load(settings.fleet.ca)
    if bootstrap.fleet != authority.fleet:
        raise StateError(
            f"{file} is of fleet {bootstrap.fleet}, {settings.fleet.ca} of fleet {authority.fleet}",
            name="enrolment.bootstrap",
            hint="flash the card again",
        )
    return bootstrap


def _code(bootstrap: Bootstrap) -> bytes:
    if bootstrap.code is None:
        raise StateError(
            f"{bootstrap.name} has no certificate, and its one-time code was used",
            name="enrolment.no-code",
            hint=f"`fedring fleet reset {bootstrap.name}`, then flash the card again",
        )
    return bootstrap.code
