"""Arrays out of an npz file that anybody may have made.

An npz file is a zip file with an array in each member. What such a file says of itself (sizes,
shapes, types) is compared with what it holds before room is made for it, so that a small file
cannot ask for all memory; and only numbers and text are read, no objects.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Arrays: TypeAlias = dict[str, NDArray[Any]]

_KINDS = "biufU"
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class TooLargeError(ValueError):
    """An array has more bytes than the caller has room for."""


def read_arrays(file: IO[bytes], names: Iterable[str], max_bytes: int) -> Arrays:
    """Read some arrays of an npz file.

    Args:
        file: open, seekable.
        names: which ones.
        max_bytes: of each, as it is once it is unpacked; with its header.

    Returns:
        By name, of any shape: integers, floats, booleans, or text of code points that there are.

    Raises:
        TooLargeError: one has more than `max_bytes`.
        LookupError: one is not there.
        ValueError: no npz file, or an array that is damaged or of another type.
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # by kind of damage and version of Python
        raise ValueError(f"no zip file: {error}") from error
    with archive:
        return {name: _read(archive, name, max_bytes) for name in names}


def _read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> NDArray[Any]:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise LookupError(f"no array `{name}`") from None
    if member.file_size > max_bytes:
        raise TooLargeError(f"array `{name}` has {member.file_size} bytes")
    try:
        with archive.open(member) as content:
            return _array(content)
    except Exception as error:  # of zlib, zipfile, numpy and its parsers, by kind of damage
        raise ValueError(f"array `{name}` is damaged: {error}") from error


def _array(content: IO[bytes]) -> NDArray[Any]:
    shape, columns_first, dtype = _HEADERS[npy.read_magic(content)](content)
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise ValueError(f"{dtype} is neither numbers nor text")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    data = content.read()
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for shape {shape} of {dtype}")
    if dtype.kind == "U":
        _check_text(data, dtype)
    flat: NDArray[Any] = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if columns_first else "C")


def _check_text(data: bytes, dtype: np.dtype[Any]) -> None:
    """numpy takes any 32 bits for a character; Python and terminals do not."""
    codes = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    low, high = _SURROGATES
    if ((codes > _LAST_CODE_POINT) | ((codes >= low) & (codes <= high))).any():
        raise ValueError("text with characters that there are not")
