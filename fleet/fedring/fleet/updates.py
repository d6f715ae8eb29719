"""Sending an update to a fleet: bundles onto the broker, orders in waves, what the boards say.

What is published, in this order: chunks of the bundles, then the order that names them; so whoever
reads an order finds the rest. The number of an order is on this disk before it leaves, and with it
what a new process needs to go on: the boards' own words are retained on the broker.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

from fedring.fleet.authority import Fleet
from fedring.fleet.hearsay import Hearsay
from fedring.fleet.register import Standing
from fedring.fleet.rollout import STEADY_S, Heard, Record, Rollout, Shelved, Wave, Withdraw
from fedring.shared.broker import Broker
from fedring.shared.bundle_chunks import cut_bundle
from fedring.shared.bundles import Bundle, open_bundle, version_number
from fedring.shared.errors import BundleError, StateError
from fedring.shared.identity import OWNER_NAME, Authority
from fedring.shared.mqtt import Connected, Connection, Disconnected, Message
from fedring.shared.orders import Offer, UpdateOrder, sealed
from fedring.shared.state import write_file
from fedring.shared.topics import DeviceStatus, DeviceUpdate, Topics

RECORD_FILE: Final = "updates.json"
COMPLETE: Final = "complete"

_OFFLINE: Final = "offline"
_TICK_S: Final = 0.2
_SETTLE_S: Final = 1.0
"""After connecting: so long the broker needs to show who is there."""
_AGAIN_S: Final = 1.0


@frozen
class Parcel:
    """A bundle in chunks.

    Attributes:
        bundle: what it is.
        digest: of the listing, 32 bytes.
        chunks: the listing first.
    """

    bundle: Bundle
    digest: bytes
    chunks: tuple[bytes, ...] = attrs.field(repr=False)

    @property
    def shelved(self) -> Shelved:
        """As it is noted down."""
        bundle = self.bundle
        return Shelved(bundle.python, bundle.arch, self.digest.hex(), len(self.chunks))


def read_parcels(files: Sequence[Path], authority: Authority) -> list[Parcel]:
    """Read the bundles of one update.

    Raises:
        BundleError: one is damaged, or they are not of one version, or two are for one kind of
            board.
        SignedFolderError: one is not this fleet's.
    """
    parcels = []
    for file in files:
        bundle = open_bundle(file, authority)
        chunks = cut_bundle(file.read_bytes())
        digest = sha256(chunks[0]).digest()
        parcels.append(Parcel(bundle, digest, tuple(chunks)))
    versions = sorted({one.bundle.version for one in parcels}, key=version_number)
    kinds = {(one.bundle.python, one.bundle.arch) for one in parcels}
    if len(versions) > 1 or len(kinds) < len(parcels):
        raise BundleError(
            f"bundles of versions {', '.join(versions)}, for {len(kinds)} kinds of boards",
            name="bundle.mixed",
            hint="one update brings one version, with one bundle for each Python and processor",
        )
    return parcels


class RecordFile:
    """The fleet's note of its updates.

    Args:
        folder: of the fleet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD_FILE

    def read(self) -> Record:
        """What was noted last; an empty record before the first update.

        Raises:
            StateError: damaged.
        """
        try:
            return Record.from_fields(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{self._path} is damaged",
                name="fleet.damaged",
                hint="bring it back from a backup: boards take only orders of higher numbers",
            ) from error

    def write(self, record: Record) -> None:
        write_file(self._path, (json.dumps(attrs.asdict(record), indent=1) + "\n").encode())


