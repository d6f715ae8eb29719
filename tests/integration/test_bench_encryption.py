"""The benchmark of encryption has all its rows; keys are small here, and TenSEAL is a stand-in."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import json
import os

import numpy as np
from attrs import evolve
from benchmarks.encryption.__main__ import rows
from benchmarks.encryption.bench import FULL, Bench, Same
from benchmarks.encryption.names import expected
from fedring.lab.benchmarks import differences
from fedring.shared.encryption import generate_key


class TenSeal:
    def encrypt(self, pieces):
        return [sum(piece) for piece in pieces]

    def encrypt_to_bytes(self, pieces):
        return [bytes(90_000) for piece in pieces]

    def add_up(self, vectors):
        return np.sum(vectors, axis=0, dtype=np.int64)


key = generate_key(1024, random=os.urandom)
keys = {3072: key, 2048: key}
extent = evolve(
    FULL,
    n_turns=1,
    n_by_phe=1,
    opened=1_000,
    packed=(40,),
    same=(Same(2, 100, 16), Same(3, 100, 8), Same(1024, 10, 16, "extreme")),
)
bench = Bench(extent, keys)
found = list(rows(bench, TenSeal()))
print(json.dumps([row.facts() for row in found]))
print(json.dumps([differences(expected(extent), rows) for rows in (found, found[1:])]))
"""
PHE = "phe, each weight by itself, 1 timed and scaled"


@frozen
class Found:
    """What a run gave.

    Attributes:
        rows: by name.
        complaints: of its rows, and of its rows without the first.
    """

    rows: dict[str, dict[str, Any]]
    complaints: list[list[str]]


@pytest.fixture(scope="module")
def found() -> Found:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows, complaints = map(json.loads, done.stdout.splitlines())
    named = {row["name"]: row for row in rows}
    assert len(named) == len(rows)
    return Found(named, complaints)


@pytest.fixture
def rows(found: Found) -> dict[str, dict[str, Any]]:
    return found.rows


def names() -> Iterator[str]:
    """All rows that there must be, written out once more beside the benchmark's own list."""
    for size, bits in product(("10k", "100k", "1M"), (16, 8)):
        case = f"{size} weights, {bits} bits"
        yield f"online encrypt / A, {case}"
        yield f"float32 to integers, before it / A, {case}"
        yield f"cold encrypt / A, {case}, key of 3072"
        yield f"cold encrypt / A, {case}, key of 2048"
        yield f"preparation / A, {case}, key of 3072"
        yield f"preparation with Paillier randomness made ahead / A, {case}, key of 3072"
        yield f"hop add / float32, {case}"
        yield f"hop from bytes to bytes / float32, {case}"
        yield f"hop chunk by chunk / float32, {case}"
        yield f"hop of a member, chunks verified, added, signed / float32 chunks, {case}"
        yield f"bytes on the wire / float32, {case}, key of 3072"
    for key in (3072, 2048):
        case = f"100k weights, 16 bits, key of {key}"
        yield f"{PHE} / cold encrypt, {case}"
        yield f"{PHE} / decrypt a sum of 16, {case}"
        yield f"table of powers, once a process / A of 100k weights, key of {key}"
        yield f"decryptions on all cores / on one, wall time, key of {key}"
        for ring in (8, 16, 64):
            yield f"pads and release, ring of {ring} / A of 100k weights, key of {key}"
        for n_contributors, bits in ((1, 16), (16, 16), (1024, 16), (512, 8)):
            yield f"open a sum of {n_contributors} / A, 1k weights, {bits} bits, key of {key}"
    yield "TenSEAL BFV, encrypted / cold encrypt, 100k weights, 16 bits, key of 3072"
    yield "TenSEAL BFV, encrypted and as bytes / cold encrypt, 100k weights, 16 bits, key of 3072"
    yield "TenSEAL BFV / bytes on the wire, 100k weights, 16 bits, key of 3072"
    yield "TenSEAL BFV gives the same sum of 2 random vectors, 100 weights, 16 bits"
    yield "TenSEAL BFV gives the same sum of 3 random vectors, 100 weights, 8 bits"
    yield "TenSEAL BFV gives the same sum of 1024 extreme vectors, 10 weights, 16 bits"
    case = "suite paillier, 40 weights, 16 bits, key of 3072"
    yield f"online encrypt / A, {case}"
    yield f"cold encrypt / A, {case}"
    yield f"preparation with Paillier randomness made ahead / A, {case}"
    yield f"hop from bytes to bytes / float32, {case}"
    yield f"bytes on the wire / float32, {case}"
    yield f"{PHE} / cold encrypt, {case}"
    yield f"{PHE} / decrypt a sum of 16, {case}"
    for bits, most in ((16, 1024), (8, 512)):
        for part in ("preparation", "online encrypt", "hop", "opening"):
            yield f"temporaries / float32 vector, {part}, 1M weights, {bits} bits"
            yield f"resident memory that is added / float32 vector, {part}, 1M weights, {bits} bits"
        case = f"{most} releases multiplied and opened, 1M weights, {bits} bits"
        yield f"temporaries / float32 vector, {case}"
        yield f"resident memory that is added / float32 vector, {case}"
    yield "sums that opened exactly"


def test_there_are_exactly_these_rows(rows: dict[str, dict[str, Any]]) -> None:
    assert sorted(rows) == sorted(names())


def test_a_row_less_is_missed(found: Found) -> None:
    first = next(iter(found.rows))
    assert found.complaints == [[], [f"rows missing: {first}"]]


def test_every_figure_to_reach_has_a_row_with_its_goal(rows: dict[str, dict[str, Any]]) -> None:
    goals = {
        ("online encrypt / A, 100k weights, 16 bits", 1.0, 0.5),
        ("online encrypt / A, 1M weights, 16 bits", 1.0, 0.5),
        ("cold encrypt / A, 100k weights, 16 bits, key of 3072", 160, 50),
        ("/ cold encrypt, 100k weights, 16 bits, key of 3072", 50_000, 200_000),
        ("/ decrypt a sum of 16, 100k weights, 16 bits, key of 3072", 4_000, 8_000),
        ("hop add / float32, 100k weights, 16 bits", 12, 5),
        ("hop add / float32, 1M weights, 16 bits", 2, 1.5),
        ("hop chunk by chunk / float32, 100k weights, 16 bits", 12, 5),
        ("hop chunk by chunk / float32, 1M weights, 16 bits", 2, 1.5),
        ("bytes on the wire / float32, 100k weights, 16 bits, key of 3072", 1.05, 0.86),
        ("bytes on the wire / float32, 1M weights, 16 bits, key of 3072", 1.01, None),
        ("bytes on the wire / float32, 100k weights, 8 bits, key of 3072", 0.75, None),
        ("TenSEAL BFV, encrypted / cold encrypt, 100k weights, 16 bits, key of 3072", 1.2, 4),
        ("TenSEAL BFV / bytes on the wire, 100k weights, 16 bits, key of 3072", 4, None),
    }
    for name, goal, dream in goals:
        (row,) = [
            row
            for whole, row in rows.items()
            if whole.endswith(name) and row["goal"] and row["goal"].endswith(f" {goal:g}")
        ]
        assert row["dream"] == dream
        assert row["ratio"] > 0


def test_what_does_not_depend_on_the_machine(rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        if name.startswith(("temporaries", "sums that", "TenSEAL BFV gives")):
            assert row["holds"], name
        elif not name.startswith("resident"):
            assert row["value"] > 0, name
            assert row["baseline"] > 0, name
