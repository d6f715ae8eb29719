"""A bundle cut for the broker: chunks that are each known by their digest before they come.

Chunk 0 is the listing: a msgpack map with the size of the bundle and the SHA-256 of each further
chunk, one after the other. The SHA-256 of the listing is the bundle's digest in topics and orders.
So a board can take chunks in any order, and go on after a restart, without trusting the broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import msgpack
from attrs import field, frozen

from fedring.shared.bundles import MAX_BUNDLE_BYTES
from fedring.shared.errors import MessageError
from fedring.shared.unpacking import unpack

CHUNK_BYTES: Final = 64 * 1024
_DIGEST_BYTES: Final = 32
MAX_LISTING_BYTES: Final = MAX_BUNDLE_BYTES // CHUNK_BYTES * _DIGEST_BYTES + 64


@frozen
class Listing:
    """What chunk 0 says.

    Attributes:
        size: of the bundle, in bytes.
        digests: SHA-256 of chunks 1, 2, ..., 32 bytes each.
    """

    size: int
    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, bundle: bytes) -> Listing:
        """List the chunks of a bundle."""
        return cls(len(bundle), tuple(sha256(chunk).digest() for chunk in _cut(bundle)))

    @classmethod
    def decode(cls, data: bytes, digest: bytes) -> Listing:
        """Read chunk 0 as it came.

        Args:
            data: anybody may have written it.
            digest: of the listing that is wanted, 32 bytes.

        Raises:
            MessageError: another one, or none.
        """
        if len(data) > MAX_LISTING_BYTES or sha256(data).digest() != digest:
            raise MessageError("not the listing of the bundle that was ordered")
        try:
            fields = unpack(data)
        except ValueError as error:
            raise MessageError(f"the listing of the bundle is none: {error}") from error
        match fields:
            case {"size": int(size), "chunks": bytes(joined)} if 0 < size <= MAX_BUNDLE_BYTES:
                listing = cls(
                    size,
                    tuple(
                        joined[at : at + _DIGEST_BYTES]
                        for at in range(0, len(joined), _DIGEST_BYTES)
                    ),
                )
                if listing.encode() == data and listing.n_chunks == -(-size // CHUNK_BYTES):
                    return listing
        raise MessageError("the listing of the bundle is none")

    def encode(self) -> bytes:
        """Chunk 0."""
        return bytes(msgpack.packb({"size": self.size, "chunks": b"".join(self.digests)}))

    @property
    def n_chunks(self) -> int:
        """How many there are beside the listing."""
        return len(self.digests)

    def fits(self, index: int, data: bytes) -> bool:
        """Whether this is chunk `index`, from 1 on."""
        known = 1 <= index <= self.n_chunks and len(data) <= CHUNK_BYTES
        return known and sha256(data).digest() == self.digests[index - 1]


def cut_bundle(bundle: bytes) -> list[bytes]:
    """Give all chunks of a bundle, the listing first."""
    return [Listing.of(bundle).encode(), *_cut(bundle)]


def offset_of(index: int) -> int:
    """Where chunk `index`, from 1 on, begins in the bundle."""
    return (index - 1) * CHUNK_BYTES


def _cut(bundle: bytes) -> Iterator[bytes]:
    return (bundle[at : at + CHUNK_BYTES] for at in range(0, len(bundle), CHUNK_BYTES))
