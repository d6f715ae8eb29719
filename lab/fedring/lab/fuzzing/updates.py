"""Decoders of updates: what an owner orders, what the broker hands out, what lies in an inbox."""

from __future__ import annotations

import io
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from fedring.device.readiness import coordinator_answers
from fedring.lab.fuzzing import people
from fedring.lab.fuzzing.mutations import Form
from fedring.lab.fuzzing.target import Target, demand
from fedring.shared.bundle_chunks import Listing, cut_bundle
from fedring.shared.bundles import ARCHIVE_FILE, PURPOSE, Bundle, read_bundle, version_number
from fedring.shared.errors import BundleError, MessageError, PeerError, SignedFolderError
from fedring.shared.orders import Offer, UpdateOrder, read_order, sealed
from fedring.shared.signed_folders import (
    KIND,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    File,
    Manifest,
)

ARCHIVE: Final = b"an archive"


def targets() -> Iterator[Target]:
    """Every decoder of this side."""
    yield Target("update-order", _order, (PeerError,), Form.MSGPACK)
    yield Target("bundle-listing", _listing, (MessageError,), Form.MSGPACK)
    yield Target("bundle", _bundle, (BundleError, SignedFolderError), inputs=200)
    yield Target("coordinator-status", _status, (), Form.TEXT, (b'"state"', b'"offline"', b"["))


def good_inputs() -> Iterator[tuple[str, str, bytes]]:
    """Inputs that decode: target, name, bytes."""
    offer = Offer("cp311", "aarch64", bytes(range(32)))
    for name, names in (("everybody", None), ("two", frozenset({"b01", "b02"}))):
        yield "update-order", name, UpdateOrder(people.FLEET, 7, "0.2.0", (offer,), names).payload()
    yield "bundle-listing", "two-chunks", cut_bundle(bytes(70_000))[0]
    yield "bundle", "small", _made()
    yield "coordinator-status", "paused", b'{"state": "paused", "round": 3}'


def bad_inputs() -> Iterator[tuple[str, str, bytes]]:
    """Inputs that are refused by name."""
    yield "update-order", "nested", b"\x91" * 2_000
    yield "bundle-listing", "a-chunk-too-few", Listing(70_000, (bytes(32),)).encode()
    yield "bundle", "the-end-is-missing", _made()[:-600]
    yield "bundle", "another-archive", _made().replace(ARCHIVE, b"AN ARCHIVE")


def _made() -> bytes:
    facts = {"version": "0.2.0", "python": "cp311", "arch": "aarch64", "floor": "0.1.0"}
    files = {ARCHIVE_FILE: File.of(ARCHIVE)}
    manifest = Manifest(PURPOSE, people.FLEET, version_number("0.2.0"), facts, files).encode()
    members = {
        MANIFEST_FILE: manifest,
        SIGNATURE_FILE: people.issuer_signs(KIND, manifest),
        ARCHIVE_FILE: ARCHIVE,
    }
    return b"".join(_member(name, content) for name, content in members.items())


def _member(name: str, content: bytes) -> bytes:
    """A member of a tar file, as plainly as its reader reads it."""
    header = bytearray(512)
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % len(content)
    header[156:157] = b"0"
    return bytes(header) + content + bytes(-len(content) % 512)


def _order(data: bytes) -> None:
    """An order with the authority's signature around it."""
    order = UpdateOrder.from_payload(data)
    demand(order.payload() == data, "an order in another spelling")
    if order.fleet == people.FLEET:
        signature = people.issuer_signs(UpdateOrder.KIND, data)
        demand(read_order(sealed(data, signature), people.authority()) == order, "another order")


def _listing(data: bytes) -> None:
    """A listing under its own digest."""
    listing = Listing.decode(data, sha256(data).digest())
    demand(listing.encode() == data, "a listing in another spelling")


def _bundle(data: bytes) -> None:
    found: Bundle = read_bundle(io.BytesIO(data), people.authority())
    demand(data[found.offset : found.offset + found.size] == ARCHIVE, "bytes that nobody signed")


def _status(data: bytes) -> None:
    coordinator_answers(data)
