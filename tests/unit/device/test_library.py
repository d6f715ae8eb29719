"""Models on a board: fetched once, kept in a file, whatever is cancelled or sent meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve

from fedring.device.store import DeviceStore
from fedring.device.work import Library
from fedring.shared.errors import PeerError
from fedring.shared.messages import ModelReference
from fedring.shared.models import Model, load_npz
from fedring.shared.mqtt import Connection
from fedring.shared.networks import initialise
from fedring.shared.topics import Topics, model_place


class Subscriptions:
    """A connection that remembers what is subscribed."""

    def __init__(self) -> None:
        self._filters: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def subscribe(self, topic_filter: str) -> None:
        self._filters[topic_filter].set()

    def unsubscribe(self, topic_filter: str) -> None:
        self._filters[topic_filter].clear()

    async def asked_for(self, model: Model) -> None:
        await self._filters[Topics("garden").model(model.digest)].wait()

    @property
    def silent(self) -> bool:
        return not any(event.is_set() for event in self._filters.values())


class Shelf:
    """A library on a connection of its own."""

    def __init__(self, folder: Path, store: DeviceStore) -> None:
        self.file = folder / "model.npz"
        self.connection = Subscriptions()
        self.library = Library(
            Topics("garden"), cast(Connection, self.connection), store, self.file, "garden"
        )

    def deliver(self, model: Model) -> None:
        for index, chunk in enumerate(model.chunks()):
            self.library.receive(model_place(model.digest), index, chunk)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with DeviceStore.open(tmp_path / "state", fleet="garden", number=1) as store:
        yield Shelf(tmp_path, store)


MODEL = initialise("softmax", ["warmth", "light"], ["night", "day"], seed=1)
NEWER = initialise("softmax", ["warmth", "light"], ["night", "day"], ranges=2.0)


def reference(model: Model, version: int) -> ModelReference:
    size = sum(map(len, model.chunks()))
    return ModelReference(version=version, parent=0, digest=model.digest, size=size)


async def begun(shelf: Shelf, model: Model, version: int) -> asyncio.Task[Model]:
    """A fetch that waits for chunks."""
    task = asyncio.create_task(shelf.library.fetch(1, reference(model, version)))
    await shelf.connection.asked_for(model)
    return task


def test_a_model_is_fetched_once_and_kept(shelf: Shelf) -> None:
    async def story() -> None:
        fetching = await begun(shelf, MODEL, 1)
        shelf.deliver(MODEL)
        assert await fetching == MODEL
        assert shelf.connection.silent
        assert await shelf.library.fetch(1, reference(MODEL, 1)) == MODEL

    asyncio.run(story())
    kept, note = load_npz(shelf.file)
    assert (kept, note["version"], shelf.library.version) == (MODEL, 1, 1)


@pytest.mark.parametrize("wanted", [MODEL, NEWER], ids=["same", "newer"])
def test_a_fetch_that_is_overtaken_leaves_nothing_behind(shelf: Shelf, wanted: Model) -> None:
    async def story() -> None:
        overtaken = await begun(shelf, MODEL, 1)
        overtaken.cancel()
        next_one = asyncio.create_task(shelf.library.fetch(1, reference(wanted, 2)))
        await asyncio.gather(overtaken, return_exceptions=True)
        await shelf.connection.asked_for(wanted)
        shelf.deliver(wanted)
        assert await next_one == wanted
        assert shelf.connection.silent

    asyncio.run(story())
    assert shelf.library.version == 2


def test_an_announced_model_that_is_none_is_refused_and_the_next_is_taken(shelf: Shelf) -> None:
    strange = Model("strange", MODEL.features, MODEL.classes, dict(MODEL.arrays), MODEL.trained)

    async def story() -> None:
        for _ in range(2):  # it is not taken for known the second time
            fetching = await begun(shelf, strange, 1)
            shelf.deliver(strange)
            with pytest.raises(PeerError):
                await fetching
        fetching = await begun(shelf, MODEL, 2)
        shelf.deliver(MODEL)
        assert await fetching == MODEL

    asyncio.run(story())
    assert load_npz(shelf.file)[1]["version"] == 2


def test_a_model_larger_than_announced_is_refused(shelf: Shelf) -> None:
    async def story() -> None:
        small = evolve(reference(MODEL, 1), size=8)
        fetching = asyncio.create_task(shelf.library.fetch(1, small))
        await shelf.connection.asked_for(MODEL)
        shelf.deliver(MODEL)
        with pytest.raises(PeerError, match="takes 8"):
            await fetching

    asyncio.run(story())
    assert not shelf.file.exists()
