"""Blobs: every byte string kept, named by its SHA-256, one file each, never changed once it has its name."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
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
    #: what was stored together has numbers, and on most disks places, beside each other
    inode: int = 0


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

    def sync_names(self, digests: Iterable[Digest]) -> None:
        """Make the names of blobs durable that a process has given which died, perhaps, before it did so itself."""
        ...

    def expect(self, digests: Iterable[Digest]) -> None:
        """Blobs that are going to be read, many of them: from afar they come side by side."""
        ...

    def read(self, digest: Digest, most: int | None = None) -> bytes:
        """All bytes of a blob, compared with its name. Raises DamagedError if it is not there, or holds others, or more than
        `most` bytes.
        """
        ...

    def peek(self, digest: Digest, offset: int, size: int) -> bytes:
        """Some bytes of a blob, compared with nothing; fewer if it ends there, none if it is not there."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """A blob for reading. Raises DamagedError if it is not there."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None if it is not there."""
        ...

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """The same of many, of those that are there, for who is going to read them. From afar what was seen of them before will
        do, and others are asked for side by side.
        """
        ...

    def delete(self, digest: Digest) -> int:
        """Remove a blob; the bytes freed, 0 if it was not there."""
        ...

    def is_taken(self, digest: Digest) -> bool:
        """Whether there is anything in a blob's place, be it a blob or not."""
        ...

    def set_aside(self, digest: Digest) -> int:
        """Move what is in a blob's place to `quarantine/`, durably; its inode there. Raises FileNotFoundError."""
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

    def path_text(self, digest: Digest) -> str:
        """The same as a text: in a loop over many blobs, making Paths takes half the time."""
        name = digest.hex()
        return f"{self._folder}/{name[:2]}/{name}"

    def put(self, data: Sequence[bytes]) -> list[Staged]:
        staged: list[Staged] = []
        held: list[Staged] = []
        new: list[Staged] = []
        try:
            for content in data:
                sums = Sums()
                sums.update(content)
                path = self._layout.incoming / f"put-{secrets.token_hex(8)}"
                staged.append(Staged(path, sums.sha256, sums.blake3, sums.size))
                if self.size(sums.sha256) == len(content):
                    held.append(staged[-1])
                else:
                    fs.write_new(path, content, sync=False)
                    new.append(staged[-1])
            self.admit(new)  # one that somebody has taken away meanwhile, on a full disk, is missed here
            self.sync_names(one.sha256 for one in held)
        except BaseException:  # on a full disk others need the room, and nobody else takes such files away for a while
            for one in staged:
                fs.unlink(one.path)
            raise
        return staged

    def admit(self, staged: Sequence[Staged]) -> None:
        # As ostree does: make all files durable, rename all, then make the names durable, each folder once.
        for one in staged:
            os.chmod(one.path, 0o444)
        fs.sync_files([one.path for one in staged], self._layout.root)
        for one in staged:
            fs.rename(one.path, self.path(one.sha256))
        self.sync_names(one.sha256 for one in staged)

    def link(self, originals: Sequence[Original]) -> list[OSError | None]:
        seconds = [self._second_name(one) for one in originals]
        fs.sync_files([name for name in seconds if isinstance(name, str)], self._layout.root)
        problems = [self._admit_second(one, name) for one, name in zip(originals, seconds, strict=True)]
        self.sync_names(one.sha256 for one in originals)
        return problems

    def _second_name(self, original: Original) -> str | OSError | None:
        """Give a file a name that is no blob's: only then it is certain which file the path has led to. What was in the way,
        or None if the blob is held.
        """
        while self.size(original.sha256) != original.size:
            temporary = f"{self._incoming}/put-{secrets.token_hex(8)}"
            try:
                fs.link(original.path, temporary)
            except OSError as error:
                return error
            with contextlib.suppress(FileNotFoundError):  # a gc has taken it for a partial of long ago, as its date says
                if identity(os.lstat(temporary)) != original.identity:
                    fs.unlink(temporary)
                    return OSError(errno.ESTALE, "was changed while it was read")
                try:
                    os.chmod(temporary, 0o444)
                except PermissionError as error:
                    fs.unlink(temporary)
                    return error
                return temporary
        return None

    def _admit_second(self, original: Original, name: str | OSError | None) -> OSError | None:
        """Make a second name that is durable that of the blob."""
        while isinstance(name, str):
            try:
                if self.size(original.sha256) == original.size:  # a rename over another name of the same file does nothing
                    fs.unlink(name)
                else:
                    fs.rename(name, self.path_text(original.sha256))
                return None
            except FileNotFoundError:  # a gc, as above
                name = self._second_name(original)
                if isinstance(name, str):
                    fs.sync_files([name], self._layout.root)
            except OSError as error:
                fs.unlink(name)
                return error
        return name

    def sync_names(self, digests: Iterable[Digest]) -> None:
        for folder in {self.path(digest).parent for digest in digests}:
            fs.sync_folder(folder)

    def expect(self, digests: Iterable[Digest]) -> None:
        """They are at hand."""

    def read(self, digest: Digest, most: int | None = None) -> bytes:
        try:
            with open(self.path_text(digest), "rb", buffering=0) as file:  # a buffer is a tenth of the time of a leaf
                if most is not None and os.fstat(file.fileno()).st_size > most:
                    raise too_large(digest, most)
                content = file.readall()
        except FileNotFoundError:
            raise _missing(digest) from None
        except OSError as error:
            if error.errno not in fs.LOST:
                raise
            raise DamagedError(f"blob {digest.hex()}", f"can't be read: {error.strerror}") from None
        # One flipped bit in a bucket or a leaf still decodes, and gc would delete what the right one refers to.
        if sha256(content) != digest:
            raise DamagedError(f"blob {digest.hex()}", "holds other bytes than its name says")
        return content

    def peek(self, digest: Digest, offset: int, size: int) -> bytes:
        try:
            descriptor = os.open(self.path_text(digest), os.O_RDONLY)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, size, offset)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def open(self, digest: Digest) -> BinaryIO:
        try:
            return open(self.path_text(digest), "rb")
        except FileNotFoundError:
            raise _missing(digest) from None

    def size(self, digest: Digest) -> int | None:
        try:
            status = os.stat(self.path_text(digest))
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        return {digest: size for digest in digests if (size := self.size(digest)) is not None}

    def delete(self, digest: Digest) -> int:
        size = self.size(digest)
        return size or 0 if fs.unlink(self.path(digest)) else 0

    def is_taken(self, digest: Digest) -> bool:
        return os.path.lexists(self.path(digest))

    def set_aside(self, digest: Digest) -> int:
        path, aside = self.path(digest), self._layout.quarantine / digest.hex()
        if path.is_dir() or aside.is_dir():  # what is in a blob's place may be anything
            aside = aside.with_name(f"{aside.name}.{secrets.token_hex(4)}")
        fs.rename(path, aside)
        fs.sync_folder(path.parent)
        return os.lstat(aside).st_ino

    def list(self) -> Iterator[BlobInfo]:
        for number in range(256):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._layout.blobs / f"{number:02x}") as entries:
                for entry in entries:
                    if is_hex_digest(entry.name) and entry.name.startswith(f"{number:02x}"):
                        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, or a link to nothing
                            found = entry.stat()
                            if stat.S_ISREG(found.st_mode):
                                changeable = bool(found.st_mode & 0o222) or entry.is_symlink()
                                yield BlobInfo(
                                    bytes.fromhex(entry.name), found.st_size, found.st_mtime, changeable, found.st_ino
                                )

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


def too_large(digest: Digest, most: int) -> DamagedError:
    """What to raise of a blob that has more bytes than whoever reads it may have to hold in memory."""
    return DamagedError(f"blob {digest.hex()}", f"holds more than the {most} bytes that it may")


def _missing(digest: Digest) -> DamagedError:
    return DamagedError(f"blob {digest.hex()}", "is missing")
