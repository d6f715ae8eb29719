"""Signing while connected: what waits at the broker is judged as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from fedring.fleet.authority import Fleet
from fedring.fleet.signing import Verdict, burn, judge
from fedring.shared.broker import Broker
from fedring.shared.enrolment import decode_waiting, serial_in_status
from fedring.shared.errors import MessageError, StateError
from fedring.shared.identity import OWNER_NAME
from fedring.shared.mqtt import Connected, Connection, Disconnected, Message
from fedring.shared.tls import owner_context
from fedring.shared.topics import DeviceStatus, EnrolmentWaiting, Topics

QUIET_S: Final = 1.0
"""Retained messages come at once: after such a pause all have come."""
BUSY_S: Final = 0.5
"""How long to wait for another command that changes the fleet's folder."""
BUSY_TRIES: Final = 20

_REMEMBERED: Final = 4096

T = TypeVar("T")

_log = logging.getLogger(__name__)


def owner_broker(fleet: Fleet, host: str, port: int) -> Broker:
    """The fleet's broker as the owner's machine speaks to it.

    Raises:
        CertificateError: a file of the owner's is missing or damaged.
    """
    owner = fleet.owner_folder
    return Broker(
        host, port, owner_context(owner / "ca.crt", owner / "owner.crt", owner / "owner.key")
    )


class SigningDesk:
    """Answers boards through the broker, and burns the codes of those that were seen.

    Args:
        fleet: unlocked.
        broker: as `owner_broker` gives it.
        tell: called with a line for people.
    """

    def __init__(self, fleet: Fleet, broker: Broker, tell: Callable[[str], object]) -> None:
        self._fleet = fleet
        self._topics = Topics(fleet.name)
        self._tell = tell
        self._told: OrderedDict[bytes, None] = OrderedDict()
        self._connection = Connection(
            broker,
            OWNER_NAME,
            subscriptions=[
                *self._topics.everywhere(EnrolmentWaiting),
                *self._topics.everywhere(DeviceStatus),
            ],
            persistent=False,
            fail_fast=True,
            classify=self._topics.classify,
        )

    async def serve(self, *, watch: bool) -> None:
        """Answer what waits; with `watch` until cancelled, else until nothing new comes.

        Raises:
            UserError: the broker cannot be entered, or the fleet's folder cannot be used.
        """
        async with self._connection as connection:
            events = connection.events()
            while True:
                try:
                    async with asyncio.timeout(None if watch else QUIET_S):
                        event = await anext(events, None)
                except TimeoutError:
                    return
                match event:
                    case None:
                        return
                    case Connected() if watch:
                        self._tell(f"connected to {connection.broker}; Ctrl-C ends it")
                    case Disconnected(reason):
                        _log.warning("%s", reason)
                    case Message(topic, payload) if payload:
                        await self._received(topic, payload)

    async def _received(self, topic: str, payload: bytes) -> None:
        match self._topics.parse(topic):
            case EnrolmentWaiting(name):
                try:
                    requests = decode_waiting(payload)
                except MessageError as fault:
                    _log.warning("ignored what waits for %s: %s", name, fault)
                    return
                for raw in requests:
                    await self._answer(await _when_free(partial(judge, self._fleet, name, raw)))
            case DeviceStatus(name):
                serial = serial_in_status(payload)
                if serial and await _when_free(partial(burn, self._fleet, name, serial)):
                    self._tell(f"{name} was seen with its certificate; its code is burnt")

    async def _answer(self, verdict: Verdict) -> None:
        topic = self._topics.enrolment_answer(verdict.name)
        # That none is given is told once: retained it would hide another request's certificate.
        await self._connection.publish(topic, verdict.raw, retain=verdict.is_certified)
        if verdict.answer.request not in self._told:
            self._told[verdict.answer.request] = None
            if len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            self._tell(str(verdict))


async def _when_free(change: Callable[[], T]) -> T:
    """Change the fleet's folder, waiting for another command that is just doing so."""
    for _ in range(BUSY_TRIES):
        try:
            return change()
        except StateError as mistake:
            if mistake.name != "state.in-use":
                raise
        await asyncio.sleep(BUSY_S)
    return change()
