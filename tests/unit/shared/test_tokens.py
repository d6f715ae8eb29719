"""Tokens: what leaves arrives whole, in bounded memory, and nothing is sent twice in vain."""

from collections.abc import Iterable

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.lab.simulate.cast import coordinator, device
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.errors import ProtocolError
from fedring.shared.messages import CHUNK_BYTES, Chunk, Hop, Lap, tag
from fedring.shared.tokens import (
    PROGRESS_EVERY,
    PROGRESS_S,
    WINDOW_CHUNKS,
    Arrival,
    Arrivals,
    Departure,
    check_hop,
)

LAP = sign(
    Lap(**tag("rehearsal", 1, 1, 0), roster=b"r" * 32, lap=1, order=(4, 2, 7, 1, 9)), coordinator()
)


def hop_of(size: int, sender: int = 4, names: tuple[int, ...] = (4,)) -> Signed[Hop]:
    hop = Hop(**tag("rehearsal", 1, 1, sender), lap=LAP.raw, names=names, size=size)
    return sign(hop, device(sender))


def departure_of(body: bytes) -> Departure:
    return Departure(hop_of(len(body)), body, device(4))


def chunks_in(pieces: Iterable[bytes]) -> list[Chunk]:
    messages = [open_envelope(piece).message for piece in pieces]
    return [message for message in messages if isinstance(message, Chunk)]


BODY = bytes(i * 31 % 256 for i in range(3 * CHUNK_BYTES + 5))


# -- leaving --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_body_leaves_in_chunks_and_arrives_whole(size: int) -> None:
    body = BODY[:size]
    departure = departure_of(body)
    header, *pieces = departure.begin()
    assert header == departure.hop.raw
    arrival = Arrival(departure.hop, now=0.0)
    for chunk in chunks_in(pieces):
        assert not arrival.whole
        arrival.add(chunk, now=1.0)
    assert arrival.whole
    assert arrival.body() == body


def test_every_chunk_is_signed_by_the_sender() -> None:
    departure = departure_of(BODY)
    for piece in list(departure.begin())[1:]:
        chunk = open_envelope(piece).verified_by(device(4).peer, Chunk).message
        assert chunk.hop == departure.hop.digest


def test_a_resend_is_the_stored_bytes() -> None:
    departure = departure_of(BODY)
    assert list(departure.begin()) == list(departure.begin())
    assert list(departure.progressed(1, stalled=True)) == []  # all are under way
    assert list(departure.progressed(1, stalled=True)) == list(departure.begin())[2:]


def test_no_more_than_a_window_is_under_way() -> None:
    n_chunks = 3 * WINDOW_CHUNKS
    departure = departure_of(bytes(n_chunks * CHUNK_BYTES))
    sent = [chunk.index for chunk in chunks_in(departure.begin())]
    assert sent == list(range(WINDOW_CHUNKS))
    acknowledged = 0
    while sent[-1] < n_chunks - 1:
        acknowledged += PROGRESS_EVERY
        sent += [c.index for c in chunks_in(departure.progressed(acknowledged, stalled=False))]
        assert sent[-1] < acknowledged + WINDOW_CHUNKS
    assert sent == list(range(n_chunks))


def test_what_is_only_under_way_is_not_sent_again() -> None:
    departure = departure_of(bytes(4 * WINDOW_CHUNKS * CHUNK_BYTES))
    list(departure.begin())
    list(departure.progressed(4, stalled=False))
    for said in (4, 2, 0, 4):
        assert list(departure.progressed(said, stalled=False)) == []
    assert [c.index for c in chunks_in(departure.progressed(6, stalled=True))] == [20, 21]


def test_what_is_lost_is_sent_again_from_where_the_receiver_stands() -> None:
    departure = departure_of(BODY)
    list(departure.begin())
    list(departure.progressed(2, stalled=False))
    again = chunks_in(departure.progressed(2, stalled=True))
    assert [chunk.index for chunk in again] == [2, 3]


@pytest.mark.parametrize("nonsense", [5, 10**6, 2**32 - 1])
def test_progress_beyond_the_end_asks_for_nothing(nonsense: int) -> None:
    departure = departure_of(BODY)
    list(departure.begin())
    assert list(departure.progressed(nonsense, stalled=False)) == []
    assert list(departure.progressed(nonsense, stalled=True)) == []
    assert departure.acknowledged == 4


def test_another_receiver_gets_it_from_the_start() -> None:
    departure = departure_of(BODY)
    first = list(departure.begin())
    list(departure.progressed(3, stalled=False))
    assert list(departure.begin()) == first


def test_header_and_body_belong_together() -> None:
    with pytest.raises(ValueError, match="a body of 4 bytes under a header of 5"):
        Departure(hop_of(5), b"four", device(4))


# -- arriving -------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=30)
def test_chunks_may_come_in_any_order_and_often(data: st.DataObject) -> None:
    departure = departure_of(BODY)
    chunks = chunks_in(departure.begin())
    arrival = Arrival(departure.hop, now=0.0)
    order = data.draw(st.lists(st.sampled_from(chunks), min_size=4, max_size=12))
    for chunk in [*order, *data.draw(st.permutations(chunks))]:
        arrival.add(chunk, now=0.0)
    assert arrival.body() == BODY


def test_a_gap_holds_progress_back() -> None:
    departure = departure_of(BODY)
    zero, one, two, three = chunks_in(departure.begin())
    arrival = Arrival(departure.hop, now=0.0)
    for chunk, progress in ((one, 0), (three, 0), (zero, 2), (two, 4)):
        arrival.add(chunk, now=0.0)
        assert arrival.chunks == progress


