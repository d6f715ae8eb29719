"""What a suite can do: mask integer vectors so that masked vectors add up, and open the sum.

    mask = suite.prepare(os.urandom)            device, before the update is known
    body = mask.body(values)                    once: goes round the ring, is added to others
    release = mask.release(pads)                once: goes sealed to the coordinator
    suite.open(private_key, sum of bodies, suite.product(releases), n_contributors)

A body is an array of 64-bit words whatever the suite; what adding means is the suite's affair:
modulo 2**64 word by word in `hybrid`, modulo n residue by residue in `paillier`.
A release is Paillier ciphertexts of the mask's key plus pads; pads of all contributors of one
list cancel modulo n, any others leave nothing but uniform values.

Not protected here: a body says nothing about who made it, and a forged addition that keeps to
the layout passes every check. Whatever enters a sum must have been signed by a member.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import numpy as np
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption import paillier
from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.once import Once
from fedring.shared.encryption.paillier import Ciphertexts
from fedring.shared.encryption.parameters import MAX_VALUES
from fedring.shared.encryption.streams import Random, Words
from fedring.shared.errors import BodyError
from fedring.shared.numbers import IntVector, SumVector, largest_value

Body: TypeAlias = Words
"""uint64, shape (suite.body_bytes / 8,); what the words hold is the suite's affair."""

Product: TypeAlias = Ciphertexts
"""The releases multiplied: encryptions of the sum of keys, once the pads are complete."""


class Suite(ABC):
    """One way to mask vectors, for one announce. Holds no secret; safe to share between threads.

    Args:
        public_key: of the coordinator; its size is the caller's to check.
        n_values: length of a vector, 1..max_values.
        bits: width of one contributor's value, 8 or 16.

    Attributes:
        name: as the announce calls it.
        max_values: longest vector that this suite is for.
        in_pieces: bodies can be added piece by piece, each of whole 64-bit words.
        n: the Paillier modulus; pads are reduced modulo n.
        max_contributors: how many may be opened together without overflow.
        body_bytes: exact length of a body on the wire.
        n_ciphertexts: in a release, and so pads that `OneTimeMask.release` needs.
        release_bytes: exact length of a release.
    """

    name: ClassVar[str]
    max_values: ClassVar[int] = MAX_VALUES
    in_pieces: ClassVar[bool] = False

    def __init__(self, public_key: PaillierPublicKey, n_values: int, bits: int) -> None:
        self.n: int = public_key.n
        self.n_values = n_values
        self.bits = bits

    @property
    @abstractmethod
    def max_contributors(self) -> int: ...

    @property
    @abstractmethod
    def body_bytes(self) -> int: ...

    @property
    @abstractmethod
    def n_ciphertexts(self) -> int: ...

    @property
    def release_bytes(self) -> int:
        return self.n_ciphertexts * paillier.ciphertext_bytes(self.n)

    @abstractmethod
    def prepare(self, random: Random, stock: Obfuscators | None = None) -> OneTimeMask:
        """Draw a key; make its mask and its ciphertexts. The slow part, needs no update.

        Runs in any thread, and leaves others running while it computes.

        Args:
            random: `os.urandom`, asked for two seeds; each stream makes one kind of secret.
            stock: of obfuscators made ahead; the second seed makes those that are missing.

        Raises:
            ValueError: the stock is for another public key; nothing was taken.
        """

    @abstractmethod
    def add_values(self, body: Body, values: IntVector) -> None:
        """Add a vector to a body or mask, in place; `OneTimeMask.body` has checked it.

        Args:
            body: uint64, shape (body_bytes / 8,).
            values: int32, shape (n_values,), each within [-m, m] for m = largest_value(bits).
        """

    def add(self, total: Body, body: Body) -> None:
        """Add a body to a sum of bodies, in place.

        Args:
            total: uint64, shape (body_bytes / 8,), writeable; becomes the sum.
            body: uint64, of the same shape; left as it is.

        Raises:
            BodyError: one of them has another type or shape, which numpy might stretch to fit or
                convert in silence; both are left as they are.
        """
        self._check_body(total)
        self._check_body(body)
        self._add(total, body)

    @abstractmethod
    def _add(self, total: Body, body: Body) -> None:
        """Add a body to a sum, both checked."""

    def add_piece(self, piece: bytes, body: Body, start: int) -> bytes:
        """A piece of a sum of bodies as it came, with this body added where they overlap.

        Args:
            piece: from the wire; all of the sum, but where bodies add up `in_pieces`: there whole
                words of it.
            body: uint64, shape (body_bytes / 8,); added, and left as it is.
            start: byte of the sum with which the piece begins.

        Returns:
            As many bytes.

        Raises:
            BodyError: these bytes are no part of a body of this suite, or `body` has another type
                or shape.
        """
        self._check_body(body)
        if start:
            raise BodyError(f"a piece from byte {start} on instead of all {self.body_bytes}")
        total = self.decode_body(piece)
        self.add(total, body)
        return self.encode_body(total)

    def encode_body(self, body: Body) -> bytes:
        """The wire form: little-endian words.

        Args:
            body: uint64, shape (body_bytes / 8,).

        Returns:
            `body_bytes` bytes.
        """
        return body.astype(np.dtype("<u8"), copy=False).tobytes()

    def decode_body(self, data: bytes | bytearray | memoryview) -> Body:
        """A body from the wire, the caller's own copy.

        Args:
            data: `body_bytes` bytes, as `encode_body` gives them.

        Returns:
            uint64, shape (body_bytes / 8,).

        Raises:
            BodyError: these bytes are no body of this suite: their length is wrong, or in
                `paillier` a residue is not below n.
        """
        if len(data) != self.body_bytes:
            raise BodyError(f"{len(data)} bytes instead of {self.body_bytes}")
        return np.frombuffer(data, np.dtype("<u8")).astype(np.uint64)

    def check_release(self, data: bytes) -> None:
        """Look at a release as it comes in, while its sender is known.

        Args:
            data: `release_bytes` bytes, as `OneTimeMask.release` gives them.

        Raises:
            ReleaseError: length, range or a common factor with n.
        """
        ciphertexts = paillier.decode_ciphertexts(data, self.n_ciphertexts, self.n)
        paillier.check_ciphertexts(ciphertexts, self.n)

    def product(self, releases: Sequence[bytes]) -> Product:
        """Releases multiplied into one, of any number of rings.

        Args:
            releases: one or more, each passed `check_release`.

        Raises:
            ReleaseError: a length is wrong.
            ValueError: no releases.
        """
        rows = (paillier.decode_ciphertexts(data, self.n_ciphertexts, self.n) for data in releases)
        return paillier.product(rows, self.n)

    @abstractmethod
    def open(
        self, private_key: PaillierPrivateKey, body: Body, product: Product, n_contributors: int
    ) -> SumVector:
        """Decrypt the sum of keys, take its mask off the sum of bodies, check what is left.

        Args:
            private_key: belongs to the suite's public key.
            body: uint64, shape (body_bytes / 8,): sum of the contributors' bodies; left as it is.
            product: of the releases of exactly these contributors.
            n_contributors: 1..max_contributors.

        Returns:
            int64, shape (n_values,): exactly the sum of the masked vectors.

        Raises:
            SumError: in `hybrid` "key range" (a release is bad or missing) or "noise" (a body is);
                in `paillier` "plaintext range" (either is, they look alike) or "range" (a value
                is more than these contributors can have); in both "padding" (a body is bad).
            BodyError: `body` has another type or shape.
            ValueError: too many contributors, a product of another length, or a foreign private
                key.
        """

    def _obfuscators(self, random: Random, stock: Obfuscators | None) -> list[int]:
        if stock is None:
            stock = Obfuscators(self.n)
        if stock.n != self.n:
            raise ValueError("obfuscators of another public key")
        return stock.take(self.n_ciphertexts, random)

    def _check_body(self, body: Body) -> None:
        n_words = self.body_bytes // 8
        if body.dtype != np.uint64 or body.shape != (n_words,):
            raise BodyError(f"{body.dtype}{body.shape} instead of uint64 ({n_words},)")

    def _check_opening(
        self, private_key: PaillierPrivateKey, body: Body, product: Product, n_contributors: int
    ) -> None:
        self._check_body(body)
        if len(product) != self.n_ciphertexts:
            raise ValueError(f"{len(product)} ciphertexts instead of {self.n_ciphertexts}")
        if not 1 <= n_contributors <= self.max_contributors:
            raise ValueError(f"{n_contributors} contributors, not 1 to {self.max_contributors}")
        if private_key.public_key.n != self.n:
            raise ValueError("the private key belongs to another public key")


