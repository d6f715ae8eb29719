"""Who is there, as devices' status topics tell: a hint, signed by nobody.

The broker lets each device write its own status only. What is believed here decides how long rings
wait and how cohorts are first dealt, nothing that a promise rests on.
"""

from __future__ import annotations

import json
from collections import Counter

from attrs import define, field

from fedring.shared.messages import MAX_UINT32

MAX_DEVICES = 100_000
MAX_STATUS_BYTES = 4096
MAX_STATE_CHARACTERS = 32
OFFLINE = "offline"


@define
class Presence:
    """The devices seen since the start.

    Attributes:
        online: number -> name of those that are there.
    """

    online: dict[int, str] = field(factory=dict)
    _numbers: dict[str, int] = field(factory=dict)
    _states: dict[str, str] = field(factory=dict)

    def saw(self, name: str, payload: bytes) -> int | None:
        """Take a device's status; gives its number, or None when the status says nothing."""
        status = _read(payload)
        if status is None or (name not in self._states and len(self._states) >= MAX_DEVICES):
            return None
        state, number = status
        number = number or self._numbers.get(name, 0)
        if number == 0 or self.online.get(number, name) != name:
            return None
        self._numbers[name] = number
        self._states[name] = state
        if state == OFFLINE:
            self.online.pop(number, None)
        else:
            self.online[number] = name
        return number

    def by_state(self) -> dict[str, int]:
        """How many devices are in each state, and `online` in all."""
        return {"online": len(self.online), **Counter(self._states.values())}


def _read(payload: bytes) -> tuple[str, int] | None:
    if len(payload) > MAX_STATUS_BYTES:
        return None
    try:
        status = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(status, dict):
        return None
    state, number = status.get("state"), status.get("number", 0)
    if not isinstance(state, str) or len(state) > MAX_STATE_CHARACTERS:
        return None
    if type(number) is not int or not 0 <= number <= MAX_UINT32:
        return None
    return state, number
