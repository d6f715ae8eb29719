"""docs/boards.md against the tests that run its commands: each command has one."""

import re
from pathlib import Path

from tests.boards.page import blocks, command, prose_commands

TESTS = Path(__file__).parents[2]
INSTALLING = TESTS / "integration" / "test_boards_page.py"
"""On this machine; all other pieces are typed on machines that boot for it."""
TYPING = TESTS / "boards" / "test_page.py"


def taken(function: str, *files: Path) -> list[str]:
    """What tests take from the page with this function of `tests.boards.page`."""
    return [
        text for file in files for text in re.findall(rf'\b{function}\("(.+?)"\)', file.read_text())
    ]


def test_every_piece_of_the_page_is_run_by_a_test() -> None:
    places = [block.place for block in blocks("sh")]
    assert sorted(places) == sorted({*taken("command", INSTALLING, TYPING)})


def test_every_command_in_a_sentence_is_run_by_a_test() -> None:
    lines = [line for block in blocks("sh") for line in command(block.place).splitlines()]
    in_pieces = {
        text
        for text in prose_commands()
        if any(line.startswith(text) or f" {text} " in line for line in lines)
    }
    run = taken("prose", *TESTS.rglob("test_*.py"))
    assert prose_commands() == {*run, *in_pieces}


def test_sentences_of_the_page_are_read() -> None:
    assert {"sudo fedring-update FILE", "--dry-run", "fedring fleet reset NAME"} <= prose_commands()
