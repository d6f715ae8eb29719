"""Secrets between two round keys: the pads of a release, and the seal around it.

Every device has one X25519 round key a round, every announce of the coordinator has one as well.
From two of them HKDF-SHA-256 makes a key for one purpose, told by `info`:

    pad    "fedring/1 pad\\0"  | roster digest | list digest | i | j      for devices i < j
    seal   "fedring/1 seal\\0" | roster digest | list digest | sender     device to coordinator

Numbers are uint32, big-endian; digests have 32 bytes: every field has a fixed width, so no two
purposes share an `info`. The numbers are load-bearing: without them a copied round key would make
two pads of an honest device cancel.

For a pair i < j, i adds and j subtracts the same pieces of a ChaCha20 stream, so the sum over all
names of one list is zero, and the sum over anything less is uniform. A piece is 128 bits wider
than the modulus: after reduction its distribution is within 2**-128 of uniform.

Rules that live elsewhere: a device gives one release a round (its member), which is also what
makes the fixed nonces here safe; whose round key it is and which numbers are in the list (roster
and list checks). Not protected here: anything against a peer who shares the secret; erasure of
keys beyond dropping the reference.

Source: docs/protocol.md, section 11; Bonawitz et al., "Practical Secure Aggregation", CCS 2017,
section 4.0.1, for pads that cancel. X25519: RFC 7748, sections 5 and 6.1. HKDF without salt: RFC
5869, sections 2.2 and 2.3. ChaCha20: RFC 8439, section 2.4; the seal: its section 2.8.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Self, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedring.shared.errors import IdentityError, ProtocolError
from fedring.shared.messages import DIGEST_BYTES, EXCHANGE_KEY_BYTES

SEAL_BYTES: Final = 16
"""How much longer a sealed text is than the plain one: the Poly1305 tag."""

_PAD: Final = b"fedring/1 pad\0"
_SEAL: Final = b"fedring/1 seal\0"
_STATISTICAL_BITS: Final = 128  # distance from uniform after reduction is at most 2**-128
# One key, one text: both nonces may be constant. ChaCha20 takes counter and nonce as one.
_STREAM_NONCE: Final = bytes(16)
_SEAL_NONCE: Final = bytes(12)

_CHECKED_KEYS: Final = 256  # a repeated `ready` costs no second look

_FIELD_PRIME: Final = 2**255 - 19
# The canonical u-coordinates of order 1, 2, 4 and 8, on the curve and its twist.
# Source: Bernstein, "Curve25519: new Diffie-Hellman speed records", section 3; cr.yp.to/ecdh.html.
_LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD_PRIME - 1,
    }
)


class RoundKey:
    """An X25519 key that lives for one round, in memory only."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key: Final = key
        self.public: Final = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def __repr__(self) -> str:
        return f"RoundKey(public={self.public.hex()[:12]})"

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> Self:
        """Make a key from 32 bytes of `random`: `os.urandom`, or a seeded stream in tests."""
        return cls(X25519PrivateKey.from_private_bytes(random(EXCHANGE_KEY_BYTES)))

    def derive(self, public: bytes, info: bytes) -> bytes:
        """Derive the 32-byte key that this key shares with `public` for the purpose `info`.

        Raises:
            ProtocolError: `public` gives no secret (see `check_public_key`).
        """
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # wrong length, or the all-zero result
            raise ProtocolError("round key gives no secret") from None
        return HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


NewRoundKey: TypeAlias = Callable[[Callable[[int], bytes]], RoundKey]
"""Makes a round key from random bytes, as `RoundKey.generate` does."""


# X25519 scalars are multiples of the cofactor 8: with any of them a point of low order, and no
# other, gives zero. So one fixed scalar finds them all.
_PROBE: Final = RoundKey(X25519PrivateKey.from_private_bytes(bytes(EXCHANGE_KEY_BYTES)))


@lru_cache(maxsize=_CHECKED_KEYS)
def check_public_key(raw: bytes) -> None:
    """Return if `raw` is the public half that an honest device could have made.

    Raises:
        ProtocolError: not 32 bytes, not in its one canonical form, or a point of low order, which
            would give a secret that everybody knows.
    """
    if len(raw) != EXCHANGE_KEY_BYTES:
        raise ProtocolError(f"round key has {len(raw)} bytes, not {EXCHANGE_KEY_BYTES}")
    u = int.from_bytes(raw, "little")
    if u >= _FIELD_PRIME:  # the unused top bit included
        raise ProtocolError("round key is not in canonical form")
    if u in _LOW_ORDER:
        raise ProtocolError("round key is of low order")
    _PROBE.derive(raw, b"")


