"""The plain side: what devices and coordinator would do with float32 vectors that may be read."""

from __future__ import annotations

import os
from typing import Final

import msgpack
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedring.shared.messages import CHUNK_BYTES
from fedring.shared.numbers import FloatVector

_NONCE: Final = bytes(12)
_rng: Final = np.random.default_rng(0)


def update(n_values: int) -> FloatVector:
    """What training changed, one value for each weight."""
    return _rng.normal(0, 0.01, n_values).astype(np.float32)


def seal(vector: FloatVector) -> bytes:
    """A: pack a plain update and seal it, for one reader who then knows it."""
    packed = msgpack.packb({"update": vector.data.cast("B")})
    return ChaCha20Poly1305(os.urandom(32)).encrypt(_NONCE, packed, None)


def hop(wire: bytes, own: FloatVector) -> bytes:
    """Add an update to one that comes in, and hand it on."""
    total: FloatVector = np.frombuffer(wire, np.dtype("<f4")) + own
    return total.tobytes()


def hop_by_chunks(wire: bytes, own: FloatVector) -> list[bytes]:
    """The same to each chunk as it comes."""
    return [
        hop(wire[start : start + CHUNK_BYTES], own[start // 4 : (start + CHUNK_BYTES) // 4])
        for start in range(0, len(wire), CHUNK_BYTES)
    ]


class Sealed:
    """Updates of many devices under keys of their own, for a reader who opens and adds them.

    Args:
        n_values: weights of each.
    """

    def __init__(self, n_values: int) -> None:
        self._cipher = ChaCha20Poly1305(os.urandom(32))
        packed = msgpack.packb({"update": update(n_values).data.cast("B")})
        self._sealed = self._cipher.encrypt(_NONCE, packed, None)
        self._total = np.zeros(n_values, np.float32)

    def open(self, n_devices: int) -> FloatVector:
        """The sum of so many."""
        self._total.fill(0)
        for _ in range(n_devices):
            opened = msgpack.unpackb(self._cipher.decrypt(_NONCE, self._sealed, None))
            self._total += np.frombuffer(opened["update"], np.float32)
        return self._total
