"""Small parts of the broker's side of `fedring coordinator apply`; a real broker sees the whole."""

from pathlib import Path

import pytest

from fedring.coordinator.apply.broker_machine import ACCESS_LIST, CRL, PLACES
from fedring.coordinator.apply.eviction import new_losses
from fedring.coordinator.apply.listening import LOOPBACK, PORT, listening
from fedring.shared.errors import BrokerError

SHIPPED = (Path(__file__).parents[3] / "broker_config" / "mosquitto.conf").read_text()


@pytest.mark.parametrize(
    ("included", "found"),
    [
        ({}, (LOOPBACK, PORT)),
        ({"port.conf": "port 8893\n"}, (LOOPBACK, 8893)),
        ({"port.conf": "bind_address 192.168.1.10\n"}, ("192.168.1.10", PORT)),
        ({"a.conf": "port 1\n", "b.conf": "port 2\n", "c.txt": "port 3\n"}, (LOOPBACK, 2)),
        ({"port.conf": "port 8893\nlistener 1884\nbind_address 10.0.0.1\n"}, (LOOPBACK, 8893)),
        ({"port.conf": "# port 1\n#port 2\n"}, (LOOPBACK, PORT)),
    ],
)
def test_the_broker_is_looked_for_where_it_listens(
    tmp_path: Path, included: dict[str, str], found: tuple[str, int]
) -> None:
    folder = tmp_path / "etc" / "mosquitto" / "site"
    folder.mkdir(parents=True)
    for name, text in included.items():
        (folder / name).write_text(text)
    settings = folder.parent / "mosquitto.conf"
    settings.write_text(SHIPPED)
    assert listening(settings) == found


def test_the_access_list_comes_after_the_list_that_it_proves() -> None:
    """Whoever sees its last line in force knows that the CRL was in place before."""
    assert list(PLACES.values())[-2:] == [CRL, ACCESS_LIST]


@pytest.mark.parametrize(
    ("lost", "before", "names"),
    [
        (b"", b"", []),
        (b"b01 a\n", b"", ["b01"]),
        (b"b01 a\nb01 b\nb02 c\n", b"", ["b01", "b02"]),
        (b"b01 a\nb01 b\nb02 c\n", b"b02 c\nb01 a\n", ["b01"]),
        (b"b01 a\n", b"b01 a\n", []),
    ],
)
def test_who_lost_a_certificate_since(lost: bytes, before: bytes, names: list[str]) -> None:
    assert new_losses(lost, before) == names


@pytest.mark.parametrize("line", [b" a", b"B01 a", b"b01/# a", b"\xff a", b"x" * 33 + b" a"])
def test_a_name_that_is_none_is_nobodys(line: bytes) -> None:
    with pytest.raises(BrokerError) as caught:
        new_losses(line + b"\n", b"")
    assert caught.value.name == "broker.lost"
