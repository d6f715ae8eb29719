"""Settings of people: TOML in, checked and frozen classes out, errors that name file and line.

A part of the house describes its file as attrs classes, one for each table, with a kind for each
key; `load` reads a file into them and tells all its mistakes at once:

    @frozen(kw_only=True)
    class Ring:
        size: Annotated[int, whole(2, 64)] = 16

    @frozen(kw_only=True)
    class Settings:
        ring: Ring = Ring()

    settings = load(Path("coordinator.toml"), Settings)
"""

from fedring.shared.config.broker import MOST_OTHERS, BrokerSettings
from fedring.shared.config.kinds import (
    FunctionName,
    Kind,
    choice,
    choices,
    flag,
    function,
    names,
    number,
    path,
    text,
    whole,
    wholes,
)
from fedring.shared.config.loading import ConfigMistakesError, Mistake, load

__all__ = [
    "MOST_OTHERS",
    "BrokerSettings",
    "ConfigMistakesError",
    "FunctionName",
    "Kind",
    "Mistake",
    "choice",
    "choices",
    "flag",
    "function",
    "load",
    "names",
    "number",
    "path",
    "text",
    "whole",
    "wholes",
]
