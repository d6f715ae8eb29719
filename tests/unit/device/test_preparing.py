"""Masks of a device over many rounds, whole, cut short and repeated: nothing serves twice.

What was made is judged by what comes out: the private key opens each ciphertext, which gives the
mask's key and the obfuscator that hid it.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial, partialmethod
from typing import Any, TypeAlias

import numpy as np
import phe
import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from fedring.device.preparing import Preparation
from fedring.device.trainers import NumpyTrainer
from fedring.device.work import Failed, Worked, Workshop
from fedring.lab.simulate.fleet import SMALL, paillier_key
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.encryption import Body, Obfuscators, OneTimeMask, Random, Suite, suite
from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.encryption.packed import PackedPaillier
from fedring.shared.envelopes import Signed
from fedring.shared.errors import ProtocolError
from fedring.shared.messages import Announce, ModelReference
from fedring.shared.models import Model
from fedring.shared.networks import initialise
from fedring.shared.samples import Dataset

KEYS = (paillier_key(256), paillier_key(260))
MODEL = initialise("softmax", ["x", "y"], ["a", "b"])
USED_UP = "OneTimeMask(<mask, used up>, <release, used up>)"

Outcome: TypeAlias = Worked | Failed | None
"""None: cancelled."""


@define(eq=False)
class Gate:
    """Where a thread waits until the test lets it go on."""

    entered: threading.Event = field(factory=threading.Event)
    opened: threading.Event = field(factory=threading.Event)

    def pass_through(self) -> None:
        self.entered.set()
        assert self.opened.wait(60)


@define(eq=False)
class Shelf:
    """A library whose model comes when the test wants it to, or never."""

    asked: asyncio.Event = field(factory=asyncio.Event)
    comes: bool = True
    is_none: bool = False

    async def fetch(self, _epoch: int, _reference: ModelReference) -> Model:
        self.asked.set()
        if self.is_none:
            raise ProtocolError("the announced model is none")
        if not self.comes:
            await asyncio.Event().wait()
        return MODEL


class Rows:
    """A data file that fits."""

    def check(self) -> None: ...

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        x = np.ones((4, len(features)), np.float32)
        return Dataset(x, np.zeros(4, np.int64), tuple(features), tuple(classes))


@frozen(eq=False)
class Made:
    """A mask as it was made.

    Attributes:
        mask: what the device got.
        words: the very array behind it.
        ciphertexts: of its key.
        private_key: opens them.
    """

    mask: OneTimeMask
    words: Body
    ciphertexts: tuple[int, ...]
    private_key: phe.PaillierPrivateKey

    @property
    def key(self) -> tuple[int, ...]:
        return tuple(self.private_key.raw_decrypt(one) for one in self.ciphertexts)

    @property
    def obfuscators(self) -> list[int]:
        n = self.private_key.public_key.n
        pairs = zip(self.ciphertexts, self.key, strict=True)
        return [ciphertext * (1 - n * plaintext) % n**2 for ciphertext, plaintext in pairs]

    @property
    def is_erased(self) -> bool:
        return repr(self.mask) == USED_UP and not self.words.any()


@define(eq=False)
class Device:
    """A workshop with all that it ever made."""

    preparation: Preparation
    suite: str = "hybrid"
    stage: Rehearsal = field(init=False)
    shelf: Shelf = field(factory=Shelf)
    gate: Gate | None = None
    made: list[Made] = field(factory=list)
    bodies: list[Body] = field(factory=list)
    key: phe.PaillierPrivateKey = KEYS[0]
    round: int = 0
    announce: Signed[Announce] | None = None

    @stage.default
    def _stage(self) -> Rehearsal:
        return Rehearsal(suite_name=self.suite)

    def next_announce(self) -> Signed[Announce]:
        self.round += 1
        self.stage.model, self.stage.key = MODEL, self.key
        self.announce = self.stage.announcing(self.round).announce
        return self.announce

    def working(self, announce: Signed[Announce]) -> asyncio.Task[Worked | Failed]:
        workshop = Workshop(
            self.shelf,  # type: ignore[arg-type]  # a shelf is all that is needed of a library
            self.preparation,
            Rows(),
            NumpyTrainer(),
            number=1,
            seed=1,
        )
        return asyncio.create_task(workshop.work(announce, evaluate=False))

    def prepare(self, made: Suite, random: Random, stock: Obfuscators) -> OneTimeMask:
        """Stands before `prepare` of the suite, and writes down what that makes."""
        if self.gate is not None:
            self.gate.pass_through()
        mask = PREPARE[self.suite](made, random, stock)
        (words,), (ciphertexts,) = mask._mask._values, mask._ciphertexts._values
        key = next(key for key in KEYS if key.public_key.n == made.n)
        self.made.append(Made(mask, words, ciphertexts, key))
        return mask

    # -- what may happen ---------------------------------------------------------------------

    async def whole(self, announce: Signed[Announce] | None = None) -> Worked:
        """A round up to `ready`, and its release."""
        outcome = await self.working(announce or self.next_announce())
        assert isinstance(outcome, Worked)
        self.bodies.append(outcome.mask.body(outcome.contribution))
        outcome.mask.release([0] * outcome.suite.n_ciphertexts)
        return outcome

    async def again(self) -> None:
        """The same announce a second time, as after a failure."""
        await self.whole(self.announce)

    async def cut_while_fetching(self) -> None:
        """A newer round begins while the model is on its way."""
        self.shelf = Shelf(comes=False)
        await self._cut(self.shelf.asked.wait())
        self.shelf = Shelf()

    async def cut_while_masking(self) -> None:
        """A newer round begins while the mask is being made."""
        self.gate = gate = Gate()
        await self._cut(asyncio.to_thread(gate.entered.wait, 60), gate)
        self.gate = None

    async def _cut(self, moment: Coroutine[Any, Any, object], gate: Gate | None = None) -> None:
        task = self.working(self.next_announce())
        await moment
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        if gate is not None:
            gate.opened.set()
        await self.settled()
        assert self.made[-1].is_erased

    async def no_model(self) -> None:
        """What was announced is no model."""
        self.shelf = Shelf(is_none=True)
        assert isinstance(await self.working(self.next_announce()), Failed)
        await self.settled()
        assert self.made[-1].is_erased
        self.shelf = Shelf()

    async def other_key(self) -> None:
        """From now on, another epoch with another key."""
        self.key = KEYS[1 - KEYS.index(self.key)]

    async def idle(self) -> None:
        """Long enough for everything."""
        await self.preparation.stock_up()
        assert self.preparation.is_complete

    async def idle_cut_short(self) -> None:
        """A round begins soon."""
        task = asyncio.create_task(self.preparation.stock_up())
        await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait({task})

    async def settled(self) -> None:
        """No thread makes a mask any more, and what became of them is done."""
        masks = [task for task in asyncio.all_tasks() if task.get_name() == "mask"]
        await asyncio.gather(*masks)
        await asyncio.sleep(0)

    # -- what must hold ------------------------------------------------------------------------

    @property
    def waiting(self) -> list[int]:
        """What was made ahead and not used yet."""
        stock = self.preparation._stock
        return list(stock._ready) if stock is not None else []

    def check(self) -> None:
        """No key masks two bodies, and no obfuscator hides two keys."""
        keys = [made.key for made in self.made]
        assert len(set(keys)) == len(keys)
        obfuscators = [one for made in self.made for one in made.obfuscators] + self.waiting
        assert len(set(obfuscators)) == len(obfuscators)
        handed_out = {id(body) for body in self.bodies}
        for made in self.made:
            assert repr(made.mask) == USED_UP
            assert made.is_erased or id(made.words) in handed_out


SUITES: dict[str, type[Suite]] = {"hybrid": Hybrid, "paillier": PackedPaillier}
PREPARE: dict[str, Callable[..., OneTimeMask]] = {
    name: made.prepare for name, made in SUITES.items()
}
STEPS = (
    "whole",
    "again",
    "cut_while_fetching",
    "cut_while_masking",
    "no_model",
    "other_key",
    "idle",
    "idle_cut_short",
)


@pytest.fixture(scope="module", autouse=True)
def small_lattice() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedring.device.work.suite", partial(suite, parameters=SMALL))
        yield


def _into(made: Suite, device: Device, random: Random, stock: Obfuscators) -> OneTimeMask:
    return device.prepare(made, random, stock)


def run(name: str, *steps: str) -> Device:
    """A device that goes through these with this suite, beginning with a whole round."""
    device = Device(Preparation(os.urandom), name)

    async def story(device: Device) -> None:
        await device.whole()
        for step in steps:
            await getattr(device, step)()
        await device.settled()

    go_through(device, story)
    return device


def go_through(device: Device, story: Callable[[Device], Coroutine[Any, Any, None]]) -> None:
    """Let a device live through a story, writing down what it makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SUITES[device.suite], "prepare", partialmethod(_into, device))
        asyncio.run(story(device))


