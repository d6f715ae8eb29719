"""The topic tree: what is built is read back, what is not ours is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared import topics
from fedring.shared.topics import COORDINATOR, LAYOUT, OTHER, Payload, Topics, Writer

FLEET = Topics("greenhouse")
DIGEST = bytes(range(32))

EVERY_TOPIC = [
    (FLEET.coordinator_status, topics.CoordinatorStatus(), "status"),
    (FLEET.round, topics.Round(), "round"),
    (FLEET.model_chunk(DIGEST, 0), topics.ModelChunk("00", 0), "model"),
    (FLEET.key, topics.Key(), "key"),
    (FLEET.history(17), topics.History(17), "history"),
    (FLEET.revoked, topics.Revoked(), "revoked"),
    (FLEET.device_status("b01"), topics.DeviceStatus("b01"), "status"),
    (FLEET.device_update("b01"), topics.DeviceUpdate("b01"), "update"),
    (FLEET.device_inbox("b01", "b02"), topics.Inbox("b01", "b02"), "inbox"),
    (FLEET.coordinator_inbox("b01"), topics.Inbox(COORDINATOR, "b01"), "inbox"),
    (FLEET.enrolment_request("b01"), topics.EnrolmentRequest("b01"), "enrolment"),
    (FLEET.enrolment_waiting("b01"), topics.EnrolmentWaiting("b01"), "enrolment"),
    (FLEET.enrolment_answer("b01"), topics.EnrolmentAnswer("b01"), "enrolment"),
    (FLEET.bundle_chunk(DIGEST, 3), topics.BundleChunk(DIGEST, 3), "bundle"),
    (FLEET.update, topics.Update(), "update"),
    (FLEET.event, topics.Event(), "event"),
]


def test_the_spelling_of_every_topic() -> None:
    assert [topic.removeprefix("fedring/greenhouse/") for topic, _, _ in EVERY_TOPIC] == [
        "coordinator/status",
        "round",
        "model/00/0",
        "key",
        "history/17",
        "revoked",
        "device/b01/status",
        "device/b01/update",
        "device/b01/inbox/b02",
        "coordinator/inbox/b01",
        "enrol/request/b01",
        "enrol/waiting/b01",
        "enrol/answer/b01",
        f"bundle/{DIGEST.hex()}/3",
        "update",
        "event",
    ]


@pytest.mark.parametrize(("topic", "parsed", "traffic"), EVERY_TOPIC)
def test_what_is_built_is_read_back(topic: str, parsed: topics.Topic, traffic: str) -> None:
    assert FLEET.parse(topic) == parsed
    assert FLEET.classify(topic) == traffic


def test_every_row_of_the_layout_is_built_by_a_method() -> None:
    assert {FLEET.row(topic) for topic, _, _ in EVERY_TOPIC} == set(LAYOUT)


def test_retained_topics_and_payload_types() -> None:
    status = FLEET.row(FLEET.device_status("b01"))
    inbox = FLEET.row(FLEET.device_inbox("b01", "b02"))
    event = FLEET.row(FLEET.event)
    assert status is not None
    assert inbox is not None
    assert event is not None
    assert (status.retained, status.payload, status.writer) == (True, Payload.JSON, Writer.DEVICE)
    assert (inbox.retained, inbox.payload) == (False, Payload.ENVELOPE)
    assert not event.retained


def test_inbox_finds_the_coordinator_by_its_name() -> None:
    assert FLEET.inbox(COORDINATOR, "b01") == FLEET.coordinator_inbox("b01")
    assert FLEET.inbox("b01", COORDINATOR) == FLEET.device_inbox("b01", COORDINATOR)


def test_filters() -> None:
    assert FLEET.inbox_of("b01") == "fedring/greenhouse/device/b01/inbox/+"
    assert FLEET.inbox_of(COORDINATOR) == "fedring/greenhouse/coordinator/inbox/+"
    assert FLEET.model(DIGEST) == "fedring/greenhouse/model/00/+"
    assert FLEET.everywhere(topics.DeviceStatus) == ["fedring/greenhouse/device/+/status"]
    assert FLEET.everywhere(topics.History) == ["fedring/greenhouse/history/+"]


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "fedring/greenhouse",
        "fedring/other/round",
        "fedring/greenhouse/round/",
        "fedring/greenhouse/device/B01/status",
        "fedring/greenhouse/device//status",
        "fedring/greenhouse/device/b01/status/more",
        "fedring/greenhouse/device/b01/inbox/b02\n",
        "fedring/greenhouse/model/00/01",
        "fedring/greenhouse/model/AB/1",
        "fedring/greenhouse/model/00/-1",
        "fedring/greenhouse/model/00/²",
        "fedring/greenhouse/history/99999999999999999999",
    ],
)
def test_foreign_topics(topic: str) -> None:
    assert FLEET.parse(topic) is None
    assert FLEET.classify(topic) == OTHER


def test_a_root_of_several_levels() -> None:
    nested = Topics("greenhouse", root="home/garden")
    assert nested.round == "home/garden/greenhouse/round"
    assert nested.parse(nested.round) == topics.Round()
    assert FLEET.parse(nested.round) is None


@pytest.mark.parametrize("name", ["", "B01", "b_1", "b/1", "+", "#", "b" * 33, "b01\n", "ä"])
def test_names_that_cannot_stand_in_a_topic(name: str) -> None:
    assert not topics.is_name(name)
    for build in (FLEET.device_status, FLEET.coordinator_inbox, FLEET.inbox_of, Topics):
        with pytest.raises(ValueError, match="cannot"):
            build(name)
    with pytest.raises(ValueError, match="root"):
        Topics("greenhouse", root=f"home/{name}+")


def test_numbers_and_digests_that_cannot_stand_in_a_topic() -> None:
    with pytest.raises(ValueError, match="-1"):
        FLEET.history(-1)
    with pytest.raises(ValueError, match="32 bytes, not 4"):
        FLEET.model_chunk(b"abcd", 0)


def test_versions_share_a_bounded_number_of_places() -> None:
    assert len({FLEET.history(version) for version in range(1_000)}) == topics.HISTORY_PLACES
    assert FLEET.parse(FLEET.history(117)) == topics.History(17)


@given(st.text() | st.lists(st.text(max_size=4)).map("/".join))
def test_any_text_is_read_or_refused(tail: str) -> None:
    topic = "fedring/greenhouse/" + tail
    assert (FLEET.parse(topic) is None) == (FLEET.classify(topic) == OTHER)
