"""What a device and the coordinator really do to files and sockets, as the kernel saw it.

Both are traced by strace through three rounds. From the device's trace: which files it opened; and
what a power cut would have left of its records at the moments that matter, which is what had been
written *and synced* until then. From both: whether a secret of a round was written anywhere. They
give away what they draw at random, so that we know what to look for.
"""

from __future__ import annotations

import base64
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field, frozen

from fedring.device.store import STORE_FILE
from fedring.lab.brokers import start_broker
from fedring.lab.dump.leaking import leaking, read_draws
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import WAIT_S, Spy
from fedring.shared.envelopes import open_envelope
from fedring.shared.messages import COORDINATOR_NAME, EXCHANGE_KEY_BYTES, Announce, Message, Ready
from fedring.shared.pairwise import RoundKey
from fedring.shared.topics import Inbox, Topics

ROUNDS = 3
TRACED = "b02"
CONNECT, PUBLISH = 1, 3
LEAST_SECRET_BYTES = 16
OPENING = ("open", "openat", "openat2", "creat")
SYNCING = ("fsync", "fdatasync")
WRITING = ("pwrite64", "write")
SENDING = ("sendto",)
OTHERS = ("ftruncate", "execve", "sendmsg", "writev", "pwritev")

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FILE = re.compile(r"(-?\w+)<((?:\\x[0-9a-f]{2})*)>")
_RESULT = re.compile(r"\) += (-?\d+)")


@frozen
class Call:
    """A system call that has returned.

    Attributes:
        name: of the call.
        began: place in the trace where it was entered; `ended` where it returned.
        file: what its first descriptor stands for, or the folder that a path starts from.
        texts: its buffers and paths.
        arguments: all of them, as strace writes them.
        result: what it returned.
    """

    name: str
    began: int
    ended: int
    file: str
    texts: tuple[bytes, ...] = field(repr=False)
    arguments: str = field(repr=False)
    result: int


def read_calls(trace: Path) -> list[Call]:
    """All calls of a trace, in the order in which they returned."""
    calls: list[Call] = []
    entered: dict[str, tuple[int, str]] = {}
    for at, line in enumerate(trace.read_text().splitlines()):
        if (match := _LINE.match(line)) is None:
            continue  # signals and ends of threads
        thread, resumed, name, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            entered[thread] = (at, rest)
            continue
        began, before = entered.pop(thread) if resumed else (at, "")
        whole = before.removesuffix("<unfinished ...>") + rest
        result = _RESULT.search(whole)
        texts = _TEXT.findall(whole)
        assert not any(cut for _, cut in texts), "strace cut a text"
        descriptor = _FILE.search(whole)
        calls.append(
            Call(
                name=resumed or name,
                began=began,
                ended=at,
                file=_plain(descriptor[2]).decode() if descriptor else "",
                texts=tuple(_plain(text) for text, _ in texts),
                arguments=whole,
                result=int(result[1]) if result else -1,
            )
        )
    return calls


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@define
class Disk:
    """Files as a power cut would leave them: with what was synced, and nothing more."""

    written: defaultdict[str, bytearray] = field(factory=lambda: defaultdict(bytearray))
    synced: dict[str, bytes] = field(factory=dict)

    def take(self, call: Call) -> None:
        """See one more call return."""
        name = Path(call.file).name
        if call.result < 0 or not name.startswith(STORE_FILE):
            return
        content = self.written[name]
        if call.name == "pwrite64":
            offset = int(call.arguments.rpartition(",")[2].partition(")")[0])
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + call.result] = call.texts[0][: call.result]
        elif call.name == "ftruncate":
            length = int(call.arguments.rpartition(",")[2].partition(")")[0])
            del content[length:]
        elif call.name in SYNCING:
            self.synced[name] = bytes(content)
        else:
            assert call.name in OPENING, f"{call.name} is not understood here"

    def record(self, folder: Path) -> tuple[int, int, int]:
        """Epoch and round joined, and count of releases, after a power cut at this moment."""
        folder.mkdir()
        for name in (STORE_FILE, f"{STORE_FILE}-wal"):
            if name in self.synced:
                (folder / name).write_bytes(self.synced[name])
        connection = sqlite3.connect(folder / STORE_FILE)
        try:
            query = "SELECT epoch, round, releases FROM device"
            epoch, number, releases = connection.execute(query).fetchone()
        finally:
            connection.close()
        return epoch, number, releases


@frozen
class Published:
    """A packet that went out to the broker; `at` is the place where its first byte did."""

    at: int
    topic: str
    payload: bytes