each_suite = pytest.mark.parametrize("name", SUITES)


@each_suite
@given(steps=st.lists(st.sampled_from(STEPS), max_size=8))
def test_whatever_happens_nothing_serves_twice(name: str, steps: list[str]) -> None:
    device = run(name, *steps)
    device.check()
    assert all(len(made.ciphertexts) == (2 if name == "paillier" else 3) for made in device.made)


@each_suite
def test_a_round_uses_what_was_made_while_the_device_was_idle(name: str) -> None:
    asked: list[int] = []

    def random(n_bytes: int) -> bytes:
        asked.append(n_bytes)
        return os.urandom(n_bytes)

    async def story(device: Device) -> None:
        await device.whole()
        assert asked == [32, 32]
        await device.idle()
        assert asked == [32] * 3
        ahead = device.waiting
        await device.whole()
        assert asked == [32] * 4
        assert sorted(device.made[-1].obfuscators) == sorted(ahead)
        assert device.waiting == []
        assert not device.preparation.is_complete

    go_through(Device(Preparation(random), name), story)


@each_suite
def test_another_key_erases_what_was_made_for_the_last_one(name: str) -> None:
    async def story(device: Device) -> None:
        await device.whole()
        await device.idle()
        stock = device.preparation._stock
        assert stock is not None
        assert len(stock) > 0
        await device.other_key()
        await device.whole()
        assert len(stock) == 0
        assert device.preparation._stock is not stock

    go_through(Device(Preparation(os.urandom), name), story)


@each_suite
def test_the_mask_is_made_while_the_model_is_on_its_way(name: str) -> None:
    async def story(device: Device) -> None:
        device.shelf = Shelf(comes=False)
        task = device.working(device.next_announce())
        await device.shelf.asked.wait()
        await device.settled()  # the mask comes, though nothing else goes on
        assert len(device.made) == 1
        task.cancel()
        await asyncio.wait({task})

    go_through(Device(Preparation(os.urandom), name), story)


def test_idle_time_is_of_the_lowest_priority() -> None:
    preparation = Preparation(os.urandom)

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    assert preparation._idle.submit(priority).result() == 19
    assert priority() == before
