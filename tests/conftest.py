"""What all tests share: hypothesis profiles, and honesty about programs that are missing."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import settings

from fedring.lab.boards.system import (
    ARM_MACHINES,
    CONTAINERS,
    TRANSLATION,
    installing,
    missing_programs,
)
from fedring.lab.brokers import INSTALL_MOSQUITTO, find_mosquitto

# No deadlines: a board's or a busy machine's slowness is no failure of a property.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell's background jobs ignore Ctrl-C, and hand that down to the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@frozen
class Program:
    """A program that tests need: those with the fixture or the marker `name`.

    Attributes:
        name: for people.
        find: gives its path, or None where it is missing.
        install: the command that installs it.
    """

    name: str
    find: Callable[[], str | None]
    install: str


def _find_libfaketime() -> str | None:
    found = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return next(map(str, found), None)


def _of_board_lab(name: str, needed: Mapping[str, str]) -> Program:
    return Program(
        f"root, or a program for {name},",
        lambda: None if os.geteuid() != 0 or missing_programs(needed) else "all of them",
        f"run it as root, after: {installing(needed.values()).removeprefix('sudo ')}",
    )


def _find_card_programs() -> str | None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = [shutil.which(program, path=path) for program in ("mcopy", "mkfs.vfat", "sfdisk")]
    return found[0] if all(found) else None


PROGRAMS = {
    "mosquitto": Program("Mosquitto", find_mosquitto, INSTALL_MOSQUITTO),
    "apt": Program("apt", lambda: shutil.which("apt-get"), "another system: apt is Debian's"),
    "libfaketime": Program("libfaketime", _find_libfaketime, "sudo apt-get install libfaketime"),
    "root": Program(
        "root (who may mount and cut links)",
        lambda: shutil.which("ip") if os.geteuid() == 0 else None,
        "run it as root, with iproute2",
    ),
    "systemd": Program(
        "systemd-analyze", lambda: shutil.which("systemd-analyze"), "sudo apt-get install systemd"
    ),
    "boards": _of_board_lab("boards as containers", CONTAINERS),
    "arm_programs": _of_board_lab("programs of arm64 boards", TRANSLATION),
    "arm_boards": _of_board_lab("whole arm64 boards", ARM_MACHINES),
    "card_programs": Program(
        "mtools, mkfs.vfat or sfdisk",
        _find_card_programs,
        "sudo apt-get install mtools dosfstools fdisk",
    ),
    "sshd": Program(
        "OpenSSH's server",
        lambda: shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin"),
        "sudo apt-get install openssh-server",
    ),
    "shellcheck": Program(
        "shellcheck", lambda: shutil.which("shellcheck"), "sudo apt-get install shellcheck"
    ),
    "strace": Program("strace", lambda: shutil.which("strace"), "sudo apt-get install strace"),
}
NOT_RUN = pytest.StashKey[dict[str, list[str]]]()


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    """Path of the Mosquitto program; a test that asks for it does not run where there is none."""
    return _found("mosquitto")


@pytest.fixture(scope="session")
def strace() -> Path:
    """Path of the strace program; a test that asks for it does not run where there is none."""
    return _found("strace")


@pytest.fixture(scope="session")
def sshd() -> Path:
    """Path of the sshd program; a test that asks for it does not run where there is none."""
    return _found("sshd")


@pytest.fixture(scope="session")
def libfaketime() -> Path:
    """Path of the library; a test that asks for it does not run where there is none."""
    return _found("libfaketime")


def _found(program: str) -> Path:
    found = PROGRAMS[program].find()
    assert found is not None, f"tests that need {program} were to be left out"
    return Path(found)


def _needs(item: pytest.Item, program: str) -> bool:
    return item.get_closest_marker(program) is not None or program in getattr(
        item, "fixturenames", ()
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_RUN] = {}
    for mark, program in PROGRAMS.items():
        config.addinivalue_line("markers", f"{mark}: needs {program.name} on this machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for mark, program in PROGRAMS.items():
        left_out = [item for item in items if _needs(item, mark)]
        if not left_out or program.find() is not None:
            continue
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[NOT_RUN][mark] = [item.nodeid for item in left_out]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs tests beside others tells whoever started it what it left out."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["not run"] = session.config.stash[NOT_RUN]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process left out the same, having collected the same tests."""
    node.config.stash[NOT_RUN].update(getattr(node, "workeroutput", {}).get("not run", {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for mark, names in config.stash[NOT_RUN].items():
        program = PROGRAMS[mark]
        terminalreporter.section(f"not run: {program.name} is missing", sep="=", yellow=True)
        for name in sorted(names):
            terminalreporter.write_line(f"not run: {name}")
        terminalreporter.write_line(f"install with: {program.install}")
