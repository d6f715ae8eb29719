"""Adding up encrypted vectors: masks that add up, keys under Paillier, sums opened at once.

No I/O and no protocol in here. `interface` tells how it is used, `parameters` on what it rests.
"""

from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.paillier import check_public_key, generate_key
from fedring.shared.encryption.parameters import PRODUCTION, Parameters
from fedring.shared.encryption.suites import (
    SUITES,
    Body,
    OneTimeMask,
    Product,
    Random,
    Suite,
    max_values,
    suite,
)

__all__ = [
    "PRODUCTION",
    "SUITES",
    "Body",
    "Obfuscators",
    "OneTimeMask",
    "Parameters",
    "Product",
    "Random",
    "Suite",
    "check_public_key",
    "generate_key",
    "max_values",
    "suite",
]
