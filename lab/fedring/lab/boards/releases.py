"""Releases of fedring for updates: the next version, and one that does not work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from fedring.fleet.authority import Fleet
from fedring.fleet.bundles.building import pack_bundle
from fedring.fleet.bundles.targets import Target
from fedring.lab.boards.site import PASSPHRASE, TARGET
from fedring.shared.bundles import SUFFIX

BREAKAGE: Final = "the release is broken: it starts, and ends before it is ready"


def next_release(
    fleet: Path,
    slot: Path,
    folder: Path,
    version: str,
    *,
    broken: bool = False,
    target: Target = TARGET,
) -> Path:
    """Make and sign a bundle of this very fedring that says it is another version.

    Args:
        fleet: folder of a fleet whose passphrase is `PASSPHRASE`.
        slot: content of a bundle of this fedring.
        folder: there; for the new bundle.
        version: that it says of itself.
        broken: its agent ends as soon as it starts; what the updater tries beforehand still works.
        target: what the slot is for.

    Returns:
        The bundle's file.
    """
    changed = folder / f"slot-{version}-{target}"
    shutil.copytree(slot, changed)
    (notes,) = (changed / "site").glob("fedring-*.dist-info")
    about = notes / "METADATA"
    about.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", about.read_text(), count=1))
    notes.rename(notes.with_name(f"fedring-{version}.dist-info"))
    if broken:
        agent = changed / "site/fedring/device/agent.py"
        text, n_found = re.subn(
            r"(?m)^def run\(.*\) -> .*:\n",
            lambda match: f"{match[0]}    raise SystemExit({BREAKAGE!r})\n",
            agent.read_text(),
        )
        if n_found != 1:
            raise RuntimeError(f"{agent} has {n_found} functions `run`")
        agent.write_text(text)
    authority = Fleet(fleet)
    authority.unlock(PASSPHRASE)
    file = folder / f"fedring-{version}-{target}{SUFFIX}"
    file.write_bytes(pack_bundle(authority, target, changed, version=version))
    return file
