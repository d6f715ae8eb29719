"""Signed folders: what was signed is read back, and every other folder is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fedring.fleet.issuing import Issuer
from fedring.shared.errors import SignedFolderError
from fedring.shared.identity import Authority, sign
from fedring.shared.signed_folders import (
    KIND,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    File,
    Manifest,
    read_manifest,
    sign_folder,
    sign_manifest,
    verify_folder,
)

ISSUER = Issuer.create("greenhouse")
AUTHORITY = Authority(ISSUER.certificate.public_bytes(Encoding.DER))
CONTENTS = {"ca.crt": b"certificate", "broker/acl": b"user coordinator\n", "broker/sub/x": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "ca.crt").chmod(0o755)
    sign_folder(
        folder,
        ISSUER.key,
        purpose="server",
        fleet="greenhouse",
        number=3,
        facts={"python": "cp311"},
    )
    return folder


def verify(folder: Path) -> Manifest:
    return verify_folder(folder, AUTHORITY, "server")


def test_what_was_signed_is_read_back(folder: Path) -> None:
    manifest = verify(folder)
    assert (manifest.purpose, manifest.fleet, manifest.number) == ("server", "greenhouse", 3)
    assert manifest.facts == {"python": "cp311"}
    assert manifest.files == {
        path: File.of(content, executable=path == "ca.crt") for path, content in CONTENTS.items()
    }


def test_a_folder_is_signed_again(folder: Path) -> None:
    (folder / "ca.crt").write_bytes(b"another")
    sign_folder(folder, ISSUER.key, purpose="server", fleet="greenhouse", number=4)
    assert verify(folder).number == 4


def test_the_manifest_is_for_people(folder: Path) -> None:
    fields = json.loads((folder / "manifest").read_text())
    assert fields["format"] == "fedring-folder/1"
    assert fields["files"]["ca.crt"] == {
        "executable": True,
        "sha256": File.of(b"certificate").sha256,
        "size": 11,
    }


def _replace(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(content)


def _link(folder: Path) -> None:
    (folder / "ca.crt").rename(folder.parent / "elsewhere")
    (folder / "ca.crt").symlink_to(folder.parent / "elsewhere")


def _linked_folder(folder: Path) -> None:
    (folder / "broker").rename(folder.parent / "elsewhere")
    (folder / "broker").symlink_to(folder.parent / "elsewhere")


def _pipe(folder: Path) -> None:
    (folder / "ca.crt").unlink()
    os.mkfifo(folder / "ca.crt")


def _sparse(folder: Path) -> None:
    with (folder / "ca.crt").open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing: it is not read


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_replace("ca.crt", b"certificatf"), "ca.crt is not what was signed"),
        (_replace("ca.crt", b"certificate+"), "ca.crt is not what was signed"),
        (_replace("extra", b""), "extra is not in the manifest"),
        (_replace("broker/.acl.new", b""), "acl.new is not in the manifest"),
        (lambda folder: (folder / ".git").mkdir(), "git is not in the manifest"),
        (lambda folder: (folder / "broker/acl").unlink(), "acl is missing"),
        (_link, "ca.crt is neither file nor folder"),
        (_linked_folder, "broker is neither file nor folder"),
        (_pipe, "ca.crt is neither file nor folder"),
        (_sparse, "ca.crt is not what was signed"),
        (lambda folder: (folder / "manifest").unlink(), "manifest: no such file"),
        (lambda folder: (folder / "manifest.sig").unlink(), "manifest.sig: no such file"),
        (_replace("manifest.sig", bytes(73)), "manifest.sig is too long"),
        (_replace("manifest.sig", b""), "not signed by the authority of fleet greenhouse"),
        (_replace("manifest", bytes(MAX_MANIFEST_BYTES + 1)), "manifest is too long"),
        (_replace("manifest", b"{}"), "not signed by the authority of fleet greenhouse"),
    ],
)
def test_another_folder_is_refused(
    folder: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(folder)
    with pytest.raises(SignedFolderError, match=told):
        verify(folder)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignedFolderError) as caught:
        verify(tmp_path / "nowhere")
    assert caught.value.name == "signed-folder.missing"


def test_a_flood_of_names_ends(folder: Path) -> None:
    for number in range(8 * MAX_FILES):
        (folder / f"d{number}").mkdir()
    with pytest.raises(SignedFolderError, match="too many files"):
        verify(folder)


@pytest.mark.parametrize("name", ["no\xe4", "a b", "x" * 129, ".hidden"])
def test_what_no_manifest_may_hold_is_not_signed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="path of a file"):
        sign_folder(tmp_path, ISSUER.key, purpose="server", fleet="greenhouse", number=1)


def test_a_link_is_not_signed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to("/etc/hostname")
    with pytest.raises(SignedFolderError, match="neither file nor folder"):
        sign_folder(tmp_path, ISSUER.key, purpose="server", fleet="greenhouse", number=1)


def test_other_fleets_and_purposes_are_refused(folder: Path) -> None:
    other = Issuer.create("greenhouse")  # the name alone makes nobody the authority
    stranger = Authority(other.certificate.public_bytes(Encoding.DER))
    with pytest.raises(SignedFolderError, match="not signed by the authority"):
        verify_folder(folder, stranger, "server")
    with pytest.raises(SignedFolderError, match="purpose is server, not payload"):
        verify_folder(folder, AUTHORITY, "payload")
    sign_folder(folder, ISSUER.key, purpose="server", fleet="barn", number=3)
    with pytest.raises(SignedFolderError, match="fleet is barn, not greenhouse"):
        verify(folder)


def test_a_signature_of_another_kind_is_none(folder: Path) -> None:
    manifest = (folder / "manifest").read_bytes()
    (folder / "manifest.sig").write_bytes(sign(ISSUER.key, "revocation", manifest))
    with pytest.raises(SignedFolderError, match="not signed"):
        verify(folder)


MANIFEST = Manifest("bundle", "greenhouse", 7, {"arch": "aarch64"}, {"site.tar.gz": File.of(b"x")})


def _signed(encoded: bytes) -> Manifest:
    return read_manifest(encoded, sign(ISSUER.key, KIND, encoded), AUTHORITY, "bundle")


def test_a_manifest_alone_is_read_back() -> None:
    assert read_manifest(*sign_manifest(MANIFEST, ISSUER.key), AUTHORITY, "bundle") == MANIFEST
    MANIFEST.check("site.tar.gz", b"x")
    for path, content in (("site.tar.gz", b"y"), ("site.tar.gz", b"xx"), ("other", b"x")):
        with pytest.raises(SignedFolderError):
            MANIFEST.check(path, content)


def _changed(**changes: object) -> bytes:
    fields = json.loads(MANIFEST.encode()) | changes
    return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()


FILE = {"executable": False, "sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        b"9" * 60_000,
        MANIFEST.encode() + b"\n",
        MANIFEST.encode().replace(b"\n", b"\r\n"),
        MANIFEST.encode().replace(b'"facts"', b'"facts": {},\n "facts"'),
        _changed(more=1),
        _changed(format="fedring-folder/2"),
        _changed(number=0),
        _changed(number=True),
        _changed(number=7.0),
        _changed(number=2**53),
        _changed(facts={"arch": 1}),
        _changed(facts={"a b": "x"}),
        _changed(facts={"arch": "\n"}),
        _changed(facts={"arch": "x" * 1025}),
        _changed(facts={f"f{n}": "" for n in range(33)}),
        _changed(files={"site": FILE | {"more": 1}}),
        _changed(files={"site": FILE | {"size": -1}}),
        _changed(files={"site": FILE | {"size": 2**60}}),
        _changed(files={"site": FILE | {"executable": 0}}),
        _changed(files={"site": FILE | {"sha256": "A" * 64}}),
        _changed(files={"site": FILE, "site/x": FILE}),
        _changed(files={f"f{n}": FILE for n in range(MAX_FILES + 1)}),
        *(
            _changed(files={path: FILE})
            for path in (
                *("", "/etc/passwd", "../x", "a/../../x", "a/./x", "a//x", "a/", ".", "..", "a\\b"),
                *("manifest", "manifest.sig", ".x", "a\0b", "a\nb", "x" * 129, "a/" * 8 + "x"),
            )
        ),
    ],
)
def test_another_spelling_is_refused_although_it_is_signed(encoded: bytes) -> None:
    with pytest.raises(SignedFolderError) as caught:
        _signed(encoded)
    assert caught.value.name == "signed-folder.damaged"


_names = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
_manifests = st.builds(
    Manifest,
    _names,
    st.just("greenhouse"),
    st.integers(1, 2**53 - 1),
    st.dictionaries(_names, st.from_regex(r"[ -~]{0,20}", fullmatch=True), max_size=4),
    st.dictionaries(_names, st.builds(File.of, st.binary(), executable=st.booleans()), max_size=4),
)


@given(_manifests)
def test_every_manifest_is_read_back(manifest: Manifest) -> None:
    signed = sign_manifest(manifest, ISSUER.key)
    assert read_manifest(*signed, AUTHORITY, manifest.purpose) == manifest


ENCODED, SIGNATURE = sign_manifest(MANIFEST, ISSUER.key)


@given(st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    both = bytearray(ENCODED + SIGNATURE)
    place = data.draw(st.integers(0, len(both) - 1))
    both[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SignedFolderError):
        read_manifest(bytes(both[: len(ENCODED)]), bytes(both[len(ENCODED) :]), AUTHORITY, "bundle")
