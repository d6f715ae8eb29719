"""What the coordinator shows, and how often."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

from fedring.coordinator.bulletin import STATUS_S, Bulletin
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.mqtt import Connection
from fedring.shared.topics import Topics


class Wire:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, _topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert retain
        self.sent.append(json.loads(payload))


def test_numbers_of_devices_wait_a_little_and_headlines_do_not(tmp_path: Path) -> None:
    wire = Wire()
    with CoordinatorStore.open_to_run(tmp_path / "state", fleet="home") as store:
        bulletin = Bulletin(Topics("home"), cast(Connection, wire), store)

        def show(headline: str, online: int, now: float) -> list[tuple[str, int]]:
            wire.sent.clear()
            status = {"state": headline, "online": online}
            shown = bulletin.show_status(lambda: status, headline=headline, now=now)
            asyncio.run(shown)
            return [(line["state"], line["online"]) for line in wire.sent]

        assert show("announced", 1, 10.0) == [("announced", 1)]
        assert bulletin.status_due is None
        assert show("announced", 2, 10.01) == []
        assert show("announced", 3, 10.02) == []
        assert bulletin.status_due == 10.0 + STATUS_S
        assert show("announced", 3, 10.0 + STATUS_S) == [("announced", 3)]
        assert bulletin.status_due is None
        assert show("rings", 3, 10.01 + STATUS_S) == [("rings", 3)]
        assert show("rings", 3, 20.0) == []
        assert bulletin.status_due is None
