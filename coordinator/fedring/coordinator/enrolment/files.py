"""The files through which an owner who is not connected sees what waits, and answers.

FOLDER (in the state folder)/
    requests        what waits, written by the running coordinator
    answers-*       what was carried back: published, then removed, by the running coordinator
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = "enrolment"
REQUESTS: Final = "requests"
ANSWERS: Final = "answers-"


def answer_files(folder: Path) -> list[Path]:
    """The files with answers that somebody carried here."""
    return sorted(folder.glob(f"{ANSWERS}*"))
