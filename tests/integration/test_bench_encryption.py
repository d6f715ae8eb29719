"""The benchmark of encryption has all its rows; keys are small here, and TenSEAL is a stand-in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import json
import os

from benchmarks.encryption.__main__ import Bench, rows
from fedring.shared.encryption import generate_key


class TenSeal:
    def encrypt(self, pieces):
        return [sum(piece) for piece in pieces]

    def encrypt_to_bytes(self, pieces):
        return [bytes(90_000) for piece in pieces]

    def sum_is_exact(self, pieces, n_contributors):
        return True


key = generate_key(1024, random=os.urandom)
keys = {3072: key, 2048: key}
bench = Bench(n_turns=1, n_by_phe=1, opened=1_000, packed=(40,), keys=keys)
print(json.dumps([row.facts() for row in rows(bench, TenSeal())]))
"""


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    named = {row["name"]: row for row in found}
    assert len(named) == len(found)
    return named


def test_every_figure_to_reach_has_a_row_with_its_goal(rows: dict[str, dict[str, Any]]) -> None:
    goals = {
        ("online encrypt / A, 100k weights, 16 bits", 1.0, 0.5),
        ("online encrypt / A, 1M weights, 16 bits", 1.0, 0.5),
        ("cold encrypt / A, 100k weights, 16 bits, key of 3072", 160, 50),
        ("/ cold encrypt, 100k weights, 16 bits, key of 3072", 50_000, 200_000),
        ("/ decrypt a sum of 16, 100k weights, 16 bits, key of 3072", 4_000, 8_000),
        ("hop add / float32, 100k weights, 16 bits", 12, 5),
        ("hop add / float32, 1M weights, 16 bits", 2, 1.5),
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
    assert rows["sums that opened exactly"]["holds"]
    for name, row in rows.items():
        if name.startswith("temporaries"):
            assert row["holds"], name
    for size in ("10k", "100k", "1M"):
        for bits in (8, 16):
            assert rows[f"online encrypt / A, {size} weights, {bits} bits"]["baseline"] > 0
            for key in (2048, 3072):
                case = f"{size} weights, {bits} bits, key of {key}"
                assert rows[f"cold encrypt / A, {case}"]["baseline"] > 0
    for ring in (8, 16, 64):
        assert rows[f"pads and release, ring of {ring} / A of 100k weights, key of 3072"]["value"]
    for n_contributors, bits in ((1, 16), (16, 16), (1024, 16), (512, 8)):
        case = f"1k weights, {bits} bits, key of 3072"
        assert rows[f"open a sum of {n_contributors} / A, {case}"]["baseline"] > 0