class OneTimeMask:
    """One key's mask and release; each serves once. Made by `Suite.prepare`; `repr` hides all.

    Args:
        suite: the suite that made it.
        mask: what the body starts from; from now on this object's own.
        ciphertexts: of the key, without pads.
    """

    def __init__(self, suite: Suite, mask: Body, ciphertexts: Ciphertexts) -> None:
        self._suite = suite
        self._mask = Once(
            mask, name="mask", reveals="the difference of the two vectors, to everybody"
        )
        self._ciphertexts = Once(
            ciphertexts, name="release", reveals="this device's key, to the coordinator"
        )

    def __repr__(self) -> str:
        return f"OneTimeMask({self._mask}, {self._ciphertexts})"

    def body(self, values: IntVector) -> Body:
        """The masked vector. Keep it: a resend is the same bytes, never a second call.

        Args:
            values: int32, shape (n_values,), each within [-m, m] for m = largest_value(bits).

        Returns:
            uint64, the caller's own.

        Raises:
            OneTimeError: the mask was used or erased.
            ValueError: `values` is not what the suite was made for; the mask is still unused.
        """
        if values.dtype != np.int32 or values.shape != (self._suite.n_values,):
            raise ValueError(
                f"{values.dtype}{values.shape} instead of int32 ({self._suite.n_values},)"
            )
        if max(int(values.max()), -int(values.min())) > largest_value(self._suite.bits):
            raise ValueError(f"a value needs more than {self._suite.bits} bits")
        body = self._mask.take()
        self._suite.add_values(body, values)
        return body

    def release(self, pads: Sequence[int]) -> bytes:
        """The encrypted key, padded: opens the body together with all others of one list.

        Args:
            pads: for each ciphertext the signed sum of this device's pads, in [0, n).

        Returns:
            `release_bytes` bytes, to be sealed to the coordinator.

        Raises:
            OneTimeError: the key was released or erased.
            ValueError: count or range of the pads is wrong; nothing is used up.
        """
        n = self._suite.n
        if len(pads) != self._suite.n_ciphertexts or not all(0 <= pad < n for pad in pads):
            raise ValueError(f"a release needs {self._suite.n_ciphertexts} pads in [0, n)")
        ciphertexts = paillier.add_plain(self._ciphertexts.take(), pads, n)
        return paillier.encode_ciphertexts(ciphertexts, n)

    def erase(self) -> None:
        """Drop what is left, overwriting the mask; may be called at any time, more than once."""
        mask = self._mask.drop()
        if mask is not None:
            mask.fill(0)
        self._ciphertexts.drop()
