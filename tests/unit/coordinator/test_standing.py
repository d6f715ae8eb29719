"""What a coordinator checks before its first round, and between rounds."""

from pathlib import Path

import numpy as np
import pytest

from fedring.coordinator.records import Outcome
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.standing import prepare
from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared.errors import CertificateError, ConfigError


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
    made.add("b01")
    return made


def settings(fleet: Fleet, *changes: tuple[str, str]) -> CoordinatorSettings:
    """The settings that `fleet init` wrote, with changed lines."""
    template = fleet.coordinator_folder / "coordinator.toml"
    text = template.read_text()
    for before, after in (("#key_bits = 3072", "key_bits = 2048"), *changes):
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
