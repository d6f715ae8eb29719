"""What all tests share: hypothesis profiles, and honesty about a missing Mosquitto."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from fedring.lab.brokers import INSTALL_MOSQUITTO, find_mosquitto

# No deadlines: a board's or a busy machine's slowness is no failure of a property.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

NOT_RUN = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    """Path of the Mosquitto program; a test that asks for it does not run where there is none."""
    found = find_mosquitto()
    assert found is not None, "tests that need Mosquitto were to be left out"
    return Path(found)


def _needs_mosquitto(item: pytest.Item) -> bool:
    return item.get_closest_marker("mosquitto") is not None or "mosquitto" in getattr(
        item, "fixturenames", ()
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_RUN] = []
    config.addinivalue_line("markers", "mosquitto: needs the Mosquitto broker on this machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if find_mosquitto() is not None:
        return
    left_out = [item for item in items if _needs_mosquitto(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    config.stash[NOT_RUN] = [item.nodeid for item in left_out]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    not_run = config.stash[NOT_RUN]
    if not not_run:
        return
    terminalreporter.section("not run: Mosquitto is missing", sep="=", yellow=True)
    for name in sorted(not_run):
        terminalreporter.write_line(f"not run: {name}")
    terminalreporter.write_line(f"install with: {INSTALL_MOSQUITTO}")
