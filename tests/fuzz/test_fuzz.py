"""Any bytes give a value or a named error: a short run over every decoder, other inputs each time.

A failure prints how to see it again, how to keep it, and the smallest input that does it. The seed
is that of pytest-randomly, which on a server comes from the commit. `scripts/fuzz` runs for long.
"""

import random
from pathlib import Path

import pytest

from fedring.lab.fuzzing.campaign import Campaign
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.targets import targets

CORPUS = Corpus(Path(__file__).parent / "corpus")
TARGETS = targets(CORPUS)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_value_or_a_named_error(name: str) -> None:
    target = TARGETS[name]
    seed = random.getrandbits(32)
    finding = Campaign.of(target, CORPUS, seed).tried(range(target.inputs))
    assert finding is None, str(finding)
