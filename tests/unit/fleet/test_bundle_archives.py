"""Archives of bundles: the same files give the same bytes, and all of them come out again."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.fleet.bundles.archives import pack_files, pack_folder

NAMES = st.text("abcdefgh", min_size=1, max_size=130)


def members(archive: bytes) -> dict[str, tuple[bytes, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            member.name: (content.read() if (content := opened.extractfile(member)) else b"", mode)
            for member in opened
            for mode in [member.mode]
        }


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    folder = tmp_path / "slot"
    (folder / "site" / "numpy").mkdir(parents=True)
    (folder / "site" / "numpy" / "__init__.py").write_text("first")
    (folder / "fedring").write_text("#!/bin/sh\n")
    (folder / "fedring").chmod(0o700)
    return folder


def test_all_files_come_out_with_the_mark_of_programs(slot: Path) -> None:
    assert members(pack_folder(slot)) == {
        "fedring": (b"#!/bin/sh\n", 0o755),
        "site": (b"", 0o755),
        "site/numpy": (b"", 0o755),
        "site/numpy/__init__.py": (b"first", 0o644),
    }


def test_neither_dates_nor_modes_nor_order_of_making_change_the_bytes(
    slot: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(slot.rglob("*"), reverse=True):
        copy = other / path.relative_to(slot)
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o755 if path.name == "fedring" else 0o600)
            os.utime(copy, (1, 1))
    assert pack_folder(other) == pack_folder(slot)
    (other / "site" / "numpy" / "__init__.py").write_text("second")
    assert pack_folder(other) != pack_folder(slot)


def test_a_packed_folder_names_neither_its_maker_nor_a_date(slot: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(pack_folder(slot)))) as archive:
        marks = {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in archive}
    assert marks == {(0, 0, "", "", 0)}


@given(st.dictionaries(NAMES.filter(lambda name: len(name) <= 100), st.binary(max_size=2000)))
def test_files_come_out_in_their_order(files: dict[str, bytes]) -> None:
    packed = pack_files(files)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames() == list(files)
    assert {name: content for name, (content, _) in members(packed).items()} == files
