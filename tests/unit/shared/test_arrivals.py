"""What waits for a slow owner is bounded; waits between attempts grow."""

import asyncio

import pytest

from fedring.shared.arrivals import (
    MAX_WAITING_BYTES,
    Arrivals,
    Connected,
    Disconnected,
    Event,
    Message,
)
from fedring.shared.backoff import Backoff
from fedring.shared.traffic import Traffic


def all_of(arrivals: Arrivals) -> list[Event]:
    async def take_all() -> list[Event]:
        events = []
        while (event := await arrivals.take()) is not None:
            events.append(event)
        assert await arrivals.take() is None, "the end stays the end"
        return events

    arrivals.close(None)
    return asyncio.run(take_all())


def test_events_come_in_order() -> None:
    arrivals = Arrivals()
    events: list[Event] = [Connected(), Message("a", b"1"), Message("a", b"2"), Disconnected("why")]
    for event in events:
        assert arrivals.put(event)
    assert all_of(arrivals) == events


def test_messages_are_bounded_and_the_newest_is_dropped() -> None:
    arrivals = Arrivals()
    large = Message("a", bytes(MAX_WAITING_BYTES // 4))
    assert [arrivals.put(large) for _ in range(4)] == [True, True, True, False]
    assert arrivals.put(Disconnected("news of the connection always gets in"))
    assert len(all_of(arrivals)) == 4


def test_empty_messages_are_bounded_too() -> None:
    arrivals = Arrivals()
    put = 0
    while arrivals.put(Message("a", b"")):
        put += 1
    assert put == MAX_WAITING_BYTES // 1024


def test_room_comes_back() -> None:
    async def fill_and_take() -> None:
        arrivals = Arrivals()
        large = Message("a", bytes(MAX_WAITING_BYTES - 1024))
        for _ in range(3):
            assert arrivals.put(large)
            assert not arrivals.put(Message("a", b""))
            assert await arrivals.take() == large

    asyncio.run(fill_and_take())


def test_payloads_stay_out_of_logs() -> None:
    assert repr(Message("a", b"secret")) == "Message(topic='a', payload=<6 bytes>, retained=False)"


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(first_s=0.25, longest_s=20)
    assert [backoff.wait_s(n, jitter=1.0) for n in (1, 2, 3, 7, 8, 10_000)] == [
        0.25, 0.5, 1.0, 16.0, 20.0, 20.0,
    ]  # fmt: skip
    assert backoff.wait_s(3, jitter=0.0) == pytest.approx(0.5)


def test_traffic_by_topic_class() -> None:
    traffic = Traffic(classify=lambda topic: topic.split("/")[0])
    traffic.count_sent("inbox/a", 10)
    traffic.count_sent("inbox/b", 20)
    traffic.count_received("model/x", 5)
    assert traffic.as_dict() == {
        "sent": {"inbox": {"messages": 2, "bytes": 30}},
        "received": {"model": {"messages": 1, "bytes": 5}},
    }
