"""What the announce topic says of a round, and the coordinator's one-round secret behind it.

Source: docs/protocol.md, section 4, step 1.
"""

from __future__ import annotations

import phe
from attrs import frozen

from fedring.shared.encryption import PRODUCTION, Parameters, Random, Suite, suite
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.identity import Identity
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    Announce,
    ModelReference,
    Plan,
    Rest,
    RingTerms,
    tag,
)
from fedring.shared.models import Model
from fedring.shared.pairwise import NewRoundKey, RoundKey
from fedring.shared.tasks import n_values


@frozen
class Announcing:
    """A signed announce and what the coordinator needs to run its round.

    Attributes:
        announce: what is published.
        exchange_key: the coordinator's X25519 key of this announce; in memory only.
        suite: bodies and releases of this announce.
    """

    announce: Signed[Announce]
    exchange_key: RoundKey
    suite: Suite


def announced_round(raw: bytes, identity: Identity) -> tuple[int, int]:
    """Epoch and round of an announce or rest of our own that a broker has kept.

    No other message of ours will do: answers carry the round of what they answer.

    Raises:
        PeerError: it is neither, or not of this coordinator.
    """
    unverified = open_envelope(raw)
    kind = Rest if isinstance(unverified.message, Rest) else Announce
    message = unverified.verified_by(identity.peer, kind).message
    return message.epoch, message.round


def make_announce(
    *,
    identity: Identity,
    epoch: int,
    round_number: int,
    model: Model,
    version: int,
    parent: int,
    plan: Plan,
    ring: RingTerms,
    suite_name: str,
    bits: int,
    public_key: phe.PaillierPublicKey,
    revocation: int,
    random: Random,
    parameters: Parameters = PRODUCTION,
    round_key: NewRoundKey = RoundKey.generate,
) -> Announcing:
    """Sign the announce of a new round; its number must be durable before it is published."""
    exchange_key = round_key(random)
    length = n_values(model, plan.task)
    n = int(public_key.n)
    announce = sign(
        Announce(
            **tag(identity.fleet, epoch, round_number, COORDINATOR_NUMBER),
            model=_reference(model, version, parent),
            plan=plan,
            ring=ring,
            suite=suite_name,
            bits=bits,
            n_values=length,
            paillier_n=n.to_bytes((n.bit_length() + 7) // 8, "big"),
            exchange_key=exchange_key.public,
            revocation=revocation,
            certificate=identity.certificate,
        ),
        identity,
    )
    made = suite(
        suite_name,
        public_key=public_key,
        announce_digest=announce.digest,
        n_values=length,
        bits=bits,
        parameters=parameters,
    )
    return Announcing(announce, exchange_key, made)


def make_rest(
    identity: Identity, epoch: int, round_number: int, model: Model, *, version: int, parent: int
) -> Signed[Rest]:
    """Sign that no round is running, and which model is the newest.

    Args:
        identity: the coordinator.
        epoch: of the last round announced.
        round_number: of that round.
        model: the newest.
        version: its number.
        parent: number of the version that it came from.
    """
    return sign(
        Rest(
            **tag(identity.fleet, epoch, round_number, COORDINATOR_NUMBER),
            model=_reference(model, version, parent),
            certificate=identity.certificate,
        ),
        identity,
    )


def _reference(model: Model, version: int, parent: int) -> ModelReference:
    size = sum(len(chunk) for chunk in model.chunks())
    return ModelReference(version=version, parent=parent, digest=model.digest, size=size)
