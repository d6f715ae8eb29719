"""Real brokers on loopback for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedring.lab.brokers import LocalBroker, Program, start_broker

MOSQUITTO = pytest.param(Program.MOSQUITTO, marks=pytest.mark.mosquitto)
EMBEDDED = pytest.param(Program.EMBEDDED)


@pytest.fixture(params=[MOSQUITTO, EMBEDDED], ids=str)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBroker]:
    """A fresh broker, of each kind in turn; a test may name one with `indirect=True`."""
    with start_broker(tmp_path / "broker", program=request.param) as running:
        yield running
