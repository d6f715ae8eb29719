"""What a payload says to the board: its settings and where to ask for a certificate."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedring.device.enrolment.bootstrap import Bootstrap
from fedring.device.settings import DeviceSettings
from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.flash.payload import BOARD_FILES, board_file, bootstrap, settings
from fedring.shared.errors import ConfigError, StateError

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local", "192.168.1.10"])


def test_the_boards_settings_are_accepted_and_point_to_its_folders(
    fleet: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "device.toml"
    file.write_text(settings(fleet))
    read = DeviceSettings.load(file)
    assert str(read.fleet.ca) == "/etc/fedring/ca.crt"
    state = "/var/lib/fedring"
    assert str(read.fleet.key) == f"{state}/device.key"
    assert str(read.fleet.certificate) == f"{state}/device.crt"
    assert str(read.fleet.bootstrap) == f"{state}/bootstrap.json"
    assert str(read.state.folder) == f"{state}/state"
    assert str(read.data.file) == f"{state}/data.csv"
    assert read.broker.host == "broker.local"
    assert read.broker.others == ("192.168.1.10",)
    assert read.privacy.threshold == 3


def test_a_board_gets_no_more_names_of_the_broker_than_its_settings_take(tmp_path: Path) -> None:
    names = [f"broker-{number}.local" for number in range(9)]
    fleet = create_fleet(tmp_path / "barn", "barn", names)
    file = tmp_path / "device.toml"
    file.write_text(settings(fleet))
    broker = DeviceSettings.load(file).broker
    assert (broker.host, *broker.others) == tuple(names[:8])


@pytest.mark.parametrize("name", ["", "broker..local", "broker.local:8883", "a" * 64])
def test_a_fleet_has_no_broker_that_boards_cannot_look_up(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError) as failure:
        create_fleet(tmp_path / "barn", "barn", ["broker.local", name])
    assert failure.value.name == "fleet.broker"


@pytest.mark.parametrize(("n_boards", "threshold"), [(15, 3), (16, 7)])
def test_larger_fleets_get_the_higher_threshold(
    fleet: Fleet, n_boards: int, threshold: int
) -> None:
    fleet.invite([f"b{number}" for number in range(n_boards)])
    assert tomllib.loads(settings(fleet))["privacy"] == {"threshold": threshold}


def test_lines_that_the_owner_changed_stay(fleet: Fleet, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('ca = "ca.crt"\nhost = "localhost"\nthreshold = 5\n[data]\nfile = "x.npz"\n')
    assert settings(fleet, mine) == (
        'ca = "/etc/fedring/ca.crt"\nhost = "broker.local"\nthreshold = 5\n[data]\nfile = "x.npz"\n'
    )
    with pytest.raises(ConfigError) as failure:
        settings(fleet, tmp_path / "none.toml")
    assert failure.value.name == "config.unreadable-file"


def test_the_board_reads_its_bootstrap(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_bytes(bootstrap(fleet, "b01", bytes(16), NOW))
    assert Bootstrap.load(file) == Bootstrap(
        fleet="greenhouse",
        name="b01",
        hosts=("broker.local", "192.168.1.10"),
        port=8884,
        code=bytes(16),
        flashed_at=NOW,
    )
    assert json.loads(file.read_bytes())["port"] == 8883


@pytest.mark.parametrize("name", [*BOARD_FILES, "vendor-data"])
def test_every_file_for_boards_is_there(name: str) -> None:
    assert board_file(name)
