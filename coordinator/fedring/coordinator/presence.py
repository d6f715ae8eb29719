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
MAX_STATES = 16
"""States told apart in our own status, which must stay a message; a device has eight."""
OFFLINE = "offline"
OTHER = "other"


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
        before = self._numbers.get(name, 0)
        number = number or before
        if number == 0 or self.online.get(number, name) != name:
            return None
        if number != before and self.online.get(before) == name:
            return None  # one name, one number at a time: else one writer could be a whole fleet
        self._numbers[name] = number
        self._states[name] = state
        if state == OFFLINE:
            self.online.pop(number, None)
        else:
            self.online[number] = name
        return number

    def by_state(self) -> dict[str, int]:
        """How many devices are in each of the commonest states, and `online` in all."""
        counts = Counter(self._states.values()).most_common()
        states = dict(counts[:MAX_STATES])
        if rest := sum(count for _, count in counts[MAX_STATES:]):
            states[OTHER] = states.get(OTHER, 0) + rest
        return {**states, "online": len(self.online)}


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
