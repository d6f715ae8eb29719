"""docs/threat-model.md names attacks and tests: all of them are there, and none is left out."""

import ast
import re
from pathlib import Path

import pytest
from tests.simulation.test_attacks import ATTACKS

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "threat-model.md").read_text(encoding="utf-8")
PROTOCOL = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")
SUITES = (
    "tests/integration/test_broker_dump.py",
    "tests/simulation/test_attacks.py",
    "tests/simulation/test_hostile_devices.py",
)

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::([\w:]+))?`", PAGE)))


def functions_of(file: str) -> set[str]:
    """Names of test functions, those of classes as `Class::test`."""
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    methods = {
        f"{parent.name}::{node.name}"
        for parent in tree.body
        if isinstance(parent, ast.ClassDef)
        for node in parent.body
        if isinstance(node, ast.FunctionDef)
    }
    return {name for name in functions | methods if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize(("file", "test"), NAMED, ids="::".join)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert (PROJECT / file).is_file()
    assert not test or test in functions_of(file)


@pytest.mark.parametrize("file", SUITES)
def test_no_test_of_the_suites_is_left_out(file: str) -> None:
    assert {f"{file}::{test}" for test in functions_of(file)} <= {"::".join(one) for one in NAMED}


def rows(text: str, heading: str) -> list[str]:
    """First cells of the table below this heading."""
    table = text.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def test_the_attacks_are_those_that_are_played() -> None:
    named = [
        name for row in rows(PAGE, "attack | what stands in its way") for name in row.split("; ")
    ]
    assert sorted(named) == sorted(ATTACKS)


def test_every_row_of_the_promise_names_its_tests() -> None:
    promise = rows(PROTOCOL, "who looks")
    assert len(promise) == 6
    assert rows(PAGE, "who looks") == promise
    table = PAGE.partition("| who looks |")[2].partition("\n\n")[0]
    assert [line for line in table.splitlines()[2:] if "::test_" not in line.split(" | ")[-1]] == []


def test_every_row_of_the_protocol_has_its_tests() -> None:
    assert rows(PAGE, "fault or lie") == rows(PROTOCOL, "fault or lie")


def test_every_row_of_enrolment_names_its_tests() -> None:
    table = PAGE.partition("| who tries what at enrolment |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    assert len(lines) >= 15
    assert [line for line in lines if "::test_" not in line.split(" | ")[-1]] == []
