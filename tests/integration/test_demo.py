"""`fedring demo` with real processes: what it shows, and that nothing of it stays."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from fedring.fleet.listening import Listener
from fedring.lab.brokers import LocalBroker, Program
from fedring.lab.processes import Child
from fedring.lab.programs import FEDRING
from fedring.shared.mqtt import Connected, Connection
from fedring.shared.topics import Payload, Topics

MARKER = "FEDRING_TEST_DEMO"
START_S = 60.0
"""The first result is promised within this time."""


class Demo:
    """A running `fedring demo`; its processes are known by a mark in their environment."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._mark = uuid4().hex
        output = ["--output", str(folder / "output")]
        self.child = Child.start(
            [*FEDRING, "demo", "--plain", *output, *options],
            name="demo",
            log=folder / "log",
            environment={**os.environ, MARKER: self._mark, "TMPDIR": str(self.temporary)},
        )

    @property
    def said(self) -> str:
        return self.child.log.read_text()

    def processes(self, *words: str) -> list[psutil.Process]:
        """The processes of this demo, itself included, whose command line has all these words."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == self._mark and process.is_running():
                    command = " ".join(process.cmdline())
                    if all(word in command for word in words):
                        found.append(process)
            except psutil.Error:
                continue
        return found

    def await_words(self, words: str, seconds: float = START_S) -> None:
        until(lambda: words in self.said or not self.child.running, seconds)
        assert words in self.said, self.said

    def await_nobody(self, seconds: float = 10) -> None:
        until(lambda: not self.processes(), seconds)
        assert self.processes() == []


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts a demo; what is left of it ends with the test."""
    demos: list[Demo] = []

    def start(*options: str) -> Demo:
        demos.append(Demo(tmp_path, *options))
        return demos[-1]

    yield start
    for started in demos:
        for process in started.processes():
            process.kill()
        started.child.wait()


SMALL = ("--devices", "6", "--ring-size", "6", "--rounds", "2", "--threshold", "3")
ENDLESS = ("--devices", "4", "--ring-size", "4", "--rounds", "10000", "--threshold", "2")


