"""Whether a published model is what it must be, computed once more in the clear.

For fleets whose devices repeat their random numbers: `REPEATABLE` belongs into their settings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.integration.stage import Stage

from fedring.coordinator.records import Version
from fedring.coordinator.strategies import FedAvg, mean_update
from fedring.device.contributing import contribute
from fedring.device.data import FileSource
from fedring.device.trainers import NumpyTrainer
from fedring.lab.fleets import LocalFleet
from fedring.lab.simulate.plaintext import add_up
from fedring.lab.spy import Heard
from fedring.shared.contributions import read_sum
from fedring.shared.envelopes import Unverified, open_envelope
from fedring.shared.errors import MessageError
from fedring.shared.messages import Announce, List, Roster

SEED = 7
REPEATABLE = {"training": {"seed": SEED}}


def check_sum(fleet: LocalFleet, heard: Sequence[Heard], version: Version) -> None:
    """See that a model is the one before plus the mean of exactly the listed devices' updates.

    Args:
        fleet: of the model; its devices' data are read.
        heard: what was on the broker while the version's round ran, everything of it.
        version: a training round made it.

    Raises:
        AssertionError: it is another model.
    """
    with fleet.store() as store:
        before = store.model(store.version(version.parent))
    announce, names = _round(heard, version.round)
    assert len(names) == version.contributors
    name_of = {device.number: device.name for device in fleet.authority.devices}
    vectors = {}
    for number in names:
        data = FileSource(fleet.data_file(name_of[number])).read(before.features, before.classes)
        rng = np.random.default_rng([SEED, number, version.round])
        vectors[number] = contribute(NumpyTrainer(), before, data, announce, evaluate=True, rng=rng)
    total, n_contributors = add_up(vectors)
    summed = read_sum(total, n_contributors, announce.bits)
    mean = mean_update(summed.update, summed.weight, announce.plan, announce.bits)
    expected = FedAvg().step(before, mean)
    assert expected.digest == version.digest, f"version {version.version} is a wrong sum"


def check_history(stage: Stage, before: Sequence[Version]) -> None:
    """See that the history went on from here, with right sums and new round numbers only.

    Args:
        stage: between rounds.
        before: all versions that there were, oldest first.

    Raises:
        AssertionError: it did not.
    """
    history = stage.history()
    assert history[: len(before)] == before
    for version in history[len(before) :]:
        check_sum(stage.fleet, stage.spy.heard, version)
    rounds = stage.announced_rounds()
    assert rounds == sorted(set(rounds)), "a round number was used twice"


def _round(heard: Sequence[Heard], number: int) -> tuple[Announce, list[int]]:
    """The announce of a round, and who was listed in its rings that closed."""
    announce = None
    ring_of: dict[bytes, int] = {}
    listed: dict[bytes, tuple[int, ...]] = {}
    void = set()
    for one in heard:
        if one.topic == "event" and one.facts["event"] == "ring void":
            void.add((one.facts["round"], one.facts["ring"]))
        opened = _opened(one)
        if opened is None or opened.message.round != number:
            continue
        match opened.message:
            case Announce() as message:
                announce = message
            case Roster(ring=ring):
                ring_of[opened.digest] = ring
            case List(roster=roster, names=names):
                listed[roster] = names
    assert announce is not None, f"no announce of round {number} was heard"
    closed = [names for roster, names in listed.items() if (number, ring_of[roster]) not in void]
    return announce, sorted(name for names in closed for name in names)


def _opened(heard: Heard) -> Unverified | None:
    if not (heard.topic == "round" or heard.topic.endswith("/inbox/coordinator")):
        return None
    try:
        return open_envelope(heard.payload)
    except MessageError:
        return None
