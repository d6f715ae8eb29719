"""Kinds of values that a setting may have: what is accepted, and how that is said to people."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

Number = TypeVar("Number", int, float)


@frozen
class Kind:
    """What a key of a configuration file accepts.

    Attributes:
        expected: completes "expected ...", with unit and range.
        read: makes the setting from the TOML value and the file's folder; raises TypeError for a
            value of another type, ValueError for one out of range.
    """

    expected: str
    read: Callable[[Any, Path], Any]


def whole(low: int, high: int, unit: str = "") -> Kind:
    """An integer from `low` to `high`."""

    def read(value: Any, _: Path) -> int:
        _demand(type(value) is int)
        return _within(int(value), low, high)

    return Kind(f"a whole number from {low} to {high}{_in(unit)}", read)


def number(low: float, high: float, unit: str = "") -> Kind:
    """A finite number from `low` to `high`; integers become floats."""

    def read(value: Any, _: Path) -> float:
        _demand(type(value) in (int, float))
        return float(_within(value, low, high))

    return Kind(f"a number from {low:g} to {high:g}{_in(unit)}", read)


def flag() -> Kind:
    """true or false."""

    def read(value: Any, _: Path) -> bool:
        _demand(type(value) is bool)
        return bool(value)

    return Kind("true or false", read)


def text(expected: str = "a text", pattern: str = r".+") -> Kind:
    """A string that matches `pattern` as a whole."""

    def read(value: Any, _: Path) -> str:
        _demand(type(value) is str)
        if not re.fullmatch(pattern, value):
            raise ValueError
        return str(value)

    return Kind(expected, read)


def choice(*known: str | int) -> Kind:
    """One of a few values, all of one type."""

    def read(value: Any, _: Path) -> str | int:
        _demand(type(value) is type(known[0]))
        if value not in known:
            raise ValueError
        return known[known.index(value)]

    return Kind(_alternatives(known), read)


def choices(*known: str) -> Kind:
    """A list of some of a few names, possibly empty; becomes a frozenset."""

    def read(value: Any, _: Path) -> frozenset[str]:
        _demand(type(value) is list and all(type(item) is str for item in value))
        if not set(value) <= set(known):
            raise ValueError
        return frozenset(value)

    return Kind(f"a list of: {', '.join(map(_quoted, known))}", read)


def path(what: str) -> Kind:
    """A path; a relative one starts in the folder of the configuration file."""

    def read(value: Any, folder: Path) -> Path:
        _demand(type(value) is str)
        if not value or "\0" in value:
            raise ValueError
        try:
            return folder / Path(value).expanduser()
        except RuntimeError as error:  # nobody of that name has a home here
            raise ValueError from error

    return Kind(f"the path of {what}", read)


@frozen
class FunctionName:
    """A Python function that a setting names.

    Attributes:
        folder: of the configuration file; the module may lie there.
        module: as `import` takes it.
        name: of the function.
    """

    folder: Path
    module: str
    name: str


def function(what: str) -> Kind:
    """`module:function`."""

    def read(value: Any, folder: Path) -> FunctionName:
        _demand(type(value) is str)
        module, _, name = value.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name)):
            raise ValueError
        return FunctionName(folder, module, name)

    return Kind(f"module:function of {what}", read)


def names(what: str, at_least: int, at_most: int) -> Kind:
    """A list of distinct texts; becomes a tuple."""

    def read(value: Any, _: Path) -> tuple[str, ...]:
        _demand(type(value) is list and all(type(item) is str for item in value))
        if not all(value) or len(set(value)) != len(value):
            raise ValueError
        _within(len(value), at_least, at_most)
        return tuple(value)

    return Kind(f"a list of {at_least} to {at_most} different {what}", read)


def texts(what: str, pattern: str, at_most: int) -> Kind:
    """A list of at most `at_most` strings, each of which matches `pattern`; becomes a tuple."""

    def read(value: Any, _: Path) -> tuple[str, ...]:
        _demand(type(value) is list and all(type(item) is str for item in value))
        if not all(re.fullmatch(pattern, item) for item in value):
            raise ValueError
        _within(len(value), 0, at_most)
        return tuple(value)

    return Kind(f"a list of at most {at_most} {what}", read)


def wholes(what: str, low: int, high: int, at_most: int) -> Kind:
    """A list of at most `at_most` integers from `low` to `high`; becomes a tuple."""

    def read(value: Any, _: Path) -> tuple[int, ...]:
        _demand(type(value) is list and all(type(item) is int for item in value))
        _within(len(value), 0, at_most)
        return tuple(_within(item, low, high) for item in value)

    return Kind(f"a list of at most {at_most} {what}, each from {low} to {high}", read)


def _demand(fits: bool) -> None:
    if not fits:
        raise TypeError


def _within(value: Number, low: float, high: float) -> Number:
    if not low <= value <= high:  # NaN fails every comparison
        raise ValueError
    return value


def _in(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _quoted(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _alternatives(known: tuple[str | int, ...]) -> str:
    *others, last = map(_quoted, known)
    return f"{', '.join(others)} or {last}" if others else last
