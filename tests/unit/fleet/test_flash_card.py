"""Payloads on cards: images of a boot partition, made here as stock ones are; without root."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.fleet.flash import card as cards
from fedring.fleet.flash.boot_partition import BootPartition, FatPartition, MountedPartition
from fedring.fleet.flash.mounts import mounts_of, users_of
from fedring.shared.errors import FlashError

pytestmark = pytest.mark.card_programs

META_DATA = b"# about this file\ndsmode: local\ninstance_id: rpios-image\n"
STOCK = {
    "cmdline.txt": b"console=tty1 root=PARTUUID=1 rootwait\n",
    "config.txt": b"[all]\n",
    "user-data": b"#cloud-config\nhostname: greenhouse-1\nruncmd:\n- [ echo, mine ]\n",
    "network-config": b"network: {version: 2}\n",
    "meta-data": META_DATA,
}
PAYLOAD = {"install.sh": b"#!/bin/sh\n", "bundle.fedring": bytes(range(256)) * 400}
SCRIPT = b"#!/bin/sh\n# fedring: starts\n"

MakeImage = Callable[..., Path]


@pytest.fixture
def image(tmp_path: Path) -> MakeImage:
    """Makes an image of a card: a table, a FAT partition with these files, room for the system."""

    def make(files: Mapping[str, bytes] = STOCK, megabytes: int = 12, kind: str = "16") -> Path:
        first = 8192
        path, part = tmp_path / "card.img", tmp_path / "part.img"
        part.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate((megabytes + 8) * 2**20)
        table = f"label: dos\nstart={first}, size={megabytes * 2048}, type=c\n"
        table += f"start={first + megabytes * 2048}, type=83\n"
        run("sfdisk", "--quiet", path, given=table.encode())
        with part.open("wb") as file:
            file.truncate(megabytes * 2**20)
        if kind:
            run("mkfs.vfat", "-F", kind, "-n", "BOOTFS", part)
            for name, content in files.items():
                source = tmp_path / "source"
                source.write_bytes(content)
                run("mcopy", "-i", part, source, f"::/{name}")
        with path.open("r+b") as file, part.open("rb") as content_file:
            file.seek(first * 512)
            shutil.copyfileobj(content_file, file)
        return path

    return make


def run(*command: str | Path, given: bytes = b"") -> bytes:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin", "MTOOLS_SKIP_CHECK": "1"}
    return subprocess.run(
        command, input=given, capture_output=True, check=True, env=environment
    ).stdout


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def sizes(payload: Mapping[str, bytes] = PAYLOAD) -> dict[str, int]:
    return {name: len(content) for name, content in payload.items()}


def flash(
    partition: BootPartition,
    payload: Mapping[str, bytes] = PAYLOAD,
    instance: str = "one",
    network_config: bytes | None = None,
) -> int:
    done: list[int] = []
    cards.plan(partition, sizes(payload))
    cards.write(
        partition,
        payload,
        vendor_data=SCRIPT,
        instance=instance,
        network_config=network_config,
        progress=done.append,
    )
    return sum(done)


def content(partition: BootPartition) -> dict[str, bytes]:
    names = partition.names() - {cards.FOLDER}
    names |= {f"{cards.FOLDER}/{name}" for name in partition.names(cards.FOLDER)}
    return {name: partition.read(name) for name in names}


NEW_META_DATA = b"# about this file\ndsmode: local\ninstance-id: one\n"
FLASHED = {
    **STOCK,
    "vendor-data": SCRIPT,
    "meta-data": NEW_META_DATA,
    "fedring/install.sh": PAYLOAD["install.sh"],
    "fedring/bundle.fedring": PAYLOAD["bundle.fedring"],
}


def test_an_image_gets_payload_and_start_and_keeps_its_owners_files(image: MakeImage) -> None:
    path = image(megabytes=64, kind="32")
    assert flash(FatPartition(path)) == 2 * sum(map(len, PAYLOAD.values()))
    assert content(FatPartition(path)) == FLASHED
    # Another reader of FAT agrees that it is whole.
    run("dosfsck", "-n", cut_out(path))


def cut_out(path: Path) -> Path:
    table = json.loads(run("sfdisk", "--json", path))["partitiontable"]["partitions"][0]
    part = path.with_name("cut.img")
    with path.open("rb") as file:
        file.seek(table["start"] * 512)
        part.write_bytes(file.read(table["size"] * 512))
    return part


def test_the_rest_of_the_image_stays_as_it_was(image: MakeImage) -> None:
    path = image()
    before = path.read_bytes()
    flash(FatPartition(path))
    after = path.read_bytes()
    first, last = 8192 * 512, (8192 + 12 * 2048) * 512
    assert after[:first] == before[:first]
    assert after[last:] == before[last:]
    assert after != before


def test_a_mounted_card_is_written_alike(tmp_path: Path) -> None:
    for name, file in STOCK.items():
        tmp_path.joinpath(name).write_bytes(file)
    flash(MountedPartition(tmp_path))
    assert content(MountedPartition(tmp_path)) == FLASHED


def test_nobody_else_reads_the_code_in_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    partition = MountedPartition(tmp_path)
    for _ in range(2):
        partition.write("fedring/bootstrap.json", b"the code")
        assert (tmp_path / "fedring").stat().st_mode & 0o077 == 0
        assert (tmp_path / "fedring" / "bootstrap.json").stat().st_mode & 0o077 == 0
        (tmp_path / "fedring").chmod(0o700)
        (tmp_path / "fedring" / "bootstrap.json").chmod(0o644)  # as an earlier fedring left it


def test_a_card_is_flashed_again_with_a_new_instance_and_without_old_files(
    image: MakeImage,
) -> None:
    path = image()
    flash(FatPartition(path), {**PAYLOAD, "old.fedring": bytes(10_000)})
    flash(FatPartition(path), instance="two")
    expected = {**FLASHED, "meta-data": NEW_META_DATA.replace(b"one", b"two")}
    assert content(FatPartition(path)) == expected


def test_the_network_is_changed_only_when_asked_for(image: MakeImage) -> None:
    path = image()
    flash(FatPartition(path), network_config=b"network: {}\n")
    assert FatPartition(path).read("network-config") == b"network: {}\n"


def refused(partition: Callable[[], BootPartition], n_bytes: int = 1000) -> FlashError:
    with pytest.raises(FlashError) as refusal:
        cards.plan(partition(), {"bundle.fedring": n_bytes})
    return refusal.value


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("cmdline.txt", "flash.no-card"),
        ("config.txt", "flash.no-card"),
        ("user-data", "flash.no-cloud-init"),
        ("meta-data", "flash.no-cloud-init"),
    ],
)
def test_what_is_no_card_of_ours_is_refused(image: MakeImage, missing: str, name: str) -> None:
    path = image({file: text for file, text in STOCK.items() if file != missing})
    before = digest(path)
    error = refused(lambda: FatPartition(path))
    assert error.name == name
    assert missing in error.text
    assert digest(path) == before


def test_a_disk_without_partitions_or_without_fat_is_refused(
    image: MakeImage, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(2**20))
    assert refused(lambda: FatPartition(empty)).name == "flash.no-card"
    path = image(kind="")
    assert refused(lambda: FatPartition(path)).text.endswith("has no FAT file system")
    assert refused(lambda: FatPartition(tmp_path)).name == "flash.unusable"
    assert refused(lambda: FatPartition(tmp_path / "none.img")).name == "flash.unusable"


def test_a_card_without_room_is_refused_and_an_old_payload_counts_as_room(
    image: MakeImage,
) -> None:
    path = image()
    free = FatPartition(path).free_bytes
    before = digest(path)
    error = refused(lambda: FatPartition(path), free)
    assert error.name == "flash.no-room"
    assert f"{free / 1e6:.1f} MB" in error.text
    assert digest(path) == before
    most = {"bundle.fedring": bytes(free - 300_000)}
    flash(FatPartition(path), most)
    assert FatPartition(path).free_bytes < 400_000
    flash(FatPartition(path), most)


def test_instructions_of_another_vendor_are_not_overwritten(image: MakeImage) -> None:
    path = image({**STOCK, "vendor-data": b"#cloud-config\n"})
    assert refused(lambda: FatPartition(path)).name == "flash.vendor-data"


def test_looking_writes_nothing(image: MakeImage) -> None:
    path = image()
    before = digest(path)
    plan = cards.plan(FatPartition(path), sizes())
    assert plan.n_bytes == sum(map(len, PAYLOAD.values())) < plan.needed_bytes < plan.free_bytes
    assert digest(path) == before


class Forgetful(MountedPartition):
    """A worn-out card: one file comes back with a flipped bit."""

    def read(self, path: str) -> bytes:
        content = super().read(path)
        if path.endswith(".fedring"):
            return bytes([content[0] ^ 1]) + content[1:]
        return content


def test_what_reads_back_differently_is_told_and_never_started(tmp_path: Path) -> None:
    for name, file in STOCK.items():
        tmp_path.joinpath(name).write_bytes(file)
    tmp_path.joinpath("vendor-data").write_bytes(SCRIPT)
    with pytest.raises(FlashError) as failure:
        flash(Forgetful(tmp_path))
    assert failure.value.name == "flash.not-as-written"
    assert "fedring/bundle.fedring" in failure.value.text
    assert not tmp_path.joinpath("vendor-data").exists()
    assert tmp_path.joinpath("meta-data").read_bytes() == META_DATA


def test_a_missing_program_is_named_with_its_package(
    image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image()
    monkeypatch.setattr(shutil, "which", lambda program, path=None: None)
    with pytest.raises(FlashError) as failure:
        FatPartition(path)
    assert failure.value.name == "flash.missing-program"
    assert failure.value.hint.startswith("sudo apt-get install mtools")


# -- meta-data ----------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(
        [b"dsmode: local", b"# instance-id: x", b"local-hostname: b", b"  instance-id: n"]
    )
)


@given(LINES, LINES, st.sampled_from([b"instance-id: old", b"instance_id: old"]))
def test_other_lines_of_meta_data_stay(before: list[bytes], after: list[bytes], old: bytes) -> None:
    meta_data = b"".join(line + b"\n" for line in [*before, old, *after])
    lines = cards.with_instance(meta_data, "new").splitlines()
    assert lines == [*before, *after, b"instance-id: new"]
    assert cards.with_instance(meta_data.rstrip(b"\n"), "new").splitlines() == lines
    assert cards.with_instance(meta_data.replace(b"\n", b"\r\n"), "new").splitlines() == lines


def test_meta_data_may_be_json() -> None:
    written = cards.with_instance(b'{"dsmode": "local", "instance-id": "old"}', "new")
    assert json.loads(written) == {"dsmode": "local", "instance-id": "new"}


# -- who uses it --------------------------------------------------------------------------------


def test_an_image_shown_as_a_loop_device_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    path.touch()
    loop = tmp_path / "sys" / "block" / "loop3" / "loop"
    loop.mkdir(parents=True)
    loop.joinpath("backing_file").write_text(f"{path}\n")
    assert users_of(path, tmp_path) == ["shown as /dev/loop3"]
    loop.joinpath("backing_file").write_text(f"{path}2\n")
    assert users_of(path, tmp_path) == []


def test_a_card_with_a_mounted_partition_is_in_use(tmp_path: Path) -> None:
    partition = tmp_path / "sys" / "dev" / "block" / "8:16" / "sdb1"
    partition.mkdir(parents=True)
    partition.joinpath("dev").write_text("8:17\n")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "36 22 8:17 / /media/me/boot\\040fs rw - vfat /dev/sdb1 rw\n"
    )
    assert mounts_of("8:16", tmp_path) == ["/media/me/boot fs"]
    assert mounts_of("8:32", tmp_path) == []
