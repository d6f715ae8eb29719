"""The packages that fedring needs on a board, as wheels for its Python and processor.

pip unpacks them and runs nothing of them, so that any machine makes the folder for any board.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from fedring.fleet.bundles.targets import Target
from fedring.shared.errors import BundleError

_EXTRA: Final = re.compile(r"""(?:\s+and\s+)?\bextra\s*==\s*['"](?P<extra>[^'"]+)['"]""")
_SAID_BY_PIP: Final = 6
"""Lines of pip's that are shown when it fails."""


def requirements(*, litert: bool = False) -> list[str]:
    """Give what the installed fedring asks for without any extra, and with `litert` for LiteRT."""
    extras = {"litert"} if litert else set()
    return list(select(metadata.requires("fedring") or [], extras))


def select(lines: Iterable[str], extras: Collection[str]) -> Iterator[str]:
    """Give the requirements of no extra and of these, as pip takes them.

    Args:
        lines: Requires-Dist of a package's metadata.
        extras: names.
    """
    for line in lines:
        match = _EXTRA.search(line)
        if match is None:
            yield line
        elif match["extra"] in extras:
            yield _EXTRA.sub("", line).strip().removesuffix(";").strip()


def install_packages(target: Target, folder: Path, *, litert: bool = False) -> None:
    """Unpack all wheels that a board needs into a folder; nothing is compiled.

    Args:
        target: which board.
        folder: made; what Python finds there it can import.
        litert: whether LiteRT is among them.

    Raises:
        BundleError: this Python has no pip, or pip did not find or could not fetch a wheel.
    """
    arguments = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile"]
    arguments += ["--disable-pip-version-check", "--only-binary=:all:"]
    arguments += ["--implementation=cp", f"--python-version={target.python}"]
    arguments += [f"--abi={abi}" for abi in (target.tag, "abi3", "none")]
    arguments += [f"--platform={platform}" for platform in target.platforms]
    arguments += ["--target", str(folder), *requirements(litert=litert)]
    done = subprocess.run(  # noqa: S603 - no shell; our own arguments
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines()
    if said and said[-1].endswith("No module named pip"):
        raise BundleError(
            "bundles are made with pip, and this Python has none",
            name="bundle.no-pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    errors = [line for line in said if not line.startswith("WARNING")]
    raise BundleError(
        "\n".join([f"pip could not bring the packages for {target}:", *errors[-_SAID_BY_PIP:]]),
        name="bundle.packages",
        hint="check the network, and pip's settings for the package index",
    )
