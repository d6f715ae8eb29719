"""The agent's part in an update of itself: fetch what the owner ordered, hand it over, tell.

An order is believed when the fleet authority signed it and no later one was seen. The last one
stays on the broker, so it is met again: one that came to its end here is not followed once more,
whatever was installed by hand since, and one from before this board was flashed brings it forward
only. So neither a new card nor a broker that plays an old order again leads back. The bundle comes
in chunks, asked for a few at a time so that rounds go on beside it, each held by a digest that the
order vouches for. A restart goes on where it was. The whole bundle is put into the inbox by rename,
after it is on the disk, and only then the others are told. What becomes of it the updater says, who
is root and believes nothing but the authority's signature (`updater.py`); an agent starts anew
meanwhile, and tells what it finds.

    fetching -> installing -> updated
                           -> rolled_back
             -> refused    -> refused
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.device.boards import processor, python_tag
from fedring.device.room import require_room
from fedring.device.store import DeviceStore
from fedring.device.update.places import Outcome, Places
from fedring.shared.bundle_chunks import CHUNK_BYTES, Listing, offset_of
from fedring.shared.bundles import SUFFIX, version_number
from fedring.shared.errors import BundleError, MessageError
from fedring.shared.identity import Authority
from fedring.shared.mqtt import Connection
from fedring.shared.orders import Offer, UpdateOrder, read_order
from fedring.shared.state import sync_folder
from fedring.shared.topics import Topics

FETCHING: Final = "fetching"
INSTALLING: Final = "installing"
UPDATED: Final = "updated"
REFUSED: Final = "refused"

AT_ONCE: Final = 4
"""Chunks asked for at a time: 256 KiB in memory, and a link that rounds can share."""

_PART: Final = ".part"
_ASK_AGAIN_S: Final = 20.0
_LOOK_S: Final = 1.0
_STEPS_TOLD: Final = 20

_log = logging.getLogger(__name__)


@frozen
class Report:
    """What the others are told of an update.

    Attributes:
        state: "fetching", "installing", "updated", "rolled_back" or "refused".
        order: number of the order that it is about.
        from_version: ran before.
        to_version: was ordered.
        fetched: part of the bundle that is here, 0 to 1.
        reason: why not, else "".
    """

    state: str
    order: int
    from_version: str
    to_version: str
    fetched: float = 1.0
    reason: str = ""

    def encode(self) -> bytes:
        """As it is on the topic."""
        return json.dumps(
            {
                "state": self.state,
                "order": self.order,
                "from": self.from_version,
                "to": self.to_version,
                "fetched": round(self.fetched, 2),
                "reason": self.reason,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        ).encode()


class Updates:
    """Carries out the newest order.

    Args:
        name: of this board.
        version: that runs.
        authority: of the fleet.
        topics: of the fleet.
        connection: to the broker.
        store: remembers the highest order.
        places: of the board.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        authority: Authority,
        topics: Topics,
        connection: Connection,
        store: DeviceStore,
        places: Places,
    ) -> None:
        self._name = name
        self._version = version
        self._authority = authority
        self._topics = topics
        self._connection = connection
        self._store = store
        self._places = places
        self._order: UpdateOrder | None = None
        self._report: Report | None = None
        self._awaited: dict[tuple[bytes, int], asyncio.Future[bytes]] = {}

    def receive(self, digest: bytes, index: int, data: bytes) -> None:
        """A chunk of a bundle came in."""
        awaited = self._awaited.get((digest, index))
        if awaited is not None and not awaited.done() and data:
            awaited.set_result(data)

    def take(self, envelope: bytes) -> UpdateOrder | None:
        """Look at an order; gives it when it is new and for this board.

        Raises:
            IdentityError: anybody's but the authority's.
        """
        order = read_order(envelope, self._authority)
        highest = self._store.memory().get("order", 0)
        if order.number < highest:
            _log.warning("order %d is not above %d, already here", order.number, highest)
            return None
        if order == self._order:
            return None
        self._order = order
        self._store.remember(order=order.number)
        return order if order.meant_for(self._name) else None

    async def tell_again(self) -> None:
        """After a connection was lost: what was told last may not have arrived."""
        if self._report is not None:
            await self._tell(self._report)

    async def carry_out(self, order: UpdateOrder) -> None:
        """See an order through to its end, or until a newer one cancels it."""
        await asyncio.to_thread(self._store.flush)
        source = f"{order.number}{SUFFIX}"
        handed_over = self._places.inbox / source
        if not handed_over.exists() and not self._is_done(source):
            if order.version == self._version or self._leads_back(order):
                await self._tell(Report(UPDATED, order.number, self._version, self._version))
                return
            if order.number <= self._store.memory().get("settled", 0):
                return
            try:
                await self._fetch(order, handed_over)
            except (BundleError, OSError) as fault:
                reason = str(fault)
                _log.error("update to %s: %s", order.version, reason)
                await self._tell(self._of(order, REFUSED, reason=reason))
                return
        if handed_over.exists():
            await self._tell(self._of(order, INSTALLING))
        told: Outcome | None = None
        while True:
            # In this order: once it is gone the outcome is the last one.
            lasts = handed_over.exists()
            outcome = self._places.read_outcome()
            if outcome is not None and outcome.source == source and outcome != told:
                told = outcome
                # It may have its name since this very moment: what others are told stays true.
                await asyncio.to_thread(sync_folder, self._places.record)
                await self._tell(_report(order, outcome))
            if not lasts:
                break
            await asyncio.sleep(_LOOK_S)
        if told is not None:
            self._store.remember(settled=order.number)
            await asyncio.to_thread(self._store.flush)

    def _leads_back(self, order: UpdateOrder) -> bool:
        """Whether it was given before this board got a newer agent by flashing."""
        if order.number > self._places.read_orders():
            return False
        return version_number(order.version) < version_number(self._version)

    def _is_done(self, source: str) -> bool:
        outcome = self._places.read_outcome()
        return outcome is not None and outcome.source == source

    async def _fetch(self, order: UpdateOrder, target: Path) -> None:
        offer = order.offer(python_tag(), processor())
        if offer is None:
            raise BundleError(
                f"no bundle for {python_tag()} on {processor()} was ordered",
                name="bundle.unfit",
                hint="make one more with `fedring fleet bundle`, and order both",
            )
        await self._tell(self._of(order, FETCHING))
        part = target.with_suffix(_PART)
        for other in target.parent.glob(f"*{_PART}"):
            if other != part:
                other.unlink()
        listing = await self._listing(offer)
        here = await asyncio.to_thread(_chunks_here, part, listing)
        require_room(target.parent, listing.size - len(here) * CHUNK_BYTES)
        missing = [index for index in range(1, listing.n_chunks + 1) if index not in here]
        told = 0
        for at in range(0, len(missing), AT_ONCE):
            some = missing[at : at + AT_ONCE]
            chunks = await asyncio.gather(*(self._chunk(offer, listing, index) for index in some))
            await asyncio.to_thread(_write, part, zip(some, chunks, strict=True))
            fetched = (len(here) + at + len(some)) / listing.n_chunks
            if int(fetched * _STEPS_TOLD) > told:
                told = int(fetched * _STEPS_TOLD)
                await self._tell(self._of(order, FETCHING, fetched=fetched))
        await asyncio.to_thread(_hand_over, part, target)

    async def _listing(self, offer: Offer) -> Listing:
        while True:
            data = await self._retained(offer.digest, 0)
            try:
                return Listing.decode(data, offer.digest)
            except MessageError as fault:
                _log.warning("bundle %s: %s", offer.digest.hex()[:12], fault)
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _chunk(self, offer: Offer, listing: Listing, index: int) -> bytes:
        while True:
            data = await self._retained(offer.digest, index)
            if listing.fits(index, data):
                return data
            _log.warning("bundle %s: chunk %d is not its own", offer.digest.hex()[:12], index)
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _retained(self, digest: bytes, index: int) -> bytes:
        """Ask the broker for a chunk until it comes."""
        topic = self._topics.bundle_chunk(digest, index)
        awaited: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited[digest, index] = awaited
        try:
            while True:
                await self._connection.subscribe(topic)
                await asyncio.wait({awaited}, timeout=_ASK_AGAIN_S)
                self._connection.unsubscribe(topic)
                if awaited.done():
                    return awaited.result()
        finally:
            self._connection.unsubscribe(topic)
            del self._awaited[digest, index]

    def _of(
        self, order: UpdateOrder, state: str, *, fetched: float | None = None, reason: str = ""
    ) -> Report:
        if fetched is None:
            fetched = 1.0 if state == INSTALLING else 0.0
        return Report(state, order.number, self._version, order.version, fetched, reason)

    async def _tell(self, report: Report) -> None:
        self._report = report
        topic = self._topics.device_update(self._name)
        await self._connection.send(topic, report.encode(), retain=True)


def _report(order: UpdateOrder, outcome: Outcome) -> Report:
    return Report(
        outcome.state,
        order.number,
        outcome.from_version,
        order.version,
        reason=outcome.reason,
    )


def _chunks_here(part: Path, listing: Listing) -> set[int]:
    """Which chunks an earlier start has left, whole."""
    if not part.exists():
        part.touch(mode=0o600)
        return set()
    with part.open("rb") as file:
        indices = range(1, listing.n_chunks + 1)
        return {index for index in indices if listing.fits(index, file.read(CHUNK_BYTES))}


def _write(part: Path, chunks: Iterable[tuple[int, bytes]]) -> None:
    with part.open("r+b") as file:
        for index, data in chunks:
            file.seek(offset_of(index))
            file.write(data)


def _hand_over(part: Path, target: Path) -> None:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(target)
    sync_folder(target.parent)
