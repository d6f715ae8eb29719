"""JSON from strangers, for the eyes of people.

Whoever may write a topic may write anything on it, and what is read here ends up on a terminal. So
nothing read here is longer than a line, nothing holds control characters (a terminal would obey
them), and a field that is missing, too large or of another type is as if nobody had said it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

MAX_PAYLOAD_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 200
"""Characters of a text that are kept."""
MAX_ENTRIES: Final = 100
"""Entries of a list or table that are kept; the largest honest one has a line for each ring."""
MAX_WHOLE: Final = 2**53
"""Above it JSON readers in other languages disagree about integers."""
YEARS: Final = range(1970, 9999)
"""Of times that are kept: all can be told in local time, which 0001 and 9999 cannot."""


def clean(text: str) -> str:
    """Make one line of printable characters out of any text, `MAX_TEXT` long at most.

    Control characters, line ends, lone surrogates and marks that turn the direction of writing
    become spaces; runs of spaces become one.
    """
    start = text[: 4 * MAX_TEXT]  # no work for what is cut off anyway
    words = "".join(letter if letter.isprintable() else " " for letter in start).split()
    line = " ".join(words)
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


class Hearsay:
    """One JSON object, read field by field."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    @classmethod
    def read(cls, payload: bytes) -> Hearsay | None:
        """Read an object; None when the bytes are none, or more than `MAX_PAYLOAD_BYTES`."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            return None
        try:
            value = json.loads(payload, parse_constant=_refuse)
        except (ValueError, RecursionError):  # bad UTF-8, bad JSON, endless digits; deep nesting
            return None
        return cls(value) if isinstance(value, dict) else None

    def text(self, name: str) -> str:
        """A text, "" when there is none."""
        return _text(self._fields.get(name)) or ""

    def whole(self, name: str) -> int | None:
        """An integer from 0 up to `MAX_WHOLE`."""
        return _whole(self._fields.get(name))

    def count(self, name: str) -> int:
        """An integer as `whole` gives it, 0 when there is none."""
        return self.whole(name) or 0

    def time(self, name: str) -> datetime | None:
        """A time in ISO 8601, in `YEARS`; without a time zone it is UTC."""
        try:
            time = datetime.fromisoformat(self.text(name))
            time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        return time if time.year in YEARS else None

    def counts(self, name: str) -> dict[str, int]:
        """A table of integers from 0 up."""
        return {key: n for key, value in self._table(name) if (n := _whole(value)) is not None}

    def number(self, name: str) -> float | None:
        """A number of at most `MAX_WHOLE`, either way."""
        return _number(self._fields.get(name))

    def numbers(self, name: str) -> dict[str, float]:
        """A table of finite numbers."""
        return {key: n for key, value in self._table(name) if (n := _number(value)) is not None}

    def texts(self, name: str) -> dict[str, str]:
        """A table of texts."""
        return {key: text for key, value in self._table(name) if (text := _text(value)) is not None}

    def each(self, name: str) -> list[Hearsay]:
        """A list of objects."""
        value = self._fields.get(name)
        entries = value[:MAX_ENTRIES] if isinstance(value, list) else []
        return [Hearsay(entry) for entry in entries if isinstance(entry, dict)]

    def facts(self, *besides: str) -> dict[str, str | float]:
        """All fields that are texts, numbers or lists of them, except those named."""
        facts: dict[str, str | float] = {}
        for key, value in _entries(self._fields):
            fact = _fact(value)
            if fact is not None and key not in besides:
                facts[key] = fact
        return facts

    def _table(self, name: str) -> Iterator[tuple[str, Any]]:
        value = self._fields.get(name)
        return _entries(value) if isinstance(value, dict) else iter(())


def _entries(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in list(table.items())[:MAX_ENTRIES]:
        yield clean(key), value


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_WHOLE else None


def _number(value: Any) -> float | None:
    if type(value) not in {int, float} or not -MAX_WHOLE <= value <= MAX_WHOLE:
        return None
    return float(value)


def _fact(value: Any) -> str | float | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        parts = [_fact(part) for part in value[:MAX_ENTRIES] if not isinstance(part, list)]
        return clean(" ".join(format_number(part) for part in parts if part is not None))
    text = _text(value)
    return _number(value) if text is None else text


def format_number(value: str | float) -> str:
    """Write a fact as people do: 12, 0.843, lap."""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value == math.floor(value) else f"{value:.3g}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
