"""A device's own samples: read anew each time, never written, in bounded memory."""

import itertools
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.device.data import (
    DatabaseSource,
    FileSource,
    FolderSource,
    FunctionSource,
    Source,
    database,
    source_of,
)
from fedring.device.settings import Data, DeviceSettings
from fedring.shared.config import FunctionName
from fedring.shared.errors import ConfigError, DataError
from fedring.shared.samples import Dataset, write_npz

MANY = 10_000
TEMP, WARM = ["temp"], ["warm"]


def write(path: Path, n_lines: int, *, temp: float = 1.5, changed: int | None = None) -> None:
    path.write_text("what,temp\n" + f"warm,{temp}\n" * n_lines)
    if changed is not None:
        os.utime(path, ns=(changed, changed))


def temps(source: Source) -> list[float]:
    return [float(value) for value in source.read(TEMP, WARM).x[:, 0]]


def mistake(act: Callable[..., object], *arguments: object) -> DataError:
    with pytest.raises(DataError) as caught:
        act(*arguments)
    return caught.value


# -- a file ----------------------------------------------------------------------------------


def test_a_source_reads_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write(path, 10)
    before = path.read_bytes()
    source = FileSource(path, label="what")
    source.check()
    assert len(source.read(TEMP, ["cold", "warm"])) == 10
    assert path.read_bytes() == before
    write(path, 11)
    assert len(source.read(TEMP, ["cold", "warm"])) == 11


def test_the_kind_goes_before_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    write(path, 10)
    with pytest.raises(DataError, match="`log` file") as caught:
        FileSource(path, label="what").read(TEMP, WARM)
    assert "csv, npz" in caught.value.hint
    assert len(FileSource(path, "csv", "what").read(TEMP, WARM)) == 10


BAD_AT_START = {
    "no label": ("temp,hum\n1,2\n", "data.missing-column", "no column `label`"),
    "two labels": ("label,temp,label\n", "data.doubled-column", "column `label` twice"),
    "empty": ("", "data.missing-column", "no column `label`"),
    "labels alone": ("label\n", "data.no-numbers", "no column of numbers beside `label`"),
    "texts alone": ("label,day\nwarm,mon\n", "data.no-numbers", "no column of numbers"),
    "a short line": ("label,temp\nwarm\n", "data.bad-line", "line 2: 1 cells"),
    "no text": ("label,temp\n\0\udcff", "data.unreadable", "not a CSV file in UTF-8"),
}


@pytest.mark.parametrize("case", BAD_AT_START)
def test_a_csv_file_is_looked_at_before_any_model_is_known(tmp_path: Path, case: str) -> None:
    text, name, told = BAD_AT_START[case]
    path = tmp_path / "own.csv"
    path.write_text(text, errors="surrogateescape")
    error = mistake(FileSource(path).check)
    assert error.name == name
    assert error.text.startswith(f"{path}: ")
    assert told in error.text


