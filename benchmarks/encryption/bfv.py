"""TenSEAL's BFV, the common choice for exact sums of encrypted vectors, at N = 4096.

It is no dependency of fedring: the benchmark installs it for itself, into .tmp of the clone.
Each ciphertext holds 4,096 values; the plaintext modulus is the largest prime below 2**27 that
allows that, which leaves room for sums of 1,024 values of 16 bits. The coefficient modulus is the
library's own for N = 4096 (109 bits, 128 bits of security).
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import gmpy2
import numpy as np

from fedring.shared.numbers import IntVector, SumVector

SLOTS: Final = 4096
_REQUIREMENT: Final = "tenseal>=0.3.14,<0.4"
_FOLDER: Final = Path(__file__).parents[2] / ".tmp" / f"tenseal-{sys.implementation.cache_tag}"


def load() -> Any:
    """The library, installed before if need be.

    Raises:
        click.ClickException: it cannot be had here; says what pip said.
    """
    if not (_FOLDER / "tenseal").is_dir():
        click.echo(f"installing {_REQUIREMENT} into {_FOLDER}", err=True)
        options = ["--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(_FOLDER)]
        done = subprocess.run([*command, _REQUIREMENT], capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(
                f"TenSEAL cannot be installed for Python {sys.version_info[0]}."
                f"{sys.version_info[1]}, and the benchmark is not whole without its rows.\n"
                f"{done.stderr.strip()}"
            )
    sys.path.append(str(_FOLDER))
    try:
        return importlib.import_module("tenseal")
    finally:
        sys.path.remove(str(_FOLDER))


class Bfv:
    """A key pair, with sums exact for 1,024 contributors.

    Args:
        tenseal: the library.
    """

    def __init__(self, tenseal: Any) -> None:
        self._tenseal = tenseal
        modulus = (1 << 27) + 1
        while modulus % (2 * SLOTS) != 1 or not gmpy2.is_prime(modulus):
            modulus -= 2
        self._private = tenseal.context(tenseal.SCHEME_TYPE.BFV, SLOTS, modulus)
        self._public = self._private.copy()
        self._public.make_context_public()

    def encrypt(self, chunks: list[list[int]]) -> list[Any]:
        """A vector, encrypted for the owner of the key; not yet bytes."""
        return [self._tenseal.bfv_vector(self._public, chunk) for chunk in chunks]

    def encrypt_to_bytes(self, chunks: list[list[int]]) -> list[bytes]:
        """The same, ready to be sent; the library compresses."""
        return [ciphertext.serialize() for ciphertext in self.encrypt(chunks)]

    def add_up(self, vectors: Sequence[IntVector]) -> SumVector:
        """The sum of these vectors: each encrypted, sent as bytes, added there, and opened at last.

        Args:
            vectors: one or more, of one length; 1,024 at most.
        """
        totals: list[Any] = []
        for vector in vectors:
            wire = self.encrypt_to_bytes(chunks(vector))
            arrived = [self._tenseal.bfv_vector_from(self._private, one) for one in wire]
            if totals:
                arrived = [one + other for one, other in zip(totals, arrived, strict=True)]
            totals = arrived
        return np.concatenate([np.array(total.decrypt(), np.int64) for total in totals])


def chunks(values: IntVector) -> list[list[int]]:
    """A vector in pieces of one ciphertext each."""
    return [values[start : start + SLOTS].tolist() for start in range(0, len(values), SLOTS)]
