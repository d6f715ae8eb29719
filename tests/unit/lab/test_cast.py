"""People of a rehearsal who remember signatures, and what they do not take for one."""

import pytest

from fedring.lab.simulate import cast
from fedring.shared.errors import IdentityError
from fedring.shared.identity import Peer

KIND = "ready"


@pytest.fixture
def peer() -> Peer:
    return cast.cast(quick=True).authority.peer(cast.device(1).certificate)


def test_a_signature_holds_when_it_was_just_made_and_when_all_is_forgotten(peer: Peer) -> None:
    signature = cast.device(1, quick=True).sign(KIND, b"payload")
    peer.verify(KIND, b"payload", signature)
    cast.forget()
    peer.verify(KIND, b"payload", signature)


@pytest.mark.parametrize(
    ("signer", "kind", "payload"),
    [(2, KIND, b"payload"), (1, "body", b"payload"), (1, KIND, b"another")],
)
def test_a_signature_over_anything_else_never_holds(
    peer: Peer, signer: int, kind: str, payload: bytes
) -> None:
    signature = cast.device(signer, quick=True).sign(kind, payload)
    for _ in range(2):
        with pytest.raises(IdentityError, match="does not hold"):
            peer.verify(KIND, b"payload", signature)


def test_the_same_message_is_signed_by_the_same_bytes(peer: Peer) -> None:
    identity = cast.device(1, quick=True)
    assert identity.sign(KIND, b"payload") == identity.sign(KIND, b"payload")


def test_everybody_else_believes_them_too() -> None:
    signature = cast.device(1, quick=True).sign(KIND, b"payload")
    cast.device(1).peer.verify(KIND, b"payload", signature)
