"""Every input that is kept does what it is kept for: it decodes, or is refused by name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedring.lab.fuzzing.campaign import memory_traced
from fedring.lab.fuzzing.corpus import Corpus, Kept
from fedring.lab.fuzzing.target import judged
from fedring.lab.fuzzing.targets import targets
from fedring.shared.messages import MESSAGES

CORPUS = Corpus(Path(__file__).parent / "corpus")
TARGETS = targets(CORPUS)
KEPT = [kept for name in TARGETS for kept in CORPUS.of(name)]


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    """Memory is judged as well."""
    with memory_traced():
        yield


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept.target}/{kept.name}")
def test_what_is_kept_does_what_it_shows(kept: Kept) -> None:
    assert judged(TARGETS[kept.target], kept.data) == kept.good


def test_every_target_has_an_input_that_decodes() -> None:
    able = {kept.target for kept in KEPT if kept.good}
    assert TARGETS.keys() == able


def test_every_kind_of_message_is_among_them() -> None:
    names = {kept.name for kept in KEPT if kept.target == "message" and kept.good}
    assert names == MESSAGES.keys()


def test_every_folder_has_its_target() -> None:
    folders = {folder.name for folder in CORPUS.folder.iterdir()}
    assert folders == TARGETS.keys()
    assert len(KEPT) == sum(file.is_file() for file in CORPUS.folder.rglob("*"))
