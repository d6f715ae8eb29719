"""Who trains, who is held out, and that no window is on both sides."""

from pathlib import Path

import numpy as np
import pytest

from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, SPLITS, evaluation, people, write_device_files
from fedring.lab.hapt.build import build
from fedring.lab.hapt.people import FILE, PEOPLE
from fedring.lab.hapt.raw_windows import RAW_NAMES, WINDOWS_FILE, raw_people
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
    assert WINDOWS_FILE.stat().st_size < 1_500_000
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
    made, windows = tmp_path / "made.npz", tmp_path / "windows.npz"
    assert build(tmp_path / "raw.npz", made, windows) == 3
    with np.load(made) as file:
        assert file["row"].tolist() == [100, 855, 919]
        assert file["activity"].tolist() == [0, 1, 1]
        assert file["person"].tolist() == [1, 2, 2]
        assert file["features"].shape == (3, 56)
        assert file["excerpt"].shape == (1, 128, 6)
    with np.load(windows) as file:
        assert file["halves"].shape == (5, 192)  # the last two windows share one
        assert file["halves"].dtype == np.int8
        assert file["first"].tolist() == [0, 2, 3]


def test_raw_windows_are_the_recordings_at_half_the_rate() -> None:
    """Those whose recordings are here: every hundredth of all windows."""
    with np.load(FILE) as file:
        excerpt, person = file["excerpt"].astype(np.float64), file["person"][::100]
    assert RAW_NAMES[:7] == (
        "acc_x.00",
        "acc_y.00",
        "acc_z.00",
        "gyro_x.00",
        "gyro_y.00",
        "gyro_z.00",
        "acc_x.01",
    )
    met = 0
    for number, raw in zip(person.tolist(), excerpt, strict=True):
        own = raw_people()[number]
        windows = np.concatenate([own.early.x, own.late.x]).reshape(-1, 64, 6)
        means = raw.reshape(64, 2, 6).mean(axis=1) / [16, 16, 16, 32, 32, 32]
        met += (np.abs(windows - np.clip(means, -128, 127)).max(axis=(1, 2)) <= 0.5).any()
    assert met >= len(excerpt) - 4  # of each hundred, two were dropped between early and late


def test_raw_windows_are_those_of_the_features_person_by_person() -> None:
    for number, person in people().items():
        raw = raw_people()[number]
        for part, other in ((person.early, raw.early), (person.late, raw.late)):
            np.testing.assert_array_equal(part.y, other.y)
            assert other.x.shape == (len(part), 384)
            # Both know how a body was held: the mean of acc_x is a feature of its own.
            held = other.x.reshape(-1, 64, 6)[:, :, 0].mean(axis=1) * 0.016
            np.testing.assert_allclose(held, part.x[:, NAMES.index("acc_x.mean")], atol=0.005)
    joined = evaluation(MAIN, raw_people())
    assert len(joined) == len(evaluation(MAIN))
    assert joined.features == RAW_NAMES
