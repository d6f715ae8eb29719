"""Suite `hybrid`: a lattice mask as long as the vector, a Paillier release as short as its key.

body = a * s + e + 2**f * packed values, coefficient by coefficient modulo 2**64: `s` is a fresh
key of N small values, `e` fresh noise, and `a` the public polynomials that all rings of one
announce share, so that their sums can be added before anything is opened. One `s` serves all
polynomials of one body, and no second body ever.

release = Paillier(s + pads): 15 ciphertexts at 3072 bits, whatever the model.

The coordinator learns the sum of the keys, and so of the noises, beside the sum of the values:
that is what Hint-RLWE is about, and what centred binomial keys leave room for
(docs/encryption.md, section 5).

Not protected: what parameters.py, lattice.py and paillier.py say; and nobody outside has reviewed
this code yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption import lattice, packing, paillier
from fedring.shared.encryption.interface import Body, OneTimeMask, Product, Suite
from fedring.shared.encryption.lattice import Transform
from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.parameters import LAYOUTS, PADDING, Parameters
from fedring.shared.encryption.streams import SEED_BYTES, Random, Stream
from fedring.shared.errors import BodyError, SumError
from fedring.shared.numbers import IntVector, SumVector

AT_A_TIME = 1 << 13
"""Coefficients of a mask made at a time: the limbs of two polynomials stay in a second cache."""


class Hybrid(Suite):
    """Lattice masks with Paillier-encrypted keys.

    Args:
        announce_digest: 32 bytes; all contributors and the coordinator hold the same.
        parameters: the lattice; anything but the default is for simulations.
    """

    name: ClassVar[str] = "hybrid"
    in_pieces: ClassVar[bool] = True

    def __init__(
        self,
        public_key: PaillierPublicKey,
        announce_digest: bytes,
        n_values: int,
        bits: int,
        parameters: Parameters,
    ) -> None:
        super().__init__(public_key, n_values, bits)
        self._layout = LAYOUTS[bits]
        self._parameters = parameters
        self._ring = lattice.ring(parameters.dimension)
        self._seed = lattice.expansion_seed(announce_digest)
        self._used = packing.coefficients(n_values, self._layout)
        self._coefficients = self._used + PADDING

    @property
    def max_contributors(self) -> int:
        return self._layout.max_contributors

    @property
    def body_bytes(self) -> int:
        return 8 * self._coefficients

    @property
    def n_ciphertexts(self) -> int:
        per_plaintext = packing.digits_per_plaintext(
            self.n.bit_length(), self._parameters.key_radix
        )
        return -(-self._parameters.dimension // per_plaintext)

    def prepare(self, random: Random, stock: Obfuscators | None = None) -> OneTimeMask:
        eta = self._parameters.eta
        secret = Stream(random(SEED_BYTES))
        obfuscators = self._obfuscators(random, stock)
        key = lattice.centred_binomial(secret, self._parameters.dimension, eta)

        plaintexts = packing.pack_digits(key, self.n, self._parameters.key_radix)
        ciphertexts = paillier.add_plain(obfuscators, plaintexts, self.n)

        mask: Body = np.empty(self._coefficients, np.uint64)
        for place, product in self._key_times_public(key):
            noise = lattice.centred_binomial(secret, len(product), eta)
            np.add(product, noise.view(np.uint64), out=mask[place])
        key.fill(0)
        return OneTimeMask(self, mask, ciphertexts)

    def add_values(self, body: Body, values: IntVector) -> None:
        packing.add_values(body, values, self._layout)

    def _add(self, total: Body, body: Body) -> None:
        total += body

    def add_piece(self, piece: bytes, body: Body, start: int) -> bytes:
        self._check_body(body)
        stop = start + len(piece)
        if start % 8 or stop % 8 or not 0 <= start <= stop <= self.body_bytes:
            raise BodyError(f"a piece from byte {start} to {stop} of {self.body_bytes}")
        words = np.frombuffer(piece, np.dtype("<u8"))
        return self.encode_body(words + body[start // 8 : stop // 8])

    def open(
        self, private_key: PaillierPrivateKey, body: Body, product: Product, n_contributors: int
    ) -> SumVector:
        self._check_opening(private_key, body, product, n_contributors)
        bound = self._parameters.bound(n_contributors)
        key = packing.unpack_digits(
            paillier.decrypt(private_key, product),
            self._parameters.dimension,
            self.n,
            self._parameters.key_radix,
        )
        if (largest := int(abs(key).max())) > bound:
            raise SumError("key range", f"a sum of keys of {largest}, above {bound:.0f}")

        slots = self._layout.slots
        values: SumVector = np.empty(self._used * slots, np.int64)
        for place, masked in self._key_times_public(key):
            carried, noise = packing.split_noise(body[place] - masked, self._layout)
            if (largest := int(abs(noise).max())) > bound:
                raise SumError("noise", f"a residual of {largest}, above {bound:.0f}")
            used = max(0, min(self._used - place.start, len(carried)))
            if carried[used:].any():
                raise SumError("padding", "a coefficient behind the last used one is not 0")
            unpacked = packing.read_values(carried[:used], self._layout)
            values[place.start * slots : place.start * slots + len(unpacked)] = unpacked
        if values[self.n_values :].any():
            raise SumError("padding", "a slot behind the last value is not 0")
        return values[: self.n_values]

    def _key_times_public(self, key: SumVector) -> Iterator[tuple[slice, Body]]:
        """a * key, a few polynomials at a time, with the place of the coefficients in a body."""
        dimension = self._parameters.dimension
        transform: Transform = self._ring.transform(key)
        at_a_time = max(1, AT_A_TIME // dimension)
        for start in range(0, self._coefficients, at_a_time * dimension):
            stop = min(start + at_a_time * dimension, self._coefficients)
            n_polynomials = -(-(stop - start) // dimension)
            public = lattice.expand(self._seed, start // dimension, n_polynomials, dimension)
            product = self._ring.product(public, transform).reshape(-1)
            yield slice(start, stop), product[: stop - start]
