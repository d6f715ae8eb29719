"""A backup is whole and private; a restored state waits for a higher epoch."""

import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import pytest

from fedring.coordinator.backups import MANIFEST, back_up, restore
from fedring.coordinator.records import Version
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.tables import STORE_FILE, key_file
from fedring.shared.errors import StateError
from fedring.shared.models import Model
from fedring.shared.state import write_file

ModelOf: TypeAlias = Callable[..., Model]
Train: TypeAlias = Callable[..., Version]


@pytest.fixture
def backup(
    store: CoordinatorStore, folder: Path, tmp_path: Path, model_of: ModelOf, train: Train
) -> Path:
    """A backup of epoch 1, two rounds; the state has gone on by one round since."""
    write_file(key_file(folder, 1), b"secret")
    store.commit_initial(model_of(0))
    train(store, 1)
    train(store, 2)
    file = tmp_path / "backup.zip"
    made = back_up(folder, file)
    assert (made.epoch, made.round, made.version) == (1, 2, 2)
    train(store, 3)
    return file


def rewrite(file: Path, *, change: dict[str, bytes | None], manifest: dict[str, object]) -> None:
    """Write a backup again with other members, and other words in its manifest."""
    with zipfile.ZipFile(file) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    words = json.loads(members[MANIFEST]) | manifest
    members[MANIFEST] = json.dumps(words).encode()
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in {**members, **change}.items():
            if data is not None:
                packed.writestr(name, data)