@pytest.mark.parametrize(
    ("broker", "options"),
    [
        pytest.param(Program.MOSQUITTO, (), marks=pytest.mark.mosquitto),
        (Program.EMBEDDED, ("--suite", "paillier", "--model", "softmax")),
    ],
    indirect=["broker"],
    ids=["hybrid", "paillier"],
)
def test_a_small_demo_leaves_a_report_and_a_picture(
    demo: Callable[..., Demo], broker: LocalBroker, options: tuple[str, ...], tmp_path: Path
) -> None:
    heard: dict[str, list[bytes]] = {}

    def hear(topic: str, payload: bytes) -> None:
        heard.setdefault(topic, []).append(payload)

    async def watch() -> Demo:
        async with Listener(broker.address, ["fedring/#"], hear):
            report = str(tmp_path / "report.json")
            running = demo(*SMALL, *options, "--broker", broker.url, "--report", report)
            status = await asyncio.wait_for(running.child.ended(), 2 * START_S)
            assert status == 0, running.said
        return running

    running = asyncio.run(watch())
    running.await_nobody()
    assert list(running.temporary.iterdir()) == []
    assert (tmp_path / "output" / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert "2 rounds, 6 contributors each, 0 void rings." in running.said
    check_report(json.loads((tmp_path / "report.json").read_text()), *options)
    check_topics(heard)
    assert retained(broker) == {}, "nothing stays on a broker of others"


def check_report(report: dict[str, Any], *options: str) -> None:
    assert [one["round"] for one in report["rounds"]] == [1, 2]
    for one in report["rounds"]:
        assert one["contributors"] == 6
        assert one["void_rings"] == 0
        assert one["seconds"]["total"] >= one["seconds"]["ready"] > 0
        assert one["bytes"]["inbox"] > one["bytes"]["model"] > 0
        assert one["bytes"]["status"] > 0
    last = report["rounds"][-1]
    assert last["accuracy"] > 0.6
    assert report["untrained"]["accuracy"] < 0.4
    assert 0 < last["macro_f1"] < 1
    assert report["seconds"]["first_result"] < START_S
    assert report["settings"]["threshold"] == 3
    assert report["settings"]["suite"] == ("paillier" if "paillier" in options else "hybrid")
    assert report["lost_devices"] == {}
    assert report["uncounted_messages"] == 0


def check_topics(heard: dict[str, list[bytes]]) -> None:
    """All of it is spelled as the layout says, and what is for people is readable JSON."""
    (fleet,) = {topic.split("/")[1] for topic in heard}
    topics = Topics(fleet)
    kinds = set()
    for topic, payloads in heard.items():
        row = topics.row(topic)
        assert row is not None, topic
        kinds.add(row.traffic)
        if row.payload is Payload.JSON:
            for payload in filter(None, payloads):
                assert isinstance(json.loads(payload), dict)
                assert payload.decode().isprintable()
    assert kinds == {"status", "round", "model", "key", "history", "revoked", "inbox", "event"}
    names = [json.loads(payload)["event"] for payload in heard[topics.event]]
    assert names.count("model published") == 3, "statistics and two rounds of training"
    states = [
        json.loads(payload)["state"] for payload in filter(None, heard[topics.coordinator_status])
    ]
    assert {"announced", "rings"} <= set(states)


def retained(broker: LocalBroker) -> dict[str, bytes]:
    """What a newcomer gets."""
    found: dict[str, bytes] = {}

    async def look() -> None:
        async with Listener(broker.address, ["fedring/#"], found.__setitem__) as listener:
            await listener.settled()

    asyncio.run(look())
    return found


def test_the_others_go_on_without_a_killed_device_and_ctrl_c_ends_all(
    demo: Callable[..., Demo],
) -> None:
    running = demo(*ENDLESS)
    running.await_words("round 1 of 10000: 4 contributors")
    assert len(running.processes()) == 4 + 3, "devices; demo, broker and coordinator"
    (victim,) = running.processes("device run", "person-04")
    victim.kill()
    running.await_words("has been ended by signal 9; going on with 3 devices.")
    running.await_words(": 3 contributors")
    assert len(running.processes()) == 3 + 3
    running.child.send(signal.SIGINT)
    assert running.child.wait(15) == 130
    assert running.processes() == []
    assert list(running.temporary.iterdir()) == []
    assert "Traceback" not in running.said


def test_a_killed_demo_leaves_nothing_running(demo: Callable[..., Demo]) -> None:
    running = demo(*ENDLESS)
    running.await_words("round 1 of 10000")
    assert len(running.processes()) == 4 + 3
    running.child.send(signal.SIGKILL)
    running.await_nobody()


@pytest.mark.parametrize("broker", [Program.EMBEDDED], indirect=True)
def test_a_killed_coordinator_ends_the_demo(demo: Callable[..., Demo], broker: LocalBroker) -> None:
    running = demo(*ENDLESS, "--broker", broker.url)
    running.await_words("round 1 of 10000")
    (coordinator,) = running.processes("coordinator run")
    coordinator.kill()
    assert running.child.wait(15) == 2
    assert "the coordinator of the demo has been ended by signal 9" in running.said
    assert "[process.ended]" in running.said
    assert "Traceback" not in running.said
    assert running.processes() == []
    assert list(running.temporary.iterdir()) == []
    assert retained(broker) == {}


def test_a_demo_that_is_told_to_stop_puts_all_away(demo: Callable[..., Demo]) -> None:
    running = demo(*ENDLESS)
    running.await_words("Started the coordinator")
    running.child.send(signal.SIGTERM)
    assert running.child.wait(15) == 128 + signal.SIGTERM
    assert running.processes() == []
    assert list(running.temporary.iterdir()) == []


def test_a_broker_with_a_coordinator_at_work_is_left_alone(
    demo: Callable[..., Demo], broker: LocalBroker
) -> None:
    status = Topics("greenhouse").coordinator_status

    async def leave_word() -> None:
        async with Connection(broker.address, "coordinator", persistent=False) as connection:
            async for event in connection.events():
                if isinstance(event, Connected):
                    await connection.publish(status, b'{"state": "waiting"}', retain=True)
                    return

    asyncio.run(leave_word())
    running = demo(*SMALL, "--broker", broker.url)
    assert running.child.wait(30) == 2
    assert "serves fleet greenhouse, whose coordinator is at work [broker.in-use]" in running.said
    assert list(retained(broker)) == [status]
