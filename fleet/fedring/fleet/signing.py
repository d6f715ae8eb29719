"""What the owner's machine makes of a board's request: a certificate, or a reason why not.

This is the one place where a proof is judged, since only here are codes and the issuing key. What
is asked for a second time is answered as the first time; the register sees to that.

Source: docs/protocol.md, section 13.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet.authority import Fleet
from fedring.fleet.register import Standing
from fedring.shared.certificates import read_certificate, validity
from fedring.shared.enrolment import (
    Answer,
    Certified,
    Declined,
    Enrolment,
    Renewal,
    decode_request,
    digest_of,
    encode,
    requested_key,
    serial_of,
)
from fedring.shared.errors import PeerError, StateError
from fedring.shared.identity import Authority
from fedring.shared.messages import one_line

MAX_UNPROVEN: Final = 3
"""Certificates that a board may be given beyond the one that it proves itself with: it may lose one
on the way, but nobody is handed them without end."""

_OURS: Final = "fleet."  # errors that tell what is wrong with a request, not with this machine


@frozen
class Verdict:
    """What a request came to.

    Attributes:
        name: of the board that it says to be of.
        answer: for the board.
    """

    name: str
    answer: Answer

    @property
    def raw(self) -> bytes:
        """The answer as it travels."""
        return encode(self.answer)

    @property
    def is_certified(self) -> bool:
        """Whether there is a certificate."""
        return isinstance(self.answer, Certified)

    def __str__(self) -> str:
        match self.answer:
            case Certified(certificate=certificate):
                return f"certified {self.name}, serial number {serial_of(certificate):x}"
            case Declined(reason=reason):
                return f"declined {self.name}: {reason}"


def judge(fleet: Fleet, name: str, raw: bytes) -> Verdict:
    """Judge a request that somebody made in the name of a board.

    Args:
        fleet: unlocked.
        name: under which it came.
        raw: the request; anybody may have written it.

    Raises:
        UserError: this machine cannot judge: the key is locked, the folder in use or damaged.
    """
    request = digest_of(raw)
    fleet.refresh()
    try:
        certificate = _certificate(fleet, name, raw)
    except PeerError as fault:
        return Verdict(name, Declined(request=request, reason=one_line(fault.reason)))
    except StateError as mistake:
        if not mistake.name.startswith(_OURS):
            raise
        return Verdict(name, Declined(request=request, reason=one_line(mistake.text)))
    der = certificate.public_bytes(Encoding.DER)
    return Verdict(name, Certified(request=request, certificate=der))


def burn(fleet: Fleet, name: str, serial: int) -> bool:
    """Burn the code of a board that was seen with its newest certificate.

    Args:
        fleet: may be locked.
        name: of the board, as the broker vouches for it.
        serial: serial number of the certificate that it was seen with.

    Returns:
        Whether there was a code to burn.

    Raises:
        StateError: the folder is in use or damaged.
    """
    fleet.refresh()
    waiting = {device.name for device in fleet.devices if device.standing is Standing.CERTIFIED}
    return name in waiting and fleet.seen(name, serial)


def _certificate(fleet: Fleet, name: str, raw: bytes) -> x509.Certificate:
    asked = decode_request(raw)
    if (asked.fleet, asked.name) != (fleet.name, name):
        raise PeerError("asks in another name than it came in")
    match asked:
        case Enrolment():
            if not asked.is_proven_by(fleet.code(name)):
                raise PeerError("made with another code than the one that is kept here")
            return fleet.certify(name, requested_key(asked))
        case Renewal():
            _check_renewal(fleet, asked)
            return fleet.renew(name, requested_key(asked))


def _check_renewal(fleet: Fleet, asked: Renewal) -> None:
    authority = Authority(read_certificate(fleet.ca_file).public_bytes(Encoding.DER))
    holder = authority.peer(asked.certificate)
    if holder.name != asked.name:
        raise PeerError("asks with the certificate of another board")
    asked.verify(holder)
    device = fleet.find(asked.name)
    serials = [issued.serial for issued in device.certificates]
    serial = f"{serial_of(asked.certificate):x}"
    if holder.number != device.number or serial not in serials:
        raise PeerError("asks with a certificate that counts no more")
    if len(serials) - 1 - serials.index(serial) >= MAX_UNPROVEN:
        raise PeerError("was given its next certificate often enough, and was not seen with it")
    begin, end = validity(x509.load_der_x509_certificate(asked.certificate))
    now = datetime.now(UTC)
    if not end - (end - begin) / 2 < now < end:
        raise PeerError(f"asks at the wrong time: its certificate ends on {end.date()}")
