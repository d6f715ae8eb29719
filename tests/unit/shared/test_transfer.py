"""Models by digest: fetched in any order from anybody, never anything but the announced bytes."""

import random
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.errors import MessageError, ProtocolError
from fedring.shared.manifests import CHUNK_BYTES, ArrayInfo, Manifest
from fedring.shared.topics import ModelChunk, Topics, model_place
from fedring.shared.transfer import ModelFetch, ModelShelf, Retained, Shelved

TOPICS = Topics("greenhouse")


def model_of(n_chunks: int, seed: int = 1) -> tuple[bytes, ...]:
    """Chunks of a model with `n_chunks` chunks, the manifest among them."""
    data = random.Random(seed).randbytes((n_chunks - 1) * CHUNK_BYTES - 4)
    pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    manifest = Manifest(
        kind="softmax",
        features=("x",),
        classes=("y",),
        arrays=(ArrayInfo("layer.weight", (len(data) // 4,), trained=True),),
        digests=tuple(sha256(piece).digest() for piece in pieces),
    )
    return (manifest.encode(), *pieces)


CHUNKS = model_of(4)
DIGEST = sha256(CHUNKS[0]).digest()


@given(st.permutations(range(len(CHUNKS))))
def test_chunks_come_in_any_order(order: list[int]) -> None:
    fetch = ModelFetch(DIGEST)
    for index in order:
        assert not fetch.complete
        fetch.receive(index, CHUNKS[index])
    assert fetch.complete
    assert fetch.chunks == CHUNKS


def test_the_manifest_that_comes_last_finds_no_work_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: list[int] = []

    def counting(data: bytes) -> Any:
        hashed.append(len(data))
        return sha256(data)

    monkeypatch.setattr("fedring.shared.transfer.sha256", counting)
    monkeypatch.setattr("fedring.shared.manifests.sha256", counting)
    fetch = ModelFetch(DIGEST)
    for index in (3, 1, 2):
        fetch.receive(index, CHUNKS[index])
        assert hashed.pop() == len(CHUNKS[index])
    fetch.receive(0, CHUNKS[0])
    assert hashed == [len(CHUNKS[0])]
    assert fetch.chunks == CHUNKS


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(CHUNKS) | st.binary(max_size=40)), max_size=20
    )
)
def test_foreign_bytes_never_get_in_and_do_no_harm(noise: list[tuple[int, bytes]]) -> None:
    fetch = ModelFetch(DIGEST)
    for index, data in noise:
        try:
            fetch.receive(index, data)
        except MessageError:
            assert CHUNKS[index : index + 1] != (data,)
    for _ in range(2):  # subscribed a second time, the broker sends all again
        for index, chunk in enumerate(CHUNKS):
            fetch.receive(index, chunk)
    assert fetch.chunks == CHUNKS


def test_an_early_chunk_that_is_foreign_makes_room_when_the_manifest_comes() -> None:
    fetch = ModelFetch(DIGEST)
    fetch.receive(1, b"foreign")
    fetch.receive(0, CHUNKS[0])
    for index in (1, 2, 3):
        fetch.receive(index, CHUNKS[index])
    assert fetch.chunks == CHUNKS


def test_chunks_that_were_cleared_are_ignored() -> None:
    fetch = ModelFetch(DIGEST)
    for index in range(len(CHUNKS)):
        fetch.receive(index, b"")
    assert repr(fetch) == f"ModelFetch({DIGEST.hex()[:8]}, 0 of None)"


def test_a_wrong_manifest_and_a_wrong_chunk() -> None:
    fetch = ModelFetch(DIGEST)
    with pytest.raises(MessageError, match="chunk 0 is not the announced manifest"):
        fetch.receive(0, model_of(4, seed=2)[0])
    fetch.receive(0, CHUNKS[0])
    with pytest.raises(MessageError, match="chunk 2 is not what the manifest says"):
        fetch.receive(2, CHUNKS[1])
    with pytest.raises(MessageError, match="no model chunk 4"):
        fetch.receive(4, CHUNKS[1])


