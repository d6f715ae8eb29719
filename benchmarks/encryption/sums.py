"""What a coordinator does with a sum; how much memory everybody's part takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen
from benchmarks.encryption import plain
from benchmarks.encryption.bench import TEMPORARIES, Bench, weights
from benchmarks.encryption.memory import resident, temporaries
from benchmarks.encryption.parties import UsedAgain, contribution, hop, with_mask
from benchmarks.encryption.timing import Timed, in_turns

from fedring.lab.benchmarks import Row
from fedring.shared.encryption import paillier

BUSY: Final = "threads gain nothing while other work has the cores"
WHOLE_PAGES: Final = "it counts what the allocators of Python, numpy and GMP keep for later as well"


def opening(bench: Bench, key_bits: int, bits: int, n_contributors: int) -> Iterator[Row]:
    """A sum of few or many, beside A of as many: unseal, unpack, add."""
    sealed = plain.Sealed(bench.extent.opened)
    made = bench.sum_of(key_bits, bench.extent.opened, bits, n_contributors)
    product = made.product()
    took = in_turns(
        {
            "A": Timed(lambda _: sealed.open(n_contributors)),
            "open": Timed(lambda _: made.open()),
        },
        bench.extent.n_turns,
    )
    case = f"{weights(bench.extent.opened)}, {bits} bits, key of {key_bits}"
    yield Row(f"open a sum of {n_contributors} / A, {case}", took["open"], "s", took["A"])
    if n_contributors == 1:
        took = in_turns(
            {
                "threads": Timed(lambda _: paillier.decrypt(made.key, product)),
                "one thread": Timed(lambda _: [*map(made.key.raw_decrypt, product)]),
            },
            bench.extent.n_turns,
            time.perf_counter,
        )
        name = f"decryptions on all cores / on one, wall time, key of {key_bits}"
        yield Row(name, took["threads"], "s", took["one thread"], no_goal=BUSY)


@frozen
class Part:
    """Something whose memory is looked at.

    Attributes:
        run: what is done.
        result_bytes: of what it gives.
    """

    run: Callable[[], object]
    result_bytes: int


def memory(bench: Bench, bits: int) -> Iterator[Row]:
    """Most that is held for a moment with 1M weights, beside input and result.

    The many releases whose product is opened are all but one encryptions of zeros: this takes as
    long and as much memory as others, and spares making as many bodies.
    """
    made = bench.sum_of(3072, 1_000_000, bits, 1)
    suite, product, n_contributors = made.suite, made.product(), made.suite.max_contributors
    values = contribution(suite)
    length, sum_length = suite.body_bytes, 8 * suite.n_values
    body = suite.encode_body(made.body)
    zeros = UsedAgain(suite.n).take(suite.n_ciphertexts, os.urandom)
    others = paillier.encode_ciphertexts(zeros, suite.n)
    many = [*made.releases, *(bytes(bytearray(others)) for _ in range(n_contributors - 1))]
    online = [with_mask(suite, made.body) for _ in range(2)]
    parts = {
        "preparation": Part(lambda: suite.prepare(os.urandom), length),
        "online encrypt": Part(lambda: online.pop().body(values), 0),
        "hop": Part(lambda: hop(suite, body, made.body), 2 * length),
        "opening": Part(lambda: suite.open(made.key, made.body, product, 1), sum_length),
        f"{n_contributors} releases multiplied and opened": Part(
            lambda: suite.open(made.key, made.body, suite.product(many), n_contributors),
            sum_length,
        ),
    }
    for name, part in parts.items():
        case = f"{name}, 1M weights, {bits} bits"
        yield Row(
            f"temporaries / float32 vector, {case}",
            temporaries(part.run, part.result_bytes),
            "bytes",
            4 * suite.n_values,
            at_most=TEMPORARIES,
        )
        yield Row(
            f"resident memory that is added / float32 vector, {case}",
            resident(part.run, part.result_bytes),
            "bytes",
            4 * suite.n_values,
            no_goal=WHOLE_PAGES,
        )
