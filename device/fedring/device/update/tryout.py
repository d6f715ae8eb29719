"""Whether the agent in a slot runs on this board at all: `fedring device tryout`.

The updater starts this in a new slot, before it switches. It imports what the agent and the next
updater need, and lets each compiled library do one small thing: a library that is missing, or made
for another processor, shows here and not in the night.
"""

from __future__ import annotations

import importlib
from typing import Final

NEEDED: Final = (
    "fedring.device.agent",
    "fedring.device.cli",
    "fedring.device.update.updater",
    "fedring.device.trainers",
)


def try_libraries() -> None:
    """Let each compiled library do something whose result is known.

    Raises:
        ImportError: one is missing, or needs something that is missing.
        RuntimeError: one counts wrongly.
    """
    import gmpy2  # noqa: PLC0415 - each import is what is tried here
    import msgpack  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    square = np.ones((8, 8), np.float32) @ np.ones((8, 8), np.float32)
    key = ec.generate_private_key(ec.SECP256R1())
    key.public_key().verify(
        key.sign(b"tried", ec.ECDSA(hashes.SHA256())), b"tried", ec.ECDSA(hashes.SHA256())
    )
    right = (
        float(square.sum()) == 512.0
        and int(gmpy2.powmod(3, 1000, 10**9 + 7)) == pow(3, 1000, 10**9 + 7)
        and msgpack.unpackb(msgpack.packb([1, b"two"])) == [1, b"two"]
    )
    if not right:
        raise RuntimeError("a compiled library counts wrongly on this processor")


def try_out() -> None:
    """Import and compute.

    Raises:
        ImportError: a part is missing, or needs something that is missing.
        RuntimeError: a library counts wrongly.
    """
    for module in NEEDED:
        importlib.import_module(module)
    try_libraries()
