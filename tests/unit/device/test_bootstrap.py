"""What the owner puts onto a card, read by the board; and a first start that cannot work."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedring.device.enrolment.bootstrap import Bootstrap, forget_code
from fedring.device.enrolment.enrolling import enrol
from fedring.device.enrolment.key_files import KeyFiles
from fedring.device.enrolment.renewing import LOOK_S, take_over
from fedring.device.settings import DeviceSettings
from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.flash import payload
from fedring.shared.errors import StateError
from fedring.shared.identity import Identity


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = create_fleet(
        tmp_path_factory.mktemp("owner") / "greenhouse", "greenhouse", ["localhost"]
    )
    made.add("b01")
    return made


@pytest.fixture
def card(fleet: Fleet, tmp_path: Path) -> Path:
    """A card as `fedring fleet flash` writes it."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (tmp_path / "bootstrap.json").write_bytes(payload.bootstrap(fleet, "b01", bytes(16), now))
    (tmp_path / "ca.crt").write_bytes(fleet.ca_file.read_bytes())
    (tmp_path / "device.toml").write_text(
        """
        [fleet]
        ca = "ca.crt"
        key = "own/device.key"
        certificate = "own/device.crt"
        bootstrap = "bootstrap.json"
        [broker]
        host = "localhost"
        port = 9
        [state]
        folder = "own"
        [privacy]
        threshold = 2
        [data]
        file = "data.csv"
        """
    )
    return tmp_path


def settings(card: Path) -> DeviceSettings:
    return DeviceSettings.load(card / "device.toml")


def change(card: Path, **facts: Any) -> None:
    file = card / "bootstrap.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | facts))


def with_pair(card: Path, fleet: Fleet, ending: str = "") -> KeyFiles:
    """Give the board a key and a certificate that were made elsewhere."""
    own = card / "own"
    own.mkdir(mode=0o700, exist_ok=True)
    for name in ("device.key", "device.crt"):
        target = own / f"{name}{ending}"
        target.write_bytes((fleet.device_folder("b01") / name).read_bytes())
        target.chmod(0o600)
    return KeyFiles(own / "device.key", own / "device.crt")


class TestBootstrap:
    def test_what_the_owners_tools_write_is_read(self, card: Path) -> None:
        read = Bootstrap.load(card / "bootstrap.json")
        assert (read.fleet, read.name, read.hosts) == ("greenhouse", "b01", ("localhost",))
        assert (read.port, read.code) == (8884, bytes(16))
        assert read.flashed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def test_the_code_does_not_print(self, card: Path) -> None:
        change(card, code="ab" * 16)
        assert "abab" not in repr(Bootstrap.load(card / "bootstrap.json"))

    def test_the_code_is_forgotten_and_the_rest_stays(self, card: Path) -> None:
        change(card, note="mine")
        assert forget_code(card / "bootstrap.json")
        assert not forget_code(card / "bootstrap.json")
        assert Bootstrap.load(card / "bootstrap.json").code is None
        assert json.loads((card / "bootstrap.json").read_bytes())["note"] == "mine"

    @pytest.mark.parametrize("host", ["", "a..b", "a" * 64, "h:8884", "h h", 1])
    def test_a_name_that_no_broker_has(self, card: Path, host: object) -> None:
        change(card, broker=["localhost", host])
        with pytest.raises(StateError, match="no list of host names") as caught:
            Bootstrap.load(card / "bootstrap.json")
        assert caught.value.name == "enrolment.bootstrap"


class TestFirstStart:
    @pytest.mark.parametrize("content", [None, "", "[]", '{"fleet": "greenhouse"}', "[" * 20_000])
    def test_a_card_without_a_good_file(self, card: Path, content: str | None) -> None:
        file = card / "bootstrap.json"
        file.unlink()
        if content is not None:
            file.write_text(content)
        with pytest.raises(StateError) as caught:
            enrol(settings(card))
        assert caught.value.name == "enrolment.bootstrap"
        assert str(file) in caught.value.text

    def test_a_file_of_another_fleet(self, card: Path) -> None:
        change(card, fleet="barn")
        with pytest.raises(StateError, match="of fleet barn") as caught:
            enrol(settings(card))
        assert caught.value.name == "enrolment.bootstrap"

    def test_a_code_that_was_used(self, card: Path) -> None:
        forget_code(card / "bootstrap.json")
        with pytest.raises(StateError, match="was used") as caught:
            enrol(settings(card))
        assert caught.value.name == "enrolment.no-code"
        assert "reset b01" in caught.value.hint

    def test_with_a_certificate_nobody_is_asked(self, card: Path, fleet: Fleet) -> None:
        with_pair(card, fleet)
        (card / "bootstrap.json").unlink()
        assert enrol(settings(card))


class TestTakingOver:
    def test_without_a_new_pair_nothing_happens(self, card: Path, fleet: Fleet) -> None:
        with_pair(card, fleet)
        assert take_over(settings(card)) == 0.0

    def test_without_the_broker_both_pairs_stay(self, card: Path, fleet: Fleet) -> None:
        own = with_pair(card, fleet)
        with_pair(card, fleet, ".new")
        assert take_over(settings(card)) == LOOK_S
        assert own.is_complete
        assert own.new.is_complete

    def test_a_pair_of_another_fleet_is_dropped(
        self, card: Path, fleet: Fleet, tmp_path: Path
    ) -> None:
        own = with_pair(card, fleet)
        barn = create_fleet(tmp_path / "barn", "greenhouse", ["localhost"])
        barn.add("b01")
        with_pair(card, barn, ".new")
        assert take_over(settings(card)) == LOOK_S
        assert not own.new.key.exists()
        assert not own.new.certificate.exists()
        Identity.load(own.key, own.certificate)
