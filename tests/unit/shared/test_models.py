"""A model survives the wire and the disk to the last bit; anything else is refused."""

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared import manifests
from fedring.shared.errors import MessageError, ModelError
from fedring.shared.models import Model, load_npz, parse_manifest, save_npz


def a_model(*shapes: tuple[int, ...]) -> Model:
    rng = np.random.default_rng(7)
    shapes = shapes or ((3, 2), (2,))
    arrays = {
        f"array{i}.values": rng.normal(size=shape).astype(np.float32)
        for i, shape in enumerate(shapes)
    }
    arrays["public.range"] = np.ones(3, np.float32)
    trained = tuple(name for name in arrays if name != "public.range")
    return Model("mlp", ("acc_x.mean", "naïve °C", "z"), ("walk", "lie"), arrays, trained)


def content(model: Model) -> dict[str, Any]:
    unpacked: dict[str, Any] = msgpack.unpackb(model.chunks()[0])
    return unpacked


@pytest.mark.parametrize(
    "shapes", [((1,),), ((3, 2), (2,)), ((64, 256),), ((64, 257),), ((100, 300), (7,), (2, 2, 2))]
)
def test_chunks_give_the_same_model_back(shapes: tuple[tuple[int, ...], ...]) -> None:
    model = a_model(*shapes)
    chunks = model.chunks()
    again = Model.from_chunks(chunks)
    assert again == model
    assert again.digest == sha256(chunks[0]).digest()
    assert again.trained == model.trained
    assert list(again.arrays) == list(model.arrays)
    for name, array in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    n_bytes = 4 * (sum(map(math.prod, shapes)) + 3)
    assert [len(c) for c in chunks[1:-1]] == [65_536] * (
        n_bytes // 65_536 - (n_bytes % 65_536 == 0)
    )
    assert sum(map(len, chunks[1:])) == n_bytes
    assert parse_manifest(chunks[0]).n_weights == model.n_weights


def test_wire_bytes_are_pinned() -> None:
    arrays = {"layer1.bias": np.array([1, -2], np.float32)}
    model = Model("softmax", ("f",), ("a", "b"), arrays, ("layer1.bias",))
    manifest, data = model.chunks()
    assert data == bytes.fromhex("0000803f000000c0")
    assert manifest == bytes.fromhex(
        "86a6666f726d6174af66656472696e672d6d6f64656c2f31a46b696e64a7736f66746d6178"
        "a8666561747572657391a166a7636c617373657392a161a162"
        "a661727261797391"
        "94ab6c61796572312e626961739102a7666c6f61743332c3"
        "a76469676573747391c420" + sha256(data).hexdigest()
    )


def test_weights_are_the_trained_arrays_in_order() -> None:
    model = a_model()
    weights = model.weights()
    assert weights.shape == (model.n_weights,) == (8,)
    np.testing.assert_array_equal(weights[:6], model.arrays["array0.values"].ravel())
    moved = model.with_weights(weights.astype(np.float64) + 1)
    np.testing.assert_array_equal(moved.weights(), weights + np.float32(1))
    assert moved.arrays["public.range"] is model.arrays["public.range"]
    assert moved != model
    with pytest.raises(ValueError, match="shape"):
        model.with_weights(weights[1:])


def test_arrays_cannot_be_written_to() -> None:
    model = a_model()
    for each in (model, Model.from_chunks(model.chunks())):
        with pytest.raises(ValueError, match="read-only"):
            each.arrays["array0.values"][0] = 1


def test_added_arrays_change_the_digest() -> None:
    model = a_model()
    more = model.with_arrays(**{"public.mean": np.zeros(3, np.float32)})
    assert list(more.arrays) == [*model.arrays, "public.mean"]
    assert more.trained == model.trained
    assert more.digest != model.digest


