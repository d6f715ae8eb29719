"""A fleet learns the network of a .tflite file; a board without that file says so and stays out."""

import asyncio
import json
from pathlib import Path

import numpy as np

from fedring.lab.fleets import LocalFleet
from fedring.lab.hapt import ACTIVITIES, MAIN, evaluation
from fedring.lab.hapt.raw_windows import RAW_NAMES, RAW_RANGE, raw_people
from fedring.lab.loop_fleet import LoopFleet, loop_fleet
from fedring.shared.broker import Broker
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.models import load_npz
from fedring.shared.mqtt import Message
from fedring.shared.networks import is_normalised
from fedring.shared.samples import Dataset

TAKING_PART = 3


def write_bytes(file: Path, data: Dataset) -> None:
    """Windows as a board would keep them: a byte a value."""
    names = np.array(data.classes)[data.y]
    np.savez(file, x=data.x.astype(np.int8), y=names, features=np.array(data.features))


def a_fleet(folder: Path) -> LocalFleet:
    """Three boards with the convolution, one without."""
    files = LocalFleet(
        folder,
        Broker("localhost", 1),
        TAKING_PART + 1,
        coordinator={
            "model": {
                "kind": "litert",
                "litert": "hapt-conv",
                "features": list(RAW_NAMES),
                "classes": list(ACTIVITIES),
                "feature_ranges": [RAW_RANGE],
            },
            "training": {"rounds": 2, "epochs": 2, "statistics": True},
            "ring": {"size": 4, "min_devices": 4, "ready_s": 5, "key_bits": 2048},
            "evaluation": {"file": str(folder / "evaluation.npz")},
        },
    )
    write_bytes(folder / "evaluation.npz", evaluation(MAIN, raw_people()))
    for number, name in enumerate(files.names):
        windows = files.data_file(name).with_suffix(".npz")
        write_bytes(windows, raw_people()[MAIN.devices[number]].early)
        settings = files.device_file(name)
        text = settings.read_text().replace(str(files.data_file(name)), str(windows))
        if number < TAKING_PART:
            text += '\n[training]\nlitert = "hapt-conv"\n'
        settings.write_text(text)
    return files


async def reason_of(fleet: LoopFleet, wanted: str) -> str:
    """Why the coordinator says that a board is not taking part."""
    found: dict[str, object] = {}

    def fits(message: Message) -> bool:
        facts = json.loads(message.payload) if message.topic.endswith("/event") else {}
        found.update(facts)
        return wanted in str(facts.get("reason", ""))

    await fleet.heard(fits)
    return str(found["reason"])


def test_boards_with_the_file_learn_and_one_without_says_why_not(tmp_path: Path) -> None:
    files = a_fleet(tmp_path)

    async def story() -> None:
        with loop_fleet(files) as fleet:
            async with fleet.serving():
                refusal = await reason_of(fleet, "without a .tflite file")
                assert "a model of kind 'litert-" in refusal
                await fleet.published(version=3)

    asyncio.run(story())
    with files.store() as store:
        newest, *others = store.versions()
        assert [newest.contributors, *(v.contributors for v in others)] == [TAKING_PART] * 3 + [0]
        assert newest.metrics["accuracy"] > 0.3
        model = store.model(newest)
    assert is_normalised(model)
    computation = Computation.load(SHIPPED["hapt-conv"])
    kept, _ = load_npz(files.device_file("b01").parent / "state" / "model.npz")
    computation.check(kept)
    assert kept.kind == model.kind == computation.kind
