"""What the coordinator shows, and how often."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

from fedring.coordinator.bulletin import SHOWN_VOIDS, STATUS_S, Bulletin, history_line
from fedring.coordinator.records import Outcome, Round, Version, VoidRing
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.messages import MAX_REASON_CHARACTERS
from fedring.shared.mqtt import MAX_PAYLOAD_BYTES, Connection
from fedring.shared.topics import Topics


class Wire:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.retained = False

    async def send(self, _topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert len(payload) < MAX_PAYLOAD_BYTES
        self.retained = retain
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
        assert wire.retained
        assert show("rings", 3, 20.0) == []
        assert bulletin.status_due is None


def test_a_line_of_the_history_stays_a_message_whatever_devices_wrote_into_it() -> None:
    reason = "d07 refused the list: " + "\U0001f600" * MAX_REASON_CHARACTERS
    voids = tuple(VoidRing(ring=number, reason=reason) for number in range(1, 501))
    outcome = Outcome(epoch=1, round=5, rings=501, void_rings=voids)
    version = Version(
        version=1, parent=0, task="train", epoch=1, round=5, digest=bytes(32), created="now"
    )
    made_by = Round(epoch=1, round=5, outcome=outcome, version=1, announced="now")
    line = history_line(version, made_by)
    assert len(json.dumps(line)) < MAX_PAYLOAD_BYTES
    assert (line["rings"], len(line["void_rings"])) == (501, SHOWN_VOIDS)


def test_an_event_stays_a_message_whatever_devices_wrote_into_it(tmp_path: Path) -> None:
    wire = Wire()
    with CoordinatorStore.open_to_run(tmp_path / "state", fleet="home") as store:
        bulletin = Bulletin(Topics("home"), cast(Connection, wire), store)
        reasons = ["\U0001f600" * MAX_REASON_CHARACTERS] * 500
        asyncio.run(bulletin.tell("round void", {"reasons": reasons, "members": [1, 2]}))
    (line,) = wire.sent
    assert not wire.retained
    assert (len(line["reasons"]), line["members"]) == (SHOWN_VOIDS, [1, 2])
