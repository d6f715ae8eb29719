"""Rows of benchmarks, and the script that starts one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedring.lab.benchmarks import Row

PROJECT = Path(__file__).parents[3]
PROGRAM = '''
"""Measures nothing much."""

from fedring.lab.benchmarks import Row, main


def measure(quick):
    yield Row("speed", 6.0, "s", baseline=2.0, at_most=3)
    yield Row("length", 1.0 if quick else 10.0)


main(measure, __doc__)
'''


@pytest.mark.parametrize(
    ("row", "ratio", "goal", "holds"),
    [
        (Row("a", 6.0, baseline=2.0, at_most=3), 3.0, "ratio at most 3", True),
        (Row("a", 6.1, baseline=2.0, at_most=3), 3.05, "ratio at most 3", False),
        (Row("a", 90.0, at_least=91), None, "value at least 91", False),
        (Row("a", 5.0, at_least=4, at_most=6), None, "value at most 6 and at least 4", True),
        (Row("a", 5.0), None, None, None),
    ],
)
def test_a_goal_is_for_the_ratio_where_there_is_one(
    row: Row, ratio: float | None, goal: str | None, holds: bool | None
) -> None:
    assert (row.ratio, row.goal, row.holds) == (ratio, goal, holds)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Row("a", 6.0, baseline=2.0, at_most=4, dream=3), "holds; dream: 3: holds"),
        (Row("a", 6.1, baseline=2.0, at_most=4, dream=3), "holds; dream: 3: not yet"),
        (Row("a", 5.0, at_least=4, dream=5), "holds; dream: 5: holds"),
        (Row("a", 3.0, at_least=4, dream=5), "MISSED; dream: 5: not yet"),
    ],
)
def test_a_dream_is_judged_like_the_goal(row: Row, text: str) -> None:
    assert row.text().endswith(text)
    assert row.facts()["dream"] == row.dream


def test_a_row_says_why_it_has_no_goal() -> None:
    row = Row("a", 5.0, "s", no_goal="others use the machine")
    assert row.text() == "a: 5 s; no goal: others use the machine"
    assert row.facts()["no_goal"] == "others use the machine"


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ('["speed", "length", "width"]', "Error: rows missing: width\n"),
        ('["speed"]', "Error: rows that nobody expects: length\n"),
        (
            '["speed", "speed", "depth"]',
            "Error: rows missing: speed; depth\nrows that nobody expects: length\n",
        ),
        ('["length", "speed"]', ""),
    ],
)
@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_a_benchmark_fails_for_a_row_missing_or_unknown(
    tmp_path: Path, names: str, complaint: str, options: list[str]
) -> None:
    program, file = tmp_path / "some.py", tmp_path / "rows.json"
    program.write_text(PROGRAM.replace("__doc__)", f"__doc__, names=lambda _quick: {names})"))
    done = subprocess.run(
        [sys.executable, program, "--json", file, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (bool(complaint), complaint)
    assert len(done.stdout.splitlines()) == len(json.loads(file.read_text())) == 2


def test_a_strict_benchmark_fails_for_a_goal_missed(tmp_path: Path) -> None:
    program, file = tmp_path / "some.py", tmp_path / "rows.json"
    strict = PROGRAM.replace("__doc__)", "__doc__, strict=True)").replace("at_most=3", "at_most=2")
    program.write_text(strict)

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), "--json", str(file), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = run()
    assert done.returncode == 1
    assert done.stderr == "Error: goals missed: speed\n"
    assert len(json.loads(file.read_text())) == 2
    assert run("--quick").returncode == 0


def test_a_benchmark_prints_rows_and_writes_them(tmp_path: Path) -> None:
    program, file = tmp_path / "some.py", tmp_path / "rows.json"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, "--quick", "--json", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "speed: 6 s; 3 times 2 s; goal: ratio at most 3: holds",
        "length: 1",
    ]
    rows = json.loads(file.read_text())
    assert [row["name"] for row in rows] == ["speed", "length"]
    for row in rows:
        assert {"value", "baseline", "ratio", "goal", "holds", "no_goal"} <= row.keys()
        assert row["machine"]["cores"] >= 1
        assert row["versions"]["python"].startswith("3.")
        assert row["quick"] is True


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "scripts" / "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_script_lists_what_there_is() -> None:
    done = bench()
    assert done.returncode == 0
    assert done.stdout.startswith("scripts/bench NAME [--quick] [--json FILE]")


def test_an_unknown_benchmark() -> None:
    done = bench("nothing")
    assert done.returncode == 2
    assert 'fedring: error: there is no benchmark "nothing"' in done.stderr
