"""A token on its way: the pieces that leave, and the pieces that arrive.

A token is one `Hop` header and its chunks. `Departure` holds the signed bytes of a token and says
which of them to send next; they are made once and sent as often as needed, to whichever member
takes them. `Arrival` gathers the chunks of one hop in memory bounded by the header's size. A
departure may begin before the token has arrived whole: pieces go from one to the other.

Neither checks a signature: only verified messages come here.

Source: docs/protocol.md, section 4, step 4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fedring.shared.envelopes import Signed, Signer, sign
from fedring.shared.errors import ProtocolError
from fedring.shared.messages import CHUNK_BYTES, Chunk, Hop, Lap

WINDOW_CHUNKS = 16
"""Chunks sent ahead of the receiver's last `progress`: 1 MiB, what brokers queue for a client."""
PROGRESS_EVERY = 4
"""Chunks between two unasked `progress` answers, a quarter of the window."""
PROGRESS_S = 1.0
"""On a slow link every chunk is told of that comes so long after the last answer."""


class Departure:
    """The signed bytes of one token, as far as it is here, and how far its receiver has come.

    Args:
        hop: the signed header.
        body: as much of the body as is here: all of it, or whole chunks from its beginning.
        signer: who hands the token on.

    Attributes:
        hop: the signed header.
        acknowledged: chunks that the receiver has.
    """

    def __init__(self, hop: Signed[Hop], body: bytes, signer: Signer) -> None:
        self.hop = hop
        self.acknowledged = 0
        self._signer = signer
        self._unsigned: deque[bytes] = deque()
        self._chunks: list[bytes] = []
        self._here = 0
        self._next = 0
        self.add(body)

    @property
    def whole(self) -> bool:
        """Whether all of the body is here."""
        return self._here == self.hop.message.size

    @property
    def is_idle(self) -> bool:
        """Whether the receiver has all that was sent."""
        return self._next == self.acknowledged

    def add(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Args:
            piece: whole chunks, or all that is missing.

        Raises:
            ValueError: it is neither.
        """
        here = self._here + len(piece)
        size = self.hop.message.size
        if here > size or (here < size and len(piece) % CHUNK_BYTES):
            raise ValueError(f"a body of {here} bytes under a header of {size}")
        self._here = here
        self._unsigned.extend(
            piece[start : start + CHUNK_BYTES] for start in range(0, len(piece), CHUNK_BYTES)
        )

    def begin(self) -> Iterator[bytes]:
        """The header and the first window, for a receiver that has nothing yet."""
        self.acknowledged = 0
        self._next = 0
        yield self.hop.raw
        yield from self.onward()

    def onward(self) -> Iterator[bytes]:
        """The chunks that are here, fit the window and have not been sent."""
        end = min(self.acknowledged + WINDOW_CHUNKS, self._n_here)
        while self._next < end:
            self._next += 1
            yield self._chunk(self._next - 1)

    def progressed(self, chunks: int, *, stalled: bool) -> Iterator[bytes]:
        """What to send now that the receiver has its first `chunks` chunks.

        Args:
            chunks: as the receiver says.
            stalled: it has said the same for long: what was sent after these chunks is lost. On a
                slow link what is merely under way must not be sent again.
        """
        chunks = min(chunks, self._n_here)
        if stalled and chunks <= self.acknowledged:
            # Fewer than before: the receiver had to drop what it had.
            self._next = self.acknowledged = chunks
        self.acknowledged = max(self.acknowledged, chunks)
        self._next = max(self._next, self.acknowledged)
        yield from self.onward()

    @property
    def _n_here(self) -> int:
        return len(self._chunks) + len(self._unsigned)

    def _chunk(self, index: int) -> bytes:
        while len(self._chunks) <= index:
            header = self.hop.message
            chunk = Chunk(
                fleet=header.fleet,
                epoch=header.epoch,
                round=header.round,
                sender=header.sender,
                hop=self.hop.digest,
                index=len(self._chunks),
                data=self._unsigned.popleft(),
            )
            self._chunks.append(sign(chunk, self._signer).raw)
        return self._chunks[index]


class Arrival:
    """The chunks of one hop, as they come in.

    Attributes:
        hop: the signed header.
        heard_at: when a new piece of it last came, on the receiver's clock.
    """

    def __init__(self, hop: Signed[Hop], now: float) -> None:
        self.hop = hop
        self.heard_at = now
        self._pieces: dict[int, bytes] = {}
        self._in_a_row = 0
        self._taken = 0
        self._told_at = now

    @property
    def chunks(self) -> int:
        """How many chunks are here without a gap from the first."""
        return self._in_a_row

    @property
    def whole(self) -> bool:
        return self._in_a_row == self.hop.message.n_chunks

    def add(self, chunk: Chunk, now: float) -> bool:
        """Keep a chunk; tells whether the sender should hear of the progress.

        Raises:
            ProtocolError: an index or a length that this hop cannot have; nothing is kept.
        """
        n_chunks = self.hop.message.n_chunks
        if chunk.index >= n_chunks:
            raise ProtocolError(f"chunk {chunk.index} of a token of {n_chunks}", kind=chunk.kind)
        expected = min(CHUNK_BYTES, self.hop.message.size - chunk.index * CHUNK_BYTES)
        if len(chunk.data) != expected:
            raise ProtocolError(
                f"chunk {chunk.index} has {len(chunk.data)} bytes, expected {expected}",
                kind=chunk.kind,
            )
        if chunk.index < self._in_a_row or chunk.index in self._pieces:
            return False
        self.heard_at = now
        before = self._in_a_row
        self._pieces[chunk.index] = chunk.data
        while self._in_a_row in self._pieces:
            self._in_a_row += 1
        worth_telling = self._in_a_row // PROGRESS_EVERY > before // PROGRESS_EVERY or (
            self._in_a_row > before and now >= self._told_at + PROGRESS_S
        )
        if worth_telling:
            self._told_at = now
        return worth_telling

    @property
    def has_more(self) -> bool:
        """Whether `take` would give something."""
        return self._in_a_row > self._taken

    def take(self) -> tuple[int, bytes]:
        """The next piece of the body, each once: from which byte on, and all without a gap."""
        start, self._taken = self._taken, self._in_a_row
        piece = b"".join(self._pieces.pop(index) for index in range(start, self._in_a_row))
        return start * CHUNK_BYTES, piece

    def body(self) -> bytes:
        """The whole body, where no piece of it was taken before.

        Raises:
            ValueError: chunks are missing.
        """
        if not self.whole or self._taken:
            here = self._in_a_row - self._taken
            raise ValueError(f"{here} of {self.hop.message.n_chunks} chunks are here")
        return self.take()[1]


class Arrivals:
    """Half-received tokens, as many as there is memory for.

    A sender that keeps more than one gives the one it neglects most for a sender that has none:
    nobody can keep all others out.

    Args:
        most: how many at a time.
        patience_s: one that has got nothing new for so long is dropped.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._arrivals: dict[bytes, Arrival] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def deadline(self) -> float | None:
        """When the next is to be dropped."""
        times = [arrival.heard_at + self._patience_s for arrival in self._arrivals.values()]
        return min(times, default=None)

    def get(self, digest: bytes) -> Arrival | None:
        """The token of this header, if it is under way."""
        return self._arrivals.get(digest)

    def of(self, names: tuple[int, ...]) -> Arrival | None:
        """A token of these names, if one is under way."""
        return next(
            (one for one in self._arrivals.values() if one.hop.message.names == names), None
        )

    def open(self, hop: Signed[Hop], now: float) -> Arrival | None:
        """Make room for a token; None when there is none."""
        if len(self._arrivals) >= self._most and not self._yield_to(hop.message.sender):
            return None
        arrival = self._arrivals[hop.digest] = Arrival(hop, now)
        return arrival

    def close(self, digest: bytes) -> None:
        """Forget a token, if it is under way: it is whole, or of no use."""
        self._arrivals.pop(digest, None)

    def clear(self) -> None:
        self._arrivals.clear()

    def drop_neglected(self, now: float) -> None:
        """Forget the tokens that nobody goes on with."""
        for digest, arrival in list(self._arrivals.items()):
            if now >= arrival.heard_at + self._patience_s:
                del self._arrivals[digest]

    def _yield_to(self, sender: int) -> bool:
        senders = [arrival.hop.message.sender for arrival in self._arrivals.values()]
        greedy = [
            arrival
            for arrival in self._arrivals.values()
            if senders.count(arrival.hop.message.sender) > 1
        ]
        if sender in senders or not greedy:
            return False
        self.close(min(greedy, key=lambda arrival: arrival.heard_at).hop.digest)
        return True


def check_hop(hop: Hop, lap: Lap, body_bytes: int) -> None:
    """Check that a token can be one of this lap.

    Raises:
        ProtocolError: names that are doubled, foreign or out of the lap's order, a sender that is
            not the last of them, or a body of the wrong size.
    """
    places = [lap.order.index(name) if name in lap.order else -1 for name in hop.names]
    if -1 in places or places != sorted(set(places)):
        raise ProtocolError("names that are not in the order of the lap", kind=hop.kind)
    if hop.names[-1] != hop.sender:
        raise ProtocolError("the sender is not the last name", kind=hop.kind)
    if hop.size != body_bytes:
        raise ProtocolError(f"size {hop.size}, expected {body_bytes}", kind=hop.kind)
