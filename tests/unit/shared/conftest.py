"""One fixed message of each kind, for pinned bytes and for tests that damage it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from fedring.shared.messages import MESSAGES, Message, ModelReference, Plan, RingTerms

Example: TypeAlias = Callable[[str], Message]

MODEL = ModelReference(version=7, parent=6, digest=b"m" * 32, size=27_000)
PLAN = Plan(
    task="train",
    epochs=5,
    batch=32,
    rate=0.05,
    clip=2.0,
    value_range=0.25,
    evaluation_samples=64,
    max_samples=512,
)
TERMS = RingTerms(size=12, ready_s=60.0, patience_s=5.0, release_s=15.0, lap_s=31.5)
FIELDS: dict[str, dict[str, Any]] = {
    "announce": {
        "model": MODEL,
        "plan": PLAN,
        "ring": TERMS,
        "suite": "hybrid",
        "bits": 16,
        "n_values": 4045,
        "paillier_n": b"n" * 256,
        "exchange_key": b"x" * 32,
        "revocation": 3,
        "certificate": b"certificate",
    },
    "rest": {"model": MODEL, "certificate": b"certificate"},
    "ready": {
        "announce": b"a" * 32,
        "certificate": b"certificate",
        "threshold": 7,
        "round_key": b"k" * 32,
    },
    "roster": {"announce": b"a" * 32, "ring": 1, "readies": (b"one", b"two")},
    "lap": {"roster": b"r" * 32, "lap": 1, "order": (3, 9, 1)},
    "hop": {"lap": b"lap", "names": (3, 9), "size": 70_000},
    "chunk": {"hop": b"h" * 32, "index": 1, "data": b"data"},
    "progress": {"about": b"h" * 32, "chunks": 4},
    "taken": {"about": b"h" * 32},
    "passed": {"about": b"h" * 32},
    "busy": {"about": b"h" * 32},
    "refused": {"about": b"r" * 32, "reason": "ring of 4, this device answers above 7"},
    "call": {"roster": b"r" * 32, "lap": 2},
    "here": {"roster": b"r" * 32, "lap": 2},
    "list": {"roster": b"r" * 32, "names": (1, 3, 9)},
    "release": {"roster": b"r" * 32, "list": b"l" * 32, "sealed": b"sealed"},
}


@pytest.fixture
def example() -> Example:
    """Makes the one fixed message of a kind."""

    def example(kind: str) -> Message:
        from_coordinator = kind in ("announce", "rest", "roster", "lap", "call", "list")
        sender = 0 if from_coordinator else 9
        return MESSAGES[kind](fleet="garden", epoch=2, round=305, sender=sender, **FIELDS[kind])

    return example
