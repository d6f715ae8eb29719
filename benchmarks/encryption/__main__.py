"""Encryption of vectors: time, memory and bytes, beside the same without it and beside others.

A is what a device would do with a plain update: pack its float32 values with msgpack and seal them
with ChaCha20-Poly1305. Cold is everything (key, mask, ciphertexts, body as bytes) but the table of
powers that a process makes once for a public key. Preparation is key, mask and ciphertexts. Online
is what is left once the update is there: its body as bytes. Opening is everything after the last
release: product of the releases, decryption, sum, checks.

Each figure and its baseline are taken in turns in this process; a turn repeats what is short, and
the figures are medians of the turns. phe encrypts or decrypts each weight by itself: some weights
are timed, and the rest follows by proportion. TenSEAL is installed for the occasion, into .tmp of
the clone.

Times are processor time, of all threads: other work on the machine then counts for less.

Ends with status 1 when a goal is missed. `--quick` takes three turns and leaves out the longest
cases, for a look: it tells what is missed and does not fail.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
from attrs import field, frozen
from benchmarks.encryption import bfv, plain
from benchmarks.encryption.memory import temporaries
from benchmarks.encryption.parties import (
    Sum,
    UsedAgain,
    cold_encrypt,
    contribution,
    hop,
    make_suite,
    online_encrypt,
    with_mask,
)
from benchmarks.encryption.timing import Timed, in_turns
from phe import PaillierPrivateKey

from fedring.lab.benchmarks import Row, main
from fedring.shared.encryption import OneTimeMask, generate_key, paillier
from fedring.shared.numbers import quantise
from fedring.shared.pairwise import RoundKey, pads

SIZES: Final = (10_000, 100_000, 1_000_000)
WIDTHS: Final = (16, 8)
KEY_BITS: Final = (3072, 2048)
RINGS: Final = (8, 16, 64)
OPENED: Final = ((16, 1), (16, 1024), (16, 16), (8, 512))
"""Width of the values, and contributors; a short run has the first two."""

# Goals and dreams by weights and width; the table "Figures to reach" of the project's design.
ONLINE: Final = {(100_000, 16): (1.0, 0.5), (1_000_000, 16): (1.0, 0.5)}
COLD: Final = {(100_000, 16, 3072): (160.0, 50.0)}
HOP: Final = {(100_000, 16): (12.0, 5.0), (1_000_000, 16): (2.0, 1.5)}
WIRE: Final = {
    (100_000, 16): (1.05, 0.86),
    (1_000_000, 16): (1.01, None),
    (100_000, 8): (0.75, None),
}
NO_GOAL: Final = (None, None)
TEMPORARIES: Final = 0.5
"""Of the 4 MB of 1M float32 values: a few blocks, whatever the length."""


@frozen
class Bench:
    """What is measured with.

    Attributes:
        n_turns: of everything.
        n_by_phe: weights that phe encrypts, and decrypts, in a turn.
        opened: weights of sums of few and many contributors.
        packed: weights under suite `paillier`.
        short: leaves out cases that have no goal.
        keys: by size in bits.
        exact: of each sum that was opened, whether it was right.
    """

    n_turns: int
    n_by_phe: int
    opened: int
    packed: tuple[int, ...]
    short: bool = field(default=False, kw_only=True)
    keys: dict[int, PaillierPrivateKey]
    exact: list[bool] = field(factory=list)

    def sum_of(
        self, key_bits: int, n_values: int, bits: int, n_contributors: int, name: str = "hybrid"
    ) -> Sum:
        """A sum, opened once to see that it is exact."""
        key = self.keys[key_bits]
        made = Sum.of(make_suite(key, n_values, bits, name), key, n_contributors)
        self.exact.append(made.exact)
        return made

    @property
    def by_phe(self) -> str:
        """How phe was timed, for the name of a row."""
        return f"phe, each weight by itself, {self.n_turns * self.n_by_phe} timed and scaled"


def measure(quick: bool) -> Iterator[Row]:
    """TenSEAL first: without it the run would not be whole."""
    tenseal = bfv.Bfv(bfv.load())
    keys = {bits: generate_key(bits, random=os.urandom) for bits in KEY_BITS}
    bench = (
        Bench(n_turns=3, n_by_phe=10, opened=1_000, packed=(200,), keys=keys, short=True)
        if quick
        else Bench(n_turns=9, n_by_phe=5, opened=100_000, packed=(1_000, 9_600), keys=keys)
    )
    yield from rows(bench, tenseal)


def rows(bench: Bench, tenseal: bfv.Bfv) -> Iterator[Row]:
    """All rows."""
    for key in bench.keys.values():
        paillier.fixed_base(int(key.public_key.n))
    for n_values in SIZES:
        for bits in WIDTHS:
            yield from online(bench, n_values, bits)
            yield from cold(bench, n_values, bits)
            yield from hops(bench, n_values, bits)
    for key_bits in KEY_BITS[:1] if bench.short else KEY_BITS:
        yield from against_phe(bench, key_bits)
    yield from against_bfv(bench, tenseal)
    for bits, n_contributors in OPENED[:2] if bench.short else OPENED:
        yield from opening(bench, bits, n_contributors)
    yield from releases(bench)
    yield from wire(bench)
    for n_values in bench.packed:
        yield from packed(bench, n_values)
    for bits in WIDTHS:
        yield from memory(bench, bits)
    yield from once_a_key(bench)
    yield Row("sums that opened exactly", sum(bench.exact), at_least=len(bench.exact))


def weights(n_values: int) -> str:
    """How many, in short."""
    millions, rest = divmod(n_values, 1_000_000)
    return f"{n_values // 1000}k weights" if rest else f"{millions}M weights"


def online(bench: Bench, n_values: int, bits: int) -> Iterator[Row]:
    """What an update waits for once it is there, and the rounding before that."""
    suite = make_suite(bench.keys[3072], n_values, bits)
    update, values = plain.update(n_values), contribution(suite)
    mask = np.zeros(suite.body_bytes // 8, np.uint64)
    rng = np.random.default_rng(1)
    took = in_turns(
        {
            "A": Timed(lambda _: plain.seal(update)),
            "online": Timed(partial(online_encrypt, suite, values), lambda: with_mask(suite, mask)),
            "rounding": Timed(lambda _: quantise(update, 0.05, bits, rng)),
        },
        2 * bench.n_turns,
    )
    case = f"{weights(n_values)}, {bits} bits"
    reach, dream = ONLINE.get((n_values, bits), NO_GOAL)
    yield Row(
        f"online encrypt / A, {case}", took["online"], "s", took["A"], at_most=reach, dream=dream
    )
    yield Row(f"float32 to integers, before it / A, {case}", took["rounding"], "s", took["A"])


def cold(bench: Bench, n_values: int, bits: int) -> Iterator[Row]:
    """Everything at once, and how much of it is preparation."""
    update = plain.update(n_values)
    suites = {size: make_suite(key, n_values, bits) for size, key in bench.keys.items()}
    suite = suites[3072]
    values = contribution(suite)
    stock = UsedAgain(suite.n)
    took = in_turns(
        {
            "A": Timed(lambda _: plain.seal(update)),
            "3072": Timed(lambda _: cold_encrypt(suites[3072], values)),
            "2048": Timed(lambda _: cold_encrypt(suites[2048], values)),
            "preparation": Timed(lambda _: suite.prepare(os.urandom)),
            "from stock": Timed(lambda _: suite.prepare(os.urandom, stock)),
        },
        bench.n_turns,
    )
    case = f"{weights(n_values)}, {bits} bits"
    for size in KEY_BITS:
        reach, dream = COLD.get((n_values, bits, size), NO_GOAL)
        yield Row(
            f"cold encrypt / A, {case}, key of {size}",
            took[str(size)],
            "s",
            took["A"],
            at_most=reach,
            dream=dream,
        )
    yield Row(f"preparation / A, {case}, key of 3072", took["preparation"], "s", took["A"])
    name = f"preparation with Paillier randomness made ahead / A, {case}, key of 3072"
    yield Row(name, took["from stock"], "s", took["A"])


def hops(bench: Bench, n_values: int, bits: int) -> Iterator[Row]:
    """What a ring's member does to a body: add its own; from bytes to bytes, and that alone."""
    suite = make_suite(bench.keys[3072], n_values, bits)
    update = plain.update(n_values)
    wire, total_update = update.tobytes(), update.copy()
    own = suite.prepare(os.urandom, UsedAgain(suite.n)).body(contribution(suite))
    body, total = suite.encode_body(own), own.copy()
    took = in_turns(
        {
            "float32 hop": Timed(lambda _: plain.hop(wire, update)),
            "hop": Timed(lambda _: hop(suite, body, own)),
            "float32 add": Timed(lambda _: np.add(total_update, update, out=total_update)),
            "add": Timed(lambda _: suite.add(total, own)),
        },
        2 * bench.n_turns,
    )
    case = f"{weights(n_values)}, {bits} bits"
    reach, dream = HOP.get((n_values, bits), NO_GOAL)
    for name, what in (("add", "hop add"), ("hop", "hop from bytes to bytes")):
        yield Row(
            f"{what} / float32, {case}",
            took[name],
            "s",
            took[f"float32 {name}"],
            at_most=reach,
            dream=dream,
        )


