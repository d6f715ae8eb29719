"""Tests that need a program are not forgotten where it is missing: the report names them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.fixture
def broker(mosquitto):
    return mosquitto

@pytest.mark.mosquitto
def test_marked():
    raise AssertionError

def test_through_a_fixture(broker):
    raise AssertionError

@pytest.mark.strace
def test_traced():
    raise AssertionError

def test_without():
    pass
"""
WITHOUT_PROGRAMS = """
import shutil, sys
import pytest

shutil.which = lambda *_, **__: None
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:randomly"]))
"""


def test_the_report_names_what_did_not_run_and_the_remedy(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PROGRAMS],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert "not run: test_some.py::test_marked" in lines
    assert "not run: test_some.py::test_through_a_fixture" in lines
    assert "install with: sudo apt-get install mosquitto" in lines
    assert "not run: test_some.py::test_traced" in lines
    assert "install with: sudo apt-get install strace" in lines
    assert lines[-1].startswith("1 passed, 3 deselected")