def test_a_file_may_begin_without_samples(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("label,temp\n")
    FileSource(tmp_path / "own.csv").check()


def test_an_npz_file_is_looked_at_before_any_model_is_known(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros((3, 2)), y=["warm"] * 3, features=["a", "b"])
    FileSource(path).check()
    np.savez(path, x=np.zeros((3, 2)), y=["warm"] * 3, features=["a"])
    assert "shapes do not fit" in mistake(FileSource(path).check).text
    path.write_bytes(path.read_bytes()[:-5])
    assert mistake(FileSource(path).check).name == "data.unreadable"


def test_a_pipe_does_not_keep_the_agent_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.csv")
    source = FileSource(tmp_path / "own.csv")
    assert "a pipe, device or socket" in mistake(source.check).text
    assert mistake(source.read, TEMP, WARM).name == "data.unreadable"
    assert mistake(FileSource(Path("/dev/zero"), "csv").check).name == "data.unreadable"


# -- a folder --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=6),
    newest=st.integers(10, 40),
)
def test_the_newest_samples_of_a_folder_count(files: list[tuple[int, int]], newest: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        dated = []
        stamp = itertools.count()
        for number, (changed, n_lines) in enumerate(files):
            lines = [float(next(stamp)) for _ in range(n_lines)]
            file = folder / f"{number}.csv"
            file.write_text("label,temp\n" + "".join(f"warm,{value}\n" for value in lines))
            os.utime(file, ns=(changed, changed))
            dated.append((changed, file.name, lines))
        expected = [value for _, _, lines in sorted(dated) for value in lines][-newest:]
        source = FolderSource(folder, newest)
        source.check()
        if len(expected) < 10:
            assert mistake(source.read, TEMP, WARM).name == "data.too-few-samples"
        else:
            assert sorted(temps(source)) == sorted(expected)


def test_what_does_not_fit_into_memory_any_more_is_left_out(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.csv", 10, temp=number, changed=number)
    assert sorted(temps(FolderSource(tmp_path, MANY, "what", 80))) == [1.0] * 10 + [2.0] * 10
    error = mistake(FolderSource(tmp_path, MANY, "what", 39).read, TEMP, WARM)
    assert (error.name, "2.csv" in error.text) == ("data.too-large", True)


def test_files_of_both_kinds_count_and_nothing_else_does(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 5)
    data = Dataset(np.full((6, 1), 2.5, np.float32), np.zeros(6, np.int64), ("temp",), ("warm",))
    write_npz(tmp_path / "B.NPZ.npz", data)
    for passed_over in (".hidden.csv", "today.csv.part", "notes.txt", "csv"):
        (tmp_path / passed_over).write_text("no samples")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "gone.csv").symlink_to("nowhere.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    source = FolderSource(tmp_path, MANY, "what")
    source.check()
    assert sorted(temps(source)) == [1.5] * 5 + [2.5] * 6


def test_a_broken_file_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 10, changed=1)
    (tmp_path / "b.csv").write_text("what,temp\nwarm,x\n")
    source = FolderSource(tmp_path, MANY, "what")
    error = mistake(source.read, TEMP, WARM)
    assert error.text == f"{tmp_path}/b.csv: line 2, column `temp`: 'x' is not a finite number"
    assert mistake(source.check).text.startswith(f"{tmp_path}/b.csv: no column of numbers")


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    error = mistake(FolderSource(tmp_path, MANY).check)
    assert error.text == f"{tmp_path}: no CSV or npz file in this folder"
    error = mistake(FolderSource(tmp_path / "away", MANY).check)
    assert (error.name, error.hint) == ("data.missing-file", "check `folder` in the settings")
    write(tmp_path / "a.csv", 1)
    assert "not a folder" in mistake(FolderSource(tmp_path / "a.csv", MANY).check).text


# -- a database ------------------------------------------------------------------------------


def database_of(path: Path, *statements: str, rows: list[tuple[Any, ...]] | None = None) -> Path:
    with closing(sqlite3.connect(path)) as opened:
        for statement in statements or ("CREATE TABLE own (temp, label)",):
            opened.execute(statement)
        opened.executemany("INSERT INTO own (temp, label) VALUES (?, ?)", rows or [])
        opened.commit()
    return path


def warm(n_rows: int) -> list[tuple[Any, ...]]:
    return [(float(number), "warm") for number in range(n_rows)]


def test_the_newest_rows_of_a_table_count(tmp_path: Path) -> None:
    path = database_of(tmp_path / "own.db", rows=warm(30))
    before = path.read_bytes()
    source = DatabaseSource(path, "own", 12)
    source.check()
    assert sorted(temps(source)) == [float(number) for number in range(18, 30)]
    assert min(temps(DatabaseSource(path, "own", MANY, max_bytes=43))) == 20.0
    assert (path.read_bytes(), os.listdir(tmp_path)) == (before, ["own.db"])


CELLS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["1.5", "-2e3", "nan", "inf", b"1.5", b"\xff"]),
)


@settings(max_examples=40, deadline=None)
@given(cells=st.lists(st.tuples(CELLS, st.sampled_from(["warm", 5, None, b"x"])), max_size=14))
def test_any_cells_become_finite_numbers_or_a_mistake_with_its_row(
    cells: list[tuple[Any, Any]],
) -> None:
    largest = float(np.finfo(np.float32).max)

    def value(cell: Any) -> float | None:
        if cell is None or isinstance(cell, bytes):
            return None
        try:
            return float(cell) if abs(float(cell)) <= largest else None
        except ValueError:
            return None

    with TemporaryDirectory() as name:
        path = database_of(Path(name, "own.db"), rows=[*cells, *warm(10)])
        source = DatabaseSource(path, "own", MANY)
        bad = [i for i, (cell, _) in enumerate(cells) if value(cell) is None]
        strange = [i for i, (_, label) in enumerate(cells) if label not in ("warm", 5)]
        if bad or strange:
            error = mistake(source.read, TEMP, ["warm", "5"])
            worst = max(bad + strange)
            assert error.name == ("data.bad-number" if worst in bad else "data.unknown-class")
            assert f"row {10 + len(cells) - worst} from the newest" in error.text
        else:
            read = source.read(TEMP, ["warm", "5"])
            expected = [value(cell) for cell, _ in [*cells, *warm(10)]][::-1]
            np.testing.assert_array_equal(read.x[:, 0], np.array(expected, np.float32))
            labels = ["warm", "5"]
            assert read.y.tolist() == [
                labels.index(str(label)) for _, label in [*cells, *warm(10)][::-1]
            ]


