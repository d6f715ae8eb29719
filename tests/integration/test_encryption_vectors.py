"""The known answers of the encryption, by the programs that write and read them without ours."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "tests" / "vectors" / "encryption"
WRITE = [sys.executable, "-m", "tests.vectors.encryption.make"]
READ = [sys.executable, str(FOLDER / "read.py")]


def test_the_writer_still_writes_these_files(tmp_path: Path) -> None:
    """All that take no seconds each; whatever it wrote once and does not any more is noticed."""
    subprocess.run([*WRITE, "--short", "--into", str(tmp_path)], cwd=PROJECT, check=True)
    written = {file.name: file.read_text() for file in tmp_path.glob("*.txt")}
    kept = {file.name: file.read_text() for file in FOLDER.glob("*.txt")}
    long = {name for name in kept if name.split("-")[1] in ("full", "most")}
    assert len(long) == 8
    assert written == {name: text for name, text in kept.items() if name not in long}


def test_another_reader_finds_what_the_files_say() -> None:
    done = subprocess.run(READ, check=False, capture_output=True, text=True)
    expected = [
        f"{file.stem}: {file.read_text().splitlines()[0].removeprefix('expect: ')}"
        for file in sorted(FOLDER.glob("*.txt"))
    ]
    assert done.stdout.splitlines() == expected
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("line", "found"),
    [("values", "another body"), ("release", "another release"), ("product", "another product")],
)
def test_the_reader_tells_a_file_that_was_touched(line: str, found: str, tmp_path: Path) -> None:
    text = (FOLDER / "hybrid-three-16.txt").read_text()
    start = text.index(f"\n{line}: ") + len(line) + 3
    digit = "1" if text[start] != "1" else "2"
    touched = tmp_path / "touched.txt"
    touched.write_text(text[:start] + digit + text[start + 1 :])
    done = subprocess.run([*READ, str(touched)], check=False, capture_output=True, text=True)
    assert done.stdout == f"touched: {found} than its header gives\n"
    assert done.returncode == 1
