"""`fedring device predict`: samples in, classes out, one line each."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from fedring.device.predict import load_model, predict_lines
from fedring.device.predict_cli import predict
from fedring.shared.errors import DataError, ModelError
from fedring.shared.litert import SHIPPED, Computation
from fedring.shared.models import Model, save_npz
from fedring.shared.networks import MEAN, SPREAD, initialise

SETTINGS = """
fleet = {ca = "ca.crt", key = "d.key", certificate = "d.crt"}
broker = {host = "localhost"}
state = {folder = "state"}
privacy = {threshold = 3}
data = {file = "data.csv"}
model = {file = "model.npz"}
"""

SOURCE = Path("samples.csv")
Run: TypeAlias = Callable[..., str]


@pytest.fixture
def model() -> Model:
    """Says `warm` when the temperature is above its mean of 20, whatever the humidity."""
    model = initialise("softmax", ["temperature", "humidity"], ["cold", "warm"])
    steps = np.array([[-1, 1], [0, 0]], np.float32)
    return model.with_arrays(
        **{
            "layer1.weight": steps,
            MEAN: np.array([20, 50], np.float32),
            SPREAD: np.array([5, 10], np.float32),
        }
    )


@pytest.fixture
def run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    settings = tmp_path / "device.toml"
    settings.write_text(SETTINGS)
    save_npz(tmp_path / "model.npz", model, {"version": 3})

    def run(*arguments: str, typed: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        predict.main(["--config", str(settings), *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return run


def answers(model: Model, *lines: str) -> list[str]:
    return [prediction.answer for prediction in predict_lines(model, lines, SOURCE)]


def test_each_line_gets_class_and_probability(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("temperature,humidity\n25,40\n\n15,40\n20,1\n")
    assert run(str(tmp_path / "s.csv")) == "warm\t0.8808\ncold\t0.8808\ncold\t0.5000\n"


def test_scripts_get_all_probabilities(run: Run) -> None:
    out = run("--json", "-", typed="temperature,humidity\n25,40\n")
    assert json.loads(out) == {
        "class": "warm",
        "probabilities": {"cold": 0.119203, "warm": 0.880797},
    }


def test_standard_input_is_the_default(run: Run) -> None:
    assert run(typed="25,40\n") == "warm\t0.8808\n"


def test_columns_are_found_by_name_and_others_passed_over(model: Model) -> None:
    assert answers(model, "\ufefflabel, humidity ,temperature", "x,90,5", "y,1,30") == [
        "cold",
        "warm",
    ]


def test_without_names_the_order_is_the_models(model: Model) -> None:
    assert answers(model, "5,90", "30,1") == ["cold", "warm"]


def test_lines_are_answered_when_they_come(model: Model) -> None:
    read: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("temperature,humidity", "25,1", "15,1"):
            read.append(line)
            yield line

    predictions = predict_lines(model, lines(), SOURCE)
    next(predictions)
    assert read[-1] == "25,1"


@pytest.mark.parametrize(
    ("lines", "name", "told"),
    [
        (["temperatur,humidity", "1,2"], "data.missing-column", "no column `temperature`"),
        (["humidity,temperature", "1"], "data.bad-line", "line 2: 1 cells, not 2"),
        (["1,2,3"], "data.bad-line", "3 columns without names, the model has 2 features"),
        (["1,2", "1,warm"], "data.bad-number", "line 2, column `humidity`: 'warm'"),
        (["1,2", "nan,2"], "data.bad-number", "line 2, column `temperature`: 'nan'"),
        (["1,2", "1,"], "data.bad-number", "line 2, column `humidity`: ''"),
        (["1,1e300"], "data.bad-number", "line 1, column `humidity`: '1e300'"),
        ([], "data.too-few-samples", "no samples"),
        (["temperature,humidity"], "data.too-few-samples", "no samples"),
    ],
)
def test_mistakes_name_line_and_column(
    model: Model, lines: list[str], name: str, told: str
) -> None:
    with pytest.raises(DataError) as caught:
        list(predict_lines(model, lines, SOURCE))
    assert caught.value.name == name
    assert caught.value.text.startswith("samples.csv: ")
    assert told in caught.value.text


def test_a_missing_file_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory"):
        run(str(tmp_path / "nowhere.csv"))


def test_bytes_that_are_no_text_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not CSV in UTF-8"):
        run(str(tmp_path / "s.csv"))


def test_before_the_first_round_there_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.npz").unlink()
    with pytest.raises(ModelError, match="no model yet") as caught:
        run(typed="1,2\n")
    assert "fedring device run" in caught.value.hint


def test_a_model_that_cannot_be_computed_is_told(tmp_path: Path, model: Model) -> None:
    arrays = {"layer1.weight": np.zeros((3, 2), np.float32), "layer1.bias": np.zeros(2, np.float32)}
    other = Model("softmax", model.features, model.classes, arrays, tuple(arrays))
    save_npz(tmp_path / "model.npz", other, {})
    with pytest.raises(ModelError, match=r"model\.npz: a model with") as caught:
        load_model(tmp_path / "model.npz")
    assert caught.value.name == "model.unreadable"


def test_the_network_of_a_tflite_file_answers_where_the_settings_name_it(
    run: Run, tmp_path: Path
) -> None:
    computation = Computation.load(SHIPPED["hapt-conv"])
    features, classes = tuple(f"x{number}" for number in range(384)), tuple("abcdef")
    own = computation.initial(features, classes, (1.0,) * 384)
    save_npz(tmp_path / "model.npz", own, {"version": 3})
    sample = np.linspace(-1, 1, 384, dtype=np.float32)
    line = ",".join(map(str, sample.tolist()))
    with pytest.raises(ModelError, match=r"known without a \.tflite file"):
        run("-", typed=line)
    settings = tmp_path / "device.toml"
    settings.write_text(SETTINGS + 'training = {litert = "hapt-conv"}\n')
    found = json.loads(run("--json", "-", typed=line))["probabilities"]
    expected = computation.predict(own, sample[np.newaxis])[0]
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-5)