def against_phe(bench: Bench, key_bits: int) -> Iterator[Row]:
    """100k weights of 16 bits, beside one ciphertext of phe for each weight."""
    n_values = 100_000
    key = bench.keys[key_bits]
    made = bench.sum_of(key_bits, n_values, 16, 16)
    values = contribution(made.suite)
    floats = [float(weight) for weight in plain.update(bench.n_by_phe)]
    encrypted = [key.public_key.encrypt(weight) for weight in floats]
    took = in_turns(
        {
            "phe encrypt": Timed(lambda _: [key.public_key.encrypt(each) for each in floats]),
            "cold": Timed(lambda _: cold_encrypt(made.suite, values)),
            "phe decrypt": Timed(lambda _: [key.decrypt(each) for each in encrypted]),
            "decrypt": Timed(lambda _: made.open()),
        },
        bench.n_turns,
    )
    scale = n_values / bench.n_by_phe
    case = f"100k weights, 16 bits, key of {key_bits}"
    goals = ((50_000.0, 200_000.0), (4_000.0, 8_000.0)) if key_bits == 3072 else (NO_GOAL, NO_GOAL)
    names = ("phe encrypt", "cold"), ("phe decrypt", "decrypt")
    for (theirs, ours), (reach, dream) in zip(names, goals, strict=True):
        what = "cold encrypt" if ours == "cold" else "decrypt a sum of 16"
        yield Row(
            f"{bench.by_phe} / {what}, {case}",
            took[theirs] * scale,
            "s",
            took[ours],
            at_least=reach,
            dream=dream,
        )


