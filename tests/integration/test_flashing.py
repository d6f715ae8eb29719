"""`fedring fleet flash` as its owner types it: onto an image, without root; by ssh to an sshd."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.boards.page import prose

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.bundles.building import bundle_file, pack_bundle
from fedring.fleet.bundles.targets import Target
from fedring.fleet.flash.boot_partition import FatPartition
from fedring.fleet.flash.payload import PURPOSE
from fedring.shared.identity import Authority
from fedring.shared.signed_folders import verify_folder

NOBODY = 65534
FEDRING = Path(sys.executable).with_name("fedring")
PI = Target("3.13", "aarch64")
HERE = Target(f"3.{sys.version_info.minor}", os.uname().machine)
STOCK = ("cmdline.txt", "config.txt", "user-data", "meta-data", "network-config")
ORDINARY = (
    "setpriv",
    *(f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    # May read all the same: a Python in root's own home starts for nobody else.
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    "--securebits=+no_setuid_fixup",  # without it access(2) says no to what open(2) allows
)
"""Makes an ordinary user of root."""

Flash = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that also nobody may work in."""
    with tempfile.TemporaryDirectory(prefix="fedring-test-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder


@pytest.fixture
def flash(place: Path) -> Flash:
    """Types `fedring fleet flash ...` as an ordinary user, in a fleet with a small bundle made."""
    folder = place / "greenhouse"
    fleet = create_fleet(folder, "greenhouse", ["broker.local"])
    fleet.invite(["b01", "b02"])
    for target in (PI, HERE):
        slot = place / "slot"
        (slot / "site").mkdir(parents=True)
        (slot / "fedring").write_text("#!/bin/sh\n")
        path = bundle_file(fleet, target)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pack_bundle(fleet, target, slot, version="0.1.0"))
        shutil.rmtree(slot)
    as_root = os.geteuid() == 0
    if as_root:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)

    def run(*words: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(ORDINARY if as_root else ()), FEDRING, "fleet", "flash", *words, "--fleet", folder],
            cwd=place,
            env={"PATH": f"{path}:/usr/bin:/bin", "HOME": str(place), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def image(place: Path) -> Path:
    """A card's image, of whoever flashes it."""
    path, part = place / "card.img", place / "part.img"
    tools = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    with path.open("wb") as file:
        file.truncate(72 * 2**20)
    with part.open("wb") as file:
        file.truncate(64 * 2**20)
    table = b"label: dos\nstart=8192, size=131072, type=c\n"
    subprocess.run(["sfdisk", "--quiet", path], input=table, check=True, env=tools)
    subprocess.run(["mkfs.vfat", "-F", "32", part], check=True, env=tools, capture_output=True)
    for name in STOCK:
        (place / name).write_text(f"# {name}\n")
        subprocess.run(["mcopy", "-i", part, place / name, "::/"], check=True)
    with path.open("r+b") as card, part.open("rb") as content:
        card.seek(8192 * 512)
        shutil.copyfileobj(content, card)
    for owned in (path, place / "cmdline.txt"):
        os.chown(owned, NOBODY if os.geteuid() == 0 else -1, -1)
    return path


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


@pytest.mark.card_programs
def test_an_ordinary_user_flashes_an_image(flash: Flash, image: Path, place: Path) -> None:
    before = digest(image)
    looked = flash("card", "b01", image, "--python", "3.13", prose("--dry-run"))
    assert looked.returncode == 0, looked.stderr
    assert "MB free" in looked.stdout
    assert looked.stdout.endswith("dry run: nothing was written\n")
    assert digest(image) == before

    done = flash("card", "b01", image, "--python", "3.13")
    assert done.returncode == 0, done.stderr
    assert f"flashed b01: boot partition of {image}, read back and found right\n" in done.stdout
    assert "fedring fleet sign" in done.stderr
    card = FatPartition(image)
    assert card.names() == {*STOCK, "vendor-data", "fedring"}
    assert card.read("user-data") == b"# user-data\n"
    folder = place / "read"
    folder.mkdir()
    for name in card.names("fedring"):
        (folder / name).write_bytes(card.read(f"fedring/{name}"))
    authority = Authority.load(place / "greenhouse" / "authority" / "ca.crt")
    manifest = verify_folder(folder, authority, PURPOSE)
    assert manifest.facts["name"] == "b01"
    assert f"fedring-0.1.0-{PI}.fedring" in manifest.files
    code = (place / "greenhouse" / "codes" / "b01").read_text().strip()
    assert code in (folder / "bootstrap.json").read_text()
    first = card.read("meta-data")
    assert first.startswith(b"# meta-data\ninstance-id: fedring-b01-")
    flash("card", "b01", image, "--python", "3.13")
    assert FatPartition(image).read("meta-data") != first


@pytest.mark.card_programs
def test_mistakes_are_told_and_change_nothing(flash: Flash, image: Path, place: Path) -> None:
    before = digest(image)

    def complaint(*words: str | Path) -> str:
        done = flash("card", *words)
        assert done.returncode == 2
        assert digest(image) == before
        return done.stderr

    assert "[fleet.unknown-device]" in complaint("b09", image)
    assert "[cli.usage]" in complaint("b01")
    assert "[cli.usage]" in complaint("b01", image, "--out", place)
    assert "[flash.unusable]" in complaint("b01", place / "none.img")
    assert "[flash.no-card]" in complaint("b01", place / "cmdline.txt")
    assert "[flash.no-card]" in complaint("b01", "--out", place / "greenhouse")
    assert "[data.missing-file]" in complaint("b01", image, "--data", place / "none.csv")
    image.chmod(0o400)
    if os.geteuid() != 0:
        return
    os.chown(image, 0, 0)
    error = complaint("b01", image)
    assert "permission denied [flash.unusable]" in error


def test_plain_files_for_a_card_that_the_desktop_mounts(flash: Flash, place: Path) -> None:
    samples = place / "samples.csv"
    samples.write_text("a,label\n1,x\n")
    mine = place / "mine.toml"
    mine.write_text('[state]\nfolder = "state"\n[data]\nfunction = "sensor:samples"\n')
    out, _ = prose("--out /Volumes/bootfs").split()
    settings, _ = prose("--settings FILE").split()
    done = flash(
        *("card", "b02", out, place / "files", "--python", "3.13"),
        *("--data", samples, settings, mine),
    )
    assert done.returncode == 0, done.stderr
    assert "copy all of" in done.stderr
    files = place / "files"
    assert stat.S_IMODE(files.stat().st_mode) == 0o700  # a code is in there
    assert {path.name for path in files.iterdir()} == {"fedring", "vendor-data", "meta-data"}
    assert (files / "fedring" / "data.csv").read_text() == "a,label\n1,x\n"
    assert (files / "fedring" / "device.toml").read_text() == (
        '[state]\nfolder = "/var/lib/fedring/state"\n[data]\nfunction = "sensor:samples"\n'
    )
    script = (files / "vendor-data").read_text()
    assert script.startswith("#!/bin/sh\n")  # by which cloud-init knows what it is


# -- by ssh -------------------------------------------------------------------------------------


@pytest.fixture
def board(place: Path, unused_port: Callable[[], int]) -> Iterator[Path]:
    """A folder `bin` with an ssh that knows how to reach a real sshd here, as whoever runs this.

    What it says as root, and its home folder, are stand-ins: `sudo` only notes what it was to do.
    """
    port = unused_port()
    home, keys, programs = place / "home", place / "keys", place / "bin"
    for folder in (home, keys, programs):
        folder.mkdir()
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True
        )
    settings = keys / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nPidFile none\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\n"
        f"ForceCommand cd {home}; PATH={programs}:$PATH; export HOME={home}; "
        'sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    client = keys / "ssh_config"
    client.write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {port}\n User {os.environ.get('USER', 'root')}\n"
        f" IdentityFile {keys}/user\n UserKnownHostsFile {keys}/known\n"
        " StrictHostKeyChecking no\n BatchMode yes\n LogLevel ERROR\n"
    )
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {client} "$@"\n')
    stand_in = '#!/bin/sh\n[ "$1" = -u ] && { echo 1000; exit; }\nexec /usr/bin/id "$@"\n'
    (programs / "id").write_text(stand_in)
    (programs / "sudo").write_text(
        f'#!/bin/sh\necho "$*" >{place}/sudo\ncp -r .fedring-payload {place}/sent\n'
        f"ls -ld .fedring-payload >{place}/mode\n[ ! -e {place}/fail ]\n"
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
        for path in (keys / "user", keys, place):
            os.chown(path, NOBODY, NOBODY)
    server = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", settings], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    try:
        assert "listening" in server.stderr.readline()
        yield programs
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.sshd
def test_a_running_board_gets_its_payload_by_ssh(flash: Flash, board: Path, place: Path) -> None:
    looked = flash("ssh", "b01", "pi", "--dry-run", path=str(board))
    assert looked.returncode == 0, looked.stderr
    assert f"pi: {HERE}\n" in looked.stdout
    assert re.search(
        r"^pi: \d+\.\d MB free, \d+\.\d kB to be written$", looked.stdout, re.MULTILINE
    )
    assert not (place / "sent").exists()

    done = flash("ssh", "b01", "pi", path=str(board))
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"pi: \d+\.\d MB free, \d+\.\d kB to be written\nflashed b01: pi\n$", done.stdout
    )
    assert "sending" in done.stderr
    assert (place / "sudo").read_text() == "sh .fedring-payload/install.sh\n"
    assert (place / "mode").read_text().startswith("drwx------")
    authority = Authority.load(place / "greenhouse" / "authority" / "ca.crt")
    manifest = verify_folder(place / "sent", authority, PURPOSE)
    assert [name for name in manifest.files if name.endswith(".fedring")] == [
        bundle_file(Fleet(place / "greenhouse"), HERE).name
    ]
    assert list((place / "home").iterdir()) == [], "the code does not stay there"


