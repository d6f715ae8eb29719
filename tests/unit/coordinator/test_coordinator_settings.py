"""Rules of coordinator.toml that go beyond one key."""

from pathlib import Path

import pytest

from fedring.coordinator.settings import MAX_FEATURES, CoordinatorSettings
from fedring.shared import contributions
from fedring.shared.encryption import SUITES, max_values
from fedring.shared.errors import ConfigError

BASIS = """
fleet = {ca = "ca.crt", key = "c.key", certificate = "c.crt", revoked = "revoked"}
broker = {host = "localhost"}
state = {folder = "state"}
[model]
features = ["a", "b", "c"]
classes = ["x", "y"]
"""


def read(folder: Path, more: str) -> CoordinatorSettings:
    file = folder / "coordinator.toml"
    file.write_text(BASIS + more)
    return CoordinatorSettings.load(file)


@pytest.mark.parametrize(
    ("written", "ranges"),
    [
        ("", (100.0,) * 3),
        ("feature_ranges = 8", (8.0,) * 3),
        ("feature_ranges = [1, 2, 3]", (1, 2, 3)),
    ],
)
def test_one_range_for_all_features_or_one_for_each(
    tmp_path: Path, written: str, ranges: tuple[float, ...]
) -> None:
    assert read(tmp_path, written).model.ranges == ranges


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("feature_ranges = [1, 2]", "one number, or one for each of the 3 features"),
        ("feature_ranges = [1, 2, -3]", "a number above 0 and up to 1e+09, or a list of them"),
        ('feature_ranges = "8"', "a number above 0"),
        ("hidden = [8192, 8192]", "at most 16,000,000 numbers, this one has 67,166,219"),
        ("hidden = []", 'at least one layer, or `kind = "softmax"`'),
    ],
)
def test_contradictions(tmp_path: Path, written: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"coordinator\.toml:8: ") as caught:
        read(tmp_path, written)
    assert told in str(caught.value)


WIDE = "hidden = [{}]\n[ring]\n"
"""Behind three features and two classes: six weights for each neuron, and two."""


def test_a_model_that_is_too_large_for_its_suite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, WIDE.format(1599) + 'suite = "paillier"')
    assert str(caught.value).endswith(
        'coordinator.toml:10: suite = "paillier": expected "hybrid", or a smaller model: this one'
        " is too large for suite paillier, 9,603 values instead of 9,600 at most"
    )
    assert caught.value.name == "config.bad-value"


def test_models_of_up_to_the_limit_of_their_suite(tmp_path: Path) -> None:
    assert read(tmp_path, WIDE.format(1598) + 'suite = "paillier"').ring.suite == "paillier"
    assert read(tmp_path, WIDE.format(1599) + 'suite = "hybrid"').ring.suite == "hybrid"
    assert read(tmp_path, WIDE.format(1599)).ring.suite == "hybrid"


def test_every_suite_takes_the_statistics_of_the_widest_model() -> None:
    """So that the length of the trained vector is all that the settings need to look at."""
    longest = contributions.n_values(1 + 2 * MAX_FEATURES)
    assert all(longest <= max_values(name) for name in SUITES)


def test_a_softmax_has_no_hidden_layers_to_ask_for(tmp_path: Path) -> None:
    assert read(tmp_path, 'kind = "softmax"\nhidden = []').model.hidden == ()


def test_paths_start_in_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.fleet.ca == tmp_path / "ca.crt"
    assert settings.fleet.revoked == tmp_path / "revoked"
    assert settings.evaluation is None
