"""Blobs: every byte string kept, named by its SHA-256, one file each, never changed once it has its name."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ..digests import Digest, Sums, is_hex_digest, sha256
from ..errors import DamagedError
from . import fs
from .layout import Layout


class Staged(NamedTuple):
    """A finished file in `incoming/`, its sums taken while it was written, waiting for its name."""

    path: Path
    sha256: Digest
    #: empty where a client waited for the file: whoever admits it takes it first
    blake3: bytes
    #: bytes
    size: int
    #: set where a hash other than SHA-256 is what verified it
    other: bytes | None = None
    #: descriptor that holds the file's flock until it has its name: another sync that wants the same bytes must not
    #: take it up, or empty it, in between
    lock: int | None = None

    def release(self) -> None:
        """Give the flock back."""
        if self.lock is not None:
            os.close(self.lock)


class Original(NamedTuple):
    """A file outside the store, on the same file system, its sums taken, that a blob is going to be a second name of."""

    path: str
    sha256: Digest
    blake3: bytes
    size: int
    #: set where upstream states no SHA-256: the other hash that it states, or the MD5 that it may state
    other: bytes | None
    #: `identity` of the file when it was read
    identity: tuple[int, ...]


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Numbers of which one changes when a file is replaced or written into."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class BlobInfo(NamedTuple):
    """A blob as a listing sees it."""

    digest: Digest
    size: int
    #: when it was stored, seconds since 1970
    stored: float
    #: whether its permissions, or that it is a link to a file elsewhere, let others change it
    changeable: bool = False


class Blobs(Protocol):
    """Where blobs are kept. That a blob is there is all that this knows: `Store` enters what was stored into the index."""

    def put(self, data: Sequence[bytes]) -> list[Staged]:
        """Store byte strings durably, in this order with their sums; those present are left as they are."""
        ...

    def admit(self, staged: Sequence[Staged]) -> None:
        """Give finished files their names, durably, in the place of what has these names."""
        ...

    def link(self, originals: Sequence[Original]) -> "list[OSError | None]":
        """Give files that lie elsewhere a second name, durably, and make them read-only; for each what was in the way, or None.

        ESTALE: it has changed since it was read; EXDEV, EPERM, EMLINK and the like: it has to be copied.
        """
        ...

    def read(self, digest: Digest) -> bytes:
        """All bytes of a blob, compared with its name. Raises DamagedError if it is not there or holds others."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """A blob for reading. Raises DamagedError if it is not there."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None if it is not there."""
        ...

    def delete(self, digest: Digest) -> int:
        """Remove a blob; the bytes freed, 0 if it was not there."""
        ...

    def list(self) -> Iterator[BlobInfo]:
        """Every blob, in no order."""
        ...


class LocalBlobs:
    """Blobs in `blobs/ab/<64 hex>` of a local folder, mode 0444."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folder = str(layout.blobs)
        self._incoming = str(layout.incoming)

    def path(self, digest: Digest) -> Path:
        """Where a blob lies, or would."""
        return self._layout.blob(digest)

    def _path_text(self, digest: Digest) -> str:
        """The same as a text: in a loop over many blobs, making Paths takes half the time."""
        name = digest.hex()
        return f"{self._folder}/{name[:2]}/{name}"

    def put(self, data: Sequence[bytes]) -> list[Staged]:
        staged = []
        try:
            for content in data:
                sums = Sums()
                sums.update(content)
                path = self._layout.incoming / f"put-{secrets.token_hex(8)}"
                staged.append(Staged(path, sums.sha256, sums.blake3, sums.size))
                if self.size(sums.sha256) != len(content):
                    fs.write_new(path, content, sync=False)
            self.admit([one for one in staged if one.path.exists()])
        except BaseException:  # on a full disk others need the room, and nobody else takes such files away for a while
            for one in staged:
                fs.unlink(one.path)
            raise
        return staged

    def admit(self, staged: Sequence[Staged]) -> None:
        # As ostree does: make all bytes durable, rename all, then make the names durable, each folder once.
        fs.sync_files([one.path for one in staged], self._layout.root)
        for one in staged:
            os.chmod(one.path, 0o444)
            fs.rename(one.path, self.path(one.sha256))
        for folder in {self.path(one.sha256).parent for one in staged}:
            fs.sync_folder(folder)

    def link(self, originals: Sequence[Original]) -> list[OSError | None]:
        fs.sync_files([one.path for one in originals], self._layout.root)
        problems = [self._link(one) for one in originals]
        for name in {one.sha256.hex()[:2] for one in originals}:
            fs.sync_folder(self._layout.blobs / name)
        return problems

    def _link(self, original: Original) -> OSError | None:
        """By way of a name that is no blob's: only then it is certain which file the path has led to."""
        while self.size(original.sha256) != original.size:
            temporary = f"{self._incoming}/put-{secrets.token_hex(8)}"
            try:
                fs.link(original.path, temporary)
            except OSError as error:
                return error
            try:
                if identity(os.lstat(temporary)) != original.identity:
                    fs.unlink(temporary)
                    return OSError(errno.ESTALE, "was changed while it was read")
                os.chmod(temporary, 0o444)
                fs.rename(temporary, self._path_text(original.sha256))
            except FileNotFoundError:  # a gc has taken it for a partial of long ago, which is what its date says
                continue
            except OSError as error:
                fs.unlink(temporary)
                return error
        return None

    def read(self, digest: Digest) -> bytes:
        with self.open(digest) as file:
            content = file.read()
        # One flipped bit in a bucket or a leaf still decodes, and gc would delete what the right one refers to.
        if sha256(content) != digest:
            raise DamagedError(f"blob {digest.hex()}", "holds other bytes than its name says")
        return content

    def open(self, digest: Digest) -> BinaryIO:
        try:
            return open(self._path_text(digest), "rb")
        except FileNotFoundError:
            raise DamagedError(f"blob {digest.hex()}", "is missing") from None

    def size(self, digest: Digest) -> int | None:
        try:
            status = os.stat(self._path_text(digest))
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def delete(self, digest: Digest) -> int:
        size = self.size(digest)
        return size or 0 if fs.unlink(self.path(digest)) else 0

    def list(self) -> Iterator[BlobInfo]:
        for number in range(256):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._layout.blobs / f"{number:02x}") as entries:
                for entry in entries:
                    if is_hex_digest(entry.name) and entry.name.startswith(f"{number:02x}"):
                        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, or a link to nothing
                            found = entry.stat()
                            if stat.S_ISREG(found.st_mode):
                                changeable = bool(found.st_mode & 0o222) or entry.is_symlink()
                                yield BlobInfo(bytes.fromhex(entry.name), found.st_size, found.st_mtime, changeable)

    def foreign(self) -> Iterator[Path]:
        """What is in the folder and is no blob. A blob that is being put under its name is passed over."""
        for number in range(256):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._layout.blobs / f"{number:02x}") as entries:
                for entry in entries:
                    named = is_hex_digest(entry.name) and entry.name.startswith(f"{number:02x}")
                    if not entry.name.startswith(".") and not (named and entry.is_file()):
                        yield Path(entry.path)

    def protect(self, digest: Digest) -> None:
        """Make a blob a file of its own again that nobody may write to. Whoever calls has seen that its bytes are right."""
        path = self.path(digest)
        if path.is_symlink():
            fs.renew(path)
        os.chmod(path, 0o444)