class Sender:
    """Leads one update through its waves.

    Args:
        fleet: unlocked.
        broker: as the owner's machine speaks to it.
        parcels: what to send; none to go on with the update that is under way.
        tell: called with a line for people.
        show: called with the rollout whenever something has changed.
        steady_s: see `fedring.fleet.rollout`.

    Raises:
        StateError: there is no update to go on with.
    """

    def __init__(
        self,
        fleet: Fleet,
        broker: Broker,
        parcels: Sequence[Parcel],
        tell: Callable[[str], object],
        show: Callable[[Rollout], object],
        *,
        steady_s: float = STEADY_S,
    ) -> None:
        self._fleet = fleet
        self._parcels = parcels
        self._tell = tell
        self._show = show
        self._topics = Topics(fleet.name)
        self._file = RecordFile(fleet.folder)
        self._record = self._begin(self._file.read())
        self._connection = Connection(
            broker,
            OWNER_NAME,
            subscriptions=[
                *self._topics.everywhere(DeviceStatus),
                *self._topics.everywhere(DeviceUpdate),
            ],
            persistent=False,
            fail_fast=True,
            classify=self._topics.classify,
        )
        names = {
            device.name
            for device in fleet.devices
            if device.standing in {Standing.CERTIFIED, Standing.ENROLLED}
        }
        self.rollout = Rollout(
            names, self._record.last_number + 1, self._record.waves, steady_s=steady_s
        )

    def _begin(self, record: Record) -> Record:
        offered = tuple(parcel.digest.hex() for parcel in self._parcels)
        if not offered and (record.ended or not record.version):
            raise StateError(
                "no update is under way" + (f"; the last one: {record.ended}" * bool(record.ended)),
                name="fleet.no-update",
                hint="begin one: fedring fleet update BUNDLE...",
            )
        if not record.ended and record.version and offered in {(), record.offered}:
            self._tell(f"going on with the update to {record.version}")
            return record
        if not record.ended and record.version:
            self._tell(f"the update to {record.version} is given up for this one")
        begun = Record(
            last_number=record.last_number,
            version=self._parcels[0].bundle.version,
            shelved=record.shelved,
            offered=offered,
        )
        self._file.write(begun)
        return begun

    async def send(self) -> bool:
        """Send, and stay until every board that is there has come to its end.

        Returns:
            Whether all is well: no board went back, refused, or fell silent on the way.
        """
        async with self._connection as connection, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen(connection), name="listen")
            await self._shelve(connection)
            if self._record.waves:
                await self._order(connection, self._record.waves[-1])
            await asyncio.sleep(_SETTLE_S)
            while not (self.rollout.complete or self.rollout.stopped):
                for effect in self.rollout.tick(time.monotonic()):
                    await self._carry_out(connection, effect)
                await asyncio.sleep(_TICK_S)
            listening.cancel()
        self._note(ended=self.rollout.stopped or COMPLETE)
        return not self.rollout.stopped

    async def _carry_out(self, connection: Connection, effect: Wave | Withdraw) -> None:
        match effect:
            case Wave():
                self._note(
                    last_number=effect.number, waves=(*self._record.waves, effect)
                )  # before it leaves: no number is ever given twice
                await self._order(connection, effect)
                whom = "all boards" if effect.names is None else ", ".join(effect.names)
                self._tell(f"wave {len(self.rollout.waves)}: {whom}")
                self._show(self.rollout)
            case Withdraw():
                await self._publish(connection, self._topics.update, b"")
                await self._clear(connection, keep=())

    async def _order(self, connection: Connection, wave: Wave) -> None:
        offers = [one for one in self._record.shelved if one.digest in self._record.offered]
        order = UpdateOrder(
            self._fleet.name,
            wave.number,
            self._record.version,
            tuple(Offer(one.python, one.arch, bytes.fromhex(one.digest)) for one in offers),
            None if wave.names is None else frozenset(wave.names),
        )
        payload = order.payload()
        signature = self._fleet.sign(UpdateOrder.KIND, payload)
        await self._publish(connection, self._topics.update, sealed(payload, signature))

    async def _shelve(self, connection: Connection) -> None:
        """Put the bundles onto the broker, and take away what no board needs any more."""
        here = {one.digest for one in self._record.shelved}
        fresh = tuple(one.shelved for one in self._parcels if one.shelved.digest not in here)
        self._note(shelved=(*self._record.shelved, *fresh))  # to be cleared, whatever comes
        for parcel in self._parcels:
            kind = f"{parcel.bundle.python} {parcel.bundle.arch}"
            self._tell(f"sending version {parcel.bundle.version} for {kind} to the broker")
            for index in (*range(1, len(parcel.chunks)), 0):
                topic = self._topics.bundle_chunk(parcel.digest, index)
                await self._publish(connection, topic, parcel.chunks[index])
        await self._clear(connection, keep=self._record.offered)

    async def _clear(self, connection: Connection, *, keep: Sequence[str]) -> None:
        for one in self._record.shelved:
            if one.digest in keep:
                continue
            for index in range(one.n_chunks):
                topic = self._topics.bundle_chunk(bytes.fromhex(one.digest), index)
                await self._publish(connection, topic, b"")
        self._note(shelved=tuple(one for one in self._record.shelved if one.digest in keep))

    async def _publish(self, connection: Connection, topic: str, payload: bytes) -> None:
        while True:
            if await connection.publish(topic, payload, retain=True):
                return
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self, connection: Connection) -> None:
        async for event in connection.events():
            match event:
                case Message(topic, payload) if payload:
                    self._heard(topic, payload)
                case Disconnected(reason):
                    self._tell(reason)
                case Connected():
                    self._show(self.rollout)

    def _heard(self, topic: str, payload: bytes) -> None:
        told = Hearsay.read(payload)
        if told is None:
            return
        match self._topics.parse(topic):
            case DeviceStatus(name):
                self.rollout.present(name, is_there=told.text("state") != _OFFLINE)
                self._show(self.rollout)
            case DeviceUpdate(name):
                heard = Heard(
                    told.count("order"),
                    told.text("state"),
                    told.number("fetched") or 0.0,
                    told.text("reason"),
                )
                if self.rollout.heard(name, heard, time.monotonic()):
                    self._show(self.rollout)

    def _note(self, **changes: object) -> None:
        self._record = attrs.evolve(self._record, **changes)  # type: ignore[arg-type]
        self._file.write(self._record)
