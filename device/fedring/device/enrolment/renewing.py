"""The next certificate: asked for while the agent works, tried before it counts.

When a third of a certificate's validity is left the board makes a new key and asks for its
certificate over the connection that it has. The pair is kept in `.new` files. At its next quiet
moment the agent leaves the broker, and `take_over` tries to come in with the new pair; only then
it takes the place of the old one, and the agent goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen
from cryptography import x509

from fedring.device.enrolment.asking import Ask, Asking, Effects, Take, Tell
from fedring.device.enrolment.key_files import KeyFiles
from fedring.device.settings import DeviceSettings
from fedring.shared.broker import Broker, at_some_name, probe
from fedring.shared.certificates import validity
from fedring.shared.credentials import Credentials
from fedring.shared.enrolment import ask_again
from fedring.shared.errors import BrokerError, CertificateError, PeerError
from fedring.shared.identity import Identity
from fedring.shared.tls import tls_context
from fedring.shared.topics import Topics

SHARE_LEFT: Final = 3
"""A certificate is renewed when one part of so many is left of its validity."""
LOOK_S: Final = 3600.0
"""How often it is looked whether it is time; also the pause after a pair that did not serve."""
MOST_ANSWERS: Final = 8
"""Answers that wait to be looked at."""

_log = logging.getLogger(__name__)


@frozen
class NextPair:
    """A new pair of files is there to be tried."""


def is_due(certificate: bytes, now: datetime) -> bool:
    """Whether it is time to ask for the next certificate.

    Args:
        certificate: the present one, DER.
        now: UTC.
    """
    begin, end = validity(x509.load_der_x509_certificate(certificate))
    return end - now < (end - begin) / SHARE_LEFT


def take_over(settings: DeviceSettings) -> float:
    """Let a new pair of files take the place of the old one, if it opens the broker's door.

    Without the broker everything stays as it is; a pair that it refuses is dropped.

    Returns:
        Seconds to leave the matter alone: 0, or `LOOK_S` after a pair that did not serve.

    Raises:
        UserError: files that cannot be read or moved.
    """
    files = KeyFiles(settings.fleet.key, settings.fleet.certificate)
    files.settle()
    new = files.new
    if not new.is_complete:
        return 0.0
    try:
        name = Identity.load(new.key, new.certificate).name
        tls = None
        if settings.broker.tls:
            tls = tls_context(settings.fleet.ca, new.certificate, new.key, judge_dates=False)
        where = settings.broker
        broker = Broker(where.host, where.port, tls, where.others)
        at_some_name(broker, lambda broker: probe(broker, name))
    except (BrokerError, CertificateError) as refusal:
        if isinstance(refusal, BrokerError) and refusal.name != "broker.certificate-refused":
            _log.warning("the new certificate cannot be tried: %s", refusal.text)
            return LOOK_S
        _log.error("the new certificate is good for nothing, it is dropped: %s", refusal.text)
        files.drop_new()
        return LOOK_S
    files.promote()
    _log.info("%s goes on with its new certificate", name)
    return 0.0


class Renewal:
    """Asks for the next certificate when it is time.

    Args:
        settings: the owner's.
        credentials: what the board is now.
        send: publishes a request.
        pause_s: how long to leave the matter alone first, as `take_over` says.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        credentials: Credentials,
        send: Callable[[str, bytes], Awaitable[object]],
        pause_s: float,
    ) -> None:
        self._files: Final = KeyFiles(settings.fleet.key, settings.fleet.certificate)
        self._credentials: Final = credentials
        self._topics: Final = Topics(credentials.identity.fleet)
        self._send: Final = send
        self._pause_s: Final = pause_s
        self._began: Final = time.monotonic()
        self._asking: Asking | None = None
        self._answers: Final[asyncio.Queue[bytes]] = asyncio.Queue(MOST_ANSWERS)

    @property
    def now(self) -> datetime:
        """The time as far as it is known, on boards whose clock may be years back."""
        begin, _ = validity(x509.load_der_x509_certificate(self._credentials.identity.certificate))
        return max(begin + timedelta(seconds=time.monotonic() - self._began), datetime.now(UTC))

    async def obtained(self) -> None:
        """Return when a new pair of files is there to be tried."""
        identity = self._credentials.identity
        await asyncio.sleep(self._pause_s)
        while not is_due(identity.certificate, self.now):  # noqa: ASYNC110 - a clock is waited for
            await asyncio.sleep(LOOK_S)
        if self._files.new.is_complete:  # could not be tried at the last start
            return
        key = await asyncio.to_thread(self._files.new.own_key)
        asking = self._asking = Asking(
            ask_again(key, identity),
            key.public_key(),
            self._credentials.authority,
            name=identity.name,
            number=identity.number,
            random=random.random,
        )
        effects = asking.subscribed(time.monotonic())
        while True:
            for effect in effects:
                match effect:
                    case Ask(request):
                        _log.info("%s asks for its next certificate", identity.name)
                        await self._send(self._topics.enrolment_request(identity.name), request)
                    case Tell(reason):
                        _log.warning("the next certificate was declined: %s", reason)
                    case Take(certificate):
                        await asyncio.to_thread(self._files.new.keep, certificate)
                        return
            effects = await self._next(asking)

    def receive(self, raw: bytes) -> None:
        """Take what came on the topic of answers."""
        if raw and self._asking is not None and not self._answers.full():
            self._answers.put_nowait(raw)

    async def _next(self, asking: Asking) -> Effects:
        wait_s = (asking.deadline or 0.0) - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                raw = await self._answers.get()
        except TimeoutError:
            return asking.tick(time.monotonic())
        try:
            return asking.receive(raw, time.monotonic())
        except PeerError as fault:
            _log.warning("ignored an answer: %s", fault)
            return []
