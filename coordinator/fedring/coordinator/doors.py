"""Answering whoever comes when the round he means is over.

An announce is retained, so a device cannot know its age: it may train for a round that has ended
and say `ready` to nobody. It is told so, and waits for the next one. Nothing of a finished round is
needed for that, so its secrets need not be kept.

Source: docs/protocol.md, section 4, step 1.
"""

from __future__ import annotations

from attrs import frozen

from fedring.shared.effects import Send
from fedring.shared.envelopes import Unverified, blaming, open_envelope, sign
from fedring.shared.errors import ProtocolError
from fedring.shared.identity import Authority, Identity
from fedring.shared.messages import COORDINATOR_NUMBER, Ready, Refused, tag


@frozen
class ClosedDoor:
    """Turns away every `ready`.

    Attributes:
        identity: the coordinator.
        authority: the fleet authority.
    """

    identity: Identity
    authority: Authority

    def receive(self, source: str, raw: bytes, last: tuple[int, int]) -> list[Send]:
        """A device writes to the coordinator's inbox while no round is running.

        Args:
            source: name of the writer, from the topic.
            raw: the envelope.
            last: (epoch, round) of the last round announced; nothing is signed under a later one.

        Raises:
            PeerError: what a device must not send.
        """
        with blaming(source):
            unverified = open_envelope(raw)
            message = unverified.message
            if not isinstance(message, Ready):
                return []
            if (message.epoch, message.round) > last:
                raise ProtocolError("ready for a round that was never announced")
            return [self.refuse(source, unverified)]

    def refuse(self, source: str, unverified: Unverified) -> Send:
        """Answer a `ready` for a round that is over.

        Raises:
            PeerError: it is no `ready` of the device that the topic names.
        """
        message = unverified.message
        if not isinstance(message, Ready):
            raise ProtocolError(f"a {message.kind} where a ready was expected")
        peer = self.authority.peer(message.certificate)
        ready = unverified.verified_by(peer, Ready)
        if peer.name != source:
            raise ProtocolError(f"speaks as {peer.name}", sender=source)
        where = tag(message.fleet, message.epoch, message.round, COORDINATOR_NUMBER)
        refused = Refused(**where, about=ready.digest, reason="round closed")
        return Send(peer.name, sign(refused, self.identity).raw)
