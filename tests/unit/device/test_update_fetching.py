"""The agent's part in updates: what it fetches, what it hands over, what it tells."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.device.boards import processor, python_tag
from fedring.device.store import DeviceStore
from fedring.device.update import fetching
from fedring.device.update.fetching import Updates
from fedring.device.update.places import Outcome, Places
from fedring.fleet.issuing import Issuer
from fedring.shared.bundle_chunks import CHUNK_BYTES, cut_bundle
from fedring.shared.errors import IdentityError
from fedring.shared.identity import Authority, sign
from fedring.shared.orders import Offer, UpdateOrder, sealed
from fedring.shared.topics import BundleChunk, Topics

ISSUER = Issuer.create("greenhouse")
AUTHORITY = Authority(ISSUER.certificate.public_bytes(Encoding.DER))
TOPICS = Topics("greenhouse")
BUNDLE = random.Random(1).randbytes(5 * CHUNK_BYTES) + b"the end"
CHUNKS = cut_bundle(BUNDLE)
DIGEST = sha256(CHUNKS[0]).digest()


def order(number: int = 1, *, names: frozenset[str] | None = None, **how: Any) -> bytes:
    offers = how.get("offers", (Offer(python_tag(), processor(), DIGEST),))
    made = UpdateOrder("greenhouse", number, how.get("version", "0.2.0"), offers, names)
    return sealed(made.payload(), sign(ISSUER.key, UpdateOrder.KIND, made.payload()))


class Shelf:
    """A connection to a broker that holds chunks, and may lie about some."""

    def __init__(self) -> None:
        self.chunks = {(DIGEST, index): chunk for index, chunk in enumerate(CHUNKS)}
        self.lies: dict[int, bytes] = {}
        self.asked: list[int] = []
        self.told: list[dict[str, Any]] = []
        self.updates: Updates | None = None
        self.kept_back: set[int] = set()

    async def subscribe(self, topic: str) -> None:
        found = TOPICS.parse(topic)
        assert isinstance(found, BundleChunk)
        self.asked.append(found.index)
        assert self.updates is not None
        if found.index not in self.kept_back:
            data = self.lies.pop(found.index, None)
            data = self.chunks[found.digest, found.index] if data is None else data
            self.updates.receive(found.digest, found.index, data)

    def unsubscribe(self, topic: str) -> None:
        pass

    async def send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert topic == TOPICS.device_update("b01")
        assert retain
        self.told.append(json.loads(payload))

    @property
    def states(self) -> list[str]:
        return [one["state"] for one in self.told]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "var" / "lib" / "fedring" / "inbox").mkdir(parents=True)
    (tmp_path / "var" / "lib" / "fedring").chmod(0o700)
    (tmp_path / "var" / "lib" / "fedring-update").mkdir()
    found = Places.around(tmp_path / "var" / "lib" / "fedring" / "state")
    assert found is not None
    assert found.state == tmp_path / "var" / "lib" / "fedring"
    return found


@pytest.fixture
def store(places: Places) -> Iterator[DeviceStore]:
    with DeviceStore.open(places.state, fleet="greenhouse", number=1) as store:
        yield store


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(fetching, "_ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(fetching, "_LOOK_S", 0.01)
    return Shelf()


@pytest.fixture
def updates(places: Places, store: DeviceStore, shelf: Shelf) -> Updates:
    shelf.updates = Updates(
        name="b01",
        version="0.1.0",
        authority=AUTHORITY,
        topics=TOPICS,
        connection=shelf,  # type: ignore[arg-type]
        store=store,
        places=places,
    )
    return shelf.updates


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def handed_over(updates: Updates) -> bool:
    return updates._report is not None and updates._report.state == "installing"


def follow(updates: Updates, envelope: bytes, then: Outcome | None = None) -> None:
    """Take an order and carry it out; root does its part when the bundle is there."""
    taken = updates.take(envelope)
    assert taken is not None

    async def story() -> None:
        carrying = asyncio.create_task(updates.carry_out(taken))
        inbox = updates._places.inbox / f"{taken.number}.fedring"
        if then is not None:
            await until(lambda: handed_over(updates))
            updates._places.write_outcome(then)
            inbox.unlink()
        await asyncio.wait_for(carrying, 10)

    asyncio.run(story())


DONE = Outcome("updated", "1.fedring", "0.1.0", "0.2.0")
BACK = Outcome("rolled_back", "1.fedring", "0.1.0", "0.2.0", "not READY within 150 s")


def test_a_bundle_is_fetched_handed_over_and_its_outcome_told(
    updates: Updates, shelf: Shelf, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[bytes] = []
    hand_over = fetching._hand_over

    def spy(part: Path, target: Path) -> None:
        handed.append(part.read_bytes())
        hand_over(part, target)

    monkeypatch.setattr(fetching, "_hand_over", spy)
    follow(updates, order(), BACK)
    assert handed == [BUNDLE]
    assert list(dict.fromkeys(shelf.states)) == ["fetching", "installing", "rolled_back"]
    last = shelf.told[-1]
    assert (last["order"], last["from"], last["to"]) == (1, "0.1.0", "0.2.0")
    assert last["reason"] == "not READY within 150 s"
    parts = [one["fetched"] for one in shelf.told if one["state"] == "fetching"]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)


def test_a_chunk_that_is_not_its_own_is_asked_for_again(updates: Updates, shelf: Shelf) -> None:
    shelf.lies = {0: CHUNKS[1], 2: CHUNKS[3], 4: b"x" * CHUNK_BYTES, 6: b""}
    follow(updates, order(), DONE)
    assert shelf.states[-1] == "updated"
    assert [shelf.asked.count(index) for index in range(7)] == [2, 1, 2, 1, 2, 1, 2]


def test_a_restart_asks_only_for_what_is_missing(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    part = places.inbox / "1.part"
    damaged = bytearray(BUNDLE)
    damaged[2 * CHUNK_BYTES] ^= 1  # chunk 3
    part.write_bytes(damaged)
    (places.inbox / "0.part").write_bytes(b"of an order before")
    follow(updates, order(), DONE)
    assert shelf.asked == [0, 3]
    assert list(places.inbox.iterdir()) == []


def test_an_agent_that_starts_while_the_updater_is_at_work_waits_for_its_word(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    (places.inbox / "1.fedring").write_bytes(BUNDLE)
    follow(updates, order(version="0.1.0"), DONE)  # it is the new one already, on trial
    assert shelf.asked == []
    assert shelf.states == ["installing", "updated"]


def test_what_is_over_is_told_and_not_done_again(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    places.write_outcome(BACK)
    follow(updates, order())
    assert shelf.asked == []
    assert shelf.states == ["rolled_back"]


def test_the_version_that_runs_is_not_fetched(updates: Updates, shelf: Shelf) -> None:
    follow(updates, order(version="0.1.0"))
    assert shelf.asked == []
    assert shelf.states == ["updated"]


def test_a_card_that_is_newer_than_the_order_on_the_broker_stays_as_it_is(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    """Its owner flashed it later: what the fleet was brought to then is behind it."""
    (places.record / "orders").write_text("5\n")
    follow(updates, order(5, version="0.0.9"))
    assert (shelf.asked, shelf.states) == ([], ["updated"])
    assert shelf.told[-1]["to"] == "0.1.0", "what it runs, not what was ordered"


def test_a_card_that_is_older_than_the_order_on_the_broker_follows_it(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    (places.record / "orders").write_text("5\n")
    follow(updates, order(5), Outcome("updated", "5.fedring", "0.1.0", "0.2.0"))
    assert "installing" in shelf.states


def test_a_later_order_may_lead_back(updates: Updates, shelf: Shelf, places: Places) -> None:
    """The floor is the bound: root's part knows it."""
    (places.record / "orders").write_text("5\n")
    follow(updates, order(6, version="0.0.9"), Outcome("updated", "6.fedring", "0.1.0", "0.0.9"))
    assert "installing" in shelf.states


