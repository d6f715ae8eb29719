"""Who is in a ring: every lie that a roster can tell."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fedring.lab.simulate.cast import Cast, cast, coordinator, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.encryption.streams import Stream
from fedring.shared.envelopes import Signed, encode, pack_envelope, sign, unpack_envelope
from fedring.shared.errors import IdentityError, MessageError, PeerError, ProtocolError
from fedring.shared.identity import Identity
from fedring.shared.membership import Membership, read_ready, read_roster
from fedring.shared.messages import MAX_READY_BYTES, Announce, Ready, Roster
from fedring.shared.pairwise import RoundKey

RANDOM = Stream(b"membership tests".ljust(32)).read
REHEARSAL = Rehearsal(())
ANNOUNCE = REHEARSAL.announcing(7, epoch=2).announce
OTHER_ANNOUNCE = REHEARSAL.announcing(7, epoch=2).announce

P = 2**255 - 19


def ready(who: Identity, announce: Signed[Announce] = ANNOUNCE, **changes: Any) -> Signed[Ready]:
    message = announce.message
    fields: dict[str, Any] = {
        "fleet": who.fleet,
        "epoch": message.epoch,
        "round": message.round,
        "sender": who.number,
        "announce": announce.digest,
        "certificate": who.certificate,
        "threshold": 2,
        "round_key": RoundKey.generate(RANDOM).public,
        **changes,
    }
    return sign(Ready(**fields), who)


def roster_of(*readies: Signed[Ready] | bytes, **changes: Any) -> Signed[Roster]:
    roster = REHEARSAL.roster(ANNOUNCE, readies)
    return REHEARSAL.pen(evolve(roster.message, **changes)) if changes else roster


def read(*readies: Signed[Ready] | bytes, revoked: frozenset[int] = frozenset()) -> Membership:
    return read_roster(roster_of(*readies), ANNOUNCE, cast().authority, revoked)


def test_a_roster_of_ready_devices_is_a_membership() -> None:
    readies = {number: ready(device(number), threshold=number) for number in (5, 1, 3)}
    membership = read(*readies.values())
    assert set(membership.members) == {1, 3, 5}
    assert membership.round_keys((1, 5)) == {
        number: readies[number].message.round_key for number in (1, 5)
    }
    assert membership.members[3].peer == device(3).peer


def changed_round_key(raw: bytes, message: Ready) -> bytes:
    _, signature = unpack_envelope(raw)
    key = RoundKey.generate(RANDOM).public
    return pack_envelope(encode(evolve(message, round_key=key)), signature)


def padded(raw: bytes) -> bytes:
    payload, signature = unpack_envelope(raw)
    return pack_envelope(payload, signature) + bytes(MAX_READY_BYTES)


COPIED = RoundKey.generate(RANDOM).public
LIES: dict[str, tuple[Callable[[], bytes], type[PeerError], str]] = {
    "a changed round key": (
        lambda: changed_round_key(ready(device(3)).raw, ready(device(3)).message),
        IdentityError,
        "signature",
    ),
    "in another's name": (
        lambda: ready(device(4), certificate=device(3).certificate).raw,
        MessageError,
        "names sender 4",
    ),
    "in another's name and number": (
        lambda: ready(device(4), certificate=device(3).certificate, sender=3).raw,
        IdentityError,
        "signature",
    ),
    "another device's number": (
        lambda: ready(device(3), sender=4).raw,
        MessageError,
        "names sender 4",
    ),
    "a foreign fleet": (
        lambda: ready(device(3, "other")).raw,
        IdentityError,
        "issued|issuer",
    ),
    "a foreign fleet under our name": (
        lambda: ready(Cast.of("rehearsal").device(3, "b03")).raw,
        IdentityError,
        "not issued by this fleet",
    ),
    "the coordinator as a device": (
        lambda: ready(coordinator()).raw,
        ProtocolError,
        "no device",
    ),
    "no certificate": (
        lambda: ready(device(3), certificate=b"none").raw,
        IdentityError,
        "certificate",
    ),
    "a revoked device": (lambda: ready(device(66)).raw, ProtocolError, "b66 is revoked"),
    "an earlier round": (lambda: ready(device(3), round=6).raw, ProtocolError, "round 2/6"),
    "a later round": (lambda: ready(device(3), round=8).raw, ProtocolError, "round 2/8"),
    "an earlier epoch": (lambda: ready(device(3), epoch=1).raw, ProtocolError, "round 1/7"),
    "another announce of this round": (
        lambda: ready(device(3), OTHER_ANNOUNCE).raw,
        ProtocolError,
        "another announce",
    ),
    "a round key of order 1": (
        lambda: ready(device(3), round_key=(1).to_bytes(32, "little")).raw,
        ProtocolError,
        "low order",
    ),
    "the round key 0": (
        lambda: ready(device(3), round_key=bytes(32)).raw,
        ProtocolError,
        "low order",
    ),
    "a round key of order 8": (
        lambda: (
            ready(
                device(3),
                round_key=bytes.fromhex(
                    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
                ),
            ).raw
        ),
        ProtocolError,
        "low order",
    ),
    "a round key beyond the field": (
        lambda: ready(device(3), round_key=(P + 9).to_bytes(32, "little")).raw,
        ProtocolError,
        "canonical",
    ),
    "a round key with the unused bit": (
        lambda: ready(device(3), round_key=(9 + 2**255).to_bytes(32, "little")).raw,
        ProtocolError,
        "canonical",
    ),
    "a copied round key": (
        lambda: ready(device(3), round_key=COPIED).raw,
        ProtocolError,
        "b03 has the round key of another",
    ),
    "a number twice": (
        lambda: ready(device(1)).raw,
        ProtocolError,
        "roster holds number 1 twice",
    ),
    "something else": (
        lambda: REHEARSAL.call(roster_of(b"1", b"2")).raw,
        MessageError,
        "a call where a ready",
    ),
    "junk": (lambda: b"junk", MessageError, "msgpack"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_lie_spoils_the_roster(lie: str, place: int) -> None:
    make, error, complaint = LIES[lie]
    readies = [ready(device(1), round_key=COPIED).raw, ready(device(2)).raw]
    if "twice" not in lie and "copied" not in lie:
        readies.insert(place, make())
    else:
        readies.append(make())
    with pytest.raises(error, match=complaint):
        read(*readies, revoked=frozenset({66}))


def test_two_devices_with_one_number_spoil_it() -> None:
    twin = cast().device(1, "twin")
    with pytest.raises(ProtocolError, match="number 1 twice"):
        read(ready(device(1)), ready(twin), ready(device(2)))


def test_one_name_under_two_numbers_spoils_it() -> None:
    """A board that was certified twice counts once towards a threshold, or not at all."""
    again = cast().device(77, "b01")
    with pytest.raises(ProtocolError, match="name b01 twice"):
        read(ready(device(1)), ready(again), ready(device(2)))


def test_a_roster_of_another_announce_is_refused() -> None:
    roster = roster_of(ready(device(1)), ready(device(2)), announce=OTHER_ANNOUNCE.digest)
    with pytest.raises(ProtocolError, match="roster is of another announce"):
        read_roster(roster, ANNOUNCE, cast().authority, frozenset())


def test_a_ready_too_long_for_any_roster_is_refused() -> None:
    with pytest.raises(MessageError):
        read_ready(padded(ready(device(1)).raw), ANNOUNCE, cast().authority, frozenset())
    crowded = ready(device(1)).raw
    longest = pack_envelope(unpack_envelope(crowded)[0], bytes(80))
    assert len(longest) < MAX_READY_BYTES
