"""The view of a fleet: what public topics tell, however hostile they are."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from time import tzset
from typing import Any

import pytest
from attrs import fields as fields_of
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedring.fleet.authority import create_fleet
from fedring.fleet.hearsay import MAX_ENTRIES, MAX_PAYLOAD_BYTES, MAX_TEXT, Hearsay, clean
from fedring.fleet.screen import N_ROUNDS, dashboard, news_line
from fedring.fleet.view import (
    MAX_DEVICES,
    MAX_EVENTS,
    MAX_VERSIONS,
    CoordinatorView,
    DeviceView,
    EventView,
    FleetView,
    VersionView,
    facts,
)
from fedring.fleet.watch import command
from fedring.shared.errors import CertificateError
from fedring.shared.topics import LAYOUT, Topics

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOPICS = Topics("greenhouse")
PUBLIC = [
    TOPICS.coordinator_status,
    TOPICS.device_status("b01"),
    TOPICS.history(3),
    TOPICS.event,
]


@pytest.fixture
def view() -> FleetView:
    return FleetView(TOPICS)


def tell(view: FleetView, topic: str, **fields: Any) -> Any:
    return view.receive(topic, json.dumps(fields).encode())


def drawn(view: FleetView, *, width: int = 100, height: int = 30) -> str:
    """The dashboard as a terminal would get it."""
    screen = StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system="truecolor")
    console.print(dashboard(view, NOW, height))
    return screen.getvalue()


def page(view: FleetView, height: int = 30) -> str:
    """The dashboard without colours."""
    screen = StringIO()
    Console(file=screen, width=100, color_system=None).print(dashboard(view, NOW, height))
    return screen.getvalue()


# What is told


def test_a_round_as_its_topics_tell_it(view: FleetView) -> None:
    since = (NOW - timedelta(seconds=90)).isoformat()
    coordinator = tell(
        view,
        TOPICS.coordinator_status,
        state="rings",
        fleet="greenhouse",
        epoch=1,
        round=8,
        task="train",
        version=7,
        rounds_done=6,
        rounds_planned=20,
        devices={"online": 3, "in ring": 2},
        rings={"1": "lap"},
        since=since,
        note="",
    )
    assert coordinator == CoordinatorView(
        state="rings",
        epoch=1,
        round=8,
        task="train",
        version=7,
        rounds_done=6,
        rounds_planned=20,
        devices={"online": 3, "in ring": 2},
        rings={"1": "lap"},
        since=NOW - timedelta(seconds=90),
    )
    device = tell(
        view,
        TOPICS.device_status("b01"),
        state="refused",
        number=4,
        epoch=1,
        round=8,
        reason="4 contributors, this device answers above 5",
        agent="0.1.0",
        model_version=7,
        since=since,
    )
    assert device == DeviceView(
        name="b01",
        state="refused",
        number=4,
        round=8,
        reason="4 contributors, this device answers above 5",
        agent="0.1.0",
        model_version=7,
        since=NOW - timedelta(seconds=90),
    )
    version = tell(
        view,
        TOPICS.history(7),
        version=7,
        parent=6,
        task="train",
        epoch=1,
        round=7,
        contributors=22,
        rings=2,
        void_rings=[{"ring": 2, "reason": "a release is missing"}],
        metrics={"accuracy": 0.8361, "macro_f1": 0.83, "clipped": 3},
        seconds={"ready": 2.1, "total": 3.5},
    )
    assert version == VersionView(
        version=7,
        parent=6,
        task="train",
        epoch=1,
        round=7,
        contributors=22,
        rings=2,
        void_rings=("a release is missing",),
        metrics={"accuracy": 0.8361, "macro_f1": 0.83, "clipped": 3.0},
        seconds={"ready": 2.1, "total": 3.5},
    )
    event = tell(
        view,
        TOPICS.event,
        event="ring formed",
        time="2026-03-01T11:59:00+00:00",
        epoch=1,
        round=8,
        ring=1,
        members=[3, 4, 9],
    )
    assert event == EventView(
        event="ring formed",
        time=NOW - timedelta(minutes=1),
        epoch=1,
        round=8,
        facts={"ring": 1.0, "members": "3 4 9"},
    )
    shown = page(view)
    for words in (
        "greenhouse  rings 90 s  6 of 20 rounds done  model 7  train round 8",
        "ring 1: lap",
        "4 contributors, this device answers above 5",
        "83.6 %",
        "ring formed  ring 1  members 3 4 9",
    ):
        assert words in shown


def test_the_newest_word_counts_and_an_empty_one_takes_it_back(view: FleetView) -> None:
    tell(view, TOPICS.device_status("b01"), state="idle")
    tell(view, TOPICS.device_status("b02"), state="idle")
    tell(view, TOPICS.device_status("b01"), state="offline")
    assert view.states == {"offline": 1, "idle": 1}
    tell(view, TOPICS.history(1), version=1, task="train")
    tell(view, TOPICS.coordinator_status, state="waiting")
    for topic in (TOPICS.device_status("b01"), TOPICS.history(1), TOPICS.coordinator_status):
        assert view.receive(topic, b"") is None
    assert list(view.devices) == ["b02"]
    assert view.coordinator is None
    assert view.versions == {}


def test_training_rounds_are_told_from_other_versions(view: FleetView) -> None:
    for number, task in ((3, "train"), (0, "initial"), (1, "statistics"), (2, "train")):
        tell(view, TOPICS.history(number), version=number, task=task)
    assert [version.version for version in view.training] == [2, 3]


def test_the_topic_says_which_version_and_device_is_meant(view: FleetView) -> None:
    tell(view, TOPICS.history(3), version=99)
    tell(view, TOPICS.device_status("b01"), name="b02")
    assert view.versions == {}, "not in its place"
    assert view.devices["b01"].name == "b01"


def test_only_public_topics_of_the_fleet_are_asked_for_and_read(view: FleetView) -> None:
    assert FleetView.filters(TOPICS) == [
        "fedring/greenhouse/coordinator/status",
        "fedring/greenhouse/device/+/status",
        "fedring/greenhouse/history/+",
        "fedring/greenhouse/event",
    ]
    for topic in (
        TOPICS.round,
        TOPICS.inbox("b01", "b02"),
        Topics("orchard").device_status("b01"),
        "fedring/greenhouse/device/b01/inbox",
        "nonsense",
    ):
        assert tell(view, topic, state="idle") is None
    assert view.devices == {}


def test_all_of_it_as_json(view: FleetView) -> None:
    tell(view, TOPICS.coordinator_status, state="waiting", since=NOW.isoformat())
    tell(view, TOPICS.device_status("b02"), state="idle")
    tell(view, TOPICS.device_status("b01"), state="idle")
    told = json.loads(json.dumps(view.as_dict()))
    assert told["fleet"] == "greenhouse"
    assert told["coordinator"]["since"] == "2026-03-01T12:00:00+00:00"
    assert [device["name"] for device in told["devices"]] == ["b01", "b02"]


# What is drawn


def test_those_in_need_of_somebody_are_shown_when_not_all_fit(view: FleetView) -> None:
    for number in range(100):
        state = {57: "refused", 81: "offline"}.get(number, "training")
        tell(view, TOPICS.device_status(f"b{number:03}"), state=state)
    shown = page(view, height=24)
    assert len(shown.splitlines()) <= 24
    assert "b057" in shown
    assert "b081" in shown
    assert " more" not in page(view, height=1_000)
    hidden = 100 - sum(line.startswith("b") for line in shown.splitlines())
    assert f"{hidden} more" in shown
    assert f"{hidden} training" in shown


def test_the_last_rounds_are_drawn(view: FleetView) -> None:
    for number in range(1, 30):
        told = {"version": number, "round": number, "contributors": 24}
        tell(view, TOPICS.history(number), task="train", **told)
    rows = [line.split() for line in page(view).splitlines() if " 24 " in line]
    assert [row[0] for row in rows] == [str(number) for number in range(30 - N_ROUNDS, 30)]


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(hours=5), "5 h"),
        (timedelta(days=40), "40 d"),
    ],
)
def test_ages(view: FleetView, ago: timedelta, shown: str) -> None:
    tell(view, TOPICS.device_status("b01"), state="idle", since=(NOW - ago).isoformat())
    assert f"idle   {shown}" in page(view)


def test_an_empty_fleet_is_drawn(view: FleetView) -> None:
    assert "no word from a coordinator yet" in page(view)


# What is not believed

HOSTILE = [
    b"\xff\xfe",
    b"[]",
    b"null",
    b'"text"',
    b"{",
    b"[" * 20_000,
    b'{"a":' * 10_000,
    b'{"round": NaN}',
    b'{"round": ' + b"9" * 5_000 + b"}",
    b'{"state": "' + b"x" * MAX_PAYLOAD_BYTES + b'"}',
]


@pytest.mark.parametrize("payload", HOSTILE)
@pytest.mark.parametrize("topic", PUBLIC)
def test_what_is_no_object_tells_nothing(view: FleetView, topic: str, payload: bytes) -> None:
    assert view.receive(topic, payload) is None
    assert page(view)


def values() -> st.SearchStrategy[Any]:
    plain = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9)
    )
    return st.recursive(
        plain,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
        ),
        max_leaves=8,
    )


FIELDS = sorted(
    {
        field.name
        for kind in (CoordinatorView, DeviceView, VersionView, EventView)
        for field in fields_of(kind)
    }
)


@given(
    topic=st.sampled_from(PUBLIC),
    fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=9), values(), max_size=8),
)
def test_any_object_is_kept_drawn_and_told(topic: str, fields: dict[str, Any]) -> None:
    view = FleetView(TOPICS)
    if topic == TOPICS.history(3):
        fields["version"] = 3  # any other is not in its place
    news = view.receive(topic, json.dumps(fields).encode())
    assert news is not None
    json.dumps(view.as_dict(), allow_nan=False)
    json.dumps(facts(news), allow_nan=False)
    for text in (page(view), news_line(news)):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        text.encode()


@given(topic=st.sampled_from(PUBLIC), payload=st.binary(max_size=200))
def test_any_bytes_are_survived(topic: str, payload: bytes) -> None:
    FleetView(TOPICS).receive(topic, payload)


def texts(news: Any) -> Iterator[str]:
    told = facts(news)
    for value in told.values():
        entries = value.items() if isinstance(value, dict) else [(value,)]
        yield from (part for entry in entries for part in entry if isinstance(part, str))


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b[2J\x1b[31mowned",  # clears the screen
        "\x1b]0;title\x07",  # sets the title of the window
        "\x9b2J",  # the same in one byte
        "safe\r\nfake line",
        "\u202egnp.exe",  # turns the direction of writing
        "\ud800",  # half of a pair: cannot be printed at all
        "\u2028",
        "x" * 10_000,
    ],
)
def test_a_terminal_gets_no_orders_from_strangers(view: FleetView, attack: str) -> None:
    tell(view, TOPICS.coordinator_status, state=attack, note=attack, rings={attack: attack})
    tell(view, TOPICS.device_status("b01"), state=attack, reason=attack, agent=attack)
    tell(view, TOPICS.history(1), task="train", void_rings=[{"reason": attack}])
    event = tell(view, TOPICS.event, event=attack, **{attack: attack, "more": [attack, attack]})
    told = [view.coordinator, *view.devices.values(), *view.versions.values(), event]
    for text in (text for news in told for text in texts(news)):
        assert text.isprintable()
        assert len(text) <= MAX_TEXT
    assert set(drawn(view)) - set(page(view)) <= set("\x1b[;m0123456789"), "colours only"


def test_markup_is_shown_as_it_was_written(view: FleetView) -> None:
    told = "[link=https://example.org]click[/link] [bold"
    tell(view, TOPICS.device_status("b01"), state="refused", reason=told)
    assert told in page(view)


def test_one_line_of_any_text() -> None:
    assert clean("  two\n words\t") == "two words"
    assert clean("naïve 窓 ok") == "naïve 窓 ok"
    assert len(clean("ab" * MAX_TEXT)) == MAX_TEXT


def test_numbers_that_are_none_are_as_if_unsaid() -> None:
    told = Hearsay.read(
        b'{"yes": 3, "true": true, "minus": -1, "huge": 1e300, "text": "3",'
        b' "many": 90071992547409920, "table": {"a": 1, "b": "x", "c": 1e999, "d": 0.5},'
        b' "late": "0001-01-01T00:00:00+23:59"}'
    )
    assert told is not None
    assert told.whole("yes") == 3
    for name in ("true", "minus", "huge", "text", "many", "missing"):
        assert told.whole(name) is None
    assert told.numbers("table") == {"a": 1.0, "d": 0.5}
    assert told.counts("table") == {"a": 1}
    assert told.numbers("yes") == {}
    assert told.time("late") is None
    assert told.time("yes") is None


def test_nobody_fills_our_memory(view: FleetView) -> None:
    tell(view, TOPICS.coordinator_status, rings={str(n): "lap" for n in range(2 * MAX_ENTRIES)})
    assert view.coordinator is not None
    assert len(view.coordinator.rings) == MAX_ENTRIES
    for number in range(MAX_EVENTS + 5):
        tell(view, TOPICS.event, event=str(number))
    assert [view.events[0].event, len(view.events)] == ["5", MAX_EVENTS]
    for number in range(MAX_VERSIONS + 5):
        tell(view, TOPICS.history(number), version=number, task="train")
    assert list(view.versions) == list(range(5, MAX_VERSIONS + 5))
    for number in range(MAX_DEVICES + 5):
        tell(view, TOPICS.device_status(f"d{number}"), state="idle")
    assert len(view.devices) == MAX_DEVICES
    assert tell(view, TOPICS.device_status("d1"), state="offline"), "known ones still count"


def test_every_topic_shown_is_for_people() -> None:
    rows = [TOPICS.row(topic) for topic in PUBLIC]
    assert all(row in LAYOUT and row.payload == "json" for row in rows if row is not None)


# The command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, arguments)


def test_tls_needs_all_three_files() -> None:
    shown = run("--ca", "ca.crt", "--key", "b01.key")
    assert shown.exit_code == 2
    assert "TLS needs all of --ca, --certificate and --key" in shown.output


def test_nobody_watches_as_the_coordinator(tmp_path: Any) -> None:
    fleet = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
    files = {
        option: str(fleet.coordinator_folder / name)
        for option, name in (
            ("--ca", "ca.crt"),
            ("--certificate", "coordinator.crt"),
            ("--key", "coordinator.key"),
        )
    }
    shown = run(*(word for pair in files.items() for word in pair))
    assert isinstance(shown.exception, CertificateError)
    assert shown.exception.name == "certificate.role"
    assert "fedring fleet add" in shown.exception.hint


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T00:00:00-14:00",
    ],
)
def test_times_of_no_clock_are_left_out_wherever_one_watches(
    view: FleetView, monkeypatch: pytest.MonkeyPatch, zone: str, time: str
) -> None:
    """At the ends of the calendar a time has no local form."""
    monkeypatch.setenv("TZ", zone)
    tzset()
    try:
        tell(view, TOPICS.device_status("b01"), state="training", since=time)
        assert tell(view, TOPICS.event, event="lap", time=time).time is None
        assert "lap" in page(view)
    finally:
        monkeypatch.undo()
        tzset()
