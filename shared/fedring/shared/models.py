"""A model as named arrays: its flat vector, its chunks and digest on the wire, its npz file.

A model is a few float32 arrays in a fixed order and the words that explain them: kind, feature
names, class names. What the arrays *do* is said in `networks`; here a model is only carried.

On the wire (`model/<digest>/<chunk>`, see `topics`) it is cut into chunks. Chunk 0 is the
manifest (see `manifests`), the others are the arrays, little-endian float32, row by row, one after
the other, in pieces of `CHUNK_BYTES`.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fedring.shared.errors import MessageError, ModelError
from fedring.shared.manifests import (
    CHUNK_BYTES,
    FORMAT,
    MAX_ARRAYS,
    MAX_LABELS,
    MAX_MODEL_BYTES,
    ArrayInfo,
    Manifest,
    parse_manifest,
)
from fedring.shared.npz import read_arrays

__all__ = ["Floats", "Manifest", "Model", "load_npz", "parse_manifest", "save_npz"]

Floats = NDArray[np.float32]
"""float32, any shape."""

_WIRE_DTYPE = np.dtype("<f4")
_WORDS = ("format", "kind", "features", "classes", "trained", "order", "note")
_MAX_NPZ_BYTES = MAX_MODEL_BYTES + 4096  # with the header of an array


@attrs.frozen(slots=False, eq=False, repr=False)
class Model:
    """Named float32 arrays, the names of inputs and outputs, and which arrays rounds train.

    Two models are equal when their digests are. The arrays are not writable: a trained or moved
    model is a new one (`with_weights`, `with_arrays`).

    Args:
        kind: what `networks` makes of the arrays, e.g. `mlp`.
        features: names of the inputs, in order.
        classes: names of the outputs, in order.
        arrays: name to float32 array; their order is the order on the wire and in `weights`.
        trained: names of the arrays that a round trains; the others are part of the digest only.

    Raises:
        ValueError: a limit of this module is broken, or the parts do not fit each other.
    """

    kind: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    arrays: Mapping[str, Floats]
    trained: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise ValueError(f"array {name} is {array.dtype}, not float32")
            array.flags.writeable = False
        in_order = tuple(name for name in self.arrays if name in self.trained)
        if self.trained != in_order:
            raise ValueError("trained arrays must be named once each, in the order of the arrays")

    @property
    def n_weights(self) -> int:
        """Length of `weights`: what a round trains, and what a body carries."""
        return sum(self.arrays[name].size for name in self.trained)

    def weights(self) -> Floats:
        """The trained arrays, flat, one after the other: float32, shape (n_weights,), a copy."""
        parts = [self.arrays[name].ravel() for name in self.trained]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def with_weights(self, weights: NDArray[np.floating[Any]]) -> "Model":
        """The same model with other values in its trained arrays.

        Args:
            weights: any float type, shape (n_weights,); rounded to float32.

        Raises:
            ValueError: not one value for each weight.
        """
        if weights.shape != (self.n_weights,):
            raise ValueError(f"weights of shape {weights.shape}, not ({self.n_weights},)")
        arrays = dict(self.arrays)
        start = 0
        for name in self.trained:
            shape, stop = arrays[name].shape, start + arrays[name].size
            arrays[name] = weights[start:stop].astype(np.float32).reshape(shape)
            start = stop
        return attrs.evolve(self, arrays=arrays)

    def with_arrays(self, **arrays: Floats) -> "Model":
        """The same model with some arrays replaced or, at the end, added (not trained)."""
        return attrs.evolve(self, arrays={**self.arrays, **arrays})

    @cached_property
    def manifest(self) -> Manifest:
        """What the model's chunk 0 says."""
        return Manifest(
            kind=self.kind,
            features=self.features,
            classes=self.classes,
            arrays=tuple(
                ArrayInfo(name, array.shape, name in self.trained)
                for name, array in self.arrays.items()
            ),
            digests=tuple(sha256(piece).digest() for piece in self._pieces()),
        )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the manifest, 32 bytes: the name of this model, to the last bit."""
        return sha256(self.manifest.encode()).digest()

    def chunks(self) -> tuple[bytes, ...]:
        """The model as it travels: manifest, then data chunks of at most `CHUNK_BYTES`."""
        return (self.manifest.encode(), *self._pieces())

    def _pieces(self) -> list[bytes]:
        data = b"".join(a.astype(_WIRE_DTYPE, copy=False).tobytes() for a in self.arrays.values())
        return [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]

    @classmethod
    def from_chunks(cls, chunks: Sequence[bytes]) -> "Model":
        """Put a model together from what `chunks` gave.

        Args:
            chunks: all of them, in order, trusted in nothing. That chunk 0 has the announced
                digest is for the caller to compare.

        Raises:
            MessageError: a chunk is missing, too many, or wrong; a value is NaN or infinite.
        """
        if not chunks:
            raise MessageError("a model without a manifest")
        manifest = parse_manifest(chunks[0])
        if len(chunks) != manifest.n_chunks:
            raise MessageError(f"{len(chunks)} model chunks, not {manifest.n_chunks}")
        for index, chunk in enumerate(chunks[1:], start=1):
            manifest.check_chunk(index, chunk)
        values = np.frombuffer(b"".join(chunks[1:]), _WIRE_DTYPE).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise MessageError("a model with NaN or infinite values")
        arrays, start = {}, 0
        for info in manifest.arrays:
            arrays[info.name] = values[start : start + info.size].reshape(info.shape)
            start += info.size
        trained = tuple(info.name for info in manifest.arrays if info.trained)
        return cls(manifest.kind, manifest.features, manifest.classes, arrays, trained)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Model {self.kind} {self.n_weights} weights {self.digest.hex()[:12]}>"


def save_npz(path: Path, model: Model, note: Mapping[str, object]) -> None:
    """Write a model as a file that any program with numpy can read.

    The arrays stand under their own names; `kind`, `features`, `classes` and `trained` are arrays
    of strings, `note` is one string of JSON. The file appears whole, or not at all, also when the
    power fails.

    Args:
        path: where to; an older file there is replaced.
        model: what to write.
        note: how it came about (version, round, counts, ...): whatever JSON can say.
    """
    content: dict[str, Any] = {
        "format": np.array(FORMAT),
        "kind": np.array(model.kind),
        "features": np.array(model.features, dtype=np.str_),
        "classes": np.array(model.classes, dtype=np.str_),
        "trained": np.array(model.trained, dtype=np.str_),
        "order": np.array(list(model.arrays), dtype=np.str_),
        "note": np.array(json.dumps(note)),
        **model.arrays,
    }
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            # mkstemp makes it private, but a model is there for other programs to read.
            os.fchmod(file.fileno(), 0o644)
            np.savez(file, **content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_npz(path: Path) -> tuple[Model, dict[str, Any]]:
    """Read what `save_npz` wrote.

    Returns:
        The model and its note.

    Raises:
        ModelError: no such file, or not one of ours.
    """
    try:
        with path.open("rb") as file:
            return _from_npz(file)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file", name="model.missing-file") from error
    except (OSError, ValueError, LookupError) as error:
        raise ModelError(
            f"{path}: not a model file of fedring ({error})",
            name="model.unreadable",
            hint="a model file is made with: fedring coordinator export VERSION FILE",
        ) from error


def _from_npz(file: IO[bytes]) -> tuple[Model, dict[str, Any]]:
    words = read_arrays(file, _WORDS, _MAX_NPZ_BYTES)
    if str(words["format"]) != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    features, classes, trained, order = (
        tuple(str(name) for name in words[word].ravel()[: MAX_LABELS + 1])
        for word in ("features", "classes", "trained", "order")
    )
    arrays = read_arrays(file, order[: MAX_ARRAYS + 1], _MAX_NPZ_BYTES)
    model = Model(str(words["kind"]), features, classes, arrays, trained)
    model.manifest.encode()  # its limits, and those of names that people will see
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("NaN or infinite values")
    try:
        note = json.loads(str(words["note"]))
    except RecursionError:
        raise ValueError("its note is nested too deep") from None
    if not isinstance(note, dict):
        raise ValueError("its note is no JSON object")
    return model, note
