"""What a demo counts, and what it makes of it: report, curve, picture, wishes and settings."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fedring.coordinator.settings import CoordinatorSettings
from fedring.device.settings import DeviceSettings
from fedring.lab.demo.cli import command
from fedring.lab.demo.curve import blocks
from fedring.lab.demo.observer import Story
from fedring.lab.demo.picture import draw
from fedring.lab.demo.report import Report
from fedring.lab.demo.scenario import write_files
from fedring.lab.demo.wishes import PEOPLE, Wishes
from fedring.shared.broker import Broker
from fedring.shared.litert import SHIPPED
from fedring.shared.samples import read_samples
from fedring.shared.topics import Topics

TOPICS = Topics("demo-1")
SECONDS = {"ready": 2.0, "rings": 1.0, "opening": 0.5, "total": 3.5}


class Fleet:
    """Tells a story as a fleet would."""

    def __init__(self) -> None:
        self.story = Story(TOPICS)

    def publish(self, topic: str, payload: bytes) -> None:
        news = self.story.view.receive(topic, payload)
        if news is not None:
            self.story.note(news)
        self.story.count(topic, payload)

    def tell(self, topic: str, **fields: Any) -> int:
        payload = json.dumps(fields).encode()
        self.publish(topic, payload)
        return len(payload)

    def announce(self, round_: int) -> None:
        self.tell(TOPICS.coordinator_status, state="announced", round=round_)

    def bytes(self, n_bytes: int) -> None:
        self.publish(TOPICS.inbox("b01", "b02"), bytes(n_bytes))

    def result(
        self,
        version: int,
        round_: int,
        *,
        task: str = "train",
        accuracy: float = 0.5,
        void: int = 0,
    ) -> int:
        return self.tell(
            TOPICS.history(version),
            version=version,
            task=task,
            round=round_,
            contributors=24 - 12 * void,
            void_rings=[{"ring": 1, "reason": "a release is missing"}] * void,
            metrics={"accuracy": accuracy, "macro_f1": accuracy - 0.01},
            seconds=SECONDS,
        )


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.tell(TOPICS.history(0), version=0, task="initial", round=0)
    fleet.announce(1)
    fleet.bytes(1_000)
    fleet.result(1, 1, task="statistics", accuracy=0.2)
    return fleet


def report_of(fleet: Fleet, **fields: Any) -> Report:
    return Report(
        wishes=Wishes(),
        broker="a broker",
        rounds=fleet.story.training_rounds,
        untrained=fleet.story.untrained,
        first_result_s=20.04,
        total_s=80.0,
        **fields,
    )


# Counting


def test_bytes_belong_to_the_round_that_runs(fleet: Fleet) -> None:
    for number in (2, 3):
        fleet.announce(number)
        fleet.bytes(100 * number)
        fleet.publish(TOPICS.model_chunk(bytes(32), 0), b"chunk")
        history = fleet.result(number, number)
    fleet.publish("fedring/other/topic", b"12")
    first, second = fleet.story.training_rounds
    assert [first.number, second.number] == [1, 2]
    assert first.bytes["inbox"] == 200
    assert second.bytes["inbox"] == 300
    assert second.bytes["model"] == 5
    assert second.bytes["history"] == history
    assert second.bytes["other"] == 2
    assert sum(first.bytes.values()) < 1_000, "the round of statistics is none of training"


def test_void_rounds_count_for_the_next_that_gives_a_model(fleet: Fleet) -> None:
    fleet.announce(2)
    fleet.bytes(10)
    fleet.tell(TOPICS.event, event="ring void", round=2, ring=1)
    fleet.tell(TOPICS.event, event="ring void", round=2, ring=2)
    fleet.announce(3)
    fleet.bytes(100)
    fleet.tell(TOPICS.event, event="ring void", round=3, ring=1)
    fleet.result(2, 3, void=1)
    fleet.announce(4)
    fleet.result(3, 4)
    first, second = fleet.story.training_rounds
    assert (first.number, first.version.round, first.void_rings) == (1, 3, 3)
    assert first.bytes["inbox"] == 110
    assert (second.number, second.void_rings) == (2, 0)


def test_what_the_broker_retains_is_known(fleet: Fleet) -> None:
    fleet.publish(TOPICS.round, b"announce")
    fleet.publish(TOPICS.inbox("b01", "b02"), b"gone at once")
    fleet.publish(TOPICS.history(0), b"")
    assert fleet.story.retained == {TOPICS.coordinator_status, TOPICS.history(1), TOPICS.round}


# Report


def test_the_report_has_an_entry_for_each_training_round(fleet: Fleet, tmp_path: Path) -> None:
    for number in (1, 2):
        fleet.announce(number + 1)
        fleet.bytes(7)
        fleet.result(number + 1, number + 1, accuracy=0.6 + number / 5)
    file = tmp_path / "report.json"
    report_of(fleet, lost={"person-02": "been ended by signal 9"}).write(file)
    told = json.loads(file.read_text())
    (one, two) = told["rounds"]
    assert one.pop("bytes")["inbox"] == 7
    assert one == {
        "round": 1,
        "protocol_round": 2,
        "version": 2,
        "contributors": 24,
        "void_rings": 0,
        "accuracy": 0.8,
        "macro_f1": pytest.approx(0.79),
        "loss": None,
        "fleet_accuracy": None,
        "seconds": SECONDS,
    }
    assert two["accuracy"] == 1.0
    assert told["untrained"]["accuracy"] == 0.2
    assert told["settings"]["threshold"] == 7, "the one in force, also where none was asked for"
    assert told["seconds"] == {"first_result": 20.0, "total": 80.0}
    assert told["lost_devices"] == {"person-02": "been ended by signal 9"}
    assert {"python", "fedring"} <= told["versions"].keys()


def test_the_summary_tells_it_in_words(fleet: Fleet) -> None:
    fleet.announce(2)
    fleet.bytes(1_500_000)
    fleet.result(2, 2, accuracy=0.843, void=1)
    told = list(report_of(fleet, lost={"person-02": "been ended by signal 9"}).summary())
    assert told == [
        "People who never took part: 84.3 % of their movements recognised.",
        "Before training it was 20.0 %; macro F1 is 83.3 % now.",
        "1 round, 12 contributors each, 1 void ring.",
        "A round took 3.5 s (training 2.0, rings 1.0, opening the sum 0.5) and 1.5 MB on the"
        " broker.",
        "First result after 20 s, the last after 80 s.",
        "person-02 has been ended by signal 9; the others went on.",
    ]


# Pictures


def test_a_curve_of_blocks() -> None:
    assert blocks([0.0, 0.25, 0.5, 1.0], width=14, height=4).splitlines() == [
        "100 %       ██",
        " 75 %       ██",
        " 50 %     ████",
        " 25 %   ██████",
    ]


def test_a_long_curve_fits_and_ends_with_the_last_value() -> None:
    lines = blocks([0.2] * 999 + [1.0], width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 8
    assert lines[0].endswith("█")
    assert lines[0].count("█") == 1


def test_values_beyond_the_scale_do_not_leave_it() -> None:
    assert blocks([-1.0, 2.0], width=14, height=4).splitlines()[0] == "100 %     ████"


def test_a_picture_is_drawn(fleet: Fleet, tmp_path: Path) -> None:
    for number in (2, 3, 4):
        fleet.announce(number)
        fleet.result(number, number, accuracy=number / 5)
    file = tmp_path / "curve.png"
    report = report_of(fleet)
    assert report.curve("accuracy") == [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8)]
    draw(report, file)
    start = file.read_bytes()[:24]
    assert start.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", start[16:])
    assert width > height > 500


def test_a_picture_without_any_accuracy(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.tell(TOPICS.history(1), version=1, task="train", round=1, contributors=3)
    draw(report_of(fleet), tmp_path / "curve.png")
    assert "-" in next(report_of(fleet).summary())


# Wishes


@pytest.mark.parametrize(
    ("devices", "ring_size", "n_rings", "smallest", "threshold"),
    [
        (24, 12, 2, 12, 7),
        (16, 8, 2, 8, 7),
        (24, 8, 3, 8, 7),
        (20, 8, 3, 6, 5),
        (8, 12, 1, 8, 3),
        (3, 12, 1, 3, 2),
        (2, 2, 1, 2, 1),
    ],
)
def test_a_threshold_that_fits(
    devices: int, ring_size: int, n_rings: int, smallest: int, threshold: int
) -> None:
    wishes = Wishes(devices=devices, ring_size=ring_size)
    assert (wishes.n_rings, wishes.smallest_ring) == (n_rings, smallest)
    assert wishes.effective_threshold == threshold
    assert wishes.contradiction() is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--devices", "25"], "the data has 24 people for devices; the other people are held out"),
        (["--threshold", "12"], "rings of 12 cannot give sums of more than 12 contributors"),
        (["--devices", "6", "--threshold", "6"], "at most 5"),
        (["--devices", "1"], "1 is not in the range x>=2"),
        (["--suite", "none"], "'none' is not"),
        (["--litert", "--model", "softmax"], "there is no .tflite file of the softmax"),
    ],
)
def test_wishes_that_cannot_be_granted(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(command, arguments)
    assert shown.exit_code == 2
    assert told in shown.output
    assert list(tmp_path.iterdir()) == [], "nothing is written before the wishes are clear"


# Files


@pytest.mark.parametrize("model", ["mlp", "softmax"])
def test_the_files_are_those_of_a_fleet(model: str, tmp_path: Path) -> None:
    wishes = Wishes(devices=3, rounds=4, ring_size=3, model=model, seed=5)
    files = write_files(tmp_path, wishes, Broker("127.0.0.1", 4321))
    coordinator = CoordinatorSettings.load(files.coordinator)
    assert coordinator.training.rounds == 4
    assert (coordinator.ring.size, coordinator.ring.min_devices) == (3, 3)
    assert (coordinator.broker.port, coordinator.broker.tls) == (4321, False)
    assert coordinator.evaluation is not None
    assert coordinator.fleet.revoked is not None
    assert len(files.devices) == 3
    features, classes = coordinator.model.features, coordinator.model.classes
    for person, (name, file) in zip(PEOPLE, files.devices.items(), strict=False):
        assert name.startswith(f"person-{person:02d}-")
        device = DeviceSettings.load(file)
        assert (device.privacy.threshold, device.training.seed) == (2, 5)
        own = file.parent
        assert device.data.file is not None
        for used in (device.fleet.key, device.data.file, device.state.folder):
            assert used.parent == own, "a device has all it needs in a folder of its own"
        assert len(read_samples(device.data.file, features, classes)) > 200
    held_out = read_samples(coordinator.evaluation.file, features, classes)
    assert len(held_out) > 1_500
    assert sorted(tmp_path.glob("**/*.npz")) == sorted(
        [
            coordinator.evaluation.file,
            *(file.parent / "data.npz" for file in files.devices.values()),
        ]
    ), "nobody's data lies about"


def test_every_other_device_computes_by_litert_where_wished(tmp_path: Path) -> None:
    wishes = Wishes(devices=4, ring_size=4, litert=True)
    files = write_files(tmp_path, wishes, Broker("127.0.0.1", 4321))
    named = [DeviceSettings.load(file).training.litert for file in files.devices.values()]
    assert named == [None, SHIPPED["hapt-dense"]] * 2


def test_a_ring_of_one_is_the_ring_sizes_fault() -> None:
    contradiction = Wishes(devices=3, ring_size=2).contradiction()
    assert contradiction is not None
    assert contradiction[0] == "ring-size"


def test_the_story_keeps_versions_that_the_broker_holds_no_longer(fleet: Fleet) -> None:
    fleet.result(2, 2)
    known = (fleet.story.untrained, fleet.story.training_rounds)
    for version in (0, 1, 2):
        fleet.publish(TOPICS.history(version), b"")
    assert (fleet.story.untrained, fleet.story.training_rounds) == known
