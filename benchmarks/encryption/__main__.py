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

Ends with status 1 when a goal is missed or a row is missing. `--quick` takes three turns and leaves
out the longest cases, for a look: it tells what is missed and does not fail for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.encryption import bfv
from benchmarks.encryption.bench import FULL, KEY_BITS, QUICK, SIZES, WIDTHS, Bench
from benchmarks.encryption.device import cold, once_a_key, online, packed, releases, wire
from benchmarks.encryption.hops import hops
from benchmarks.encryption.names import expected
from benchmarks.encryption.others import against_bfv, against_phe
from benchmarks.encryption.sums import memory, opening

from fedring.lab.benchmarks import Row, main
from fedring.shared.encryption import generate_key, paillier


def measure(quick: bool) -> Iterator[Row]:
    """TenSEAL first: without it the run would not be whole."""
    tenseal = bfv.Bfv(bfv.load())
    keys = {bits: generate_key(bits, random=os.urandom) for bits in KEY_BITS}
    yield from rows(Bench(QUICK if quick else FULL, keys), tenseal)


def rows(bench: Bench, tenseal: bfv.Bfv) -> Iterator[Row]:
    """All rows."""
    for key in bench.keys.values():
        paillier.fixed_base(int(key.public_key.n))
    for n_values in SIZES:
        for bits in WIDTHS:
            yield from online(bench, n_values, bits)
            yield from cold(bench, n_values, bits)
            yield from hops(bench, n_values, bits)
    for key_bits in bench.extent.against_phe:
        yield from against_phe(bench, key_bits)
    yield from against_bfv(bench, tenseal)
    for key_bits, bits, n_contributors in bench.extent.sums:
        yield from opening(bench, key_bits, bits, n_contributors)
    for key_bits in KEY_BITS:
        yield from releases(bench, key_bits)
    yield from wire(bench)
    for n_values in bench.extent.packed:
        yield from packed(bench, n_values)
    for bits in WIDTHS:
        yield from memory(bench, bits)
    yield from once_a_key(bench)
    yield Row("sums that opened exactly", sum(bench.exact), at_least=len(bench.exact))


def names(quick: bool) -> Iterator[str]:
    """Of the rows that there must be."""
    return expected(QUICK if quick else FULL)


if __name__ == "__main__":
    main(measure, __doc__, names=names, strict=True)
