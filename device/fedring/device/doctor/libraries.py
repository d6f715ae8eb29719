"""Whether every compiled library loads on this board, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Final

from fedring.device.doctor.findings import Finding

LIBRARIES: Final = ("numpy", "gmpy2", "cryptography.x509", "msgpack", "aiomqtt", "phe", "cattrs")

_PACKAGES: Final = {
    "libstdc++": "libstdc++6",
    "libgcc_s": "libgcc-s1",
    "libffi": "libffi8",
    "libgomp": "libgomp1",
}
"""Shared libraries that wheels do not bring, and the Debian package of each."""


def examine_libraries(names: tuple[str, ...] = LIBRARIES) -> Iterator[Finding]:
    """Load every compiled library, and those that bring their own."""
    wrong = []
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            wrong.append(_missing(name, error))
    yield from wrong or [Finding("libraries", "all load")]


def _missing(name: str, error: ImportError) -> Finding:
    # numpy tells a whole page, with the loader's own words first or last.
    words = str(error.__cause__ or error).strip().splitlines()[-1]
    for library, package in _PACKAGES.items():
        if library in str(error) or library in words:
            return Finding(
                "libraries",
                f"{name} needs {library}.so, which this system lacks",
                good=False,
                remedy=f"sudo apt-get install {package}",
            )
    return Finding(
        "libraries",
        f"{name} does not load: {words}",
        good=False,
        remedy="bring the agent anew: fedring fleet flash ssh, or pip install 'fedring[device]'",
    )
