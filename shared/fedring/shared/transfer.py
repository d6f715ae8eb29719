"""How a model travels: retained chunks in its place, put there once, fetched by many.

Chunk 0 is the manifest; its SHA-256 is the digest that the signed announce names, and it holds the
digests of the others (`manifests.py`). So nothing here is signed, anybody may have written it, and
what is not exactly the announced model is thrown away.

Both sides are plain state; a shell moves the messages:
- A device subscribes to `Topics.model(digest)`, feeds `ModelFetch.receive`, unsubscribes when it is
  `complete`. While chunks are missing for long it subscribes again: the broker then repeats them.
- The coordinator publishes what `ModelShelf.put` gives, retained, in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from attrs import field, frozen

from fedring.shared.errors import MessageError, ProtocolError
from fedring.shared.manifests import CHUNK_BYTES, MAX_MODEL_BYTES, Manifest, parse_manifest
from fedring.shared.topics import Topics


class ModelFetch:
    """Collects the chunks of one model, in any order, and takes no other bytes.

    Data chunks that come before the manifest wait for it, at most as many as the model may have;
    so this holds `max_bytes` and a manifest, whatever is sent. Each is hashed when it comes: the
    manifest, which mostly comes last, must not find the work of the whole model waiting.

    Args:
        digest: SHA-256 of the manifest, from a signed announce.
        max_bytes: largest model that we are ready to take.
    """

    def __init__(self, digest: bytes, *, max_bytes: int = MAX_MODEL_BYTES) -> None:
        self.digest = digest
        self._max_bytes = max_bytes
        self._manifest_bytes = b""
        self._manifest: Manifest | None = None
        self._chunks: dict[int, bytes] = {}
        self._early: dict[int, _Early] = {}

    def __repr__(self) -> str:
        here = len(self._chunks) + len(self._early)
        return f"ModelFetch({self.digest.hex()[:8]}, {here} of {self.n_chunks})"

    @property
    def n_chunks(self) -> int | None:
        """How many chunks the model has; None before its manifest is here."""
        return None if self._manifest is None else self._manifest.n_chunks

    @property
    def complete(self) -> bool:
        return self._manifest is not None and len(self._chunks) == self._manifest.n_chunks - 1

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The chunks in order, once complete; each is what its digest says.

        Raises:
            ValueError: not complete yet.
        """
        if not self.complete:
            raise ValueError(f"{self!r} is not complete")
        return (self._manifest_bytes, *(self._chunks[index] for index in sorted(self._chunks)))

    def receive(self, index: int, data: bytes) -> None:
        """Take a chunk; one that is already here, or was cleared by the coordinator, is ignored.

        Args:
            index: of the chunk, >= 0, as its topic says.
            data: as it came, trusted in nothing.

        Raises:
            MessageError: not a chunk of this model; nothing has changed, go on.
            ProtocolError: the announced model itself cannot be taken: too large, or no model.
        """
        here = index in self._chunks or index in self._early
        if not data or here or (index == 0 and self._manifest is not None):
            return
        if index == 0:
            self._receive_manifest(data)
        elif self._manifest is not None:
            self._manifest.check_chunk(index, data)
            self._chunks[index] = data
        elif index * CHUNK_BYTES < self._max_bytes + CHUNK_BYTES and len(data) <= CHUNK_BYTES:
            self._early[index] = _Early(data, sha256(data).digest())
        else:
            raise MessageError(f"model chunk {index} of {len(data)} bytes cannot be one")

    def _receive_manifest(self, data: bytes) -> None:
        if sha256(data).digest() != self.digest:
            raise MessageError("model chunk 0 is not the announced manifest")
        try:
            manifest = parse_manifest(data)
        except MessageError as error:
            raise ProtocolError(f"the announced model is none: {error.reason}") from error
        if manifest.n_bytes > self._max_bytes:
            raise ProtocolError(
                f"the announced model has {manifest.n_bytes} bytes,"
                f" this device takes {self._max_bytes}"
            )
        self._manifest, self._manifest_bytes = manifest, data
        self._chunks = {
            index: early.data
            for index, early in self._early.items()
            if manifest.names(index, len(early.data), early.digest)
        }
        self._early.clear()


@frozen
class _Early:
    """A data chunk that came before the manifest which names its digest."""

    data: bytes
    digest: bytes


@frozen
class Retained:
    """A retained message to publish; without payload it takes the retained one away."""

    topic: str
    payload: bytes = field(repr=lambda payload: f"<{len(payload)} bytes>")


@frozen
class Shelved:
    """A model that the broker holds."""

    digest: bytes
    n_chunks: int


class ModelShelf:
    """The models that the broker holds for the coordinator: the newest and a few before it.

    Args:
        topics: of the fleet.
        keep: how many models stay, >= 1.
        held: what an earlier process has left there, oldest first.
    """

    def __init__(self, topics: Topics, *, keep: int, held: Iterable[Shelved] = ()) -> None:
        if keep < 1:
            raise ValueError(f"a shelf keeps at least 1 model, not {keep}")
        self._topics = topics
        self._keep = keep
        self._held = {model.digest: model for model in held}

    @property
    def held(self) -> tuple[Shelved, ...]:
        """What the broker holds, oldest first."""
        return tuple(self._held.values())

    def put(self, chunks: Sequence[bytes]) -> list[Retained]:
        """Make a model the newest one.

        Args:
            chunks: of the model, the manifest first.

        Returns:
            What to publish, in order: the data, then the manifest, so that whoever sees a manifest
            finds the rest; then what clears models that no longer stay.
        """
        digest = sha256(chunks[0]).digest()
        self._held.pop(digest, None)  # a model that came back is the newest again
        self._held[digest] = Shelved(digest, len(chunks))
        messages = [
            Retained(self._topics.model_chunk(digest, index), chunks[index])
            for index in (*range(1, len(chunks)), 0)
        ]
        while len(self._held) > self._keep:
            messages += self._clear(self._held.pop(next(iter(self._held))))
        return messages

    def _clear(self, model: Shelved) -> Iterator[Retained]:
        """Take a model away, but for what lies in its place by now of one that stays."""
        kept = {topic for held in self._held.values() for topic in self._topics_of(held)}
        for topic in self._topics_of(model):
            if topic not in kept:
                yield Retained(topic, b"")

    def _topics_of(self, model: Shelved) -> list[str]:
        return [self._topics.model_chunk(model.digest, index) for index in range(model.n_chunks)]
