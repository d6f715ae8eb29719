"""The shipped Mosquitto files, really used: what a device's credentials can do, and what not.

Nobody is told by Mosquitto that a subscription was denied, nor a publish under MQTT 3.1.1. So each
attempt ends with a message that is allowed and takes the same way: when that one is there, what
came before it and is missing was denied. And each attempt is made again with the line changed that
denies it, where it must succeed.
"""

import asyncio
import configparser
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from attrs import frozen
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fedring.fleet.authority import Fleet, create_fleet
from fedring.lab.processes import Child
from fedring.shared.arrivals import Connected, Message
from fedring.shared.broker import Broker, probe
from fedring.shared.cli import MENDABLE
from fedring.shared.errors import BrokerError
from fedring.shared.messages import CHUNK_BYTES
from fedring.shared.mqtt import Connection
from fedring.shared.tls import tls_context
from fedring.shared.topics import LAYOUT, Row, Writer

Start = Callable[..., tuple[Child, int]]
Change = Callable[[str, str], str]
BROKER_CONFIG = Path(__file__).parents[2] / "broker_config"
PATIENCE_S = 10.0
V3, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5


class Client:
    """One MQTT client with what it received."""

    def __init__(
        self, port: int, tls: ssl.SSLContext, name: str, version: MQTTProtocolVersion = V3
    ) -> None:
        fresh: dict[str, Any] = {} if version == V5 else {"clean_session": True}
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=version, **fresh
        )
        self._client.tls_set_context(tls)
        self._client.on_connect = lambda *_: self._change(lambda: setattr(self, "connected", True))
        self._client.on_disconnect = lambda *_: self._change(self._lost)
        self._client.on_message = lambda *call: self._change(lambda: self._received(call[2]))
        self._client.on_subscribe = lambda *_: self._change(self._subscribed)
        self._client.on_publish = lambda *call: self._change(
            lambda: self.answers.append(call[3].value)
        )
        self._news = threading.Condition()
        self._port = port
        self.connected = False
        self.losses = 0
        self.subscriptions = 0
        self.messages: list[tuple[str, bytes]] = []
        self.answers: list[int] = []

    def calls_itself(self, user: str, password: str | None) -> None:
        """Give a name and password in CONNECT, which nobody asked for."""
        self._client.username_pw_set(user, password)

    def __enter__(self) -> "Client":
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("localhost", self._port)
        self._client.loop_start()
        self.wait(lambda: self.connected or self.losses > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def will(self, topic: str, payload: bytes) -> None:
        self._client.will_set(topic, payload, qos=1, retain=True)

    def vanish(self) -> None:
        """Break the connection without a farewell."""
        sock = self._client.socket()
        assert sock is not None
        self._client.loop_stop()
        sock.close()

    def subscribe(self, topic_filter: str) -> None:
        before = self.subscriptions
        self._client.subscribe(topic_filter, qos=1)
        self.wait(lambda: self.subscriptions > before)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish and wait for the broker's answer; gives its code, 0 under MQTT 3.1.1."""
        before = len(self.answers)
        self._client.publish(topic, payload, qos=1, retain=retain)
        self.wait(lambda: len(self.answers) > before or self.losses > 0)
        return self.answers[-1] if len(self.answers) > before else -1

    def take(self, until: bytes) -> list[tuple[str, bytes]]:
        """Give all that has come, up to the message `until`."""

        def there() -> bool:
            return any(payload == until for _, payload in self.messages)

        self.wait(there)
        taken, self.messages = self.messages, []
        return taken

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(condition, PATIENCE_S)

    def _change(self, change: Callable[[], object]) -> None:
        with self._news:
            change()
            self._news.notify_all()

    def _lost(self) -> None:
        self.connected = False
        self.losses += 1

    def _subscribed(self) -> None:
        self.subscriptions += 1

    def _received(self, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))


