"""Key and certificate on a board's disk: whenever the power goes, it has a pair that fits.

Power is cut for real, at every operation on files in turn: a process that does the work kills
itself just before it.
"""

import os
import signal
import stat
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.device.enrolment.bootstrap import forget_code
from fedring.device.enrolment.key_files import KeyFiles
from fedring.lab.fuzzing import people
from fedring.shared.certificates import read_private_key
from fedring.shared.identity import Identity

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir"}


def files(folder: Path) -> KeyFiles:
    return KeyFiles(folder / "device.key", folder / "device.crt")


def certificate_for(files: KeyFiles, number: int = 1) -> bytes:
    """What the owner would give for the key in these files."""
    key = read_private_key(files.key).public_key()
    certificate = people.issuer().device(key, f"b{number:02}", number)
    return certificate.public_bytes(Encoding.DER)


def killed_at(work: Callable[[], object], folder: Path, step: int) -> bool:
    """Do the work in a process that is killed at a step; False when it has fewer steps."""
    with warnings.catch_warnings():  # of threads that other tests left idle
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        left = step

        def cut(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in TOUCHES and str(folder) in str(arguments[0]):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(cut)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def steps(prepare: Callable[[Path], None], work: Callable[[Path], object], tmp_path: Path) -> int:
    """Cut the power at each step of some work in turn, and give how many there are.

    After each cut the board comes up: it settles, and holds a key and a certificate that fit.
    """
    for step in range(100):
        folder = tmp_path / str(step)
        folder.mkdir(mode=0o700)
        prepare(folder)
        was_killed = killed_at(partial(work, folder), folder, step)
        own = files(folder)
        own.settle()
        Identity.load(own.key, own.certificate)
        new = own.new
        assert not (new.certificate.exists() and not new.key.exists())
        if new.is_complete:
            Identity.load(new.key, new.certificate)
        work(folder)
        Identity.load(own.key, own.certificate)
        if not was_killed:
            return step
    raise AssertionError("no end")


def enrolled(folder: Path) -> None:
    own = files(folder)
    own.own_key()
    own.keep(certificate_for(own))


def with_new_pair(folder: Path) -> None:
    enrolled(folder)
    enrolled_new(folder)


def enrolled_new(folder: Path) -> None:
    new = files(folder).new
    new.own_key()
    new.keep(certificate_for(new))


class TestPowerCut:
    def test_while_the_next_pair_is_made(self, tmp_path: Path) -> None:
        assert steps(enrolled, enrolled_new, tmp_path) >= 6

    def test_while_it_takes_the_place_of_the_old_one(self, tmp_path: Path) -> None:
        def promote(folder: Path) -> None:
            own = files(folder)
            own.settle()
            if own.new.is_complete:
                own.promote()

        assert steps(with_new_pair, promote, tmp_path) >= 4

    def test_while_it_is_dropped(self, tmp_path: Path) -> None:
        def drop(folder: Path) -> None:
            own = files(folder)
            own.settle()
            own.drop_new()

        assert steps(with_new_pair, drop, tmp_path) >= 2

    def test_while_the_first_pair_is_made_the_key_stays(self, tmp_path: Path) -> None:
        """What was asked with must be what is there when the answer comes."""
        for step in range(50):
            folder = tmp_path / str(step)
            folder.mkdir(mode=0o700)
            was_killed = killed_at(partial(enrolled, folder), folder, step)
            key = files(folder).key
            before = key.read_bytes() if key.exists() else None
            enrolled(folder)
            assert before in (None, key.read_bytes())
            Identity.load(key, files(folder).certificate)
            if not was_killed:
                assert step >= 4
                return

    def test_while_the_code_is_forgotten(self, tmp_path: Path) -> None:
        for step in range(50):
            folder = tmp_path / str(step)
            folder.mkdir()
            file = folder / "bootstrap.json"
            file.write_text('{"code": "00", "name": "b01"}')
            was_killed = killed_at(partial(forget_code, file), folder, step)
            forget_code(file)
            assert file.read_text().split() == ["{", '"name":', '"b01"', "}"]
            if not was_killed:
                assert step >= 3
                return


class TestFiles:
    def test_nobody_else_reads_the_key(self, tmp_path: Path) -> None:
        own = files(tmp_path / "new")
        own.own_key()
        assert stat.S_IMODE(own.key.stat().st_mode) == 0o600
        assert stat.S_IMODE(own.key.parent.stat().st_mode) == 0o700

    def test_the_key_is_made_once(self, tmp_path: Path) -> None:
        own = files(tmp_path)
        assert own.own_key().private_numbers() == own.own_key().private_numbers()

    def test_promotion(self, tmp_path: Path) -> None:
        with_new_pair(tmp_path)
        own = files(tmp_path)
        key = own.new.key.read_bytes()
        own.promote()
        assert own.key.read_bytes() == key
        Identity.load(own.key, own.certificate)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["device.crt", "device.key"]

    def test_a_certificate_that_belongs_to_nothing_is_dropped(self, tmp_path: Path) -> None:
        with_new_pair(tmp_path)
        own = files(tmp_path)
        own.new.key.unlink()
        own.settle()
        assert not own.new.certificate.exists()
        Identity.load(own.key, own.certificate)

    @pytest.mark.parametrize("content", [b"", b"garbage"])
    def test_a_damaged_new_certificate_is_dropped(self, tmp_path: Path, content: bytes) -> None:
        enrolled(tmp_path)
        own = files(tmp_path)
        own.new.certificate.write_bytes(content)
        own.settle()
        assert not own.new.certificate.exists()
        Identity.load(own.key, own.certificate)
