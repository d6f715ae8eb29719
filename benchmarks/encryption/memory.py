"""How much memory a computation takes beside what goes in and what comes out."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


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
