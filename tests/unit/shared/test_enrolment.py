"""Messages of enrolment: what is proven, by whom, for which key, in which spelling."""

from typing import Any

import msgpack
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fedring.lab.fuzzing import people
from fedring.shared import enrolment
from fedring.shared.enrolment import (
    MAX_PER_NAME,
    MAX_REQUEST_BYTES,
    MAX_WAITING_BYTES,
    Carried,
    Certified,
    Declined,
    Enrolment,
    Renewal,
    ask_again,
    ask_first,
    decode_answer,
    decode_request,
    decode_waiting,
    digest_of,
    encode,
    encode_waiting,
    make_csr,
    prove,
    requested_key,
)
from fedring.shared.errors import IdentityError, MessageError
from fedring.shared.identity import MAX_SIGNATURE_BYTES
from fedring.shared.messages import MAX_CERTIFICATE_BYTES

CODE = bytes(range(16))
KEY = people.key(77)
FIRST = ask_first(KEY, people.FLEET, "b01", CODE)


def first() -> Enrolment:
    request = decode_request(FIRST)
    assert isinstance(request, Enrolment)
    return request


def again() -> Renewal:
    request = decode_request(ask_again(KEY, people.device(2)))
    assert isinstance(request, Renewal)
    return request


class TestFirst:
    def test_the_code_proves_it_and_does_not_travel(self) -> None:
        assert first().is_proven_by(CODE)
        assert CODE not in FIRST
        assert CODE.hex().encode() not in FIRST

    @given(st.binary(min_size=16, max_size=16).filter(lambda code: code != CODE))
    def test_no_other_code_does(self, code: bytes) -> None:
        assert not first().is_proven_by(code)

    def test_the_proof_serves_for_nothing_else(self) -> None:
        """Not for another key, name or fleet: whoever overhears it gains nothing."""
        other = make_csr(people.key(78), people.FLEET, "b01")
        assert not evolve(first(), csr=other).is_proven_by(CODE)
        assert not evolve(first(), name="b02").is_proven_by(CODE)
        assert not evolve(first(), fleet="barn").is_proven_by(CODE)

    def test_no_letter_moves_from_one_name_to_the_next(self) -> None:
        assert prove(CODE, "ab", "c", b"csr") != prove(CODE, "a", "bc", b"csr")
        assert prove(CODE, "a", "b", b"csr") != prove(CODE, "a", "bc", b"sr")

    def test_the_key_is_the_one_that_was_made(self) -> None:
        assert requested_key(first()) == KEY.public_key()


class TestRenewal:
    def test_the_present_key_proves_it(self) -> None:
        again().verify(people.device(2).peer)
        assert requested_key(again()) == KEY.public_key()

    def test_no_other_key_does(self) -> None:
        with pytest.raises(IdentityError, match="signature"):
            again().verify(people.device(3).peer)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "b09"},
            {"fleet": "barn"},
            {"csr": make_csr(people.key(78), people.FLEET, "b02")},
            {"certificate": people.device(3).certificate},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_nothing_in_it_can_be_changed(self, change: dict[str, Any]) -> None:
        with pytest.raises(IdentityError, match="signature"):
            evolve(again(), **change).verify(people.device(2).peer)


class TestRequestedKey:
    def test_a_request_for_another_name(self) -> None:
        with pytest.raises(IdentityError, match="another name"):
            requested_key(evolve(first(), csr=make_csr(KEY, people.FLEET, "b02")))

    def test_a_request_for_another_fleet(self) -> None:
        with pytest.raises(IdentityError, match="another name"):
            requested_key(evolve(first(), csr=make_csr(KEY, "barn", "b01")))

    def test_a_key_on_another_curve(self) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        with pytest.raises(IdentityError, match="P-256"):
            requested_key(evolve(first(), csr=make_csr(key, people.FLEET, "b01")))

    def test_a_key_that_the_asker_does_not_have(self) -> None:
        theirs, own = make_csr(people.key(78), people.FLEET, "b01"), first().csr
        signature = theirs[theirs.rindex(b"\x03") :]
        with pytest.raises(IdentityError):
            requested_key(evolve(first(), csr=own[: own.rindex(b"\x03")] + signature))

    @given(st.binary(min_size=1, max_size=400))
    def test_garbage(self, csr: bytes) -> None:
        with pytest.raises(IdentityError, match="damaged"):
            requested_key(evolve(first(), csr=csr))


