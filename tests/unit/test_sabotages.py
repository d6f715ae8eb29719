"""The list of sabotages fits the sources, and leaves no promise of the protocol out.

`scripts/sabotage` (and continuous integration) runs them.
"""

import re
from pathlib import Path

import pytest
from tests.sabotage.run import Sabotage, Verdict, sabotages, verdict_of

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")
ALL = sabotages()


def section(number: int) -> str:
    return PAGE.partition(f"\n## {number}. ")[2].partition("\n## ")[0]


@pytest.mark.parametrize("sabotage", ALL, ids=lambda sabotage: sabotage.what)
def test_a_sabotage_changes_one_line_and_names_a_test_that_is_there(sabotage: Sabotage) -> None:
    source = (PROJECT / sabotage.file).read_text(encoding="utf-8")
    old, new = source.splitlines(), sabotage.applied(source).splitlines()
    assert len(old) == len(new)
    assert sum(before != after for before, after in zip(old, new, strict=True)) == 1
    compile(sabotage.applied(source), sabotage.file, "exec")
    path, _, name = sabotage.test.partition("::")
    assert f"def {name.rpartition('::')[2]}(" in (PROJECT / path).read_text(encoding="utf-8")


def test_every_invariant_is_broken_by_one() -> None:
    invariants = {int(number) for number in re.findall(r"^(\d+)\. ", section(6), re.MULTILINE)}
    assert invariants == set(range(1, 11))
    assert {number for sabotage in ALL for number in sabotage.invariants} == invariants


def test_every_fault_and_lie_has_one() -> None:
    rows = set(re.findall(r"^\| (.+?) \| ", section(5), re.MULTILINE)) - {"fault or lie"}
    assert len(rows) > 20
    assert {row for sabotage in ALL for row in sabotage.rows} == rows


def test_a_line_that_is_gone_is_told() -> None:
    with pytest.raises(ValueError, match="has no line"):
        Sabotage(what="", file="f", line="x = 1", instead="x = 2", test="").applied("x = 10\n")


@pytest.mark.parametrize(
    ("line", "longest_s", "verdict"),
    [
        ("assert False", 60.0, Verdict.CAUGHT),
        ("pass", 60.0, Verdict.UNNOTICED),
        ("import time; time.sleep(60)", 1.0, Verdict.TIMED_OUT),
    ],
)
def test_a_test_that_hangs_is_not_taken_for_one_that_fails(
    line: str, longest_s: float, verdict: Verdict, tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {line}\n")
    assert verdict_of("test_it.py", tmp_path, longest_s) is verdict
    assert ("timed out" in verdict) == (verdict is Verdict.TIMED_OUT)
