"""When boards make ciphertexts ahead: after a round, and not while they work for the next one."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import define, field

from fedring.device.agent import Agent
from fedring.device.work import Failed, Worked, Workshop
from fedring.lab.fleets import LocalFleet
from fedring.lab.loop_broker import LoopConnection
from fedring.lab.loop_fleet import LoopFleet, loop_fleet
from fedring.shared.broker import Broker
from fedring.shared.encryption import Obfuscators, OneTimeMask, Random
from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.encryption.paillier import FixedBase
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce
from fedring.shared.mqtt import Disconnected

N_DEVICES = 3
N_CIPHERTEXTS = 23  # at 2048 bits


@define
class Diary:
    """What the boards did.

    Attributes:
        agents: of the boards.
        lines: (what, whose), in order: `work` and `worked` of a board, and `stocking` if it is
            stocking up just before, by its workshop; `ahead` for each obfuscator begun in idle
            time, by its stock.
        found: how many obfuscators waited when a mask was begun.
    """

    agents: Sequence[Agent] = ()
    lines: list[tuple[str, object]] = field(factory=list)
    found: list[int] = field(factory=list)

    def of(self, agent: Agent) -> list[str]:
        """What one board did."""
        own = (agent._workshop, agent._preparation._stock)
        return [what for what, whose in self.lines if whose in own]


@contextmanager
def written() -> Iterator[Diary]:
    """Has the diary written."""
    diary, filling = Diary(), threading.local()
    work, fill = Workshop.work, Obfuscators.fill
    make, prepare = FixedBase.obfuscator, Hybrid.prepare

    async def working(
        workshop: Workshop, announce: Signed[Announce], *, evaluate: bool
    ) -> Worked | Failed:
        diary.lines.append(("work", workshop))
        worked = await work(workshop, announce, evaluate=evaluate)
        (agent,) = [one for one in diary.agents if one._workshop is workshop]
        await news(agent)
        if agent._stocking is not None:
            diary.lines.append(("stocking", workshop))
        diary.lines.append(("worked", workshop))
        return worked

    def filled(stock: Obfuscators, count: int, random: Random, stop: threading.Event) -> None:
        filling.stock = stock
        fill(stock, count, random, stop)

    def made(base: FixedBase, random: Random) -> int:
        if (stock := getattr(filling, "stock", None)) is not None:
            diary.lines.append(("ahead", stock))
        return make(base, random)

    def prepared(suite: Hybrid, random: Random, stock: Obfuscators) -> OneTimeMask:
        diary.found.append(len(stock))
        return prepare(suite, random, stock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "work", working)
        patch.setattr(Obfuscators, "fill", filled)
        patch.setattr(FixedBase, "obfuscator", made)
        patch.setattr(Hybrid, "prepare", prepared)
        yield diary


async def news(agent: Agent) -> None:
    """Have an agent look around while it works."""
    connection = agent._connection
    assert isinstance(connection, LoopConnection)
    connection.arrive(Disconnected("a test"))
    for _ in range(20):
        await asyncio.sleep(0)


async def idled(fleet: LoopFleet) -> None:
    """Wait until the boards have made all they can."""
    for agent in fleet.agents:
        if agent._stocking is not None:
            await asyncio.wait({agent._stocking})


def test_ciphertexts_are_made_between_rounds(tmp_path: Path) -> None:
    files = LocalFleet(
        tmp_path,
        Broker("localhost", 1),
        N_DEVICES,
        coordinator={"ring": {"size": N_DEVICES, "min_devices": N_DEVICES, "key_bits": 2048}},
    )

    async def story(diary: Diary) -> None:
        with loop_fleet(files) as fleet:
            diary.agents = fleet.agents
            async with fleet.serving():
                await fleet.published(round=1)
                await asyncio.to_thread(files.set_paused, True)
                await fleet.rest()
                await idled(fleet)
                assert all(agent._preparation.is_complete for agent in fleet.agents)
                n_before = len(diary.found)
                await asyncio.to_thread(files.set_paused, False)
                await fleet.published()
                assert diary.found[:N_DEVICES] == [0] * N_DEVICES
                assert diary.found[n_before:][:N_DEVICES] == [N_CIPHERTEXTS] * N_DEVICES
                for agent in fleet.agents:
                    check(diary.of(agent))

    with written() as diary:
        asyncio.run(story(diary))


def check(lines: list[str]) -> None:
    """Nothing is made ahead in a round, but for what was under way when it began."""
    assert lines.count("ahead") >= N_CIPHERTEXTS
    works = [place for place, what in enumerate(lines) if what == "work"]
    for place in works:
        in_round = lines[place : lines.index("worked", place)]
        assert in_round.count("ahead") <= 1
        assert "stocking" not in in_round
    assert all("worked" in lines[one:other] for one, other in pairwise(works))
