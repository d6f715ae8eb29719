"""What a processor computes, as lines to be compared with those of another.

    PYTHONPATH=SITE python3 -s -P arithmetic.py VECTORS

Run by its path, since a board has no lab. VECTORS is the folder tests/vectors of the project.

Integers must be the same on every processor: fixed-point updates, masks, bodies, ciphertexts, pads,
messages. Floats may differ in their last bits (matrix products and exponentials do), so that they
are compared with a tolerance, and are never hashed or signed across boards.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import platform
import sys
from pathlib import Path

import numpy as np
from phe import PaillierPublicKey

import fedring.device
import fedring.shared
from fedring.device.trainers import NumpyTrainer
from fedring.shared.encryption import SUITES, suite
from fedring.shared.envelopes import decode, encode
from fedring.shared.messages import Plan
from fedring.shared.networks import initialise
from fedring.shared.numbers import dequantise, quantise
from fedring.shared.pairwise import RoundKey, pads
from fedring.shared.samples import Dataset

_N_VALUES = 20_000
_PLAN = Plan(
    task="train",
    epochs=3,
    batch=16,
    rate=0.05,
    clip=0.0,
    value_range=1.0,
    evaluation_samples=0,
    max_samples=1000,
)


def import_all() -> list[str]:
    """Import every module that a board has, and give their names."""
    names = []
    for package in (fedring.device, fedring.shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
            names.append(module.name)
    return names


def integers(vectors: Path) -> dict[str, str]:
    """Give a digest of each result that must not differ."""
    draw = np.random.default_rng(7)
    update = draw.standard_normal(_N_VALUES).astype(np.float32)
    found = {}
    for bits in (8, 16):
        values = quantise(update, 3.0, bits, draw)
        found[f"fixed-point update, {bits} bits"] = _digest(values.tobytes())
        mean = dequantise(values.astype(np.int64), 3.0, bits, 7)
        found[f"mean, {bits} bits"] = _digest(mean.tobytes())
        for name in SUITES:
            cipher = suite(
                name,
                public_key=_public_key(vectors),
                announce_digest=bytes(32),
                n_values=_N_VALUES if name == SUITES[0] else 100,
                bits=bits,
            )
            count = iter(range(100))
            mask = cipher.prepare(
                lambda n, count=count: _stretch(next(count), n)  # type: ignore[misc]
            )
            body = cipher.encode_body(mask.body(values[: cipher.n_values]))
            found[f"body, {name}, {bits} bits"] = _digest(body)
            key = RoundKey.generate(lambda n: _stretch(200, n))
            others = {4: RoundKey.generate(lambda n: _stretch(201, n)).public, 3: key.public}
            own = pads(
                key,
                3,
                others,
                roster_digest=bytes(32),
                list_digest=bytes(32),
                n_pieces=cipher.n_ciphertexts,
                modulus=cipher.n,
            )
            found[f"pads, {name}, {bits} bits"] = _digest(repr([int(pad) for pad in own]).encode())
            found[f"release, {name}, {bits} bits"] = _digest(mask.release(own))
    for line in (vectors / "messages.txt").read_text().splitlines():
        kind, _, payload = line.partition(": ")
        if payload and not line.startswith("#"):
            found[f"message {kind}"] = _digest(encode(decode(bytes.fromhex(payload))))
    return found


def floats() -> list[float]:
    """Give what a training on fixed samples changes in a small model."""
    draw = np.random.default_rng(11)
    names = tuple("abcdef")
    model = initialise("mlp", names, ("low", "high"), hidden=(16,), seed=11)
    x = draw.standard_normal((400, len(names))).astype(np.float32)
    samples = Dataset(x, (x.sum(axis=1) > 0).astype(np.int64), names, ("low", "high"))
    trained = NumpyTrainer().train(model, samples, _PLAN, draw)
    return [float(value) for value in trained.update]


def _public_key(vectors: Path) -> PaillierPublicKey:
    text = (vectors / "encryption" / "hybrid-full-16.txt").read_text()
    primes = [line[3:] for line in text.splitlines() if line[:3] in {"p: ", "q: "}]
    return PaillierPublicKey(int(primes[0], 16) * int(primes[1], 16))


def _stretch(number: int, n_bytes: int) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.shake_256(str(number).encode()).digest(n_bytes)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    facts = {
        "machine": platform.machine(),
        "modules": import_all(),
        "integers": integers(Path(sys.argv[1])),
        "floats": floats(),
    }
    sys.stdout.write(json.dumps(facts) + "\n")
