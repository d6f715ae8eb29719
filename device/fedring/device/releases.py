"""The one list a device answers in a round, and the one release it gives.

The whole promise of the ring rests on this file: a release opens a device's mask to the
coordinator, and only as part of the sum over exactly the list it was made for.

Source: docs/protocol.md, section 3 and section 4, step 5.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from fedring.shared.encryption import Body, OneTimeMask, Suite
from fedring.shared.envelopes import Signed, sign
from fedring.shared.identity import Identity
from fedring.shared.membership import Membership
from fedring.shared.messages import Announce, List, Release
from fedring.shared.pairwise import RoundKey, pads, seal


@define(eq=False)
class Secrets:
    """What a device holds of one round and nobody else may see. In memory only.

    Attributes:
        suite: how bodies and releases of this round are made.
        mask: the one-shot mask and its key.
        body: the masked contribution; stored, so that it is never computed twice.
        round_key: the X25519 key behind the pads.
    """

    suite: Suite
    mask: OneTimeMask
    body: Body = field(repr=False)
    round_key: RoundKey

    def erase(self) -> None:
        self.mask.erase()


def objection(asked: List, membership: Membership, me: int, threshold: int) -> str | None:
    """Why this list gets no release, or None when it may.

    Args:
        asked: a verified list.
        membership: the one roster of this round.
        me: own device number.
        threshold: own threshold; strictly more names are needed.
    """
    names = asked.names
    if list(names) != sorted(set(names)):
        return "names doubled or not ascending"
    if foreign := set(names) - set(membership.members):
        return f"{min(foreign)} is no member of the ring"
    if me not in names:
        return "a list without this device"
    if len(names) <= threshold:
        return f"{len(names)} contributors, this device answers above {threshold}"
    return None


def make_release(
    secrets: Secrets,
    membership: Membership,
    asked: Signed[List],
    announce: Announce,
    *,
    identity: Identity,
    tag: dict[str, Any],
) -> Signed[Release]:
    """Encrypt the mask key under the pads of this very list, sealed to the coordinator.

    Raises:
        OneTimeError: the mask has been released before.
    """
    plaintext = secrets.mask.release(
        pads(
            secrets.round_key,
            identity.number,
            membership.round_keys(asked.message.names),
            roster_digest=membership.digest,
            list_digest=asked.digest,
            n_pieces=secrets.suite.n_ciphertexts,
            modulus=int.from_bytes(announce.paillier_n, "big"),
        )
    )
    sealed = seal(
        secrets.round_key,
        announce.exchange_key,
        plaintext,
        roster_digest=membership.digest,
        list_digest=asked.digest,
        sender=identity.number,
    )
    release = Release(**tag, roster=membership.digest, list=asked.digest, sealed=sealed)
    return sign(release, identity)
