"""The suites by name, as an announce chooses them."""

from __future__ import annotations

from phe import PaillierPublicKey

from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.encryption.interface import Body, OneTimeMask, Product, Suite
from fedring.shared.encryption.packed import PackedPaillier
from fedring.shared.encryption.parameters import LAYOUTS, PRODUCTION, Parameters
from fedring.shared.encryption.streams import Random
from fedring.shared.errors import ProtocolError

__all__ = ["SUITES", "Body", "OneTimeMask", "Product", "Random", "Suite", "max_values", "suite"]

_KNOWN: dict[str, type[Suite]] = {known.name: known for known in (Hybrid, PackedPaillier)}

SUITES = tuple(_KNOWN)
"""Names; the first is the default."""

TINIEST_KEY_BITS = 64
"""What the layouts need; for security see `check_public_key`."""


def max_values(name: str) -> int:
    """Longest vector that a suite of this name takes.

    Raises:
        ProtocolError: there is no such suite.
    """
    if name not in _KNOWN:
        raise ProtocolError(f"unknown suite '{name}', known: {', '.join(SUITES)}")
    return _KNOWN[name].max_values


def suite(
    name: str,
    *,
    public_key: PaillierPublicKey,
    announce_digest: bytes,
    n_values: int,
    bits: int,
    parameters: Parameters = PRODUCTION,
) -> Suite:
    """The suite that an announce asks for.

    Args:
        name: one of `SUITES`.
        public_key: of the coordinator; a device calls `check_public_key` before, tests do not.
        announce_digest: 32 bytes.
        n_values: length of the vectors, 1..max_values(name).
        bits: width of a value, 8 or 16.
        parameters: of the lattice in `hybrid`; smaller ones only where nothing is to be hidden.

    Raises:
        ProtocolError: the announce asks for what no suite does.
        ValueError: the digest has the wrong length.
    """
    most = max_values(name)
    if bits not in LAYOUTS:
        raise ProtocolError(f"values of {bits} bits, not 8 or 16")
    if (key_bits := public_key.n.bit_length()) < TINIEST_KEY_BITS:
        raise ProtocolError(f"a Paillier modulus of {key_bits} bits holds no value")
    if not 1 <= n_values <= most:
        raise ProtocolError(f"{n_values} values, suite {name} takes 1 to {most}")
    if len(announce_digest) != 32:
        raise ValueError(f"an announce digest has 32 bytes, not {len(announce_digest)}")
    if name == PackedPaillier.name:
        return PackedPaillier(public_key, n_values, bits)
    return Hybrid(public_key, announce_digest, n_values, bits, parameters)
