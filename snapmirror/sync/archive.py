"""The format of an export: a tar of what a copy needs, perhaps cut into volumes (man snapmirror-store, section EXPORTS).

A tar holds, in this order, `snapmirror-export.json` (the manifest), `snapshots/…` (records, signatures, later pages) and
`blobs/<64 hex>`, metadata first. Only regular files with these very names are read, and no name becomes a path.
"""

import glob
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..store.listing import Listing
from ..store.records import Hex
from .bringing import CopyError

FORMAT = 1
MANIFEST = "snapmirror-export.json"
BLOCK = 512
#: tar ends with two blocks of zeros
END = bytes(2 * BLOCK)
_NAME = re.compile(r"snapshots/\d{8}T\d{6}Z\.(json|sig|pages)|blobs/[0-9a-f]{64}", re.ASCII)
#: bytes of a manifest
_LIMIT = 1 << 30
_PIECE = 1 << 20


class Base(msgspec.Struct, frozen=True):
    """The snapshot that an export builds on."""

    id: str
    #: of its record
    sha256: Hex


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The first member: what is in the others."""

    format: int = FORMAT
    base: Base | None
    #: ids of the snapshots that are in it
    snapshots: list[str]
    #: whether somebody has named these, and not meant all
    named: bool = False
    #: members after this one, and the bytes of all of them
    members: int
    bytes: int
    listing: Listing


class Member(NamedTuple):
    """Where the bytes of a member are."""

    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The block before a member: the same for the same name and size on any machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def padding(size: int) -> bytes:
    """What fills the last block of a member."""
    return bytes(-size % BLOCK)


def volume(path: Path, number: int) -> Path:
    """The path of a volume, from 1."""
    return path.with_name(f"{path.name}.{number:03}")


def volumes_in(whole: Path) -> list[Path]:
    """The volumes of an export that are in its folder, whichever. whole: the file of which they are parts"""
    found = whole.parent.glob(f"{glob.escape(whole.name)}.*")
    return sorted(path for path in found if re.fullmatch(r"\d{3,}", path.name[len(whole.name) + 1 :], re.ASCII))


def volumes_of(files: list[Path]) -> list[Path]:
    """All volumes of an export, in order. files: all of them, in any order, or the first. Raises CopyError."""
    found = [re.fullmatch(r"(.+)\.(\d{3,})", file.name) for file in files]
    if len(files) == 1 and not found[0]:
        if not files[0].exists() and volume(files[0], 1).exists():  # as it was called when it was exported
            return volumes_of([volume(files[0], 1)])
        return files
    if len(files) == 1 and found[0] and int(found[0][2]) == 1:
        whole = files[0].with_name(found[0][1])
        paths, number = [], 1
        while (path := volume(whole, number)).exists():
            paths.append(path)
            number += 1
        return paths or files
    numbered = {int(match[2]): file for match, file in zip(found, files, strict=True) if match}
    missing = next((number for number in range(1, len(files) + 1) if number not in numbered), None)
    if missing is not None or len({match[1] for match in found if match}) > 1:
        raise CopyError(
            str(files[0]), f"volume {missing or 1:03} is not among the files; give all volumes of one export, or its first"
        )
    return [numbered[number] for number in sorted(numbered)]


class Volumes:
    """Several files as one. Close it."""

    def __init__(self, paths: list[Path]) -> None:
        self.name = str(paths[0])
        self._files: list[tuple[int, int, int]] = []
        self.size = 0
        try:
            for path in paths:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                status = os.fstat(descriptor)
                size = status.st_size
                self._files.append((descriptor, self.size, size))
                if not stat.S_ISREG(status.st_mode):
                    raise CopyError(str(path), "is no file")
                self.size += size
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        for descriptor, _, _ in self._files:
            os.close(descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from anywhere. Raises CopyError if there are not so many."""
        return b"".join(self.pieces(Member(offset, size)))

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The bytes of a member, as they are read. Raises CopyError if they end early."""
        position, end = member.offset, member.offset + member.size
        for descriptor, start, size in self._files:
            while start <= position < min(end, start + size):
                piece = os.pread(descriptor, min(_PIECE, end - position, start + size - position), position - start)
                if not piece:
                    break
                position += len(piece)
                yield piece
        if position < end:
            raise CopyError(self.name, "ends early: it was cut short, or volumes are missing")


def index(volumes: Volumes) -> tuple[Manifest, dict[str, Member]]:
    """What is in an export: only headers and the manifest are read. Raises CopyError for what is no whole export."""
    members: dict[str, Member] = {}
    offset = 0
    while True:
        block = volumes.read(offset, BLOCK)
        if block == bytes(BLOCK):
            break
        name, member = _member(volumes, offset, block)
        if name in members:
            raise CopyError(volumes.name, f"has {name} twice")
        if bool(members) == (name == MANIFEST):
            raise CopyError(volumes.name, f"is no export of snapmirror: it does not begin with {MANIFEST}")
        members[name] = member
        offset = member.offset + member.size + -member.size % BLOCK
    if not members:
        raise CopyError(volumes.name, "is no export of snapmirror: it is empty")
    manifest = _manifest(volumes, members.pop(MANIFEST))
    if volumes.read(offset, len(END)) != END or offset + len(END) != volumes.size:
        raise CopyError(volumes.name, "does not end where it should; give all volumes of this export, and no others")
    found = sum(member.size for member in members.values())
    if (len(members), found) != (manifest.members, manifest.bytes):
        raise CopyError(
            volumes.name, f"has {len(members)} members of {found} bytes, and should have {manifest.members} of {manifest.bytes}"
        )
    return manifest, members


def _member(volumes: Volumes, offset: int, block: bytes) -> tuple[str, Member]:
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
        raise CopyError(volumes.name, f"is damaged, or no tar, at byte {offset}: {error}") from None
    if info.type != tarfile.REGTYPE or not (info.name == MANIFEST or _NAME.fullmatch(info.name)):
        raise CopyError(volumes.name, f"has a member that no export has: {info.name!a}")
    if info.size < 0 or offset + BLOCK + info.size > volumes.size:
        raise CopyError(volumes.name, "ends early: it was cut short, or volumes are missing")
    return info.name, Member(offset + BLOCK, info.size)


def _manifest(volumes: Volumes, member: Member) -> Manifest:
    if member.size > _LIMIT:
        raise CopyError(volumes.name, f"its manifest is larger than {_LIMIT} bytes")
    content = volumes.read(*member)
    try:
        stated = msgspec.json.decode(content, type=_Format).format
        if stated != FORMAT:
            raise CopyError(volumes.name, f"is an export of format {stated}, this version knows {FORMAT}; upgrade snapmirror")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CopyError(volumes.name, f"its manifest can't be read: {error}") from None


class _Format(msgspec.Struct):
    format: int