def test_a_view_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = database_of(
        tmp_path / "own.db",
        "CREATE TABLE own (temp, label)",
        "CREATE VIEW best AS SELECT temp + 0.5 AS temp, label FROM own ORDER BY temp % 5, temp",
        "CREATE TABLE keyed (temp REAL PRIMARY KEY, label) WITHOUT ROWID",
        rows=warm(50),
    )
    source = DatabaseSource(path, "best", 10)
    source.check()
    assert temps(source) == [float(number) + 0.5 for number in range(0, 50, 5)]
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("INSERT INTO keyed SELECT -temp, label FROM own")
        opened.commit()
    assert temps(DatabaseSource(path, "keyed", 10)) == [float(n) for n in range(-49, -39)]


def test_a_view_without_end_is_cut(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(temp) AS (SELECT 1 UNION ALL SELECT temp + 1 FROM n)"
    path = database_of(
        tmp_path / "own.db",
        "CREATE TABLE own (temp, label)",
        f"CREATE VIEW all_of_them AS {endless} SELECT temp, 'warm' AS label FROM n",
    )
    assert len(DatabaseSource(path, "all_of_them", 500).read(TEMP, WARM)) == 500


def test_names_are_never_taken_for_statements_or_texts(tmp_path: Path) -> None:
    nasty, column = 'a "table"; DROP TABLE own; --', 'temp" FROM own; --'
    quoted, inner = nasty.replace('"', '""'), column.replace('"', '""')
    path = database_of(
        tmp_path / "own.db",
        "CREATE TABLE own (temp, label)",
        f'CREATE TABLE "{quoted}" ("{inner}" REAL, label)',
        f"INSERT INTO \"{quoted}\" SELECT 7, 'warm' FROM (VALUES (1),(1),(1),(1),(1),(1),(1),(1),(1),(1))",  # noqa: E501
        rows=warm(10),
    )
    read = DatabaseSource(path, nasty, MANY).read([column], WARM)
    assert read.x.tolist() == [[7.0]] * 10
    assert len(DatabaseSource(path, "own", MANY).read(TEMP, WARM)) == 10
    # "warm" in double quotes would be a text for SQLite where there is no such column
    error = mistake(DatabaseSource(path, "own", MANY, "warm").read, TEMP, WARM)
    assert (error.name, "no column `warm`" in error.text) == ("data.missing-column", True)


BAD_DATABASES: dict[str, tuple[str, str, str, str]] = {
    "table": ("owm", "data.missing-table", "no table or view `owm`", "did you mean `own`?"),
    "far table": ("zz", "data.missing-table", "no table or view `zz`", "`own`, `texts`"),
    "no name": ("a\0b", "data.missing-table", "no table or view", "`own`"),
    "texts": ("texts", "data.no-numbers", "table `texts`: no column of numbers", "`a`"),
    "label": ("unlabelled", "data.missing-column", "no column `label`", "did you mean `labels`?"),
    "view": ("stale", "data.unreadable", "no such table: main.gone", ""),
}


@pytest.mark.parametrize("case", BAD_DATABASES)
def test_a_database_is_looked_at_before_any_model_is_known(tmp_path: Path, case: str) -> None:
    table, name, told, hint = BAD_DATABASES[case]
    path = database_of(
        tmp_path / "own.db",
        "CREATE TABLE own (temp, label)",
        "CREATE TABLE texts (a, label)",
        "INSERT INTO texts VALUES ('x', 'warm')",
        "CREATE TABLE unlabelled (temp, labels)",
        "CREATE VIEW stale AS SELECT * FROM gone",
    )
    error = mistake(DatabaseSource(path, table, MANY).check)
    assert (error.name, error.text.startswith(str(path))) == (name, True)
    assert told in error.text
    assert hint in error.hint
    assert mistake(DatabaseSource(path, table, MANY).read, TEMP, WARM).name in (
        name,
        "data.missing-column",
    )


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    source = DatabaseSource(tmp_path / "own.db", "own", MANY)
    error = mistake(source.check)
    assert (error.name, error.hint) == ("data.missing-file", "check `database` in the settings")
    assert os.listdir(tmp_path) == [], "reading makes no database"
    (tmp_path / "own.db").write_text("what,temp\n" * 100)
    assert "not an SQLite database" in mistake(source.check).text


def test_a_database_whose_damage_is_no_text_is_told(tmp_path: Path) -> None:
    """SQLite quotes from the file, and Python cannot read what it quotes."""
    path = database_of(tmp_path / "own.db", rows=warm(10))
    whole = path.read_bytes()
    assert b"CREATE TABLE" in whole
    path.write_bytes(whole.replace(b"CREATE TABLE", b"CREATE TABL\xff"))
    source = DatabaseSource(path, "own", MANY)
    for read in (source.check, lambda: source.read(TEMP, WARM)):
        error = mistake(read)
        assert error.name == "data.unreadable"
        assert "not an SQLite database" in error.text


def test_a_name_with_signs_of_an_address_is_a_name(tmp_path: Path) -> None:
    path = database_of(tmp_path / "a%20b?mode=rwc#c.db", rows=warm(10))
    assert len(DatabaseSource(path, "own", MANY).read(TEMP, WARM)) == 10


def test_a_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.01)
    path = database_of(tmp_path / "own.db", rows=warm(10))
    source = DatabaseSource(path, "own", MANY)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert mistake(source.read, TEMP, WARM).name == "data.locked"
        writer.execute("ROLLBACK")
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO own VALUES ('half of a', 'sample')")
        assert len(source.read(TEMP, WARM)) == 10