def pads(
    own: RoundKey,
    own_number: int,
    peers: Mapping[int, bytes],
    *,
    roster_digest: bytes,
    list_digest: bytes,
    n_pieces: int,
    modulus: int,
) -> list[int]:
    """Give what this device adds to its key, so that only the sum over the whole list is known.

    Args:
        own: this device's round key.
        own_number: this device's number; its entry in `peers`, if any, is passed over.
        peers: the round keys of all names on the list, by device number; checked beforehand.
        roster_digest: 32 bytes.
        list_digest: 32 bytes.
        n_pieces: how many pads, one for each ciphertext, >= 1.
        modulus: of each pad, the Paillier modulus n.

    Returns:
        `n_pieces` integers in [0, modulus); the lists of all names sum to zero modulo `modulus`.

    Raises:
        ProtocolError: the list has no other name, or a round key gives no secret.
    """
    others = {number: public for number, public in peers.items() if number != own_number}
    if not others:
        raise ProtocolError("a list of one name: its release would be the key itself")
    size = -(-(modulus.bit_length() + _STATISTICAL_BITS) // 8)
    zeros = bytes(n_pieces * size)
    sums = [0] * n_pieces
    for number, public in others.items():
        low, high = sorted((own_number, number))
        sign = 1 if own_number == low else -1
        key = own.derive(public, _info(_PAD, roster_digest, list_digest, low, high))
        stream = Cipher(ChaCha20(key, _STREAM_NONCE), mode=None).encryptor().update(zeros)
        for piece in range(n_pieces):
            sums[piece] += sign * int.from_bytes(stream[piece * size : (piece + 1) * size], "big")
    return [total % modulus for total in sums]


def seal(
    own: RoundKey,
    coordinator_public: bytes,
    plaintext: bytes,
    *,
    roster_digest: bytes,
    list_digest: bytes,
    sender: int,
) -> bytes:
    """Close `plaintext` so that only the coordinator of this announce can open it.

    ChaCha20-Poly1305 under a key that the round keys, both digests and the sender determine, and
    under the nonce zero: a device seals one release a round, so each key closes one text. Sealing
    a second text for the same list would reveal the exclusive-or of the two.

    Args:
        own: the device's round key.
        coordinator_public: the coordinator's X25519 key out of the announce.
        plaintext: the ciphertexts of a release.
        roster_digest: 32 bytes.
        list_digest: 32 bytes.
        sender: the device's number.

    Returns:
        `SEAL_BYTES` more than `plaintext`.

    Raises:
        ProtocolError: the coordinator's key gives no secret.
    """
    info = _info(_SEAL, roster_digest, list_digest, sender)
    key = own.derive(coordinator_public, info)
    return ChaCha20Poly1305(key).encrypt(_SEAL_NONCE, plaintext, info)


def unseal(
    own: RoundKey,
    device_public: bytes,
    sealed: bytes,
    *,
    roster_digest: bytes,
    list_digest: bytes,
    sender: int,
) -> bytes:
    """Open what a device sealed to this coordinator, for this roster and list.

    Args:
        own: the coordinator's key of the announce.
        device_public: the sender's round key out of its `ready`.
        sealed: as received.
        roster_digest: 32 bytes.
        list_digest: 32 bytes.
        sender: the sender's device number.

    Raises:
        IdentityError: not sealed by that device, for this roster and list, or changed on the way.
        ProtocolError: the device's key gives no secret.
    """
    info = _info(_SEAL, roster_digest, list_digest, sender)
    key = own.derive(device_public, info)
    try:
        return ChaCha20Poly1305(key).decrypt(_SEAL_NONCE, sealed, info)
    except InvalidTag:
        raise IdentityError("seal does not hold", sender=str(sender), kind="release") from None


def _info(tag: bytes, roster_digest: bytes, list_digest: bytes, *numbers: int) -> bytes:
    if not len(roster_digest) == len(list_digest) == DIGEST_BYTES:
        raise ValueError(f"digests have {DIGEST_BYTES} bytes each")
    return tag + roster_digest + list_digest + struct.pack(f">{len(numbers)}I", *numbers)
