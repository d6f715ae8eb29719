"""Reading messages over everybody's shoulder: decoded once, however many look at them."""

from __future__ import annotations

from functools import lru_cache

from fedring.shared.envelopes import digest, open_envelope, unpack_envelope
from fedring.shared.messages import Message


@lru_cache(maxsize=256)
def message_in(data: bytes) -> Message:
    """The message in an envelope, whoever may have signed it."""
    return open_envelope(data).message


def digest_of(data: bytes) -> bytes:
    """The digest under which others speak of the message in an envelope."""
    return digest(message_in(data).kind, unpack_envelope(data)[0])
