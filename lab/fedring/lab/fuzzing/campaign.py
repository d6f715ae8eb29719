"""Trying inputs until one breaks the rule, and making that one small.

An input is told by seed and number, whatever was tried before it; so a failure anywhere repeats
everywhere, as long as the corpus is the same.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from attrs import frozen

from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.mutations import Mutator
from fedring.lab.fuzzing.target import Fault, Target, judged

MOST_TRIES: Final = 2_000
"""Tries to make an input smaller."""
_SHOWN_BYTES: Final = 200


@frozen
class Finding:
    """An input that breaks a rule.

    Attributes:
        target: whose.
        seed: of the campaign.
        number: of the input, as it was first found.
        data: the smallest input found that does the same.
        fault: what it does.
    """

    target: str
    seed: int
    number: int
    data: bytes
    fault: Fault

    def __str__(self) -> str:
        shown = self.data[:_SHOWN_BYTES].hex() + ("..." if len(self.data) > _SHOWN_BYTES else "")
        again = f"scripts/fuzz {self.target} --seed {self.seed} --input {self.number}"
        return (
            f"{self.target}, seed {self.seed}, input {self.number}:\n{self.fault.text}\n"
            f"smallest input that does this, {len(self.data)} bytes: {shown}\n"
            f"see it again:  {again}\n"
            f"keep it, then mend what it breaks:  {again} --keep WHAT-IT-SHOWS"
        )


@frozen
class Campaign:
    """Inputs for one decoder.

    Attributes:
        target: the decoder.
        mutator: makes the inputs.
        seed: tells them apart from those of other campaigns.
    """

    target: Target
    mutator: Mutator
    seed: int

    @classmethod
    def of(cls, target: Target, corpus: Corpus, seed: int) -> Campaign:
        """A campaign that starts from all that is kept for its target."""
        kept = [one.data for one in corpus.of(target.name)]
        if not kept:
            raise LookupError(f"{corpus.folder / target.name} holds nothing to start from")
        return cls(target, Mutator(target.form, kept, target.tokens), seed)

    def input(self, number: int) -> bytes:
        """The input of this number."""
        return self.mutator.damaged(
            random.Random(f"{self.seed}/{self.target.name}/{number}")  # noqa: S311  # repeats itself
        )

    def tried(self, numbers: Iterable[int]) -> Finding | None:
        """Try these inputs; the first that breaks the rule, made small, or None."""
        with memory_traced():
            for number in numbers:
                data = self.input(number)
                fault = judged(self.target, data)
                if isinstance(fault, Fault):
                    small = smallest(data, partial(self._breaks, fault))
                    return Finding(self.target.name, self.seed, number, small, fault)
        return None

    def _breaks(self, fault: Fault, data: bytes) -> bool:
        return fault.like(judged(self.target, data))


def smallest(data: bytes, breaks: Callable[[bytes], bool]) -> bytes:
    """A smaller input that still breaks: pieces left out, then bytes made plain."""
    tries = iter(range(MOST_TRIES))
    size = 1 << len(data).bit_length() >> 1
    while size:
        start = 0
        while start < len(data) and next(tries, None) is not None:
            shorter = data[:start] + data[start + size :]
            if breaks(shorter):
                data = shorter
            else:
                start += size
        size //= 2
    for at in range(len(data)):
        if next(tries, None) is None:
            break
        plainer = data[:at] + b"0" + data[at + 1 :]
        if data[at : at + 1] != b"0" and breaks(plainer):
            data = plainer
    return data


@contextmanager
def memory_traced() -> Iterator[None]:
    """Let memory count; costs about half of the speed."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
