"""With the same seed, processes on a broker learn what a simulation without any cipher learns."""

import json
import subprocess
from pathlib import Path

import pytest

from fedring.lab.programs import FEDRING

FLEET = ("--devices", "6", "--rounds", "2", "--ring-size", "3", "--threshold", "2", "--seed", "3")


def rounds_of(report: Path, *command: str) -> list[dict[str, float]]:
    subprocess.run(
        [*FEDRING, *command, *FLEET, "--report", str(report)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    rounds: list[dict[str, float]] = json.loads(report.read_text())["rounds"]
    return rounds


@pytest.mark.parametrize("options", [[], ["--litert"]], ids=["numpy", "litert beside numpy"])
def test_the_demo_is_as_good_as_plaintext_round_by_round(
    options: list[str], tmp_path: Path
) -> None:
    output = str(tmp_path / "output")
    demo = rounds_of(tmp_path / "demo.json", "demo", "--plain", "--output", output, *options)
    plain = rounds_of(tmp_path / "plain.json", "simulate", "learn", "--plaintext")
    assert len(demo) == len(plain) == 2
    for in_demo, in_plain in zip(demo, plain, strict=True):
        assert abs(in_demo["accuracy"] - in_plain["accuracy"]) < 0.005
        assert abs(in_demo["macro_f1"] - in_plain["macro_f1"]) < 0.005
