"""What coordinator and agent do about their memory: it stays off the disk, and is not in the way.

Secrets of a round live in memory only. Swap is the machine's affair; a core dump is ours.
"""

from __future__ import annotations

import ctypes
import gc
import resource


def forbid_core_dumps() -> None:
    """Leave no image of this process behind when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_what_is_loaded() -> None:
    """Leave all that is in memory now out of garbage collections: modules never become garbage.

    To look through them takes 30 ms, on a small board several times that, and no thread runs
    meanwhile. What loading left over goes back to the system: 5 MB where nothing was compiled
    before, and the allocator would keep it.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    gc.freeze()
