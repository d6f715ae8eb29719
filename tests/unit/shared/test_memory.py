"""The memory of a process stays off the disk."""

import subprocess
import sys

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
