"""How a board comes by its certificate: what it asks with, what it is answered, and the proofs.

The board makes its key and a certificate request (CSR) for it. That the request is the board's own
is proven in one of two ways:

- the first time by the one-time code that its owner put onto its card: an HMAC under the code over
  fleet, name and request. The code itself never travels, and the proof serves for no other key;
- at a renewal by a signature of the key that it has, with the certificate for it.

Only the owner's machine can tell a good proof and make a certificate. The coordinator queues what
it cannot judge (`fedring.coordinator.enrolment`); answers come over a topic that others may write:
a certificate proves itself, a refusal is a hint and no more.

Every message has one spelling: what does not come out again when it is encoded is refused.

Source: docs/protocol.md, section 13.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import msgpack
from attrs import asdict, evolve, field, frozen
from attrs.validators import matches_re
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedring.shared.errors import IdentityError, MessageError, StateError
from fedring.shared.identity import MAX_SIGNATURE_BYTES, NAME_PATTERN, Identity, Peer
from fedring.shared.messages import (
    DIGEST_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_REASON_CHARACTERS,
)
from fedring.shared.unpacking import unpack

CODE_BYTES: Final = 16
"""Nobody guesses 128 bits, also not at leisure from a proof that was overheard."""
MAX_CSR_BYTES: Final = 1024
"""One for a P-256 key has about 270."""
MAX_REQUEST_BYTES: Final = 2560
"""A renewal with the longest request and certificate stays below."""
MAX_ANSWER_BYTES: Final = 1536
MAX_PER_NAME: Final = 4
"""Requests in one board's name that wait at once: anybody may write in it."""
MAX_WAITING_BYTES: Final = MAX_PER_NAME * (MAX_REQUEST_BYTES + 8)
MAX_CARRIED: Final = 4096
"""Requests, answers or boards seen in one file."""
MAX_FILE_BYTES: Final = 16 * 2**20

_PROOF: Final = b"fedring/1 enrolment proof\0"
_DIGEST: Final = b"fedring/1 enrolment request\0"
_SIGNED: Final = "renewal"
_SERIAL: Final = re.compile(r"[0-9a-f]{1,40}")  # 20 octets, RFC 5280, section 4.1.2.2
_MAX_STATUS_BYTES: Final = 4096


def _at_most(most: int, least: int = 1) -> Any:
    def check(_: object, attribute: Any, value: Any) -> None:
        if not least <= len(value) <= most:
            raise ValueError(
                f"{attribute.name} has length {len(value)}, expected {least} to {most}"
            )

    return field(validator=check, repr=False)


def _printable(_: object, attribute: Any, value: str) -> None:
    if not (value.isprintable() and 0 < len(value) <= MAX_REASON_CHARACTERS):
        raise ValueError(f"{attribute.name} is not one short printable line")


def _name() -> Any:
    return field(validator=matches_re(NAME_PATTERN))


def _digest() -> Any:
    return field(validator=_exactly(DIGEST_BYTES))


def _exactly(n_bytes: int) -> Any:
    def check(_: object, attribute: Any, value: Any) -> None:
        if len(value) != n_bytes:
            raise ValueError(f"{attribute.name} has {len(value)} bytes, expected {n_bytes}")

    return check


@frozen(kw_only=True)
class Enrolment:
    """A board without a certificate asks for its first one.

    Attributes:
        fleet: name of the fleet.
        name: of the board.
        csr: certificate request, DER, of the key that it made.
        proof: HMAC-SHA256 under its one-time code (`prove`), 32 bytes.
    """

    KIND: ClassVar[str] = "enrolment"

    fleet: str = _name()
    name: str = _name()
    csr: bytes = _at_most(MAX_CSR_BYTES)
    proof: bytes = field(validator=_exactly(DIGEST_BYTES), repr=False)

    def is_proven_by(self, code: bytes) -> bool:
        """Whether whoever made this knew the one-time code; takes the same time either way."""
        return hmac.compare_digest(self.proof, prove(code, self.fleet, self.name, self.csr))


@frozen(kw_only=True)
class Renewal:
    """A board asks for its next certificate, with the one that it has.

    Attributes:
        fleet: name of the fleet.
        name: of the board.
        csr: certificate request, DER, of a new key.
        certificate: DER, of the key that it has.
        signature: by that key, over all of the above.
    """

    KIND: ClassVar[str] = "renewal"

    fleet: str = _name()
    name: str = _name()
    csr: bytes = _at_most(MAX_CSR_BYTES)
    certificate: bytes = _at_most(MAX_CERTIFICATE_BYTES)
    signature: bytes = _at_most(MAX_SIGNATURE_BYTES, 0)

    def signed_payload(self) -> bytes:
        """What the signature is over."""
        return _pack(evolve(self, signature=b""))

    def verify(self, holder: Peer) -> None:
        """Return if the holder of the certificate signed this.

        Raises:
            IdentityError: it did not.
        """
        holder.verify(_SIGNED, self.signed_payload(), self.signature)


