"""Ready folders: key, certificate and settings of one machine, whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet.passphrases import protect
from fedring.shared.errors import StateError
from fedring.shared.state import PRIVATE_FOLDER, prepare_folder, sync_folder, write_file


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a new folder (0700) of files (0600) that appears with all of them.

    Args:
        folder: does not exist yet, or is empty.
        files: contents by path in the folder.

    Raises:
        StateError: nothing can be written there; what was written is removed again.
    """
    partial = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that did not come to its end
        folder.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        for name, content in files.items():
            path = partial / name
            prepare_folder(path.parent)
            write_file(path, content)
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}", name="state.unusable") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def identity_files(
    role: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, ca: bytes
) -> dict[str, bytes]:
    """Give what makes an identity: `<role>.key`, `<role>.crt` and the authority's `ca.crt`."""
    return {
        f"{role}.key": protect(key, passphrase=None),
        f"{role}.crt": pem(certificate),
        "ca.crt": ca,
    }


def settings(part: str, replacements: Mapping[str, str]) -> bytes:
    """Give the commented settings of a part, with what is known about this fleet filled in.

    Args:
        part: "coordinator" or "device"; its package holds the template.
        replacements: lines of the template, and what stands there instead.
    """
    template = resources.files(f"fedring.{part}").joinpath(f"{part}.toml").read_text("utf-8")
    lines = template.splitlines()
    for line, replacement in replacements.items():
        lines[lines.index(line)] = replacement
    return ("\n".join(lines) + "\n").encode()


def pem(certificate: x509.Certificate) -> bytes:
    """Encode a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)
