"""The owner's machine judges requests: who gets a certificate, and who gets a reason."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve

from fedring.fleet import authority
from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import new_key
from fedring.fleet.signing import MAX_UNPROVEN, Verdict, burn, judge
from fedring.shared.enrolment import (
    Certified,
    Declined,
    Renewal,
    ask_again,
    ask_first,
    decode_request,
    digest_of,
    encode,
    serial_of,
)
from fedring.shared.errors import StateError
from fedring.shared.identity import Authority, Identity
from fedring.shared.state import lock_folder

DUE = timedelta(hours=8)
"""With the day by which certificates are backdated: less than a third of the validity is left."""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])


def authority_of(fleet: Fleet) -> Authority:
    return Authority.load(fleet.ca_file)


def certificate(verdict: Verdict) -> bytes:
    assert isinstance(verdict.answer, Certified), verdict
    return verdict.answer.certificate


def reason(verdict: Verdict) -> str:
    assert isinstance(verdict.answer, Declined), verdict
    return verdict.answer.reason


def enrolled(fleet: Fleet, name: str) -> Identity:
    """A board that has its certificate and was seen."""
    (invitation,) = fleet.invite([name])
    key = new_key()
    der = certificate(judge(fleet, name, ask_first(key, fleet.name, name, invitation.code)))
    assert burn(fleet, name, serial_of(der))
    return Identity(key, der)


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates that are due for renewal as soon as they are made."""
    monkeypatch.setattr(authority, "RENEWED_LIFETIME", DUE)


