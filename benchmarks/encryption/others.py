"""Beside others: phe, one ciphertext for each weight, and TenSEAL's BFV."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from benchmarks.encryption import bfv, plain
from benchmarks.encryption.bench import NO_GOAL, Bench, Same, by_phe
from benchmarks.encryption.parties import (
    cold_encrypt,
    contribution,
    contributions,
    extreme,
    make_suite,
)
from benchmarks.encryption.timing import Timed, in_turns

from fedring.lab.benchmarks import Row


def against_phe(bench: Bench, key_bits: int) -> Iterator[Row]:
    """100k weights of 16 bits, beside one ciphertext of phe for each weight."""
    n_values = 100_000
    key = bench.keys[key_bits]
    made = bench.sum_of(key_bits, n_values, 16, 16)
    values = contribution(made.suite)
    floats = [float(weight) for weight in plain.update(bench.extent.n_by_phe)]
    encrypted = [key.public_key.encrypt(weight) for weight in floats]
    took = in_turns(
        {
            "phe encrypt": Timed(lambda _: [key.public_key.encrypt(each) for each in floats]),
            "cold": Timed(lambda _: cold_encrypt(made.suite, values)),
            "phe decrypt": Timed(lambda _: [key.decrypt(each) for each in encrypted]),
            "decrypt": Timed(lambda _: made.open()),
        },
        bench.extent.n_turns,
    )
    scale = n_values / bench.extent.n_by_phe
    case = f"100k weights, 16 bits, key of {key_bits}"
    goals = ((50_000.0, 200_000.0), (4_000.0, 8_000.0)) if key_bits == 3072 else (NO_GOAL, NO_GOAL)
    names = ("phe encrypt", "cold"), ("phe decrypt", "decrypt")
    for (theirs, ours), (reach, dream) in zip(names, goals, strict=True):
        what = "cold encrypt" if ours == "cold" else "decrypt a sum of 16"
        yield Row(
            f"{by_phe(bench.extent)} / {what}, {case}",
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
        bench.extent.n_turns,
    )
    case = "100k weights, 16 bits, key of 3072"
    name = f"TenSEAL BFV, encrypted / cold encrypt, {case}"
    yield Row(name, took["bfv"], "s", took["cold"], at_least=1.2, dream=4)
    name = f"TenSEAL BFV, encrypted and as bytes / cold encrypt, {case}"
    yield Row(name, took["bfv as bytes"], "s", took["cold"])
    length = sum(map(len, tenseal.encrypt_to_bytes(pieces)))
    ours = suite.body_bytes + suite.release_bytes
    yield Row(f"TenSEAL BFV / bytes on the wire, {case}", length, "bytes", ours, at_least=4)
    for same in bench.extent.same:
        yield _same_sum(bench, tenseal, same)


def _same_sum(bench: Bench, tenseal: bfv.Bfv, same: Same) -> Row:
    """Whether `Suite.open` and BFV, each from its own ciphertexts, give the same sum."""
    n = same.n_contributors
    suite = make_suite(bench.keys[3072], same.n_values, same.bits)
    vectors = [extreme(suite)] * n if same.kind == "extreme" else list(contributions(suite, n))
    ours, theirs = bench.sum_of_these(vectors, same.bits).open(), tenseal.add_up(vectors)
    name = (
        f"TenSEAL BFV gives the same sum of {n} {same.kind} vectors, "
        f"{same.n_values} weights, {same.bits} bits"
    )
    return Row(name, np.array_equal(ours, theirs), at_least=1)