def test_half_a_transaction_is_left_to_who_wrote_it(tmp_path: Path) -> None:
    path = database_of(tmp_path / "own.db", rows=warm(10))
    cut_off = tmp_path / "cut_off.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO own VALUES (?, zeroblob(5000))", [(n,) for n in range(20)])
        cut_off.write_bytes(path.read_bytes())
        journal = Path(f"{path}-journal").read_bytes()
    Path(f"{cut_off}-journal").write_bytes(journal)
    before = cut_off.read_bytes()
    source = DatabaseSource(cut_off, "own", MANY)
    assert mistake(source.check).name == "data.unfinished"
    assert (cut_off.read_bytes(), Path(f"{cut_off}-journal").read_bytes()) == (before, journal)
    with closing(sqlite3.connect(cut_off)) as writer:
        writer.execute("SELECT * FROM own").fetchall()
    assert len(source.read(TEMP, WARM)) == 10


def test_a_cell_as_large_as_memory_is_not_read(tmp_path: Path) -> None:
    path = database_of(
        tmp_path / "own.db", "CREATE TABLE own (temp, label, picture)", rows=warm(10)
    )
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE own SET picture = zeroblob(3000000) WHERE rowid = 1")
        opened.commit()
        assert len(DatabaseSource(path, "own", MANY).read(TEMP, WARM)) == 10
        opened.execute("UPDATE own SET label = zeroblob(3000000) WHERE rowid = 1")
        opened.commit()
    error = mistake(DatabaseSource(path, "own", MANY).read, TEMP, WARM)
    assert (error.name, "too big" in error.text) == ("data.unreadable", True)


def demand_place(error: DataError, path: Path) -> None:
    assert error.text.startswith(str(path))


@pytest.fixture(scope="module")
def whole() -> bytes:
    with TemporaryDirectory() as name:
        return database_of(Path(name, "own.db"), rows=warm(60)).read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_database_gives_samples_or_a_mistake(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 120), st.integers(0, len(damaged) - 1)))
        damaged[at] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(damaged) // 2, len(damaged))) :]
    with TemporaryDirectory() as name:
        path = Path(name, "own.db")
        path.write_bytes(damaged)
        source = DatabaseSource(path, "own", MANY)
        try:
            source.check()
            assert np.isfinite(source.read(TEMP, WARM).x).all()
        except DataError as error:
            demand_place(error, path)