def test_a_model_must_fit_itself() -> None:
    floats = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="float32"):
        Model("mlp", ("f",), ("c",), {"a.b": np.zeros(2)}, ())  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="order"):
        Model("mlp", ("f",), ("c",), {"a.b": floats, "c.d": floats}, ("c.d", "a.b"))
    with pytest.raises(ValueError, match="order"):
        Model("mlp", ("f",), ("c",), {"a.b": floats}, ("x.y",))


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "format": lambda m: m.update(format="fedring-model/2"),
    "unknown key": lambda m: m.update(extra=1),
    "missing key": lambda m: m.pop("classes"),
    "kind no text": lambda m: m.update(kind=1),
    "no features": lambda m: m.update(features=[]),
    "too many features": lambda m: m.update(features=[str(i) for i in range(4_097)]),
    "doubled feature": lambda m: m.update(features=["a", "a", "b"]),
    "empty class name": lambda m: m.update(classes=["", "b"]),
    "long class name": lambda m: m.update(classes=["b" * 65]),
    "class name that does not print": lambda m: m.update(classes=["\x1b[2J"]),
    "class name no text": lambda m: m.update(classes=[1]),
    "array name": lambda m: m["arrays"][0].__setitem__(0, "../../etc/passwd"),
    "array name without a dot": lambda m: m["arrays"][0].__setitem__(0, "file"),
    "doubled array": lambda m: m["arrays"][0].__setitem__(0, "array1.values"),
    "dimension 0": lambda m: m["arrays"][0].__setitem__(1, [0, 2]),
    "negative dimension": lambda m: m["arrays"][0].__setitem__(1, [-3, -2]),
    "dimension true": lambda m: m["arrays"][0].__setitem__(1, [True, 6]),
    "dimension 1.0": lambda m: m["arrays"][0].__setitem__(1, [1.0, 6]),
    "huge dimension": lambda m: m["arrays"][0].__setitem__(1, [2**63, 2**63, 2**63, 2**63]),
    "too many dimensions": lambda m: m["arrays"][0].__setitem__(1, [1, 1, 1, 3, 2]),
    "dtype": lambda m: m["arrays"][0].__setitem__(2, "float64"),
    "trained 1": lambda m: m["arrays"][0].__setitem__(3, 1),
    "array too large": lambda m: m["arrays"][0].__setitem__(1, [2**24, 1]),
    "too few digests": lambda m: m.update(digests=[]),
    "too many digests": lambda m: m["digests"].append(bytes(32)),
    "short digest": lambda m: m.update(digests=[bytes(31)]),
    "digest as text": lambda m: m.update(digests=["x" * 32]),
    "digest a number": lambda m: m.update(digests=[5]),
    "digests a map": lambda m: m.update(digests={}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_manifests_are_refused(name: str) -> None:
    manifest = content(a_model())
    parse_manifest(msgpack.packb(manifest))
    SPOILT[name](manifest)
    with pytest.raises(MessageError):
        parse_manifest(msgpack.packb(manifest))


def test_only_the_one_encoding_is_read() -> None:
    model = a_model()
    good = model.chunks()[0]
    backwards = dict(reversed(content(model).items()))
    doubled = b"\x87" + good[1:] + msgpack.packb("kind") + msgpack.packb("mlp")
    wide = good.replace(b"\xa6format", b"\xd9\x06format")
    for data in (good + b"\0", good[:-1], msgpack.packb(backwards), doubled, wide, b"", b"\xc1"):
        with pytest.raises(MessageError):
            parse_manifest(data)


def test_a_long_manifest_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="at most 65536"):
        parse_manifest(b"\x91" * 65_537)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_message_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        parse_manifest(data)


@given(st.data())
def test_any_change_to_a_manifest_is_seen(data: st.DataObject) -> None:
    good = bytearray(a_model().chunks()[0])
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    try:
        again = parse_manifest(bytes(good))
    except MessageError:
        return
    assert again.encode() == bytes(good)