@frozen
class Site:
    """A running broker and the fleet whose it is."""

    child: Child
    port: int
    fleet: Fleet

    def tls(self, name: str, fleet: Fleet | None = None) -> ssl.SSLContext:
        whose = fleet or self.fleet
        is_device = name != "coordinator"
        folder = whose.device_folder(name) if is_device else whose.coordinator_folder
        stem = folder / ("device" if is_device else name)
        return tls_context(
            folder / "ca.crt",
            stem.with_suffix(".crt"),
            stem.with_suffix(".key"),
            judge_dates=not is_device,
        )

    def client(self, name: str, version: MQTTProtocolVersion = V3) -> Client:
        return Client(self.port, self.tls(name), name, version)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("owner") / "greenhouse"
    made = create_fleet(folder, "greenhouse", ["localhost"])
    made.add_all(["b01", "b02", "b03"])
    return made


@pytest.fixture(scope="module")
def site(shipped_mosquitto: Start, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Site:
    machine = tmp_path_factory.mktemp("broker") / "machine"
    return Site(*shipped_mosquitto(machine, fleet.broker_folder), fleet)


@pytest.fixture
def spoilt(shipped_mosquitto: Start, fleet: Fleet, tmp_path: Path) -> Callable[[Change], Site]:
    """Starts a broker with changed files."""

    def start(change: Change) -> Site:
        machine = tmp_path / "machine"
        return Site(*shipped_mosquitto(machine, fleet.broker_folder, change), fleet)

    return start


def without(file: str, line: str) -> Change:
    """Drop a line of a shipped file."""

    def change(name: str, text: str) -> str:
        if name != file:
            return text
        assert f"\n{line}\n" in text
        return text.replace(f"\n{line}\n", "\n")

    return change


def unpinned(line: str) -> Change:
    """Let a line of the ACL hold for every name instead of the user's own."""

    def change(name: str, text: str) -> str:
        if name != "acl":
            return text
        assert f"\n{line}\n" in text
        return text.replace(line, line.replace("%u", "+"))

    return change


NO_ACL = without("mosquitto.conf", "acl_file etc/mosquitto/acl")
READS_INBOX = "pattern read fedring/+/device/%u/inbox/+"
WRITES_INBOX = "pattern write fedring/+/device/+/inbox/%u"
WRITES_COORDINATOR = "pattern write fedring/+/coordinator/inbox/%u"
WRITES_STATUS = "pattern write fedring/+/device/%u/status"
WRITES_UPDATE = "pattern write fedring/+/device/%u/update"


def overheard(site: Site, topic_filter: str) -> bool:
    """Tell whether b02, subscribed to a filter, reads what the coordinator writes to b01."""
    with site.client("coordinator") as coordinator, site.client("b02") as thief:
        thief.subscribe(topic_filter)
        thief.subscribe("fedring/greenhouse/device/b02/inbox/+")
        coordinator.publish("fedring/greenhouse/device/b01/inbox/coordinator", b"secret")
        coordinator.publish("fedring/greenhouse/device/b02/inbox/coordinator", b"own")
        return b"secret" in [payload for _, payload in thief.take(until=b"own")]


def forged(site: Site, topic: str, version: MQTTProtocolVersion = V3) -> bool:
    """Tell whether somebody who may read `topic` reads there what b02 wrote."""
    reader_name = "b01" if "device/b01/inbox" in topic else "coordinator"
    own = "coordinator/inbox/b02" if reader_name == "coordinator" else "device/b01/inbox/b02"
    with site.client(reader_name) as reader, site.client("b02", version) as forger:
        reader.subscribe(topic)
        reader.subscribe(f"fedring/greenhouse/{own}")
        answer = forger.publish(topic, b"forged")
        forger.publish(f"fedring/greenhouse/{own}", b"own")
        arrived = b"forged" in [payload for _, payload in reader.take(until=b"own")]
        assert answer in ({0, 16} if arrived or version == V3 else {135})
        return arrived


@pytest.mark.parametrize(
    "row",
    [row for row in LAYOUT if row.traffic != "enrolment"],  # test_enrolment_broker.py
    ids=lambda row: row.pattern,
)
def test_every_topic_has_its_writer_and_its_readers(site: Site, row: Row) -> None:
    """b01 and the coordinator do on every topic of the tree what the tree says they may."""
    values = {"digest": "ab" * 32, "place": "ab", "number": "3"}
    own = {
        "device/{name}/inbox/{name}": {"b01": "device/b02/inbox/b01"},
        "coordinator/inbox/{name}": {"b01": "coordinator/inbox/b01"},
    }.get(row.pattern, {"b01": row.pattern.format(name="b01", **values)})
    own["coordinator"] = "device/b02/inbox/coordinator" if "inbox" in row.pattern else own["b01"]
    readers = {
        "device/{name}/inbox/{name}": "b02",
        "coordinator/inbox/{name}": "coordinator",
    }
    with site.client(readers.get(row.pattern, "b03")) as reader:
        reader.subscribe("fedring/greenhouse/#")
        for writer in ("b01", "coordinator"):
            if row.pattern == "coordinator/inbox/{name}" and writer == "coordinator":
                continue
            mark = f"{row.pattern} by {writer}".encode()
            with site.client(writer, V5) as client:
                answer = client.publish(f"fedring/greenhouse/{own[writer]}", mark)
            role = Writer.COORDINATOR if writer == "coordinator" else Writer.DEVICE
            if row.writer in {role, Writer.MEMBER}:
                assert (f"fedring/greenhouse/{own[writer]}", mark) in reader.take(until=mark)
            else:
                assert answer == 135


class TestReading:
    @pytest.mark.parametrize(
        "topic_filter",
        [
            "fedring/greenhouse/device/b01/inbox/coordinator",
            "fedring/greenhouse/device/b01/inbox/+",
            "fedring/+/device/+/inbox/#",
            "fedring/#",
            "#",
        ],
    )
    def test_nobody_reads_anothers_inbox(self, site: Site, topic_filter: str) -> None:
        assert not overheard(site, topic_filter)

    @pytest.mark.parametrize("change", [unpinned(READS_INBOX), NO_ACL], ids=["%u", "acl"])
    def test_without_that_line_anybody_would(
        self, spoilt: Callable[[Change], Site], change: Change
    ) -> None:
        assert overheard(spoilt(change), "fedring/+/device/+/inbox/#")

    def test_nobody_reads_the_coordinators_inbox(self, site: Site) -> None:
        with site.client("b01") as device, site.client("b02") as thief:
            thief.subscribe("fedring/#")
            device.publish("fedring/greenhouse/coordinator/inbox/b01", b"secret")
            device.publish("fedring/greenhouse/device/b02/inbox/b01", b"own")
            assert b"secret" not in [payload for _, payload in thief.take(until=b"own")]


FORGERIES = {
    "fedring/greenhouse/device/b01/inbox/b03": WRITES_INBOX,
    "fedring/greenhouse/device/b01/inbox/coordinator": WRITES_INBOX,
    "fedring/greenhouse/coordinator/inbox/b01": WRITES_COORDINATOR,
    "fedring/greenhouse/device/b01/status": WRITES_STATUS,
    "fedring/greenhouse/device/b01/update": WRITES_UPDATE,
    "fedring/greenhouse/round": None,
    "fedring/greenhouse/revoked": None,
    "fedring/greenhouse/coordinator/status": None,
    "fedring/greenhouse/event": None,
    "fedring/greenhouse/model/ab/0": None,
}


class TestWriting:
    @pytest.mark.parametrize("topic", FORGERIES)
    @pytest.mark.parametrize("version", [V3, V5], ids=["3.1.1", "5"])
    def test_nobody_writes_in_anothers_name(
        self, site: Site, topic: str, version: MQTTProtocolVersion
    ) -> None:
        assert not forged(site, topic, version)

    @pytest.mark.parametrize(
        ("topic", "line"), [(topic, line) for topic, line in FORGERIES.items() if line]
    )
    def test_without_that_line_anybody_would(
        self, spoilt: Callable[[Change], Site], topic: str, line: str
    ) -> None:
        assert forged(spoilt(unpinned(line)), topic)

    def test_without_any_acl_all_would_be_forged(self, spoilt: Callable[[Change], Site]) -> None:
        site = spoilt(NO_ACL)
        assert [topic for topic in FORGERIES if not forged(site, topic)] == []

    def test_a_last_will_is_nobody_elses_either(self, site: Site) -> None:
        topics = [f"fedring/greenhouse/device/{name}/status" for name in ("b01", "b02")]
        with site.client("coordinator") as watcher:
            watcher.subscribe("fedring/greenhouse/device/+/status")
            for topic in topics:
                leaver = site.client("b02")
                leaver.will(topic, topic.encode())
                leaver.__enter__()
                leaver.vanish()
            assert [topic for topic, _ in watcher.take(until=topics[1].encode())] == topics[1:]

    def test_who_sends_too_much_is_thrown_off(self, site: Site) -> None:
        with site.client("b01") as client:
            topic = "fedring/greenhouse/coordinator/inbox/b01"
            assert client.publish(topic, bytes(128 * 1024)) == 0
            assert client.publish(topic, bytes(160 * 1024)) == -1
            assert client.losses == 1


def refusal(site: Site, tls: ssl.SSLContext | None, name: str = "b01") -> str | None:
    """Give the name of the error with which the broker is not entered; None when it is."""
    try:
        probe(Broker("localhost", site.port, tls), name, persistent=False)
    except BrokerError as error:
        return error.name
    return None


class TestEntering:
    def test_the_fleets_own_enter(self, site: Site) -> None:
        assert refusal(site, site.tls("b01")) is None
        assert refusal(site, site.tls("coordinator"), "coordinator") is None

    def test_nobody_enters_without_a_certificate(self, site: Site) -> None:
        bare = ssl.create_default_context(cafile=site.fleet.ca_file)
        assert refusal(site, bare) == "broker.certificate-refused"

    def test_nobody_enters_without_tls(self, site: Site) -> None:
        assert refusal(site, None) == "broker.no-answer"

    def test_nobody_enters_with_another_fleets_certificate(
        self, site: Site, tmp_path: Path
    ) -> None:
        barn = create_fleet(tmp_path / "barn", "greenhouse", ["localhost"])
        barn.add("b01")
        tls = site.tls("b01", barn)
        assert refusal(site, tls) == "broker.untrusted"  # we do not trust the broker ...
        tls.load_verify_locations(site.fleet.ca_file)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        assert refusal(site, tls) == "broker.certificate-refused"  # ... and it does not trust us

    def test_nobody_enters_as_the_broker(self, site: Site) -> None:
        tls = ssl.create_default_context(cafile=site.fleet.ca_file)
        broker = site.fleet.broker_folder
        tls.load_cert_chain(broker / "broker.crt", broker / "broker.key")
        assert refusal(site, tls, "broker") == "broker.certificate-refused"

    def test_nobody_enters_with_older_tls(self, site: Site) -> None:
        tls = site.tls("b01")
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        assert refusal(site, tls) is not None

    def test_a_name_in_the_connect_counts_for_nothing(self, site: Site) -> None:
        with Client(site.port, site.tls("b02"), "coordinator", V5) as liar:
            assert liar.publish("fedring/greenhouse/round", b"forged") == 135
            assert liar.publish("fedring/greenhouse/device/b02/status", b"own") in {0, 16}

    def test_the_revoked_stay_out_after_a_reload(
        self, shipped_mosquitto: Start, tmp_path: Path
    ) -> None:
        barn = create_fleet(tmp_path / "barn", "barn", ["localhost"])
        barn.add_all(["b01", "b02"])
        machine = tmp_path / "machine"
        site = Site(*shipped_mosquitto(machine, barn.broker_folder), barn)
        assert refusal(site, site.tls("b01")) is None
        barn.revoke("b01")
        replaced = machine / "etc" / "mosquitto" / "fedring" / "crl.pem"
        (barn.broker_folder / "crl.pem").rename(replaced)
        site.child.send(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE_S
        while (found := refusal(site, site.tls("b01"))) is None:
            assert time.monotonic() < deadline
        assert found == "broker.certificate-refused"
        assert refusal(site, site.tls("b02"), "b02") is None


@contextmanager
def taken_over(site: Site) -> Iterator[tuple[Client, Client]]:
    """b02 connects under the client id of b01, who is there already."""
    with site.client("b01") as victim:
        victim.subscribe("fedring/greenhouse/device/b01/inbox/+")
        with Client(site.port, site.tls("b02"), "b01") as thief:
            thief.subscribe("fedring/greenhouse/device/b02/inbox/+")
            yield victim, thief


class TestClientIds:
    def test_nobody_throws_another_off(self, site: Site) -> None:
        with taken_over(site) as (victim, thief), site.client("coordinator") as coordinator:
            for name in ("b01", "b02"):
                coordinator.publish(
                    f"fedring/greenhouse/device/{name}/inbox/coordinator", name.encode()
                )
            assert victim.take(until=b"b01") != thief.take(until=b"b02")
            assert victim.losses == thief.losses == 0

    def test_without_that_line_anybody_would(self, spoilt: Callable[[Change], Site]) -> None:
        site = spoilt(without("mosquitto.conf", "use_username_as_clientid true"))
        with taken_over(site) as (victim, _):
            victim.wait(lambda: victim.losses > 0)


class TestRestart:
    def test_retained_messages_survive(
        self, shipped_mosquitto: Start, fleet: Fleet, tmp_path: Path
    ) -> None:
        machine = tmp_path / "machine"
        site = Site(*shipped_mosquitto(machine, fleet.broker_folder), fleet)
        status = json.dumps({"state": "idle"}).encode()
        with site.client("b01") as device:
            device.publish("fedring/greenhouse/device/b01/status", status, retain=True)
        site.child.stop()
        site = Site(*shipped_mosquitto(machine, fleet.broker_folder), fleet)
        with site.client("b02") as watcher:
            watcher.subscribe("fedring/greenhouse/device/+/status")
            assert watcher.take(until=status) == [("fedring/greenhouse/device/b01/status", status)]


class TestTraffic:
    def test_a_token_passes_whole_and_in_order(self, site: Site) -> None:
        n_chunks = 64  # 4 MiB, an update of 500,000 weights

        async def pass_on() -> list[int]:
            sender = Connection(Broker("localhost", site.port, site.tls("b01")), "b01")
            receiver = Connection(
                Broker("localhost", site.port, site.tls("b02")),
                "b02",
                subscriptions=["fedring/greenhouse/device/b02/inbox/+"],
            )
            came: list[int] = []
            async with asyncio.timeout(60), sender, receiver:
                async for event in receiver.events():
                    match event:
                        case Connected():
                            await anext(sender.events())  # it is connected, too
                            for index in range(n_chunks):
                                chunk = index.to_bytes(4, "big") + bytes(CHUNK_BYTES)
                                topic = "fedring/greenhouse/device/b02/inbox/b01"
                                await sender.send(topic, chunk)
                        case Message(payload=chunk):
                            came.append(int.from_bytes(chunk[:4], "big"))
                            if len(came) == n_chunks:
                                break
            return came

        assert asyncio.run(pass_on()) == list(range(n_chunks))


def test_the_local_file_opens_loopback_only(mosquitto: Path, tmp_path: Path) -> None:
    text = (BROKER_CONFIG / "mosquitto.local.conf").read_text()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "\nlistener 1883 127.0.0.1\n" in text
    (tmp_path / "local.conf").write_text(text.replace("listener 1883", f"listener {port}"))
    child = Child.start(
        [mosquitto, "-c", tmp_path / "local.conf"], name="mosquitto", log=tmp_path / "log"
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "running" not in child.last_words():
            assert child.running
            assert time.monotonic() < deadline
            time.sleep(0.02)
        probe(Broker("127.0.0.1", port), "b01")
        with socket.socket() as elsewhere:
            elsewhere.bind(("127.0.0.2", port))  # taken if it listened everywhere
    finally:
        child.stop()


def test_the_service_keeps_secrets_out_of_files() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(BROKER_CONFIG / "fedring-coordinator.service")
    service = unit["Service"]
    assert service["LimitCORE"] == service["MemorySwapMax"] == "0"
    assert service["StateDirectoryMode"] == "0700"
    assert service["UMask"] == "0077"
    assert service["RestartPreventExitStatus"] == str(MENDABLE)
