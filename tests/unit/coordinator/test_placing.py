"""Files of services: what root reads back must be root's, and no link leads its hand elsewhere."""

import os
from pathlib import Path

import pytest

from fedring.coordinator.apply.placing import own_folder, read_own
from fedring.shared.errors import StateError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "broker.key"
    path.write_bytes(b"key")
    path.chmod(0o640)
    return path


def test_an_own_file_is_read_and_a_missing_one_is_none(file: Path) -> None:
    assert read_own(file) == b"key"
    assert read_own(file.with_name("none")) is None
    assert read_own(file / "below") is None


def test_a_symbolic_link_is_not_followed(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_own(link) is None


def test_a_second_name_of_a_file_is_not_read(file: Path) -> None:
    link = file.with_name("link")
    os.link(file, link)
    assert read_own(link) is None


@pytest.mark.parametrize("mode", [0o660, 0o646])
def test_what_others_may_write_is_not_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_own(file) is None


def test_what_is_no_file_is_not_read_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_own(tmp_path / "pipe") is None
    assert read_own(tmp_path) is None


def test_a_folder_is_made_and_mended(tmp_path: Path) -> None:
    for mode in (0o750, 0o700):
        own_folder(tmp_path / "folder", mode)
        assert (tmp_path / "folder").stat().st_mode & 0o777 == mode


def test_a_link_to_a_folder_is_refused_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o755)
    (tmp_path / "folder").symlink_to("elsewhere")
    with pytest.raises(StateError):
        own_folder(tmp_path / "folder", 0o700)
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755
