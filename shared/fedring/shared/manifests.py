"""Chunk 0 of a model on the wire: names, shapes, and the digest of every other chunk.

The digest of a model is the SHA-256 of its manifest, and the manifest holds the SHA-256 of every
data chunk: the 32 bytes in a signed announce pin every bit, and each chunk can be judged when it
comes, in any order.

There is exactly one manifest for a model: a manifest that is not, byte for byte, what
`Manifest.encode` would have written is refused. Unknown keys, doubled keys, other number formats
and trailing bytes are all refused by that one comparison.
"""

import math
import re
from hashlib import sha256

import attrs
import msgpack

from fedring.shared.errors import MessageError
from fedring.shared.unpacking import unpack

FORMAT = "fedring-model/1"
CHUNK_BYTES = 65_536
"""Size of every data chunk but the last: no broker that we know of refuses 64 KiB."""

DIGEST_BYTES = 32
"""SHA-256."""
MAX_MODEL_BYTES = 64 * 2**20
"""Most data that a manifest may announce: 16 million weights, or 1,024 chunks."""
MAX_MANIFEST_BYTES = CHUNK_BYTES
MAX_ARRAYS = 64
MAX_DIMENSIONS = 4
MAX_LABELS = 4_096
"""Most feature names, and most class names."""
MAX_NAME_CHARACTERS = 64

_ITEM_BYTES = 4
_ARRAY_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


@attrs.frozen
class ArrayInfo:
    """Name and shape of one array, and whether rounds train it."""

    name: str
    shape: tuple[int, ...]
    trained: bool

    @property
    def size(self) -> int:
        """How many values the array has."""
        return math.prod(self.shape)


@attrs.frozen
class Manifest:
    """Chunk 0: everything about a model but its values.

    Args:
        kind: what `networks` makes of the arrays, e.g. `mlp`.
        features: names of the inputs, in order.
        classes: names of the outputs, in order.
        arrays: in the order in which their bytes follow each other.
        digests: SHA-256 of chunks 1, 2, ...

    Raises:
        ValueError: a limit of this module is broken, or the parts do not fit each other.
    """

    kind: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    arrays: tuple[ArrayInfo, ...]
    digests: tuple[bytes, ...]

    def __attrs_post_init__(self) -> None:
        _check_names("kind", (self.kind,), 1)
        _check_names("features", self.features, MAX_LABELS)
        _check_names("classes", self.classes, MAX_LABELS)
        _check_names("arrays", tuple(array.name for array in self.arrays), MAX_ARRAYS)
        for array in self.arrays:
            _check_array(array)
        if self.n_bytes > MAX_MODEL_BYTES:
            raise ValueError(f"{self.n_bytes} bytes of arrays, at most {MAX_MODEL_BYTES}")
        if len(self.digests) != math.ceil(self.n_bytes / CHUNK_BYTES):
            raise ValueError(f"{len(self.digests)} digests for {self.n_bytes} bytes")
        if not all(isinstance(d, bytes) and len(d) == DIGEST_BYTES for d in self.digests):
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes")

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays together."""
        return _ITEM_BYTES * sum(array.size for array in self.arrays)

    @property
    def n_weights(self) -> int:
        """Length of the vector that a round trains."""
        return sum(array.size for array in self.arrays if array.trained)

    @property
    def n_chunks(self) -> int:
        """How many chunks the model has, the manifest among them."""
        return 1 + len(self.digests)

    def check_chunk(self, index: int, data: bytes) -> None:
        """Refuse a data chunk that is not the one this manifest names.

        Args:
            index: 1 to `n_chunks` - 1.
            data: the chunk as it came.

        Raises:
            MessageError: no such chunk, or other bytes.
        """
        if not 1 <= index < self.n_chunks:
            raise MessageError(f"no model chunk {index}, this model has {self.n_chunks}")
        if not self.names(index, len(data), sha256(data).digest()):
            raise MessageError(f"model chunk {index} is not what the manifest says")

    def names(self, index: int, size: int, digest: bytes) -> bool:
        """Whether data chunk `index` of this model has so many bytes and this SHA-256."""
        if not 1 <= index < self.n_chunks:
            return False
        expected = min(CHUNK_BYTES, self.n_bytes - (index - 1) * CHUNK_BYTES)
        return (size, digest) == (expected, self.digests[index - 1])

    def encode(self) -> bytes:
        """The one encoding of this manifest.

        Raises:
            ValueError: longer than `MAX_MANIFEST_BYTES`: too many or too long names.
        """
        data: bytes = msgpack.packb(
            {
                "format": FORMAT,
                "kind": self.kind,
                "features": self.features,
                "classes": self.classes,
                "arrays": [[a.name, a.shape, "float32", a.trained] for a in self.arrays],
                "digests": self.digests,
            }
        )
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError(f"a manifest of {len(data)} bytes, at most {MAX_MANIFEST_BYTES}")
        return data


def parse_manifest(data: bytes) -> Manifest:
    """Read chunk 0 of a model.

    Args:
        data: as it came, trusted in nothing.

    Raises:
        MessageError: whatever `Manifest.encode` would not have written.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise MessageError(f"a model manifest of {len(data)} bytes, at most {MAX_MANIFEST_BYTES}")
    try:
        match unpack(data, use_list=False):
            case {
                "format": str(),
                "kind": str(kind),
                "features": tuple(features),
                "classes": tuple(classes),
                "arrays": tuple(arrays),
                "digests": tuple(digests),
            }:
                infos = tuple(_array_info(entry) for entry in arrays)
                manifest = Manifest(kind, features, classes, infos, digests)
                canonical = manifest.encode()
            case _:
                raise MessageError("not a model manifest")
    except (ValueError, TypeError, OverflowError) as error:
        raise MessageError(f"bad model manifest: {error}") from error
    if canonical != data:
        raise MessageError(f"not a {FORMAT} manifest, or not in its one encoding")
    return manifest


def _check_names(what: str, names: tuple[object, ...], most: int) -> None:
    if not 1 <= len(names) <= most:
        raise ValueError(f"{len(names)} {what}, must be 1 to {most}")
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARACTERS:
            raise ValueError(f"{what}: a name has 1 to {MAX_NAME_CHARACTERS} characters")
        if not name.isprintable():
            raise ValueError(f"{what}: a name has characters that do not print")
    if len(set(names)) != len(names):
        raise ValueError(f"{what}: a name is there twice")


def _check_array(array: ArrayInfo) -> None:
    # Members of the npz file carry these names: no slashes, no clash with its words.
    if not _ARRAY_NAME.fullmatch(array.name):
        raise ValueError("arrays: a name looks like layer1.weight")
    if len(array.shape) > MAX_DIMENSIONS:
        raise ValueError(f"array {array.name} has {len(array.shape)} dimensions")
    for length in array.shape:
        # bool is an int to isinstance, and 2**70 is an int that numpy does not know.
        if type(length) is not int or not 1 <= length <= MAX_MODEL_BYTES:
            raise ValueError(f"array {array.name} has a bad shape")


def _array_info(entry: object) -> ArrayInfo:
    match entry:
        case (str(name), tuple(shape), "float32", bool(trained)):
            return ArrayInfo(name, shape, trained)
        case _:
            raise ValueError("bad entry among the arrays")
