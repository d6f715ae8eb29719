"""`fedring device check-model` tells people what a .tflite file is, or lacks."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from fedring.device.check_model_cli import check_model
from fedring.shared.errors import ModelError
from fedring.shared.litert import SHIPPED


def said(file: str) -> str:
    result = CliRunner().invoke(check_model, [file], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_sound_file_is_described() -> None:
    lines = said("hapt-dense").splitlines()
    assert lines[0] == f"{SHIPPED['hapt-dense']}: sound"
    shown = " ".join(" ".join(lines).split())
    assert "takes 56 features, any number at a time" in shown
    assert "learns 4,038 weights in 4 arrays" in shown
    assert "layer1.weight 56 x 64" in shown
    assert "computes what kind mlp computes in numpy" in shown


def test_a_network_of_its_own_is_told_by_its_kind() -> None:
    assert "kind litert-" in said(str(SHIPPED["hapt-conv"]))


def test_a_file_of_which_litert_dies_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr("fedring.device.check_model_cli.TRIAL", trial)
    with pytest.raises(ModelError, match=r"LiteRT dies of it \(SIGSEGV\)"):
        said("hapt-dense")


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    file.write_bytes(b"PK\3\4 and more")
    with pytest.raises(ModelError, match=r"not a \.tflite file"):
        CliRunner().invoke(check_model, [str(file)], catch_exceptions=False)
