"""A board's folders under a folder of the test, with tiny agents in its slots.

An agent here is a launcher that passes or fails its try-out, and a word that says how it behaves as
a service: `good`, `never` (READY), `crashes`, `falls` (after READY). systemctl and journalctl are
stand-ins that go by that word, and write down what they were asked.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from fedring.device.update.updater import Limits, install
from fedring.fleet.issuing import Issuer
from fedring.shared.bundles import ARCHIVE_FILE, PURPOSE, version_number
from fedring.shared.signed_folders import File, Manifest, sign_manifest

PYTHON: Final = f"cp{sys.version_info.major}{sys.version_info.minor}"
ARCH: Final = platform.machine()

_SYSTEMCTL = """\
#!/bin/sh
root={root}
behaviour=$(cat "$root/opt/fedring/current/site/behaviour")
echo "$1 $(readlink "$root/opt/fedring/current") $behaviour" >>"$root/calls"
case $1 in
stop) echo 0 >"$root/looks" ;;
start) ;;
show)
    looks=$(($(cat "$root/looks" 2>/dev/null || echo 0) + 1))
    echo "$looks" >"$root/looks"
    state=activating restarts=0 text=connecting
    case $behaviour in
    good) state=active text="idle, round 3" ;;
    crashes) restarts=$looks text= ;;
    falls) restarts=$((looks - 1)); [ "$looks" -gt 1 ] || state=active ;;
    esac
    echo "ActiveState=$state"; echo "NRestarts=$restarts"; echo "Result=success"
    echo "StatusText=$text" ;;
esac
"""
_JOURNALCTL = """\
#!/bin/sh
echo "fedring: error: no broker at broker.local:8883"
"""
_DRIVER = """\
import os, signal, sys
from pathlib import Path
from fedring.device.update.updater import Limits, install

def enter(step):
    print(step, flush=True)
    if step == os.environ.get("DIE_AT"):
        os.kill(os.getpid(), signal.SIGKILL)

