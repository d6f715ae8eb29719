"""A learning curve on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_AXIS: Final = 6  # columns of "100 % "
_WIDEST: Final = 4


def blocks(shares: Sequence[float], width: int, height: int = 8) -> str:
    """Draw shares of 0 to 1 as columns of blocks beside an axis of per cent.

    Args:
        shares: at least one; where they are more than fit, the last of each few is drawn.
        width: columns of the terminal, > 6.
        height: lines, a multiple of 4.
    """
    room = width - _AXIS
    step = -(-len(shares) // room)
    drawn = [shares[min(at + step, len(shares)) - 1] for at in range(0, len(shares), step)]
    wide = min(_WIDEST, room // len(drawn))
    levels = [round(min(1.0, max(0.0, share)) * height * 8) for share in drawn]
    lines = []
    for line in reversed(range(height)):
        bars = "".join(_BLOCKS[min(8, max(0, level - 8 * line))] * wide for level in levels)
        tick = f"{100 * (line + 1) // height:3} %" if (line + 1) % (height // 4) == 0 else ""
        lines.append(f"{tick:<{_AXIS}}{bars}".rstrip())
    return "\n".join(lines)
