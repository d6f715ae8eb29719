"""The model as the product: list it, take it away, go back, pause; typed as a user types it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import click
import pytest
from attrs import frozen

from fedring.coordinator.history import export, models_json, models_table, provenance
from fedring.coordinator.history_cli import COMMANDS
from fedring.coordinator.records import Version
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.errors import StateError
from fedring.shared.models import Model, load_npz

ModelOf: TypeAlias = Callable[..., Model]
Train: TypeAlias = Callable[..., Version]

SETTINGS = """
fleet = {ca = "ca.crt", key = "c.key", certificate = "c.crt", revoked = "revoked"}
broker = {host = "localhost"}
state = {folder = "state"}
model = {features = ["f0", "f1", "f2", "f3"], classes = ["still", "moving"]}
"""


@frozen
class Typed:
    """What a command left behind."""

    out: str
    err: str


Run: TypeAlias = Callable[..., Typed]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Types a command of `fedring coordinator`, with settings that name the state folder."""
    settings = tmp_path / "coordinator.toml"
    settings.write_text(SETTINGS)
    group = click.Group(commands={command.name or "": command for command in COMMANDS})

    def run(name: str, *arguments: object) -> Typed:
        words = [name, "--config", str(settings), *map(str, arguments)]
        group.main(words, prog_name="fedring coordinator", standalone_mode=False)
        return Typed(*capsys.readouterr())

    return run


@pytest.fixture
def grown(store: CoordinatorStore, model_of: ModelOf, train: Train) -> CoordinatorStore:
    """A history of versions 0 to 4: trained, trained, back to 1, trained."""
    store.commit_initial(model_of(0), note="seed 7")
    train(store, 1)
    train(store, 2, contributors=9)
    store.rollback(1)
    train(store, 3, contributors=11)
    return store


def test_the_table_has_a_line_for_each_version(grown: CoordinatorStore, run: Run) -> None:
    out = re.sub(r"\d{4}-\d\d-\d\dT\S+|when {17}", "<when>", run("models").out)
    assert re.sub(r" +\n", "\n", out) == (
        "version  parent  how       round  contributors  accuracy  <when>      note\n"
        "4        3       train     1/3    11            30.0%     <when>\n"
        "3        2       rollback  1/2    -             10.0%     <when>  back to version 1\n"
        "2        1       train     1/2    9             20.0%     <when>\n"
        "1        0       train     1/1    12            10.0%     <when>\n"
        "0        -       initial   -      -             -         <when>  seed 7\n"
    )


def test_dropped_arrays_are_told(folder: Path, model_of: ModelOf, train: Train) -> None:
    with CoordinatorStore.open_to_run(folder, fleet="garden", kept_model_bytes=1) as store:
        store.enter_epoch(1)
        store.commit_initial(model_of(0), note="seed 7")
        train(store, 1)
        assert models_table(store).endswith("seed 7 (arrays dropped)")
        assert [version["arrays_kept"] for version in models_json(store)] == [True, False]
        with pytest.raises(StateError, match="arrays of version 0 were dropped"):
            export(store, 0, folder / "old.npz")


def test_scripts_get_all_that_is_known(grown: CoordinatorStore, run: Run) -> None:
    newest, *older = json.loads(run("models", "--json").out)
    assert newest["version"] == 4
    assert newest["plan"] == {"epochs": 5}
    assert newest["metrics"] == {"accuracy": 0.3}
    assert newest["arrays_kept"] is True
    assert [version["version"] for version in older] == [3, 2, 1, 0]


def test_an_exported_model_says_how_it_came_about(
    grown: CoordinatorStore, run: Run, tmp_path: Path, model_of: ModelOf
) -> None:
    file = tmp_path / "out.npz"
    done = run("export", 4, file)
    assert done == Typed("", f"wrote version 4 to {file}\n")
    model, note = load_npz(file)
    assert model == model_of(3)
    assert note == json.loads(json.dumps(provenance(grown.version(4), grown.versions())))
    assert note["training_rounds"] == 2
    assert note["contributions"] == 23
    assert note["smallest_sum"] == 11
    assert note["plan"] == {"epochs": 5}
    assert [link["version"] for link in note["chain"]] == [0, 1, 3, 4], "version 2 was left behind"
    assert note["chain"][-1]["digest"] == note["digest"] == model.digest.hex()


def test_a_file_is_overwritten_only_on_demand(
    grown: CoordinatorStore, run: Run, tmp_path: Path, model_of: ModelOf
) -> None:
    file = tmp_path / "out.npz"
    file.write_text("precious")
    with pytest.raises(StateError, match="is there already") as caught:
        run("export", 4, file)
    assert caught.value.name == "state.file-exists"
    assert "--force" in caught.value.hint
    assert file.read_text() == "precious"
    run("export", 2, file, "--force")
    assert load_npz(file)[0] == model_of(2)


def test_a_file_that_cannot_be_written_is_told(
    grown: CoordinatorStore, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        run("export", 1, tmp_path / "nowhere" / "out.npz")


def test_a_running_coordinator_sees_rollback_and_pause(grown: CoordinatorStore, run: Run) -> None:
    assert run("rollback", 2).err == "version 5 is version 2 again\n"
    current = grown.current_version()
    assert current is not None
    assert (current.version, current.source) == (5, 2)
    assert run("pause").err.startswith("paused")
    assert grown.paused() is True
    assert run("resume").err == "rounds go on\n"
    assert grown.paused() is False


def test_a_version_that_never_was_is_told(grown: CoordinatorStore, run: Run) -> None:
    for command in (("rollback", 9), ("export", 9, "x.npz")):
        with pytest.raises(StateError, match="no version 9") as caught:
            run(*command)
        assert caught.value.hint == "see the list: fedring coordinator models"


def test_a_folder_without_state_is_told_and_left_alone(run: Run, tmp_path: Path) -> None:
    for command in (("models",), ("rollback", 1), ("pause",), ("backup", tmp_path / "b.zip")):
        with pytest.raises(StateError, match="no coordinator store at"):
            run(*command)
    assert [path.name for path in tmp_path.iterdir()] == ["coordinator.toml"]


def test_backup_and_restore_as_typed(
    grown: CoordinatorStore, run: Run, tmp_path: Path, folder: Path
) -> None:
    file = tmp_path / "monday.zip"
    assert run("backup", file).err == f"wrote {file}: up to round 3 of epoch 1\n"
    with pytest.raises(StateError, match="is there already"):
        run("backup", file)
    grown.close()
    with pytest.raises(StateError, match="has a state already, up to round 3 of epoch 1"):
        run("restore", file)
    told = run("restore", file, "--force").err
    assert "next: fedring fleet epoch, then start again with the new revocation list" in told
    assert run("models").out.count("\n") == 6


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_fits_a_screen_and_ends_with_an_example(
    command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--help"], prog_name=f"fedring coordinator {command.name}", standalone_mode=False)
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 24
    assert text.rstrip().splitlines()[-1].strip().startswith("Example: fedring coordinator")
