"""The shipped files for enrolment, really used: what strangers, boards and the owner can do there.

As in test_broker_config.py, each attempt ends with a message that is allowed and takes the same
way; under MQTT 5 the broker tells that a publish was denied (135).
"""

import configparser
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.conftest import BROKER_CONFIG
from tests.integration.enrolment_site import Site
from tests.integration.test_broker_config import V3, V5, Client

from fedring.fleet.authority import create_fleet
from fedring.fleet.signing_live import owner_broker
from fedring.lab.processes import Child
from fedring.shared.broker import Broker, probe
from fedring.shared.errors import BrokerError
from fedring.shared.tls import nameless_context, tls_context

Start = Callable[..., tuple[Child, int]]
DENIED = 135
ROOT = "fedring/greenhouse/"
REQUEST, WAITING, ANSWER = (f"{ROOT}enrol/{kind}/b01" for kind in ("request", "waiting", "answer"))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)
OWN = f"{ROOT}device/b01/inbox/coordinator"


@pytest.fixture(scope="module")
def site(
    shipped_mosquitto: Start, mosquitto: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Both brokers; nobody is connected."""
    made = Site(tmp_path_factory.mktemp("site"), shipped_mosquitto, mosquitto)
    made.fleet.add_all(["b01", "b02"])
    yield made
    made.stop()


def device(site: Site, name: str) -> Client:
    tls = site.broker(name).tls
    assert tls is not None
    return Client(site.port, tls, name, V5)


def coordinators_tls(site: Site) -> ssl.SSLContext:
    files = site.fleet.coordinator_folder
    return tls_context(
        files / "ca.crt",
        files / "coordinator.crt",
        files / "coordinator.key",
        judge_dates=True,
    )


def coordinator(site: Site) -> Client:
    return Client(site.port, coordinators_tls(site), "coordinator", V5)


def coordinator_at_the_door(site: Site) -> Client:
    return Client(site.coordinator_port, coordinators_tls(site), "any-id", V5)


def owner(site: Site) -> Client:
    tls = owner_broker(site.fleet, "localhost", site.port).tls
    assert tls is not None
    return Client(site.port, tls, "owner", V5)


def stranger(site: Site, name: str = "stranger") -> Client:
    return Client(site.board_port, site.stranger, name, V5)


class TestFleetsBroker:
    def test_a_device_asks_in_its_own_name_only(self, site: Site) -> None:
        with coordinator(site) as reader, device(site, "b02") as forger:
            reader.subscribe(f"{ROOT}enrol/request/+")
            assert forger.publish(REQUEST, b"forged") == DENIED
            assert forger.publish(REQUEST.replace("b01", "b02"), b"own") == 0
            assert [payload for _, payload in reader.take(until=b"own")] == [b"own"]

    def test_what_waits_is_for_the_owner_alone(self, site: Site) -> None:
        with owner(site) as reader, device(site, "b01") as thief, coordinator(site) as writer:
            for client in (reader, thief):
                client.subscribe(f"{ROOT}#")
            writer.publish(WAITING, b"waits")
            writer.publish(OWN, b"own")
            assert (WAITING, b"waits") in reader.take(until=b"waits")
            assert b"waits" not in [payload for _, payload in thief.take(until=b"own")]

    def test_the_owner_answers_and_the_board_reads_it(self, site: Site) -> None:
        with owner(site) as writer, device(site, "b01") as board, device(site, "b02") as other:
            for client in (board, other):
                client.subscribe(f"{ROOT}enrol/answer/+")
            assert writer.publish(ANSWER, b"answer") == 0
            assert writer.publish(ANSWER.replace("b01", "b02"), b"other") == 0
            assert board.take(until=b"answer") == [(ANSWER, b"answer")]
            assert [payload for _, payload in other.take(until=b"other")] == [b"other"]

    @pytest.mark.parametrize("topic", [WAITING, ANSWER, ANSWER.replace("b01", "b02")])
    def test_no_device_answers_or_shows(self, site: Site, topic: str) -> None:
        with device(site, "b02") as forger:
            assert forger.publish(topic, b"forged") == DENIED

    @pytest.mark.parametrize(
        "topic",
        ["round", "revoked", "coordinator/status", "device/b01/status", "enrol/waiting/b01"],
    )
    def test_the_owner_speaks_for_nobody_else(self, site: Site, topic: str) -> None:
        with owner(site) as writer:
            assert writer.publish(ROOT + topic, b"forged") == DENIED


class TestDoor:
    def test_a_stranger_asks_and_the_coordinator_hears_it(self, site: Site) -> None:
        with coordinator_at_the_door(site) as reader, stranger(site) as asker:
            reader.subscribe(f"{ROOT}enrol/request/+")
            assert asker.publish(REQUEST, b"please") == 0
            assert reader.take(until=b"please") == [(REQUEST, b"please")]
            asker.subscribe(ANSWER)
            assert reader.publish(ANSWER, b"answer") == 0
            assert asker.take(until=b"answer") == [(ANSWER, b"answer")]

    def test_a_stranger_does_nothing_else(self, site: Site) -> None:
        with stranger(site) as victim, stranger(site, "b01") as liar:
            liar.subscribe(f"{ROOT}#")
            liar.subscribe("#")
            for topic in (ANSWER, WAITING, f"{ROOT}round", f"{ROOT}device/b01/status"):
                assert liar.publish(topic, b"forged") == DENIED
            victim.publish(REQUEST, b"asked")
            with coordinator_at_the_door(site) as writer:
                writer.publish(ANSWER, b"own")
            heard = [payload for _, payload in liar.take(until=b"own")]
            assert b"asked" not in heard

    @pytest.mark.parametrize("user", ["coordinator", "owner", "probe", "b01"])
    @pytest.mark.parametrize("password", [None, "x"], ids=["no password", "a password"])
    def test_what_a_stranger_calls_himself_gives_him_nothing(
        self, site: Site, user: str, password: str | None
    ) -> None:
        liar = stranger(site, "liar")
        liar.calls_itself(user, password)
        with liar, stranger(site) as board, coordinator_at_the_door(site) as reader:
            reader.subscribe(f"{ROOT}enrol/request/+")
            board.subscribe(ANSWER)
            if liar.connected:  # or it was refused, which is as good
                liar.subscribe(f"{ROOT}enrol/request/+")
                assert liar.publish(ANSWER, b"forged") == DENIED
            board.publish(REQUEST, b"asked")
            reader.take(until=b"asked")
            reader.publish(ANSWER, b"answer")
            assert board.take(until=b"answer") == [(ANSWER, b"answer")]
            assert liar.messages == []

    def test_nothing_is_left_behind(self, site: Site) -> None:
        """A retained message ends the connection: else strangers could store them without end."""
        with stranger(site) as liar:
            assert liar.publish(REQUEST, b"kept", retain=True) == -1
            assert liar.losses == 1

    def test_who_sends_too_much_is_thrown_off(self, site: Site) -> None:
        with stranger(site) as liar:
            assert liar.publish(REQUEST, bytes(3_900)) in {0, 16}
            assert liar.publish(REQUEST, bytes(4_200)) == -1

    def test_a_crowd_does_not_keep_the_coordinator_out(self, site: Site) -> None:
        site.restart_enrolment()  # Mosquitto miscounts those whom other tests had thrown off
        with ExitStack() as crowd:
            for number in range(20):
                crowd.enter_context(stranger(site, f"crowd-{number}"))
            with pytest.raises(BrokerError):
                probe(Broker("localhost", site.board_port, site.stranger), "late", persistent=False)
            with coordinator_at_the_door(site) as inside:
                assert inside.connected
        site.wait(lambda: enters(site), "there is room again")

    def test_the_coordinators_door_is_closed_to_strangers(self, site: Site) -> None:
        with pytest.raises(BrokerError) as caught:
            probe(Broker("localhost", site.coordinator_port, site.stranger), "x", persistent=False)
        assert caught.value.name == "broker.certificate-refused"

    def test_a_device_learns_nothing_at_the_coordinators_door(self, site: Site) -> None:
        tls = site.broker("b02").tls
        assert tls is not None
        with Client(site.coordinator_port, tls, "x", V5) as thief, stranger(site) as asker:
            thief.subscribe(f"{ROOT}#")
            assert thief.publish(ANSWER, b"forged") == DENIED
            with coordinator_at_the_door(site) as reader:
                reader.subscribe(f"{ROOT}enrol/request/+")
                asker.publish(REQUEST, b"secret")
                reader.take(until=b"secret")
            assert thief.messages == []

    def test_another_fleets_broker_is_not_believed(self, site: Site, tmp_path: Path) -> None:
        barn = create_fleet(tmp_path / "barn", "greenhouse", ["localhost"])
        tls = nameless_context(barn.ca_file, earliest=LONG_AGO)
        with pytest.raises(BrokerError) as caught:
            probe(Broker("localhost", site.board_port, tls), "x", persistent=False)
        assert caught.value.name == "broker.untrusted"

    def test_a_brokers_certificate_that_ended_before_the_flash_is_not_believed(
        self, site: Site
    ) -> None:
        """Whatever the board's clock says: its owner had it in his hands after that."""
        tls = nameless_context(site.fleet.ca_file, earliest=FAR_AHEAD)
        with pytest.raises(BrokerError, match="expired") as caught:
            probe(Broker("localhost", site.board_port, tls), "x", persistent=False)
        assert caught.value.name == "broker.untrusted"


class TestClientIds:
    """Why the door is a process of its own."""

    @pytest.mark.parametrize("name", ["b01", "coordinator"])
    def test_a_stranger_who_takes_a_name_throws_nobody_off(self, site: Site, name: str) -> None:
        assert not self.thrown_off(site, name, site.board_port)

    @pytest.mark.parametrize("name", ["b01", "coordinator"])
    def test_at_a_second_listener_of_the_fleets_broker_he_would(
        self, shipped_mosquitto: Start, site: Site, tmp_path: Path, name: str
    ) -> None:
        door = site.coordinator_port + 10_000 if site.coordinator_port < 50_000 else 20_000

        def with_second_listener(file: str, text: str) -> str:
            if file != "mosquitto.conf":
                return text
            certificates = "etc/mosquitto/fedring"
            return (
                f"{text}\nlistener {door} 127.0.0.1\ncafile {certificates}/ca.crt\n"
                f"certfile {certificates}/broker.crt\nkeyfile {certificates}/broker.key\n"
                "allow_anonymous true\nacl_file etc/mosquitto/acl\n"
            )

        machine = tmp_path / "machine"
        child, port = shipped_mosquitto(machine, site.fleet.broker_folder, with_second_listener)
        try:
            assert self.thrown_off(site, name, door, port)
        finally:
            child.stop()

    @staticmethod
    def thrown_off(site: Site, name: str, door: int, port: int | None = None) -> bool:
        """Whether a stranger at the door ends the connection of somebody inside."""
        tls = coordinators_tls(site) if name == "coordinator" else site.broker(name).tls
        assert tls is not None
        with Client(port or site.port, tls, name, V3) as victim:
            victim.subscribe(f"{ROOT}device/{name}/inbox/+")
            with Client(door, site.stranger, name, V3) as taker:
                taker.subscribe(f"{ROOT}round")
            victim.publish(f"{ROOT}device/b02/inbox/{name}", b"still there")
            return victim.losses > 0


def enters(site: Site) -> bool:
    try:
        probe(Broker("localhost", site.board_port, site.stranger), "early", persistent=False)
    except BrokerError:
        return False
    return True


def test_strangers_cannot_take_more_of_the_machine_than_this() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(BROKER_CONFIG / "fedring-enrolment.service")
    service = unit["Service"]
    assert (service["LimitNOFILE"], service["MemoryMax"]) == ("128", "128M")
    assert (service["MemorySwapMax"], service["Restart"]) == ("0", "on-failure")
