"""Where in a TOML file each key stands, since `tomllib` does not say.

The file is cut into statements: a statement is as many lines as `tomllib` needs to accept them
under their table's header. So there is no second TOML parser here, only the first one asked often.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from attrs import frozen

Key = tuple[str, ...]
MAX_WIDTH = 80


@frozen
class Statement:
    """One statement of a file.

    Attributes:
        line: number of its first line, from 1.
        written: its first line as it stands there, without comment, cut to 80 characters.
    """

    line: int
    written: str


def parse(source: str) -> dict[str, Any]:
    """What a TOML text says.

    Raises:
        ValueError: it is none; the message ends in the place, where `tomllib` knows it.
    """
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # of `int`: Python reads 4,300 digits
        raise ValueError("a number of too many digits") from None


def statements(source: str) -> dict[Key, Statement]:
    """The statement at which each key and each table of a valid TOML file first appears."""
    found: dict[Key, Statement] = {}
    header = ""
    lines = source.split("\n")  # `splitlines` knows more ends of lines than TOML
    start = 0
    for end in range(1, len(lines) + 1):
        written = "\n".join(lines[start:end])
        is_header = written.lstrip().startswith("[")
        values = _parsed(written if is_header else f"{header}\n{written}")
        if values is None:
            continue
        if is_header:
            header = written
        statement = Statement(start + 1, _shortened(lines[start]))
        for key in _keys(values):
            found.setdefault(key, statement)
        start = end
    return found


def _parsed(source: str) -> dict[str, Any] | None:
    try:
        return parse(source)
    except ValueError:
        return None


def _keys(values: dict[str, Any], above: Key = ()) -> Iterator[Key]:
    for name, value in values.items():
        key = (*above, name)
        yield key
        if isinstance(value, dict):
            yield from _keys(value, key)


def _shortened(line: str) -> str:
    for place, character in enumerate(line):
        if character == "#" and _parsed(line[:place]) is not None:
            line = line[:place]
            break
    line = line.strip()
    return line if len(line) <= MAX_WIDTH else f"{line[: MAX_WIDTH - 3]}..."
