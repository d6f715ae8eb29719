"""What scripts/setup says on machines that are not ready, each played with a PATH of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TOOLS = ["bash", "cat", "dirname", "env", "flock", "grep", "sha256sum", "tail"]


class Machine:
    """A clone and a PATH on which only the most basic tools can be found."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.tools = folder / "bin"
        self.tools.mkdir()
        (self.clone / "scripts").mkdir(parents=True)
        shutil.copy(PROJECT / "scripts" / "setup", self.clone / "scripts")
        shutil.copy(PROJECT / "pyproject.toml", self.clone)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.tools / tool).symlink_to(found)

    def has(self, name: str, script: str) -> None:
        program = self.tools / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.clone / "scripts" / "setup", "lab"],
            env={"PATH": str(self.tools), "HOME": str(self.clone), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_name_that_does_not_run_is_no_interpreter(machine: Machine) -> None:
    for version in ("3.11", "3.12", "3.13"):
        machine.has(f"python{version}", f"echo 'pyenv: python{version}: not found' >&2; exit 127")
    done = machine.set_up()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "fedring: error: none of Python 3.11 3.12 3.13 runs on this machine\n"
        "fedring: hint: sudo apt-get install python3 python3-venv\n"
    )


def test_an_interpreter_without_ensurepip_names_its_package(machine: Machine) -> None:
    # Debian splits venv's other half off; the script's own question finds it missing.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine.has(
        f"python{version}",
        f'case "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"',
    )
    done = machine.set_up()
    assert done.returncode == 2
    assert done.stderr == (
        f"fedring: error: Python {version} is here, but cannot make virtual environments\n"
        f"fedring: hint: sudo apt-get install python{version}-venv\n"
    )


def test_an_unreachable_package_index_is_said_clearly(machine: Machine) -> None:
    (machine.tools / f"python3.{sys.version_info.minor}").symlink_to(sys.executable)
    done = machine.set_up(
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_CONFIG_FILE=os.devnull,
        PIP_NO_CACHE_DIR="1",
        PIP_RETRIES="0",
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "fedring: error: packages could not be downloaded" in done.stderr
    assert "fedring: hint: check the network" in done.stderr
    assert "Traceback" not in done.stderr
