"""Everything that went over a real broker, and the secrets of all but one: what can be read of it.

All parts of the fleet are processes that write down what they draw at random; the adversary is
given the draws of some. Afterwards the same devices meet a coordinator that lies, and a neighbour
that floods them.
"""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import phe
import psutil
import pytest
from attrs import evolve, frozen
from click.testing import CliRunner
from paho.mqtt.enums import CallbackAPIVersion

from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.dump import (
    Evidence,
    Finding,
    Knowledge,
    Participant,
    breaks,
    own_values,
    promised,
    recover,
)
from fedring.lab.dump.__main__ import command
from fedring.lab.dump.leaking import leaking, read_draws
from fedring.lab.dump.recording import load, save
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Heard, Spy
from fedring.shared.broker import Broker
from fedring.shared.encryption.keyfile import load_key
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.identity import Identity
from fedring.shared.messages import (
    COORDINATOR_NAME,
    COORDINATOR_NUMBER,
    Announce,
    Chunk,
    Hop,
    Lap,
    List,
    Message,
    Ready,
    Release,
    RingTerms,
    Roster,
    Taken,
    tag,
)
from fedring.shared.pairwise import RoundKey

NAMES = ("b01", "b02", "b03", "b04", "b05")
FLOOD = 3_000
MAX_GROWTH_BYTES = 16 * 2**20


@frozen
class Stage:
    """A fleet that has learned for two rounds of five and one of four, and what was overheard.

    Attributes:
        fleet: its devices still run.
        broker: where it talks.
        spy: goes on listening.
        recording: of the three rounds, out of a file.
        key: the coordinator's Paillier key.
    """

    fleet: LocalFleet
    broker: LocalBroker
    spy: Spy
    recording: Sequence[Heard]
    key: phe.PaillierPrivateKey

    def knows(self, *devices: str, coordinator: bool = True) -> Knowledge:
        """Secrets of some devices, and of the coordinator."""
        draws = {number_of(name): read_draws(self.draws(name)) for name in devices}
        if not coordinator:
            return Knowledge(None, draws)
        return Knowledge(self.key, draws | {0: read_draws(self.draws(COORDINATOR_NAME))})

    def draws(self, name: str) -> Path:
        return draws_file(self.fleet, name)


def number_of(name: str) -> int:
    return int(name[1:])


def draws_file(fleet: LocalFleet, name: str) -> Path:
    return fleet.folder / f"{name}.draws"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("dump")
    ring = {"ring": {"size": 5, "min_devices": 5, "patience_s": 2, "release_s": 10}}
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address, 5, coordinator=ring) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        for name in (COORDINATOR_NAME, *NAMES):
            fleet.under[name] = leaking(draws_file(fleet, name))
        fleet.start()
        first = spy.event("model published", 0, contributors=5)
        second = spy.event("model published", spy.heard.index(first) + 1, contributors=5)
        fleet.devices["b05"].kill()
        spy.event("model published", spy.heard.index(second) + 1, contributors=4)
        assert fleet.coordinator is not None
        fleet.coordinator.stop()
        fleet.coordinator = None
        save(spy.heard, folder / "recording")
        key = load_key(fleet.coordinator_state / "paillier-1.key")
        yield Stage(fleet, broker, spy, load(folder / "recording"), key)


@pytest.fixture(scope="module")
def seen(stage: Stage) -> Evidence:
    return Evidence.of(heard.payload for heard in stage.recording)


def sums(findings: Sequence[Finding]) -> set[tuple[int, ...]]:
    return {tuple(finding.numbers) for finding in findings}


@pytest.mark.parametrize("n_friends", [0, 3])
def test_a_coordinator_and_some_contributors_read_sums_over_the_others(
    stage: Stage, seen: Evidence, n_friends: int
) -> None:
    known = stage.knows(*NAMES[:n_friends])
    findings = recover(seen, known)
    assert breaks(findings, promised(seen, known)) == []
    numbers = tuple(range(n_friends + 1, 6))
    assert sums(findings) <= {numbers, numbers[:-1]}
    assert numbers in sums(findings)
    for finding in findings:
        of_one_round = len({one.round for one, _ in finding.combination}) == 1
        assert of_one_round == (finding.values is not None)


def test_with_all_but_one_in_on_it_that_one_is_read(stage: Stage, seen: Evidence) -> None:
    """So that the one above can fail."""
    known = stage.knows("b01", "b02", "b04", "b05")
    read = {
        finding.combination: finding.values
        for finding in recover(seen, known)
        if len(finding.combination) == 1 and finding.values is not None
    }
    rounds: list[Participant] = [one for one in seen.participants if one.number == 3]
    assert len(read) >= 3
    for participant in rounds:
        truth = own_values(seen, stage.knows("b03"), participant)
        found = read.get(frozenset({(participant, 1)}))
        if found is not None:
            assert truth is not None
            assert found.tolist() == truth.tolist()


