"""A real agent as systemd would see it: when it is ready, and that it stands still when it does."""

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedring.lab.brokers import LocalBroker, Program, start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import WAIT_S, Spy
from fedring.shared.broker import Broker
from fedring.shared.mqtt import Connection

WATCHDOG_S = 0.6


class Systemd:
    """Hears what an agent reports."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self.heard: list[str] = []

    def hear(self, line: str) -> None:
        """Wait for a line."""
        while line not in self.heard:
            self._socket.settimeout(WAIT_S)
            self.heard += self._socket.recv(4096).decode().splitlines()

    def hears_nothing(self, seconds: float) -> bool:
        """Whether nobody says anything for so long, once all that was said has been read."""
        self._socket.settimeout(0)
        while True:
            try:
                self._socket.recv(4096)
            except BlockingIOError:
                break
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def broker(tmp_path: Path, mosquitto: Path) -> Iterator[LocalBroker]:
    with start_broker(tmp_path / "broker", program=Program.MOSQUITTO) as running:
        yield running


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    listener = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    yield listener
    listener.close()


def say(broker: Broker, topic: str, state: str) -> None:
    """Be the coordinator for one word."""

    async def story() -> None:
        async with Connection(broker, "story", persistent=False, fail_fast=True) as connection:
            while True:
                if await connection.publish(
                    topic, json.dumps({"state": state}).encode(), retain=True
                ):
                    return
                await asyncio.sleep(0.05)

    asyncio.run(story())


def test_ready_when_the_coordinator_is_there_and_silent_when_frozen(
    broker: LocalBroker, systemd: Systemd, tmp_path: Path
) -> None:
    with (
        LocalFleet(tmp_path, broker.address) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        status = fleet.topics.coordinator_status
        say(broker.address, status, "offline")
        agent = fleet.start_device("b01")
        spy.status("b01", 0, state="idle")
        systemd.hear("WATCHDOG=1")
        systemd.hear("EXTEND_TIMEOUT_USEC=150000000")
        assert "READY=1" not in systemd.heard, "connected, but no coordinator"
        say(broker.address, status, "paused")
        systemd.hear("READY=1")
        systemd.hear("STATUS=the coordinator answers")

        agent.freeze()
        assert systemd.hears_nothing(2 * WATCHDOG_S), "so the watchdog would come"
        agent.thaw()
        systemd.heard.clear()
        systemd.hear("WATCHDOG=1")
        agent.send(signal.SIGTERM)
        systemd.hear("STOPPING=1")
        assert agent.wait(WAIT_S) == 0


def test_a_new_certificate_is_tried_without_standing_still(
    broker: LocalBroker, systemd: Systemd, tmp_path: Path
) -> None:
    """At eight names that nobody answers at it takes longer than the watchdog waits."""
    silent = {"broker": {"host": "127.0.0.2", "others": [broker.address.host]}}
    with (
        LocalFleet(tmp_path, broker.address, device=silent) as fleet,
        socket.create_server(("127.0.0.2", broker.address.port)) as listener,
    ):
        for file in ("device.key", "device.crt"):
            folder = fleet.authority.device_folder("b01")
            shutil.copy(folder / file, folder / f"{file}.new")
        fleet.start_device("b01")
        listener.settimeout(WAIT_S)
        attempt, _ = listener.accept()
        with attempt:
            assert attempt.recv(200).endswith(b"b01")
            systemd.hear("WATCHDOG=1")
            attempt.setblocking(False)
            with pytest.raises(BlockingIOError):  # it still waits for an answer
                attempt.recv(1)


def test_under_systemd_an_agent_waits_for_its_broker(
    broker: LocalBroker, systemd: Systemd, tmp_path: Path
) -> None:
    """Without it the agent ends at once and says why: there is somebody to read it."""
    with LocalFleet(tmp_path, broker.address) as fleet:
        os.kill(broker.child.pid, signal.SIGKILL)
        broker.child.wait(WAIT_S)
        agent = fleet.start_device("b01")
        systemd.hear("WATCHDOG=1")
        systemd.heard.clear()
        systemd.hear("WATCHDOG=1")
        assert agent.running
        assert "READY=1" not in systemd.heard
