"""What a process does so that its memory stays off the disk.

Secrets of a round live in memory only. Swap is the machine's affair; a core dump is ours.
"""

from __future__ import annotations

import resource


def forbid_core_dumps() -> None:
    """Leave no image of this process behind when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
