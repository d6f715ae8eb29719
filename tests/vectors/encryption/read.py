"""Read the vectors of the encryption: shares no code with the library, nor with what wrote them.

    python tests/vectors/encryption/read.py [FILE...]

Prints what each file turns out to hold, all beside this one if none is named, and ends with 1
where a file expects something else. What comes from seeds is computed anew and compared; what
goes wrong is found out from the payload alone. README.md tells the format.

Other ways than those of reference.py, on purpose: products of polynomials are products of big
integers, ChaCha20 is that of `cryptography`, decryption is by the textbook.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gmpy2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

WORD = 1 << 64
KEY_RADIX = 2347


class RefusedError(Exception):
    """What is wrong with what the coordinator got, by its name."""


class DifferenceError(Exception):
    """The file holds something else than its seeds or values give."""


def stream(seed: bytes, number: int, n_bytes: int) -> bytes:
    nonce = struct.pack("<QQ", 0, number)
    return Cipher(ChaCha20(seed, nonce), None).encryptor().update(bytes(n_bytes))


def balanced(number: int, radix: int, count: int) -> tuple[list[int], int]:
    """Signed digits, lowest first, and what stands above them."""
    digits = []
    for _ in range(count):
        digit = number % radix
        if 2 * digit >= radix:
            digit -= radix
        digits.append(digit)
        number = (number - digit) // radix
    return digits, number


class Paillier:
    def __init__(self, p: int, q: int) -> None:
        self.n = p * q
        self.bits = self.n.bit_length()
        self.square = self.n**2
        self.wire_bytes = self.bits // 4
        self.exponent = math.lcm(p - 1, q - 1)
        self.inverse = pow(self.exponent, -1, self.n)

    @cache  # noqa: B019
    def base(self) -> gmpy2.mpz:
        name = self.n.to_bytes(self.bits // 8, "big")
        y = hashlib.shake_256(b"fedring/1 paillier base\0" + name).digest(self.bits // 8 + 16)
        return gmpy2.powmod(self.n - pow(int.from_bytes(y, "big"), 2, self.n), self.n, self.square)

    def encrypt(self, plaintexts: list[int], seed: bytes) -> bytes:
        size = self.bits // 16
        drawn = stream(seed, 0, size * len(plaintexts))
        release = b""
        for index, plaintext in enumerate(plaintexts):
            exponent = int.from_bytes(drawn[index * size : (index + 1) * size], "big")
            mask = gmpy2.powmod(self.base(), exponent, self.square)
            ciphertext = int((1 + plaintext % self.n * self.n) * mask % self.square)
            release += ciphertext.to_bytes(self.wire_bytes, "big")
        return release

    def ciphertexts(self, release: bytes, count: int) -> list[int]:
        if len(release) != count * self.wire_bytes:
            raise RefusedError("release")
        parts = [release[i * self.wire_bytes :][: self.wire_bytes] for i in range(count)]
        numbers = [int.from_bytes(part, "big") for part in parts]
        if any(not 0 < c < self.square or math.gcd(c, self.n) > 1 for c in numbers):
            raise RefusedError("release")
        return numbers

    def product(self, releases: list[bytes], count: int) -> list[int]:
        product = [1] * count
        for release in releases:
            factors = self.ciphertexts(release, count)
            product = [a * b % self.square for a, b in zip(product, factors, strict=True)]
        return product

    def decrypt(self, ciphertext: int) -> int:
        """Within (-n / 2, n / 2)."""
        power = int(gmpy2.powmod(ciphertext, self.exponent, self.square))
        plaintext = (power - 1) // self.n * self.inverse % self.n
        return plaintext if 2 * plaintext < self.n else plaintext - self.n


class File:
    """A vector taken apart."""

    def __init__(self, text: str) -> None:
        head, payload = text.split("\n\n")
        self.head = [line.partition(": ")[::2] for line in head.splitlines()]
        self.payload = [line.partition(": ")[::2] for line in payload.splitlines()]
        fields = dict(self.head)
        self.expect = fields["expect"]
        self.bits = int(fields["bits"])
        self.contribution = "contribution" in fields
        self.key = Paillier(int(fields["p"], 16), int(fields["q"], 16))
        self.values = [self._numbers(text) for text in self.all("values")]
        self.seeds = [
            tuple(bytes.fromhex(seed) for seed in seeds.split()) for seeds in self.all("seeds")
        ]
        self.suite: Hybrid | Packed = (
            Hybrid(self.bits, self.key, int(fields["dimension"]), bytes.fromhex(fields["announce"]))
            if fields["suite"] == "hybrid"
            else Packed(self.bits, self.key)
        )
        self.n_values = len(self.values[0])
        self.pads = [[int(pad, 16) for pad in pads.split()] for pads in self.all("pads")]
        if "list" in fields:
            self.pads = self._pads_of_list(bytes.fromhex(fields["roster"] + fields["list"]))
        if "times" in fields:
            self._repeat(int(fields["times"]))

    def all(self, name: str) -> list[str]:
        return [value for key, value in [*self.head, *self.payload] if key == name]

    def _numbers(self, text: str) -> list[int]:
        match text.split():
            case [count, "values", "from", first, "by", step]:
                odd = (1 << self.bits) - 1  # how many numbers there are in the range
                terms = [int(first) + int(step) * i for i in range(int(count))]
                return [(term + odd // 2) % odd - odd // 2 for term in terms]
            case numbers:
                return [int(number) for number in numbers]

    def _pads_of_list(self, digests: bytes) -> list[list[int]]:
        pairs = [line.split() for line in self.all("round key")]
        keys = {int(i): X25519PrivateKey.from_private_bytes(bytes.fromhex(k)) for i, k in pairs}
        count = self.suite.n_plaintexts(self.n_values)
        size = (self.key.bits + 128 + 7) // 8

        def pads(own: int) -> list[int]:
            sums = [0] * count
            for other in keys.keys() - {own}:
                info = struct.pack(">II", min(own, other), max(own, other))
                secret = keys[own].exchange(keys[other].public_key())
                seed = HKDF(SHA256(), 32, None, b"fedring/1 pad\0" + digests + info).derive(secret)
                drawn = stream(seed, 0, size * count)
                for index in range(count):
                    piece = int.from_bytes(drawn[index * size :][:size], "big")
                    sums[index] += piece if own < other else -piece
            return sums

        return [pads(number) for number in keys]

    def _repeat(self, times: int) -> None:
        (seeds,) = self.seeds
        self.seeds = [
            tuple(hashlib.sha256(seed + struct.pack(">I", number)).digest() for seed in seeds)
            for number in range(times)
        ]
        self.values *= times
        self.pads *= times


class Hybrid:
    def __init__(self, bits: int, key: Paillier, dimension: int, announce: bytes) -> None:
        self.slots, self.slot_bits, self.noise_bits = (2, 26, 12) if bits == 16 else (3, 17, 13)
        self.per_plaintext = max(m for m in range(key.bits) if KEY_RADIX**m < 2 ** (key.bits - 4))
        self.dimension = dimension
        self.seed = hashlib.sha256(b"fedring/1 lattice\0" + announce).digest()

    def used(self, n_values: int) -> int:
        return math.ceil(n_values / self.slots)

    def body_bytes(self, n_values: int) -> int:
        return 8 * (self.used(n_values) + 32)

    def n_plaintexts(self, _n_values: int) -> int:
        return math.ceil(self.dimension / self.per_plaintext)

    def add(self, bodies: list[bytes]) -> list[int]:
        rows = [struct.unpack(f"<{len(body) // 8}Q", body) for body in bodies]
        return [sum(column) % WORD for column in zip(*rows, strict=True)]

    def encode_total(self, total: list[int]) -> bytes:
        return struct.pack(f"<{len(total)}Q", *total)

    def mask(self, seed: bytes, values: list[int]) -> tuple[list[int], bytes]:
        count = self.used(len(values)) + 32
        drawn = struct.iter_unpack("<Q", stream(seed, 0, 8 * (self.dimension + count)))
        small = [(word >> 22).bit_count() - 21 for (word,) in drawn]
        secret, noise = small[: self.dimension], small[self.dimension :]
        body = [a + b for a, b in zip(self.times_public(secret, count), noise, strict=True)]
        for index, value in enumerate(values):
            shift = self.noise_bits + index % self.slots * self.slot_bits
            body[index // self.slots] += value * 2**shift
        plaintexts = [
            sum(
                value * KEY_RADIX**place
                for place, value in enumerate(secret[start:][: self.per_plaintext])
            )
            for start in range(0, self.dimension, self.per_plaintext)
        ]
        return plaintexts, self.encode_total([x % WORD for x in body])

    def times_public(self, secret: list[int], count: int) -> Iterator[int]:
        """a * secret, whose coefficients stand 18 bytes apart in a product of integers."""
        n = self.dimension
        factor = gmpy2.mpz(spread(secret))
        for place in range(count):
            number, coefficient = divmod(place, n)
            if coefficient == 0:
                words = struct.iter_unpack("<Q", stream(self.seed, number, 8 * n))
                whole = int(factor * spread([word for (word,) in words]))
                data = whole.to_bytes(36 * n, "little")
            low, high = (data[18 * k :][:8] for k in (coefficient, coefficient + n))
            yield int.from_bytes(low, "little") - int.from_bytes(high, "little")

    def open(self, total: list[int], plaintexts: list[int], n_values: int, n: int) -> list[int]:
        secret: list[int] = []
        for plaintext in plaintexts:
            digits, above = balanced(
                plaintext, KEY_RADIX, min(self.per_plaintext, self.dimension - len(secret))
            )
            if above or any(digit**2 > 1050 * n for digit in digits):
                raise RefusedError("key range")
            secret += digits
        carried: list[int] = []
        for word, product in zip(total, self.times_public(secret, len(total)), strict=True):
            ((number,), _) = balanced(word - product, WORD, 1)
            ((noise,), packed) = balanced(number, 1 << self.noise_bits, 1)
            if noise**2 > 1050 * n:
                raise RefusedError("noise")
            carried.append(packed)
        used = self.used(n_values)
        if any(carried[used:]):
            raise RefusedError("padding")
        values = []
        for packed in carried[:used]:
            values += balanced(packed, 1 << self.slot_bits, self.slots)[0]
        if any(values[n_values:]):
            raise RefusedError("padding")
        return values[:n_values]


def spread(coefficients: list[int]) -> int:
    return int.from_bytes(
        b"".join((x % WORD).to_bytes(18, "little") for x in coefficients), "little"
    )


class Packed:
    """Suite paillier."""

    def __init__(self, bits: int, key: Paillier) -> None:
        self.bits = bits
        self.slot_bits = 27 if bits == 16 else 18
        self.slots = (key.bits - 4) // self.slot_bits
        self.size = key.bits // 8
        self.n = key.n

    def n_plaintexts(self, n_values: int) -> int:
        return math.ceil(n_values / self.slots)

    def body_bytes(self, n_values: int) -> int:
        return self.size * math.ceil(n_values / self.slots)

    def residues(self, body: bytes) -> list[int]:
        starts = range(0, len(body), self.size)
        return [int.from_bytes(body[start:][: self.size], "little") for start in starts]

    def add(self, bodies: list[bytes]) -> list[int]:
        rows = [self.residues(body) for body in bodies]
        if any(residue >= self.n for row in rows for residue in row):
            raise RefusedError("body")
        return [sum(column) % self.n for column in zip(*rows, strict=True)]

    def encode_total(self, total: list[int]) -> bytes:
        return b"".join(residue.to_bytes(self.size, "little") for residue in total)

    def mask(self, seed: bytes, values: list[int]) -> tuple[list[int], bytes]:
        count = self.n_plaintexts(len(values))
        size = self.size + 16
        drawn = stream(seed, 0, size * count)
        secret = [int.from_bytes(drawn[i * size :][:size], "big") % self.n for i in range(count)]
        body = list(secret)
        for index, value in enumerate(values):
            body[index // self.slots] += value * 2 ** (index % self.slots * self.slot_bits)
        return secret, self.encode_total([residue % self.n for residue in body])

    def open(self, total: list[int], plaintexts: list[int], n_values: int, n: int) -> list[int]:
        values: list[int] = []
        for residue, plaintext in zip(total, plaintexts, strict=True):
            packed = (residue - plaintext) % self.n
            packed -= self.n if 2 * packed > self.n else 0
            digits, above = balanced(packed, 1 << self.slot_bits, self.slots)
            if above:
                raise RefusedError("plaintext range")
            values += digits
        if any(values[n_values:]):
            raise RefusedError("padding")
        if any(abs(value) > n * (2 ** (self.bits - 1) - 1) for value in values):
            raise RefusedError("range")
        return values[:n_values]


def check_contributions(total: list[int], n: int, bits: int) -> None:
    """Source: the table in shared/contributions.py of what stands behind an update."""
    *update, one, weight, clipped, evaluated, correct, loss, zero = total
    if one != n:
        raise RefusedError("count")
    if zero:
        raise RefusedError("zero")
    limits = (
        (weight, n, 127 * n),
        (clipped, 0, n),
        (evaluated, 0, n),
        (correct, 0, 127 * evaluated),
        (loss, 0, 127 * evaluated),
        *((value, -n * (2 ** (bits - 1) - 1), n * (2 ** (bits - 1) - 1)) for value in update),
    )
    if any(not least <= value <= most for value, least, most in limits):
        raise RefusedError("range")


def compare(what: str, found: str, data: bytes) -> None:
    """With hexadecimal digits, or with length, digest, beginning and end."""
    if " bytes " in found:
        length, _, digest, ends = found.split()
        same = (int(length), digest) == (len(data), hashlib.sha256(data).hexdigest())
        same = same and ends == f"{data[:16].hex()}..{data[-16:].hex()}"
    else:
        same = bytes.fromhex(found) == data
    if not same:
        raise DifferenceError(what)


def opened(file: File, bodies: list[bytes], releases: list[bytes]) -> list[int]:
    """The sum.

    Raises:
        RefusedError: a body or release is none, or a check of the sum does not hold.
    """
    count = file.suite.n_plaintexts(file.n_values)
    product = file.key.product(releases, count)
    if any(len(body) != file.suite.body_bytes(file.n_values) for body in bodies):
        raise RefusedError("body")
    total = file.suite.add(bodies)
    if stated := file.all("total"):
        compare("total", stated[0], file.suite.encode_total(total))
        wire = b"".join(c.to_bytes(file.key.wire_bytes, "big") for c in product)
        compare("product", file.all("product")[0], wire)
    plaintexts = [file.key.decrypt(ciphertext) for ciphertext in product]
    values = file.suite.open(total, plaintexts, file.n_values, len(bodies))
    if file.contribution:
        check_contributions(values, len(bodies), file.bits)
    return values


def encrypted(file: File) -> tuple[list[bytes], list[bytes]]:
    """The bodies and releases that values, seeds and pads give.

    Raises:
        DifferenceError: the payload states others.
    """
    bodies, releases = [], []
    for values, (secret, paillier), pads in zip(file.values, file.seeds, file.pads, strict=True):
        plaintexts, body = file.suite.mask(secret, values)
        padded = [plaintext + pad for plaintext, pad in zip(plaintexts, pads, strict=True)]
        bodies.append(body)
        releases.append(file.key.encrypt(padded, paillier))
    for what, computed in (("body", bodies), ("release", releases)):
        for stated, data in zip(file.all(what), computed, strict=False):  # none of many copies
            compare(what, stated, data)
    return bodies, releases


def outcome(text: str) -> str:
    """What a file turns out to hold: "sum", or the name of what is wrong.

    Raises:
        DifferenceError: the payload is not what its own header gives.
    """
    file = File(text)
    try:
        if file.all("total"):
            values = opened(file, *encrypted(file))
            expected = [sum(column) for column in zip(*file.values, strict=True)]
            if values != expected:
                raise DifferenceError("sum")
            compare("sum", file.all("sum")[0], struct.pack(f"<{len(values)}q", *values))
        else:
            bodies, releases = (
                [bytes.fromhex(data) for data in file.all(what)] for what in ("body", "release")
            )
            opened(file, bodies, releases)
    except RefusedError as refused:
        return str(refused)
    return "sum"


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(Path(__file__).parent.glob("*.txt"))
    status = 0
    for path in paths:
        text = path.read_text()
        try:
            found = outcome(text)
        except DifferenceError as difference:
            found = f"another {difference} than its header gives"
        print(f"{path.stem}: {found}")
        if not text.startswith(f"expect: {found}\n"):
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
