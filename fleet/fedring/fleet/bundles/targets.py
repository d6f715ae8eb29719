"""Which boards a bundle runs on: the version of their Python, and their processor."""

from __future__ import annotations

from typing import Final

import attrs
from attrs.validators import in_

PYTHONS: Final = ("3.11", "3.12", "3.13")
"""Raspberry Pi OS bookworm has 3.11, trixie 3.13."""
ARCHS: Final = ("aarch64", "x86_64")
"""Of 64 bits only: numpy, gmpy2 and cffi have no wheels for others."""

_MANYLINUX: Final = ("_2_28", "_2_27", "_2_26", "_2_24", "_2_17", "2014")
"""pip takes a platform as it is named, not the older ones that it includes. 2.28 is the C library
of Debian 10: every system with one of our Pythons has a newer one."""


@attrs.frozen
class Target:
    """What a bundle is made for.

    Attributes:
        python: "3.11", "3.12" or "3.13".
        arch: as `uname -m` says it: "aarch64" or "x86_64".
    """

    python: str = attrs.field(validator=in_(PYTHONS))
    arch: str = attrs.field(validator=in_(ARCHS))

    @property
    def tag(self) -> str:
        """Python's tag in the names of wheels: "cp311"."""
        return "cp" + self.python.replace(".", "")

    @property
    def platforms(self) -> list[str]:
        """Platforms of wheels that run there, the newest first."""
        return [f"manylinux{version}_{self.arch}" for version in _MANYLINUX]

    def __str__(self) -> str:
        return f"{self.tag}-{self.arch}"
