"""What bodies and keys of a suite look like to somebody who wants to read them.

Written anew from docs/protocol.md, section 11, and not from the suites themselves: an adversary
does not use our checks, and combines with any signs what they only add.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedring.shared.encryption import Parameters, lattice, packing
from fedring.shared.encryption.packed import GUARD_BITS, STATISTICAL_BITS, PackedPaillier
from fedring.shared.encryption.parameters import LAYOUTS
from fedring.shared.encryption.streams import Stream, Words
from fedring.shared.errors import SumError
from fedring.shared.messages import Announce
from fedring.shared.numbers import SumVector, largest_value

Plaintexts = Sequence[int]
"""Decrypted pieces of a release, modulo n."""


Vector = NDArray[Any]
"""Bodies and keys in numbers: int64 in `hybrid`, Python integers in `paillier`."""


class Algebra(ABC):
    """One suite under one announce.

    Attributes:
        n: the Paillier modulus.
        keys_are_small: so that a combination of keys shows without any body.
    """

    keys_are_small: ClassVar[bool]

    n: int

    @property
    @abstractmethod
    def no_key(self) -> Vector:
        """The key under which nothing is masked."""

    @abstractmethod
    def body(self, data: bytes) -> Vector:
        """A body out of its wire form; sums and differences of them are bodies, too."""

    @abstractmethod
    def key_of_seed(self, seed: bytes) -> Vector:
        """The key that a device makes of this seed."""

    @abstractmethod
    def key(self, plaintexts: Plaintexts, weight: int) -> Vector | None:
        """The combination of keys that these plaintexts hold, or None when they cannot be one.

        Args:
            plaintexts: combined releases.
            weight: how many keys are in it, each sign counted.
        """

    @abstractmethod
    def read(self, body: Vector, key: Vector, weight: int) -> SumVector | None:
        """The combination of contributions under this key, or None when nothing can be read."""

    @abstractmethod
    def key_without_noise(self, body: Vector) -> Vector | None:
        """The key of a body, if it can be solved for; None when it cannot."""


def algebra(digest: bytes, announce: Announce, parameters: Parameters) -> Algebra:
    """The algebra of an announce."""
    if announce.suite == PackedPaillier.name:
        return PackedAlgebra(announce)
    return HybridAlgebra(digest, announce, parameters)


class HybridAlgebra(Algebra):
    """Suite `hybrid`.

    Args:
        digest: of the announce; it determines the public polynomials.
        announce: its message.
        parameters: of the lattice.
    """

    keys_are_small = True

    def __init__(self, digest: bytes, announce: Announce, parameters: Parameters) -> None:
        self.n = int.from_bytes(announce.paillier_n, "big")
        self._digest = digest
        self._n_values = announce.n_values
        self._layout = LAYOUTS[announce.bits]
        self._parameters = parameters

    @property
    def no_key(self) -> Vector:
        return np.zeros(self._parameters.dimension, np.int64)

    def body(self, data: bytes) -> Vector:
        return np.frombuffer(data, "<i8")

    def key_of_seed(self, seed: bytes) -> Vector:
        parameters = self._parameters
        return lattice.centred_binomial(Stream(seed), parameters.dimension, parameters.eta)

    def key(self, plaintexts: Plaintexts, weight: int) -> Vector | None:
        radix, bound = self._parameters.key_radix, self._parameters.bound(weight)
        per_plaintext = packing.digits_per_plaintext(self.n.bit_length(), radix)
        first = min(per_plaintext, self._parameters.dimension)
        try:  # the first piece alone settles it nearly always
            if abs(packing.unpack_digits(plaintexts[:1], first, self.n, radix)).max() > bound:
                return None
            key = packing.unpack_digits(plaintexts, self._parameters.dimension, self.n, radix)
        except SumError:
            return None
        return key if abs(key).max() <= bound else None

    def read(self, body: Vector, key: Vector, weight: int) -> SumVector | None:
        start = slice(0, min(len(body), 64))
        if self._carried(body[start], key, start.stop, weight) is None:
            return None
        carried = self._carried(body, key, len(body), weight)
        used = packing.coefficients(self._n_values, self._layout)
        if carried is None or carried[used:].any():
            return None
        values = packing.read_values(carried[:used], self._layout)
        return None if values[self._n_values :].any() else values[: self._n_values]

    def key_without_noise(self, body: Vector) -> Vector | None:
        """Modulo 2**f the message does not count: without noise a * s could be divided by a."""
        dimension, modulus = self._parameters.dimension, 1 << self._layout.noise_bits
        for place in range(len(body) // dimension):
            public = _public(self._digest, place + 1, dimension)[place].view(np.int64)
            inverse = _inverse(public % modulus, modulus)
            if inverse is None:
                continue
            piece = body[place * dimension : (place + 1) * dimension]
            key = _product(inverse, piece % modulus) % modulus
            key = np.where(key >= modulus // 2, key - modulus, key)
            return key if abs(key).max() <= self._parameters.eta else None
        return None

    def _carried(self, body: Vector, key: Vector, length: int, weight: int) -> SumVector | None:
        dimension = self._parameters.dimension
        n_polynomials = -(-length // dimension)
        public = _public(self._digest, n_polynomials, dimension)
        ring = lattice.ring(dimension)
        mask = ring.product(public, ring.transform(key)).reshape(-1)[:length]
        carried, noise = packing.split_noise(body.view(np.uint64) - mask, self._layout)
        return carried if abs(noise).max() <= self._parameters.bound(weight) else None


class PackedAlgebra(Algebra):
    """Suite `paillier`.

    Args:
        announce: its message.
    """

    keys_are_small = False

    def __init__(self, announce: Announce) -> None:
        self.n = int.from_bytes(announce.paillier_n, "big")
        layout = LAYOUTS[announce.bits]
        self._n_values = announce.n_values
        self._largest = largest_value(announce.bits)
        self._radix = 1 << (layout.slot_bits + GUARD_BITS)
        self._slots = packing.digits_per_plaintext(self.n.bit_length(), self._radix)
        self._count = -(-announce.n_values // self._slots)

    @property
    def no_key(self) -> Vector:
        return np.zeros(self._count, object)

    def body(self, data: bytes) -> Vector:
        size = len(data) // self._count
        return np.array(
            [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(self._count)],
            object,
        )

    def key_of_seed(self, seed: bytes) -> Vector:
        stream = Stream(seed)
        size = -(-(self.n.bit_length() + STATISTICAL_BITS) // 8)
        drawn = [int.from_bytes(stream.read(size), "big") % self.n for _ in range(self._count)]
        return np.array(drawn, object)

    def key(self, plaintexts: Plaintexts, weight: int) -> Vector | None:  # noqa: ARG002
        """Keys are uniform: any plaintexts may hold one; only the body tells."""
        return np.array(plaintexts, object) if len(plaintexts) == self._count else None

    def read(self, body: Vector, key: Vector, weight: int) -> SumVector | None:
        plaintexts = [int(one) for one in (body - key) % self.n]
        try:
            slots = packing.unpack_digits(
                plaintexts, self._count * self._slots, self.n, self._radix
            )
        except SumError:
            return None
        values = slots[: self._n_values]
        if slots[self._n_values :].any() or abs(values).max() > weight * self._largest:
            return None
        return values

    def key_without_noise(self, body: Vector) -> Vector | None:  # noqa: ARG002
        """There is no equation to solve: the key is as long as the body."""
        return None


@lru_cache(maxsize=16)
def _public(digest: bytes, n_polynomials: int, dimension: int) -> Words:
    return lattice.expand(lattice.expansion_seed(digest), 0, n_polynomials, dimension)


def _product(one: SumVector, other: SumVector) -> SumVector:
    """In Z[X] / (X**N + 1); exact for coefficients below 2**13 and N up to 2**13."""
    full = np.convolve(one, other)
    product: SumVector = full[: len(one)].copy()
    product[: len(full) - len(one)] -= full[len(one) :]
    return product


def _inverse(polynomial: SumVector, modulus: int) -> SumVector | None:
    """1 / polynomial modulo a power of two, by Newton; None when it has no inverse.

    Modulo 2 the ring has X**N = 1, so a**N = a(1) for N a power of two: the inverse there is
    a**(N - 1), the product of a(X**1), a(X**2), a(X**4) ...
    """
    dimension = len(polynomial)
    if polynomial.sum() % 2 == 0:
        return None
    inverse = np.zeros(dimension, np.int64)
    inverse[0] = 1
    stretch = 1
    while stretch < dimension:
        power = np.zeros(dimension, np.int64)
        np.add.at(power, np.arange(dimension) * stretch % dimension, polynomial % 2)
        inverse = _product(inverse, power % 2) % 2
        stretch *= 2
    precision = 2
    while precision < modulus:
        precision = min(precision**2, modulus)
        rest = -_product(polynomial % precision, inverse) % precision
        rest[0] += 2
        inverse = _product(inverse, rest % precision) % precision
    return inverse
