"""What a device does: online and cold encryption, pads and release, bytes; suite `paillier`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import numpy as np
from benchmarks.encryption import plain
from benchmarks.encryption.bench import (
    COLD,
    KEY_BITS,
    NO_GOAL,
    ONLINE,
    RINGS,
    SIZES,
    WIDTHS,
    WIRE,
    Bench,
    by_phe,
    weights,
)
from benchmarks.encryption.parties import (
    UsedAgain,
    cold_encrypt,
    contribution,
    hop,
    make_suite,
    online_encrypt,
    with_mask,
)
from benchmarks.encryption.timing import Timed, in_turns

from fedring.lab.benchmarks import Row
from fedring.shared.encryption import OneTimeMask, paillier
from fedring.shared.numbers import quantise
from fedring.shared.pairwise import RoundKey, pads


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
        2 * bench.extent.n_turns,
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
        bench.extent.n_turns,
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


def releases(bench: Bench, key_bits: int) -> Iterator[Row]:
    """Pads agreed on with every other name of a list, and put on the ciphertexts."""
    suite = make_suite(bench.keys[key_bits], 100_000, 16)
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
    took = in_turns(contenders, bench.extent.n_turns)
    for ring in RINGS:
        name = f"pads and release, ring of {ring} / A of 100k weights, key of {key_bits}"
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
    encrypted = [key.public_key.encrypt(weight)] * bench.extent.n_by_phe
    contenders = {
        "A": Timed(lambda _: plain.seal(update)),
        "float32 hop": Timed(lambda _: plain.hop(float_body, update)),
        "online": Timed(partial(online_encrypt, suite, values), lambda: with_mask(suite, mask)),
        "hop": Timed(lambda _: hop(suite, body, made.body)),
        "from stock": Timed(lambda _: suite.prepare(os.urandom, stock)),
        "cold": Timed(lambda _: cold_encrypt(suite, values)),
        "decrypt": Timed(lambda _: made.open()),
    }
    if bench.extent.packed_by_phe:
        contenders |= {
            "phe encrypt": Timed(
                lambda _: [key.public_key.encrypt(weight) for _ in range(bench.extent.n_by_phe)]
            ),
            "phe decrypt": Timed(lambda _: [*map(key.decrypt, encrypted)]),
        }
    took = in_turns(contenders, bench.extent.n_turns)
    case = f"suite paillier, {n_values} weights, 16 bits, key of 3072"
    yield Row(f"online encrypt / A, {case}", took["online"], "s", took["A"])
    yield Row(f"cold encrypt / A, {case}", took["cold"], "s", took["A"])
    name = f"preparation with Paillier randomness made ahead / A, {case}"
    yield Row(name, took["from stock"], "s", took["A"])
    yield Row(f"hop from bytes to bytes / float32, {case}", took["hop"], "s", took["float32 hop"])
    length = suite.body_bytes + suite.release_bytes
    yield Row(f"bytes on the wire / float32, {case}", length, "bytes", 4 * n_values)
    if not bench.extent.packed_by_phe:
        return
    scale = n_values / bench.extent.n_by_phe
    name = f"{by_phe(bench.extent)} / cold encrypt, {case}"
    yield Row(name, took["phe encrypt"] * scale, "s", took["cold"])
    name = f"{by_phe(bench.extent)} / decrypt a sum of 16, {case}"
    yield Row(name, took["phe decrypt"] * scale, "s", took["decrypt"])


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
        bench.extent.n_turns,
    )
    for size in KEY_BITS:
        name = f"table of powers, once a process / A of 100k weights, key of {size}"
        yield Row(name, took[str(size)], "s", took["A"])
