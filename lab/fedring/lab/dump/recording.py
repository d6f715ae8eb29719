"""A recording of a broker in a file: one topic and payload after the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgpack

from fedring.lab.spy import Heard
from fedring.shared.envelopes import MAX_ENVELOPE_BYTES

_MAX_BUFFER_BYTES = 4 * MAX_ENVELOPE_BYTES


def save(messages: Iterable[Heard], file: Path) -> None:
    """Write all that a recorder heard."""
    with file.open("wb") as out:
        for message in messages:
            out.write(msgpack.packb([message.topic, message.payload]))


def load(file: Path) -> list[Heard]:
    """Read what `save` wrote."""
    with file.open("rb") as content:
        unpacker = msgpack.Unpacker(content, max_buffer_size=_MAX_BUFFER_BYTES)
        return [Heard(topic, payload) for topic, payload in unpacker]
