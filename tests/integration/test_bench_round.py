"""The benchmark of a round runs both fleets and leaves rows, whatever the figures are."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_a_quick_run_gives_rows_for_both_fleets(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.round", "--quick", "--json", str(file)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    compared = [row for row in rows.values() if row["baseline"] is not None]
    assert len(compared) == 5
    for row in rows.values():
        assert row.keys() >= {"name", "value", "baseline", "ratio", "goal", "holds"}
        assert row.keys() >= {"machine", "versions"}
        assert row["value"] >= 0
    time = rows["round, time"]
    phases = [row["value"] for name, row in rows.items() if name.startswith("time for: ")]
    assert len(phases) == 7
    assert time["goal"] == "ratio at most 3"
    assert 0 < max(phases) < time["value"] * 2
