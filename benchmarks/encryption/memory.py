"""How much memory a computation takes beside what goes in and what comes out."""

from __future__ import annotations

import ctypes
import gc
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self")
_FORGET_THE_PEAK: Final = "5"


def temporaries(run: Callable[[], object], result_bytes: int) -> int:
    """Most bytes that were taken at once, less those of the result, which must be given.

    Counted by tracemalloc: Python's objects and numpy's arrays, not what FFT and GMP use inside.
    """
    gc.collect()
    tracemalloc.start()
    try:
        result = run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return peak - result_bytes


def resident(run: Callable[[], object], result_bytes: int) -> int:
    """Most resident memory that was added, less the result: FFT and GMP count like all others.

    In whole pages, and only what was not in the process yet: free memory goes back to the system
    before, as far as the C library can give it. Linux only.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (_OWN / "clear_refs").write_text(_FORGET_THE_PEAK)
    before = _kilobytes("VmRSS")
    result = run()
    peak = _kilobytes("VmHWM")
    del result
    return max(0, 1024 * (peak - before) - result_bytes)


def _kilobytes(name: str) -> int:
    (found,) = re.findall(rf"{name}:\s+(\d+) kB", (_OWN / "status").read_text())
    return int(found)
