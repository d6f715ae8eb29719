"""The files that go to a board as they are: what systemd thinks of them."""

import subprocess
from importlib import resources
from pathlib import Path

import pytest

from fedring.device.update.updater import OPTIMIZED

BOARD = Path(str(resources.files("fedring.device"))) / "board"


@pytest.mark.systemd
def test_the_agents_unit_is_closed_to_most_of_the_board() -> None:
    assert exposure("fedring-device.service") <= 2.0


@pytest.mark.systemd
def test_the_updaters_unit_reaches_slots_and_little_else() -> None:
    assert exposure("fedring-update.service") <= 4.0


def exposure(unit: str) -> float:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", BOARD / unit],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (one for one in judged.stdout.splitlines() if "Overall exposure level" in one)
    return float(line.partition(": ")[2].split()[0])


@pytest.mark.systemd
@pytest.mark.parametrize("unit", sorted(path.name for path in BOARD.glob("fedring-*.*")))
def test_systemd_understands_each_line(unit: str, tmp_path: Path) -> None:
    """What it does not know it would ignore: a word misspelt is a protection less."""
    text = (BOARD / unit).read_text()
    for program in ("/opt/fedring/current/fedring", "/usr/local/sbin/fedring-update"):
        text = text.replace(f"={program}", "=/bin/true")
    for name in ("fedring-update.service", unit):
        source = text if name == unit else "[Service]\nExecStart=/bin/true\n"
        (tmp_path / name).write_text(source.replace("file:/etc", "file:/"))
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in judged.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
    assert judged.returncode == 0, judged.stderr


def test_numpy_is_answered_and_not_killed() -> None:
    """`@resources` is filtered, and numpy asks for it: see boards' notes on SIGSYS."""
    unit = (BOARD / "fedring-device.service").read_text()
    assert "SystemCallFilter=~@privileged @resources" in unit
    assert "SystemCallErrorNumber=EPERM" in unit


def test_the_journal_of_a_board_is_small_and_in_memory() -> None:
    lines = (BOARD / "journald.conf").read_text().splitlines()
    assert {"Storage=volatile", "RuntimeMaxUse=32M"} <= set(lines)


def test_slots_are_compiled_as_the_agent_runs_them() -> None:
    """Else each start would compile everything anew, and keep 5 MB that this takes."""
    for unit in ("fedring-device.service", "fedring-update.service"):
        assert f"PYTHONOPTIMIZE={OPTIMIZED}" in (BOARD / unit).read_text()
