"""A broker that sends what no broker should: the connection comes back, and nothing grows."""

import asyncio
import gc
import logging
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from attrs import define, field

from fedring.shared.backoff import Backoff
from fedring.shared.broker import Broker
from fedring.shared.mqtt import (
    MAX_PACKET_BYTES,
    Connected,
    Connection,
    Disconnected,
    Event,
    Message,
)

QUICK = Backoff(first_s=0.01, longest_s=0.02)
CONNACK, PINGRESP = b"\x20\x02\x00\x00", b"\xd0\x00"
Attack = Callable[[asyncio.StreamWriter], Awaitable[None]]


def length(n: int) -> bytes:
    """A length as MQTT writes it."""
    out = b""
    while True:
        n, digit = divmod(n, 128)
        out += bytes([digit | (128 if n else 0)])
        if n == 0:
            return out


def publish(topic: bytes, payload: bytes = b"", *, mid: int = 7) -> bytes:
    """A message of quality of service 1."""
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + payload
    return b"\x32" + length(len(body)) + body


@define
class Hostile:
    """Lets everybody in, and answers each subscription with an attack.

    Attributes:
        attack: what it sends.
        codes: answer to a subscription.
        n_connections: how often somebody came.
        n_open: who is still there.
        acknowledged: numbers of messages that a client says to have got.
    """

    attack: Attack
    codes: bytes = b"\x01"
    n_connections: int = 0
    n_open: int = 0
    acknowledged: list[int] = field(factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self.n_open += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._serve(reader, writer)
        self.n_open -= 1
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            kind, size = await reader.readexactly(2)
            assert size < 128
            body = await reader.readexactly(size)
            match kind >> 4:
                case 1:
                    writer.write(CONNACK)
                case 4:
                    self.acknowledged.append(int.from_bytes(body[:2], "big"))
                case 8:
                    writer.write(b"\x90" + length(2 + len(self.codes)) + body[:2] + self.codes)
                    await self.attack(writer)
                case 12:
                    writer.write(PINGRESP)


@asynccontextmanager
async def under(hostile: Hostile) -> AsyncIterator[list[Event]]:
    """A connection to it: what its owner has been told so far."""
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events: list[Event] = []
    async with Connection(
        Broker("127.0.0.1", port), "b01", subscriptions=["a/#"], backoff=QUICK
    ) as connection:

        async def listen() -> None:
            async for event in connection.events():
                events.append(event)  # noqa: PERF401 - to be seen while it goes on

        listening = asyncio.create_task(listen())
        yield events
    await listening
    server.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def always(*packets: bytes) -> Attack:
    async def attack(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(packets))
        await writer.drain()

    return attack


MALFORMED = {
    "a topic that is no text": publish(b"a/\xff\xfe"),
    "a topic with a wildcard": publish(b"a/+"),
    "no topic": publish(b""),
    "a message without its end": b"\x32\x01\x00",
    "a quality of service that there is not": b"\x36" + publish(b"a/b")[1:],
    "a packet of no kind": b"\xf0\x00",
    "an answer to a publish, cut": b"\x40\x01\x00",
    "a second welcome that is none": b"\x20\x02\x00\x05",
    "a length without an end": b"\x30\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_packet_costs_the_connection_and_nothing_else(case: str) -> None:
    async def story() -> None:
        hostile = Hostile(always(MALFORMED[case]))
        async with under(hostile) as events:
            await until(lambda: hostile.n_connections >= 6)
            kinds = [type(event) for event in events]
            assert kinds[:4] == [Connected, Disconnected, Connected, Disconnected]
            assert hostile.n_open <= 1
            hostile.attack = always(publish(b"a/b", b"well"))
            await until(lambda: Message("a/b", b"well") in events)

    n_files = len(os.listdir("/proc/self/fd"))
    asyncio.run(story())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= n_files


@pytest.mark.parametrize("codes", [b"", b"\x01\x01", b"\x80\x80"])
def test_an_answer_to_another_subscription_than_ours_costs_the_connection(codes: bytes) -> None:
    async def story() -> None:
        hostile = Hostile(always(), codes)
        async with under(hostile) as events:
            await until(lambda: hostile.n_connections >= 3)
            hostile.codes = b"\x01"
            hostile.attack = always(publish(b"a/b", b"well"))
            await until(lambda: Message("a/b", b"well") in events)

    asyncio.run(story())


def test_of_a_packet_of_any_length_only_so_much_is_kept() -> None:
    """It is taken off the broker's hands all the same, or it would come again for ever."""
    n_bytes = 40 * 2**20

    async def attack(writer: asyncio.StreamWriter) -> None:
        head = publish(b"a/huge", mid=9)[2:]
        writer.write(b"\x32" + length(len(head) + n_bytes) + head)
        for _ in range(n_bytes // 2**20):
            writer.write(bytes(2**20))
            await writer.drain()
        writer.write(publish(b"a/b", b"well", mid=10))

    async def story() -> None:
        hostile = Hostile(attack)
        async with under(hostile) as events:
            await until(lambda: len(hostile.acknowledged) == 2)
            huge, small = (event for event in events if isinstance(event, Message))
            assert hostile.acknowledged == [9, 10]
            assert hostile.n_connections == 1
            assert huge.topic == "a/huge"
            assert 128 * 1024 < len(huge.payload) < MAX_PACKET_BYTES + 4096
            assert small == Message("a/b", b"well")

    tracemalloc.start()
    try:
        asyncio.run(story())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_broker_that_answers_pings_and_no_publish_is_left() -> None:
    """Whoever waits for room in the window would wait for ever."""

    async def story() -> None:
        hostile = Hostile(always())
        server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with Connection(
            Broker("127.0.0.1", port), "b01", backoff=QUICK, keepalive_s=1, window=2
        ) as connection:
            await until(lambda: connection.connected)
            first, _ = [await connection.send("a/b", b"x") for _ in range(2)]
            async with asyncio.timeout(60):
                await connection.send("a/b", b"y")
            assert await first is False
            await until(lambda: hostile.n_connections >= 2)
        server.close()

    asyncio.run(story())


def test_answers_to_nothing_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        answers = [b"\x90\x03\x00\x63\x01", b"\xb0\x02\x00\x63", b"\x40\x02\x00\x63"] * 200
        hostile = Hostile(always(*answers, publish(b"a/b", b"well")))
        async with under(hostile) as events:
            await until(lambda: Message("a/b", b"well") in events)
            assert hostile.n_connections == 1

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    assert len(caplog.records) < 5
