"""What scripts/setup says on machines that are not ready, each played with a PATH of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TOOLS = ["bash", "cat", "dirname", "env", "flock", "grep", "sha256sum", "tail"]
NO_INDEX = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_CACHE_DIR": "1",
    "PIP_RETRIES": "0",
}


class Machine:
    """A clone and a PATH on which only the most basic tools can be found."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.tools = folder / "bin"
        self.tools.mkdir()
        (self.clone / "scripts").mkdir(parents=True)
        shutil.copy(PROJECT / "scripts" / "setup", self.clone / "scripts")
        shutil.copy(PROJECT / "pyproject.toml", self.clone)
        self.has_programs(*TOOLS)

    def has_programs(self, *names: str) -> None:
        for name in names:
            found = shutil.which(name)
            assert found is not None
            (self.tools / name).symlink_to(found)

    def has_everything_but_python(self) -> None:
        for program in Path("/usr/bin").iterdir():
            if "python" not in program.name and not (self.tools / program.name).exists():
                (self.tools / program.name).symlink_to(program)

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


def lacks_ensurepip(machine: Machine) -> str:
    """Python as Debian packs it, with venv's other half split off; gives its version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine.has(
        f"python{version}",
        f'case "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"',
    )
    return version


def test_an_interpreter_without_ensurepip_names_its_package(machine: Machine) -> None:
    version = lacks_ensurepip(machine)
    done = machine.set_up()
    assert done.returncode == 2
    assert done.stderr == (
        f"fedring: error: Python {version} is here, but nothing that puts pip into a virtual "
        "environment\n"
        f"fedring: hint: sudo apt-get install python{version}-venv\n"
    )


@pytest.mark.apt
def test_debian_without_ensurepip_gets_pip_from_apt_without_root(machine: Machine) -> None:
    version = lacks_ensurepip(machine)
    machine.has_everything_but_python()
    done = machine.set_up(**NO_INDEX)
    assert f"Python {version} comes without pip: apt fetches it into .venv\n" in done.stderr
    assert "fedring: error: packages could not be downloaded" in done.stderr
    python = machine.clone / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--version"], check=True, capture_output=True)
    assert not (machine.clone / ".venv" / "debian").exists()


def test_debian_without_ensurepip_and_without_network_says_what_to_do(machine: Machine) -> None:
    version = lacks_ensurepip(machine)
    machine.has_programs("dpkg-deb", "mkdir", "rm", "sh")
    machine.has("apt-get", "echo 'E: Failed to fetch' >&2; exit 100")
    done = machine.set_up()
    assert done.returncode == 2
    log = machine.clone / ".venv" / "debian.log"
    assert done.stderr.endswith(
        f"fedring: error: Python {version} comes without pip, and apt could not fetch it: "
        f"see {log}\n"
        f"fedring: hint: check the network, or: sudo apt-get install python{version}-venv\n"
    )
    assert "Failed to fetch" in log.read_text()


def test_an_unreachable_package_index_is_said_clearly(machine: Machine) -> None:
    (machine.tools / f"python3.{sys.version_info.minor}").symlink_to(sys.executable)
    done = machine.set_up(**NO_INDEX)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "fedring: error: packages could not be downloaded" in done.stderr
    assert "fedring: hint: check the network" in done.stderr
    assert "Traceback" not in done.stderr
