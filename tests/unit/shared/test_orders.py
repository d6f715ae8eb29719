"""Orders to update, and bundles in chunks: what was written is read back, nothing else is."""

import io
import tarfile
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.fleet.issuing import Issuer
from fedring.shared.bundle_chunks import CHUNK_BYTES, Listing, cut_bundle, offset_of
from fedring.shared.bundles import (
    ARCHIVE_FILE,
    PURPOSE,
    Bundle,
    read_bundle,
    version_number,
)
from fedring.shared.errors import BundleError, IdentityError, MessageError, SignedFolderError
from fedring.shared.identity import Authority, sign
from fedring.shared.orders import MAX_BUNDLES, MAX_NAMES, Offer, UpdateOrder, read_order, sealed
from fedring.shared.signed_folders import File, Manifest, sign_manifest

ISSUER = Issuer.create("greenhouse")
AUTHORITY = Authority(ISSUER.certificate.public_bytes(Encoding.DER))
OFFER = Offer("cp311", "aarch64", bytes(32))
ORDER = UpdateOrder("greenhouse", 7, "0.2.0", (OFFER,), frozenset({"b01", "b02"}))


def envelope(payload: bytes, issuer: Issuer = ISSUER) -> bytes:
    return sealed(payload, sign(issuer.key, UpdateOrder.KIND, payload))


names = st.none() | st.frozensets(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), max_size=5)
offers = st.lists(
    st.builds(
        Offer,
        st.sampled_from(["cp311", "cp313"]),
        st.sampled_from(["aarch64", "x86_64"]),
        st.binary(min_size=32, max_size=32),
    ),
    max_size=4,
).map(tuple)


@given(st.integers(1, 2**32 - 1), offers, names)
def test_an_order_is_read_back(
    number: int, offers: tuple[Offer, ...], names: frozenset[str] | None
) -> None:
    order = UpdateOrder("greenhouse", number, "0.2.0", offers, names)
    assert read_order(envelope(order.payload()), AUTHORITY) == order


def test_the_longest_order_fits_an_envelope() -> None:
    longest = frozenset(f"{number:032d}" for number in range(MAX_NAMES))
    order = UpdateOrder("greenhouse", 1, "0.2.0", (OFFER,) * MAX_BUNDLES, longest)
    assert read_order(envelope(order.payload()), AUTHORITY) == order


def test_whom_and_what_an_order_means() -> None:
    assert ORDER.meant_for("b01")
    assert not ORDER.meant_for("b03")
    assert UpdateOrder("greenhouse", 1, "0.2.0", (), None).meant_for("b03")
    assert ORDER.offer("cp311", "aarch64") == OFFER
    assert ORDER.offer("cp313", "aarch64") is None


OTHERS = {
    "of another authority": envelope(ORDER.payload(), Issuer.create("greenhouse")),
    "of another fleet": envelope(
        UpdateOrder("orchard", 7, "0.2.0", (), None).payload(),
    ),
    "another kind": sealed(ORDER.payload(), sign(ISSUER.key, "revocation", ORDER.payload())),
    "changed": envelope(ORDER.payload()).replace(b"b01", b"b03"),
    "number 0": envelope(UpdateOrder("greenhouse", 0, "0.2.0", (), None).payload()),
    "no version": envelope(UpdateOrder("greenhouse", 1, "newest", (), None).payload()),
    "a short digest": envelope(
        UpdateOrder("greenhouse", 1, "0.2.0", (Offer("cp311", "x86_64", b"x"),), None).payload()
    ),
    "no name": envelope(UpdateOrder("greenhouse", 1, "0.2.0", (), frozenset({"B 1"})).payload()),
    "a byte behind": envelope(ORDER.payload() + b"\xc0"),
    "nothing": b"",
}


@pytest.mark.parametrize("what", OTHERS)
def test_nothing_else_is_an_order(what: str) -> None:
    with pytest.raises(IdentityError):
        read_order(OTHERS[what], AUTHORITY)


