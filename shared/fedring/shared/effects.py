"""What a state machine asks its shell to do.

A shell carries the effects of one list out in their order, each one finished before the next
begins: a record that stands before a `Send` is durable before the first byte leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

Fact: TypeAlias = str | int | float | bool | list[str] | list[int]


@frozen
class Send:
    """Send an envelope to one party's inbox.

    Attributes:
        to: name of a device, or `coordinator`.
        data: the envelope as it travels.
    """

    to: str
    data: bytes = field(repr=lambda data: f"<{len(data)} bytes>")


@frozen
class Report:
    """Something happened that a person may want to see: for logs, status and event topics.

    Attributes:
        event: what happened, as a short fixed phrase.
        facts: its details; never a secret, never a payload.
    """

    event: str
    facts: Mapping[str, Fact] = field(factory=dict)
