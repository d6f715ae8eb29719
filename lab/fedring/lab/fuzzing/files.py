"""Decoders of files: what users write and copy, what one part of the house keeps for another.

A folder for the files is made once a process.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from fedring.coordinator.backups import MANIFEST, restore
from fedring.coordinator.records import Outcome, Version
from fedring.coordinator.settings import CoordinatorSettings
from fedring.device.data.database import DatabaseSource
from fedring.device.predict import load_model, predict_lines
from fedring.device.settings import DeviceSettings
from fedring.fleet.passphrases import unprotect
from fedring.fleet.register import Register
from fedring.lab.fuzzing.mutations import Form, zip_members, zip_of
from fedring.lab.fuzzing.target import Target, demand, same
from fedring.shared import networks
from fedring.shared.certificates import read_certificate, read_private_key
from fedring.shared.encryption.keyfile import load_key, save_key
from fedring.shared.errors import (
    CertificateError,
    ConfigError,
    DataError,
    KeyFileError,
    ModelError,
    SignedFolderError,
    StateError,
)
from fedring.shared.identity import Authority
from fedring.shared.models import Model, load_npz, save_npz
from fedring.shared.samples import Dataset, check_samples, read_samples, write_npz
from fedring.shared.signed_folders import parse_manifest

FEATURES, CLASSES = ("light", "warmth"), ("day", "night")
_JSON_TOKENS: Final = (b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b"[", b'{"a":', b"null", b"-1")
_TOML_TOKENS: Final = (
    *(b"nan", b"inf", b"1e999", b"9" * 400, b"9" * 5000, b"-0", b"0x10", b"1979-05-27", b"true"),
    *(b"[", b"{a=", b"]", b"[[a]]", b'"""', b"'''", b'"~nobody-at-all/x"', b'"\\u0000"', b"a.b.c="),
    *(b'"\\U0010FFFF"', b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\xff", b"#", b'""', b"=", b'"~"'),
)
_CSV_TOKENS: Final = (
    *(b"nan", b"inf", b"1e39", b"1_0", b"", b'"', b'""', b"\0", b"\r", b"\xff", b"\xef\xbb\xbf"),
    *(b"\xd9\xa1", b"9" * 400, b"light", b"day", b";", b"x" * 200_000),
)
_NPY_TOKENS: Final = (
    *(b"'shape': (9999999999, 9)", b"(99999999999999999999,)", b"(-1,)", b"True", b"|O", b"<U9"),
    *(
        b"|V99",
        b"<f4",
        b"<M8[s]",
        b"(((",
        b"\\",
        b"\x93NUMPY\x02\x00",
        b"<i2147483647",
        b"\n",
        b"[]",
    ),
)
_SQL_TOKENS: Final = (b"light", b"samples", b"VIEW", b"WITHOUT ROWID", b'"', b"\xff", b"\0\0\0")
_PEM_TOKENS: Final = (b"-----BEGIN CERTIFICATE-----\n", b"-----END", b"=", b"\n", b"A", b"n=9")


def targets() -> Iterator[Target]:
    """Every decoder of this side."""
    yield Target(
        "paillier-key", _paillier_key, (KeyFileError,), Form.TEXT, (*_JSON_TOKENS, b"0x", b"_")
    )
    yield Target("certificate-file", _certificate_file, (CertificateError,), Form.TEXT, _PEM_TOKENS)
    yield Target("key-file", _key_file, (CertificateError,), Form.TEXT, _PEM_TOKENS, inputs=150)
    yield Target("authority-file", _authority_file, (CertificateError,), Form.TEXT, _PEM_TOKENS)
    yield Target("authority-key", _authority_key, (CertificateError,), Form.TEXT, _PEM_TOKENS)
    yield Target("device-settings", _device_settings, (ConfigError,), Form.TEXT, _TOML_TOKENS, 150)
    yield Target(
        "coordinator-settings", _coordinator_settings, (ConfigError,), Form.TEXT, _TOML_TOKENS, 100
    )
    yield Target("fleet-register", _register, (StateError,), Form.TEXT, _JSON_TOKENS, 60)
    yield Target("folder-manifest", _manifest, (SignedFolderError,), Form.TEXT, _JSON_TOKENS)
    yield Target("samples-csv", _samples("csv"), (DataError,), Form.TEXT, _CSV_TOKENS, 150)
    yield Target("samples-npz", _samples("npz"), (DataError,), Form.ZIP, _NPY_TOKENS, 150)
    yield Target(
        "samples-database", _samples_database, (DataError,), tokens=_SQL_TOKENS, inputs=100
    )
    yield Target("predict-lines", _predict_lines, (DataError,), Form.TEXT, _CSV_TOKENS, 150)
    yield Target("model-file", _model_file, (ModelError,), Form.ZIP, _NPY_TOKENS, 100)
    yield Target("version-record", _version_record, (StateError,), Form.TEXT, _JSON_TOKENS)
    yield Target("outcome-record", _outcome_record, (StateError,), Form.TEXT, _JSON_TOKENS)
    yield Target("backup", _backup, (StateError,), Form.ZIP, _JSON_TOKENS, inputs=15)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fedring-fuzz-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