@settings(max_examples=20)
@given(st.integers(1, 3 * CHUNK_BYTES))
def test_a_bundle_comes_together_from_its_chunks(size: int) -> None:
    bundle = (b"%d" % size * size)[:size]
    first, *chunks = cut_bundle(bundle)
    listing = Listing.of(bundle)
    assert Listing.decode(first, _digest(first)) == listing
    put_together = bytearray(size)
    for index, chunk in enumerate(chunks, start=1):
        assert listing.fits(index, chunk)
        assert not listing.fits(index, chunk + b"x")
        assert not listing.fits(index + len(chunks), chunk)
        put_together[offset_of(index) : offset_of(index) + len(chunk)] = chunk
    assert bytes(put_together) == bundle
    assert not listing.fits(0, first)


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()


def test_a_listing_of_another_bundle_is_refused() -> None:
    first = cut_bundle(b"bundle")[0]
    with pytest.raises(MessageError):
        Listing.decode(first, bytes(32))
    wrong = Listing(CHUNK_BYTES + 1, (bytes(32),)).encode()  # a chunk too few
    with pytest.raises(MessageError):
        Listing.decode(wrong, _digest(wrong))


@pytest.mark.parametrize(
    ("older", "newer"), [("0.1.0", "0.1.1"), ("0.9.9999", "0.10.0"), ("0.9999.0", "1.0.0")]
)
def test_versions_are_in_order(older: str, newer: str) -> None:
    assert 1 <= version_number(older) < version_number(newer) <= 10**12


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "1.2.x", "01.2.3", "1.2.10000", "\u0661.2.3"]
)
def test_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        version_number(text)


FACTS = {"version": "0.2.0", "python": "cp311", "arch": "aarch64", "floor": "0.1.0"}


def bundle_of(facts: dict[str, str], number: int, member: str = ARCHIVE_FILE) -> bytes:
    manifest = Manifest(PURPOSE, "greenhouse", number, facts, {member: File.of(b"archive")})
    encoded, signature = sign_manifest(manifest, ISSUER.key)
    whole = io.BytesIO()
    with tarfile.open(mode="w", fileobj=whole, format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (
            ("manifest", encoded),
            ("manifest.sig", signature),
            (ARCHIVE_FILE, b"archive"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def test_what_a_bundle_says() -> None:
    whole = bundle_of(FACTS, version_number("0.2.0"))
    found = read_bundle(io.BytesIO(whole), AUTHORITY)
    assert found == Bundle("0.2.0", "cp311", "aarch64", "0.1.0", 7, File.of(b"archive").sha256)
    assert whole[found.offset :].startswith(b"archive")
    assert found.file_name == "fedring-0.2.0-cp311-aarch64.fedring"


@pytest.mark.parametrize(
    "facts",
    [
        {"version": "0.3.0"},  # not the number that was signed
        {"floor": "0.2.1"},
        {"floor": "x"},
        {"python": "CPython"},
        {"arch": "../.."},
    ],
)
def test_a_manifest_that_contradicts_itself(facts: dict[str, str]) -> None:
    whole = bundle_of(FACTS | facts, version_number("0.2.0"))
    with pytest.raises(BundleError):
        read_bundle(io.BytesIO(whole), AUTHORITY)


def test_a_bundle_with_another_file_is_none() -> None:
    whole = bundle_of(FACTS, version_number("0.2.0"), member="other")
    with pytest.raises(BundleError):
        read_bundle(io.BytesIO(whole), AUTHORITY)


@settings(max_examples=60)
@given(st.data())
def test_every_changed_byte_that_counts_is_seen(data: st.DataObject) -> None:
    whole = bytearray(bundle_of(FACTS, version_number("0.2.0")))
    at = data.draw(st.integers(0, whole.index(b"archive") + 6))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read_bundle(io.BytesIO(bytes(whole)), AUTHORITY)
    except (BundleError, SignedFolderError):
        return
    # A field of the tar that nobody reads, such as an owner or padding.
    assert bytes(whole)[found.offset : found.offset + found.size] == b"archive"
    assert found.version == "0.2.0"


@given(st.binary(max_size=2_000))
def test_whatever_comes_is_no_bundle(data: bytes) -> None:
    with pytest.raises((BundleError, SignedFolderError)):
        read_bundle(io.BytesIO(data), AUTHORITY)
