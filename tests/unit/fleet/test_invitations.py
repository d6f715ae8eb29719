"""Places for boards that make their own keys: codes, certificates, renewals, resets."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet import authority
from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import new_key
from fedring.fleet.register import Standing
from fedring.shared.access_lists import denied_names
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import Authority, Peer


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local"])


def peer(fleet: Fleet, certificate: x509.Certificate) -> Peer:
    return Authority.load(fleet.ca_file).peer(certificate.public_bytes(Encoding.DER))


def refused_by_broker(fleet: Fleet) -> set[int]:
    crl = x509.load_pem_x509_crl((fleet.broker_folder / "crl.pem").read_bytes())
    return {entry.serial_number for entry in crl}


def revoked_numbers(fleet: Fleet) -> frozenset[int]:
    lists = [fleet.revoked_file, fleet.coordinator_folder / "revoked"]
    (revoked,) = {
        Authority.load(fleet.ca_file).revocation(file.read_bytes()).revoked for file in lists
    }
    return revoked


def expire(fleet: Fleet, name: str) -> None:
    """Put a code's end into the past."""
    path = fleet.folder / "fleet.json"
    past = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%MZ")
    fields = json.loads(path.read_text())
    for device in fields["devices"]:
        if device["name"] == name:
            device["code_ends"] = past
    path.write_text(json.dumps(fields))


class PowerCutError(Exception):
    """The power is gone."""


class TestInvitation:
    def test_each_board_gets_a_number_and_a_code_of_its_own(self, fleet: Fleet) -> None:
        first, second = fleet.invite(["b01", "b02"])
        assert [(one.name, one.number) for one in (first, second)] == [("b01", 1), ("b02", 2)]
        assert len(first.code) == 16
        assert first.code != second.code
        assert fleet.code("b01") == first.code
        assert timedelta(days=6, hours=23) < first.ends - datetime.now(UTC) <= timedelta(days=7)
        assert fleet.find("b01").standing is Standing.INVITED

    def test_a_code_is_for_its_owner_alone(self, fleet: Fleet) -> None:
        (invitation,) = fleet.invite(["b01"])
        file = fleet.folder / "codes" / "b01"
        assert file.stat().st_mode & 0o777 == 0o600
        assert invitation.code.hex() not in repr(invitation)
        file.chmod(0o640)
        with pytest.raises(CertificateError, match="others may read this code file"):
            fleet.code("b01")

    def test_it_needs_no_passphrase(self, fleet: Fleet) -> None:
        assert Fleet(fleet.folder).invite(["b01"])[0].number == 1

    def test_one_bad_name_and_nobody_is_invited(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        for names in (["b02", "owner"], ["b02", "b02"], ["b02", "b01"], ["b02", "../b"]):
            with pytest.raises(StateError):
                fleet.invite(names)
        assert [device.name for device in fleet.devices] == ["b01"]
        assert [file.name for file in (fleet.folder / "codes").iterdir()] == ["b01"]


def _expire(fleet: Fleet) -> None:
    expire(fleet, "b01")


def _lose(fleet: Fleet) -> None:
    (fleet.folder / "codes" / "b01").unlink()


def _spoil(fleet: Fleet) -> None:
    (fleet.folder / "codes" / "b01").write_text("no code\n")


def _shorten(fleet: Fleet) -> None:
    (fleet.folder / "codes" / "b01").write_text("ab\n")


def _enrol(fleet: Fleet) -> None:
    certificate = fleet.certify("b01", new_key().public_key())
    assert fleet.seen("b01", certificate.serial_number)


def _revoke(fleet: Fleet) -> None:
    fleet.revoke("b01")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (_expire, "fleet.code-expired"),
        (_lose, "fleet.code-missing"),
        (_spoil, "fleet.code-missing"),
        (_shorten, "fleet.code-missing"),
        (_enrol, "fleet.code-burnt"),
        (_revoke, "fleet.code-missing"),
    ],
)
def test_without_a_code_that_counts_nothing_is_certified(
    fleet: Fleet, spoil: Callable[[Fleet], object], name: str
) -> None:
    fleet.invite(["b01"])
    spoil(fleet)
    before = Fleet(fleet.folder).devices
    with pytest.raises(StateError) as caught:
        fleet.certify("b01", new_key().public_key())
    assert caught.value.name == name
    assert "fedring fleet reset b01" in caught.value.hint
    assert Fleet(fleet.folder).devices == before


