"""Tar archives with one spelling: the same files give the same bytes, whoever packs them when."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LEVEL: Final = 6  # 9 takes three times as long and saves one per cent


def pack_folder(folder: Path) -> bytes:
    """Pack all files and folders below `folder` into a compressed tar archive.

    Owners, dates and the order in which the disk lists files are left out of it.
    """
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as compressed,
        tarfile.open(mode="w", fileobj=compressed, format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder), recursive=False, filter=_anonymous)
    return packed.getvalue()


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack these files into a tar archive, in this order."""
    packed = io.BytesIO()
    with tarfile.open(mode="w", fileobj=packed, format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(_anonymous(member), io.BytesIO(content))
    return packed.getvalue()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
