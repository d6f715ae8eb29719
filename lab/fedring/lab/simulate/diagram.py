"""What happened on the network, as a sequence diagram of plain text.

12.040  |------>|       |   roster
12.041  |       |--x    |   hop 1        lost
 12.100 |       X       |   b01 dies
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedring.lab.simulate.network import Note, Passage
from fedring.lab.simulate.reading import message_in
from fedring.shared.messages import Chunk, Hop, Lap, List, Message, Progress, Refused

COLUMN = 6
"""Characters between two lifelines."""


def diagram(parties: Sequence[str], log: Iterable[Passage | Note]) -> str:
    """Draw a log.

    Args:
        parties: from left to right; others get no lifeline.
        log: in order of time.
    """
    places = {name: 2 + COLUMN * place for place, name in enumerate(parties)}
    width = 2 + COLUMN * len(parties)
    names = "".join(f"{name[: COLUMN - 1]:<{COLUMN}}" for name in parties)
    lines = [f"{'seconds':>9}  {names}"]
    for entry in log:
        row = [" "] * width
        for place in places.values():
            row[place] = "|"
        match entry:
            case Note(_, who, text):
                if who in places:
                    row[places[who]] = "#"
                words = f"## {who} {text}"
            case Passage(_, _, source, to, data, lost):
                _arrow(row, places[source], places[to], lost=bool(lost))
                words = _words(message_in(data)) + (f"   ## {lost}" if lost else "")
        lines.append(f"{entry.at:9.3f}{''.join(row)} {words}")
    return "\n".join(lines)


def _arrow(row: list[str], start: int, end: int, *, lost: bool) -> None:
    step = 1 if end > start else -1
    for place in range(start + step, end, step):
        row[place] = "-"
    if lost:
        for place in range((start + end) // 2, end, step):
            row[place] = "|" if row[place] == "|" else " "
        row[(start + end) // 2] = "x"
    else:
        row[end - step] = ">" if step > 0 else "<"


def _words(message: Message) -> str:
    match message:
        case Hop(names=names):
            return f"hop {' '.join(map(str, names))}"
        case Chunk(index=index):
            return f"chunk {index}"
        case Progress(chunks=chunks):
            return f"progress {chunks}"
        case Lap(lap=lap, order=order):
            return f"lap {lap}: {' '.join(map(str, order))}"
        case List(names=names):
            return f"list {' '.join(map(str, names))}"
        case Refused(reason=reason):
            return f"refused: {reason}"
    return f"{message.kind}"
