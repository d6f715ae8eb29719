"""Write the known-answer vectors of suite `hybrid`: a slow reference, in plain Python integers.

    python tests/vectors/make.py

Shares no code with the library: ChaCha20 block by block, products
coefficient by coefficient, Paillier by `pow`. The lattice has N = 64 and the key 512 bits, which
hides nothing and exercises everything.

A file is one scenario: header lines `name: value`, a blank line, then payload lines. `expect` is
what a reader must find: `bytes` (the seeds give exactly this payload), `sum` (the payload opens
to the sum of the values), or the failure: `body`, `release`, or the name of a sum check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
N = 64  # dimension of the lattice
ETA = 21
PADDING = 32
DIGIT_BITS = 12
SLOTS = {16: (2, 26, 12), 8: (3, 17, 13)}  # slots, bits of a slot, bits of noise
P = 0xCC5F017FE27FD6D1E8E91F088A36FA46FDF52E59DC500CC1E7254DB0E838381F
Q = 0xF6666C6EB467DDCFE05D91750D0F51F92D29648A0B11B9F76425B94F49C2DA17
MODULUS = P * Q
ANNOUNCE = hashlib.sha256(b"announce of the vectors").digest()


# -- ChaCha20 (RFC 8439, with a 64-bit block counter) ------------------------------------


def rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def quarter_round(x: list[int], a: int, b: int, c: int, d: int) -> None:
    for into, other, target, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = (x[into] + x[other]) & 0xFFFFFFFF
        x[target] = rotated(x[target] ^ x[into], by)


def chacha20(key: bytes, number: int) -> Iterator[int]:
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
    return bytes(next(stream) for _ in range(n_bytes))


def word(stream: Iterator[int]) -> int:
    return int.from_bytes(take(stream, 8), "little")


# -- the lattice ---------------------------------------------------------------------------


def small(stream: Iterator[int]) -> int:
    return (word(stream) >> (64 - 2 * ETA)).bit_count() - ETA


def times(a: Sequence[int], s: Sequence[int]) -> list[int]:
    product = [0] * N
    for i, x in enumerate(a):
        for j, y in enumerate(s):
            if i + j < N:
                product[i + j] += x * y
            else:
                product[i + j - N] -= x * y
    return product


def masked(values: Sequence[int], bits: int, seed: bytes) -> tuple[list[int], list[int]]:
    """The key, and the coefficients of the body."""
    slots, slot_bits, noise_bits = SLOTS[bits]
    used = -(-len(values) // slots)
    coefficients = used + PADDING
    secret = chacha20(seed, 0)
    key = [small(secret) for _ in range(N)]
    public = hashlib.sha256(b"fedring/1 lattice\0" + ANNOUNCE).digest()
    body: list[int] = []
    for number in range(-(-coefficients // N)):
        expanded = chacha20(public, number)
        body += times([word(expanded) for _ in range(N)], key)
    del body[coefficients:]
    for place in range(coefficients):
        body[place] += small(secret)
    for index, value in enumerate(values):
        place, slot = divmod(index, slots)
        body[place] += value << (noise_bits + slot * slot_bits)
    return key, [coefficient % 2**64 for coefficient in body]


# -- Paillier --------------------------------------------------------------------------------


def encrypted(plaintext: int, stream: Iterator[int]) -> int:
    n_bytes = -(-(MODULUS.bit_length() + 128) // 8)
    name = MODULUS.to_bytes(-(-MODULUS.bit_length() // 8), "big")
    y = int.from_bytes(
        hashlib.shake_256(b"fedring/1 paillier base\0" + name).digest(n_bytes), "big"
    )
    h = -y * y % MODULUS
    exponent = int.from_bytes(take(stream, 32), "big")
    square = MODULUS**2
    obfuscator = pow(h, MODULUS * exponent, square)
    return pow(1 + MODULUS, plaintext, square) * obfuscator % square


def released(key: Sequence[int], pads: Sequence[int], seed: bytes) -> bytes:
    per_plaintext = (MODULUS.bit_length() - 4) // DIGIT_BITS
    stream = chacha20(seed, 0)
    release = b""
    for index, pad in enumerate(pads):
        digits = key[index * per_plaintext : (index + 1) * per_plaintext]
        plaintext = sum(digit << (DIGIT_BITS * place) for place, digit in enumerate(digits))
        ciphertext = encrypted(plaintext % MODULUS, stream)
        ciphertext = ciphertext * pow(1 + MODULUS, pad, MODULUS**2) % MODULUS**2
        release += ciphertext.to_bytes(128, "big")
    return release


# -- scenarios -------------------------------------------------------------------------------


def seed_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def pad_of(text: str) -> int:
    return int.from_bytes(hashlib.shake_256(text.encode()).digest(80), "big") % MODULUS


class Scenario:
    """Contributors, what they send, and what was done to it on the way."""

    def __init__(self, name: str, expect: str, comment: str, bits: int, values: str) -> None:
        self.name = name
        self.head = [f"expect: {expect}", f"comment: {comment}", "suite: hybrid", f"bits: {bits}"]
        self.head += [f"dimension: {N}", f"p: {P:x}", f"q: {Q:x}", f"announce: {ANNOUNCE.hex()}"]
        self.bodies: list[list[int]] = []
        self.releases: list[bytes] = []
        rows = [[int(value) for value in row.split()] for row in values.split("/")]
        n_pads = -(-N // ((MODULUS.bit_length() - 4) // DIGIT_BITS))
        pads = [[pad_of(f"pad {i} {k}") for k in range(n_pads)] for i in range(len(rows))]
        pads[-1] = [-sum(column) % MODULUS for column in zip(*pads[:-1], strict=True)] or pads[-1]
        for index, (row, own) in enumerate(zip(rows, pads, strict=True)):
            lattice, paillier = seed_of(f"lattice {index}"), seed_of(f"paillier {index}")
            key, body = masked(row, bits, lattice)
            self.bodies.append(body)
            self.releases.append(released(key, own, paillier))
            self.head.append(f"values: {' '.join(str(value) for value in row)}")
            self.head.append(f"seeds: {lattice.hex()} {paillier.hex()}")
            self.head.append(f"pads: {' '.join(f'{pad:x}' for pad in own)}")

    def text(self) -> str:
        payload = []
        for body, release in zip(self.bodies, self.releases, strict=True):
            wire = b"".join(coefficient.to_bytes(8, "little") for coefficient in body)
            payload += [f"body: {wire.hex()}", f"release: {release.hex()}"]
        return "\n".join([*self.head, "", *payload]) + "\n"


def with_ciphertext(scenario: Scenario, ciphertext: int) -> None:
    release = scenario.releases[0]
    scenario.releases[0] = ciphertext.to_bytes(128, "big") + release[128:]


def scenarios() -> Iterator[Scenario]:
    three = "32767 -32767 5 0 -1/32767 -32767 -6 0 -1/32767 -32767 7 0 -1"

    def sum_of(name: str, expect: str, comment: str) -> Scenario:
        return Scenario(f"hybrid-{name}", expect, comment, 16, three)

    yield Scenario("hybrid-bytes-16", "bytes", "two values share a coefficient", 16, "1 -2 32767")
    yield Scenario("hybrid-bytes-8", "bytes", "three values share one", 8, "1 -2 127 -127")
    long = " ".join(str(value * 997 % 65535 - 32767) for value in range(150))
    yield Scenario("hybrid-bytes-long", "bytes", "two polynomials, the last one cut", 16, long)
    yield sum_of("sum-16", "sum", "largest values, and pads that cancel")
    yield Scenario(
        "hybrid-sum-8", "sum", "negative slots below positive ones", 8, "127 -1 -127/-127 -1 127"
    )

    scenario = sum_of("noise", "noise", "2**11 is added to a coefficient")
    scenario.bodies[1][0] = (scenario.bodies[1][0] + 2**11) % 2**64
    yield scenario
    scenario = sum_of("padding-coefficient", "padding", "a value behind the last used coefficient")
    scenario.bodies[1][3] = (scenario.bodies[1][3] + 2**12) % 2**64
    yield scenario
    scenario = sum_of("padding-slot", "padding", "a value in the slot behind the last value")
    scenario.bodies[1][2] = (scenario.bodies[1][2] + 2**38) % 2**64
    yield scenario
    scenario = sum_of("key-pads", "key range", "the release of one device counts twice")
    scenario.releases[1] = scenario.releases[0]
    yield scenario
    scenario = sum_of("key-large", "key range", "a device adds 300 to its key, under encryption")
    forged = int.from_bytes(scenario.releases[0][:128], "big")
    with_ciphertext(scenario, forged * (1 + 300 * MODULUS) % MODULUS**2)
    yield scenario
    scenario = sum_of("body-short", "body", "the last coefficient is missing")
    del scenario.bodies[0][-1]
    yield scenario
    scenario = sum_of("body-long", "body", "one coefficient more")
    scenario.bodies[0].append(0)
    yield scenario
    scenario = sum_of("release-short", "release", "the last byte is missing")
    scenario.releases[0] = scenario.releases[0][:-1]
    yield scenario
    for name, ciphertext, comment in (
        ("zero", 0, "0 is no ciphertext"),
        ("above", MODULUS**2, "nor is n**2"),
        ("modulus", MODULUS, "nor is n"),
        ("factor", 5 * P, "nor is a multiple of p"),
    ):
        scenario = sum_of(f"release-{name}", "release", comment)
        with_ciphertext(scenario, ciphertext)
        yield scenario


if __name__ == "__main__":
    for scenario in scenarios():
        (FOLDER / f"{scenario.name}.txt").write_text(scenario.text())
        print(scenario.name)
