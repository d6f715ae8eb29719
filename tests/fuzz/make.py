"""Writes the good inputs of the corpus: run it when a format has changed.

.venv/bin/python tests/fuzz/make.py
"""

import base64
import io
import json
import math
import random
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from attrs import asdict
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fedring.coordinator.backups import back_up
from fedring.coordinator.records import Outcome, Version, VoidRing
from fedring.coordinator.store import CoordinatorStore
from fedring.fleet.passphrases import protect
from fedring.fleet.register import Register
from fedring.lab.fuzzing import enrolment, files, people, updates, wire
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.mutations import zip_members, zip_of
from fedring.lab.fuzzing.target import judged
from fedring.lab.fuzzing.targets import targets
from fedring.shared import messages, networks
from fedring.shared.encryption import SUITES
from fedring.shared.encryption.keyfile import save_key
from fedring.shared.envelopes import Signed, encode, pack_envelope, sign
from fedring.shared.identity import RevocationList
from fedring.shared.messages import Message, tag
from fedring.shared.models import Model, save_npz
from fedring.shared.pairwise import RoundKey
from fedring.shared.samples import Dataset
from fedring.shared.signed_folders import File, Manifest
from fedring.shared.topics import model_place

P256 = bytes.fromhex("2a8648ce3d030107")
CORPUS = Corpus(Path(__file__).parent / "corpus")
MODEL = networks.initialise("mlp", files.FEATURES, files.CLASSES, hidden=(3,), seed=1)
PLAN = messages.Plan(
    task="train",
    epochs=1,
    batch=32,
    rate=0.1,
    clip=2.0,
    value_range=2.0,
    evaluation_samples=32,
    max_samples=512,
)
TERMS = messages.RingTerms(size=8, ready_s=20.0, patience_s=2.0, release_s=6.0, lap_s=20.0)
INSTEAD = ("#litert", "#folder", "#database", "#table", "#function", "#newest")
"""Keys of the templates that stand for others in them."""
Good = tuple[str, str, bytes]


def header(sender: int) -> dict[str, Any]:
    return tag(people.FLEET, 1, 7, sender)


def signed(message: Message) -> Signed[Any]:
    writer = people.coordinator() if message.sender == 0 else people.device(message.sender)
    return sign(message, writer)


def unsigned(message: Message) -> bytes:
    return pack_envelope(encode(message), b"")


def round_key(number: int) -> RoundKey:
    return RoundKey.generate(random.Random(number).randbytes)