@pytest.mark.sshd
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_board_without_room_is_sent_nothing(
    flash: Flash, board: Path, place: Path, more: tuple[str, ...]
) -> None:
    line = "/dev/root 15000000 14999990 10 100% /"
    (board / "df").write_text(f"#!/bin/sh\necho Filesystem\necho {line}\n")
    (board / "df").chmod(0o755)
    done = flash("ssh", "b01", "pi", *more, path=str(board))
    assert done.returncode == 2
    assert "pi has room for 0.0 MB, and 0.1 MB are needed [flash.no-room]" in done.stderr
    assert not (place / "sent").exists()
    assert list((place / "home").iterdir()) == []


@pytest.mark.sshd
def test_what_goes_wrong_there_is_told_here(flash: Flash, board: Path, place: Path) -> None:
    (place / "fail").touch()
    done = flash("ssh", "b01", "pi", path=str(board))
    assert done.returncode == 2
    assert "[flash.not-installed]" in done.stderr
    assert list((place / "home").iterdir()) == []
    done = flash("ssh", "b01", "nobody@127.0.0.1", path=str(board))
    assert "[flash.unreachable]" in done.stderr
    (board / "python3").write_text("#!/bin/sh\necho 3.9 arm\n")
    (board / "python3").chmod(0o755)
    done = flash("ssh", "b01", "pi", path=str(board))
    assert "[flash.unfit]" in done.stderr
    assert "3.9 arm" in done.stderr
