"""A broker that takes nothing more of a device, for as long as it likes: its secrets go in time."""

import asyncio
from pathlib import Path

import pytest

from fedring.coordinator import lap_times
from fedring.device import member
from fedring.lab.fleets import LocalFleet
from fedring.lab.loop_broker import LoopConnection
from fedring.lab.loop_fleet import loop_fleet
from fedring.shared.broker import Broker
from fedring.shared.envelopes import open_envelope
from fedring.shared.messages import Ready

N_DEVICES = 3


class Stall:
    """From a device's `ready` on there is no room in its window any more.

    Attributes:
        begun: somebody waits for room.
    """

    def __init__(self, patch: pytest.MonkeyPatch, inbox: str) -> None:
        self.begun = asyncio.Event()
        send = LoopConnection.send

        async def stalled(
            connection: LoopConnection, topic: str, payload: bytes, *, retain: bool = False
        ) -> asyncio.Future[bool]:
            mine = connection.client_id == "b01"
            if mine and topic.endswith(inbox) and isinstance(open_envelope(payload).message, Ready):
                self.begun.set()
            if mine and self.begun.is_set():
                await asyncio.get_running_loop().create_future()
            return await send(connection, topic, payload, retain=retain)

        patch.setattr(LoopConnection, "send", stalled)


def test_secrets_are_dropped_at_the_deadline_whatever_the_broker_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lap_times, "LAP_BASE_S", 1.0)
    monkeypatch.setattr(member, "GRACE_S", 1.0)
    files = LocalFleet(
        tmp_path,
        Broker("localhost", 1),
        N_DEVICES,
        coordinator={
            "model": {"kind": "softmax"},
            "ring": {
                "size": N_DEVICES,
                "min_devices": N_DEVICES,
                "key_bits": 2048,
                "ready_s": 1.0,
                "patience_s": 1.0,
                "release_s": 1.0,
            },
        },
    )

    async def story() -> None:
        with loop_fleet(files) as fleet:
            stall = Stall(monkeypatch, "coordinator/inbox/b01")
            stalled = fleet.agents[0]._member
            async with fleet.serving(), asyncio.timeout(100):
                await stall.begun.wait()
                held = stalled._round
                assert held is not None
                assert held.secrets is not None
                while held.secrets is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                assert stalled._round is not held

    asyncio.run(story())
