"""A fleet beside Mosquitto with the shipped files, and a thief with the credentials of one board.

Coordinator and devices are real processes that speak TLS with client certificates. The thief tries
what the access list forbids while rounds are running; then the same with the line loosened that
forbids it, where it must succeed. What it writes then is noticed by the second wall, signatures.
"""

import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from attrs import frozen
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.programs import Tables
from fedring.lab.spy import Heard, Spy
from fedring.shared.broker import Broker
from fedring.shared.tls import tls_context

ALL = ("b01", "b02", "b03", "b04", "b05")
THIEF, WATCHER = "b06", "b07"
PATIENCE_S = 60.0
NOT_AUTHORISED = 135  # MQTT 5, section 3.4.2.1
TLS: Tables = {"broker": {"tls": True}}
LEARNING: Tables = {"training": {"statistics": True}, "ring": {"size": 5, "min_devices": 5}}


class Thief:
    """A client with stolen credentials that writes; MQTT 5, which tells what was denied."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._connected = threading.Event()
        self._answers: list[int] = []
        self._port = port
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, THIEF, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(tls)
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_publish = lambda *call: self._answers.append(call[3].value)

    def __enter__(self) -> "Thief":
        self._client.connect("localhost", self._port)
        self._client.loop_start()
        assert self._connected.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def may_publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish, and tell whether the broker let it through."""
        before = len(self._answers)
        self._client.publish(topic, payload, qos=1, retain=retain)
        eventually(lambda: len(self._answers) > before)
        return self._answers[-1] != NOT_AUTHORISED


@frozen
class Site:
    """A fleet that learns, round after round.

    Attributes:
        fleet: coordinator and devices.
        port: of the broker.
        mosquitto: the broker.
        acl: its access list.
        watcher: heard from the beginning what a device of the fleet may hear.
    """

    fleet: LocalFleet
    port: int
    mosquitto: Child
    acl: Path
    watcher: Spy

    def reading_thief(self) -> Spy:
        """Asks the broker for everything of the fleet."""
        return spy(self.fleet, THIEF, self.port)

    def writing_thief(self) -> Thief:
        return Thief(self.port, tls(self.fleet, THIEF))

    def set_acl(self, text: str) -> None:
        """Replace the access list as its owner would."""
        new = self.acl.with_name("acl.new")
        new.write_text(text)
        new.rename(self.acl)
        self.mosquitto.send(signal.SIGHUP)

    def log(self, name: str) -> str:
        return dict(self.fleet.logs())[name]


def tls(fleet: LocalFleet, name: str) -> ssl.SSLContext:
    folder = fleet.authority.device_folder(name)
    return tls_context(
        folder / "ca.crt", folder / "device.crt", folder / "device.key", judge_dates=True
    )


def spy(fleet: LocalFleet, name: str, port: int) -> Spy:
    return Spy(Broker("localhost", port, tls(fleet, name)), fleet.topics)


