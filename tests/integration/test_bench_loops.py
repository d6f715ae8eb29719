"""The benchmark of event loops runs a fleet under watch; it fails for a row or goal missed.

How long callbacks take is told, not asserted: this machine does other things as well.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


def test_a_quick_run_times_the_callbacks_of_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.loops", "--quick", "--json", str(file)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert list(rows) == [
        f"{who}, {what}"
        for who in ("coordinator", "device")
        for what in (
            "longest callback, processor time",
            "longest callback, time",
            "callbacks of more than 50 ms",
            "callbacks",
        )
    ]
    for who in ("coordinator", "device"):
        assert rows[f"{who}, callbacks"]["value"] > 100
        longest = rows[f"{who}, longest callback, processor time"]
        assert longest["goal"] == "value at most 0.05"
        latest = rows[f"{who}, longest callback, time"]
        assert 0 < longest["value"] <= latest["value"] + 0.01
        for wall in (latest, rows[f"{who}, callbacks of more than 50 ms"]):
            assert wall["goal"] is None
            assert wall["no_goal"].startswith("it counts waiting for a core")
    told = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in told] == list(rows)


PROBE: dict[str, Any] = {"count": 9, "late": 0, "latest": 0.04, "longest": 0.03, "seen": {}}
PROGRAM = """
import json
import sys

from benchmarks.loops import __main__ as loops

found = json.loads(sys.argv.pop())
loops.watched = lambda folder, extent: found
loops.main(loops.measure, loops.__doc__, names=loops.names, strict=True)
"""


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"coordinator": PROBE, "b01": PROBE, "b02": PROBE}, ""),
        (
            {"coordinator": PROBE, "b01": PROBE, "b02": PROBE | {"longest": 0.051}},
            "Error: goals missed: device, longest callback, processor time\n",
        ),
        ({"coordinator": PROBE | {"latest": 0.3, "late": 2}, "b01": PROBE}, ""),
    ],
    ids=["fast", "a device is slow", "a coordinator waited for a core"],
)
def test_a_whole_run_fails_for_a_callback_that_takes_too_long(
    found: dict[str, dict[str, Any]], complaint: str
) -> None:
    """Of what the probes say: the fleet is left out."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(found)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (bool(complaint), complaint)