def test_the_tool_says_what_it_has_read(stage: Stage) -> None:
    arguments: list[str | Path] = [stage.fleet.folder / "recording"]
    arguments += ["--key", stage.fleet.coordinator_state / "paillier-1.key"]
    for number, name in ((0, COORDINATOR_NAME), (1, "b01"), (2, "b02"), (4, "b04"), (5, "b05")):
        arguments += ["--draws", str(number), stage.draws(name)]
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "releases: +1x3, " in result.output
    assert ", 0 of them beyond the promise" in result.output


@pytest.mark.parametrize("devices", [(), ("b01", "b02", "b04", "b05")], ids=["none", "all but one"])
def test_devices_without_the_coordinator_read_nothing(
    stage: Stage, seen: Evidence, devices: tuple[str, ...]
) -> None:
    assert recover(seen, stage.knows(*devices, coordinator=False)) == []


# -- a coordinator that lies to real devices ---------------------------------------------------


def announces_in(heard: Sequence[Heard]) -> list[Announce]:
    messages = [one.message for one in heard]
    return [message for message in messages if isinstance(message, Announce)]


class Pretender:
    """The coordinator's identity in the hands of a test, while its process is stopped.

    Args:
        stage: whom it talks to.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        folder = stage.fleet.authority.coordinator_folder
        self.identity = Identity.load(folder / "coordinator.key", folder / "coordinator.crt")
        self.drawn: list[bytes] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        broker: Broker = stage.broker.address
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def __enter__(self) -> "Pretender":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.loop_stop()
        self.client.disconnect()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(60.0)

    def announces(self, ring: RingTerms | None = None) -> Signed[Announce]:
        """The next round, like those before but for the terms of its rings."""
        honest = announces_in(self.stage.recording)[-1]
        newest = max(message.round for message in announces_in(self.stage.spy.heard))
        self.drawn.append(random.randbytes(32))
        key = RoundKey.generate(lambda _: self.drawn[-1])
        message = evolve(
            honest, round=newest + 1, exchange_key=key.public, ring=ring or honest.ring
        )
        announce = sign(message, self.identity)
        self.publish(self.stage.fleet.topics.round, announce.raw, retain=True)
        return announce

    def readies(self, announce: Signed[Announce], *names: str) -> list[bytes]:
        """What these devices answer, once they do."""

        def answers(name: str, heard: Heard) -> bool:
            message = heard.message
            return (
                isinstance(message, Ready)
                and message.announce == announce.digest
                and (message.sender == number_of(name))
            )

        spy = self.stage.spy
        return [
            spy.first(lambda heard, name=name: answers(name, heard), 0).payload  # type: ignore[misc]
            for name in names
        ]

    def says(self, message: Message, *to: str) -> Signed[Any]:
        signed = sign(message, self.identity)
        for name in to:
            self.publish(self.stage.fleet.topics.inbox(name, COORDINATOR_NAME), signed.raw)
        return signed

    def header(self, announce: Signed[Announce]) -> dict[str, Any]:
        message = announce.message
        return tag(message.fleet, message.epoch, message.round, COORDINATOR_NUMBER)

    def roster(
        self, announce: Signed[Announce], readies: Sequence[bytes], *to: str, ring: int = 1
    ) -> Signed[Roster]:
        roster = Roster(
            **self.header(announce), announce=announce.digest, ring=ring, readies=tuple(readies)
        )
        return self.says(roster, *to)

    def gathers(self, announce: Signed[Announce], roster: Signed[Any], *to: str) -> None:
        """Each starts a token of its own."""
        since = self.stage.spy.now
        for name in to:
            lap = Lap(
                **self.header(announce), roster=roster.digest, lap=1, order=(number_of(name),)
            )
            self.says(lap, name)
        for name in to:
            self.stage.spy.letter("chunk", since, sender=name, receiver=COORDINATOR_NAME)

    def asks(
        self, announce: Signed[Announce], roster: Signed[Any], names: Sequence[int], *to: str
    ) -> None:
        self.says(List(**self.header(announce), roster=roster.digest, names=tuple(names)), *to)

    def findings(self, *friends: str) -> tuple[list[Finding], list[Finding]]:
        """All that can be read of what was heard from the beginning, and what breaks a promise."""
        flood = "device/b01/inbox/b05"
        payloads = (one.payload for one in self.stage.spy.heard if one.topic != flood)
        evidence = Evidence.of(payloads)
        known = self.stage.knows(*friends)
        known = Knowledge(known.private_key, {**known.draws, 0: [*known.draws[0], *self.drawn]})
        found = recover(evidence, known)
        return found, breaks(found, promised(evidence, known))


@pytest.fixture
def liar(stage: Stage) -> Iterator[Pretender]:
    with Pretender(stage) as pretender:
        yield pretender


def refused(stage: Stage, name: str, since: int, reason: str) -> None:
    """A device says on its status topic why it does not go along, and tells the coordinator."""
    stage.spy.status(name, since, state="refused", reason=reason)
    answer = stage.spy.letter("refused", since, sender=name, receiver=COORDINATOR_NAME)
    assert getattr(answer.message, "reason", "") == reason


def test_real_devices_do_not_go_along_with_lies(stage: Stage, liar: Pretender) -> None:
    since = stage.spy.now
    liar.announces(evolve(announces_in(stage.recording)[-1].ring, size=2))
    for name in NAMES[:4]:
        refused(stage, name, since, "rings have 2 members, this device answers above 2")

    since = stage.spy.now
    announce = liar.announces()
    readies = liar.readies(announce, *NAMES[:4])
    liar.roster(announce, readies[:2], "b01")
    refused(stage, "b01", since, "ring of 2, this device answers above 2")
    roster = liar.roster(announce, readies[1:], "b02", "b03", "b04")
    liar.gathers(announce, roster, "b02", "b03", "b04")
    liar.asks(announce, roster, (2, 3), "b02")
    refused(stage, "b02", since, "2 contributors, this device answers above 2")
    liar.asks(announce, roster, (2, 3, 4), "b03")
    stage.spy.letter("release", since, sender="b03", receiver=COORDINATOR_NAME)
    since = stage.spy.now
    other = liar.roster(announce, readies, "b03", "b04", ring=2)
    liar.asks(announce, roster, (3, 4), "b03")
    liar.asks(announce, other, (1, 2, 3, 4), "b03")
    for reason in ("a second roster in one round", "a second list in one round"):
        stage.spy.first(
            lambda heard, why=reason: getattr(heard.message, "reason", "") == why,  # type: ignore[misc]
            since,
        )
    found, broken = liar.findings("b04")
    mine = [f for f in found if any(one.announce == announce.digest for one, _ in f.combination)]
    assert mine == broken == []


def test_a_real_device_takes_a_flood_and_goes_on(stage: Stage, liar: Pretender) -> None:
    """Device 5 is in the test's hands: a member like the others, with too much to say."""
    folder = stage.fleet.authority.device_folder("b05")
    hostile = Identity.load(folder / "device.key", folder / "device.crt")
    announce = liar.announces()
    readies = liar.readies(announce, *NAMES[:4])
    mine = evolve(
        open_ready(readies[0]),
        sender=5,
        certificate=hostile.certificate,
        round_key=RoundKey.generate(random.randbytes).public,
    )
    roster = liar.roster(announce, [*readies, sign(mine, hostile).raw], *NAMES[:4])
    liar.gathers(announce, roster, *NAMES[:4])
    board = psutil.Process(stage.fleet.devices["b01"].pid)
    before = board.memory_info().rss
    topic = stage.fleet.topics.inbox("b01", "b05")
    header = {**liar.header(announce), "sender": 5}
    lap = Lap(**liar.header(announce), roster=roster.digest, lap=2, order=(5, 1))
    raw = sign(lap, liar.identity).raw
    for number in range(FLOOD):
        about = random.randbytes(32)
        message: Message = [
            Hop(**header, lap=raw, names=(5,), size=1 + number),
            Chunk(**header, hop=about, index=number, data=bytes(2000)),
            Taken(**header, about=about),
            Lap(**header, roster=roster.digest, lap=3, order=(5, 1)),
        ][number % 4]
        payload = sign(message, hostile).raw if number % 5 else random.randbytes(500)
        sent = liar.client.publish(topic, payload, qos=1)
        if number % 200 == 0:
            sent.wait_for_publish(60.0)
    since = stage.spy.now
    missing = set(NAMES[:4])
    for _ in range(60):  # what stands behind a flood the broker may drop; coordinators repeat it
        liar.asks(announce, roster, (1, 2, 3, 4), *missing)
        time.sleep(0.5)
        missing -= {
            heard.topic.rpartition("/")[2]
            for heard in stage.spy.heard[since:]
            if heard.topic.startswith("coordinator/inbox/") and isinstance(heard.message, Release)
        }
        if not missing:
            break
    assert missing == set()
    assert board.memory_info().rss < before + MAX_GROWTH_BYTES
    found, broken = liar.findings()
    whole = [
        f.numbers for f in found if {o.announce for o, _ in f.combination} == {announce.digest}
    ]
    assert whole == [{1: 1, 2: 1, 3: 1, 4: 1}]
    assert broken == []


def open_ready(raw: bytes) -> Ready:
    message = open_envelope(raw).message
    assert isinstance(message, Ready)
    return message
