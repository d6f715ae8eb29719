"""Reading a configuration file into the classes that describe it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Protocol, TypeVar, cast, get_args, get_type_hints, runtime_checkable

import attrs
from attrs import frozen

from fedring.shared.config.kinds import Kind
from fedring.shared.config.lines import Key, Statement, parse, statements
from fedring.shared.errors import ConfigError
from fedring.shared.texts import nearest

Settings = TypeVar("Settings")


@frozen
class Mistake:
    """One thing wrong with a file.

    Attributes:
        name: its name in docs/errors.md.
        text: what is wrong and what was expected.
        line: where, or None for what is missing.
    """

    name: str
    text: str
    line: int | None


class ConfigMistakesError(ConfigError):
    """A file is TOML, but does not say what it should: all its mistakes at once.

    Attributes:
        path: the file.
        mistakes: in the order of their lines; what is missing comes last.
    """

    def __init__(self, path: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.path = path
        self.mistakes = mistakes
        told = [
            f"{path}:{mistake.line}: {mistake.text}" if mistake.line else f"{path}: {mistake.text}"
            for mistake in mistakes
        ]
        if len(mistakes) == 1:
            super().__init__(told[0], name=mistakes[0].name)
        else:
            lines = "".join(
                f"\n  {text} [{mistake.name}]" for text, mistake in zip(told, mistakes, strict=True)
            )
            super().__init__(
                f"{path} has {len(mistakes)} mistakes{lines}", name="config.several-mistakes"
            )


@runtime_checkable
class Judging(Protocol):
    """A class of settings with rules beyond the kinds of its keys."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Give each key (dotted below a table) whose value cannot be, and what was expected."""


def load(path: Path, settings: type[Settings]) -> Settings:
    """Read and check a configuration file.

    Args:
        path: a TOML file; relative paths in it start in its folder.
        settings: an attrs class whose fields are tables (attrs classes; `| None` where the table
            may be missing) or keys (`Annotated[type, kind]`).

    Raises:
        ConfigError: the file is missing, unreadable, no TOML, or has mistakes.
    """
    source = _read(path)
    try:
        values = parse(source)
    except ValueError as error:
        raise _broken(path, source, str(error)) from error
    reading = _Reading(path.absolute().parent, settings)
    result = reading.table(settings, values, ())
    if reading.mistakes:
        where = statements(source)
        mistakes = [finding.mistake(where) for finding in reading.mistakes]
        mistakes.sort(key=lambda mistake: (mistake.line is None, mistake.line))
        raise ConfigMistakesError(path, tuple(mistakes))
    return cast("Settings", result)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file",
            name="config.missing-file",
            hint="name the file with --config; `fedring fleet` writes one to start from",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not TOML: byte {error.start} is not UTF-8 text", name="config.broken-toml"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", name="config.unreadable-file"
        ) from error


def _broken(path: Path, source: str, reason: str) -> ConfigError:
    """`tomllib` puts the place into its text: "... (at line 3, column 7)"."""
    where, what = f"{path}", reason
    if place := re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason):
        line, column = place.group(1) or len(source.splitlines()) or 1, place.group(2) or 1
        where, what = f"{path}:{line}:{column}", reason[: place.start()]
    return ConfigError(
        f"{where}: not TOML: {what[:1].lower()}{what[1:]}", name="config.broken-toml"
    )


@frozen
class _Finding:
    """A mistake, before anybody asked for its line."""

    name: str
    key: Key
    text: str
    missing: bool = False

    def mistake(self, where: Mapping[Key, Statement]) -> Mistake:
        place = where.get(self.key[:-1] if self.missing else self.key)
        written = f"{place.written}: " if place and not self.missing else ""
        return Mistake(self.name, f"{written}{self.text}", place.line if place else None)


class _Reading:
    """One pass over a file's values, collecting mistakes."""

    def __init__(self, folder: Path, settings: type) -> None:
        self.mistakes: list[_Finding] = []
        self._folder = folder
        self._known = dict(_described(settings))

    def table(self, settings: type, values: object, key: Key) -> object | None:
        """The settings of one table, or None after a mistake."""
        if not isinstance(values, dict):
            self._wrong("config.wrong-type", key, f"a table [{'.'.join(key)}]")
            return None
        before = len(self.mistakes)
        for name in values:
            if (*key, name) not in self._known:
                self._unknown((*key, name))
        read = {
            field.name: self._field((*key, field.name), values[field.name])
            for field in attrs.fields(settings)
            if field.name in values
        }
        for field in attrs.fields(settings):
            if field.name not in values and field.default is attrs.NOTHING:
                self._missing((*key, field.name))
        if len(self.mistakes) > before:
            return None
        result: object = settings(**read)
        if isinstance(result, Judging):
            for name, expected in result.contradictions():
                self._wrong("config.bad-value", (*key, *name.split(".")), expected)
        return result

    def _field(self, key: Key, value: object) -> object:
        kind = self._known[key]
        if isinstance(kind, type):
            return self.table(kind, value, key)
        try:
            return kind.read(value, self._folder)
        except TypeError:
            self._wrong("config.wrong-type", key, kind.expected)
        except ValueError:
            self._wrong("config.bad-value", key, kind.expected)
        return None

    def _wrong(self, name: str, key: Key, expected: str) -> None:
        self.mistakes.append(_Finding(name, key, f"expected {expected}"))

    def _missing(self, key: Key) -> None:
        kind = self._known[key]
        if isinstance(kind, type):
            text = f"the table [{'.'.join(key)}] is missing"
        else:
            text = f"`{'.'.join(key)}` is missing: expected {kind.expected}"
        self.mistakes.append(_Finding("config.missing-key", key, text, missing=True))

    def _unknown(self, key: Key) -> None:
        beside = [known[-1] for known in self._known if known[:-1] == key[:-1]]
        elsewhere = [
            known[:-1]
            for known, kind in self._known.items()
            if known[-1] == key[-1] and isinstance(kind, Kind)
        ]
        near = nearest(key[-1], beside)
        what = "no known key"
        if near:
            what += f"; did you mean `{near}`?"
        elif elsewhere:
            what += f" here; it belongs to [{'.'.join(elsewhere[0])}]"
        else:
            what += f"; known here: {', '.join(f'`{name}`' for name in sorted(beside))}"
        self.mistakes.append(_Finding("config.unknown-key", key, what))


def _described(settings: type, above: Key = ()) -> Iterator[tuple[Key, type | Kind]]:
    """Every key that a file may hold, with its kind, or the class of its table."""
    for name, hint in get_type_hints(settings, include_extras=True).items():
        if isinstance(hint, UnionType):
            hint = next(part for part in get_args(hint) if part is not type(None))  # noqa: PLW2901
        kind = next((part for part in get_args(hint) if isinstance(part, Kind)), None)
        yield (*above, name), kind or hint
        if kind is None:
            yield from _described(hint, (*above, name))
