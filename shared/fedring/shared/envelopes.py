"""Messages to bytes and back, and the signatures around them.

An envelope is the msgpack array `[payload, signature]`. The payload is a msgpack map of the
message's fields with its `kind`; it carries fleet, epoch and round, so every signature and every
digest stands under that tag. Both are taken over the exact bytes that travelled, never over a
re-encoding.

A decoded envelope is `Unverified` until its writer's certificate has verified it; only then does
it become `Signed`, the type that the state machines work with.

Whatever the bytes, decoding gives a message or `MessageError`, in memory bounded by the input.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar, cast

import attrs
import cattrs
import msgpack
from attrs import field, frozen
from cattrs.gen import make_dict_structure_fn

from fedring.shared.errors import MessageError, PeerError
from fedring.shared.messages import CHUNK_BYTES, MESSAGES, Message

MAX_ENVELOPE_BYTES = CHUNK_BYTES + 32 * 1024
"""The largest message, a roster of 64, stays below; AWS IoT cuts at 128 KB."""
_MAX_SIGNATURE_BYTES = 80
_MAX_ARRAY = 64
_MAX_FIELDS = 24

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


class Signer(Protocol):
    """Whoever can sign with an identity key."""

    def sign(self, kind: str, payload: bytes) -> bytes: ...


class Verifier(Protocol):
    """Whoever's certificate can verify a signature."""

    @property
    def number(self) -> int: ...
    @property
    def fleet(self) -> str: ...
    @property
    def name(self) -> str: ...
    def verify(self, kind: str, payload: bytes, signature: bytes) -> None: ...


def digest(kind: str, payload: bytes) -> bytes:
    """SHA-256 of a payload under the tag of its kind; 32 bytes."""
    return hashlib.sha256(b"fedring/1 digest " + kind.encode() + b"\0" + payload).digest()


def pack_envelope(payload: bytes, signature: bytes) -> bytes:
    return cast(bytes, msgpack.packb([payload, signature]))


def unpack_envelope(raw: bytes) -> tuple[bytes, bytes]:
    """Split an envelope into payload and signature.

    Raises:
        MessageError: not an array of two byte strings, or too long.
    """
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise MessageError(f"{len(raw)} bytes, more than {MAX_ENVELOPE_BYTES}")
    match _unpack(raw):
        case [bytes(payload), bytes(signature)] if len(signature) <= _MAX_SIGNATURE_BYTES:
            return payload, signature
    raise MessageError("not an envelope of payload and signature")


@frozen(slots=False, repr=False)  # slots have no room for a cached property
class Signed(Generic[M]):
    """A message whose signature was made here or has been verified.

    Attributes:
        message: the decoded message.
        payload: what the signature is over.
        raw: the envelope exactly as it travels.
    """

    message: M
    payload: bytes = field(eq=False)  # part of `raw`
    raw: bytes

    def __repr__(self) -> str:
        return f"Signed(message={self.message!r}, digest={self.digest.hex()[:12]})"

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 over the payload, under the tag of the kind; nobody asks for that of a chunk."""
        return digest(self.message.kind, self.payload)


@frozen
class Unverified:
    """A decoded envelope whose writer is not yet proven."""

    message: Message
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    def verified_by(self, peer: Verifier, expected: type[N]) -> Signed[N]:
        """The message, once `peer` is shown to have signed it.

        Raises:
            MessageError: another kind of message than expected.
            IdentityError: not signed by `peer`, or its sender or fleet are another's.
        """
        message = self.message
        if not isinstance(message, expected):
            raise MessageError(
                f"a {message.kind} where a {expected.kind} was expected", kind=message.kind
            )
        if (message.sender, message.fleet) != (peer.number, peer.fleet):
            raise MessageError(
                f"names sender {message.sender} of fleet {message.fleet}, "
                f"but came from {peer.name}, {peer.number} of {peer.fleet}",
                kind=message.kind,
            )
        peer.verify(message.kind, self.payload, self.signature)
        return Signed(message, self.payload, self.raw)

    @property
    def digest(self) -> bytes:
        """SHA-256 over the payload, under the tag of the kind."""
        return digest(self.message.kind, self.payload)


def sign(message: M, signer: Signer) -> Signed[M]:
    """Encode and sign a message of one's own."""
    payload = encode(message)
    raw = pack_envelope(payload, signer.sign(message.kind, payload))
    return Signed(message, payload, raw)