def test_a_chunk_is_judged_by_itself() -> None:
    model = a_model((128, 200))
    manifest, first, last = model.chunks()
    read = parse_manifest(manifest)
    read.check_chunk(1, first)
    read.check_chunk(2, last)
    changed = bytes([first[0] ^ 1]) + first[1:]
    for index, data in ((1, changed), (1, last), (2, first), (0, manifest), (3, last), (1, b"")):
        with pytest.raises(MessageError):
            read.check_chunk(index, data)
    for chunks in ([], [manifest], [manifest, first], [manifest, first, last, last]):
        with pytest.raises(MessageError):
            Model.from_chunks(chunks)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    weights = a_model().weights()
    weights[3] = value
    with pytest.raises(MessageError, match="NaN or infinite"):
        Model.from_chunks(a_model().with_weights(weights).chunks())


def test_limits_hold_for_what_we_make_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"{i:064d}" for i in range(1_000))
    with pytest.raises(ValueError, match="manifest of"):
        attrs.evolve(a_model().manifest, features=names).encode()
    monkeypatch.setattr(manifests, "MAX_MODEL_BYTES", 43)
    with pytest.raises(ValueError, match="44 bytes"):
        a_model().chunks()


def test_npz_gives_the_same_model_and_note_back(tmp_path: Path) -> None:
    model, note = a_model(), {"version": 3, "rounds": [1, 2]}
    save_npz(tmp_path / "model.npz", a_model((1,)), {})
    save_npz(tmp_path / "model.npz", model, note)
    assert load_npz(tmp_path / "model.npz") == (model, note)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    with np.load(tmp_path / "model.npz") as file:
        np.testing.assert_array_equal(file["array0.values"], model.arrays["array0.values"])
        assert file["classes"].tolist() == ["walk", "lie"]


def test_npz_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_npz(path, a_model(), {"version": 1})
    with pytest.raises(TypeError):
        save_npz(path, a_model((1,)), {"version": object()})
    assert load_npz(path) == (a_model(), {"version": 1})
    assert list(tmp_path.iterdir()) == [path]


def test_npz_of_others_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(ModelError, match=r"model\.npz: no such"):
        load_npz(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ModelError, match=r"model\.npz: not a model") as caught:
        load_npz(path)
    assert caught.value.name == "model.unreadable"
    for junk in (b"", b"not a zip", path.read_bytes()[:-30]):
        path.write_bytes(junk)
        with pytest.raises(ModelError, match=r"model\.npz: not a model"):
            load_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").replace(path)
    with pytest.raises(ModelError, match=r"model\.npz: not a model"):
        load_npz(path)


BAD_NPZ: dict[str, dict[str, object]] = {
    "another format": {"format": "fedring-model/9"},
    "names of numbers": {"features": [1.5, 1.5, 1.5]},
    "a name that a terminal obeys": {"classes": ["walk", "lie\x1b[2J"]},
    "a name that is there twice": {"classes": ["walk", "walk"]},
    "a kind of many words": {"kind": "mlp " * 30},
    "other values": {"array0.values": np.zeros(11)},
    "no number": {"array0.values": np.full(11, np.nan, np.float32)},
    "an array that is not there": {"order": ["array0.values", "array9.values"]},
    "words for an array": {"order": ["kind"], "trained": ["kind"]},
    "a note that is none": {"note": "[]"},
    "a broken note": {"note": "{"},
    "a note without a bottom": {"note": "[" * 100_000},
    "objects": {"kind": np.array([None], object)},
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_npz_that_says_what_no_model_has_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_npz(path, a_model((11,)), {"version": 1})
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays)
    assert load_npz(path) == (a_model((11,)), {"version": 1})
    np.savez(path, **{**arrays, **BAD_NPZ[case]})
    with pytest.raises(ModelError, match=r"model\.npz: not a model") as caught:
        load_npz(path)
    assert caught.value.name == "model.unreadable"
