"""The suites by name, as an announce chooses them."""

from __future__ import annotations

from phe import PaillierPublicKey

from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.encryption.interface import Body, OneTimeMask, Product, Suite
from fedring.shared.encryption.parameters import LAYOUTS, MAX_VALUES, PRODUCTION, Parameters
from fedring.shared.encryption.streams import Random
from fedring.shared.errors import ProtocolError

__all__ = ["SUITES", "Body", "OneTimeMask", "Product", "Random", "Suite", "suite"]

SUITES = (Hybrid.name,)


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
        n_values: length of the vectors, 1..MAX_VALUES.
        bits: width of a value, 8 or 16.
        parameters: of the lattice; smaller ones only where nothing is to be hidden.

    Raises:
        ProtocolError: the announce asks for what no suite does.
        ValueError: the digest has the wrong length.
    """
    if name not in SUITES:
        raise ProtocolError(f"unknown suite '{name}', known: {', '.join(SUITES)}")
    if bits not in LAYOUTS:
        raise ProtocolError(f"values of {bits} bits, not 8 or 16")
    if not 1 <= n_values <= MAX_VALUES:
        raise ProtocolError(f"{n_values} values, not 1 to {MAX_VALUES}")
    if len(announce_digest) != 32:
        raise ValueError(f"an announce digest has 32 bytes, not {len(announce_digest)}")
    return Hybrid(public_key, announce_digest, n_values, bits, parameters)
