"""Samples from files: what reads well, and how each mistake is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedring.shared.errors import DataError
from fedring.shared.samples import Dataset, read_samples, write_npz
from fedring.shared.samples.csv_file import read_csv
from fedring.shared.samples.npz_file import read_npz

FEATURES, CLASSES = ("temp", "hum"), ("cold", "warm")
HEADER = "time,hum,temp,label\n"
LINES = [f"12:0{i},{i}.5,-{i}e-1,{CLASSES[i % 2]}\n" for i in range(10)]


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "own.csv"
    path.write_text(text, encoding=encoding)
    return path


def a_dataset(n: int = 12) -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    return Dataset(x, rng.integers(0, 2, n), FEATURES, CLASSES)


def npz_file(folder: Path, **changed: object) -> Path:
    path = folder / "own.npz"
    data = a_dataset()
    arrays = {"x": data.x, "y": np.array(CLASSES)[data.y], "features": np.array(FEATURES)}
    merged = {**arrays, **{name: np.asarray(value) for name, value in changed.items()}}
    np.savez(path, **merged)  # type: ignore[arg-type]
    return path


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    data = read_samples(csv_file(tmp_path, HEADER + "".join(LINES)), FEATURES, CLASSES)
    assert len(data) == 10
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x[3], np.array([-0.3, 3.5], np.float32))
    assert data.y.tolist() == [0, 1] * 5
    assert (data.features, data.classes) == (FEATURES, CLASSES)


def test_spaces_empty_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    text = HEADER.replace(",", ", ") + "\n".join(LINES).replace(",", " , ")
    path = csv_file(tmp_path, text, encoding="utf-8-sig")
    assert len(read_csv(path, FEATURES, CLASSES)) == 10


def test_the_label_column_has_the_name_that_the_user_says(tmp_path: Path) -> None:
    path = csv_file(tmp_path, HEADER.replace("label", "what") + "".join(LINES))
    assert len(read_samples(path, FEATURES, CLASSES, label="what")) == 10


BAD_CSV: dict[str, tuple[str, str, str, str]] = {
    "missing column": (
        "time,hum,tmp,label\n" + LINES[0],
        "data.missing-column",
        "no column `temp`",
        "`temp`: did you mean `tmp`?",
    ),
    "several missing": ("a,b\n", "data.missing-column", "no column `temp`, `hum`, `label`", "`a`"),
    "empty file": ("", "data.missing-column", "no column", ""),
    "semicolons": (
        HEADER.replace(",", ";"),
        "data.missing-column",
        "no column",
        "separated by commas, not semicolons",
    ),
    "doubled column": ("temp,hum,temp,label\n", "data.doubled-column", "column `temp` twice", ""),
    "short line": (HEADER + LINES[0] + "1,2\n", "data.bad-line", "line 3: 2 cells, the", ""),
    "no number": (
        HEADER + LINES[0] + "t,x,1,cold\n",
        "data.bad-number",
        "line 3, column `hum`: 'x' is not",
        "leave out",
    ),
    "NaN": (HEADER + "t,1,nan,cold\n", "data.bad-number", "line 2, column `temp`: 'nan'", ""),
    "infinite": (HEADER + "t,1,inf,cold\n", "data.bad-number", "line 2, column `temp`", ""),
    "beyond float32": (HEADER + "t,1,1e39,cold\n", "data.bad-number", "line 2, column", ""),
    "empty cell": (HEADER + "t,1,,cold\n", "data.bad-number", "line 2, column `temp`: ''", ""),
    "decimal comma": (HEADER + 't,1,"1,5",cold\n', "data.bad-number", "'1,5'", ""),
    "unknown class": (
        HEADER + LINES[0] + "t,1,2,wram\n",
        "data.unknown-class",
        "line 3: the model knows no class 'wram'",
        "did you mean 'warm'?",
    ),
    "far class": (
        HEADER + "t,1,2,zzz\n",
        "data.unknown-class",
        "line 2",
        "it knows `cold`, `warm`",
    ),
    "too few": (HEADER + "".join(LINES[:9]), "data.too-few-samples", "9 samples, at least 10", ""),
    "open quote": (HEADER + '"t,1,2,cold\n', "data.unreadable", "not a CSV file", ""),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_mistakes_in_a_csv_file_are_told_with_place_and_remedy(tmp_path: Path, name: str) -> None:
    text, error, message, hint = BAD_CSV[name]
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_csv(path, FEATURES, CLASSES)
    assert caught.value.name == error
    assert caught.value.text.startswith(f"{path}: ")
    assert message in caught.value.text
    assert hint in caught.value.hint


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    for name, error in (
        ("none.csv", "data.missing-file"),
        ("none.npz", "data.missing-file"),
        ("none.xlsx", "data.unknown-kind"),
    ):
        with pytest.raises(DataError, match=name) as caught:
            read_samples(tmp_path / name, FEATURES, CLASSES)
        assert caught.value.name == error
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "t,1,2,süß\n".encode("latin-1"))
    (tmp_path / "folder.csv").mkdir()
    for name in ("latin.csv", "folder.csv"):
        with pytest.raises(DataError, match="not a CSV file in UTF-8") as caught:
            read_samples(tmp_path / name, FEATURES, CLASSES)
        assert caught.value.name == "data.unreadable"


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = csv_file(tmp_path, HEADER + "".join(LINES * 100))
    assert len(read_csv(path, FEATURES, CLASSES, max_bytes=8_000)) == 1_000
    with pytest.raises(DataError, match="more than 7999 bytes") as caught:
        read_csv(path, FEATURES, CLASSES, max_bytes=7_999)
    assert caught.value.name == "data.too-large"
    huge = tmp_path / "huge.npz"
    np.savez_compressed(huge, x=np.zeros((100_000, 2)), y=np.array(["cold"]), features=FEATURES)
    assert huge.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"huge\.npz: more than 1000000 bytes"):
        read_npz(huge, FEATURES, CLASSES, max_bytes=1_000_000)


def test_npz_gives_back_what_was_written(tmp_path: Path) -> None:
    data = a_dataset()
    write_npz(tmp_path / "own.npz", data)
    again = read_samples(tmp_path / "own.npz", FEATURES, CLASSES)
    np.testing.assert_array_equal(again.x, data.x)
    np.testing.assert_array_equal(again.y, data.y)
    turned = read_samples(tmp_path / "own.npz", FEATURES[::-1], CLASSES[::-1])
    np.testing.assert_array_equal(turned.x, data.x[:, ::-1])
    np.testing.assert_array_equal(turned.y, 1 - data.y)


def test_npz_labels_may_be_whole_numbers(tmp_path: Path) -> None:
    path = npz_file(tmp_path, y=[3, 5] * 6)
    assert read_npz(path, FEATURES, ("5", "3")).y.tolist() == [1, 0] * 6


BAD_NPZ: dict[str, tuple[dict[str, object], str, str]] = {
    "objects": ({"x": np.array([["a", None]] * 12, object)}, "data.unreadable", "not an npz"),
    "text": ({"x": np.full((12, 2), "1")}, "data.unreadable", "no table of numbers"),
    "flat": ({"x": np.zeros(12)}, "data.unreadable", "no table of numbers"),
    "shapes": ({"y": ["cold"] * 11}, "data.unreadable", "shapes do not fit"),
    "names": ({"features": ["temp"]}, "data.unreadable", "shapes do not fit"),
    "columns": ({"features": ["temp", "humid"]}, "data.missing-column", "no column `hum`"),
    "class": ({"y": ["cold"] * 11 + ["hot"]}, "data.unknown-class", "row 11 of y"),
    "NaN": ({"x": np.full((12, 2), np.nan)}, "data.bad-number", "row 0 of x, column `temp`"),
    "too large": ({"x": np.full((12, 2), 1e39)}, "data.bad-number", "1e+39 is not"),
    "class of which there is nothing like": (
        {"y": ["cold", "warm", *"abcdefghij"]},
        "data.unknown-class",
        "row 2 of y: the model knows no class 'a'",
    ),
    "characters that there are not": (
        {"y": np.full(12, 0x110000, np.uint32).view("<U1")},
        "data.unreadable",
        "array `y` is damaged: text with characters",
    ),
    "complex": ({"x": np.zeros((12, 2), complex)}, "data.unreadable", "neither numbers nor text"),
    "truth": ({"x": np.zeros((12, 2), bool)}, "data.unreadable", "no table of numbers"),
    "few": (
        {"x": np.zeros((3, 2)), "y": ["cold"] * 3},
        "data.too-few-samples",
        "3 samples",
    ),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_mistakes_in_an_npz_file_are_told(tmp_path: Path, name: str) -> None:
    changed, error, message = BAD_NPZ[name]
    with pytest.raises(DataError) as caught:
        read_npz(npz_file(tmp_path, **changed), FEATURES, CLASSES)
    assert caught.value.name == error
    assert message in caught.value.text
    assert "own.npz" in caught.value.text


def test_npz_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, data=np.zeros(3))
    with pytest.raises(DataError, match="no array `x`"):
        read_npz(path, FEATURES, CLASSES)
    spoilt: list[Callable[[bytes], bytes]] = [lambda _: b"", lambda d: d[:-40], lambda d: b"x" * 99]
    for spoil in spoilt:
        path.write_bytes(spoil(npz_file(tmp_path).read_bytes()))
        with pytest.raises(DataError, match="not an npz file"):
            read_npz(path, FEATURES, CLASSES)


def test_npz_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    path = npz_file(tmp_path, x=np.zeros((12, 2)))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(12, 2), }      ", b"(9999999999,), }"))
    with pytest.raises(DataError, match="array `x` is damaged"):
        read_npz(path, FEATURES, CLASSES)


def test_npz_with_more_columns_than_anybody_has_is_refused(tmp_path: Path) -> None:
    path = npz_file(tmp_path, x=np.zeros((12, 65_537), np.int8), features=["x"] * 65_537)
    with pytest.raises(DataError) as caught:
        read_npz(path, FEATURES, CLASSES)
    assert caught.value.name == "data.too-large"


def test_many_columns_do_not_slow_the_search_for_one(tmp_path: Path) -> None:
    """Comparing a name with all others takes minutes; with the first thousand it does not."""
    names = [f"column{at}" for at in range(30_000)]
    path = csv_file(tmp_path, ",".join([*names, "tmp"]) + "\n")
    with pytest.raises(DataError, match="no column `temp`, `hum`, `label`") as caught:
        read_csv(path, FEATURES, CLASSES)
    assert caught.value.hint.startswith("columns of the file: `column0`, `column1`")
    assert caught.value.hint.endswith("and 29993 more")


def test_take_chooses_samples() -> None:
    data = a_dataset()
    np.testing.assert_array_equal(data.take(data.y == 1).x, data.x[data.y == 1])
    assert data.take(np.array([3, 3, 0])).y.tolist() == data.y[[3, 3, 0]].tolist()