class TestCertificate:
    def test_it_has_the_reserved_number_for_a_year(self, fleet: Fleet) -> None:
        fleet.invite(["b01", "b02"])
        certificate = fleet.certify("b02", new_key().public_key())
        found = peer(fleet, certificate)
        assert (found.name, found.number) == ("b02", 2)
        assert fleet.find("b02").standing is Standing.CERTIFIED
        now = datetime.now(UTC)
        assert now - certificate.not_valid_before_utc > timedelta(hours=23)
        left = certificate.not_valid_after_utc - now
        assert timedelta(days=364) < left <= timedelta(days=365)
        shown = fleet.find("b02").certificates[-1].ends
        assert shown == certificate.not_valid_after_utc.date().isoformat()

    def test_the_same_key_gets_the_same_certificate(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        key = new_key().public_key()
        assert fleet.certify("b01", key) == fleet.certify("b01", key)
        assert len(fleet.find("b01").certificates) == 1

    @pytest.mark.parametrize("before", [False, True], ids=["after it", "before it"])
    @pytest.mark.parametrize("step", ["write_file", "replace_file", "_write_register"])
    def test_also_when_the_power_was_cut_at_a_write(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
    ) -> None:
        fleet.invite(["b01"])
        key = new_key().public_key()
        whose: Any = Fleet if step.startswith("_") else authority
        real = getattr(whose, step)

        def cut(*arguments: object) -> None:
            if not before:
                real(*arguments)
            raise PowerCutError

        with monkeypatch.context() as patched:
            patched.setattr(whose, step, cut)
            with pytest.raises(PowerCutError):
                fleet.certify("b01", key)
        again = Fleet(fleet.folder)
        again.unlock(None)
        (before_the_cut,) = again.devices
        certificate = again.certify("b01", key)
        assert certificate.public_key() == key
        (device,) = again.devices
        assert [int(one.serial, 16) for one in device.certificates] == [certificate.serial_number]
        assert before_the_cut.certificates in {(), device.certificates}
        assert again.certify("b01", key) == certificate == again.certificate("b01")

    def test_one_code_makes_one_device(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        certificate = fleet.certify("b01", new_key().public_key())
        with pytest.raises(StateError) as caught:
            fleet.certify("b01", new_key().public_key())
        assert caught.value.name == "fleet.code-used"
        assert fleet.certificate("b01") == certificate
        assert len(fleet.find("b01").certificates) == 1

    def test_a_lost_certificate_is_not_given_again(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        key = new_key().public_key()
        fleet.certify("b01", key)
        (fleet.folder / "certificates" / "b01").unlink()
        with pytest.raises(StateError, match="used for another key"):
            fleet.certify("b01", key)

    def test_the_code_is_burnt_by_the_newest_certificate_only(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        first = fleet.certify("b01", new_key().public_key())
        second = fleet.renew("b01", new_key().public_key())
        assert not fleet.seen("b01", first.serial_number)
        assert fleet.code("b01")
        assert fleet.seen("b01", second.serial_number)
        assert not fleet.seen("b01", second.serial_number)
        assert not (fleet.folder / "codes" / "b01").exists()
        assert fleet.find("b01").standing is Standing.ENROLLED

    def test_unknown_boards_are_told(self, fleet: Fleet) -> None:
        for act in (
            lambda: fleet.code("b09"),
            lambda: fleet.certify("b09", new_key().public_key()),
            lambda: fleet.renew("b09", new_key().public_key()),
            lambda: fleet.seen("b09", 1),
            lambda: fleet.reset("b09"),
        ):
            with pytest.raises(StateError, match="has no device b09"):
                act()


class TestRenewal:
    def test_the_number_stays_and_a_revocation_takes_all(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        first = fleet.certify("b01", new_key().public_key())
        fleet.seen("b01", first.serial_number)
        key = new_key().public_key()
        second = fleet.renew("b01", key)
        assert fleet.renew("b01", key) == second
        assert peer(fleet, second).number == peer(fleet, first).number == 1
        assert not refused_by_broker(fleet) & {first.serial_number, second.serial_number}
        fleet.revoke("b01")
        assert refused_by_broker(fleet) >= {first.serial_number, second.serial_number}
        assert (fleet.broker_folder / "lost").read_text().splitlines() == sorted(
            f"b01 {one.serial_number:x}" for one in (first, second)
        )

    @pytest.mark.parametrize("revoked", [False, True])
    def test_there_must_be_a_certificate(self, fleet: Fleet, revoked: bool) -> None:
        fleet.invite(["b01"])
        if revoked:
            fleet.certify("b01", new_key().public_key())
            fleet.revoke("b01")
        with pytest.raises(StateError, match="no certificate to renew"):
            fleet.renew("b01", new_key().public_key())

    def test_a_board_whose_key_was_made_here_may_go_on_by_itself(self, fleet: Fleet) -> None:
        fleet.add("b01")
        assert peer(fleet, fleet.renew("b01", new_key().public_key())).number == 1


class TestReset:
    def test_before_it_enrolled_a_board_keeps_its_number(self, fleet: Fleet) -> None:
        (first,) = fleet.invite(["b01"])
        expire(fleet, "b01")
        second = fleet.reset("b01")
        assert second.number == first.number == 1
        assert fleet.code("b01") == second.code != first.code
        assert revoked_numbers(fleet) == frozenset()

    def test_afterwards_its_certificate_goes_on_the_lists(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        lost = fleet.certify("b01", new_key().public_key())
        fleet.seen("b01", lost.serial_number)
        assert fleet.reset("b01").number == 2
        assert revoked_numbers(fleet) == {1}
        assert lost.serial_number in refused_by_broker(fleet)
        found = peer(fleet, fleet.certify("b01", new_key().public_key()))
        assert (found.name, found.number) == ("b01", 2)

    def test_a_revoked_board_may_come_back(self, fleet: Fleet) -> None:
        fleet.invite(["b01"])
        fleet.certify("b01", new_key().public_key())
        fleet.revoke("b01")
        access_list = fleet.broker_folder / "acl"
        assert "b01" in denied_names(access_list.read_text().splitlines())
        assert fleet.reset("b01").number == 2
        assert "b01" not in denied_names(access_list.read_text().splitlines())
        assert revoked_numbers(fleet) == {1}


class TestFormat1:
    OLD = (
        '{"fleet": "greenhouse", "broker": ["broker.local"], "next_number": 3, "list_number": 2,'
        ' "epoch": 1, "devices": ['
        '{"name": "b01", "number": 1, "serial": "abc", "added": "2026-01-02", "revoked": null},'
        '{"name": "b02", "number": 2, "serial": "def", "added": "2026-01-02",'
        ' "revoked": "2026-02-01"}], "format": 1}'
    )

    def test_it_is_read_and_written_as_format_2(self, fleet: Fleet) -> None:
        (fleet.folder / "fleet.json").write_text(self.OLD)
        old = Fleet(fleet.folder)
        b01, b02 = old.devices
        assert (b01.standing, b02.standing) == (Standing.ENROLLED, Standing.REVOKED)
        assert b01.certificates[0].ends == "2035-12-31"
        old.invite(["b03"])
        assert json.loads((fleet.folder / "fleet.json").read_text())["format"] == 2
        assert Fleet(fleet.folder).devices[:2] == (b01, b02)

    def test_what_such_a_fleet_lacks_is_made_at_the_next_change(self, fleet: Fleet) -> None:
        old = fleet.server_folder / "canary" / "canary.crt"
        before = x509.load_pem_x509_certificate(old.read_bytes())
        for folder in (fleet.server_folder, fleet.owner_folder):
            folder.rename(fleet.folder / f"no {folder.name}")
        (fleet.folder / "fleet.json").write_text(self.OLD)
        fleet.revoke("b01")
        made = x509.load_pem_x509_certificate(old.read_bytes())
        assert made.serial_number != before.serial_number
        assert refused_by_broker(fleet) == {0xABC, 0xDEF, made.serial_number}
        assert (fleet.owner_folder / "owner.key").exists()
