"""Runs a part of fedring that tells what it holds of a round: a program for tests.

    python -P telling.py FILE python -P -c CODE device run --config SETTINGS

It stands before the command of a device or of the coordinator (`LocalFleet.under`). What runs is
production's code, unchanged. At each SIGUSR1 the process counts its own objects that hold a secret
of a round, and writes into FILE how many there are of each kind.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import Ring
from fedring.coordinator.sums import RingSum
from fedring.device.releases import Secrets
from fedring.shared.cli import main
from fedring.shared.pairwise import RoundKey

SECRET = (RoundKey, Secrets, Announcing, Ring, RingSum)
"""Keys of one round; what a device holds until its release; what a coordinator gets of it."""

FILE = Path(sys.argv[1])


def tell(number: int, frame: FrameType | None) -> None:
    """Write what is held now."""
    held = Counter(type(one).__name__ for one in gc.get_objects() if type(one) in SECRET)
    partial = FILE.with_suffix(".partial")
    partial.write_text(json.dumps(held), "utf-8")
    partial.replace(FILE)


if __name__ == "__main__":
    code = sys.argv.index("-c", 2)  # what python would have run: `main`, with what follows
    sys.argv = sys.argv[code : code + 1] + sys.argv[code + 2 :]
    signal.signal(signal.SIGUSR1, tell)
    main()