@frozen(kw_only=True)
class Certified:
    """An answer: the certificate.

    Attributes:
        request: digest of the request that it answers (`digest_of`).
        certificate: DER.
    """

    KIND: ClassVar[str] = "certified"

    request: bytes = _digest()
    certificate: bytes = _at_most(MAX_CERTIFICATE_BYTES)


@frozen(kw_only=True)
class Declined:
    """An answer: no certificate. Nobody has signed it, so it is a hint for people.

    Attributes:
        request: digest of the request that it answers.
        reason: one printable line.
    """

    KIND: ClassVar[str] = "declined"

    request: bytes = _digest()
    reason: str = field(validator=_printable)


Request = Enrolment | Renewal
Answer = Certified | Declined

_REQUESTS: Final[dict[str, type[Request]]] = {cls.KIND: cls for cls in (Enrolment, Renewal)}
_ANSWERS: Final[dict[str, type[Answer]]] = {cls.KIND: cls for cls in (Certified, Declined)}


# -- on the board ----------------------------------------------------------------------------


def make_csr(key: ec.EllipticCurvePrivateKey, fleet: str, name: str) -> bytes:
    """Ask for a certificate of this key: a request with CN and O, DER."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def prove(code: bytes, fleet: str, name: str, csr: bytes) -> bytes:
    """HMAC-SHA256 under the one-time code over all that the code vouches for; 32 bytes."""
    # Names hold no zero byte, so nothing can be shifted from one to the next.
    vouched = _PROOF + fleet.encode() + b"\0" + name.encode() + b"\0" + csr
    return hmac.digest(code, vouched, "sha256")


def ask_first(key: ec.EllipticCurvePrivateKey, fleet: str, name: str, code: bytes) -> bytes:
    """Encode a board's request for its first certificate."""
    csr = make_csr(key, fleet, name)
    return encode(Enrolment(fleet=fleet, name=name, csr=csr, proof=prove(code, fleet, name, csr)))


def ask_again(key: ec.EllipticCurvePrivateKey, present: Identity) -> bytes:
    """Encode a board's request for a certificate of its next key.

    Args:
        key: the next one.
        present: key and certificate that it has.
    """
    csr = make_csr(key, present.fleet, present.name)
    unsigned = Renewal(
        fleet=present.fleet,
        name=present.name,
        csr=csr,
        certificate=present.certificate,
        signature=b"",
    )
    return encode(evolve(unsigned, signature=present.sign(_SIGNED, unsigned.signed_payload())))


# -- on the owner's machine ------------------------------------------------------------------


def requested_key(request: Request) -> ec.EllipticCurvePublicKey:
    """Give the key that is to be certified.

    Raises:
        IdentityError: no request in DER, not signed by the key itself, for another name or fleet
            than the message says, or for another key than P-256.
    """
    try:
        csr = x509.load_der_x509_csr(request.csr)
        subject = csr.subject
        holds = csr.is_signature_valid
        key = csr.public_key()
    except Exception as error:  # parsers of other versions of the library raise other exceptions
        raise IdentityError("certificate request is damaged", kind=request.KIND) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("certificate request for another key than P-256", kind=request.KIND)
    if not holds:
        raise IdentityError("certificate request is not signed by its key", kind=request.KIND)
    wanted = {NameOID.COMMON_NAME: request.name, NameOID.ORGANIZATION_NAME: request.fleet}
    if {one.oid: one.value for one in subject} != wanted or len(subject) != len(wanted):
        raise IdentityError("certificate request is for another name", kind=request.KIND)
    return key


def serial_of(certificate: bytes) -> int:
    """Serial number of a certificate, DER, that was read as one before."""
    return x509.load_der_x509_certificate(certificate).serial_number


def serial_in_status(status: bytes) -> int | None:
    """Serial number of the certificate that a device's status tells; None when it tells none.

    Args:
        status: JSON, from whoever may write that topic.
    """
    if len(status) > _MAX_STATUS_BYTES:
        return None
    try:
        facts = json.loads(status)
    except (ValueError, RecursionError):
        return None
    serial = facts.get("certificate") if type(facts) is dict else None
    if type(serial) is not str or not _SERIAL.fullmatch(serial):
        return None
    return int(serial, 16)


def digest_of(raw: bytes) -> bytes:
    """SHA-256 of a request as it travels, which answers name it by; 32 bytes."""
    return hashlib.sha256(_DIGEST + raw).digest()


# -- the codec -------------------------------------------------------------------------------


def encode(message: Request | Answer) -> bytes:
    return _pack(message)


def decode_request(raw: bytes) -> Request:
    """Read a request that anybody may have written.

    Raises:
        MessageError: none, or one that breaks a limit.
    """
    return cast(Request, _decode(raw, MAX_REQUEST_BYTES, _REQUESTS))


