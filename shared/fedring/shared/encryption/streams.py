"""Randomness expanded from 32-byte seeds: ChaCha20 keystreams.

A seed costs one read from the system; the stream behind it is four times faster than reading
the system's randomness for a whole mask. ChaCha20 because small boards have no AES instructions.
What needs to stay independent (lattice keys, Paillier randomness) gets a seed of its own.

Not protected: a seed or a key of the cipher in freed memory; Python cannot overwrite bytes.

Source: ChaCha20 of RFC 8439, sections 2.3 and 2.4, with four zero bytes and the stream's number as
its nonce. No stream here comes near 256 GiB, where the RFC's block counter ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Random: TypeAlias = Callable[[int], bytes]
"""Gives so many uniform bytes: `os.urandom` in production, a seeded stream in tests."""

Words: TypeAlias = NDArray[np.uint64]

SEED_BYTES = 32


class Stream:
    """The ChaCha20 keystream of a seed; `repr` shows neither. For one thread at a time.

    Args:
        seed: 32 bytes.
        number: which of the 2**64 streams of this seed.

    Raises:
        ValueError: a seed of another length.
        OverflowError: there is no stream of this number.
    """

    def __init__(self, seed: bytes, number: int = 0) -> None:
        # a block counter of 64 bits from 0, then the number of the stream
        nonce = bytes(8) + number.to_bytes(8, "little")
        self._cipher = Cipher(ChaCha20(seed, nonce), mode=None).encryptor()

    def __repr__(self) -> str:
        return "Stream(...)"

    def read(self, n_bytes: int) -> bytes:
        """So many of the next bytes, 0 or more; as a method of one stream it is a `Random`."""
        return self._cipher.update(bytes(n_bytes))

    def words(self, n_words: int) -> Words:
        """The next little-endian 64-bit words: uint64, shape (n_words,)."""
        words = np.frombuffer(self.read(8 * n_words), np.dtype("<u8"))
        return words.astype(np.uint64, copy=False)