# -- keys and certificates -------------------------------------------------------------------


def _paillier_key(data: bytes) -> None:
    key = load_key(_file("paillier.key", data))
    again = _folder() / "paillier-again.key"
    again.unlink(missing_ok=True)
    save_key(key, again)
    same(load_key(again), key)


def _certificate_file(data: bytes) -> None:
    read_certificate(_file("a.crt", data))


def _key_file(data: bytes) -> None:
    read_private_key(_file("a.key", data))


def _authority_file(data: bytes) -> None:
    authority = Authority.load(_file("ca.crt", data))
    same(Authority(authority.certificate).fleet, authority.fleet)


def _authority_key(data: bytes) -> None:
    unprotect(data, None)


# -- settings --------------------------------------------------------------------------------


def _device_settings(data: bytes) -> None:
    settings = DeviceSettings.load(_file("device.toml", data))
    demand(1 <= settings.privacy.threshold < 64, "a threshold out of its range")


def _coordinator_settings(data: bytes) -> None:
    settings = CoordinatorSettings.load(_file("coordinator.toml", data))
    demand(2 <= settings.ring.size <= 64, "a ring out of its range")


def _register(data: bytes) -> None:
    path = Path("fleet.json")
    register = Register.from_json(data, path)
    same(Register.from_json(register.to_json().encode(), path), register)
    register.revocation().payload()
    register.revoked_serials()


def _manifest(data: bytes) -> None:
    manifest = parse_manifest(data)
    demand(manifest.encode() == data, "a second spelling of a manifest")
    for path in manifest.files:
        inside = Path(_folder(), path).resolve().is_relative_to(_folder().resolve())
        demand(inside, "a path that leads out of its folder")


# -- data and models -------------------------------------------------------------------------


def _samples(kind: str) -> Callable[[bytes], None]:
    def samples(data: bytes) -> None:
        path = _file(f"own.{kind}", data)
        with suppress(DataError):
            check_samples(path)
        _check_samples(read_samples(path, FEATURES, CLASSES))

    return samples


def _samples_database(data: bytes) -> None:
    source = DatabaseSource(_file("own.db", data), "samples", newest=1_000)
    with suppress(DataError):
        source.check()
    _check_samples(source.read(FEATURES, CLASSES))


def _check_samples(read: Dataset) -> None:
    demand(bool(np.isfinite(read.x).all()), "features that are not finite")
    again = _folder() / "again.npz"
    write_npz(again, read)
    same(_shown(read_samples(again, FEATURES, CLASSES)), _shown(read))


def _shown(data: Dataset) -> tuple[object, ...]:
    return data.x.tobytes(), data.y.tolist(), data.features, data.classes


@cache
def _model() -> Model:
    return networks.initialise("softmax", FEATURES, CLASSES)


def _predict_lines(data: bytes) -> None:
    path = _file("new.csv", data)
    with path.open(newline="", encoding="utf-8") as lines:
        for prediction in predict_lines(_model(), lines, path):
            demand(0 <= prediction.probabilities["day"] <= 1, "a probability that is none")


def _model_file(data: bytes) -> None:
    path = _file("model.npz", data)
    model = load_model(path)
    _, note = load_npz(path)
    again = _folder() / "model-again.npz"
    save_npz(again, model, note)
    read_again, note_again = load_npz(again)
    same((read_again, note_again), (model, note))
    networks.predict(model, np.zeros((1, len(model.features)), np.float32))


# -- what the coordinator keeps --------------------------------------------------------------


def _version_record(data: bytes) -> None:
    version = Version.from_record(data.decode(errors="replace"), bytes(32))
    same(Version.from_record(version.record(), bytes(32)), version)


def _outcome_record(data: bytes) -> None:
    outcome = Outcome.from_record(data.decode(errors="replace"))
    same(Outcome.from_record(outcome.record()), outcome)


def _backup(data: bytes) -> None:
    folder = _folder() / "restored"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        restore(folder, _file("backup.zip", _with_digests(data)))
    finally:
        left = [entry.name for entry in folder.iterdir() if entry.name.startswith(".restore")]
        demand(not left, "files of a restore that failed")


def _with_digests(data: bytes) -> bytes:
    """A damaged backup with the digests of what it holds, so that more of it is looked at."""
    members = dict(zip_members(data))
    try:
        manifest = json.loads(members[MANIFEST])
        named = manifest["sha256"].keys() & members.keys()
        manifest["sha256"] = {name: sha256(members[name]).hexdigest() for name in named}
        members[MANIFEST] = json.dumps(manifest).encode()
    except Exception:  # whatever it is: then it stays as it came
        return data
    return zip_of(list(members.items()), zipfile.ZIP_DEFLATED)
