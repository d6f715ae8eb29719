"""The [broker] table, the same for every part that speaks MQTT."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

from attrs import field, frozen

from fedring.shared.broker import HOST
from fedring.shared.config.kinds import flag, text, texts, whole

TLS_PORT = 8883
PLAIN_PORT = 1883
MOST_OTHERS = 7
"""Names and addresses of a broker beside the first."""


@frozen(kw_only=True)
class BrokerSettings:
    """Where the MQTT broker is, and how it is spoken to.

    Attributes:
        host: name or address of the machine.
        others: of its names and addresses, at most seven; tried in turn when the first one fails.
        port: TCP port, 1..65,535; by default 8883 with TLS, 1883 without.
        tls: TLS with the certificate of [fleet]; off only for a broker on this very machine.
        allow_plain: insist on plain MQTT to another machine: whoever is on the way sees topics and
            sizes, and may drop messages; signatures, thresholds and sums still hold.
        keepalive_s: seconds between signs of life while nothing else is said, 5..3,600; after one
            and a half of them the broker sends our last will.
    """

    host: Annotated[str, text("a host name or address", HOST)]
    others: Annotated[tuple[str, ...], texts("host names and addresses", HOST, MOST_OTHERS)] = ()
    tls: Annotated[bool, flag()] = True
    port: Annotated[int, whole(1, 65_535)] = field()
    allow_plain: Annotated[bool, flag()] = False
    keepalive_s: Annotated[int, whole(5, 3_600, "seconds")] = 30

    @port.default
    def _usual_port(self) -> int:
        return TLS_PORT if self.tls else PLAIN_PORT

    def contradictions(self) -> Iterator[tuple[str, str]]:
        elsewhere = [host for host in (self.host, *self.others) if not _is_loopback(host)]
        if elsewhere and not (self.tls or self.allow_plain):
            yield (
                "tls",
                f"true, since {elsewhere[0]} is another machine (`allow_plain = true` insists)",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
