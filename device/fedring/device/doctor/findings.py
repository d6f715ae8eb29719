"""What the doctor says."""

from __future__ import annotations

from attrs import frozen


@frozen
class Finding:
    """The answer to one question about a board.

    Attributes:
        subject: what was looked at, such as "clock".
        text: what was found.
        good: whether it is as it has to be.
        remedy: what to do, "" when there is nothing to do.
    """

    subject: str
    text: str
    good: bool = True
    remedy: str = ""
