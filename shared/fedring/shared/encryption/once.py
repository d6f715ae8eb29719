"""A secret that may serve once."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, Never, TypeVar

from fedring.shared.errors import OneTimeError

T = TypeVar("T")


class Once(Generic[T]):
    """Holds a secret until it is taken; `repr` does not show it.

    Args:
        value: the secret.
        name: what it is, for the error.
        reveals: what a second use would tell, for the error.
    """

    def __init__(self, value: T, *, name: str, reveals: str) -> None:
        self._values = [value]
        self._name = name
        self._reveals = reveals

    def __repr__(self) -> str:
        return f"<{self._name}, {'unused' if self._values else 'used up'}>"

    def take(self) -> T:
        """The secret, to one caller only, also when two threads ask at once.

        Raises:
            OneTimeError: it was taken or dropped before; says what a second use would reveal.
        """
        try:
            return self._values.pop()
        except IndexError:
            raise OneTimeError(self._name, self._reveals) from None

    def drop(self) -> T | None:
        """Take the secret out of use: gives it for erasing, or None when it is gone."""
        with suppress(IndexError):  # another thread may take it meanwhile
            return self._values.pop()
        return None

    def __reduce__(self) -> Never:
        """Refuse to be pickled or deeply copied: a copy could be taken once more."""
        raise TypeError(f"the {self._name} of a round serves once and cannot be copied")
