"""Key, certificate and authority belong together, or the owner hears which file does not."""

from pathlib import Path

import pytest
from attrs import evolve, frozen

from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared.config import BrokerSettings
from fedring.shared.credentials import Credentials
from fedring.shared.errors import CertificateError
from fedring.shared.identity import Role


@frozen
class Paths:
    ca: Path
    key: Path
    certificate: Path


def paths(fleet: Fleet, name: str) -> Paths:
    folder = fleet.device_folder(name)
    return Paths(folder / "ca.crt", folder / "device.key", folder / "device.crt")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = create_fleet(tmp_path / "home", "home", ["localhost"])
    fleet.add_all(["b01", "b02"])
    return fleet


def test_files_of_one_device_load_together(fleet: Fleet) -> None:
    credentials = Credentials.load(paths(fleet, "b01"), Role.DEVICE)
    assert credentials.identity.name == "b01"
    assert credentials.authority.fleet == "home"


def test_a_device_cannot_run_as_the_coordinator(fleet: Fleet) -> None:
    with pytest.raises(CertificateError, match="certificate of a device, not of a coordinator"):
        Credentials.load(paths(fleet, "b01"), Role.COORDINATOR)


def test_another_fleets_authority_is_named(fleet: Fleet, tmp_path: Path) -> None:
    create_fleet(tmp_path / "other", "other", ["localhost"]).add_all(["b01"])
    foreign = evolve(paths(fleet, "b01"), ca=tmp_path / "other/devices/b01/ca.crt")
    with pytest.raises(CertificateError) as caught:
        Credentials.load(foreign, Role.DEVICE)
    assert caught.value.name == "certificate.foreign"
    assert "device.crt" in caught.value.text
    assert str(foreign.ca) in caught.value.hint


def test_the_key_of_another_device_is_refused(fleet: Fleet) -> None:
    mixed = evolve(paths(fleet, "b01"), key=paths(fleet, "b02").key)
    with pytest.raises(CertificateError):
        Credentials.load(mixed, Role.DEVICE)


def test_the_broker_is_spoken_to_with_these_files_or_in_plain(fleet: Fleet) -> None:
    credentials = Credentials.load(paths(fleet, "b01"), Role.DEVICE)
    plain = BrokerSettings(host="localhost", tls=False)
    assert credentials.broker(plain, judge_dates=True).tls is None
    secure = credentials.broker(BrokerSettings(host="localhost"), judge_dates=True)
    assert secure.tls is not None
    assert secure.port == 8883