def against_bfv(bench: Bench, tenseal: bfv.Bfv) -> Iterator[Row]:
    """100k weights of 16 bits, beside TenSEAL's BFV."""
    suite = make_suite(bench.keys[3072], 100_000, 16)
    values = contribution(suite)
    pieces = bfv.chunks(values)
    took = in_turns(
        {
            "bfv": Timed(lambda _: tenseal.encrypt(pieces)),
            "bfv as bytes": Timed(lambda _: tenseal.encrypt_to_bytes(pieces)),
            "cold": Timed(lambda _: cold_encrypt(suite, values)),
        },
        bench.n_turns,
    )
    case = "100k weights, 16 bits, key of 3072"
    name = f"TenSEAL BFV, encrypted / cold encrypt, {case}"
    yield Row(name, took["bfv"], "s", took["cold"], at_least=1.2, dream=4)
    name = f"TenSEAL BFV, encrypted and as bytes / cold encrypt, {case}"
    yield Row(name, took["bfv as bytes"], "s", took["cold"])
    length = sum(map(len, tenseal.encrypt_to_bytes(pieces)))
    ours = suite.body_bytes + suite.release_bytes
    yield Row(f"TenSEAL BFV / bytes on the wire, {case}", length, "bytes", ours, at_least=4)
    exact = tenseal.sum_is_exact(pieces[:2], 1024)
    yield Row("TenSEAL BFV, sums of 1024 are exact as well", exact, at_least=1)


