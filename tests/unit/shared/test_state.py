"""State folders: private, one owner, durable, whole or nothing, and clear when they cannot be."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fedring.shared import state
from fedring.shared.errors import StateError
from fedring.shared.state import Database, lock_folder, prepare_folder, write_file

KIND = "test store"
SCHEMA = (("CREATE TABLE note (text TEXT NOT NULL)",),)


def open_database(path: Path, *, create: bool = True) -> Database:
    return Database(path, kind=KIND, application_id=1234, schema=SCHEMA, create=create)


def notes(database: Database) -> list[str]:
    return [text for (text,) in database.rows("SELECT text FROM note ORDER BY rowid")]


def write(database: Database, *texts: str) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO note VALUES (?)", [(text,) for text in texts])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with open_database(path) as database:
        yield database


def test_a_new_folder_is_private_and_may_be_deep(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare_folder(folder)
    prepare_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_every_new_folder_on_the_way_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(state, "sync_folder", synced.append)
    prepare_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o775)
    with pytest.raises(StateError) as caught:
        prepare_folder(folder)
    assert caught.value.name == "state.open-to-others"
    assert caught.value.hint == f"chmod 700 {folder}"


def test_a_file_is_no_folder(path: Path) -> None:
    path.write_text("")
    with pytest.raises(StateError, match="is not a folder"):
        prepare_folder(path)
    with pytest.raises(StateError, match="Not a directory"):
        prepare_folder(path / "below")


def test_one_lock_at_a_time(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    with pytest.raises(StateError) as caught:
        lock_folder(tmp_path)
    assert caught.value.name == "state.in-use"
    first.close()
    lock_folder(tmp_path).close()


def test_who_waits_gets_the_lock_when_the_other_one_ends(tmp_path: Path) -> None:
    holding = (
        "import sys; from pathlib import Path; from fedring.shared.state import lock_folder\n"
        "lock = lock_folder(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        end = threading.Timer(0.2, other.stdin.close)
        end.start()
        lock_folder(tmp_path, wait=True).close()
        assert other.stdin.closed
        end.join()


def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    write(database, "kept")
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.executemany("INSERT INTO note VALUES (?)", [("lost",), (None,)])
    assert notes(database) == ["kept"]


def test_a_snapshot_does_not_see_what_another_writes_meanwhile(
    database: Database, path: Path
) -> None:
    with open_database(path) as other, database.snapshot() as connection:
        before = connection.execute("SELECT count(*) FROM note").fetchone()
        write(other, "meanwhile")
        assert connection.execute("SELECT count(*) FROM note").fetchone() == before
    assert notes(database) == ["meanwhile"]


def test_a_missing_file_is_made_only_on_demand(path: Path) -> None:
    with pytest.raises(StateError) as caught:
        open_database(path, create=False)
    assert caught.value.name == "state.missing"
    assert not path.exists()


def test_a_foreign_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StateError, match="is not a test store") as caught:
        open_database(path)
    assert caught.value.name == "state.foreign"
    assert path.read_bytes() == before


def test_a_newer_format_is_left_alone(path: Path) -> None:
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StateError, match="has format 2, this fedring knows up to 1") as caught:
        open_database(path)
    assert caught.value.name == "state.newer"


def test_an_older_format_is_brought_up(path: Path) -> None:
    with open_database(path) as database:
        write(database, "old")
    newer = (*SCHEMA, ("ALTER TABLE note ADD COLUMN colour TEXT DEFAULT 'red'",))
    with Database(path, kind=KIND, application_id=1234, schema=newer, create=False) as database:
        assert database.rows("SELECT text, colour FROM note") == [("old", "red")]


def test_a_damaged_file_is_told_with_the_remedy(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StateError, match="is damaged") as caught:
        open_database(path)
    assert caught.value.name == "state.damaged"
    assert "backup" in caught.value.hint


def test_damage_that_is_no_text_is_told_as_well(path: Path) -> None:
    """SQLite quotes from the file, and Python cannot read what it quotes."""
    open_database(path).close()
    whole = path.read_bytes()
    assert b"CREATE TABLE" in whole
    path.write_bytes(whole.replace(b"CREATE TABLE", b"CREATE TABL\xff"))
    with pytest.raises(StateError, match="is damaged") as caught:
        open_database(path)
    assert caught.value.name == "state.damaged"


def test_a_copy_is_one_private_file_and_can_replace_another(
    database: Database, path: Path, tmp_path: Path
) -> None:
    write(database, "a", "b")
    copy = tmp_path / "copy.db"
    database.copy_to(copy)
    write(database, "c")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not copy.with_name("copy.db-wal").exists()
    with open_database(copy) as other:
        assert notes(other) == ["a", "b"]
        database.replace_by(other)
    assert notes(database) == ["a", "b"]


def test_a_written_file_is_private_and_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        write_file(tmp_path / "nowhere" / "file", b"")


_FILL = """
import sys
from pathlib import Path
from fedring.shared.errors import StateError
from fedring.shared.state import Database, write_file

disk = Path(sys.argv[1])
with Database(
    disk / "test.db", kind="test store", application_id=1234,
    schema=(("CREATE TABLE note (text TEXT)",),), create=True,
) as database:
    def write():
        with database.transaction() as connection:
            connection.execute("INSERT INTO note VALUES (?)", ("x" * 40_000,))
    kept = 0
    try:
        while True:
            write()
            kept += 1
    except StateError as error:
        print(error.name, error.hint)
    assert database.rows("SELECT count(*) FROM note") == [(kept,)], "nothing lost, nothing half"
    try:
        write_file(disk / "file", b"x" * 2_000_000)
    except StateError as error:
        print(error)
    assert not list(disk.glob("*file*"))
    (disk / "ballast").unlink()
    write()
    assert database.rows("SELECT count(*) FROM note") == [(kept + 1,)]
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
print("went on after room was made")
"""


def small_disk(folder: Path) -> list[str]:
    """Words that run what follows on a disk of 1 MB, or nothing where a user may not mount."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none '{folder}' && dd if=/dev/zero of='{folder}/ballast' "
    mount += 'bs=1k count=200 2>/dev/null && exec "$@"'
    words = [*prefix, mount, "small-disk"]
    if shutil.which("unshare") is None:
        return []
    return words if subprocess.run([*words, "true"], check=False).returncode == 0 else []


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """On a real small disk where this user may mount one, else with SQLite's own page limit."""
    words = small_disk(tmp_path)
    if words:
        done = subprocess.run(
            [*words, sys.executable, "-c", _FILL, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines() == [
            "state.disk-full make room on that disk, then start again",
            f"{tmp_path / 'file'}: No space left on device",
            "went on after room was made",
        ], done.stderr
        return
    with open_database(tmp_path / "test.db") as database:
        write(database, "kept")
        database.rows("PRAGMA max_page_count = 8")
        with pytest.raises(StateError) as caught:
            write(database, "x" * 40_000)
        assert caught.value.name == "state.disk-full"
        assert notes(database) == ["kept"]