file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
install(Path(sys.argv[1]), file, Limits(ready_s=0.3, trial_s=0.1, calm_s=0, poll_s=0.01), enter)
"""


def agent(version: str, behaviour: str = "good", last_words: str = "") -> dict[str, bytes]:
    """The files of a tiny agent.

    Args:
        version: of its fedring.
        behaviour: of its service.
        last_words: with which its try-out fails; empty to pass it.
    """
    end = f"echo '{last_words}' >&2; exit 1" if last_words else "exit 0"
    return {
        "fedring": f'#!/bin/sh\n[ "$1 $2" = "device tryout" ] && {{ {end}; }}\n'.encode(),
        "site/behaviour": behaviour.encode(),
        "site/module.py": b"x = 1\n",
        f"site/fedring-{version}.dist-info/METADATA": b"Name: fedring\n",
    }


def archive(files: Mapping[str, bytes], more: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """Pack files, and whatever else a test thinks of."""
    packed = io.BytesIO()
    with tarfile.open(mode="w", fileobj=packed) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name == "fedring" else 0o644
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return gzip.compress(packed.getvalue())


def bundle(
    issuer: Issuer,
    packed: bytes,
    version: str,
    *,
    floor: str = "0.0.0",
    python: str = PYTHON,
    arch: str = ARCH,
) -> bytes:
    """Make a bundle of an archive, signed by this authority."""
    facts = {"version": version, "python": python, "arch": arch, "floor": floor}
    manifest = Manifest(
        PURPOSE, "greenhouse", version_number(version), facts, {ARCHIVE_FILE: File.of(packed)}
    )
    encoded, signature = sign_manifest(manifest, issuer.key)
    whole = io.BytesIO()
    members = {"manifest": encoded, "manifest.sig": signature, ARCHIVE_FILE: packed}
    with tarfile.open(mode="w", fileobj=whole, format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()


class Board:
    """A board whose agent has version 0.1.0, in slot a.

    Args:
        root: a new folder, `/` of the board.
        issuer: the authority of its fleet.
    """

    def __init__(self, root: Path, issuer: Issuer) -> None:
        self.root = root
        self.program = root / "opt" / "fedring"
        self.inbox = root / "var" / "lib" / "fedring" / "inbox"
        self.record = root / "var" / "lib" / "fedring-update"
        self.issuer = issuer
        settings = root / "etc" / "fedring"
        for folder in (self.program / "slots" / "a", self.inbox, settings, root / "bin"):
            folder.mkdir(parents=True)
        (settings / "ca.crt").write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
        self.install(agent("0.1.0"))
        (self.program / "current").symlink_to("slots/a")
        for name, text in (("systemctl", _SYSTEMCTL), ("journalctl", _JOURNALCTL)):
            program = root / "bin" / name
            program.write_text(text.format(root=root))
            program.chmod(0o755)
        self.driver = root / "driver.py"
        self.driver.write_text(_DRIVER)

    def install(self, files: Mapping[str, bytes]) -> None:
        """Put an agent into slot a, as the installer does."""
        slot = self.program / "slots" / "a"
        shutil.rmtree(slot)
        for name, content in files.items():
            path = slot / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name == "fedring" else 0o644)

    def drop(self, content: bytes, number: int = 1) -> Path:
        """Put a bundle into the inbox, as the agent does."""
        path = self.inbox / f"{number}.fedring"
        path.write_bytes(content)
        return path

    def offer(self, version: str = "0.2.0", number: int = 1, **how: Any) -> Path:
        """Put a bundle with a tiny agent into the inbox; `how` as for `agent` and `bundle`."""
        signing = {key: how.pop(key) for key in ("floor", "python", "arch") if key in how}
        packed = archive(agent(version, **how))
        return self.drop(bundle(self.issuer, packed, version, **signing), number)

    def run_updater(
        self,
        *arguments: str | Path,
        die_at: str = "",
        under: Iterable[str | Path] = (),
        while_running: Callable[[], object] = lambda: None,
    ) -> tuple[int, list[str]]:
        """Run the updater as a process to its end, or death; gives status and steps entered."""
        environment = os.environ | {
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "DIE_AT": die_at,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(
            [*under, sys.executable, self.driver, self.root, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        while_running()
        said, _ = process.communicate(timeout=60)
        return process.returncode, said.splitlines()

    @property
    def starts_updater(self) -> bool:
        """Whether systemd would start the updater, at boot and at any time: a path is there."""
        unit = resources.files("fedring.device").joinpath("board", "fedring-update.path")
        paths = re.findall(r"^PathExists(?:Glob)?=/(.+)$", unit.read_text("utf-8"), re.MULTILINE)
        assert paths
        return any(any(self.root.glob(path)) for path in paths)

    def boot(self) -> None:
        """Come back after a power cut, and let the updater do what is left."""
        if self.starts_updater:
            assert self.run_updater()[0] == 0

    def take(self) -> list[str]:
        """Let the updater empty the inbox, in this process; gives the steps entered."""
        steps: list[str] = []
        install(self.root, None, Limits(ready_s=0.3, trial_s=0.1, poll_s=0.01), steps.append)
        return steps

    @property
    def outcome(self) -> dict[str, str]:
        """How the last update ended."""
        found: dict[str, str] = json.loads((self.record / "outcome.json").read_text())
        return found

    @property
    def running(self) -> str:
        """Version of the agent that `current` points to; fails when a part of it is missing."""
        slot = (self.program / "current").resolve(strict=True)
        assert (slot / "fedring").stat().st_mode & 0o100
        assert (slot / "site" / "behaviour").read_text()
        assert (slot / "site" / "module.py").read_text() == "x = 1\n"
        (notes,) = (slot / "site").glob("fedring-*.dist-info")
        assert "Name: fedring\n" in (notes / "METADATA").read_text()
        return notes.name.removeprefix("fedring-").removesuffix(".dist-info")

    @property
    def proven(self) -> str:
        """The slot whose code updates this board."""
        return os.readlink(self.program / "proven")

    @property
    def calls(self) -> list[str]:
        """What systemctl was asked, but for looks."""
        lines = (self.root / "calls").read_text().splitlines()
        return [line for line in lines if not line.startswith("show")]