def open_envelope(raw: bytes) -> Unverified:
    """Decode an envelope that came from anywhere.

    Raises:
        MessageError: the bytes are no message of this protocol, or break one of its limits.
    """
    payload, signature = unpack_envelope(raw)
    return Unverified(decode(payload), payload, signature, raw)


@contextmanager
def blaming(writer: str) -> Iterator[None]:
    """Name who wrote it in every `PeerError` that comes of it and names nobody yet.

    Args:
        writer: as the topic says, which the broker alone vouches for.
    """
    try:
        yield
    except PeerError as fault:
        fault.sender = fault.sender or writer
        raise


def encode(message: Message) -> bytes:
    return cast(bytes, msgpack.packb({"kind": message.kind, **_converter().unstructure(message)}))


def decode(payload: bytes) -> Message:
    """Decode a payload.

    Raises:
        MessageError: the bytes are no message of this protocol, or break one of its limits.
    """
    fields = _unpack(payload)
    if not isinstance(fields, dict):
        raise MessageError("the payload is not a map")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):  # anything else may be nested too deep to be printed
        raise MessageError("field 'kind' is missing, or no text")
    cls = MESSAGES.get(kind)
    if cls is None:
        raise MessageError(f"unknown kind of message {kind!r:.40}")
    try:
        return _converter().structure(fields, cls)
    except (TypeError, ValueError, KeyError, cattrs.errors.ForbiddenExtraKeysError) as fault:
        raise MessageError(_one_line(fault), kind=cls.kind) from None


def _one_line(fault: Exception) -> str:
    if isinstance(fault, KeyError):
        return f"field {fault} is missing"
    if isinstance(fault, cattrs.errors.ForbiddenExtraKeysError):
        return f"unknown field {min(map(repr, fault.extra_fields)):.40}"
    return str(fault.args[0])[:120] if fault.args else type(fault).__name__


def _unpack(raw: bytes) -> Any:
    try:
        return msgpack.unpackb(
            raw,
            object_pairs_hook=_without_doubles,
            max_str_len=1024,
            max_bin_len=MAX_ENVELOPE_BYTES,
            max_array_len=_MAX_ARRAY,
            max_map_len=_MAX_FIELDS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as fault:
        raise MessageError(f"not msgpack of this protocol: {str(fault)[:80]}") from None


def _without_doubles(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a map with doubled keys")
    return fields


@functools.cache
def _converter() -> cattrs.Converter:
    """A converter that takes each type only as itself: no number from a string, no bool as 1."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)

    def exactly(wanted: type) -> Any:
        def structure(value: Any, _: Any) -> Any:
            if type(value) is not wanted:
                raise TypeError(f"a {type(value).__name__} where a {wanted.__name__} was expected")
            return value

        return structure

    for wanted in (bool, int, float, str, bytes):
        converter.register_structure_hook(wanted, exactly(wanted))

    def sequence(value: Any, target: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"a {type(value).__name__} where a list was expected")
        (inner, _) = target.__args__
        hook = exactly(inner)
        return tuple(hook(item, inner) for item in value)

    converter.register_structure_hook_func(
        lambda target: getattr(target, "__origin__", None) is tuple, sequence
    )

    def of_maps(cls: Any) -> Any:
        inner = make_dict_structure_fn(
            cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False
        )

        def structure(value: Any, target: Any) -> Any:
            if type(value) is not dict:
                raise TypeError(f"a {type(value).__name__} where a map was expected")
            return inner(value, target)

        return structure

    converter.register_structure_hook_factory(attrs.has, of_maps)
    return converter