def test_a_backup_is_one_private_file(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(backup) as packed:
        assert set(packed.namelist()) == {MANIFEST, STORE_FILE, "paillier-1.key"}
    assert [path.name for path in backup.parent.iterdir() if path.name.startswith(".")] == []


def test_a_restored_state_has_models_and_key_but_begins_no_round(
    backup: Path, tmp_path: Path, model_of: ModelOf
) -> None:
    folder = tmp_path / "new"
    assert restore(folder, backup).version == 2
    assert key_file(folder, 1).read_bytes() == b"secret"
    assert {path.name for path in folder.iterdir()} == {STORE_FILE, "paillier-1.key", "lock"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        current = store.current_version()
        assert current is not None
        assert store.model(current) == model_of(2)
        for begin in (lambda: store.enter_epoch(1), store.next_round):
            with pytest.raises(StateError, match="needs an epoch above 1") as caught:
                begin()
            assert caught.value.name == "state.restored"
            assert "fedring fleet epoch" in caught.value.hint
        assert store.enter_epoch(2) is True
        assert store.next_round() == (2, 1)
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        assert store.enter_epoch(2) is False
        assert store.next_round() == (2, 2)


def test_the_epoch_must_be_above_the_replaced_state_too(
    backup: Path, store: CoordinatorStore, folder: Path
) -> None:
    store.enter_epoch(5)
    store.next_round()
    store.close()
    with pytest.raises(StateError, match="up to round 1 of epoch 5") as caught:
        restore(folder, backup)
    assert caught.value.name == "state.exists"
    restore(folder, backup, force=True)
    with CoordinatorStore.open_to_run(folder, fleet="garden") as restored:
        assert restored.epoch() == 1
        for epoch in (2, 5):
            with pytest.raises(StateError, match="needs an epoch above 5"):
                restored.enter_epoch(epoch)
        assert restored.enter_epoch(6) is True


def test_a_backup_of_a_state_that_waits_for_its_epoch_waits_too(
    backup: Path, tmp_path: Path
) -> None:
    restore(tmp_path / "a", backup)
    back_up(tmp_path / "a", tmp_path / "second.zip")
    restore(tmp_path / "b", tmp_path / "second.zip")
    with (
        CoordinatorStore.open_to_run(tmp_path / "b", fleet="garden") as store,
        pytest.raises(StateError, match="needs an epoch above 1"),
    ):
        store.next_round()


def test_a_running_coordinator_is_not_replaced(
    backup: Path, store: CoordinatorStore, folder: Path
) -> None:
    with pytest.raises(StateError, match="in use by process"):
        restore(folder, backup, force=True)
    assert store.last_round() == 3


def test_an_empty_state_is_replaced_without_force(backup: Path, tmp_path: Path) -> None:
    CoordinatorStore.open_to_run(tmp_path / "new", fleet="garden").close()
    restore(tmp_path / "new", backup)


@pytest.mark.parametrize(
    ("change", "manifest", "told"),
    [
        ({STORE_FILE: b"rotten"}, {}, "`coordinator.db` was changed"),
        ({STORE_FILE: None}, {}, "coordinator.db"),
        ({}, {"sha256": {}}, "holds no database"),
        ({"../evil": b"x"}, {"sha256": {"../evil": ""}}, "it holds `../evil`"),
        ({}, {"format": "other"}, "its format is not"),
        ({}, {"epoch": "1/../../x"}, "not a whole backup"),
        ({}, {"sha256": 3}, "not a whole backup"),
        ({}, {"epoch": 2}, "it holds `paillier-1.key`"),
        ({"paillier-1.key": None}, {"epoch": 2, "sha256": {}}, "it holds no database"),
        ({}, {"round": "2"}, "says something else than its database"),
        ({}, {"version": 1}, "says something else than its database"),
        ({}, {"created": "\x1b[2J"}, "`created` does not print"),
        ({}, {"created": 7}, "`created` does not print"),
        ({}, {"more": "x" * 100_000}, "its manifest has"),
    ],
)
def test_a_backup_that_is_not_whole_changes_nothing(
    backup: Path,
    tmp_path: Path,
    change: dict[str, bytes | None],
    manifest: dict[str, object],
    told: str,
) -> None:
    rewrite(backup, change=change, manifest=manifest)
    with pytest.raises(StateError) as caught:
        restore(tmp_path / "new", backup)
    assert caught.value.name == "state.bad-backup"
    assert told in caught.value.text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("manifest", [b"[" * 50_000, b"\xff", b"7", b'{"format": NaN}'])
def test_a_manifest_that_is_none_is_told(backup: Path, tmp_path: Path, manifest: bytes) -> None:
    with zipfile.ZipFile(backup, "w") as packed:
        packed.writestr(MANIFEST, manifest)
    with pytest.raises(StateError, match="not a whole backup"):
        restore(tmp_path / "new", backup)


def encrypted(data: bytearray) -> None:
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature)
        data[at + flags] |= 1


def compressed_by_nobody(data: bytearray) -> None:
    for signature, method in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = data.index(signature)
        data[at + method] = 77


def garbled(data: bytearray) -> None:
    start = data.index(b"PK\3\4") + 30 + len(MANIFEST)
    data[start : start + 40] = b"\xff" * 40


@pytest.mark.parametrize("damage", [encrypted, compressed_by_nobody, garbled])
def test_a_damaged_zip_file_is_told(
    backup: Path, tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    data = bytearray(backup.read_bytes())
    damage(data)
    backup.write_bytes(data)
    with pytest.raises(StateError, match="not a whole backup"):
        restore(tmp_path / "new", backup)


def test_a_database_without_its_tables_is_told(backup: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(backup) as packed:
        (tmp_path / "other.db").write_bytes(packed.read(STORE_FILE))
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("DROP TABLE round")
        database.commit()
    data = (tmp_path / "other.db").read_bytes()
    rewrite(
        backup,
        change={STORE_FILE: data, "paillier-1.key": None},
        manifest={"sha256": {STORE_FILE: sha256(data).hexdigest()}},
    )
    with pytest.raises(StateError, match="not a whole backup of a coordinator: no such table"):
        restore(tmp_path / "new", backup)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_a_file_that_is_no_backup_is_told(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    with pytest.raises(StateError, match="no such file"):
        restore(tmp_path / "new", file)
    assert not (tmp_path / "new").exists()
    file.write_text("no zip")
    with pytest.raises(StateError, match="is not a whole backup of a coordinator"):
        restore(tmp_path / "new", file)


def test_a_backup_with_a_broken_history_is_not_taken(
    backup: Path, store: CoordinatorStore, folder: Path, tmp_path: Path
) -> None:
    with store.database.transaction() as connection:
        connection.execute("UPDATE version SET link = zeroblob(32) WHERE version = 1")
    back_up(folder, tmp_path / "broken.zip")
    with pytest.raises(StateError, match="broken at version 1"):
        restore(tmp_path / "new", tmp_path / "broken.zip")
