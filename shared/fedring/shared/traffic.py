"""How many messages and bytes went to and came from the broker, by topic class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from attrs import define


@define
class Count:
    """Messages, and the bytes of their payloads."""

    messages: int = 0
    bytes: int = 0

    def add(self, payload_bytes: int) -> None:
        self.messages += 1
        self.bytes += payload_bytes


class Traffic:
    """Counts messages by topic class.

    Args:
        classify: topic class of a topic, see `Topics.classify`.

    Attributes:
        sent: what was handed to the broker, by topic class.
        received: what came from it, by topic class.
        dropped: messages thrown away because nobody took them in time.
    """

    def __init__(self, classify: Callable[[str], str]) -> None:
        self.sent: Mapping[str, Count] = defaultdict(Count)
        self.received: Mapping[str, Count] = defaultdict(Count)
        self.dropped = 0
        self._classify = classify

    def count_sent(self, topic: str, payload_bytes: int) -> None:
        self.sent[self._classify(topic)].add(payload_bytes)

    def count_received(self, topic: str, payload_bytes: int) -> None:
        self.received[self._classify(topic)].add(payload_bytes)

    def as_dict(self) -> dict[str, dict[str, dict[str, int]]]:
        """For JSON: `{"sent": {"inbox": {"messages": 3, "bytes": 200}}, "received": ...}`."""
        return {
            "sent": _plain(self.sent),
            "received": _plain(self.received),
        }


def _plain(counts: Mapping[str, Count]) -> dict[str, dict[str, int]]:
    return {
        name: {"messages": count.messages, "bytes": count.bytes}
        for name, count in sorted(counts.items())
    }
