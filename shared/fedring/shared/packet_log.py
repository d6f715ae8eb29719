"""What paho, under aiomqtt, tells in its log only: each packet from the broker, each loss."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from fedring.shared.traffic import Traffic

_log = logging.getLogger(__name__)


class PacketLog(logging.Logger):
    """Listens to the log of the MQTT library, which tells what its API keeps to itself.

    That is every packet that it receives, answers to pings among them, and every message that it
    throws away because too many wait.
    """

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(__name__, logging.ERROR)
        self.parent = _log
        self.heard = -math.inf
        self._traffic = traffic

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if str(msg).startswith("Received "):
            self.heard = time.monotonic()
        elif level >= logging.WARNING:
            _log.debug(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        _log.debug(msg, *args, **kwargs)  # of what the broker sends: it must not fill our log

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        if str(msg).startswith("Message queue is full"):
            self._traffic.dropped += 1
        _log.debug(msg, *args, **kwargs)
