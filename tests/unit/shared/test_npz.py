"""npz files: what numpy writes is read, and what lies about itself is refused before it costs."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedring.shared.npz import TooLargeError, read_arrays

LIMIT = 100_000


def npz(**arrays: object) -> io.BytesIO:
    file = io.BytesIO()
    np.savez_compressed(file, **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    return file


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def packed(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x.npy", content)
    return file


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i2"),
        np.array([True, False]),
        np.array(["a", "größer", "\U0010ffff"]),
        np.array(["a", "b"], ">U3"),
        np.array("alone"),
        np.zeros((0, 3)),
        np.array(7, np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_numpy_writes_is_read(array: NDArray[Any]) -> None:
    read = read_arrays(npz(x=array, y=[1]), ["x"], LIMIT)
    assert list(read) == ["x"]
    assert read["x"].dtype == array.dtype
    np.testing.assert_array_equal(read["x"], array)


def test_an_array_that_is_not_there() -> None:
    with pytest.raises(LookupError, match="no array `x`"):
        read_arrays(npz(y=[1]), ["x"], LIMIT)


def test_an_array_may_have_so_many_bytes() -> None:
    array = np.zeros(1_000)
    assert len(read_arrays(npz(x=array), ["x"], 8_128)["x"]) == 1_000
    with pytest.raises(TooLargeError, match="8128 bytes"):
        read_arrays(npz(x=array), ["x"], 8_127)


def replaced(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert before in content
        return content.replace(before, after + b" " * (len(before) - len(after)), 1)

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "billions of elements": replaced(b"(3, 4), }     ", b"(9999999999,), }"),
    "negative": replaced(b"(3, 4)", b"(-3,-4)"),
    "no numbers": replaced(b"(3, 4)", b"('3',)"),
    "no shape": replaced(b"(3, 4)", b"None"),
    "too deep": replaced(b"(3, 4), }" + b" " * 40, b"(" * 49),
    "objects": replaced(b"<f8", b"|O"),
    "times": replaced(b"'<f8'", b"'<M8'"),
    "nothing in each": replaced(b"<f8", b"<U0"),
    "records": replaced(b"'<f8'", b"'V8' "),
    "no type": replaced(b"<f8", b"<q9"),
    "no text": lambda content: content.replace(b"{", b"\xff", 1),
    "other version": lambda content: b"\x93NUMPY\x03" + content[7:],
    "other program": lambda content: b"\x89PNG" + content[4:],
    "short": lambda content: content[:-1],
    "long": lambda content: content + b"\0",
    "empty": lambda content: b"",
    "header only": lambda content: content[:90],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_lies_is_refused_before_it_costs(damage: str) -> None:
    content = npy(np.arange(12.0).reshape(3, 4))
    file = packed(DAMAGE[damage](content))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="array `x` is damaged"):
            read_arrays(file, ["x"], LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert read_arrays(packed(content), ["x"], LIMIT)["x"].shape == (3, 4)


@pytest.mark.parametrize("code", [0x110000, 0xD800, 0xDFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("order", ["<", ">"])
def test_text_has_characters_that_there_are(code: int, order: str) -> None:
    codes = np.array([65, code, 66], f"{order}u4")
    content = npy(np.array(["A B"], f"{order}U3"))
    assert content[-12:] == np.array([65, 32, 66], f"{order}u4").tobytes()
    file = packed(content[:-12] + codes.tobytes())
    with pytest.raises(ValueError, match="characters that there are not"):
        read_arrays(file, ["x"], LIMIT)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_file_is_refused(method: int) -> None:
    """Every byte of it changed, one after the other: numbers, or a refusal."""
    whole = packed(npy(np.arange(12.0)), method).getvalue()
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            read = read_arrays(io.BytesIO(changed), ["x"], LIMIT)
        except (ValueError, LookupError):
            continue
        assert read["x"].nbytes <= LIMIT


def test_what_is_no_zip_file(tmp_path: Path) -> None:
    for content in (b"", b"PK", npy([1]), npz(x=[1]).getvalue()[:-30]):
        with pytest.raises(ValueError, match="no zip file"):
            read_arrays(io.BytesIO(content), ["x"], LIMIT)