def test_an_order_that_is_over_does_not_undo_an_update_by_hand(
    updates: Updates, shelf: Shelf, places: Places
) -> None:
    follow(updates, order(), DONE)
    by_hand = Outcome("updated", "/home/pi/new.fedring", "0.2.0", "0.3.0")
    places.write_outcome(by_hand)
    updates._order, before = None, list(shelf.asked)  # as after a restart
    follow(updates, order())
    assert shelf.asked == before


def test_no_bundle_for_this_board(updates: Updates, shelf: Shelf) -> None:
    follow(updates, order(offers=(Offer("cp39", "sparc", DIGEST),)))
    assert shelf.states == ["refused"]
    assert f"no bundle for {python_tag()} on {processor()}" in shelf.told[0]["reason"]


def test_no_room(updates: Updates, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_bavail=2**20, f_frsize=1)
    monkeypatch.setattr("fedring.device.room.os.statvfs", lambda _: disk)
    follow(updates, order())
    assert shelf.states == ["fetching", "refused"]
    assert "1 MiB are free" in shelf.told[-1]["reason"]
    assert shelf.asked == [0], "only the listing"


def test_orders_for_others_of_others_and_from_before(
    updates: Updates, shelf: Shelf, store: DeviceStore
) -> None:
    assert updates.take(order(7, names=frozenset({"b02"}))) is None
    assert updates.take(order(6)) is None, "an order from before, sent once more"
    store.flush()
    assert store.memory()["order"] == 7
    assert updates.take(order(8)) is not None
    assert updates.take(order(8)) is None, "the same one, after a connection was lost"
    foreign = UpdateOrder("greenhouse", 9, "0.2.0", (), None).payload()
    with pytest.raises(IdentityError):
        updates.take(
            sealed(foreign, sign(Issuer.create("greenhouse").key, UpdateOrder.KIND, foreign))
        )
    assert shelf.told == []


def test_a_fetch_that_is_cancelled_leaves_nothing_waiting(updates: Updates, shelf: Shelf) -> None:
    shelf.kept_back = {2}
    taken = updates.take(order())
    assert taken is not None

    async def story() -> None:
        carrying = asyncio.create_task(updates.carry_out(taken))
        await until(lambda: shelf.asked.count(2) == 3)  # it asks again and again
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)

    asyncio.run(story())
    assert updates._awaited == {}


def test_what_was_told_last_is_told_again(updates: Updates, shelf: Shelf) -> None:
    asyncio.run(updates.tell_again())
    assert shelf.told == []
    follow(updates, order(), DONE)
    asyncio.run(updates.tell_again())
    assert shelf.states[-2:] == ["updated", "updated"]


def test_only_a_flashed_board_takes_bundles(tmp_path: Path) -> None:
    assert Places.around(tmp_path / "state") is None
    (tmp_path / "var" / "lib" / "fedring").mkdir(parents=True)
    assert Places.around(tmp_path / "var" / "lib" / "fedring") is None, "nobody made an inbox"
