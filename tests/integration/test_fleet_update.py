"""An update of a fleet over a real broker: real agents fetch it, real updaters put it in place."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.board_systemd import LAST_WORDS, real_agent
from tests.integration.greenhouse import Greenhouse
from tests.integration.slots import archive, bundle

from fedring.fleet.authority import create_fleet
from fedring.fleet.updates import COMPLETE, RecordFile
from fedring.lab.processes import Child
from fedring.lab.programs import FEDRING
from fedring.shared.broker import Broker
from fedring.shared.identity import Authority
from fedring.shared.mqtt import Connection, Message
from fedring.shared.orders import UpdateOrder, read_order
from fedring.shared.tls import tls_context
from fedring.shared.topics import Topics

NAMES = ("b01", "b02")


@pytest.fixture(scope="module")
def greenhouse(tmp_path_factory: pytest.TempPathFactory, mosquitto: Path) -> Iterator[Greenhouse]:
    with Greenhouse.of(tmp_path_factory.mktemp("update"), NAMES) as greenhouse:
        yield greenhouse


def test_a_fleet_is_updated_in_waves_and_a_bad_version_stops_at_the_first_board(
    greenhouse: Greenhouse, tmp_path: Path
) -> None:
    rollout, told = greenhouse.update(greenhouse.bundle(tmp_path, "0.2.0"))
    assert rollout.complete
    assert told[1:] == ["wave 1: b01", "wave 2: all boards"]
    assert [wave.names for wave in rollout.waves] == [("b01",), None]
    for name, board in greenhouse.boards.items():
        assert board.running == "0.2.0", name
        assert rollout.boards[name].state == "updated"
        states = greenhouse.states(name)
        assert states[0] == "fetching"
        assert states.index("installing") < states.index("updated")
    record = RecordFile(greenhouse.fleet.folder).read()
    assert record.ended == COMPLETE
    assert greenhouse.chunks_on_broker() == record.shelved[0].n_chunks > 4

    since = greenhouse.spy.now
    rollout, _ = greenhouse.update(greenhouse.bundle(tmp_path, "0.3.0", broken=True))
    assert not rollout.complete
    assert rollout.stopped.startswith("b01: rolled_back: its agent ended ")
    assert LAST_WORDS in rollout.stopped
    assert [wave.names for wave in rollout.waves] == [("b01",)]
    for board in greenhouse.boards.values():
        assert board.running == "0.2.0"
    asked = {heard.topic for heard in greenhouse.spy.heard[since:] if "/update" in heard.topic}
    assert asked == {"device/b01/update"}, "the others were not asked"
    assert greenhouse.chunks_on_broker() == 0, "the bad version and the one before are gone"
    # The agent from before is at work again, and says so.
    greenhouse.spy.status("b01", since, state="idle", agent="0.2.0")

    numbers = [heard.message for heard in greenhouse.spy.heard if heard.topic == "update"]
    assert len(numbers) == 4, "three orders, and one taken back"
    assert RecordFile(greenhouse.fleet.folder).read().last_number == 3


class ScriptedBoard:
    """A board that says what a test wants it to say, over the shipped broker."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self._topics = topics
        self._connection = Connection(
            broker, "b01", subscriptions=[topics.update], persistent=False, fail_fast=True
        )
        self.orders: list[bytes] = []

    async def __aenter__(self) -> ScriptedBoard:
        await self._connection.__aenter__()
        self._listening = asyncio.create_task(self._listen())
        await self._say(self._topics.device_status("b01"), {"state": "idle", "number": 1})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.__aexit__()
        await self._listening

    async def _listen(self) -> None:
        async for event in self._connection.events():
            if isinstance(event, Message) and event.payload:
                self.orders.append(event.payload)

    async def _say(self, topic: str, facts: dict[str, object]) -> None:
        while True:
            if await self._connection.publish(topic, json.dumps(facts).encode(), retain=True):
                return
            await asyncio.sleep(0.05)

    async def next_order(self, authority: Authority, after: int) -> UpdateOrder:
        """The first order with a higher number."""
        async with asyncio.timeout(60):
            while True:
                for raw in self.orders:
                    order = read_order(raw, authority)
                    if order.number > after:
                        return order
                await asyncio.sleep(0.05)

    async def tell(self, order: UpdateOrder, state: str) -> None:
        """Publish how far we are."""
        facts: dict[str, object] = {"state": state, "order": order.number, "to": order.version}
        await self._say(self._topics.device_update("b01"), facts)


async def _start(*arguments: str | Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *map(str, (*FEDRING, "fleet", "update", *arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def test_the_command_stops_and_goes_on_as_the_owner_of_a_broker_with_an_access_list(
    tmp_path: Path, shipped_mosquitto: Callable[..., tuple[Child, int]]
) -> None:
    fleet = create_fleet(tmp_path / "fleet", "greenhouse", ["localhost"])
    fleet.unlock(None)
    fleet.add("b01")
    _, port = shipped_mosquitto(tmp_path / "machine", fleet.broker_folder)
    files = fleet.device_folder("b01")
    tls = tls_context(
        files / "ca.crt", files / "device.crt", files / "device.key", judge_dates=False
    )
    file = tmp_path / "new.fedring"
    assert fleet._issuer is not None
    file.write_bytes(bundle(fleet._issuer, archive(real_agent("0.2.0")), "0.2.0"))
    newer = tmp_path / "newer.fedring"
    newer.write_bytes(bundle(fleet._issuer, archive(real_agent("0.3.0")), "0.3.0"))
    authority = Authority.load(fleet.ca_file)
    command = ("--fleet", fleet.folder, "--host", "localhost", "--port", str(port))

    async def story() -> None:
        async with ScriptedBoard(Broker("localhost", port, tls), Topics("greenhouse")) as board:
            first = await _start(*command, file)
            order = await board.next_order(authority, after=0)
            assert order.names == frozenset({"b01"})
            await board.tell(order, "fetching")
            assert first.stdout is not None
            said = b""
            while b"b01: fetching" not in said:
                said += await asyncio.wait_for(first.stdout.readline(), 60)
            first.send_signal(signal.SIGINT)
            rest, _ = await first.communicate()
            assert b"the update is not over" in rest

            second = await _start(*command)
            await board.tell(order, "updated")
            everybody = await board.next_order(authority, after=order.number)
            assert everybody.names is None
            said, _ = await asyncio.wait_for(second.communicate(), 60)
            lines = said.decode().splitlines()
            assert lines[0] == "going on with the update to 0.2.0"
            assert lines[-2] == "1 updated"
            assert lines[-1].startswith("next: nothing: boards that are away follow")
            assert second.returncode == 0

            third = await _start(*command)
            said, _ = await asyncio.wait_for(third.communicate(), 60)
            assert b"no update is under way; the last one: complete [fleet.no-update]" in said

            fourth = await _start(*command, newer)
            order = await board.next_order(authority, after=everybody.number)
            await board.tell(order, "rolled_back")
            said, _ = await asyncio.wait_for(fourth.communicate(), 60)
            assert fourth.returncode == 1
            end = said.decode().splitlines()[-3:]
            assert end[0].startswith("the update stopped at b01: rolled_back")
            assert "next: the others keep what they have" in end[1]
            assert end[2].endswith(f"fedring fleet update --fleet {fleet.folder} BUNDLE")

    asyncio.run(story())
