"""Damage: inputs that are nearly right, made out of inputs that are.

Bytes are flipped, cut, doubled and spliced in any input. Where the form of an input is known it is
also changed from within (a value of a map, a member of a zip file, a line of a text), so that what
comes out still passes the outer layers. The same generator gives the same damage.
"""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final, TypeAlias

import msgpack
from attrs import define, field

MOST_BYTES: Final = 256 * 1024
"""Longest input made: above every limit that a decoder has for a single message."""
MOST_STEPS: Final = 4
_LEVELS: Final = 30

_NUMBERS: Final = (
    *(-1, 0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 4096, 65_535, 65_536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**64 - 1, -(2**31), -(2**63)),
)
_FLOATS: Final = (0.0, -0.0, 1.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
_TEXTS: Final = (
    *("", "\0", "a", "\n", "\x1b[2J", "\u202e", "\ud7ff", "e\u0301", "../..", "coordinator"),
    *("x" * 33, "x" * 201, "x" * 1025),
)
_RAW: Final = (
    b"\xc1",  # a byte that msgpack never uses
    b"\xca\x7f\xc0\x00\x00",  # a short NaN
    b"\xd6\xff\x00\x00\x00\x00",  # a time
    b"\xc7\x00\x05",  # an extension of no length
    b"\xdb\xff\xff\xff\xff",  # lengths that are not there
    b"\xc6\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdc\xff\xff" * 600,
    b"\x91" * 1015 + b"\x01",
    b"\x81\xa1a" * 1015 + b"\x01",
    b"\xa2\xc3\x28",  # no UTF-8
)

Draw: TypeAlias = random.Random


class Form(Enum):
    """What an input looks like, for whoever damages it."""

    BYTES = auto()
    TEXT = auto()
    MSGPACK = auto()
    ZIP = auto()


@define
class Mutator:
    """Makes damaged inputs.

    Attributes:
        form: of the inputs.
        whole: inputs to start from.
        tokens: pieces that mean something to the decoder, put in here and there.
    """

    form: Form
    whole: Sequence[bytes]
    tokens: Sequence[bytes] = ()
    _ways: dict[Form, Callable[[bytes, Draw], bytes]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ways = {
            Form.TEXT: self._damaged_text,
            Form.MSGPACK: self._damaged_msgpack,
            Form.ZIP: self._damaged_zip,
        }

    def damaged(self, draw: Draw) -> bytes:
        """One input, at most `MOST_BYTES` long."""
        data = draw.choice(self.whole)
        inner = self._ways.get(self.form)
        for _ in range(draw.randint(1, MOST_STEPS)):
            if inner is not None and draw.random() < 0.7:
                data = inner(data, draw)
            else:
                data = self._damaged_bytes(data, draw)
        return data[:MOST_BYTES]

    # -- bytes -----------------------------------------------------------------------------

    def _damaged_bytes(self, data: bytes, draw: Draw) -> bytes:
        start, stop = sorted((draw.randint(0, len(data)), draw.randint(0, len(data))))
        stop = min(stop, start + draw.choice((1, 2, 8, 64, 4096)))
        match draw.randrange(10):
            case 0 if data:
                at = draw.randrange(len(data))
                return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
            case 1 if data:
                at = draw.randrange(len(data))
                byte = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
                return data[:at] + bytes([byte]) + data[at + 1 :]
            case 2:
                return data[:start] + data[stop:]
            case 3:
                return data[:stop] + data[start:stop] * draw.choice((1, 2, 30)) + data[stop:]
            case 4:
                return data[:start]
            case 5:
                return data[:start] + draw.randbytes(draw.randint(1, 9)) + data[stop:]
            case 6:
                width = draw.choice((1, 2, 4, 8))
                number = int(draw.choice(_NUMBERS) % 256**width).to_bytes(width, "big")
                piece = number if draw.random() < 0.5 else number[::-1]
                return data[:start] + piece + data[start + width :]
            case 7:
                other = draw.choice(self.whole)
                return data[:start] + other[draw.randint(0, len(other)) :]
            case 8 if self.tokens:
                token = draw.choice(self.tokens)
                times = min(draw.choice((1, 1, 1, 2, 2000)), 1 + MOST_BYTES // (1 + len(token)))
                return data[:start] + token * times + data[draw.choice((start, stop)) :]
        return data + draw.randbytes(draw.randint(1, 9))

    # -- text ------------------------------------------------------------------------------

    def _damaged_text(self, data: bytes, draw: Draw) -> bytes:
        lines = data.splitlines(keepends=True) or [b""]
        at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
        match draw.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(to, lines[at])
            case 2:
                lines[at], lines[to] = lines[to], lines[at]
            case 3:
                lines[at] = draw.choice(draw.choice(self.whole).splitlines(keepends=True) or [b""])
            case 4 if self.tokens:
                lines[at] = _word_replaced(lines[at], draw.choice(self.tokens), draw)
            case _:
                lines[at] = self._damaged_bytes(lines[at], draw)
        return b"".join(lines)

    # -- msgpack ---------------------------------------------------------------------------

    def _damaged_msgpack(self, data: bytes, draw: Draw) -> bytes:
        tree = _tree(data)
        if not isinstance(tree, _Node):
            return self._damaged_bytes(data, draw)
        node = draw.choice(list(tree.nodes()))
        if not node.children:
            node.children.append(_leaf(draw))
            return tree.packed()
        at, to = draw.randrange(len(node.children)), draw.randrange(len(node.children))
        child = node.children[at]
        if node.is_map and draw.random() < 0.5:  # keys with their values
            at, to = at - at % 2, to - to % 2
            pair = node.children[at : at + 2]
            if draw.random() < 0.7:
                del node.children[at : at + 2]
            if draw.random() < 0.7:
                node.children[to:to] = pair
            return tree.packed()
        match draw.randrange(9):
            case 0:
                del node.children[at]
            case 1:
                node.children.insert(to, child)
            case 2:
                node.children[at], node.children[to] = node.children[to], child
            case 8:
                node.children[at] = _Raw(_spelled_long(_packed(child)))
            case 3:
                node.children[at] = _Raw(draw.choice(_RAW))
            case 4:
                node.children += [child] * draw.choice((1, 2, 70))
            case 5 if isinstance(child, bytes):
                node.children[at] = self._damaged_bytes(child, draw)
            case 6 if isinstance(child, bytes | str):
                node.children[at] = child * draw.choice((0, 2, 40))
            case _:
                node.children[at] = _leaf(draw)
        return tree.packed()

    # -- zip -------------------------------------------------------------------------------

    def _damaged_zip(self, data: bytes, draw: Draw) -> bytes:
        members = zip_members(data)
        if not members:
            return self._damaged_bytes(data, draw)
        at = draw.randrange(len(members))
        name, content = members[at]
        match draw.randrange(6):
            case 0:
                del members[at]
            case 1:
                members.append((name, content))
            case 2:
                members[at] = (draw.choice(members)[0], content)
            case 3:
                members[at] = (draw.choice(("x", "../x.npy", "/x", name + "\0")), content)
            case _:
                members[at] = (name, self._damaged_bytes(content, draw))
        return zip_of(members, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _word_replaced(line: bytes, token: bytes, draw: Draw) -> bytes:
    for sign in (b"=", b":"):
        if sign in line and draw.random() < 0.5:
            return line.partition(sign)[0] + sign + b" " + token + b"\n"
    words = line.replace(b",", b" , ").replace(b"=", b" = ").split(b" ")
    words[draw.randrange(len(words))] = token
    return b" ".join(words).replace(b" , ", b",")


def _leaf(draw: Draw) -> Any:
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(_FLOATS)
    if kind == 1:
        return draw.choice(_TEXTS)
    if kind == 2:
        return draw.randbytes(draw.choice((0, 1, 31, 32, 33, 64)))
    if kind == 3:
        return draw.choice((None, True, False))
    if kind == 4:
        return _Node(draw.random() < 0.5, [])
    return draw.choice(_NUMBERS)


# -- msgpack that may be changed: maps keep their order and may have a key twice ---------------


@define
class _Raw:
    """Bytes to be put in as they are."""

    data: bytes


@define
class _Node:
    """An array, or a map as the list of its keys and values, or bytes that hold another one."""

    is_map: bool
    children: list[Any]
    is_packed: bool = False

    def nodes(self) -> list[_Node]:
        """This one and all within."""
        found = [self]
        for child in self.children:
            if isinstance(child, _Node):
                found += child.nodes()
        return found

    def packed(self) -> bytes:
        packer = msgpack.Packer(autoreset=True)
        if self.is_map:
            head = packer.pack_map_header(len(self.children) // 2)
        else:
            head = packer.pack_array_header(len(self.children))
        inner = b"".join(_packed(child) for child in self.children)
        return bytes(msgpack.packb(head + inner)) if self.is_packed else bytes(head + inner)


def _packed(value: Any) -> bytes:
    if isinstance(value, _Node):
        return value.packed()
    if isinstance(value, _Raw):
        return value.data
    return bytes(msgpack.packb(value))


def _spelled_long(packed: bytes) -> bytes:
    """The same value with its number or length in more bytes than it needs."""
    first, rest = packed[0], packed[1:]
    if first < 0x80:
        return b"\xcf" + first.to_bytes(8, "big")
    if first < 0x90:
        return b"\xdf" + (first & 0x0F).to_bytes(4, "big") + rest
    if first < 0xA0:
        return b"\xdd" + (first & 0x0F).to_bytes(4, "big") + rest
    if first < 0xC0:
        return b"\xdb" + (first & 0x1F).to_bytes(4, "big") + rest
    if first == 0xC4:  # bytes, their length in one byte
        return b"\xc6\0\0\0" + rest
    return packed


def _tree(data: bytes, levels: int = _LEVELS) -> Any:
    """What bytes say, with the bytes within that say something themselves."""
    try:
        value = msgpack.unpackb(
            data,
            object_pairs_hook=lambda pairs: _Node(True, [part for pair in pairs for part in pair]),
            strict_map_key=False,
        )
        return _opened(value, levels) if isinstance(value, list | _Node) else None
    except Exception:  # whatever it is: then it is no msgpack
        return None


def _opened(value: Any, levels: int) -> Any:
    if levels == 0:
        raise ValueError("too deep to be walked")
    if isinstance(value, list):
        return _Node(False, [_opened(item, levels - 1) for item in value])
    if isinstance(value, _Node):
        value.children = [_opened(item, levels - 1) for item in value.children]
    elif isinstance(value, bytes) and value[:1] and value[0] & 0xE0 == 0x80:
        inner = _tree(value, levels - 1)
        if isinstance(inner, _Node):
            inner.is_packed = True
            return inner
    return value


# -- zip -----------------------------------------------------------------------------------


def zip_members(data: bytes) -> list[tuple[str, bytes]]:
    """Names and contents of what is in a zip file; nothing when it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # as above
        return []


def zip_of(members: Sequence[tuple[str, bytes]], method: int) -> bytes:
    """A zip file of these."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice is what we want
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()