def test_early_chunks_are_bounded_by_the_largest_model() -> None:
    fetch = ModelFetch(DIGEST, max_bytes=3 * CHUNK_BYTES)
    with pytest.raises(MessageError, match=f"{CHUNK_BYTES + 1} bytes cannot be one"):
        fetch.receive(1, bytes(CHUNK_BYTES + 1))
    with pytest.raises(MessageError, match="chunk 4 of 3 bytes cannot be one"):
        fetch.receive(4, b"abc")
    fetch.receive(3, b"abc")


def test_a_model_above_the_limit_is_refused_for_good() -> None:
    n_bytes = sum(len(chunk) for chunk in CHUNKS[1:])
    with pytest.raises(ProtocolError, match=f"has {n_bytes} bytes, this device takes 1000"):
        ModelFetch(DIGEST, max_bytes=1000).receive(0, CHUNKS[0])
    ModelFetch(DIGEST, max_bytes=n_bytes).receive(0, CHUNKS[0])


def test_an_announced_manifest_that_is_none() -> None:
    with pytest.raises(ProtocolError, match="the announced model is none"):
        ModelFetch(sha256(b"nonsense").digest()).receive(0, b"nonsense")


def test_an_incomplete_fetch_gives_nothing() -> None:
    fetch = ModelFetch(DIGEST)
    fetch.receive(0, CHUNKS[0])
    with pytest.raises(ValueError, match="0 of 4"):
        _ = fetch.chunks


def topics_of(messages: list[Retained]) -> list[tuple[str, int, bool]]:
    found = [(TOPICS.parse(message.topic), bool(message.payload)) for message in messages]
    return [(t.place, t.index, full) for t, full in found if isinstance(t, ModelChunk)]


def test_the_shelf_puts_the_manifest_last() -> None:
    messages = ModelShelf(TOPICS, keep=2).put(CHUNKS)
    assert topics_of(messages) == [(model_place(DIGEST), index, True) for index in (1, 2, 3, 0)]
    fetch = ModelFetch(DIGEST)
    for message in messages:
        topic = TOPICS.parse(message.topic)
        assert isinstance(topic, ModelChunk)
        fetch.receive(topic.index, message.payload)
    assert fetch.chunks == CHUNKS


def test_the_shelf_clears_what_is_older_than_the_last_models() -> None:
    old = Shelved(bytes(32), n_chunks=2)
    shelf = ModelShelf(TOPICS, keep=2, held=[old])
    second, third = model_of(2, seed=2), model_of(2, seed=3)
    shelf.put(second)
    assert topics_of(shelf.put(third))[2:] == [("00", 0, False), ("00", 1, False)]
    assert [model.digest for model in shelf.held] == [
        sha256(second[0]).digest(),
        sha256(third[0]).digest(),
    ]


def test_what_is_cleared_is_never_a_part_of_a_model_that_stays() -> None:
    """Two models may share a place: of the older one only its longer end is left."""
    model = model_of(2)
    digest = sha256(model[0]).digest()
    old = Shelved(digest[:1] + bytes(31), n_chunks=4)
    shelf = ModelShelf(TOPICS, keep=1, held=[old])
    place = model_place(digest)
    assert topics_of(shelf.put(model)) == [
        *((place, index, True) for index in (1, 0)),
        *((place, index, False) for index in (2, 3)),
    ]


def test_many_models_take_a_bounded_number_of_topics() -> None:
    """A broker may never forget a topic."""
    shelf = ModelShelf(TOPICS, keep=3)
    used = {
        message.topic
        for number in range(1_000)
        for message in shelf.put([number.to_bytes(4, "big"), b"data"])
    }
    assert len(used) <= 2 * 256


def test_a_model_that_comes_back_is_not_cleared() -> None:
    shelf = ModelShelf(TOPICS, keep=2)
    first, second = model_of(2, seed=1), model_of(2, seed=2)
    for model in (first, second, first):
        messages = shelf.put(model)
    place = model_place(sha256(first[0]).digest())
    assert topics_of(messages) == [(place, index, True) for index in (1, 0)]
    assert len(shelf.held) == 2
    with pytest.raises(ValueError, match="at least 1"):
        ModelShelf(TOPICS, keep=0)
