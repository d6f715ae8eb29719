"""A board that asks for its certificate: when, how often, and what it takes for an answer."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fedring.device.enrolment.asking import REPEATS, Ask, Asking, Take, Tell
from fedring.device.enrolment.renewing import is_due
from fedring.fleet.issuing import Issuer
from fedring.lab.fuzzing import people
from fedring.shared.enrolment import Certified, Declined, ask_first, digest_of, encode
from fedring.shared.errors import IdentityError, MessageError, PeerError
from fedring.shared.identity import Authority

KEY = people.key(77)
REQUEST = ask_first(KEY, people.FLEET, "b01", bytes(16))


def asking(number: int | None = None) -> Asking:
    return Asking(
        REQUEST,
        KEY.public_key(),
        people.authority(),
        name="b01",
        number=number,
        random=lambda: 0.999,
    )


def certificate(name: str = "b01", number: int = 1, secret: int = 77) -> bytes:
    public_key = people.key(secret).public_key()
    return people.issuer().device(public_key, name, number).public_bytes(Encoding.DER)


def certified(der: bytes, request: bytes = digest_of(REQUEST)) -> bytes:
    return encode(Certified(request=request, certificate=der))


class TestAsking:
    def test_not_before_the_answer_can_be_heard(self) -> None:
        one = asking()
        assert one.deadline is None
        assert one.tick(100.0) == []
        assert one.subscribed(100.0) == [Ask(REQUEST)]

    def test_again_and_again_and_ever_more_slowly(self) -> None:
        one = asking()
        one.subscribed(0.0)
        waits, now = [], 0.0
        for _ in range(8):
            assert one.deadline is not None
            waits.append(one.deadline - now)
            now = one.deadline
            assert one.tick(now - 0.01) == []
            assert one.tick(now) == [Ask(REQUEST)]
        assert waits == sorted(waits)
        assert waits[-1] <= REPEATS.longest_s

    def test_anew_after_the_connection_was_lost(self) -> None:
        one = asking()
        one.subscribed(0.0)
        one.disconnected()
        assert one.deadline is None
        assert one.subscribed(50.0) == [Ask(REQUEST)]

    def test_no_more_when_it_has_its_certificate(self) -> None:
        one = asking()
        one.subscribed(0.0)
        one.receive(certified(certificate()), 1.0)
        assert one.deadline is None
        assert one.subscribed(2.0) == []
        assert one.receive(certified(certificate()), 3.0) == []


class TestAnswers:
    def test_the_certificate(self) -> None:
        der = certificate()
        assert asking().receive(certified(der), 0.0) == [Take(der)]

    def test_to_an_earlier_request_of_the_same_key(self) -> None:
        der = certificate()
        assert asking().receive(certified(der, bytes(32)), 0.0) == [Take(der)]

    def test_for_another_key_is_left_alone(self) -> None:
        """An earlier one of ours, or somebody's who plays a trick."""
        assert asking().receive(certified(certificate(secret=78)), 0.0) == []

    def test_in_another_name(self) -> None:
        with pytest.raises(IdentityError, match="another name"):
            asking().receive(certified(certificate(name="b02")), 0.0)

    def test_of_the_coordinator(self) -> None:
        der = people.issuer().coordinator(KEY.public_key()).public_bytes(Encoding.DER)
        with pytest.raises(IdentityError, match="another name"):
            asking().receive(certified(der), 0.0)

    def test_of_another_authority(self) -> None:
        other = Issuer.create(people.FLEET).device(KEY.public_key(), "b01", 1)
        with pytest.raises(IdentityError):
            asking().receive(certified(other.public_bytes(Encoding.DER)), 0.0)

    def test_a_renewal_keeps_the_number(self) -> None:
        with pytest.raises(IdentityError, match="another number"):
            asking(number=1).receive(certified(certificate(number=2)), 0.0)
        der = certificate(number=1)
        assert asking(number=1).receive(certified(der), 0.0) == [Take(der)]

    def test_declined_is_told_and_asked_again(self) -> None:
        one = asking()
        one.subscribed(0.0)
        declined = encode(Declined(request=digest_of(REQUEST), reason="wrong code"))
        assert one.receive(declined, 1.0) == [Tell("wrong code")]
        assert one.deadline == 1.0 + REPEATS.longest_s
        assert one.tick(one.deadline) == [Ask(REQUEST)]
        assert one.receive(certified(certificate()), 2.0) != []  # nobody had signed it

    def test_what_declines_another_request_is_not_for_us(self) -> None:
        declined = encode(Declined(request=bytes(32), reason="wrong code"))
        assert asking().receive(declined, 1.0) == []

    @given(st.binary(max_size=300))
    def test_garbage(self, raw: bytes) -> None:
        one = asking()
        one.subscribed(0.0)
        before = one.deadline
        with pytest.raises(MessageError):
            one.receive(raw, 1.0)
        assert one.deadline == before

    @given(st.binary(min_size=1, max_size=300))
    def test_garbage_for_a_certificate(self, der: bytes) -> None:
        with pytest.raises(PeerError):
            asking().receive(certified(der), 0.0)


def test_a_certificate_is_due_when_a_third_is_left() -> None:
    authority = people.issuer()
    made = authority.device(KEY.public_key(), "b01", 1, timedelta(days=299))
    der = made.public_bytes(Encoding.DER)  # 300 days, one of them before it was made
    now = datetime.now(UTC)
    assert not is_due(der, now)
    assert not is_due(der, now + timedelta(days=198))
    assert is_due(der, now + timedelta(days=200))
    assert is_due(der, now + timedelta(days=400))
    assert Authority(authority.certificate.public_bytes(Encoding.DER)).peer(der).number == 1
