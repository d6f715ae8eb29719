"""The inputs that are kept: whole ones to start from, and bad ones that each showed something.

FOLDER/<target>/good/<name>     decodes, and survives being written and read again
FOLDER/<target>/bad/<name>      is refused; the name says what is wrong with it
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

GOOD, BAD = "good", "bad"


@frozen
class Kept:
    """An input of the corpus.

    Attributes:
        target: whose.
        name: what it shows.
        good: whether it decodes.
        data: the bytes.
    """

    target: str
    name: str
    good: bool
    data: bytes


@frozen
class Corpus:
    """The corpus in a folder.

    Attributes:
        folder: one folder for each target in it.
    """

    folder: Path

    def of(self, target: str) -> list[Kept]:
        """All inputs of a target, in one order everywhere."""
        return [
            Kept(target, file.name, kind == GOOD, file.read_bytes())
            for kind in (GOOD, BAD)
            for file in sorted((self.folder / target / kind).glob("*"))
        ]

    def keep(self, target: str, name: str, data: bytes, *, good: bool) -> Path:
        """Add an input, or replace the one of its name."""
        file = self.folder / target / (GOOD if good else BAD) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file
