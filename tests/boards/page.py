"""docs/boards.md in pieces: for the tests that run its commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import frozen

PAGE: Final = Path(__file__).parents[2] / "docs" / "boards.md"
CHECKLIST: Final = "## What only a real Pi can show"
"""From here on the page says what nobody ran."""

_FENCED: Final = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(r"(?:sudo|fedring|pip|systemctl|journalctl|ssh|scp) .+|--\w.*")


@frozen
class Block:
    """A piece of the page: what it is, where it belongs, what it says."""

    language: str
    place: str
    text: str


def blocks(language: str) -> list[Block]:
    """All fenced pieces in a language, in order."""
    found = [Block(*block) for block in _FENCED.findall(PAGE.read_text("utf-8"))]
    return [block for block in found if block.language == language]


def command(place: str) -> str:
    """The commands that stand in one fenced piece."""
    (text,) = (block.text for block in blocks("sh") if block.place == place)
    return text


def prose_commands() -> set[str]:
    """Commands and options that the page names within its sentences and tables."""
    text, _, _ = PAGE.read_text("utf-8").partition(CHECKLIST)
    spans = re.findall(r"`([^`]+)`", _FENCED.sub("", text))
    return {" ".join(span.split()) for span in spans if _COMMAND.fullmatch(" ".join(span.split()))}


def prose(text: str) -> str:
    """A command, or an option, that stands within a sentence: the very text."""
    assert text in prose_commands()
    return text
