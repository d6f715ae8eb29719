"""Learning through simulated rings is learning in the clear, model by model."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fedring.lab.simulate.cli import command


def learn(*options: str) -> str:
    result = CliRunner().invoke(command, ["learn", "--devices", "6", *options])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("bits", ["8", "16"])
def test_rings_and_plaintext_give_the_same_models(bits: str) -> None:
    shared = ("--rounds", "2", "--bits", bits, "--seed", "5")
    assert learn(*shared, "--ring-size", "3", "--threshold", "2") == learn(*shared, "--plaintext")


def test_another_seed_gives_other_models() -> None:
    assert learn("--rounds", "1", "--plaintext") != learn(
        "--rounds", "1", "--plaintext", "--seed=1"
    )


def test_the_report_counts_training_rounds_only(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    learn("--rounds", "2", "--plaintext", "--report", str(report))
    entries = json.loads(report.read_text())["rounds"]
    assert [entry["round"] for entry in entries] == [2, 3]
    assert entries[-1]["accuracy"] > 0.5


def test_a_threshold_that_no_ring_meets_is_said_at_once() -> None:
    result = CliRunner().invoke(command, ["learn", "--ring-size", "4", "--threshold", "4"])
    assert result.exit_code == 2
    assert "no ring of 4 meets threshold 4" in result.output
