"""A device's own file: read anew each time, never written."""

from pathlib import Path

import pytest

from fedring.device.data import FileSource
from fedring.shared.errors import DataError


def write(path: Path, n_lines: int) -> None:
    path.write_text("what,temp\n" + "warm,1.5\n" * n_lines)


def test_a_source_reads_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write(path, 10)
    before = path.read_bytes()
    source = FileSource(path, label="what")
    assert len(source.read(["temp"], ["cold", "warm"])) == 10
    assert path.read_bytes() == before
    write(path, 11)
    assert len(source.read(["temp"], ["cold", "warm"])) == 11


def test_the_kind_goes_before_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    write(path, 10)
    with pytest.raises(DataError, match="`log` file") as caught:
        FileSource(path, label="what").read(["temp"], ["warm"])
    assert "csv, npz" in caught.value.hint
    assert len(FileSource(path, "csv", "what").read(["temp"], ["warm"])) == 10
