"""The memory of a process stays off the disk, and what is loaded out of the collector's way."""

import gc
import subprocess
import sys

from fedring.shared.memory import keep_what_is_loaded

PROGRAM = """
import resource
from fedring.shared.memory import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_crash_leaves_no_image_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(0, 0)"


def test_a_collection_looks_only_at_what_was_made_since() -> None:
    try:
        keep_what_is_loaded()
        old = len(gc.get_objects())  # frozen ones are not among them
        since = [[number] for number in range(1000)]
        assert old + len(since) <= len(gc.get_objects()) < old + 2 * len(since)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
