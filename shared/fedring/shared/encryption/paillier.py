"""Paillier's cryptosystem on the key types of `phe`, with randomness from a fixed-base table.

A ciphertext is (1 + n)**m * h_s**x mod n**2: ordinary Paillier, which `phe` decrypts and adds. h_s
is fixed for a key, so powers of it come out of a table, in a twentieth of the time.

x is uniform in [0, 2**(k / 2)) for a modulus of k bits, the published, conservative size. It must
come from a stream that makes nothing else: whoever chose n may know how to compute x.

Not protected: a device that encrypts under a badly made key, towards everybody but the owner of
the key. Towards the owner nothing here protects anything; there the pads of the release do. Not
constant in time: table look-ups follow the digits of x. Not safe from a quantum computer.

Source: Damgard, Jurik, Nielsen, "A generalization of Paillier's public-key system with applications
to electronic voting", Int. J. Inf. Security 9(6), 2010, section 4.1 for p, q, h and short x, 4.2
for tables; docs/encryption.md, section 10, says what was seen of it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import gmpy2
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption.parameters import LEAST_KEY_BITS, MOST_KEY_BITS
from fedring.shared.encryption.streams import Random
from fedring.shared.errors import PublicKeyError, ReleaseError

Ciphertexts: TypeAlias = tuple[int, ...]

WINDOW_BITS = 8
USES = 2
"""Radix 2**8, and each row of the table serves two digits that are neighbours, with 8 squarings
between: at 3072 bits 192 multiplications a ciphertext and a table of 20 MB."""

PRIMALITY_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
"""Of Miller-Rabin, after a Baillie-PSW test. Candidates are random, so the bases may be fixed."""


def generate_key(bits: int, *, random: Random) -> PaillierPrivateKey:
    """A key pair with p = q = 3 mod 4 and gcd(p - 1, q - 1) = 2, as the fixed base needs it.

    phe's own generator does not see to that.

    Args:
        bits: size of n, even, 64 or more; 3072 gives 128 bits of security.
        random: `os.urandom`, or a seeded stream in tests.

    Raises:
        ValueError: there is no key of this size.
    """
    if bits < 64 or bits % 2:
        raise ValueError(f"a Paillier modulus has an even number of bits from 64 on, not {bits}")
    while True:
        p, q = _prime(bits // 2, random), _prime(bits // 2, random)
        if is_admissible(p, q):
            return PaillierPrivateKey(PaillierPublicKey(p * q), p, q)


def is_admissible(p: int, q: int) -> bool:
    """Whether p and q are primes for a key whose fixed base is safe."""
    return (
        p != q
        and p % 4 == q % 4 == 3
        and gmpy2.gcd(p - 1, q - 1) == 2
        and all(_is_prime(prime) for prime in (p, q))
    )


def _prime(bits: int, random: Random) -> int:
    highest_and_lowest = 3 << (bits - 2) | 3  # so that p * q has all its bits, and p = 3 mod 4
    while True:
        candidate = _uniform_bits(bits, random) | highest_and_lowest
        if _is_prime(candidate):
            return candidate


def _is_prime(number: int) -> bool:
    """Baillie-PSW, which below 2**64 is exact, and Miller-Rabin.

    One base at a time: gmpy2 lets no other thread run while it tests, and all at once take a small
    board 0.2 s.
    """
    if not gmpy2.is_prime(number, 24):  # more would add rounds of Miller-Rabin
        return False
    return number < 1 << 64 or all(gmpy2.is_strong_prp(number, base) for base in PRIMALITY_BASES)


def _uniform_bits(bits: int, random: Random) -> int:
    n_bytes = -(-bits // 8)
    return int.from_bytes(random(n_bytes), "big") >> (8 * n_bytes - bits)


def check_public_key(n: int, *, minimum_bits: int = LEAST_KEY_BITS) -> None:
    """Refuse a modulus of the wrong size, or an even one; no more, on purpose.

    A device's privacy towards the coordinator, who made n, rests on the pads, which are uniform
    modulo n whatever n is; towards everybody else on Paillier. A badly made key hurts its owner
    only, so a proof that n has two large primes would protect nobody. The size bounds the work.

    Raises:
        PublicKeyError: names what was met.
    """
    bits = n.bit_length()
    if n < 0 or not minimum_bits <= bits <= MOST_KEY_BITS:
        raise PublicKeyError(
            f"a Paillier modulus of {bits} bits, not {minimum_bits} to {MOST_KEY_BITS}"
        )
    if n % 2 == 0:
        raise PublicKeyError("an even Paillier modulus")


class _Power(NamedTuple):
    """An element of Z*_(n**2) as short * (1 + n)**log, with short, log and 1 / short modulo n.

    (1 + n)**k = 1 + k * n modulo n**2, so logs only add up, and of the elements themselves half
    the digits remain to be multiplied: half the work.
    """

    short: gmpy2.mpz
    log: gmpy2.mpz
    inverse: gmpy2.mpz


class FixedBase:
    """Encryption under one n, by a table of powers of h_s; see `fixed_base`.

    Args:
        n: the modulus; what `check_public_key` lets through.

    Raises:
        PublicKeyError: h is no unit modulo n, so nothing can be hidden by its powers.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._modulus = gmpy2.mpz(n)
        self._square = self._modulus**2
        self._exponent_bits = -(-n.bit_length() // 2)
        if gmpy2.gcd(base := self._base(), n) != 1:
            raise PublicKeyError("a Paillier modulus with a small factor")
        with gmpy2.context(allow_release_gil=True):
            power = self._power(gmpy2.powmod(base, n, self._square))
            self._table = []
            for _ in range(-(-self._exponent_bits // (WINDOW_BITS * USES))):
                row = [_Power(gmpy2.mpz(1), gmpy2.mpz(0), gmpy2.mpz(1))]
                for _ in range(1 << WINDOW_BITS):
                    row.append(self._times(row[-1], power))
                self._table.append([(entry.short, entry.log) for entry in row[:-1]])
                power = row[-1]
                for _ in range((USES - 1) * WINDOW_BITS):
                    power = self._times(power, power)

    def _power(self, element: gmpy2.mpz) -> _Power:
        quotient, short = divmod(element, self._modulus)
        inverse = gmpy2.invert(short, self._modulus)
        return _Power(short, quotient * inverse % self._modulus, inverse)

    def _times(self, left: _Power, right: _Power) -> _Power:
        quotient, short = divmod(left.short * right.short, self._modulus)
        inverse = left.inverse * right.inverse % self._modulus
        log = (left.log + right.log + quotient * inverse) % self._modulus
        return _Power(short, log, inverse)

    def _base(self) -> int:
        """h = -y**2 mod n, with y by hashing n: every device finds the same one by itself."""
        n_bytes = -(-(self.n.bit_length() + 128) // 8)
        name = self.n.to_bytes(-(-self.n.bit_length() // 8), "big")
        y = hashlib.shake_256(b"fedring/1 paillier base\0" + name).digest(n_bytes)
        return -pow(int.from_bytes(y, "big"), 2, self.n) % self.n

    def obfuscator(self, random: Random) -> int:
        """h_s**x for a fresh x: a ciphertext of 0, and of anything once `add_plain` adds it.

        It serves one ciphertext: two with the same one tell the difference of their plaintexts.

        Args:
            random: a stream that makes nothing but Paillier randomness.
        """
        (made,) = self.obfuscators(1, random)
        return made

    def obfuscators(self, count: int, random: Random) -> list[int]:
        """So many, as `obfuscator` makes one after the other; a tenth sooner.

        Row by row through the table: a row stays in a cache while all make use of it.

        Args:
            count: 0 or more.
            random: as `obfuscator` takes it.

        Returns:
            `count` integers in [1, n**2), each a power of h_s.
        """
        n_bytes = len(self._table) * USES
        digits = [
            _uniform_bits(self._exponent_bits, random).to_bytes(n_bytes, "little")
            for _ in range(count)
        ]
        products = [[gmpy2.mpz(1)] * count for _ in range(USES)]
        logs = [[gmpy2.mpz(0)] * count for _ in range(USES)]
        square = self._square
        with gmpy2.context(allow_release_gil=True):
            for place, row in enumerate(self._table):
                for use, (product, log) in enumerate(zip(products, logs, strict=True)):
                    at = place * USES + use
                    for each, own in enumerate(digits):
                        short, summand = row[own[at]]
                        product[each] = product[each] * short % square
                        log[each] += summand
            return [
                self._joined(
                    [column[each] for column in products], [column[each] for column in logs]
                )
                for each in range(count)
            ]

    def _joined(self, products: list[gmpy2.mpz], logs: list[gmpy2.mpz]) -> int:
        """What the digits of each use have made, lowest first, as one element."""
        product, log = products[-1], logs[-1]
        for lower, summand in zip(products[-2::-1], logs[-2::-1], strict=True):
            for _ in range(WINDOW_BITS):  # a quarter sooner than powmod
                product = product * product % self._square
            product = product * lower % self._square
            log = (log << WINDOW_BITS) + summand
        return int(product * (1 + log % self._modulus * self._modulus) % self._square)

    def encrypt(self, plaintext: int, random: Random) -> int:
        """One ciphertext.

        Args:
            plaintext: in [0, n).
            random: as `obfuscator` takes it.

        Returns:
            In [1, n**2).
        """
        (ciphertext,) = add_plain([self.obfuscator(random)], [plaintext], self.n)
        return ciphertext


_building = threading.Lock()


def fixed_base(n: int) -> FixedBase:
    """The table for n, built once a process (0.4 s and 20 MB at 3072 bits), two kept.

    Args:
        n: the modulus; what `check_public_key` lets through.

    Raises:
        PublicKeyError: as `FixedBase` does.
    """
    with _building:  # or two threads would build the same one
        return _fixed_base(n)


@functools.lru_cache(maxsize=2)
def _fixed_base(n: int) -> FixedBase:
    return FixedBase(n)


def add_plain(ciphertexts: Sequence[int], plaintexts: Sequence[int], n: int) -> Ciphertexts:
    """Ciphertexts of the sums with plaintexts: each times (1 + n)**plaintext.

    Args:
        ciphertexts: integers in [1, n**2).
        plaintexts: as many, in [0, n).
        n: the modulus.

    Raises:
        ValueError: there are more of the one than of the other.
    """
    square = gmpy2.mpz(n) ** 2
    return tuple(
        int(ciphertext * (1 + n * gmpy2.mpz(plaintext)) % square)
        for ciphertext, plaintext in zip(ciphertexts, plaintexts, strict=True)
    )


def product(rows: Iterable[Ciphertexts], n: int) -> Ciphertexts:
    """Ciphertexts of the sums, column by column; of the rows one is held at a time.

    Args:
        rows: one or more, of one length.
        n: the modulus.

    Raises:
        ValueError: rows of different lengths, or none.
    """
    square = gmpy2.mpz(n) ** 2
    totals: list[gmpy2.mpz] = []
    for row in rows:
        if not totals:
            totals = [gmpy2.mpz(1)] * len(row)
        totals = [
            total * ciphertext % square for total, ciphertext in zip(totals, row, strict=True)
        ]
    if not totals:
        raise ValueError("a product of nothing")
    return tuple(map(int, totals))


def decrypt(private_key: PaillierPrivateKey, ciphertexts: Iterable[int]) -> list[int]:
    """The plaintexts; by phe itself, which goes through p**2 and q**2.

    Side by side on the cores of this machine; other threads run meanwhile.

    Args:
        private_key: of the pair under which they were encrypted.
        ciphertexts: integers in [1, n**2) that are units, as `check_ciphertexts` lets them through.

    Returns:
        As many integers in [0, n), in the same order.
    """

    def decrypted(ciphertext: int) -> int:
        with gmpy2.context(allow_release_gil=True):  # holds for one thread
            plaintext: int = private_key.raw_decrypt(ciphertext)
            return plaintext

    if private_key.public_key.n.bit_length() < LEAST_KEY_BITS:  # a simulation's: sooner done alone
        return [decrypted(ciphertext) for ciphertext in ciphertexts]
    return list(_decrypting_threads(os.getpid()).map(decrypted, ciphertexts))


@functools.lru_cache(maxsize=1)
def _decrypting_threads(_process: int) -> ThreadPoolExecutor:
    """The same for all decryptions of a process: gmpy2 loses some kilobytes with each thread."""
    return ThreadPoolExecutor(os.cpu_count(), "decrypting")


def ciphertext_bytes(n: int) -> int:
    """Length of one ciphertext on the wire: 768 at 3072 bits."""
    return -(-2 * n.bit_length() // 8)


def encode_ciphertexts(ciphertexts: Iterable[int], n: int) -> bytes:
    """Big-endian, each of `ciphertext_bytes(n)`, one after the other.

    Raises:
        OverflowError: one needs more bytes than a ciphertext modulo n**2 has.
    """
    size = ciphertext_bytes(n)
    return b"".join(ciphertext.to_bytes(size, "big") for ciphertext in ciphertexts)


def decode_ciphertexts(data: bytes, count: int, n: int) -> Ciphertexts:
    """So many ciphertexts, of right length only; `check_ciphertexts` looks at the values.

    Raises:
        ReleaseError: the length is wrong.
    """
    size = ciphertext_bytes(n)
    if len(data) != count * size:
        raise ReleaseError(f"{len(data)} bytes instead of {count * size}")
    return tuple(
        int.from_bytes(data[start : start + size], "big") for start in range(0, len(data), size)
    )


def check_ciphertexts(ciphertexts: Ciphertexts, n: int) -> None:
    """Refuse what is no ciphertext: outside [1, n**2), or with a factor of n.

    Raises:
        ReleaseError: names the first that is out of range.
    """
    square = gmpy2.mpz(n) ** 2
    for index, ciphertext in enumerate(ciphertexts):
        if not 1 <= ciphertext < square:
            raise ReleaseError(f"ciphertext {index} is not in [1, n**2)")
    # one gcd, of the product, costs a tenth of one for each
    modulus = gmpy2.mpz(n)
    if gmpy2.gcd(functools.reduce(lambda product, c: product * c % modulus, ciphertexts), n) != 1:
        raise ReleaseError("a ciphertext has a factor in common with n")
