"""What docs/boards.md installs from the clone, installed: into empty environments, by real pip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.boards.page import command, prose

PROJECT = Path(__file__).parents[2]
SYSTEM = ("/opt/fedring", "/etc/systemd/system")
"""Places of the page that lie in a folder of the test instead."""


class Machine:
    """A machine in a folder, with the clone in its user's home.

    `sudo` does what it is told as whoever runs this, and `apt-get` only writes it down.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.home, programs = folder / "root", folder / "home", folder / "bin"
        for place in (self.root / "opt", self.root / "etc/systemd/system", self.home, programs):
            place.mkdir(parents=True)
        (self.home / "fedring").symlink_to(PROJECT)
        self.asked_for = folder / "packages"
        for name, text in {
            "sudo": 'exec "$@"',
            "apt-get": f'echo "$*" >>{self.asked_for}',
            "python3": f'exec {sys.executable} "$@"',
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PIP_NO_COMPILE": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        } | {key: value for key, value in os.environ.items() if key in INDEX}

    def type(self, text: str) -> str:
        """Have a shell do what the page says; gives what was printed."""
        for place in SYSTEM:
            text = text.replace(place, f"{self.root}{place}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


INDEX = {
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
}
"""Where this machine's pip gets its packages."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_server_runs_what_was_installed_on_it(machine: Machine) -> None:
    machine.type(command("install"))
    assert machine.asked_for.read_text().split() == ["install", "mosquitto", "python3-venv"]
    assert machine.type("/opt/fedring/bin/fedring --version") == "fedring 0.1.0\n"
    for words in ("coordinator run", "coordinator apply", "coordinator requests"):
        assert "Usage: " in machine.type(f"/opt/fedring/bin/fedring {words} --help")
    units = machine.root / "etc/systemd/system"
    assert {path.name for path in units.iterdir()} == {
        "fedring-coordinator.service",
        "fedring-enrolment.service",
    }
    started = (units / "fedring-coordinator.service").read_text()
    assert "\nExecStart=/opt/fedring/bin/fedring coordinator run " in started


def test_the_laptop_has_all_that_the_page_types_there(machine: Machine) -> None:
    machine.type("python3 -m venv /opt/fedring")
    pip = prose("pip install ~/fedring'[fleet]'")
    machine.type(f"/opt/fedring/bin/{pip}")
    fedring = "/opt/fedring/bin/fedring"
    lines = command("laptop").splitlines() + command("sign").splitlines()
    lines += command("revoke").splitlines() + command("update").splitlines()
    asked = {" ".join(line.split()[1:3]) for line in lines if line.startswith("fedring ")}
    assert {"fleet init", "fleet add", "fleet sign", "fleet revoke", "fleet update"} == asked
    for words in (*asked, "fleet flash card", "fleet flash ssh", "coordinator apply", "watch"):
        assert "Usage: " in machine.type(f"{fedring} {words} --help")
    machine.environment["FEDRING_FLEET_PASSPHRASE"] = "correct horse"
    for line in command("laptop").splitlines():
        machine.type(line.replace("fedring ", f"{fedring} ", 1))
    assert (machine.home / "greenhouse" / "codes" / "b04").exists()
