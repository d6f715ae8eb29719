"""What a coordinator checks before its first round, and between rounds."""

from pathlib import Path

import numpy as np
import pytest

from fedring.coordinator.records import Outcome
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.standing import prepare
from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared.errors import CertificateError, ConfigError
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.samples import Dataset, write_npz


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
    made.add("b01")
    return made


def settings(fleet: Fleet, *changes: tuple[str, str]) -> CoordinatorSettings:
    """The settings that `fleet init` wrote, with changed lines."""
    template = fleet.coordinator_folder / "coordinator.toml"
    text = template.read_text()
    state = ('folder = "/var/lib/fedring"', 'folder = "state"')
    for before, after in (("#key_bits = 3072", "key_bits = 2048"), state, *changes):
        assert before in text
        text = text.replace(before, after)
    file = template.with_name("changed.toml")
    file.write_text(text)
    return CoordinatorSettings.load(file)


def test_state_key_and_first_model_are_made_once(fleet: Fleet) -> None:
    with prepare(settings(fleet)) as first:
        version = first.store.current_version()
        key = first.key
    with prepare(settings(fleet)) as again:
        assert again.key == key
        assert again.store.current_version() == version


def test_a_model_that_cannot_travel_is_told_before_anything_is_stored(fleet: Fleet) -> None:
    names = ", ".join(f'"{number:064d}"' for number in range(2_000))
    large = settings(fleet, ('"x_mean", "y_mean", "z_mean"', names))
    with (
        pytest.raises(ConfigError, match=r"the model described in \[model\] cannot be"),
        prepare(large),
    ):
        pass
    with prepare(settings(fleet)) as mended:
        version = mended.store.current_version()
        assert version is not None
        assert mended.store.model(version).features == ("x_mean", "y_mean", "z_mean")


def test_another_model_begins_anew_while_nothing_is_learned(fleet: Fleet) -> None:
    changed = ('"x_mean", "y_mean", "z_mean"', '"warmth"')
    with prepare(settings(fleet)):
        pass
    with prepare(settings(fleet, changed)) as standing:
        version = standing.store.current_version()
        assert version is not None
        assert standing.store.model(version).features == ("warmth",)
        epoch, number = standing.store.next_round()
        learned = standing.store.model(version).with_weights(np.ones(258))
        outcome = Outcome(epoch=epoch, round=number, contributors=3)
        standing.store.commit_version(learned, outcome, parent=version.version)
    with prepare(settings(fleet, changed, ("#seed = 0", "seed = 1"))) as standing:
        assert standing.store.n_versions("train") == 1
    with (
        pytest.raises(ConfigError, match="holds another model") as caught,
        prepare(settings(fleet)),
    ):
        pass
    assert caught.value.name == "config.model-changed"


class TestRevocationList:
    def test_a_newer_one_is_taken_from_the_file(self, fleet: Fleet) -> None:
        found = settings(fleet)
        with prepare(found) as standing:
            assert not standing.refresh(found)
            fleet.revoke("b01")
            assert standing.refresh(found)
            assert standing.revocation.revoked == {1}
            assert not standing.refresh(found)

    def test_one_half_copied_is_told_and_the_old_one_stays(self, fleet: Fleet) -> None:
        found = settings(fleet)
        with prepare(found) as standing:
            before = standing.revocation
            fleet.revoke("b01")
            whole = found.fleet.revoked.read_bytes()
            found.fleet.revoked.write_bytes(whole[:40])
            with pytest.raises(CertificateError, match="revoked: "):
                standing.refresh(found)
            assert standing.revocation == before
            found.fleet.revoked.write_bytes(whole)
            assert standing.refresh(found)

    def test_an_older_one_changes_nothing(self, fleet: Fleet) -> None:
        found = settings(fleet)
        old = found.fleet.revoked.read_bytes()
        fleet.revoke("b01")
        with prepare(found) as standing:
            found.fleet.revoked.write_bytes(old)
            assert not standing.refresh(found)
            assert standing.revocation.revoked == {1}

    def test_a_new_epoch_brings_a_key_of_its_own(self, fleet: Fleet) -> None:
        found = settings(fleet)
        with prepare(found) as standing:
            before = standing.key
            fleet.next_epoch()
            assert standing.refresh(found)
            assert standing.store.epoch() == 2
            assert standing.key != before


def convolution(fleet: Fleet, *changes: tuple[str, str]) -> CoordinatorSettings:
    """Settings for the network of a .tflite file, and data to evaluate it on."""
    names = [f"x{number}" for number in range(384)]
    classes = ("a", "b", "c", "d", "e", "f")
    x = np.random.default_rng(0).normal(size=(12, 384)).astype(np.float32)
    data = Dataset(x, np.arange(12) % 6, tuple(names), classes)
    write_npz(fleet.coordinator_folder / "evaluation.npz", data)
    return settings(
        fleet,
        ('"x_mean", "y_mean", "z_mean"', str(names)[1:-1]),
        ('"resting", "moving"', str(list(classes))[1:-1]),
        ('#kind = "mlp"', 'kind = "litert"'),
        ('#litert = "model.tflite"', 'litert = "hapt-conv"'),
        ('#[evaluation]\n#file = "evaluation.csv"', '[evaluation]\nfile = "evaluation.npz"'),
        *changes,
    )


def test_the_first_model_of_a_tflite_file_is_the_one_that_stands_in_it(fleet: Fleet) -> None:
    computation = Computation.load(SHIPPED["hapt-conv"])
    with prepare(convolution(fleet)) as standing:
        version = standing.store.current_version()
        assert version is not None
        model = standing.store.model(version)
        assert model.kind == computation.kind
        first = computation.initial(model.features, model.classes, (100.0,) * 384)
        assert model.digest == first.digest
        own = standing.evaluation
        assert own is not None
        found = standing.evaluate(model, own.x, own.y)
        assert found.n_samples == 12
        assert found == computation.evaluate(model, own.x, own.y)


def test_a_tflite_file_for_other_features_is_told_with_both_numbers(fleet: Fleet) -> None:
    wrong = convolution(fleet, ('litert = "hapt-conv"', 'litert = "hapt-dense"'))
    with (
        pytest.raises(ConfigError, match=r"384 features and 6 classes, hapt-dense.*has 56 and 6"),
        prepare(wrong),
    ):
        pass


def test_the_length_of_a_tflite_model_is_held_against_the_suite(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedring.coordinator.standing.max_values", {"paillier": 3_844}.get)
    paillier = convolution(fleet, ('#suite = "hybrid"', 'suite = "paillier"'))
    with (
        pytest.raises(ConfigError, match=r"too large for suite paillier: 3,845 values"),
        prepare(paillier),
    ):
        pass


@pytest.mark.parametrize(
    "change", [('#kind = "mlp"', 'kind = "litert"'), ("#litert =", "litert =")], ids=["no", "extra"]
)
def test_a_tflite_file_goes_with_kind_litert(fleet: Fleet, change: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match='`litert` with `kind = "litert"`, and nowhere else'):
        settings(fleet, change)
