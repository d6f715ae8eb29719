"""Brokers that we start ourselves."""

import socket
from pathlib import Path

import pytest

from fedring.lab import brokers
from fedring.lab.brokers import LocalBroker, Program, start_broker
from fedring.shared.broker import probe
from fedring.shared.errors import BrokerError


def test_it_answers_says_what_it_is_and_listens_on_loopback_only(broker: LocalBroker) -> None:
    probe(broker.address, "b01")
    assert broker.description.lower().startswith(("mosquitto 2.", "iotcore 0.4"))
    assert broker.url == f"mqtt://127.0.0.1:{broker.address.port}"
    with socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.2", broker.address.port))  # taken if it listened everywhere


def test_it_stops_and_starts_again_on_its_port(broker: LocalBroker) -> None:
    broker.stop()
    broker.stop()
    with pytest.raises(BrokerError, match="no broker"):
        probe(broker.address, "b01")
    broker.restart()
    probe(broker.address, "b01")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} of this machine is taken") as caught:
            start_broker(tmp_path, port=port)
    assert caught.value.name == "broker.port-taken"
    assert "--broker" in caught.value.hint


def test_mosquitto_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "find_mosquitto", lambda: None)
    with pytest.raises(BrokerError, match="Mosquitto is not installed") as caught:
        start_broker(tmp_path, program=Program.MOSQUITTO)
    assert caught.value.hint == "install it with: sudo apt-get install mosquitto"
    with start_broker(tmp_path) as running:
        assert running.description.endswith("(embedded)")


def test_no_broker_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "find_mosquitto", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BrokerError, match="neither Mosquitto nor") as caught:
        start_broker(tmp_path)
    assert "apt-get install mosquitto" in caught.value.hint


@pytest.mark.mosquitto
def test_a_broker_that_does_not_start_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "mosquitto.conf"
    broken.write_text("nonsense 1\n")
    monkeypatch.setattr(brokers, "_fill_in", lambda *_, **__: broken)
    with pytest.raises(BrokerError, match=r"(?s)did not start on port .*nonsense") as caught:
        start_broker(tmp_path, program=Program.MOSQUITTO)
    assert caught.value.name == "broker.not-started"
