"""Texts of others on their way to a terminal or a log."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    """One line that shows on a terminal and orders it nothing.

    Characters that do not print (ends of lines, escapes, marks that turn the direction of writing)
    are written as Python writes them in a string: `\\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What somebody may have meant who wrote `word`: the most similar one that is known, if any."""
    from difflib import get_close_matches  # noqa: PLC0415 - not in the memory of every agent

    return next(iter(get_close_matches(word, known, n=1)), None)