def opening(bench: Bench, bits: int, n_contributors: int) -> Iterator[Row]:
    """A sum of few or many, beside A of as many: unseal, unpack, add."""
    sealed = plain.Sealed(bench.opened)
    made = bench.sum_of(3072, bench.opened, bits, n_contributors)
    product = made.product()
    took = in_turns(
        {
            "A": Timed(lambda _: sealed.open(n_contributors)),
            "open": Timed(lambda _: made.open()),
        },
        bench.n_turns,
    )
    case = f"{weights(bench.opened)}, {bits} bits, key of 3072"
    yield Row(f"open a sum of {n_contributors} / A, {case}", took["open"], "s", took["A"])
    if n_contributors == 1:
        took = in_turns(
            {
                "threads": Timed(lambda _: paillier.decrypt(made.key, product)),
                "one thread": Timed(lambda _: [*map(made.key.raw_decrypt, product)]),
            },
            bench.n_turns,
            time.perf_counter,
        )
        name = f"decryptions on {os.cpu_count()} cores / on one, wall time, key of 3072"
        yield Row(name, took["threads"], "s", took["one thread"])


def releases(bench: Bench) -> Iterator[Row]:
    """Pads agreed on with every other name of a list, and put on the ciphertexts."""
    suite = make_suite(bench.keys[3072], 100_000, 16)
    update = plain.update(100_000)
    ciphertexts = tuple(UsedAgain(suite.n).take(suite.n_ciphertexts, os.urandom))
    no_mask = np.zeros(0, np.uint64)
    own = RoundKey.generate(os.urandom)
    peers = {number: RoundKey.generate(os.urandom).public for number in range(2, RINGS[-1] + 1)}

    def release(ring: int, mask: OneTimeMask) -> bytes:
        summed = pads(
            own,
            1,
            {number: public for number, public in peers.items() if number <= ring},
            roster_digest=bytes(32),
            list_digest=bytes(32),
            n_pieces=suite.n_ciphertexts,
            modulus=suite.n,
        )
        return mask.release(summed)

    contenders = {"A": Timed(lambda _: plain.seal(update))}
    for ring in RINGS:
        contenders[str(ring)] = Timed(
            partial(release, ring), lambda: OneTimeMask(suite, no_mask, ciphertexts)
        )
    took = in_turns(contenders, bench.n_turns)
    for ring in RINGS:
        name = f"pads and release, ring of {ring} / A of 100k weights, key of 3072"
        yield Row(name, took[str(ring)], "s", took["A"])


def wire(bench: Bench) -> Iterator[Row]:
    """Body and release beside the float32 values themselves."""
    stock = UsedAgain(int(bench.keys[3072].public_key.n))
    for n_values in SIZES:
        for bits in WIDTHS:
            suite = make_suite(bench.keys[3072], n_values, bits)
            reach, dream = WIRE.get((n_values, bits), NO_GOAL)
            mask = suite.prepare(os.urandom, stock)
            body = online_encrypt(suite, contribution(suite), mask)
            release = mask.release([0] * suite.n_ciphertexts)
            yield Row(
                f"bytes on the wire / float32, {weights(n_values)}, {bits} bits, key of 3072",
                len(body) + len(release),
                "bytes",
                4 * n_values,
                at_most=reach,
                dream=dream,
            )


