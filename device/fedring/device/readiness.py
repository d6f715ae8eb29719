"""Whether this board has reached its fleet: what READY stands for.

The coordinator's status is retained, and its last will says "offline": so while it says anything
else, the broker still has it on the line. That word is not signed. It decides nothing but whether a
start, and with it an update of the agent, has come to its end; whoever can forge it can also stop
the agent from being heard at all.
"""

from __future__ import annotations

import json
from typing import Any

AWAY = "offline"


def coordinator_answers(status: bytes) -> bool:
    """Whether the coordinator's status, as it is on its topic, says that it is there."""
    try:
        told: Any = json.loads(status)
    except (ValueError, RecursionError):
        return False
    match told:
        case {"state": str(state)}:
            return state != AWAY
    return False
