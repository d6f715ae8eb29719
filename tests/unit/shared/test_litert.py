"""What a .tflite file must hold: the shipped ones do; others are refused, and told why."""

import sys
from collections.abc import Callable, Collection
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from fedring.shared import networks
from fedring.shared.errors import MessageError, ModelError, UserError
from fedring.shared.litert import SHIPPED, Computation, interpreters
from fedring.shared.litert.wanted import SIGNATURES
from fedring.shared.models import Model
from fedring.shared.networks import RANGE

schema: Any = import_module("ai_edge_litert.schema_py_generated")
flatbuffers: Any = import_module("flatbuffers")

DENSE, CONV = (Computation.load(SHIPPED[name]) for name in ("hapt-dense", "hapt-conv"))
FEATURES = tuple(f"x{number}" for number in range(56))
CLASSES = ("a", "b", "c", "d", "e", "f")
FLOAT16, RELU = schema.TensorType.FLOAT16, schema.BuiltinOperator.RELU


def of_dense(kind: str = "mlp", hidden: int = 64) -> Model:
    return networks.initialise(kind, FEATURES, CLASSES, hidden=[hidden])


def of_conv() -> Model:
    features = tuple(f"x{number}" for number in range(384))
    return CONV.initial(features, CLASSES, (1.0,) * 384)


class File:
    """The shipped dense file, open for changes."""

    def __init__(self) -> None:
        self.root = schema.ModelT.InitFromPackedBuf(SHIPPED["hapt-dense"].read_bytes(), 0)

    def signature(self, name: str) -> Any:
        return next(s for s in self.root.signatureDefs if s.signatureKey == name.encode())

    def tensor(self, signature: str, name: str, where: str = "inputs") -> Any:
        signature_def = self.signature(signature)
        (at,) = (t for t in getattr(signature_def, where) if t.name == name.encode())
        return self.root.subgraphs[signature_def.subgraphIndex].tensors[at.tensorIndex]

    def rename(self, old: str, new: str, *, only: Collection[str] = SIGNATURES) -> None:
        for name in only:
            signature = self.signature(name)
            for tensor in [*signature.inputs, *signature.outputs]:
                if tensor.name == old.encode():
                    tensor.name = new.encode()

    def save(self, path: Path) -> Path:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.root.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def no_train(file: File) -> None:
    file.root.signatureDefs.remove(file.signature("train"))


def no_signatures(file: File) -> None:
    file.root.signatureDefs = []


def no_probabilities(file: File) -> None:
    file.rename("probabilities", "output_0")


def other_shape(file: File) -> None:
    file.tensor("weights", "layer2_bias", "outputs").shape = [3]


def half_precision(file: File) -> None:
    file.tensor("train", "x").type = FLOAT16


def of_other_name(file: File) -> None:
    file.rename("layer1_bias", "layer1_offset", only=("infer",))


def of_no_name(file: File) -> None:
    file.rename("layer1_bias", "Bias:0")


def flat_rate(file: File) -> None:
    rate = file.tensor("train", "rate")
    rate.shape, rate.shapeSignature, rate.hasRank = [1], [1], True


def no_share(file: File) -> None:
    file.rename("share", "sample_weight")


def flex(file: File) -> None:
    code = next(c for c in file.root.operatorCodes if c.builtinCode == schema.BuiltinOperator.SUM)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"FlexReluGrad"


UNFIT: list[tuple[Callable[[File], None], str]] = [
    (no_train, "no signature train (it has infer, weights)"),
    (no_signatures, "no signature train and no infer and no weights (it has none)"),
    (no_probabilities, "`infer` has no output `probabilities`"),
    (other_shape, "`layer2_bias` is float32 (6) among the inputs of `train`, not float32 (3)"),
    (half_precision, "`x` of `train` is float16 (any, 56), must be float32 of shape (n, a fixed"),
    (of_other_name, "weight `layer1_bias` is missing among the inputs of `infer`"),
    (of_no_name, "weight `Bias:0` should have a name like layer1_weight"),
    (flat_rate, "`rate` of `train` is float32 (1), must be float32 of shape ()"),
    (no_share, "`train` has no input `share`; `train` has an input `sample_weight` that nobody"),
    (flex, "needs FlexReluGrad, which no board has"),
]


@pytest.mark.parametrize(("change", "reason"), UNFIT, ids=[c.__name__ for c, _ in UNFIT])
def test_a_file_that_lacks_something_is_told_what(
    change: Callable[[File], None], reason: str, tmp_path: Path
) -> None:
    file = File()
    change(file)
    with pytest.raises(ModelError) as caught:
        Computation.load(file.save(tmp_path / "own.tflite"))
    assert reason in caught.value.text
    assert caught.value.name == "model.litert-unfit"
    assert str(tmp_path / "own.tflite") in caught.value.text


