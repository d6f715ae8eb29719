"""msgpack from strangers: read as msgpack reads it, in memory that the input's length bounds."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.envelopes import open_envelope
from fedring.shared.errors import PeerError
from fedring.shared.identity import RevocationList
from fedring.shared.manifests import parse_manifest
from fedring.shared.unpacking import unpack

BEHIND = bytes(50_000)
"""msgpack takes no array for longer than the whole input: so something stands behind."""
ARRAYS = {
    "arrays of 40,000, one in the other": b"\xdc\x9c\x40" * 1_000 + BEHIND,
    "arrays of 4,096, one in the other": b"\xdc\x10\x00" * 1_000 + BEHIND,
    "arrays of 64, one in the other": b"\xdc\x00\x40" * 1_000 + BEHIND,
    "maps of 40,000, one in the other": b"\xde\x9c\x40\xa1a" * 1_000 + BEHIND,
    "arrays under keys": b"\x81\xa1a\xdc\x9c\x40" * 500 + BEHIND,
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "bytes of 4 billion": b"\xc6\xff\xff\xff\xff",
}
READERS: dict[str, Callable[[bytes], object]] = {
    "envelope": open_envelope,
    "manifest": parse_manifest,
    "revocation": RevocationList.from_payload,
    "any": unpack,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", ARRAYS)
def test_lengths_that_are_not_there_cost_nothing(reader: str, case: str) -> None:
    raw = ARRAYS[case]
    tracemalloc.start()
    try:
        with pytest.raises((PeerError, ValueError)):
            READERS[reader](raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(raw) + 100_000


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_like)
def test_what_was_packed_is_unpacked(value: object) -> None:
    assert unpack(msgpack.packb(value)) == value


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_a_value_error(raw: bytes) -> None:
    with suppress(ValueError):
        unpack(raw)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x01\x01", b"\x91", b"\x91" * 1100, b"\xa1\xff"])
def test_what_is_no_one_value_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no msgpack"):
        unpack(raw)


def test_limits_are_those_of_msgpack() -> None:
    raw = msgpack.packb([1, 2, 3])
    assert unpack(raw, max_array_len=3, use_list=False) == (1, 2, 3)
    with pytest.raises(ValueError, match="max_array_len"):
        unpack(raw, max_array_len=2)
