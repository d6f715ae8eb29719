"""Suites, devices and sums to measure with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from attrs import frozen
from phe import PaillierPrivateKey

from fedring.shared.encryption import Body, OneTimeMask, Product, Random, Suite, suite
from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.streams import Stream
from fedring.shared.messages import CHUNK_BYTES
from fedring.shared.numbers import IntVector, SumVector, largest_value

DIGEST: Final = bytes(32)
_rng: Final = np.random.default_rng(0)


def make_suite(key: PaillierPrivateKey, n_values: int, bits: int, name: str = "hybrid") -> Suite:
    """The suite of an announce with production parameters."""
    return suite(
        name,
        public_key=key.public_key,
        announce_digest=DIGEST,
        n_values=n_values,
        bits=bits,
    )


def contribution(suite_: Suite) -> IntVector:
    """A vector of the whole range of values."""
    most = largest_value(suite_.bits)
    return _rng.integers(-most, most, suite_.n_values, np.int32, endpoint=True)


def contributions(suite_: Suite, n_contributors: int) -> Iterator[IntVector]:
    """So many such vectors, made as they are asked for."""
    return (contribution(suite_) for _ in range(n_contributors))


def extreme(suite_: Suite) -> IntVector:
    """A vector of the ends of the range: many times the same make the largest sums there are."""
    most = largest_value(suite_.bits)
    return _rng.choice(np.array([-most, most], np.int32), suite_.n_values)


def with_mask(suite_: Suite, mask: Body) -> OneTimeMask:
    """A mask that was prepared, without its release."""
    return OneTimeMask(suite_, mask.copy(), ())


def online_encrypt(suite_: Suite, values: IntVector, mask: OneTimeMask) -> bytes:
    """From an update to the body that is sent."""
    return suite_.encode_body(mask.body(values))


def cold_encrypt(suite_: Suite, values: IntVector) -> bytes:
    """Everything, from a key to the body that is sent; the release waits inside the mask."""
    return online_encrypt(suite_, values, suite_.prepare(os.urandom))


def hop(suite_: Suite, wire: bytes, own: Body) -> bytes:
    """What a ring's member does to a body that comes in, but for signatures and messages."""
    total = suite_.decode_body(wire)
    suite_.add(total, own)
    return suite_.encode_body(total)


def hop_by_chunks(suite_: Suite, wire: bytes, own: Body) -> list[bytes]:
    """The same as members do it: to each chunk as it comes."""
    return [
        suite_.add_piece(wire[start : start + CHUNK_BYTES], own, start)
        for start in range(0, len(wire), CHUNK_BYTES)
    ]


class UsedAgain(Obfuscators):
    """The same obfuscators for everybody: hides nothing, and makes 1,024 contributors in seconds.

    Whoever opens the sum works as long as otherwise.
    """

    def take(self, count: int, random: Random) -> list[int]:
        """The first ones, again and again."""
        if len(self) < count:
            self._ready = super().take(count, random)
        return self._ready[:count]


@frozen(eq=False)
class Sum:
    """What a coordinator holds before it opens a sum.

    Attributes:
        body: sum of the bodies.
        releases: without pads, as if they had cancelled.
        expected: the sum in the clear.
    """

    suite: Suite
    key: PaillierPrivateKey
    body: Body
    releases: Sequence[bytes]
    expected: SumVector

    @classmethod
    def of(cls, suite_: Suite, key: PaillierPrivateKey, vectors: Iterable[IntVector]) -> Sum:
        """A sum of these vectors, each under a fresh mask."""
        stock = UsedAgain(suite_.n)
        random = Stream(os.urandom(32)).read
        no_pads = [0] * suite_.n_ciphertexts
        body = np.zeros(suite_.body_bytes // 8, np.uint64)
        expected = np.zeros(suite_.n_values, np.int64)
        releases = []
        for values in vectors:
            mask = suite_.prepare(random, stock)
            suite_.add(body, mask.body(values))
            releases.append(mask.release(no_pads))
            expected += values
        return cls(suite_, key, body, releases, expected)

    def product(self) -> Product:
        """The releases in one."""
        return self.suite.product(self.releases)

    def open(self) -> SumVector:
        """All that is left to do when the last release has come in."""
        return self.suite.open(self.key, self.body, self.product(), len(self.releases))

    @property
    def exact(self) -> bool:
        """Whether it opens to the sum in the clear, bit for bit."""
        return np.array_equal(self.open(), self.expected)
