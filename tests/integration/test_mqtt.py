"""The connection against real brokers: what it promises, and what it does when they fail."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fedring.lab.brokers import LocalBroker, Program
from fedring.lab.processes import Child
from fedring.shared.backoff import Backoff
from fedring.shared.broker import Broker
from fedring.shared.errors import BrokerError
from fedring.shared.mqtt import (
    MAX_PAYLOAD_BYTES,
    Connected,
    Connection,
    Disconnected,
    Event,
    Message,
    Will,
)
from fedring.shared.topics import Topics

TOPICS = Topics("greenhouse")
INBOX = TOPICS.inbox_of("b02")
TOPIC = TOPICS.device_inbox("b02", "b01")
QUICK = Backoff(first_s=0.05, longest_s=0.2)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


class Client:
    """A connection together with its events, for tests that wait for one after the other."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._events = connection.events()

    async def next(self) -> Event:
        return await asyncio.wait_for(anext(self._events), 10)

    async def payloads(self, n: int) -> list[bytes]:
        """The next `n` messages, and nothing but messages."""
        messages = [await self.next() for _ in range(n)]
        assert all(isinstance(message, Message) for message in messages), messages
        return [message.payload for message in messages if isinstance(message, Message)]

    async def quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing more comes for some time."""
        try:
            await asyncio.wait_for(anext(self._events), seconds)
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def client(broker: LocalBroker, name: str, **options: Any) -> AsyncIterator[Client]:
    options.update(fail_fast=True, backoff=QUICK, classify=TOPICS.classify)
    async with Connection(broker.address, name, **options) as connection:
        connected = Client(connection)
        assert await connected.next() == Connected()
        yield connected


def test_publishes_arrive_in_the_order_of_the_calls(broker: LocalBroker) -> None:
    async def story() -> None:
        async with (
            client(broker, "b01") as sender,
            client(broker, "b02", subscriptions=[INBOX]) as receiver,
        ):
            sent = [str(number).encode() for number in range(200)]
            outcomes = [await sender.connection.send(TOPIC, payload) for payload in sent]
            assert await receiver.payloads(200) == sent
            assert await asyncio.gather(*outcomes) == [True] * 200

    run(story)


def test_chunks_of_64_kib_and_what_is_counted(broker: LocalBroker) -> None:
    async def story() -> None:
        chunk = bytes(65_536 + 1_000)
        async with client(broker, "b02", subscriptions=[INBOX]) as receiver:
            for _ in range(32):
                assert await receiver.connection.publish(TOPIC, chunk)
            assert await receiver.payloads(32) == [chunk] * 32
            counted = {"messages": 32, "bytes": 32 * len(chunk)}
            assert receiver.connection.traffic.as_dict() == {
                "sent": {"inbox": counted},
                "received": {"inbox": counted},
            }
            assert receiver.connection.traffic.dropped == 0

    run(story)


def test_retained_messages_are_told_from_new_ones(broker: LocalBroker) -> None:
    async def story() -> None:
        status = TOPICS.device_status("b01")
        async with client(broker, "b01") as writer:
            await writer.connection.publish(status, b"online", retain=True)
            async with client(broker, "b02", subscriptions=[status]) as watcher:
                assert await watcher.next() == Message(status, b"online", retained=True)
                await writer.connection.publish(status, b"training", retain=True)
                assert await watcher.next() == Message(status, b"training", retained=False)
            await writer.connection.publish(status, b"", retain=True)
            async with client(broker, "b03", subscriptions=[status]) as watcher:
                assert await watcher.quiet()

    run(story)


def test_subscriptions_come_and_go_while_connected(broker: LocalBroker) -> None:
    async def story() -> None:
        digest = bytes(32)
        async with client(broker, "coordinator") as writer, client(broker, "b02") as reader:
            for index in range(3):
                topic = TOPICS.model_chunk(digest, index)
                await writer.connection.publish(topic, bytes([index]), retain=True)
            for _ in range(2):  # subscribed again, the broker sends again
                await reader.connection.subscribe(TOPICS.model(digest))
                assert sorted(await reader.payloads(3)) == [b"\0", b"\1", b"\2"]
                reader.connection.unsubscribe(TOPICS.model(digest))
            for _ in range(1_000):  # it is taken back in its own time
                if not reader.connection._abandoned:
                    break
                await asyncio.sleep(0.01)
            await writer.connection.publish(TOPICS.model_chunk(digest, 3), b"late")
            assert await reader.quiet()

    run(story)


def test_a_session_keeps_messages_while_we_are_away(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b02", subscriptions=[INBOX]):
            pass
        async with client(broker, "b01") as sender:
            for number in range(20):
                assert await sender.connection.publish(TOPIC, bytes([number]))
        async with client(broker, "b02", subscriptions=[INBOX]) as back:
            assert await back.payloads(20) == [bytes([number]) for number in range(20)]

    run(story)


LAST_WILL = """
import asyncio, sys
from fedring.shared.broker import Broker
from fedring.shared.mqtt import Connection, Will

