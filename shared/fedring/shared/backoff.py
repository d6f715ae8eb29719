"""How long to wait before the next attempt."""

from __future__ import annotations

from attrs import frozen


@frozen
class Backoff:
    """How long to wait before connecting again.

    The wait doubles from `first_s` to `longest_s`, times 0.5 to 1 so that a fleet does not come
    back all at once. It starts anew only after a connection that held for `steady_s`: two processes
    that share a client id throw each other off for ever, and shall do so slowly.
    """

    first_s: float = 0.25
    longest_s: float = 20.0
    steady_s: float = 5.0

    def wait_s(self, failures: int, jitter: float) -> float:
        """Seconds to wait after `failures` >= 1 failures in a row; `jitter` is in [0, 1)."""
        doubled = self.first_s * 2.0 ** min(failures - 1, 30)
        return min(self.longest_s, doubled) * (0.5 + jitter / 2)