# -- a function ------------------------------------------------------------------------------


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Callable[..., FunctionSource]]:
    """Makes a module of the owner, and the source that calls its function `samples`."""
    path, modules = list(sys.path), set(sys.modules)
    numbers = itertools.count()

    def make(text: str, **options: Any) -> FunctionSource:
        module = f"owners_{next(numbers)}"
        (tmp_path / f"{module}.py").write_text(text)
        return FunctionSource(FunctionName(tmp_path, module, "samples"), **options)

    yield make
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_function_gives_samples_as_they_are_now(function: Callable[..., FunctionSource]) -> None:
    source = function(
        "called = 0\n"
        "def samples():\n"
        "    global called\n"
        "    called += 1\n"
        "    return ({'temp': called, 'hum': 'x', 'label': 'warm'} for _ in range(10))\n"
    )
    source.check()
    assert temps(source) == [2.0] * 10
    assert temps(source) == [3.0] * 10


def test_a_function_may_give_arrays(function: Callable[..., FunctionSource]) -> None:
    source = function(
        "def samples():\n"
        "    return {'x': [[n, 0] for n in range(10)], 'y': ['warm'] * 10,"
        " 'features': ['temp', 'hum']}\n"
    )
    source.check()
    assert temps(source) == [float(n) for n in range(10)]


RAISED = {
    "at the call": ("import numpy as np\ndef samples():\n    return np.zeros(-1)\n", 3),
    "in a sample": ("def samples():\n    yield {'temp': 1, 'label': 'a'}\n    1 / 0\n", 3),
    "at import": ("x = 1\nraise ValueError('no sensor')\n", 2),
    "in a line that is none": ("def samples():\n    return [\n", 2),
    "of a missing module": ("\n\nimport no_such_module\n", 3),
    "to end the process": ("import sys\ndef samples():\n    sys.exit('bye')\n", 3),
}


@pytest.mark.parametrize("case", RAISED)
def test_what_the_owners_code_raises_is_told_with_its_line(
    function: Callable[..., FunctionSource], tmp_path: Path, case: str
) -> None:
    text, line = RAISED[case]
    error = mistake(function(text).read, TEMP, ["a"])
    assert error.name == "data.function-failed"
    assert error.text.startswith(f"{tmp_path}/owners_0.py:{line}: ")
    assert "owners_0:samples" in error.hint


def test_a_mistake_on_the_way_through_our_own_code_names_the_owners_line(
    function: Callable[..., FunctionSource], tmp_path: Path
) -> None:
    source = function("import json\n\ndef samples():\n    return json.loads('{')\n")
    error = mistake(source.check)
    assert error.text.startswith(f"{tmp_path}/owners_0.py:4: JSONDecodeError: ")