def announce() -> messages.Announce:
    n = int(people.PAILLIER.public_key.n)
    return messages.Announce(
        **header(0),
        model=messages.ModelReference(
            version=3, parent=2, digest=MODEL.digest, size=sum(map(len, MODEL.chunks()))
        ),
        plan=PLAN,
        ring=TERMS,
        suite="hybrid",
        bits=16,
        n_values=60,
        paillier_n=n.to_bytes(-(-n.bit_length() // 8), "big"),
        exchange_key=round_key(0).public,
        revocation=1,
        certificate=people.coordinator().certificate,
    )


def conversation() -> Iterator[Message]:
    """One message of each kind, as a round has them."""
    opening = signed(announce())
    yield opening.message
    yield messages.Rest(
        **header(0), model=announce().model, certificate=people.coordinator().certificate
    )
    readies = [
        messages.Ready(
            **header(number),
            announce=opening.digest,
            certificate=people.device(number).certificate,
            threshold=2,
            round_key=round_key(number).public,
        )
        for number in (1, 2, 4)
    ]
    yield readies[0]
    roster = signed(
        messages.Roster(
            **header(0),
            announce=opening.digest,
            ring=1,
            readies=tuple(unsigned(ready) for ready in readies),
        )
    )
    yield roster.message
    lap = messages.Lap(**header(0), roster=roster.digest, lap=1, order=(1, 2, 4))
    yield lap
    hop = signed(messages.Hop(**header(2), lap=unsigned(lap), names=(1, 2), size=100_000))
    yield hop.message
    yield messages.Chunk(**header(2), hop=hop.digest, index=1, data=b"masked" * 9)
    yield messages.Progress(**header(1), about=hop.digest, chunks=1)
    for kind in (messages.Taken, messages.Passed, messages.Busy):
        yield kind(**header(1), about=hop.digest)
    yield messages.Refused(
        **header(1), about=hop.digest, reason="4 contributors, this device answers above 5"
    )
    yield messages.Call(**header(0), roster=roster.digest, lap=1)
    yield messages.Here(**header(1), roster=roster.digest, lap=1)
    asked = signed(messages.List(**header(0), roster=roster.digest, names=(1, 2, 4)))
    yield asked.message
    yield messages.Release(
        **header(1), roster=roster.digest, list=asked.digest, sealed=b"sealed" * 9
    )


def wire_inputs() -> Iterator[Good]:
    said = {message.kind: message for message in conversation()}
    assert said.keys() == messages.MESSAGES.keys()
    for kind, message in said.items():
        yield "message", kind, encode(message)
    for kind in ("taken", "hop", "ready"):
        yield "envelope", kind, signed(said[kind]).raw
    yield "hop", "hop", unsigned(said["hop"])
    yield "ready", "ready", signed(said["ready"]).raw
    yield "ready", "unsigned", unsigned(said["ready"])
    yield "roster", "unsigned", unsigned(said["roster"])
    yield "announce", "announce", signed(said["announce"]).raw
    yield "announce", "unsigned", unsigned(said["announce"])
    listed = RevocationList(people.FLEET, 9, 1, frozenset({3, 77, 2**32 - 1})).payload()
    signature = people.issuer_signs(RevocationList.KIND, listed)
    yield "revocation", "signed", pack_envelope(listed, signature)
    yield "revocation", "unsigned", pack_envelope(listed, b"")
    yield "revocation-payload", "three", listed
    for name, identity in (("device", people.device(1)), ("coordinator", people.coordinator())):
        yield "certificate", name, identity.certificate
        parsed = x509.load_der_x509_certificate(identity.certificate)
        yield "certificate-signed", name, parsed.tbs_certificate_bytes
    chunks = list(MODEL.chunks())
    yield "manifest", "mlp", chunks[0]
    yield "model", "mlp", msgpack.packb(chunks)
    in_order = [part for numbered in enumerate(chunks) for part in numbered]
    yield "model-chunks", "in-order", msgpack.packb(in_order)
    for topic in (
        "round",
        "device/b01/inbox/b02",
        "coordinator/inbox/b01",
        f"model/{model_place(MODEL.digest)}/0",
        "history/12",
        "device/b01/status",
    ):
        yield "topic", topic.replace("/", "-")[:30], f"fedring/{people.FLEET}/{topic}".encode()
    for name, status in statuses().items():
        yield "watch", name, json.dumps(status).encode()
    for name, time in (("year-1", "0001-01-01T00:00:00Z"), ("year-9999", "9999-12-31T23:59:59Z")):
        yield "watch", name, json.dumps({"event": "lap", "time": time, "since": time}).encode()
    yield "presence", "device", json.dumps(statuses()["device"]).encode()
    n = announce().paillier_n
    yield "modulus", "odd", n
    for name, other in (("even", n[:-1] + b"\0"), ("zeros-before", b"\0" + n), ("zero", bytes(32))):
        yield "modulus", name, other
    yield "round-key", "key", round_key(1).public
    for name in SUITES:
        suite = wire.small_suite(name)
        mask = suite.prepare(random.Random(0).randbytes)
        values = np.arange(suite.n_values, dtype=np.int32)
        yield f"body-{name}", "masked", suite.encode_body(mask.body(values))
        yield f"release-{name}", "without-pads", mask.release([0] * suite.n_ciphertexts)


def statuses() -> dict[str, dict[str, Any]]:
    return {
        "device": {
            "state": "refused",
            "number": 5,
            "epoch": 1,
            "round": 7,
            "reason": "rings have 4 members, this device answers above 5",
            "agent": "0.1.0",
            "model_version": 3,
            "since": "2026-01-01T00:00:00+00:00",
        },
        "coordinator": {
            "state": "rings",
            "fleet": people.FLEET,
            "epoch": 1,
            "round": 7,
            "task": "train",
            "version": 3,
            "rounds_done": 2,
            "rounds_planned": 10,
            "devices": {"ready": 3, "online": 4},
            "rings": {"1": "lap", "2": "call"},
            "note": "",
        },
        "history": {
            "parent": 2,
            "task": "train",
            "contributors": 4,
            "rings": 2,
            "void_rings": [{"ring": 2, "reason": "no complete token in 3 laps"}],
            "metrics": {"accuracy": 0.75, "loss": 1.5},
            "seconds": {"total": 3.25},
        },
        "event": {
            "event": "token round",
            "time": "2026-01-01T00:00:00Z",
            "epoch": 1,
            "round": 7,
            "ring": 1,
            "seconds": 0.5,
            "members": [1, 2, 4],
        },
    }


def samples() -> Dataset:
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    return Dataset(x, np.arange(12) % 2, files.FEATURES, files.CLASSES)


def csv() -> str:
    data = samples()
    rows = [
        f"{row[0]:g},{index},{row[1]:g},{data.classes[label]}"
        for index, (row, label) in enumerate(zip(data.x, data.y.tolist(), strict=True))
    ]
    return "\n".join(["light,time,warmth,label", *rows, ""])


def file_inputs(folder: Path) -> Iterator[Good]:
    def written(write: Callable[[Path], object]) -> bytes:
        path = folder / "written"
        path.unlink(missing_ok=True)
        write(path)
        return path.read_bytes()

    yield "paillier-key", "256-bits", written(lambda p: save_key(people.PAILLIER, p))
    ca = people.issuer().certificate.public_bytes(Encoding.PEM)
    yield "authority-file", "ca", ca
    device = x509.load_der_x509_certificate(people.device(1).certificate)
    yield "certificate-file", "device", device.public_bytes(Encoding.PEM)
    yield "certificate-file", "ca", ca
    plain = people.key(7).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    yield "key-file", "p256", plain
    yield "authority-key", "open", protect(people.key(7), None)
    for part in ("device", "coordinator"):
        template = Path(__file__).parents[2] / part / "fedring" / part / f"{part}.toml"
        yield f"{part}-settings", "template", template.read_bytes()
        every = [
            line[1:] if line.startswith("#") and " = " in line and line[1] != " " else line
            for line in template.read_text().splitlines()
            if not line.startswith("# ") and line != "#" and not line.startswith(INSTEAD)
        ]
        yield f"{part}-settings", "every-key", "\n".join(every).replace("#[", "[").encode()
    ends = date(2036, 1, 1)
    register = Register(people.FLEET, ("broker.local", "10.0.0.1")).adding("b01", 0xABC, ends)
    register = register.adding("b02", 0xDEF, ends).retiring("canary", 0xCA)
    register = register.revoking(register.devices[0])
    register = register.inviting("b03", datetime(2026, 12, 1, tzinfo=UTC))
    yield "fleet-register", "three-devices", register.to_json().encode()
    old = {"name": "b01", "number": 1, "serial": "abc", "added": "2026-11-24", "revoked": None}
    fields = {"fleet": people.FLEET, "broker": ["broker.local"], "next_number": 2}
    fields |= {"list_number": 1, "epoch": 1, "devices": [old], "format": 1}
    yield "fleet-register", "format-1", json.dumps(fields).encode()
    manifest = Manifest(
        "bundle", people.FLEET, 7, {"arch": "aarch64"}, {"site.tar.gz": File.of(b"packed")}
    )
    yield "folder-manifest", "bundle", manifest.encode()
    yield "samples-csv", "twelve", csv().encode()
    yield "samples-csv", "quoted", csv().replace("day", '"day"').replace("\n", "\r\n").encode()
    yield "samples-npz", "twelve", npz(x=samples().x, y=np.array(files.CLASSES)[samples().y])
    yield "samples-database", "twelve", database(folder / "own.db")
    yield "predict-lines", "with-names", csv().encode()
    yield "predict-lines", "without-names", b"1,2\n-3.5,4e1\n\n0,0\n"
    note = {"version": 3, "round": 7}
    yield "model-file", "mlp", written(lambda p: save_npz(p, MODEL, note))
    yield "model-file", "normalised", written(lambda p: save_npz(p, normalised(), note))
    version = Version(
        version=1,
        parent=0,
        task="train",
        epoch=1,
        round=7,
        digest=MODEL.digest,
        contributors=4,
        metrics={"accuracy": 0.75},
        plan=asdict(PLAN),
        created="2026-01-01T00:00:00+00:00",
    )
    yield "version-record", "train", version.record().encode()
    void = VoidRing(ring=2, reason="no complete token", members=(1, 2), silent=(2,))
    outcome = Outcome(epoch=1, round=7, contributors=4, rings=2, void_rings=(void,))
    yield "outcome-record", "a-void-ring", outcome.record().encode()
    yield "backup", "one-round", backup(folder)


def bad_inputs(good: dict[tuple[str, str], bytes]) -> Iterator[Good]:
    yield "envelope", "nested-2000-deep", b"\x91" * 2000
    yield "envelope", "an-array-of-4-billion", b"\xdd\xff\xff\xff\xff"
    yield "envelope", "a-byte-behind", good["envelope", "taken"] + b"\0"
    yield "message", "kind-nested-1015-deep", b"\x81\xa4kind" + b"\x91" * 1015 + b"\x01"
    taken = good["message", "taken"]
    yield "message", "a-key-twice", bytes([taken[0] + 1]) + taken[1:] + b"\xa5epoch\x01"
    yield "message", "a-key-too-many", bytes([taken[0] + 1]) + taken[1:] + b"\xa4more\x01"
    refused = good["message", "refused"]
    yield "message", "a-reason-of-two-lines", refused.replace(b"5", b"\n")
    for name, rate in (("nan", math.nan), ("infinity", math.inf)):
        damaged = good["message", "announce"].replace(
            msgpack.packb({"rate": 0.1})[1:], msgpack.packb({"rate": rate})[1:]
        )
        yield "message", f"a-rate-of-{name}", damaged
    for nested in ("manifest", "revocation-payload"):
        yield nested, "arrays-one-in-the-other", b"\xdc\x10\x00" * 300 + bytes(4200)
    manifest = msgpack.unpackb(good["manifest", "mlp"])
    yield "manifest", "keys-in-another-order", msgpack.packb(dict(reversed(manifest.items())))
    yield "manifest", "a-key-too-many", msgpack.packb(manifest | {"more": 1})
    listed = msgpack.unpackb(good["revocation-payload", "three"])
    for name, numbers in (("descending", [77, 3]), ("twice", [3, 3]), ("the-coordinator", [0, 3])):
        yield "revocation-payload", f"numbers-{name}", msgpack.packb(listed | {"revoked": numbers})
    yield "certificate", "of-the-authority", people.authority().certificate
    yield "certificate", "a-byte-behind", good["certificate", "device"] + b"\0"
    prime = 2**255 - 19
    for name, u in (
        *(("zero", 0), ("one", 1), ("minus-one", prime - 1), ("the-prime", prime)),
        *(("the-prime-and-one", prime + 1), ("top-bit", 2**255 + 9)),
        ("order-8", 325606250916557431795983626356110631294008115727848805560023387167927233504),
    ):
        yield "round-key", name, u.to_bytes(32, "little")
    for suite in SUITES:
        yield from bad_ciphertexts(suite, good[f"release-{suite}", "without-pads"])
        body = good[f"body-{suite}", "masked"]
        yield f"body-{suite}", "a-byte-short", body[:-1]
        yield f"body-{suite}", "a-word-long", body + bytes(8)
    n = int(people.PAILLIER.public_key.n)
    residues = good["body-paillier", "masked"]
    yield "body-paillier", "a-residue-of-n", n.to_bytes(32, "little") + residues[32:]
    yield "paillier-key", "in-capitals", good["paillier-key", "256-bits"].upper()
    for name, value in (
        *(("nested", "[" * 3000), ("digits", "9" * 5000), ("no-float", "9" * 400)),
        *(("home-of-nobody", '"~nobody-of-this-name/x"'), ("nan", "nan")),
    ):
        key = "limits.duration_s" if value[0] in "9n" else "model.file"
        yield "device-settings", name, f"{key} = {value}\n".encode()
    manifest = good["folder-manifest", "bundle"]
    for name, path in (
        ("leads-out", b"../site"),
        ("absolute", b"/etc/passwd"),
        ("nul", b"\\u0000"),
    ):
        yield "folder-manifest", name, manifest.replace(b"site.tar.gz", path)
    yield "folder-manifest", "a-key-twice", manifest.replace(b'"facts"', b'"facts": {},\n "facts"')
    yield "folder-manifest", "nested", b'{"a":' * 2_000
    register = good["fleet-register", "three-devices"]
    yield "fleet-register", "no-text", register.replace(b"broker", b"br\xffker")
    yield "fleet-register", "nested", b'{"a":' * 2_000
    yield "fleet-register", "a-serial-that-is-none", register.replace(b"abc", b"xyz")
    for record in ("version-record", "outcome-record"):
        yield record, "nested", b"[" * 2_000
        yield record, "nothing", b""
    yield "version-record", "nan", good["version-record", "train"].replace(b"0.75", b"NaN")
    database = good["samples-database", "twelve"]
    damaged = database.replace(b"CREATE TABLE", b"CREATE TABL\xff")
    yield "samples-database", "damage-that-is-no-text", damaged
    yield from bad_arrays()
    der = x509_der(people.key(7)).replace(P256, bytes.fromhex("268648ce3d030107"))
    pem = b"-----BEGIN PRIVATE KEY-----\n%b-----END PRIVATE KEY-----\n"
    yield "authority-key", "a-curve-that-nobody-knows", pem % base64.encodebytes(der)
    members = dict(zip_members(good["backup", "one-round"]))
    manifest = json.loads(members["manifest.json"])
    yield "backup", "another-epoch", with_manifest(members, manifest | {"epoch": 7})
    yield "backup", "a-date-that-orders", with_manifest(members, manifest | {"created": "\x1b[2J"})
    del members["coordinator.db"]
    yield "backup", "no-database", with_manifest(members, manifest)


def bad_ciphertexts(suite: str, release: bytes) -> Iterator[Good]:
    n, size = int(people.PAILLIER.public_key.n), 64
    for name, ciphertext in (
        *(("zero", 0), ("n", n), ("n-squared", n**2), ("n-squared-and-one", n**2 + 1)),
        *(("a-multiple-of-p", people.PAILLIER.p * 12345), ("the-last-multiple", n**2 - n)),
    ):
        yield f"release-{suite}", name, release[:-size] + ciphertext.to_bytes(size, "big")
    yield f"release-{suite}", "one-too-few", release[:-size]
    yield f"release-{suite}", "one-too-many", release + release[-size:]
    yield f"release-{suite}", "a-byte-short", release[:-1]


def bad_arrays() -> Iterator[Good]:
    x, y = samples().x, np.array(files.CLASSES)[samples().y]
    stranger = np.full(12, 0x110000, np.uint32).view("<U1")
    yield "samples-npz", "characters-that-there-are-not", npz(x=x, y=stranger)
    huge = dict(zip_members(npz(x=x, y=y)))
    huge["x.npy"] = huge["x.npy"].replace(b"(12, 2), }      ", b"(9999999999,), }")
    packed = zip_of(list(huge.items()), zipfile.ZIP_DEFLATED)
    yield "samples-npz", "billions-of-elements", packed
    yield "samples-npz", "encrypted", packed.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1")
    yield "samples-npz", "objects", npz(x=np.array([["a", None]] * 12, object), y=y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        for name, change in (
            ("words-for-an-array", {"order": ["kind"], "trained": ["kind"]}),
            ("a-class-that-orders", {"classes": ["day", "\x1b[2J"]}),
            ("a-note-without-a-bottom", {"note": "[" * 5000}),
        ):
            save_npz(path, MODEL, {})
            with np.load(path) as file:
                arrays = dict(file) | {key: np.array(value) for key, value in change.items()}
            np.savez_compressed(path, **arrays)
            yield "model-file", name, path.read_bytes()


def with_manifest(members: dict[str, bytes], manifest: dict[str, Any]) -> bytes:
    changed = members | {"manifest.json": json.dumps(manifest).encode()}
    return zip_of(list(changed.items()), zipfile.ZIP_DEFLATED)


def x509_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, features=np.array(files.FEATURES), **arrays)
    return file.getvalue()


def database(path: Path) -> bytes:
    rows = [line.split(",") for line in csv().splitlines()[1:]]
    with closing(sqlite3.connect(path)) as written:
        written.execute("PRAGMA page_size = 512")
        written.execute("CREATE TABLE samples (light REAL, time INTEGER, warmth REAL, label TEXT)")
        written.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", rows)
        written.commit()
    return path.read_bytes()


def normalised() -> Model:
    arrays = {
        networks.MEAN: np.array([1, 2], np.float32),
        networks.SPREAD: np.array([3, 4], np.float32),
    }
    return MODEL.with_arrays(**arrays)


def backup(folder: Path) -> bytes:
    state = folder / "state"
    with CoordinatorStore.open_to_run(state, fleet=people.FLEET) as store:
        store.enter_epoch(1)
        store.commit_initial(MODEL)
        epoch, number = store.next_round()
        outcome = Outcome(epoch=epoch, round=number, contributors=4, rings=1)
        weights = MODEL.weights() + 1
        store.commit_version(MODEL.with_weights(weights), outcome, parent=0)
    back_up(state, folder / "backup.zip")
    return (folder / "backup.zip").read_bytes()


def main() -> int:
    for old in CORPUS.folder.glob("*/good/*"):
        old.unlink()
    good = {}
    with tempfile.TemporaryDirectory() as folder:
        for of, name, data in (
            *wire_inputs(),
            *file_inputs(Path(folder)),
            *enrolment.good_inputs(),
            *updates.good_inputs(),
        ):
            good[of, name] = data
            CORPUS.keep(of, name, data, good=True)
    for of, name, data in (*bad_inputs(good), *enrolment.bad_inputs(), *updates.bad_inputs()):
        CORPUS.keep(of, name, data, good=False)
    bad = 0
    for target in targets(CORPUS).values():
        for kept in CORPUS.of(target.name):
            verdict = judged(target, kept.data)
            if verdict != kept.good:
                bad += 1
                print(f"{target.name}/{kept.name}: {verdict}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