def test_the_body_is_not_to_be_had_before_it_is_whole() -> None:
    departure = departure_of(BODY)
    arrival = Arrival(departure.hop, now=0.0)
    for chunk in chunks_in(departure.begin())[1:]:
        arrival.add(chunk, now=0.0)
    with pytest.raises(ValueError, match="0 of 4 chunks"):
        arrival.body()


@pytest.mark.parametrize(
    ("index", "size"),
    [
        (0, CHUNK_BYTES - 1),
        (0, 1),
        (3, 4),
        (3, 6),
        (3, CHUNK_BYTES),
        (4, 5),
        (4, CHUNK_BYTES),
        (2**32 - 1, CHUNK_BYTES),
    ],
)
def test_a_piece_that_the_hop_cannot_have_is_refused(index: int, size: int) -> None:
    departure = departure_of(BODY)
    chunk = evolve(chunks_in(departure.begin())[0], index=index, data=bytes(size))
    arrival = Arrival(departure.hop, now=0.0)
    with pytest.raises(ProtocolError):
        arrival.add(chunk, now=9.0)
    assert (arrival.chunks, arrival.heard_at) == (0, 0.0)


def test_the_first_copy_of_a_chunk_counts_and_others_are_no_news() -> None:
    departure = departure_of(BODY)
    chunk = chunks_in(departure.begin())[0]
    arrival = Arrival(departure.hop, now=0.0)
    arrival.add(chunk, now=1.0)
    assert not arrival.add(evolve(chunk, data=bytes(CHUNK_BYTES)), now=2.0)
    assert arrival.heard_at == 1.0
    for rest in chunks_in(departure.begin()):
        arrival.add(rest, now=3.0)
    assert arrival.body() == BODY


def test_a_quick_sender_hears_now_and_then_a_slow_one_of_every_chunk() -> None:
    departure = departure_of(bytes(12 * CHUNK_BYTES))
    chunks = chunks_in(departure.begin())
    quick, slow = Arrival(departure.hop, now=0.0), Arrival(departure.hop, now=0.0)
    assert [quick.add(chunk, now=0.01) for chunk in chunks].count(True) == 12 // PROGRESS_EVERY
    for place, chunk in enumerate(chunks, start=1):
        assert slow.add(chunk, now=place * PROGRESS_S)


# -- as many as there is room for -----------------------------------------------------------


def test_there_is_room_for_so_many_and_no_more() -> None:
    arrivals = Arrivals(2, patience_s=5.0)
    hops = [hop_of(9, sender) for sender in (1, 2, 7)]
    assert arrivals.open(hops[0], now=0.0)
    assert arrivals.open(hops[1], now=0.0)
    assert arrivals.open(hops[2], now=0.0) is None
    arrivals.close(hops[0].digest)
    assert arrivals.open(hops[2], now=0.0)
    assert len(arrivals) == 2


def test_what_nobody_goes_on_with_makes_room() -> None:
    arrivals = Arrivals(2, patience_s=5.0)
    departure = departure_of(BODY)
    kept = arrivals.open(departure.hop, now=0.0)
    assert kept is not None
    arrivals.open(hop_of(9, 2), now=0.0)
    kept.add(chunks_in(departure.begin())[0], now=3.0)
    assert arrivals.deadline == 5.0
    arrivals.drop_neglected(4.9)
    assert len(arrivals) == 2
    arrivals.drop_neglected(5.0)
    assert arrivals.get(departure.hop.digest) is kept
    assert (len(arrivals), arrivals.deadline) == (1, 8.0)


def test_the_same_chunk_over_and_over_keeps_no_room() -> None:
    arrivals = Arrivals(1, patience_s=5.0)
    departure = departure_of(BODY)
    arrival = arrivals.open(departure.hop, now=0.0)
    assert arrival is not None
    chunk = chunks_in(departure.begin())[0]
    for second in range(6):
        arrival.add(chunk, now=float(second))
    arrivals.drop_neglected(5.0)
    assert len(arrivals) == 0


def test_nobody_can_take_all_the_room() -> None:
    arrivals = Arrivals(2, patience_s=5.0)
    greedy = [hop_of(size, 2) for size in (7, 8, 9)]
    assert arrivals.open(greedy[0], now=0.0)
    assert arrivals.open(greedy[1], now=1.0)
    assert arrivals.open(greedy[2], now=2.0) is None
    assert arrivals.open(hop_of(9, 7), now=2.0)
    assert arrivals.get(greedy[0].digest) is None
    assert arrivals.open(hop_of(9, 1), now=2.0) is None


# -- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(4,), (4, 2), (2, 7, 9), (9,), (4, 2, 7, 1, 9)])
def test_a_token_names_members_in_the_order_of_the_lap(names: tuple[int, ...]) -> None:
    check_hop(hop_of(100, names[-1], names).message, LAP.message, 100)


@pytest.mark.parametrize(
    ("names", "sender", "size", "complaint"),
    [
        ((2, 4), 4, 100, "order of the lap"),
        ((4, 4), 4, 100, "order of the lap"),
        ((4, 2, 4), 4, 100, "order of the lap"),
        ((4, 3), 3, 100, "order of the lap"),
        ((3,), 3, 100, "order of the lap"),
        ((4, 2, 7, 1, 9, 9), 9, 100, "order of the lap"),
        ((4, 2), 4, 100, "the sender is not the last name"),
        ((4, 2), 7, 100, "the sender is not the last name"),
        ((4, 2), 2, 99, "size 99, expected 100"),
        ((4, 2), 2, 2**26, "expected 100"),
    ],
)
def test_any_other_header_is_refused(
    names: tuple[int, ...], sender: int, size: int, complaint: str
) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        check_hop(hop_of(size, sender, names).message, LAP.message, 100)
