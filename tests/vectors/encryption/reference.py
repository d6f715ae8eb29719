"""The encryption once more, in plain Python integers: slow, and obviously right.

ChaCha20 block by block, products coefficient by coefficient, Paillier by `pow`. Shares no code
with the library, nor with read.py.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ETA = 21
PADDING = 32
RADIX = 2347


@dataclass(frozen=True)
class PaillierKey:
    p: int
    q: int

    @cached_property
    def n(self) -> int:
        return self.p * self.q

    @cached_property
    def base(self) -> int:
        """h_s = h**n for h = -y**2, y a hash of n."""
        size = -(-self.n.bit_length() // 8)
        name = b"fedring/1 paillier base\0" + self.n.to_bytes(size, "big")
        y = int.from_bytes(hashlib.shake_256(name).digest(size + 16), "big")
        return pow(-y * y % self.n, self.n, self.n**2)

    def encrypted(self, plaintext: int, stream: Iterator[int]) -> int:
        exponent = int.from_bytes(take(stream, self.n.bit_length() // 16), "big")
        return self.plus(pow(self.base, exponent, self.n**2), plaintext)

    def plus(self, ciphertext: int, plain: int) -> int:
        return ciphertext * pow(1 + self.n, plain % self.n, self.n**2) % self.n**2

    def wire(self, ciphertext: int) -> bytes:
        return ciphertext.to_bytes(2 * self.n.bit_length() // 8, "big")


# -- ChaCha20 (RFC 8439, with a 64-bit block counter) ------------------------------------


def rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def quarter_round(x: list[int], a: int, b: int, c: int, d: int) -> None:
    for into, other, target, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = (x[into] + x[other]) & 0xFFFFFFFF
        x[target] = rotated(x[target] ^ x[into], by)


def chacha20(key: bytes, number: int = 0) -> Iterator[int]:
    """The bytes of stream `number`, one after the other, without end."""
    counter = 0
    while True:
        words = b"expand 32-byte k" + key + counter.to_bytes(8, "little")
        words += number.to_bytes(8, "little")
        start = [int.from_bytes(words[i : i + 4], "little") for i in range(0, 64, 4)]
        x = list(start)
        for _ in range(10):
            for column in range(4):
                quarter_round(x, column, 4 + column, 8 + column, 12 + column)
            for i in range(4):
                quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        for word, first in zip(x, start, strict=True):
            yield from ((word + first) & 0xFFFFFFFF).to_bytes(4, "little")
        counter += 1


def take(stream: Iterator[int], n_bytes: int) -> bytes:
    return bytes(islice(stream, n_bytes))


def word(stream: Iterator[int]) -> int:
    return int.from_bytes(take(stream, 8), "little")


# -- values in residues ------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """A body is residues of `modulus`, little-endian; each holds values above `lowest_bit`."""

    modulus: int
    residue_bytes: int
    slots: int
    slot_bits: int
    lowest_bit: int

    def place(self, value: int) -> tuple[int, int]:
        """Residue and bit of value number so and so."""
        residue, slot = divmod(value, self.slots)
        return residue, self.lowest_bit + slot * self.slot_bits

    def packed(self, values: Sequence[int]) -> list[int]:
        residues = [0] * -(-len(values) // self.slots)
        for index, value in enumerate(values):
            residue, bit = self.place(index)
            residues[residue] += value << bit
        return residues

    def wire(self, residues: Sequence[int]) -> bytes:
        size = self.residue_bytes
        return b"".join((x % self.modulus).to_bytes(size, "little") for x in residues)

    def residues(self, body: bytes) -> list[int]:
        size = self.residue_bytes
        return [
            int.from_bytes(body[start : start + size], "little")
            for start in range(0, len(body), size)
        ]


def layout_of(suite: str, bits: int, n: int) -> Layout:
    if suite == "hybrid":
        slots, slot_bits, noise_bits = {16: (2, 26, 12), 8: (3, 17, 13)}[bits]
        return Layout(2**64, 8, slots, slot_bits, noise_bits)
    slot_bits = {16: 27, 8: 18}[bits]
    return Layout(n, n.bit_length() // 8, (n.bit_length() - 4) // slot_bits, slot_bits, 0)


# -- masks: each gives the plaintexts of the release, and what a body starts from ----------------


def small(stream: Iterator[int]) -> int:
    return (word(stream) >> (64 - 2 * ETA)).bit_count() - ETA


def product(a: Sequence[int], s: Sequence[int], count: int) -> list[int]:
    """The first coefficients of a * s modulo X**N + 1, each a sum of N products."""
    n = len(a)
    around = [-x for x in s] + list(s)  # X**N = -1: s[k - i], and -s[N + k - i] where i > k
    return [sum(a[i] * around[n + k - i] for i in range(n)) for k in range(count)]


def digits(key: Sequence[int], n: int) -> list[int]:
    """Key values as plaintexts, lowest first."""
    count = 1
    while RADIX ** (count + 1) <= 2 ** (n.bit_length() - 4):
        count += 1
    rows = [key[start : start + count] for start in range(0, len(key), count)]
    return [sum(x * RADIX**place for place, x in enumerate(row)) % n for row in rows]


def lattice_mask(
    seed: bytes, used: int, dimension: int, n: int, announce: bytes
) -> tuple[list[int], list[int]]:
    secret = chacha20(seed)
    key = [small(secret) for _ in range(dimension)]
    public = hashlib.sha256(b"fedring/1 lattice\0" + announce).digest()
    coefficients = used + PADDING
    mask: list[int] = []
    while len(mask) < coefficients:
        expanded = chacha20(public, len(mask) // dimension)
        polynomial = [word(expanded) for _ in range(dimension)]
        mask += product(polynomial, key, min(dimension, coefficients - len(mask)))
    return digits(key, n), [coefficient + small(secret) for coefficient in mask]


def one_time_pad(seed: bytes, used: int, n: int) -> tuple[list[int], list[int]]:
    secret = chacha20(seed)
    size = -(-(n.bit_length() + 128) // 8)
    key = [int.from_bytes(take(secret, size), "big") % n for _ in range(used)]
    return key, key


# -- pads --------------------------------------------------------------------------------------


def drawn_pads(count: int, n_pieces: int, n: int) -> list[list[int]]:
    """Any that cancel."""

    def piece(i: int, k: int) -> int:
        return int.from_bytes(hashlib.shake_256(b"pad %d %d" % (i, k)).digest(400), "big") % n

    rows = [[piece(i, k) for k in range(n_pieces)] for i in range(count - 1)]
    return [*rows, [-sum(row[k] for row in rows) % n for k in range(n_pieces)]]


def list_pads(
    round_keys: dict[int, bytes], roster: bytes, names: bytes, n_pieces: int, n: int
) -> list[list[int]]:
    """Those of a list, from the round keys of its devices: what i adds, j > i takes away."""
    size = -(-(n.bit_length() + 128) // 8)
    keys = {i: X25519PrivateKey.from_private_bytes(key) for i, key in round_keys.items()}
    rows = {i: [0] * n_pieces for i in keys}
    for i, j in ((i, j) for i in keys for j in keys if i < j):
        info = b"fedring/1 pad\0" + roster + names + struct.pack(">II", i, j)
        secret = keys[i].exchange(keys[j].public_key())
        stream = chacha20(HKDF(SHA256(), 32, None, info).derive(secret))
        for k in range(n_pieces):
            piece = int.from_bytes(take(stream, size), "big")
            rows[i][k] = (rows[i][k] + piece) % n
            rows[j][k] = (rows[j][k] - piece) % n
    return list(rows.values())
