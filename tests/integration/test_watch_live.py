"""`fedring watch` on real brokers: which fleet, with TLS, and what goes on while it looks."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedring.fleet.authority import create_fleet
from fedring.lab.brokers import LocalBroker
from fedring.lab.processes import Child
from fedring.lab.programs import FEDRING
from fedring.shared.broker import Broker
from fedring.shared.cli import main
from fedring.shared.mqtt import Connected, Connection
from fedring.shared.tls import tls_context
from fedring.shared.topics import Topics

GREENHOUSE = Topics("greenhouse")


def publish(broker: Broker, topic: str, **fields: Any) -> None:
    """Leave a retained message, as its writer would."""

    async def leave() -> None:
        async with Connection(broker, "coordinator", persistent=False) as connection:
            async for event in connection.events():
                if isinstance(event, Connected):
                    assert await connection.publish(topic, json.dumps(fields).encode(), retain=True)
                    return

    asyncio.run(leave())


@pytest.fixture
def fedring(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command to its end; gives exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        shown = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, shown.out, shown.err

    return run


def test_the_fleet_is_found_where_there_is_but_one(
    broker: LocalBroker, fedring: Callable[..., tuple[int, str, str]]
) -> None:
    once = ("watch", "--broker", broker.url, "--once")
    status, _, told = fedring(*once)
    assert status == 2
    assert "no coordinator has left a word on the broker" in told
    assert "[watch.no-fleet]" in told

    publish(broker.address, GREENHOUSE.coordinator_status, state="waiting", rounds_done=3)
    publish(broker.address, GREENHOUSE.device_status("b01"), state="idle", reason="\x1b[2Jboo")
    status, shown, _ = fedring(*once)
    assert status == 0
    assert shown.startswith("greenhouse  waiting")
    assert "[2Jboo" in shown
    assert "\x1b" not in shown

    publish(broker.address, Topics("orchard").coordinator_status, state="rings")
    status, _, told = fedring(*once)
    assert status == 2
    assert "serves 2 fleets: greenhouse, orchard [watch.several-fleets]" in told
    status, shown, _ = fedring(*once, "--fleet", "orchard", "--json")
    assert status == 0
    assert json.loads(shown)["coordinator"]["state"] == "rings"


def test_a_line_for_each_change_until_ctrl_c(broker: LocalBroker, tmp_path: Path) -> None:
    watch = [*FEDRING, "watch", "--broker", broker.url, "--fleet", "greenhouse", "--json"]
    child = Child.start(
        watch,
        name="watch",
        log=tmp_path / "log",
        environment=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        for round_ in (1, 2):
            publish(broker.address, GREENHOUSE.device_status("b01"), state="ready", round=round_)
            lines = await_lines(child, round_)
            assert lines[-1]["kind"] == "device"
            assert lines[-1]["round"] == round_
        child.send(signal.SIGINT)
        assert child.wait(10) == 130
        assert "Traceback" not in child.log.read_text()
    finally:
        child.kill()


def await_lines(child: Child, number: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = [line for line in child.log.read_text().splitlines() if line.startswith("{")]
        if len(lines) >= number:
            return [json.loads(line) for line in lines]
        time.sleep(0.05)
    raise AssertionError(child.log.read_text())


def test_a_laptop_watches_with_a_certificate_of_its_own(
    shipped_mosquitto: Callable[..., tuple[Child, int]],
    fedring: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    fleet = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost", "127.0.0.1"])
    laptop = fleet.add("laptop")
    _, port = shipped_mosquitto(tmp_path / "machine", fleet.broker_folder)
    own = fleet.coordinator_folder
    tls = tls_context(
        own / "ca.crt", own / "coordinator.crt", own / "coordinator.key", judge_dates=True
    )
    publish(Broker("localhost", port, tls), GREENHOUSE.coordinator_status, state="waiting")
    files = {"--ca": "ca.crt", "--certificate": "device.crt", "--key": "device.key"}
    status, shown, told = fedring(
        "watch",
        *("--broker", f"mqtt://localhost:{port}", "--once", "--json"),
        *(word for option, name in files.items() for word in (option, str(laptop / name))),
    )
    assert (status, told) == (0, "")
    assert json.loads(shown)["coordinator"]["state"] == "waiting"
