"""One key of this board that waits for its certificate: the state machine, without any connection.

It asks as soon as it can hear the answer, and again and again until there is one, more slowly after
each time. An answer is taken only when the authority certified this very key, under this board's
name, and at a renewal under its number. All else that comes on that topic is no affair of ours:
anybody may have written it. That a request was declined is told to people, and asked again later:
nobody signs that.

Source: docs/protocol.md, section 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.shared.backoff import Backoff
from fedring.shared.enrolment import Certified, Declined, decode_answer, digest_of
from fedring.shared.errors import IdentityError
from fedring.shared.identity import Authority, Role

REPEATS: Final = Backoff(first_s=4.0, longest_s=60.0)
"""Requests that are not repeated for `coordinator.enrolment.FORGET_S` are forgotten there."""


@frozen
class Ask:
    """Publish the request."""

    request: bytes = field(repr=False)


@frozen
class Take:
    """The certificate, DER: keep it; nothing more is asked."""

    certificate: bytes = field(repr=False)


@frozen
class Tell:
    """Somebody says that there will be no certificate, and why."""

    reason: str


Effects = list[Ask | Take | Tell]


class Asking:
    """Asks for one certificate.

    Args:
        request: encoded, as `ask_first` or `ask_again` give it.
        key: the public key that it is for.
        authority: of the fleet.
        name: of this board.
        number: that the certificate must carry; None before the first one.
        random: draws from [0, 1).

    Attributes:
        deadline: when `tick` wants to be called; None while nobody can be asked.
    """

    def __init__(
        self,
        request: bytes,
        key: ec.EllipticCurvePublicKey,
        authority: Authority,
        *,
        name: str,
        number: int | None = None,
        random: Callable[[], float],
    ) -> None:
        self._request: Final = request
        self._digest: Final = digest_of(request)
        self._key: Final = key.public_numbers()
        self._authority: Final = authority
        self._name: Final = name
        self._number: Final = number
        self._random: Final = random
        self._asked = 0
        self._done = False
        self.deadline: float | None = None

    def subscribed(self, now: float) -> Effects:
        """The answer can be heard from now on: before that nothing is asked."""
        self._asked = 0
        return self._ask(now)

    def disconnected(self) -> None:
        """Nobody can be asked for now."""
        self.deadline = None

    def tick(self, now: float) -> Effects:
        """Ask again when it is time."""
        if self.deadline is None or now < self.deadline:
            return []
        return self._ask(now)

    def receive(self, raw: bytes, now: float) -> Effects:
        """Take what came on the topic of answers; anybody may have written it.

        Raises:
            MessageError: no answer at all.
            IdentityError: a certificate that the authority did not give, or not for us.
        """
        match decode_answer(raw):
            case Declined(request=digest, reason=reason) if digest == self._digest:
                if self.deadline is not None:
                    self.deadline = now + REPEATS.longest_s
                return [Tell(reason)]
            case Certified(certificate=certificate):
                return self._certified(certificate)
        return []

    def _certified(self, certificate: bytes) -> Effects:
        peer = self._authority.peer(certificate)
        if peer.public_key.public_numbers() != self._key or self._done:
            return []  # of an earlier key of ours, or given twice
        if (peer.name, peer.role) != (self._name, Role.DEVICE):
            raise IdentityError("certificate of our key is for another name", sender=peer.name)
        if self._number not in (None, peer.number):
            raise IdentityError("renewed certificate has another number", sender=peer.name)
        self._done = True
        self.deadline = None
        return [Take(certificate)]

    def _ask(self, now: float) -> Effects:
        if self._done:
            return []
        self._asked += 1
        self.deadline = now + REPEATS.wait_s(self._asked, self._random())
        return [Ask(self._request)]
