"""Who trains, who is held out, and that no window is on both sides."""

from pathlib import Path

import numpy as np
import pytest

from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, SPLITS, evaluation, people, write_device_files
from fedring.lab.hapt.build import build
from fedring.lab.hapt.people import FILE, PEOPLE
from fedring.shared.samples import read_samples


def test_splits_share_out_everybody() -> None:
    held_out = [person for split in SPLITS for person in split.held_out]
    assert sorted(held_out) == list(PEOPLE)
    assert MAIN.held_out == (1, 3, 10, 16, 18, 28)
    for split in SPLITS:
        assert sorted((*split.devices, *split.held_out)) == list(PEOPLE)
        assert len(split.devices) == 24


def test_the_windows_of_the_design() -> None:
    sizes = [len(person.early) + len(person.late) for person in people().values()]
    assert (sum(sizes), min(sizes), max(sizes)) == (10_237, 278, 407)
    assert sum(len(evaluation(split)) for split in SPLITS) == 10_237
    assert len(evaluation(MAIN)) == sum(sizes[person - 1] for person in MAIN.held_out)


def test_early_and_late_are_cut_in_time_and_share_no_samples() -> None:
    with np.load(FILE) as file:
        windows = [features.tobytes() for features in file["features"]]
        rows = dict(zip(windows, file["row"].tolist(), strict=True))
        owners = dict(zip(windows, file["person"].tolist(), strict=True))
        n_windows = np.bincount(file["person"])
    for number, person in people().items():
        assert n_windows[number] - 6 <= len(person.early) + len(person.late) <= n_windows[number]
        for activity in range(len(ACTIVITIES)):
            early, late = (part.x[part.y == activity] for part in (person.early, person.late))
            assert {owners[x.tobytes()] for x in (*early, *late)} == {number}
            before = max(rows[x.tobytes()] for x in early)
            assert before + 128 <= min(rows[x.tobytes()] for x in late)
            share = len(late) / (len(early) + len(late))
            assert share == pytest.approx(0.2, abs=0.04)


def test_every_device_gets_its_own_file(tmp_path: Path) -> None:
    paths, held_out = write_device_files(tmp_path / "devices")
    assert tuple(paths) == MAIN.devices
    assert len(set(paths.values())) == 24
    for number, path in paths.items():
        data = read_samples(path, NAMES, ACTIVITIES)
        np.testing.assert_array_equal(data.x, people()[number].early.x)
        np.testing.assert_array_equal(data.y, people()[number].early.y)
    assert len(read_samples(held_out, NAMES, ACTIVITIES)) == len(evaluation(MAIN))
    assert sorted(tmp_path.rglob("*.npz")) == sorted([*paths.values(), held_out])


def test_the_data_file_is_small_and_has_its_licence_beside_it() -> None:
    assert FILE.stat().st_size < 2_500_000
    licence = (FILE.parent / "LICENCE.md").read_text()
    assert "CC BY 4.0" in licence
    assert "Neurocomputing 171" in licence


def test_building_keeps_labelled_windows_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    label = np.repeat([-1, 1, 7, 2, 2], [100, 128, 500, 127, 193]).astype(np.int8)
    user = np.repeat([1, 2], [855, 193]).astype(np.uint8)
    np.savez(
        tmp_path / "raw.npz",
        samples=rng.integers(-2_000, 2_000, (len(label), 6)).astype(np.int16),
        label=label,
        user=user,
        recording=np.zeros(len(label), np.uint8),
    )
    assert build(tmp_path / "raw.npz", tmp_path / "made.npz") == 3
    with np.load(tmp_path / "made.npz") as made:
        assert made["row"].tolist() == [100, 855, 919]
        assert made["activity"].tolist() == [0, 1, 1]
        assert made["person"].tolist() == [1, 2, 2]
        assert made["features"].shape == (3, 56)
        assert made["excerpt"].shape == (1, 128, 6)