@frozen
class Sent:
    """A message that went out to the coordinator; `at` as above."""

    at: int
    message: Message


def sent_to_coordinator(calls: list[Call], topics: Topics) -> list[Sent]:
    """What the device published to the coordinator's inbox, in order."""
    return [
        Sent(packet.at, open_envelope(packet.payload).message)
        for packet in published(calls)
        if topics.parse(packet.topic) == Inbox("coordinator", TRACED)
    ]


def published(calls: list[Call]) -> list[Published]:
    """What was published with QoS 1 over connections without TLS, in order."""
    streams: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.name in SENDING and call.result > 0:
            streams[call.file].append(call)
    found: list[Published] = []
    for stream in streams.values():
        data = b"".join(call.texts[0][: call.result] for call in stream)
        if data[0] >> 4 != CONNECT:
            continue  # asyncio wakes itself through a socket of its own
        ends: list[tuple[int, int]] = []
        length = 0
        for call in stream:
            length += call.result
            ends.append((length, call.began))
        for start, kind, body in mqtt_packets(data):
            if kind >> 4 != PUBLISH:
                continue
            # With QoS 1, two bytes of packet identifier stand behind the topic.
            topic_end = 2 + int.from_bytes(body[:2], "big")
            at = next(began for end, began in ends if start < end)
            found.append(Published(at, body[2:topic_end].decode(), body[topic_end + 2 :]))
    return sorted(found, key=lambda packet: packet.at)


