"""Texts of others on their way to a terminal or a log."""

from __future__ import annotations


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