@pytest.fixture(scope="module")
def site(
    shipped_mosquitto: Callable[..., tuple[Child, int]],
    unused_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Five devices learn; the boards of thief and watcher are of the fleet, too."""
    folder = tmp_path_factory.mktemp("site")
    machine = folder / "machine"
    port = unused_port()
    broker = Broker("localhost", port)
    with LocalFleet(folder, broker, len(ALL), coordinator={**TLS, **LEARNING}, device=TLS) as fleet:
        fleet.authority.add_all([THIEF, WATCHER])
        mosquitto, _ = shipped_mosquitto(machine, fleet.authority.broker_folder, port=port)
        with spy(fleet, WATCHER, port) as watcher:
            fleet.start()
            yield Site(fleet, port, mosquitto, machine / "etc" / "mosquitto" / "acl", watcher)


@pytest.fixture
def loosened(site: Site) -> Iterator[Callable[[str], None]]:
    """Lets a line of the access list hold for every user and every name."""
    shipped = site.acl.read_text()

    def loosen(line: str) -> None:
        assert f"\n{line}\n" in shipped
        everybody = line.replace("%u", "+").replace("topic ", "pattern ")
        site.set_acl(f"{shipped}\n{everybody}\n")

    yield loosen
    site.set_acl(shipped)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; for what nobody announces."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_about(topic: str, heard: Heard) -> bool:
    return heard.topic == topic


def test_statistics_and_training_give_a_published_model(site: Site) -> None:
    for version, task in ((1, "statistics"), (2, "train")):
        site.watcher.event("model published", 0, version=version, contributors=len(ALL))
        line = site.watcher.first(partial(is_about, f"history/{version}"), 0).facts
        assert (line["task"], line["void_rings"]) == (task, [])
    site.watcher.first(lambda heard: heard.topic.startswith("model/"), 0)
    for name in ALL:
        site.watcher.status(name, 0, model_version=2)


def inboxes(spy: Spy) -> set[str]:
    """Whose inboxes were read."""
    return {one.topic.split("/inbox/")[0] for one in spy.heard if "/inbox/" in one.topic}


def a_round_passes(spy: Spy) -> None:
    """Wait until a whole round with all devices has begun and ended."""
    since = spy.now
    began = spy.event("ring formed", since).facts["round"]

    def ended(heard: Heard) -> bool:
        wanted = {"event": "model published", "contributors": len(ALL)}.items()
        return heard.facts.items() >= wanted and heard.facts["round"] >= began

    spy.first(ended, since, what="a model from all devices")


def test_a_whole_round_passes_and_the_thief_reads_no_inbox(site: Site) -> None:
    with site.reading_thief() as thief:
        a_round_passes(thief)
        assert inboxes(thief) == set()


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        ("pattern read fedring/+/device/%u/inbox/+", {f"device/{name}" for name in ALL}),
        ("topic read fedring/+/coordinator/inbox/+", {"coordinator"}),
    ],
)
def test_without_that_line_it_would(
    site: Site, loosened: Callable[[str], None], line: str, whose: set[str]
) -> None:
    with site.reading_thief() as thief:
        loosened(line)
        eventually(lambda: inboxes(thief) == whose)


FORGERIES = {
    "coordinator/inbox/b01": ("pattern write fedring/+/coordinator/inbox/%u", "coordinator"),
    "device/b01/inbox/b02": ("pattern write fedring/+/device/+/inbox/%u", "b01"),
    "device/b01/inbox/coordinator": ("pattern write fedring/+/device/+/inbox/%u", "b01"),
    "round": ("topic write fedring/+/round", "b01"),
    "revoked": ("topic write fedring/+/revoked", "b01"),
    "device/b01/status": ("pattern write fedring/+/device/%u/status", ""),
    "model/ab/0": ("topic write fedring/+/model/+/+", ""),
    "coordinator/status": ("topic write fedring/+/coordinator/status", ""),
}
"""Topic, the line that keeps the thief from writing there, and whose log tells when it is gone."""


@pytest.mark.parametrize("topic", FORGERIES)
def test_the_thief_writes_in_nobodys_name(
    site: Site, loosened: Callable[[str], None], topic: str
) -> None:
    line, victim = FORGERIES[topic]
    full = f"fedring/{site.fleet.topics.fleet}/{topic}"
    retain = "inbox" not in topic

    def arrived() -> bool:
        if victim:
            return f"ignored a message on {full}" in site.log(victim)
        return any(one.topic == topic and one.payload == forged for one in site.watcher.heard)

    forged = b"forged"
    with site.writing_thief() as thief:
        assert not thief.may_publish(full, forged, retain=retain)
        a_round_passes(site.watcher)
        assert not arrived()
        loosened(line)
        eventually(lambda: thief.may_publish(full, forged, retain=retain))
        eventually(arrived)
        if retain:
            assert thief.may_publish(full, b"", retain=True)


def test_after_all_that_the_fleet_still_learns(site: Site) -> None:
    a_round_passes(site.watcher)
    assert all(child.running for child in site.fleet.devices.values())
    assert "Traceback" not in "".join(log for _, log in site.fleet.logs())