def mqtt_packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Place, first byte and body of each packet in a stream to the broker; MQTT 3.1.1, 2.2."""
    at = 0
    while at < len(data):
        start, length, shift = at, 0, 0
        at += 1
        while True:
            length |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        yield start, data[start], data[at : at + length]
        at += length


@frozen
class Writer:
    """Somebody who wrote files, and what must be in none of them.

    Attributes:
        written: all that went into files, logs included.
        secrets: of its rounds.
        round_keys: those of them that are X25519 keys whose public halves were sent.
    """

    written: bytes = field(repr=False)
    secrets: list[bytes] = field(repr=False)
    round_keys: list[bytes] = field(repr=False)

    @classmethod
    def of(cls, calls: list[Call], draws: Path, public_keys: set[bytes]) -> Writer:
        """Read what was traced and drawn."""
        into_files = [
            call
            for call in calls
            if call.name in (*WRITING, "writev", "pwritev")
            and call.file.startswith("/")
            and call.file != str(draws)
        ]
        assert {call.name for call in into_files} <= {*WRITING}, "more is written than is read here"
        written = b"".join(call.texts[0][: max(0, call.result)] for call in into_files)
        secrets = [drawn for drawn in read_draws(draws) if len(drawn) >= LEAST_SECRET_BYTES]
        keys = [drawn for drawn in secrets if _public_half(drawn) in public_keys]
        return cls(written, secrets, keys)


def _public_half(secret: bytes) -> bytes:
    if len(secret) != EXCHANGE_KEY_BYTES:
        return b""
    return RoundKey.generate(lambda _: secret).public


@define
class Traced:
    """A fleet after its rounds, and what one of its devices did; `writers` has the coordinator."""

    fleet: LocalFleet
    calls: list[Call] = field(repr=False)
    sent: list[Sent] = field(repr=False)
    writers: dict[str, Writer] = field(repr=False)

    def firsts(self, kind: str) -> list[Sent]:
        """The first message of a kind in each round: repetitions come after it."""
        rounds: dict[int, Sent] = {}
        for one in self.sent:
            if one.message.kind == kind:
                rounds.setdefault(one.message.round, one)
        return list(rounds.values())

    def disk_at(self, place: int) -> Disk:
        """What was on the disk when the trace was here."""
        disk = Disk()
        for call in self.calls:
            if call.ended < place:
                disk.take(call)
        return disk


def tracing(strace: Path, trace: Path) -> list[str | Path]:
    """What runs a program so that its calls are written to a file."""
    which = ",".join((*OPENING, *SYNCING, *WRITING, *SENDING, *OTHERS))
    # -D: the program is our child, not strace; -y: what a descriptor stands for; -xx: exact bytes.
    options = ["-f", "-D", "-y", "-xx", "-s", "1000000", "-e", f"trace={which}", "-o"]
    return [strace, *options, trace]


@pytest.fixture(scope="module")
def traced(strace: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder, aside = tmp_path_factory.mktemp("traces"), tmp_path_factory.mktemp("aside")
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address, coordinator={"training": {"rounds": ROUNDS}}) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        for name in (TRACED, COORDINATOR_NAME):
            under = tracing(strace, aside / f"{name}.trace")
            fleet.under[name] = [*under, *leaking(aside / f"{name}.draws")]
        fleet.start()
        spy.status("coordinator", 0, state="finished")
        spy.status(TRACED, 0, model_version=ROUNDS)
    deadline = time.monotonic() + WAIT_S
    calls = {}
    for name in (TRACED, COORDINATOR_NAME):
        trace = aside / f"{name}.trace"
        while "+++ exited with" not in trace.read_text().splitlines()[-1]:
            assert time.monotonic() < deadline, "strace has not written its last line"
            time.sleep(0.05)
        calls[name] = read_calls(trace)
    messages = [heard.message for heard in spy.heard]
    public_keys = {
        message.exchange_key if isinstance(message, Announce) else message.round_key
        for message in messages
        if isinstance(message, Announce | Ready)
    }
    writers = {name: Writer.of(calls[name], aside / f"{name}.draws", public_keys) for name in calls}
    return Traced(fleet, calls[TRACED], sent_to_coordinator(calls[TRACED], fleet.topics), writers)


def test_a_device_opens_its_own_data_and_nobody_elses(traced: Traced) -> None:
    fleet = traced.fleet
    opened = [
        (call.began, Path(call.file if len(call.texts) > 1 else "/", call.texts[-1].decode()))
        for call in traced.calls
        if call.name in OPENING
    ]
    own_data = fleet.data_file(TRACED)
    own_folder = fleet.authority.device_folder(TRACED)
    within_fleet = {path for _, path in opened if path.is_relative_to(fleet.folder)}
    foreign = {path for path in within_fleet if not path.is_relative_to(own_folder)}
    assert foreign == {own_data}

    places = [one.at for one in traced.firsts("ready")]
    assert len(places) == ROUNDS
    for before, after in zip([0, *places], places, strict=False):
        read = {path for at, path in opened if before < at < after}
        assert own_data in read, "it was not read for this round: the trace would show nothing"


def test_joined_is_on_the_disk_before_ready_leaves(traced: Traced, tmp_path: Path) -> None:
    readies = traced.firsts("ready")
    assert len(readies) == ROUNDS
    for ready in readies:
        disk = traced.disk_at(ready.at)
        epoch, number, _ = disk.record(tmp_path / str(ready.at))
        assert (epoch, number) == (ready.message.epoch, ready.message.round)


def test_the_count_of_releases_is_on_the_disk_before_a_release_leaves(
    traced: Traced, tmp_path: Path
) -> None:
    releases = traced.firsts("release")
    assert len(releases) == ROUNDS
    for count, release in enumerate(releases, start=1):
        disk = traced.disk_at(release.at)
        assert disk.record(tmp_path / str(release.at))[2] == count


def test_no_secret_of_a_device_is_written_anywhere(traced: Traced) -> None:
    writer = traced.writers[TRACED]
    assert len(writer.round_keys) == ROUNDS
    assert b"released" in writer.written, "not even its log was traced"
    assert [one for one in writer.secrets if is_in(one, writer.written)] == []


def test_no_exchange_key_of_the_coordinator_is_written_anywhere(traced: Traced) -> None:
    """What else it draws is its Paillier key, which lies on its disk for an epoch."""
    writer = traced.writers[COORDINATOR_NAME]
    assert len(writer.round_keys) == ROUNDS
    assert b"ring closed" in writer.written, "not even its log was traced"
    assert [one for one in writer.round_keys if is_in(one, writer.written)] == []


def is_in(secret: bytes, written: bytes) -> bool:
    """Whether it was written, as it is or in a usual spelling."""
    spellings = (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="))
    return any(spelling in written for spelling in spellings)


@pytest.mark.parametrize("spell", [bytes, bytes.hex, base64.b64encode])
def test_a_secret_that_is_written_would_be_found(spell: Callable[[bytes], bytes | str]) -> None:
    secret = bytes(range(32))
    spelt = spell(secret)
    written = spelt.encode() if isinstance(spelt, str) else spelt
    assert is_in(secret, b"key=" + written + b"\n")
    assert not is_in(secret, b"key=" + written[:-4] + b"\n")


def test_the_trace_can_tell_a_write_from_a_sync(traced: Traced, tmp_path: Path) -> None:
    """Just before its last sync, a record is written but would not survive."""
    ready = traced.firsts("ready")[-1]
    syncs = [
        call.ended
        for call in traced.calls
        if call.name in SYNCING and call.file.endswith("-wal") and call.ended < ready.at
    ]
    _, number, _ = traced.disk_at(syncs[-1]).record(tmp_path / "before")
    assert number == ready.message.round - 1