def test_a_file_put_together_again_is_sound(tmp_path: Path) -> None:
    again = Computation.load(File().save(tmp_path / "same.tflite"))
    assert again.shapes == DENSE.shapes
    assert again.dense_kind == "mlp"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "model.unreadable"),
        (b"PK\3\4" + bytes(100), "model.unreadable"),
        (SHIPPED["hapt-dense"].read_bytes()[:8], "model.unreadable"),
        (SHIPPED["hapt-dense"].read_bytes()[:8] + bytes(range(256)), "model.unreadable"),
        (bytes(4) + b"TFL3" + bytes(interpreters.MAX_FILE_BYTES), "model.litert-unfit"),
    ],
    ids=["empty", "zip", "head", "garbage", "huge"],
)
def test_other_files_are_refused(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Computation.load(path)
    assert caught.value.name == name


@given(st.integers(8, SHIPPED["hapt-dense"].stat().st_size - 1))
def test_a_file_cut_short_is_refused(size: int) -> None:
    with pytest.raises(ModelError):
        interpreters.signatures(Path("own.tflite"), SHIPPED["hapt-dense"].read_bytes()[:size])


def test_a_missing_file_and_a_missing_package_are_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        Computation.load(tmp_path / "own.tflite")
    monkeypatch.setattr(interpreters, "PACKAGES", ("no_such_litert", "no_such_tflite"))
    with pytest.raises(UserError, match="needs the package ai-edge-litert") as caught:
        Computation.load(SHIPPED["hapt-dense"])
    assert "pip install 'fedring[litert]'" in caught.value.hint


def test_where_there_is_no_ai_edge_litert_the_older_package_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on 32-bit ARM; what stands in for the older package is the newer one, renamed."""
    renamed = import_module("ai_edge_litert.interpreter")
    for name in [name for name in sys.modules if name.split(".")[0] == "ai_edge_litert"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UserError, match="which is not installed"):
        Computation.load(SHIPPED["hapt-dense"])
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", renamed)
    loaded = Computation.load(SHIPPED["hapt-dense"])
    assert loaded.shapes == DENSE.shapes


def test_a_package_that_is_there_and_broken_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_litert").mkdir()
    (tmp_path / "broken_litert" / "interpreter.py").write_text("import missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(interpreters, "PACKAGES", ("broken_litert", "tflite_runtime"))
    with pytest.raises(ModuleNotFoundError, match="missing_library"):
        Computation.load(SHIPPED["hapt-dense"])


@pytest.mark.parametrize(
    ("machine", "python", "package"),
    [
        ("x86_64", "3.13", "ai-edge-litert"),
        ("aarch64", "3.11", "ai-edge-litert"),
        ("armv7l", "3.11", "tflite-runtime"),
        ("armv7l", "3.13", None),
    ],
)
def test_the_extra_names_the_package_that_has_wheels(
    machine: str, python: str, package: str | None
) -> None:
    here = {"platform_machine": machine, "python_version": python, "extra": "litert"}
    asked = [Requirement(line) for line in metadata.requires("fedring") or []]
    of_extra = [
        one.name
        for one in asked
        if one.marker is not None
        and one.marker.evaluate(here)
        and not one.marker.evaluate(here | {"extra": ""})
    ]
    assert of_extra == ([] if package is None else [package])
    assert not package or package.replace("-", "_") in interpreters.PACKAGES


def test_first_weights_are_the_same_each_time_and_no_class_is_sure_yet() -> None:
    for computation in (DENSE, CONV):
        again = Computation.load(computation.path).first
        assert {name: array.shape for name, array in again.items()} == computation.shapes
        for name, array in computation.first.items():
            np.testing.assert_array_equal(array, again[name])
        rows = np.random.default_rng(2).normal(size=(40, computation.n_features))
        answers = computation.probabilities(computation.first, rows.astype(np.float32))
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
        assert answers.max() < 0.8


def test_weights_pass_through_a_step_of_rate_zero_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    for computation in (DENSE, CONV):
        arrays = {
            name: rng.normal(size=shape).astype(np.float32)
            for name, shape in computation.shapes.items()
        }
        rows = rng.normal(size=(7, computation.n_features)).astype(np.float32)
        steps = computation.steps(arrays)
        steps.step(rows, np.arange(7) % 6, 0.0)
        assert steps.arrays.keys() == arrays.keys()
        for name, array in steps.arrays.items():
            np.testing.assert_array_equal(array, arrays[name])


def test_the_dense_file_computes_an_mlp_and_the_convolution_is_its_own() -> None:
    assert DENSE.dense_kind == "mlp"
    assert CONV.dense_kind is None
    DENSE.check(of_dense())
    CONV.check(of_conv())
    DENSE.check(DENSE.initial(FEATURES, CLASSES, (1.0,) * 56))


@pytest.mark.parametrize("where", ["infer", "train"])
def test_a_file_that_computes_something_else_with_the_arrays_of_an_mlp(
    where: str, tmp_path: Path
) -> None:
    """Its ReLU passes what is below 0, where it answers or where it learns."""
    file = File()
    codes = file.root.operatorCodes
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.LESS
    codes.append(code)
    for operator in file.root.subgraphs[file.signature(where).subgraphIndex].operators:
        if codes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.GREATER:
            operator.opcodeIndex = len(codes) - 1
            operator.builtinOptionsType = schema.BuiltinOptions.LessOptions
            operator.builtinOptions = schema.LessOptionsT()
    upside_down = Computation.load(file.save(tmp_path / "own.tflite"))
    assert upside_down.dense_kind is None
    with pytest.raises(MessageError, match="something else with the same arrays"):
        upside_down.check(of_dense())


def narrowed(model: Model) -> Model:
    return attrs.evolve(model, classes=model.classes[1:])


@pytest.mark.parametrize(
    ("computation", "model", "reason"),
    [
        (DENSE, of_dense(hidden=32), "layer1.bias is 32 announced, 64 here"),
        (DENSE, networks.initialise("softmax", FEATURES, CLASSES), "layer1.bias is 6 announced"),
        (DENSE, of_conv(), "another .tflite file"),
        (DENSE, attrs.evolve(of_dense(), kind="cnn"), "which hapt-dense.tflite does not compute"),
        (CONV, of_dense(), "conv1.bias is missing announced, 16 here"),
        (CONV, narrowed(of_conv()), "5 classes, hapt-conv.tflite on this device has 384 and 6"),
        (CONV, of_conv().with_arrays(**{RANGE: np.zeros(384, np.float32)}), "not above 0"),
        (CONV, of_conv().with_arrays(other=np.zeros(3, np.float32)), "unknown arrays"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    computation: Computation, model: Model, reason: str
) -> None:
    with pytest.raises(MessageError) as caught:
        computation.check(model)
    assert reason in caught.value.reason


def test_a_first_model_needs_as_many_features_and_classes_as_the_file_takes() -> None:
    with pytest.raises(ValueError, match="55 features"):
        DENSE.initial(FEATURES[1:], CLASSES, (1.0,) * 55)
    with pytest.raises(ValueError, match="not above 0"):
        DENSE.initial(FEATURES, CLASSES, (0.0,) * 56)


def test_a_convolution_has_the_gradient_that_its_answers_have() -> None:
    """Slope of each weight group along its own gradient, by differences of the loss."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 384)).astype(np.float32)
    y = np.arange(8) % 6
    steps = CONV.steps(CONV.first)
    steps.step(x, y, 1.0)
    gradient = {name: CONV.first[name] - after for name, after in steps.arrays.items()}

    def loss(name: str, by: float) -> float:
        arrays = CONV.first | {name: CONV.first[name] + np.float32(by) * gradient[name]}
        return networks.judge(CONV.probabilities(arrays, x), y).loss

    for name, slope in gradient.items():
        steepness = float(np.square(slope).sum())
        assert steepness > 0, name
        h = 0.02 / np.sqrt(steepness)
        found = (loss(name, h) - loss(name, -h)) / (2 * h)
        assert found == pytest.approx(steepness, rel=0.03), name


def test_learning_lowers_the_loss() -> None:
    x = np.random.default_rng(4).normal(size=(24, 384)).astype(np.float32)
    y = np.arange(24) % 6
    steps = CONV.steps(CONV.first)
    losses = [networks.judge(CONV.probabilities(steps.arrays, x), y).loss]
    for _ in range(5):
        for _ in range(10):
            steps.step(x, y, 0.05)
        losses.append(networks.judge(CONV.probabilities(steps.arrays, x), y).loss)
    assert all(after < before for before, after in pairwise(losses))


def of_four_rows(file: File) -> None:
    for name in ("train", "infer"):
        for tensor in ("x", "y", "share") if name == "train" else ("x",):
            found = file.tensor(name, tensor)
            found.shape = [4, *found.shape[1:]]
            found.shapeSignature = found.shape


def test_a_file_for_batches_of_one_size_has_them_filled_up(tmp_path: Path) -> None:
    file = File()
    of_four_rows(file)
    fixed = Computation.load(file.save(tmp_path / "four.tflite"))
    assert (DENSE.batch, fixed.batch, fixed.dense_kind) == (None, 4, "mlp")
    x = np.random.default_rng(8).normal(size=(11, 56)).astype(np.float32)
    np.testing.assert_allclose(
        fixed.probabilities(DENSE.first, x), DENSE.probabilities(DENSE.first, x), atol=1e-6
    )
    for n in (4, 3, 1):
        one, other = (computation.steps(DENSE.first) for computation in (fixed, DENSE))
        for steps in (one, other):
            steps.step(x[:n], np.arange(n), 0.3)
        for name, array in one.arrays.items():
            np.testing.assert_allclose(array, other.arrays[name], atol=1e-6)


def test_batches_of_different_lengths_are_refused(tmp_path: Path) -> None:
    file = File()
    of_four_rows(file)
    file.tensor("train", "share").shapeSignature = file.tensor("train", "share").shape = [5]
    with pytest.raises(ModelError, match="batches of different lengths: 4, 5"):
        Computation.load(file.save(tmp_path / "four.tflite"))
