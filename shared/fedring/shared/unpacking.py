"""msgpack from strangers, read in memory that the length of the input bounds.

msgpack makes room for an array when it reads its length. Arrays that begin one in the other, a few
bytes each, would so take all memory before the first element is missed. Therefore the input is
walked once without making anything of it. Messages of the ring, many and small, are read with
limits instead (`envelopes`).
"""

from __future__ import annotations

from typing import Any

import msgpack


def unpack(raw: bytes, **options: Any) -> Any:
    """Read one value.

    Args:
        raw: as it came, trusted in nothing.
        options: of `msgpack.unpackb`: limits, hooks.

    Raises:
        ValueError: no msgpack, more than one value, or beyond a limit.
    """
    try:
        walk = msgpack.Unpacker(max_buffer_size=max(len(raw), 1))
        walk.feed(raw)
        walk.skip()
        return msgpack.unpackb(raw, **options)
    except (ValueError, OverflowError, msgpack.UnpackException) as fault:
        raise ValueError(f"no msgpack: {str(fault)[:80]}") from fault