ROW = "{'temp': 1, 'label': 'warm'}"
UNUSABLE = {
    "None": ("None", "data.unreadable", "gave a value of type NoneType"),
    "texts": ("['a']", "data.unreadable", "sample 1 is of type str"),
    "later": (f"[{ROW}] * 12 + [5]", "data.unreadable", "sample 13 is of type int"),
    "no array": ("{'x': [[1]]}", "data.missing-array", "no array `y`"),
    "ragged": ("{'x': [[1], [1, 2]], 'y': [], 'features': []}", "data.unreadable", "inhomogen"),
    "objects": ("{'x': [[None]], 'y': ['a'], 'features': ['temp']}", "data.unreadable", "no table"),
    "complex": ("{'x': [[1j]], 'y': ['a'], 'features': ['temp']}", "data.unreadable", "no table"),
    "labels": ("{'x': [[1]], 'y': [None], 'features': ['temp']}", "data.unreadable", "`y` is no"),
    "gap": (f"[{ROW}] * 12 + [{{'temp': 1}}]", "data.missing-column", "sample 13: no column"),
    "none": ("[]", "data.too-few-samples", "0 samples"),
    "NaN": ("[{'temp': float('nan'), 'label': 'warm'}]", "data.bad-number", "sample 1, column"),
    "list": ("[{'temp': [1], 'label': 'warm'}]", "data.bad-number", "[1] is not a finite number"),
    "class": ("[{'temp': 1, 'label': 'hot'}]", "data.unknown-class", "sample 1: the model"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_is_no_samples_is_told(function: Callable[..., FunctionSource], case: str) -> None:
    given, name, told = UNUSABLE[case]
    error = mistake(function(f"def samples():\n    return {given}\n").read, TEMP, WARM)
    assert error.name == name
    assert error.text.startswith("owners_0:samples: ")
    assert told in error.text


def test_a_function_is_looked_at_before_any_model_is_known(
    function: Callable[..., FunctionSource],
) -> None:
    told = {
        "[{'temp': 1}]": "data.missing-column",
        "[{'temp': 'x', 'label': 'warm'}]": "data.no-numbers",
        "{'x': [1], 'y': [1], 'features': ['temp']}": "data.unreadable",
        "7": "data.unreadable",
    }
    for value, name in told.items():
        assert mistake(function(f"def samples():\n    return {value}\n").check).name == name
    function("def samples():\n    return []\n").check()


def test_samples_without_end_are_cut(function: Callable[..., FunctionSource]) -> None:
    text = f"def samples():\n    while True:\n        yield {ROW}\n"
    source = function(text, max_bytes=4_000)
    source.check()
    assert mistake(source.read, TEMP, WARM).name == "data.too-large"
    arrays = "{'x': np.zeros((600, 1)), 'y': ['warm'] * 600, 'features': ['temp']}"
    source = function(f"import numpy as np\ndef samples():\n    return {arrays}\n", max_bytes=4_000)
    assert mistake(source.check).name == "data.too-large"


def test_a_function_that_is_not_there_is_told(
    function: Callable[..., FunctionSource], tmp_path: Path
) -> None:
    error = mistake(function("samples = 5\n").check)
    assert (error.name, error.text) == (
        "data.missing-function",
        "owners_0:samples: no function `samples`",
    )
    assert f"{tmp_path}/owners_0.py" in error.hint
    for module in ("sensro", "json.sensor"):
        error = mistake(FunctionSource(FunctionName(tmp_path, module, "samples")).check)
        assert error.text == f"{module}:samples: no module `{module}`"
        assert error.hint.endswith(f"expected in {tmp_path}")


def test_a_file_of_the_owner_does_not_stand_in_for_a_module_of_python(
    function: Callable[..., FunctionSource], tmp_path: Path
) -> None:
    (tmp_path / "colorsys.py").write_text("raise AssertionError('imported')\n")
    error = mistake(function("import colorsys\n").check)
    assert "no function `samples`" in error.text


# -- settings --------------------------------------------------------------------------------

SETTINGS = """
fleet = {ca = "ca.crt", key = "d.key", certificate = "d.crt"}
broker = {host = "localhost"}
state = {folder = "state"}
privacy = {threshold = 3}
[data]
"""


def data_of(folder: Path, *lines: str) -> Data:
    (folder / "device.toml").write_text(SETTINGS + "\n".join(lines))
    return DeviceSettings.load(folder / "device.toml").data


def test_one_key_says_where_the_data_are(tmp_path: Path) -> None:
    def chosen(*lines: str) -> Source:
        return source_of(data_of(tmp_path, *lines))

    label = 'label = "what"'
    assert chosen('file = "a.txt"', 'source = "csv"', label) == FileSource(
        tmp_path / "a.txt", "csv", "what"
    )
    assert chosen('folder = "f"', label) == FolderSource(tmp_path / "f", 100_000, "what")
    assert chosen('database = "a.db"', 'table = "own"', "newest = 50") == DatabaseSource(
        tmp_path / "a.db", "own", 50
    )
    assert chosen('function = "board.sensor:read"') == FunctionSource(
        FunctionName(tmp_path, "board.sensor", "read")
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "expected exactly one of `file`, `folder`, `database` and `function` in [data]"),
        (['file = "a"', 'folder = "b"'], ':8: folder = "b": expected exactly one of'),
        (['folder = "b"', 'source = "csv"'], ':8: source = "csv": expected no such key without'),
        (['database = "b"'], "expected `table` with `database`"),
        (['file = "b"', 'table = "a"'], ':8: table = "a": expected `table` with `database`'),
        (['function = "sensor"'], "expected module:function"),
        (['function = "a b:c"'], "expected module:function"),
        (['function = ":c"'], "expected module:function"),
        (["function = 5"], "expected module:function"),
        (['folder = "b"', "newest = 9"], "expected a whole number from 10"),
    ],
)
def test_settings_that_name_no_source_are_told(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data_of(tmp_path, *lines)
    assert told in caught.value.text
