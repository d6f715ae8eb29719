"""FedAvg without any protection, over the same broker: what a secure round is compared with.

    python -m benchmarks.round.plain HOST PORT collector N_CLIENTS N_WEIGHTS
    python -m benchmarks.round.plain HOST PORT CLIENT N_WEIGHTS

The collector publishes the model in chunks; each client sends back as many float32 values; the
collector adds them up and steps the model. It runs as many rounds as a message on `plain/go` asks
for and then says `plain/done`. Nothing is signed, checked, waited for or written to a disk.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedring.shared.broker import Broker
from fedring.shared.mqtt import Connected, Connection, Message

GO: Final = "plain/go"
DONE: Final = "plain/done"
HERE: Final = "plain/here"
_MODEL: Final = "plain/model"
_INBOX: Final = "plain/inbox"
_CHUNK_BYTES: Final = 64 * 1024
Vector: TypeAlias = NDArray[np.float32]
_HEADER: Final = struct.Struct(">II")  # round, place of the first byte


async def send(connection: Connection, topic: str, number: int, vector: Vector) -> None:
    """Publish a vector, in chunks of 64 KiB, and wait until the broker has them."""
    data = vector.tobytes()
    sent = [
        await connection.send(
            topic, _HEADER.pack(number, start) + data[start : start + _CHUNK_BYTES]
        )
        for start in range(0, len(data), _CHUNK_BYTES)
    ]
    await asyncio.gather(*sent)


class Arriving:
    """A vector in pieces, which come once and in any order.

    Args:
        n_weights: its length.
    """

    def __init__(self, n_weights: int) -> None:
        self.vector = np.zeros(n_weights, np.float32)
        self.number = 0
        self._bytes = memoryview(self.vector.data).cast("B")
        self._missing = len(self._bytes)

    def add(self, payload: bytes) -> bool:
        """Take a piece; whether the vector of its round is whole now."""
        number, start = _HEADER.unpack_from(payload)
        if number != self.number:
            self.number, self._missing = number, len(self._bytes)
        data = payload[_HEADER.size :]
        self._bytes[start : start + len(data)] = data
        self._missing -= len(data)
        return self._missing == 0


async def be_client(broker: Broker, name: str, n_weights: int) -> None:
    """Answer every model with an update, until the process is ended."""
    model = Arriving(n_weights)
    async with Connection(broker, name, subscriptions=[_MODEL]) as connection:
        async for event in connection.events():
            match event:
                case Connected():
                    await connection.send(HERE, name.encode())
                case Message(payload=payload) if model.add(payload):
                    await send(
                        connection,
                        f"{_INBOX}/{name}",
                        model.number,
                        model.vector / np.float32(1024),
                    )


async def be_collector(broker: Broker, n_clients: int, n_weights: int) -> None:
    """Run rounds when asked to, until the process is ended."""
    model = np.ones(n_weights, np.float32)
    total = np.zeros(n_weights, np.float32)
    updates: dict[str, Arriving] = {}
    number = last = n_whole = 0
    filters = [GO, f"{_INBOX}/+"]
    async with Connection(broker, "collector", subscriptions=filters) as connection:
        async for event in connection.events():
            match event:
                case Connected():
                    await connection.send(HERE, b"collector")
                case Message(topic=topic, payload=payload) if topic == GO:
                    last = number + int(payload)
                    number += 1
                    await send(connection, _MODEL, number, model)
                case Message(topic=topic, payload=payload):
                    update = updates.setdefault(topic, Arriving(n_weights))
                    if not update.add(payload):
                        continue
                    total += update.vector
                    n_whole += 1
                    if n_whole < n_clients:
                        continue
                    model += total / np.float32(n_clients)
                    total[:] = n_whole = 0
                    if number == last:
                        await connection.send(DONE, b"")
                    else:
                        number += 1
                        await send(connection, _MODEL, number, model)


def main(host: str, port: str, name: str, *numbers: str) -> None:
    """Be the collector or a client, as the command line says."""
    broker = Broker(host, int(port))
    if name == "collector":
        n_clients, n_weights = numbers
        asyncio.run(be_collector(broker, int(n_clients), int(n_weights)))
    else:
        (n_weights,) = numbers
        asyncio.run(be_client(broker, name, int(n_weights)))


if __name__ == "__main__":
    main(*sys.argv[1:])
