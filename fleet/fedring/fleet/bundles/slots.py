"""The folder that a board runs fedring from: a launcher, and all that it imports.

fedring     starts the command, with the Python that the folder was made for
site/       packages; of fedring the device, and what is shared by all parts
"""

from __future__ import annotations

import configparser
import io
import re
import shutil
from collections.abc import Iterable
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from fedring.fleet.bundles.packages import install_packages
from fedring.fleet.bundles.targets import Target
from fedring.shared.bundles import LAUNCHER_FILE, SITE_FOLDER

PARTS: Final = ("device", "shared")
"""Of fedring, what a board needs."""

_NOT_RUN: Final = (
    *("tests", "test", "__pycache__", "bin", "include"),
    *("f2py", "distutils"),  # of numpy, to build extensions
    *("cffi", "pycparser"),  # cryptography needs only the compiled `_cffi_backend`
)
_NOT_READ: Final = (".pyi", ".pyx", ".pxd", ".h", ".c", ".a")
_OF_PIP: Final = ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json")
"""Notes about an installation of which files were taken out; licenses and names stay."""

_LAUNCHER_TEXT: Final = """\
#!/bin/sh
# Starts the fedring that lies beside this file, whatever `current` points to by then.
slot=$(dirname "$(readlink -f "$0")")
export PYTHONPATH="$slot/site" PYTHONDONTWRITEBYTECODE=1
exec {python} -s -P -c 'from fedring.shared.cli import main; main()' "$@"
"""


def fill_slot(target: Target, folder: Path, *, version: str, litert: bool = False) -> None:
    """Make the folder for boards of this kind; downloads packages where pip has none in store.

    Args:
        target: which boards.
        folder: empty, or does not exist yet.
        version: that it says of itself.
        litert: whether it can train `.tflite` models.

    Raises:
        BundleError: see `install_packages`.
    """
    site = folder / SITE_FOLDER
    install_packages(target, site, litert=litert)
    strip(site)
    copy_fedring(site, version)
    launcher = folder / LAUNCHER_FILE
    launcher.write_text(_LAUNCHER_TEXT.format(python=f"python{target.python}"), "utf-8")
    launcher.chmod(0o755)


def strip(site: Path) -> None:
    """Take out what no board runs or reads: tests, programs, what builds extensions, types."""
    for path in sorted(site.rglob("*"), reverse=True):  # what a folder holds before the folder
        inside_notes = any(part.endswith(".dist-info") for part in path.relative_to(site).parts)
        if path.is_dir():
            if path.name in _NOT_RUN and not inside_notes:
                shutil.rmtree(path)
        elif path.name in _OF_PIP if inside_notes else path.name.endswith(_NOT_READ):
            path.unlink()


def copy_fedring(site: Path, version: str) -> None:
    """Copy the parts for boards out of the fedring that is running, installed or a clone's."""
    for part in PARTS:
        _copy(resources.files(f"fedring.{part}"), site / "fedring" / part)
    notes = site / f"fedring-{version}.dist-info"
    notes.mkdir()
    about = metadata.distribution("fedring").read_text("METADATA") or ""
    about = re.sub(r"^Version: .*$", f"Version: {version}", about, count=1, flags=re.MULTILINE)
    notes.joinpath("METADATA").write_text(about, "utf-8")
    notes.joinpath("entry_points.txt").write_text(_commands(), "utf-8")


def _commands() -> str:
    """The commands of the parts that are copied: a board cannot start the others."""
    listing = configparser.ConfigParser()
    listing["fedring.commands"] = {
        entry.name: entry.value
        for entry in metadata.entry_points(group="fedring.commands")
        if entry.value.startswith(tuple(f"fedring.{part}." for part in PARTS))
    }
    text = io.StringIO()
    listing.write(text)
    return text.getvalue()


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(parents=True)
    for entry in _wanted(source.iterdir()):
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            target.joinpath(entry.name).write_bytes(entry.read_bytes())


def _wanted(entries: Iterable[Traversable]) -> Iterable[Traversable]:
    return (entry for entry in entries if not entry.name.startswith((".", "__pycache__")))