def decode_answer(raw: bytes) -> Answer:
    """Read an answer that anybody may have written.

    Raises:
        MessageError: none, or one that breaks a limit.
    """
    return cast(Answer, _decode(raw, MAX_ANSWER_BYTES, _ANSWERS))


def encode_waiting(requests: tuple[bytes, ...]) -> bytes:
    """Encode what waits in one board's name: its requests, as they came."""
    return cast(bytes, msgpack.packb(list(requests)))


def decode_waiting(raw: bytes) -> tuple[bytes, ...]:
    """Read what waits in one board's name; the requests themselves are not looked into.

    Raises:
        MessageError: too long, or no array of byte strings.
    """
    match _unpacked(raw, MAX_WAITING_BYTES):
        case list(found) if len(found) <= MAX_PER_NAME:
            requests = tuple(one for one in found if type(one) is bytes)
            if encode_waiting(requests) == raw:
                return requests
    raise MessageError("not what waits in a board's name")


@frozen(kw_only=True)
class Carried:
    """What travels between coordinator and owner's machine in a file.

    Attributes:
        fleet: name of the fleet.
        items: requests on the way there, answers on the way back, each with its board's name.
        seen: serial number of the certificate that a board was last seen with, by its name; empty
            on the way back.
    """

    fleet: str = _name()
    items: tuple[tuple[str, bytes], ...] = ()
    seen: tuple[tuple[str, int], ...] = ()

    def encode(self) -> bytes:
        """Encode as a file."""
        serials = [[name, f"{serial:x}"] for name, serial in self.seen]
        fields = {
            "kind": "carried enrolment",
            "fleet": self.fleet,
            "items": [list(item) for item in self.items],
            "seen": serials,
        }
        return cast(bytes, msgpack.packb(fields))

    @classmethod
    def load(cls, file: Path) -> Carried:
        """Read such a file for a person who names it.

        Raises:
            StateError: missing, or not such a file.
        """
        try:
            with file.open("rb") as opened:
                return cls.decode(opened.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            raise StateError(f"{file}: {error.strerror}", name="enrolment.file") from error
        except MessageError as fault:
            raise StateError(
                f"{file}: {fault.reason}",
                name="enrolment.file",
                hint="carry it again, as a binary file",
            ) from fault

    @classmethod
    def decode(cls, raw: bytes) -> Carried:
        """Read such a file.

        Raises:
            MessageError: anything else.
        """
        match _unpacked(raw, MAX_FILE_BYTES):
            case {"fleet": str(fleet), "items": list(items), "seen": list(seen)} if (
                NAME_PATTERN.fullmatch(fleet) and max(len(items), len(seen)) <= MAX_CARRIED
            ):
                carried = cls(
                    fleet=fleet,
                    items=tuple(_item(one) for one in items),
                    seen=tuple(_serial(one) for one in seen),
                )
                if carried.encode() == raw:
                    return carried
        raise MessageError("not a file of enrolments")


def _item(item: object) -> tuple[str, bytes]:
    match item:
        case [str(name), bytes(raw)] if NAME_PATTERN.fullmatch(name):
            if len(raw) <= MAX_REQUEST_BYTES:
                return name, raw
    raise MessageError("not a name with its message")


def _serial(item: object) -> tuple[str, int]:
    match item:
        case [str(name), str(digits)] if NAME_PATTERN.fullmatch(name):
            if _SERIAL.fullmatch(digits):
                return name, int(digits, 16)
    raise MessageError("not a name with a serial number")


def _pack(message: Request | Answer) -> bytes:
    return cast(bytes, msgpack.packb({"kind": message.KIND, **asdict(message)}))


def _decode(raw: bytes, limit: int, kinds: Any) -> Request | Answer:
    fields = _unpacked(raw, limit)
    if type(fields) is not dict:
        raise MessageError("not a map")
    kind = fields.pop("kind", None)
    cls = kinds.get(kind) if type(kind) is str else None
    if cls is None:
        raise MessageError("not a message of enrolment that is expected here")
    texts = {"fleet", "name", "reason"}
    if not all(type(value) is (str if key in texts else bytes) for key, value in fields.items()):
        raise MessageError("a field of another type than expected", kind=kind)
    try:
        message: Request | Answer = cls(**fields)
    except (TypeError, ValueError) as fault:
        raise MessageError(str(fault.args[0])[:120], kind=kind) from None
    if _pack(message) != raw:  # settles order, doubles and other spellings
        raise MessageError("not in the one form of its kind", kind=kind)
    return message


def _unpacked(raw: bytes, limit: int) -> Any:
    if len(raw) > limit:
        raise MessageError(f"{len(raw)} bytes, at most {limit} are read")
    try:
        return unpack(raw, strict_map_key=True)
    except ValueError as fault:
        raise MessageError(str(fault)) from fault
