"""Does a running broker go by its list of revoked certificates, and by its access list?

Nothing but trying tells. Mosquitto goes on without a CRL that it cannot read, without an access
list that it cannot read, and lets nobody in by a CRL that has expired; in its log that is one line.

    the canary, revoked, connects                  else: the CRL is not in force
    the probe, not revoked, is refused             the CRL locks everybody out
    the probe may write the last line's topic      else: the access list is not this one
    the probe may write what no line allows        there is no access list at all
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from fedring.shared.access_lists import FORBIDDEN_TOPIC
from fedring.shared.broker import Broker, probe, writable
from fedring.shared.errors import BrokerError
from fedring.shared.identity import CANARY_NAME, PROBE_NAME

_REFUSED: Final = "broker.certificate-refused"
_LOCKED: Final = "nobody gets in, even with a good certificate"
_ANSWER_S: Final = 5.0
_PAUSE_S: Final = 0.1


@attrs.frozen
class Finding:
    """What a look at a broker showed; each is "" where all is well.

    Attributes:
        unreachable: why it could not be looked at.
        stale: that it goes by other lists than the new ones.
        crl: what is wrong with whom it lets in.
        acl: what is wrong with what it allows.
    """

    unreachable: str = ""
    stale: str = ""
    crl: str = ""
    acl: str = ""

    @property
    def holds(self) -> bool:
        """Whether all is well."""
        return not any(attrs.astuple(self))

    @property
    def is_open(self) -> bool:
        """Whether it was seen to work with lists that are none, or lock everybody out."""
        return bool(self.crl or self.acl)

    def __str__(self) -> str:
        return "; ".join(filter(None, attrs.astuple(self))) or "all is in force"


@attrs.frozen
class Probes:
    """How to get at a broker on this machine, as the canary and as the probe.

    Attributes:
        host: where it listens.
        port: 1..65535.
        folder: with ca.crt, and key and certificate of both.
    """

    host: str
    port: int
    folder: Path

    def look(self, proof_topic: str | None) -> Finding:
        """Look at the broker once.

        Args:
            proof_topic: what the last line of its access list allows the probe to write; None when
                that list has no such line.
        """
        topics = [FORBIDDEN_TOPIC, *([proof_topic] if proof_topic else [])]
        try:
            allowed = writable(self._broker(PROBE_NAME), PROBE_NAME, topics, _ANSWER_S)
            acl = stale = ""
            if allowed[0]:
                acl = "there is no access list: whoever gets in may read and write everything"
            elif not all(allowed[1:]):
                stale = "the new access list is not in force"
            # Now that the reload is over, once more: that connection may have been accepted before
            # it, and so judged by the old CRL.
            if not self._enters(PROBE_NAME):
                return Finding(crl=_LOCKED, acl=acl, stale=stale)
            if self._enters(CANARY_NAME):
                return Finding(crl="a revoked certificate gets in", acl=acl, stale=stale)
        except BrokerError as error:
            if error.name == _REFUSED:
                return Finding(crl=_LOCKED)
            return Finding(unreachable=error.text)
        return Finding(acl=acl, stale=stale)

    def _enters(self, name: str) -> bool:
        try:
            probe(self._broker(name), name, persistent=False, timeout_s=_ANSWER_S)
        except BrokerError as error:
            if error.name == _REFUSED:
                return False
            raise
        return True

    def _broker(self, name: str) -> Broker:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # We go to this very machine, under an address that its certificate need not have.
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cafile=self.folder / "ca.crt")
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return Broker(self.host, self.port, context)


def settle(look: Callable[[], Finding], patience_s: float) -> Finding:
    """Look until all is well, for a reload takes its time.

    Args:
        look: gives a finding.
        patience_s: how long anything else is put down to that, in seconds.

    Returns:
        The last finding.
    """
    deadline = time.monotonic() + patience_s
    while True:
        finding = look()
        if finding.holds or time.monotonic() > deadline:
            return finding
        time.sleep(_PAUSE_S)
