"""Suite `paillier`: values packed into plaintexts, masked modulo n; nothing but textbook Paillier.

body = packed values + r modulo n, plaintext by plaintext: `r` is a fresh key, uniform in [0, n) and
as long as the body, out of a stream cipher. To whoever lacks `r` and cannot break that cipher,
residues are uniform, whatever the values are and whatever n is. Sums are taken modulo n as well;
sums of masks over the integers, or modulo the width of a slot, would give away carries, and with
them comparisons of single values.

release = Paillier(r + pads): as many ciphertexts as the body has residues, so this suite is for
small models only.

Slots. A plaintext holds signed, balanced digits: 27 bits for a sum of 16-bit values, 18 bits for
one of 8-bit values. That is one bit more than the largest honest sum needs (26 bits for 1,024
contributors, 17 for 512). The bit to spare is what tells a bad sum: where a release is missing or
bad, what opens is uniform modulo n, and each slot is then out of range with probability one half or
more. Together with the bits above the top slot, a full plaintext that is not a sum passes with
probability 2**-97 at 2,048 bits, 2**-133 at 3,072, or less.

Not protected: a body that was changed by little opens as other values, so whatever is added up must
have been signed; as paillier.py says; keys linger in freed memory as Python integers; and as in
every suite, a signed body that keeps to the layout is a value like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption import packing, paillier
from fedring.shared.encryption.interface import Body, OneTimeMask, Product, Suite
from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.parameters import LAYOUTS
from fedring.shared.encryption.streams import SEED_BYTES, Random, Stream
from fedring.shared.errors import BodyError, SumError
from fedring.shared.numbers import IntVector, SumVector, largest_value

MAX_VALUES = 9_600
"""Longest vector: 85 ciphertexts at 3,072 bits, so that a release stays one message (65 KiB)."""

GUARD_BITS = 1
"""Of a slot, above the widest honest sum."""

STATISTICAL_BITS = 128
"""How much wider than n a number is drawn whose remainder is to be uniform but for 2**-128."""


class PackedPaillier(Suite):
    """One-time pads modulo n, Paillier-encrypted one by one."""

    name: ClassVar[str] = "paillier"
    max_values: ClassVar[int] = MAX_VALUES

    def __init__(self, public_key: PaillierPublicKey, n_values: int, bits: int) -> None:
        super().__init__(public_key, n_values, bits)
        modulus_bits = self.n.bit_length()
        self._max_contributors = LAYOUTS[bits].max_contributors
        self._radix = 1 << (LAYOUTS[bits].slot_bits + GUARD_BITS)
        self._slots = packing.digits_per_plaintext(modulus_bits, self._radix)
        self._residue_bytes = 8 * -(-modulus_bits // 64)

    @property
    def max_contributors(self) -> int:
        return self._max_contributors

    @property
    def body_bytes(self) -> int:
        return self.n_ciphertexts * self._residue_bytes

    @property
    def n_ciphertexts(self) -> int:
        return -(-self.n_values // self._slots)

    def prepare(self, random: Random, stock: Obfuscators | None = None) -> OneTimeMask:
        secret = Stream(random(SEED_BYTES))
        obfuscators = self._obfuscators(random, stock)
        # Wider than n and reduced, like the pads: no draw is rejected, so that a seed makes the
        # same key in any implementation.
        drawn_bytes = -(-(self.n.bit_length() + STATISTICAL_BITS) // 8)
        key = [
            int.from_bytes(secret.read(drawn_bytes), "big") % self.n
            for _ in range(self.n_ciphertexts)
        ]
        ciphertexts = paillier.add_plain(obfuscators, key, self.n)
        return OneTimeMask(self, self._words(key), ciphertexts)

    def add_values(self, body: Body, values: IntVector) -> None:
        packed = packing.pack_digits(values.astype(np.int64), self.n, self._radix)
        self._add_residues(body, packed)

    def _add(self, total: Body, body: Body) -> None:
        self._add_residues(total, self._residues(body))

    def decode_body(self, data: bytes | bytearray | memoryview) -> Body:
        body = super().decode_body(data)
        for place, residue in enumerate(self._residues(body)):
            if residue >= self.n:
                raise BodyError(f"residue {place} is not below n")
        return body

    def open(
        self, private_key: PaillierPrivateKey, body: Body, product: Product, n_contributors: int
    ) -> SumVector:
        self._check_opening(private_key, body, product, n_contributors)
        key = paillier.decrypt(private_key, product)
        plaintexts = [
            (residue - masked_by) % self.n
            for residue, masked_by in zip(self._residues(body), key, strict=True)
        ]
        slots = packing.unpack_digits(
            plaintexts,
            len(plaintexts) * self._slots,
            self.n,
            self._radix,
            check="plaintext range",
        )
        values = slots[: self.n_values]
        if slots[self.n_values :].any():
            raise SumError("padding", "a slot behind the last value is not 0")
        bound = n_contributors * largest_value(self.bits)
        if (largest := int(abs(values).max())) > bound:
            raise SumError("range", f"a value of magnitude {largest}, above {bound}")
        return values

    def _add_residues(self, total: Body, residues: Iterable[int]) -> None:
        pairs = zip(self._residues(total), residues, strict=True)
        total[:] = self._words((first + second) % self.n for first, second in pairs)

    def _residues(self, body: Body) -> list[int]:
        data, size = self.encode_body(body), self._residue_bytes
        return [
            int.from_bytes(data[start : start + size], "little")
            for start in range(0, len(data), size)
        ]

    def _words(self, residues: Iterable[int]) -> Body:
        data = b"".join(residue.to_bytes(self._residue_bytes, "little") for residue in residues)
        return np.frombuffer(data, np.dtype("<u8")).astype(np.uint64)