class TestFirst:
    def test_who_knows_the_code_is_certified(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        key = new_key()
        raw = ask_first(key, "greenhouse", "b01", invitation.code)
        verdict = judge(fleet, "b01", raw)
        peer = authority_of(fleet).peer(certificate(verdict))
        assert (peer.name, peer.number) == ("b01", invitation.number)
        assert peer.public_key == key.public_key()
        assert verdict.answer.request == digest_of(raw)

    def test_asking_again_gives_the_same_certificate(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        key = new_key()
        asked = [ask_first(key, "greenhouse", "b01", invitation.code) for _ in range(3)]
        assert len({certificate(judge(fleet, "b01", raw)) for raw in asked}) == 1

    def test_a_wrong_code(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        raw = ask_first(new_key(), "greenhouse", "b01", bytes(16))
        assert "another code" in reason(judge(fleet, "b01", raw))
        assert fleet.find("b01").certificates == ()

    def test_the_code_of_another_board(self, fleet: Fleet) -> None:
        first, _ = fleet.invite(["b01", "b02"])
        raw = ask_first(new_key(), "greenhouse", "b02", first.code)
        assert "another code" in reason(judge(fleet, "b02", raw))

    def test_a_request_that_came_in_another_name(self, fleet: Fleet) -> None:
        first, _ = fleet.invite(["b01", "b02"])
        raw = ask_first(new_key(), "greenhouse", "b01", first.code)
        assert "another name" in reason(judge(fleet, "b02", raw))

    @pytest.mark.parametrize("name", ["coordinator", "owner", "broker", "canary", "b99"])
    def test_a_name_that_was_not_added(self, fleet: Fleet, name: str) -> None:
        raw = ask_first(new_key(), "greenhouse", name, bytes(16))
        assert f"no device {name}" in reason(judge(fleet, name, raw))

    def test_a_code_that_was_used(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        raw = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        assert burn(fleet, "b01", serial_of(certificate(judge(fleet, "b01", raw))))
        thief = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        assert "burnt" in reason(judge(fleet, "b01", thief))

    def test_a_code_that_expired(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authority, "CODE_LIFETIME", timedelta(minutes=-2))
        (invitation,) = fleet.invite(["b01"])
        raw = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        assert "expired" in reason(judge(fleet, "b01", raw))

    def test_the_code_of_a_board_that_was_revoked(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        fleet.revoke("b01")
        raw = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        assert not judge(fleet, "b01", raw).is_certified

    def test_one_code_makes_one_device(self, fleet: Fleet) -> None:
        """Also before it was seen: else one code would make a crowd, as long as no list is told."""
        (invitation,) = fleet.invite(["b01"])
        first, *others = (
            judge(fleet, "b01", ask_first(new_key(), "greenhouse", "b01", invitation.code))
            for _ in range(5)
        )
        assert first.is_certified
        assert {reason(other) for other in others} == {"the code of b01 was used for another key"}
        assert len(fleet.devices) == 1
        assert len(fleet.find("b01").certificates) == 1

    def test_a_reset_makes_another_device_and_revokes_the_first(self, fleet: Fleet) -> None:
        """A card that was flashed twice."""
        (first,) = fleet.invite(["b01"])
        before = judge(fleet, "b01", ask_first(new_key(), "greenhouse", "b01", first.code))
        second = fleet.reset("b01")
        after = judge(fleet, "b01", ask_first(new_key(), "greenhouse", "b01", second.code))
        known = authority_of(fleet)
        revoked = known.revocation(fleet.revoked_file.read_bytes()).revoked
        numbers = [known.peer(certificate(one)).number for one in (before, after)]
        assert [number in revoked for number in numbers] == [True, False]

    def test_garbage_gets_a_reason(self, fleet: Fleet) -> None:
        assert not judge(fleet, "b01", b"\x80").is_certified

    def test_names_added_meanwhile_by_another_command(self, fleet: Fleet) -> None:
        (invitation,) = Fleet(fleet.folder).invite(["b05"])
        raw = ask_first(new_key(), "greenhouse", "b05", invitation.code)
        assert judge(fleet, "b05", raw).is_certified

    def test_a_folder_in_use_is_no_reason_to_decline(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        raw = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        lock = lock_folder(fleet.folder)
        with pytest.raises(StateError) as caught:
            judge(fleet, "b01", raw)
        lock.close()
        assert caught.value.name == "state.in-use"
        assert judge(fleet, "b01", raw).is_certified


class TestBurning:
    def test_seen_with_another_certificate(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        raw = ask_first(new_key(), "greenhouse", "b01", invitation.code)
        serial = serial_of(certificate(judge(fleet, "b01", raw)))
        assert not burn(fleet, "b01", serial + 1)
        assert burn(fleet, "b01", serial)
        assert not burn(fleet, "b01", serial)

    def test_a_name_that_nobody_knows(self, fleet: Fleet) -> None:
        assert not burn(fleet, "b99", 1)


@pytest.mark.usefixtures("short_lived")
class TestRenewal:
    def test_name_and_number_stay(self, fleet: Fleet) -> None:
        board, key = enrolled(fleet, "b01"), new_key()
        der = certificate(judge(fleet, "b01", ask_again(key, board)))
        renewed = Identity(key, der)
        assert (renewed.name, renewed.number) == (board.name, board.number)
        assert der != board.certificate

    def test_asking_again_gives_the_same_certificate(self, fleet: Fleet) -> None:
        board, key = enrolled(fleet, "b01"), new_key()
        asked = [ask_again(key, board) for _ in range(3)]
        assert len({certificate(judge(fleet, "b01", raw)) for raw in asked}) == 1

    def test_both_certificates_count_until_it_is_seen(self, fleet: Fleet) -> None:
        board = enrolled(fleet, "b01")
        before = fleet.list_number
        certificate(judge(fleet, "b01", ask_again(new_key(), board)))
        assert fleet.list_number == before

    def test_in_anothers_name(self, fleet: Fleet) -> None:
        """A board that was taken over wants to be b02 as well."""
        thief, _ = enrolled(fleet, "b01"), enrolled(fleet, "b02")
        asked = decode_request(ask_again(new_key(), thief))
        assert isinstance(asked, Renewal)
        lie = SimpleNamespace(
            fleet=thief.fleet, name="b02", certificate=thief.certificate, sign=thief.sign
        )
        raw = ask_again(new_key(), lie)  # type: ignore[arg-type]
        assert "certificate of another board" in reason(judge(fleet, "b02", raw))
        assert "another name" in reason(judge(fleet, "b02", encode(asked)))

    def test_with_anothers_certificate_and_an_own_signature(self, fleet: Fleet) -> None:
        thief, victim = enrolled(fleet, "b01"), enrolled(fleet, "b02")
        lie = SimpleNamespace(
            fleet=thief.fleet, name="b02", certificate=victim.certificate, sign=thief.sign
        )
        raw = ask_again(new_key(), lie)  # type: ignore[arg-type]
        assert "signature" in reason(judge(fleet, "b02", raw))

    def test_a_signed_request_that_was_changed(self, fleet: Fleet) -> None:
        board = enrolled(fleet, "b01")
        one, other = (decode_request(ask_again(new_key(), board)) for _ in range(2))
        assert isinstance(one, Renewal)
        assert "signature" in reason(judge(fleet, "b01", encode(evolve(one, csr=other.csr))))

    def test_after_it_was_revoked(self, fleet: Fleet) -> None:
        board = enrolled(fleet, "b01")
        fleet.revoke("b01")
        assert not judge(fleet, "b01", ask_again(new_key(), board)).is_certified

    def test_with_the_certificate_of_an_earlier_board_of_that_name(self, fleet: Fleet) -> None:
        earlier = enrolled(fleet, "b01")
        fleet.reset("b01")
        raw = ask_again(new_key(), earlier)
        assert "counts no more" in reason(judge(fleet, "b01", raw))

    def test_nobody_is_handed_certificates_without_end(self, fleet: Fleet) -> None:
        board = enrolled(fleet, "b01")
        verdicts = [judge(fleet, "b01", ask_again(new_key(), board)) for _ in range(MAX_UNPROVEN)]
        assert all(verdict.is_certified for verdict in verdicts)
        assert "often enough" in reason(judge(fleet, "b01", ask_again(new_key(), board)))

    def test_too_early(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authority, "RENEWED_LIFETIME", timedelta(days=365))
        board = enrolled(fleet, "b01")
        assert "wrong time" in reason(judge(fleet, "b01", ask_again(new_key(), board)))

    def test_too_late(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authority, "RENEWED_LIFETIME", timedelta(hours=-1))
        board = enrolled(fleet, "b01")
        assert "wrong time" in reason(judge(fleet, "b01", ask_again(new_key(), board)))