def packed(bench: Bench, n_values: int) -> Iterator[Row]:
    """Suite `paillier`."""
    made = bench.sum_of(3072, n_values, 16, 16, "paillier")
    suite, key = made.suite, made.key
    update, values = plain.update(n_values), contribution(suite)
    mask, body, float_body = made.body, suite.encode_body(made.body), update.tobytes()
    stock = UsedAgain(suite.n)
    weight = float(update[0])
    encrypted = [key.public_key.encrypt(weight)] * bench.n_by_phe
    contenders = {
        "A": Timed(lambda _: plain.seal(update)),
        "float32 hop": Timed(lambda _: plain.hop(float_body, update)),
        "online": Timed(partial(online_encrypt, suite, values), lambda: with_mask(suite, mask)),
        "hop": Timed(lambda _: hop(suite, body, made.body)),
        "from stock": Timed(lambda _: suite.prepare(os.urandom, stock)),
        "cold": Timed(lambda _: cold_encrypt(suite, values)),
        "decrypt": Timed(lambda _: made.open()),
    }
    if not bench.short:
        contenders |= {
            "phe encrypt": Timed(
                lambda _: [key.public_key.encrypt(weight) for _ in range(bench.n_by_phe)]
            ),
            "phe decrypt": Timed(lambda _: [*map(key.decrypt, encrypted)]),
        }
    took = in_turns(contenders, bench.n_turns)
    case = f"suite paillier, {n_values} weights, 16 bits, key of 3072"
    yield Row(f"online encrypt / A, {case}", took["online"], "s", took["A"])
    yield Row(f"cold encrypt / A, {case}", took["cold"], "s", took["A"])
    name = f"preparation with Paillier randomness made ahead / A, {case}"
    yield Row(name, took["from stock"], "s", took["A"])
    yield Row(f"hop from bytes to bytes / float32, {case}", took["hop"], "s", took["float32 hop"])
    length = suite.body_bytes + suite.release_bytes
    yield Row(f"bytes on the wire / float32, {case}", length, "bytes", 4 * n_values)
    if bench.short:
        return
    scale = n_values / bench.n_by_phe
    name = f"{bench.by_phe} / cold encrypt, {case}"
    yield Row(name, took["phe encrypt"] * scale, "s", took["cold"])
    name = f"{bench.by_phe} / decrypt a sum of 16, {case}"
    yield Row(name, took["phe decrypt"] * scale, "s", took["decrypt"])


def memory(bench: Bench, bits: int) -> Iterator[Row]:
    """Most that is held for a moment with 1M weights, beside input and result."""
    made = bench.sum_of(3072, 1_000_000, bits, 1)
    suite, product = made.suite, made.product()
    values, mask = contribution(suite), with_mask(suite, made.body)
    length = suite.body_bytes
    body = suite.encode_body(made.body)
    peaks = {
        "preparation": temporaries(lambda: suite.prepare(os.urandom), length),
        "online encrypt": temporaries(lambda: mask.body(values), 0),
        "hop": temporaries(lambda: hop(suite, body, made.body), 2 * length),
        "opening": temporaries(
            lambda: suite.open(made.key, made.body, product, 1), 8 * suite.n_values
        ),
    }
    for name, peak in peaks.items():
        case = f"{name}, 1M weights, {bits} bits"
        yield Row(
            f"temporaries / float32 vector, {case}",
            peak,
            "bytes",
            4 * suite.n_values,
            at_most=TEMPORARIES,
        )


def once_a_key(bench: Bench) -> Iterator[Row]:
    """What a process does when it first meets a public key."""
    update = plain.update(100_000)
    moduli = {size: int(key.public_key.n) for size, key in bench.keys.items()}
    took = in_turns(
        {
            "A": Timed(lambda _: plain.seal(update)),
            "3072": Timed(lambda _: paillier.FixedBase(moduli[3072])),
            "2048": Timed(lambda _: paillier.FixedBase(moduli[2048])),
        },
        bench.n_turns,
    )
    for size in KEY_BITS:
        name = f"table of powers, once a process / A of 100k weights, key of {size}"
        yield Row(name, took[str(size)], "s", took["A"])


if __name__ == "__main__":
    main(measure, __doc__, strict=True)
