"""Deadlines are kept while others send without end."""

import asyncio
import math
import time

import pytest

from fedring.shared.turns import Turns

LEAST_S = 0.02


def test_a_deadline_is_kept_although_the_queue_never_empties() -> None:
    async def flooded() -> tuple[int, int]:
        turns: Turns[bytes] = Turns(LEAST_S)

        async def flood() -> None:
            while True:
                await turns.put(b"again")

        flooding = asyncio.create_task(flood())
        end = time.monotonic() + 0.2
        kept = taken = 0
        while time.monotonic() < end:
            happening = await turns.next(deadline=0.0)
            kept += happening is None
            taken += happening is not None
            await asyncio.sleep(0)  # as sending an answer does: the flood comes in meanwhile
        flooding.cancel()
        return kept, taken

    kept, taken = asyncio.run(flooded())
    assert 3 <= kept <= 11
    assert taken > kept


def test_a_steady_stream_does_not_put_a_deadline_off() -> None:
    async def streamed() -> float:
        turns: Turns[int] = Turns(LEAST_S)
        began = time.monotonic()
        deadline = began + 0.1
        await turns.put(0)
        while await turns.next(deadline) is not None:
            await asyncio.sleep(LEAST_S / 4)
            await turns.put(0)
        return time.monotonic() - began

    assert 0.1 <= asyncio.run(streamed()) < 0.3


@pytest.mark.parametrize("deadline", [None, 0.0, math.inf])
def test_all_others_run_between_two_turns(deadline: float | None) -> None:
    async def flooded() -> list[int]:
        turns: Turns[int] = Turns(LEAST_S)
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        for number in range(20):
            await turns.put(number)
        before = []
        for _ in range(20):
            await turns.next(deadline)
            before.append(beats)
        beating.cancel()
        return before

    before = asyncio.run(flooded())
    assert before == sorted(set(before))


def test_what_waits_already_goes_before_a_deadline() -> None:
    async def both() -> list[int | None]:
        turns: Turns[int] = Turns(LEAST_S)
        await turns.put(1)
        await turns.put(2)
        return [await turns.next(0.0) for _ in range(3)]

    assert asyncio.run(both()) == [1, 2, None]


def test_a_deadline_that_is_put_off_leaves_nothing_behind() -> None:
    async def put_off() -> list[int | None]:
        turns: Turns[int] = Turns(LEAST_S)
        for number in (1, 2, 3):
            await turns.put(number)
        taken = [await turns.next(0.0), await turns.next(None)]
        taken += [await turns.next(time.monotonic() + 1.0), await turns.next(0.0)]
        return taken

    assert asyncio.run(put_off()) == [1, 2, 3, None]
