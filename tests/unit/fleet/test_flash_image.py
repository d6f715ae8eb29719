"""Whole images: made from a system in a tar; `scripts/board-lab --image` boots a real one."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedring.fleet.bundles.targets import Target
from fedring.fleet.flash import image as images
from fedring.shared.errors import FlashError

SYSTEM = {
    "./etc/hostname": b"kiosk\n",
    "./boot/vmlinuz-6.1.0-1-amd64": b"kernel",
    "./boot/initrd.img-6.1.0-1-amd64": b"initrd",
    "./usr/lib/systemd/boot/efi/systemd-bootx64.efi": b"loader",
    "./opt/fedring/current/fedring": b"#!/bin/sh\n",
}


def run(*command: str | Path) -> str:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment, text=True)
    return done.stdout


def write_system(system: Path) -> None:
    """Write the tar that mmdebstrap makes, as far as it matters here."""
    with tarfile.open(system, "w") as archive:
        for name, content in SYSTEM.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.uid, member.mode = 1234, 0o640
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.card_programs
def test_an_image_has_a_partition_to_start_from_and_one_with_the_system(tmp_path: Path) -> None:
    system, image = tmp_path / "system.tar", tmp_path / "kiosk.img"
    write_system(system)
    images.assemble_image(image, system, images.PROCESSORS["x86_64"], tmp_path)
    assert image.stat().st_mode & 0o777 == 0o600

    table = json.loads(run("sfdisk", "--json", image))["partitiontable"]
    boot, root = table["partitions"]
    assert table["label"] == "gpt"
    assert boot["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"  # EFI system partition
    place = f"{image}@@{boot['start'] * 512}"
    for path, text in (
        ("EFI/BOOT/BOOTX64.EFI", "loader"),
        ("vmlinuz", "kernel"),
        ("initrd.img", "initrd"),
    ):
        assert run("mcopy", "-i", place, f"::/{path}", "-") == text
    entry = run("mcopy", "-i", place, "::/loader/entries/fedring.conf", "-")
    assert f"root=PARTUUID={root['uuid'].lower()} " in entry

    inside = f"{image}?offset={root['start'] * 512}"
    assert run("debugfs", "-R", "cat /opt/fedring/current/fedring", inside) == "#!/bin/sh\n"
    assert "Mode:  0640" in run("debugfs", "-R", "stat /etc/hostname", inside)
    assert "User:  1234" in run("debugfs", "-R", "stat /etc/hostname", inside)
    run("e2fsck", "-fn", inside)


_MMDEBSTRAP = """\
#!/bin/sh
for file; do # the last word
    case $file in --essential-hook=*) sh -c "${{file#*=}}" sh '{root}' ;; esac
done
for words in 'automatically chosen mode: unshare' 'running apt-get update...' \\
    'downloading packages with apt...' 'extracting archives...' \\
    'installing essential packages...' 'downloading packages with apt...' \\
    'installing remaining packages inside the chroot...' \\
    'running --customize-hook in shell: sh -c' 'cleaning package lists and apt cache...' \\
    'creating tarball...' 'done'; do echo "I: $words" >&2; done
cp {system} "$file"
exit {status}
"""
"""Debian's own needs minutes and the network; this one says what it says."""


@pytest.mark.card_programs
def test_the_stages_of_an_image_are_told_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.tar"
    write_system(system)
    program = tmp_path / "mmdebstrap"
    program.write_text(_MMDEBSTRAP.format(system=system, root=tmp_path / "root", status=0))
    program.chmod(0o755)
    monkeypatch.setattr(images, "NEEDED_BYTES", 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told: list[str] = []
    make_image(tmp_path / "kiosk.img", told)
    assert list(dict.fromkeys(told)) == list(images.STAGES)
    assert (tmp_path / "kiosk.img").stat().st_size > images.ROOT_MIB * 2**20

    # Else the initrd, which is made in a folder and on no disk, would start without fsck.
    settings = tmp_path / "root" / "etc" / "initramfs-tools" / "conf.d" / "fedring"
    assert settings.read_text() == "FSTYPE=ext4\n"

    program.write_text(_MMDEBSTRAP.format(system=system, root=tmp_path / "root", status=1))
    with pytest.raises(FlashError, match=r"^mmdebstrap failed:\n(I: .+\n){7}I: done$"):
        make_image(tmp_path / "other.img", told)
    assert not (tmp_path / "other.img").exists()


def make_image(file: Path, told: list[str]) -> None:
    images.build_image(
        {"install.sh": b"#!/bin/sh\n"},
        Target(images.PYTHON, "x86_64"),
        file,
        name="b01",
        authorized_key="",
        progress=told.append,
    )


def test_nothing_is_overwritten_and_missing_programs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "find_program", lambda program: program)
    there = tmp_path / "kiosk.img"
    there.touch()
    assert refusal(there).name == "flash.exists"
    assert refusal(tmp_path / "none" / "kiosk.img").name == "flash.unusable"
    new = tmp_path / "new.img"
    images.check(new)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
    assert refusal(new).name == "flash.no-room"
    monkeypatch.setattr(images, "find_program", lambda program: None)
    error = refusal(new)
    assert error.name == "flash.missing-program"
    assert error.hint == "sudo apt-get install dosfstools e2fsprogs fdisk mmdebstrap mtools"


def refusal(file: Path) -> FlashError:
    with pytest.raises(FlashError) as raised:
        images.check(file)
    return raised.value
