"""The slow part of a round on a board: fetch the model, train, make key and mask.

All of it runs in threads, so that the connection is kept alive meanwhile. The mask is begun first:
it is made while the model is fetched, and mostly done when training begins. What comes out goes
back to the state machine as one `Worked`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from attrs import define, field, frozen
from phe import PaillierPublicKey

from fedring.device.contributing import contribute
from fedring.device.data import Dataset, Source
from fedring.device.preparing import Preparation
from fedring.device.store import DeviceStore, keep_model
from fedring.device.trainers import Trainer
from fedring.shared import networks
from fedring.shared.encryption import OneTimeMask, Suite, suite
from fedring.shared.envelopes import Signed
from fedring.shared.errors import (
    DataError,
    MessageError,
    ModelError,
    PeerError,
    ProtocolError,
    UpdateError,
)
from fedring.shared.messages import Announce, ModelReference
from fedring.shared.models import Model
from fedring.shared.mqtt import Connection
from fedring.shared.numbers import IntVector
from fedring.shared.topics import Topics, model_place
from fedring.shared.transfer import ModelFetch

FETCH_AGAIN_S = 10.0
"""A fetch without news subscribes anew after this time: the broker then repeats its chunks."""

_log = logging.getLogger(__name__)


@frozen
class Worked:
    """The work of a round is done.

    Attributes:
        announce: digest of what was asked.
        contribution: in the clear; masked at once by the state machine.
        mask: unused.
        suite: of this announce.
    """

    announce: bytes
    contribution: IntVector = field(repr=False)
    mask: OneTimeMask
    suite: Suite


@frozen
class Failed:
    """The work of a round cannot be done."""

    announce: bytes
    reason: str


@frozen
class Kept:
    """The newest model is in the file for other programs."""

    version: int


@define
class _Fetching:
    fetch: ModelFetch
    done: asyncio.Event = field(factory=asyncio.Event)
    fault: ProtocolError | None = None


class Library:
    """Models by digest: fetched from the broker once, the newest kept as a file.

    Args:
        topics: of the fleet.
        connection: to the broker.
        store: remembers which model the file holds.
        file: where the newest model is kept.
        fleet: named in the file.
        check: raises MessageError for a model that this device cannot compute.
    """

    def __init__(
        self,
        topics: Topics,
        connection: Connection,
        store: DeviceStore,
        file: Path,
        fleet: str,
        *,
        check: Callable[[Model], None] = networks.check,
    ) -> None:
        self._topics = topics
        self._connection = connection
        self._store = store
        self._file = file
        self._fleet = fleet
        self._check = check
        self._fetching: dict[str, _Fetching] = {}  # by place
        self._newest: tuple[bytes, Model | None] = b"", None  # under the digest it was fetched by
        self._alone = asyncio.Lock()
        epoch, kept = store.memory().get("model", (0, -1))
        self._kept: tuple[int, int] = (epoch, kept)  # read once: asked for at every message

    def receive(self, place: str, index: int, data: bytes) -> None:
        """A chunk of some model came in."""
        fetching = self._fetching.get(place)
        if fetching is None:
            return
        try:
            fetching.fetch.receive(index, data)
        except ProtocolError as fault:
            fetching.fault = fault
            fetching.done.set()
        except MessageError as fault:
            _log.warning("model %s: %s", fetching.fetch.digest.hex()[:12], fault)
        if fetching.fetch.complete:
            fetching.done.set()

    async def fetch(self, epoch: int, reference: ModelReference) -> Model:
        """The announced model, verified by its digest; kept as the newest when it is."""
        async with self._alone:  # one that is cancelled has cleared up before the next begins
            digest, model = self._newest
            if model is None or digest != reference.digest:
                chunks = await self._chunks(reference)
                model = await asyncio.to_thread(self._checked, chunks)
                self._newest = reference.digest, model
            await self._keep(model, epoch, reference)
            return model

    def _checked(self, chunks: Sequence[bytes]) -> Model:
        model = Model.from_chunks(chunks)
        self._check(model)
        return model

    async def _chunks(self, reference: ModelReference) -> tuple[bytes, ...]:
        # The owner's limit was held against the size announced: no more than that is kept.
        digest = reference.digest
        fetch = ModelFetch(digest, max_bytes=reference.size)
        fetching = self._fetching[model_place(digest)] = _Fetching(fetch)
        topic_filter = self._topics.model(digest)
        try:
            while not fetching.done.is_set():
                await self._connection.subscribe(topic_filter)
                try:
                    async with asyncio.timeout(FETCH_AGAIN_S):
                        await fetching.done.wait()
                except TimeoutError:
                    self._connection.unsubscribe(topic_filter)
        finally:
            del self._fetching[model_place(digest)]
            self._connection.unsubscribe(topic_filter)
        if fetching.fault is not None:
            raise fetching.fault
        return fetching.fetch.chunks

    async def _keep(self, model: Model, epoch: int, reference: ModelReference) -> None:
        here = (epoch, reference.version)
        if self._kept >= here and self._file.exists():
            return
        note = {
            "fleet": self._fleet,
            "epoch": epoch,
            "version": reference.version,
            "digest": reference.digest.hex(),
        }
        await asyncio.to_thread(keep_model, self._file, model, note)
        self._store.remember(model=here)
        self._kept = here

    @property
    def version(self) -> int | None:
        """Version of the model in the file."""
        _, version = self._kept
        return version if version >= 0 else None


class Workshop:
    """Does what a round asks of this device.

    Args:
        library: fetches models.
        preparation: makes masks.
        source: the device's own data.
        trainer: learns from it.
        number: own device number.
        seed: repeats shuffles and rounding; None draws them anew.
    """

    def __init__(
        self,
        library: Library,
        preparation: Preparation,
        source: Source,
        trainer: Trainer,
        *,
        number: int,
        seed: int | None,
    ) -> None:
        self._library = library
        self._preparation = preparation
        self._source = source
        self._trainer = trainer
        self._number = number
        self._seed = seed
        self._has_trained = False

    async def work(self, announce: Signed[Announce], *, evaluate: bool) -> Worked | Failed:
        """Fetch, train, mask; cancelled, it ends the training as well.

        Raises:
            DataError: the device's own data file does not fit the first model that it is asked to
                train: the owner's to mend. Once it has trained, a model that asks for other data
                is refused like any other demand; no coordinator can end the agent.
        """
        try:
            worked = await self._worked(announce, evaluate)
        except (PeerError, UpdateError, ModelError) as fault:
            return Failed(announce.digest, str(fault))
        except DataError as mistake:
            if not self._has_trained:
                raise
            return Failed(announce.digest, str(mistake))
        self._has_trained = True
        return worked

    async def _worked(self, announce: Signed[Announce], evaluate: bool) -> Worked:
        message = announce.message
        made = await asyncio.to_thread(_suite_of, announce)
        stop = threading.Event()
        async with self._preparation.making(made) as making:
            try:
                model = await self._library.fetch(message.epoch, message.model)
                dataset = await asyncio.to_thread(self._source.read, model.features, model.classes)
                contribution = await asyncio.to_thread(
                    self._contribution, model, dataset, message, evaluate, stop
                )
            finally:
                stop.set()
            mask = await asyncio.shield(making)
            return Worked(announce.digest, contribution, mask, made)

    def _contribution(
        self,
        model: Model,
        dataset: Dataset,
        announce: Announce,
        evaluate: bool,
        stop: threading.Event,
    ) -> IntVector:
        seed = None if self._seed is None else [self._seed, self._number, announce.round]
        rng = np.random.default_rng(seed)
        return contribute(
            self._trainer, model, dataset, announce, evaluate=evaluate, rng=rng, stop=stop
        )


def _suite_of(announce: Signed[Announce]) -> Suite:
    """The suite of an announce; slow for the first, when the arithmetic is tested."""
    message = announce.message
    return suite(
        message.suite,
        public_key=PaillierPublicKey(int.from_bytes(message.paillier_n, "big")),
        announce_digest=announce.digest,
        n_values=message.n_values,
        bits=message.bits,
    )