async def main(url: str, topic: str) -> None:
    will = Will(topic, b"offline")
    async with Connection(Broker.from_url(url), "b01", will=will, fail_fast=True) as connection:
        async for _ in connection.events():
            await connection.publish(topic, b"online", retain=True)

asyncio.run(main(*sys.argv[1:]))
"""


def test_the_last_will_of_a_killed_process(broker: LocalBroker, tmp_path: Path) -> None:
    status = TOPICS.device_status("b01")
    command = [sys.executable, "-c", LAST_WILL, broker.url, status]
    child = Child.start(command, name="b01", log=tmp_path / "b01.log")

    async def story() -> None:
        async with client(broker, "watcher", subscriptions=[status]) as watcher:
            assert await watcher.payloads(1) == [b"online"]
            child.kill()
            assert await watcher.payloads(1) == [b"offline"]
        async with client(broker, "late", subscriptions=[status]) as late:
            assert await late.next() == Message(status, b"offline", retained=True)

    try:
        run(story)
    finally:
        child.kill()


def test_a_farewell_leaves_no_will(broker: LocalBroker) -> None:
    async def story() -> None:
        status = TOPICS.device_status("b01")
        async with client(broker, "watcher", subscriptions=[status]) as watcher:
            async with client(broker, "b01", will=Will(status, b"offline")):
                pass
            assert await watcher.quiet()

    run(story)


def test_back_after_the_broker_was_restarted(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b02", subscriptions=[INBOX]) as device:
            broker.stop()
            lost = await device.next()
            assert lost == Disconnected(f"lost the connection to the broker at {broker.address}")
            assert not device.connection.connected
            assert await device.connection.publish(TOPIC, b"dropped") is False
            broker.restart()
            assert await device.next() == Connected()
            assert await device.connection.publish(TOPIC, b"again")
            assert await device.payloads(1) == [b"again"]

    run(story)


def test_changes_of_subscriptions_while_away(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b02", subscriptions=[INBOX]) as device:
            broker.stop()
            await device.next()
            device.connection.unsubscribe(INBOX)
            await device.connection.subscribe(TOPICS.round)
            broker.restart()
            assert await device.next() == Connected()
            await device.connection.publish(TOPIC, b"to nobody")
            await device.connection.publish(TOPICS.round, b"announce")
            assert await device.next() == Message(TOPICS.round, b"announce")

    run(story)


def test_publishes_under_way_are_given_up_when_the_broker_dies(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b01") as device:
            broker.child.freeze()
            outcomes = [await device.connection.send(TOPIC, b"unheard") for _ in range(8)]
            waiting = asyncio.create_task(device.connection.publish(TOPIC, b"no room"))
            await asyncio.sleep(0.1)
            assert not any(outcome.done() for outcome in outcomes)
            broker.child.kill()
            assert await asyncio.gather(*outcomes) == [False] * 8
            assert await waiting is False
            broker.restart()
            while await device.next() != Connected():
                pass
            assert await device.connection.publish(TOPIC, b"heard")

    run(story)


def test_a_frozen_broker_proves_nothing_and_is_left(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b01", keepalive_s=1) as device:
            await asyncio.sleep(2.5)
            assert time.monotonic() - device.connection.proven_alive < 2, "pings are proof"
            broker.child.freeze()
            await asyncio.sleep(0.1)  # what it had still answered is read
            frozen = time.monotonic()
            await device.connection.send(TOPIC, b"unheard")
            assert isinstance(await device.next(), Disconnected)
            assert device.connection.proven_alive <= frozen
            broker.child.thaw()
            assert await device.next() == Connected()
            assert device.connection.proven_alive > frozen

    run(story)


@pytest.mark.parametrize(
    "broker", [pytest.param(Program.MOSQUITTO, marks=pytest.mark.mosquitto)], indirect=True
)
def test_small_round_trips_do_not_wait_for_delayed_acknowledgements(broker: LocalBroker) -> None:
    async def story() -> None:
        ping, pong = TOPICS.device_inbox("b01", "b02"), TOPICS.device_inbox("b02", "b01")
        async with (
            client(broker, "b01", subscriptions=[ping]) as near,
            client(broker, "b02", subscriptions=[pong]) as far,
        ):
            took = []
            for _ in range(20):
                began = time.monotonic()
                await near.connection.send(pong, b"1")
                await far.next()
                await far.connection.send(ping, b"2")
                await near.next()
                took.append(time.monotonic() - began)
            assert sorted(took)[len(took) // 2] < 0.03, "Nagle's algorithm costs 40 ms and more"

    run(story)


def test_the_first_connect_can_fail_fast() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def story() -> None:
        with pytest.raises(BrokerError, match=f"no broker at 127.0.0.1:{port}"):
            async with Connection(Broker("127.0.0.1", port), "b01", fail_fast=True):
                pass

    run(story)


def test_or_go_on_until_there_is_a_broker(broker: LocalBroker) -> None:
    async def story() -> None:
        broker.stop()
        async with Connection(broker.address, "b01", backoff=QUICK) as connection:
            await asyncio.sleep(0.3)
            assert not connection.connected
            assert await connection.publish(TOPIC, b"dropped") is False
            broker.restart()
            assert await Client(connection).next() == Connected()

    run(story)


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_broker_is_tried_at_each_of_its_names(broker: LocalBroker, fail_fast: bool) -> None:
    # It listens at 127.0.0.1 only: at the first name nobody does.
    named = Broker("127.0.0.2", broker.address.port, None, (broker.address.host,))

    async def story() -> None:
        async with Connection(named, "b01", fail_fast=fail_fast, backoff=QUICK) as connection:
            connected = Client(connection)
            assert await connected.next() == Connected()
            assert connection.broker.host == broker.address.host
            broker.restart()
            assert isinstance(await connected.next(), Disconnected)
            assert await connected.next() == Connected()

    run(story)


def test_a_name_that_does_not_resolve_is_looked_up_once_a_try(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a name server that answers each look-up takes half a minute."""
    asked = []
    really = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "broker.local":
            asked.append(host)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return really(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    named = Broker("broker.local", broker.address.port, None, (broker.address.host,))

    async def story() -> None:
        async with Connection(named, "b01", backoff=QUICK) as connection:
            assert await Client(connection).next() == Connected()

    run(story)
    assert len(asked) == 1
    where = f"broker.local:{broker.address.port}"
    assert f"b01: no broker at {where}: temporary failure in name resolution; " in caplog.text


def test_leaving_while_a_silent_listener_is_tried() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            silent = Broker("127.0.0.1", listener.getsockname()[1])
            began, tasks = time.monotonic(), asyncio.all_tasks()
            async with Connection(silent, "b01"):
                await asyncio.sleep(0.2)
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.05)
            assert asyncio.all_tasks() == tasks, "nothing is left behind"

    run(story)


def test_errors_of_the_owner_come_out_as_they_are(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b01") as device:
            with pytest.raises(ValueError, match="filter"):
                await device.connection.publish(INBOX, b"")
            with pytest.raises(ValueError, match="at most"):
                await device.connection.publish(TOPIC, bytes(MAX_PAYLOAD_BYTES + 1))
            with pytest.raises(BrokerError, match="mine"):
                async with client(broker, "b02"):
                    raise BrokerError("mine", name="test.mine")
            assert await device.connection.publish(TOPIC, b"unharmed")

    run(story)


def test_the_end_of_the_connection_ends_its_events(broker: LocalBroker) -> None:
    async def story() -> None:
        async with client(broker, "b01") as device:
            rest = device.connection.events()
        assert [event async for event in rest] == []

    run(story)