ANSWERS = (
    Certified(request=digest_of(FIRST), certificate=people.device(1).certificate),
    Declined(request=digest_of(FIRST), reason="wrong code"),
)


class TestCodec:
    def test_what_is_encoded_is_read_back(self) -> None:
        assert encode(first()) == FIRST
        renewal = again()
        assert decode_request(encode(renewal)) == renewal
        for answer in ANSWERS:
            assert decode_answer(encode(answer)) == answer

    def test_an_answer_is_no_request(self) -> None:
        with pytest.raises(MessageError):
            decode_request(encode(ANSWERS[0]))
        with pytest.raises(MessageError):
            decode_answer(FIRST)

    def test_the_longest_request_fits(self) -> None:
        longest = evolve(
            again(),
            fleet="f" * 32,
            name="n" * 32,
            csr=bytes(enrolment.MAX_CSR_BYTES),
            certificate=bytes(MAX_CERTIFICATE_BYTES),
            signature=bytes(MAX_SIGNATURE_BYTES),
        )
        assert len(encode(longest)) <= MAX_REQUEST_BYTES
        assert decode_request(encode(longest)) == longest

    @pytest.mark.parametrize(
        "fields",
        [
            {"kind": "enrolment"},
            {"kind": "enrolment", "fleet": "g", "name": "b01", "csr": "text", "proof": bytes(32)},
            {"kind": "enrolment", "fleet": "g", "name": "b/1", "csr": b"1", "proof": bytes(32)},
            {"kind": "enrolment", "fleet": "g", "name": "b01", "csr": b"1", "proof": bytes(31)},
            {"kind": "enrolment", "fleet": "g", "name": "b01", "csr": b"", "proof": bytes(32)},
            {"fleet": "g", "kind": "enrolment", "name": "b01", "csr": b"1", "proof": bytes(32)},
            {
                "kind": "enrolment",
                "fleet": "g",
                "name": "b01",
                "csr": b"1",
                "proof": bytes(32),
                "x": b"",
            },
            {"kind": "declined", "request": bytes(32), "reason": "\x1b[2J"},
            [],
        ],
    )
    def test_other_forms_are_refused(self, fields: object) -> None:
        raw = bytes(msgpack.packb(fields))
        for decode in (decode_request, decode_answer):
            with pytest.raises(MessageError):
                decode(raw)

    def test_doubled_fields_are_refused(self) -> None:
        doubled = b"\x86" + FIRST[1:] + msgpack.packb("name") + msgpack.packb("b02")
        with pytest.raises(MessageError):
            decode_request(doubled)

    def test_what_waits(self) -> None:
        waiting = (FIRST, encode(again()))
        assert decode_waiting(encode_waiting(waiting)) == waiting
        most = (bytes(MAX_REQUEST_BYTES),) * MAX_PER_NAME
        assert len(encode_waiting(most)) <= MAX_WAITING_BYTES
        assert decode_waiting(encode_waiting(most)) == most
        with pytest.raises(MessageError):
            decode_waiting(encode_waiting((b"",) * (MAX_PER_NAME + 1)))

    def test_a_file_that_is_carried(self) -> None:
        carried = Carried(fleet="barn", items=(("b01", FIRST),), seen=(("b02", 0xC0FFEE),))
        assert Carried.decode(carried.encode()) == carried
        for raw in (b"", b"\x80", carried.encode() + b"\0", carried.encode()[:-1]):
            with pytest.raises(MessageError):
                Carried.decode(raw)
