"""The benchmark of event loops runs a fleet under watch and leaves rows, whatever they say."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_a_quick_run_times_the_callbacks_of_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.loops", "--quick", "--json", str(file)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    for who in ("coordinator", "device"):
        assert rows[f"{who}, callbacks"]["value"] > 100
        longest = rows[f"{who}, longest callback, processor time"]
        assert longest["goal"] == "value at most 0.05"
        assert 0 < longest["value"] <= rows[f"{who}, longest callback, time"]["value"] + 0.01
