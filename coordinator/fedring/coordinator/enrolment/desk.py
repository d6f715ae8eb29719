"""The coordinator's part in enrolment: the shell around `Queue`.

It stands between two brokers. At the listener for boards without a certificate it hears their
requests, under a client id that nobody can guess; at the fleet's broker it hears those of boards
that renew theirs, shows all to the owner, and hears the answers. For an owner who is not connected
it keeps what waits in a file, and publishes the answers that `fedring coordinator answers` leaves.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Final

from attrs import frozen

from fedring.coordinator.enrolment.files import FOLDER, REQUESTS, answer_files
from fedring.coordinator.enrolment.queue import Effects, HandOn, Queue, Show, TakeBack
from fedring.coordinator.settings import CoordinatorSettings
from fedring.shared.broker import Broker
from fedring.shared.credentials import Credentials
from fedring.shared.enrolment import Carried, encode_waiting, serial_in_status
from fedring.shared.errors import PeerError, UserError
from fedring.shared.mqtt import Connected, Connection, Disconnected, Event, Message
from fedring.shared.state import prepare_folder, write_file
from fedring.shared.tls import tls_context
from fedring.shared.topics import EnrolmentAnswer, EnrolmentRequest, Topic, Topics
from fedring.shared.turns import Turns

LOOK_S: Final = 1.0
"""How often it is looked for answers that somebody carried here."""
WRITE_S: Final = 2.0
"""Least time between two writings of what waits."""

_LEAST_WAIT_S: Final = 0.05
_MOST_HEARD: Final = 1024

_log = logging.getLogger(__name__)


@frozen
class FromFleet:
    """What somebody with a certificate wrote."""

    topic: Topic
    payload: bytes


@frozen
class Seen:
    """A board was seen with this certificate."""

    name: str
    serial: int


class EnrolmentDesk:
    """Serves boards that ask for a certificate.

    Args:
        settings: the owner's.
        credentials: own identity, and the fleet authority.
        topics: of the fleet.
        connection: to the fleet's broker.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        credentials: Credentials,
        topics: Topics,
        connection: Connection,
    ) -> None:
        self._topics = topics
        self._fleet = connection
        self._folder = settings.state.folder / FOLDER
        self._queue = Queue(credentials.authority, secrets.randbelow)
        self._turns: Turns[Event | FromFleet | Seen] = Turns(_LEAST_WAIT_S)
        self._heard: asyncio.Queue[FromFleet | Seen] = asyncio.Queue(_MOST_HEARD)
        self._boards = _door(settings, topics)
        self._written = (0.0, 0)

    async def serve(self) -> None:
        """Serve until cancelled."""
        await asyncio.to_thread(prepare_folder, self._folder)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump_heard(), name="enrolment heard")
            if self._boards is not None:
                tasks.create_task(self._pump_boards(self._boards), name="enrolment listener")
            while True:
                due = self._queue.deadline
                look = time.monotonic() + LOOK_S
                happening = await self._turns.next(look if due is None else min(due, look))
                await self._carry_out(self._consider(happening))
                if happening is None:
                    await self._exchange_files()

    def hear(self, topic: EnrolmentRequest | EnrolmentAnswer, payload: bytes) -> None:
        """Take what came from the fleet's broker."""
        self._put(FromFleet(topic, payload))

    def saw(self, name: str, status: bytes) -> None:
        """Take a device's status, which tells its certificate."""
        serial = serial_in_status(status)
        if serial is not None:
            self._put(Seen(name, serial))

    def reconnected(self) -> None:
        """The fleet's broker may have lost what it was shown."""
        self._queue.reconnected()

    def _put(self, heard: FromFleet | Seen) -> None:
        if self._heard.full():  # boards ask again, the owner's answers are retained
            _log.warning("too much is asked at once")
        else:
            self._heard.put_nowait(heard)

    async def _pump_heard(self) -> None:
        while True:
            await self._turns.put(await self._heard.get())

    async def _pump_boards(self, connection: Connection) -> None:
        async with connection:
            async for event in connection.events():
                await self._turns.put(event)

    def _consider(self, happening: Event | FromFleet | Seen | None) -> Effects:
        now = time.monotonic()
        try:
            match happening:
                case None:
                    return self._queue.tick(now)
                case Message(topic, payload):
                    match self._topics.parse(topic):
                        case EnrolmentRequest(name):
                            return self._queue.receive(name, payload, now)
                case FromFleet(EnrolmentRequest(name), payload):
                    return self._queue.receive(name, payload, now)
                case FromFleet(EnrolmentAnswer(name), payload):
                    return self._queue.answer(name, payload, now)
                case Seen(name, serial):
                    return self._queue.saw(name, serial)
                case Connected():
                    _log.info("boards without a certificate may ask")
                case Disconnected(reason):
                    _log.warning("boards without a certificate cannot ask: %s", reason)
        except PeerError as fault:
            # Strangers may write as much as they like: not into the log.
            _log.debug("ignored a message of enrolment: %s", fault)
        return []

    async def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Show(name, requests):
                    waiting = encode_waiting(requests) if requests else b""
                    topic = self._topics.enrolment_waiting(name)
                    await self._fleet.send(topic, waiting, retain=True)
                case HandOn(name, answer) if self._boards is not None:
                    await self._boards.send(self._topics.enrolment_answer(name), answer)
                case TakeBack(name):
                    _log.info("%s was seen with its certificate", name)
                    await self._fleet.send(self._topics.enrolment_answer(name), b"", retain=True)

    async def _exchange_files(self) -> None:
        """With an owner who is not connected: at most once in `LOOK_S`."""
        now = time.monotonic()
        at, changes = self._written
        try:
            if changes != self._queue.changes and now >= at + WRITE_S:
                self._written = now, self._queue.changes
                raw = self._queue.carried.encode()
                await asyncio.to_thread(write_file, self._folder / REQUESTS, raw)
            for file in await asyncio.to_thread(answer_files, self._folder):
                for name, answer in (await asyncio.to_thread(Carried.load, file)).items:
                    topic = self._topics.enrolment_answer(name)
                    await self._fleet.publish(topic, answer, retain=True)
                await asyncio.to_thread(file.unlink)
        except UserError as mistake:
            _log.error("%s", mistake)


def _door(settings: CoordinatorSettings, topics: Topics) -> Connection | None:
    """Our connection to the listener for boards without a certificate, if there is one."""
    if settings.enrolment is None:
        return None
    files = settings.fleet
    tls = tls_context(files.ca, files.certificate, files.key, judge_dates=True)
    return Connection(
        Broker(settings.broker.host, settings.enrolment.port, tls, settings.broker.others),
        f"enrolment-{secrets.token_hex(8)}",
        subscriptions=topics.everywhere(EnrolmentRequest),
        persistent=False,
        classify=topics.classify,
    )
