"""Blobs as objects `blobs/ab/<64 hex>`. Those that are metadata, and were made or read here, lie in the cache as well."""

import contextlib
import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from ..digests import Digest, is_hex_digest, sha256
from ..errors import DamagedError, DiskFull
from ..store import fs
from ..store.blobs import BlobInfo, LocalBlobs, Original, Staged, too_large
from ..store.far import NotHere
from ..store.layout import Layout
from .objects import Objects

#: sizes that a process remembers, of objects that it has asked for
_MOST = 1 << 18
#: blobs that are fetched side by side before they are written, together
_EXPECTED = 512
#: bytes of a blob that is opened
_IN_MEMORY = 8 << 20


class RemoteBlobs(LocalBlobs):
    """Fulfils store.blobs.Blobs. What lies in the cache is there as an object too, unless a gc elsewhere has removed it:
    `forget` is told of that.
    """

    def __init__(
        self,
        layout: Layout,
        objects: Objects,
        delete: Callable[[str], None],
        ahead: Callable[[], timedelta],
        row: Callable[[Digest], int | None],
        removing: Callable[[Sequence[Digest]], AbstractContextManager[None]],
    ) -> None:
        """delete: removes an object by its key, as long as nobody else may write
        ahead: by how much this machine's clock is ahead of the service's
        row: bytes of a blob that is known to be there
        removing: holds the store's lock, and has told everybody that these blobs go
        """
        super().__init__(layout)
        self._cache = LocalBlobs(layout)
        self._objects = objects
        self._delete = delete
        self._ahead = ahead
        self._row = row
        self._removing = removing
        #: what was last seen, for who only reads: a server has no index
        self._sizes: OrderedDict[Digest, int] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = threading.local()

    def put(self, data: Sequence[bytes]) -> list[Staged]:
        self.upload({sha256(one): one for one in data})
        return self.keep(data)

    def upload(self, contents: Mapping[Digest, bytes]) -> None:
        """Make objects of byte strings, whether they are there or not."""
        for _ in self._objects.threads.map(lambda digest: self._objects.put(key_of(digest), contents[digest]), contents):
            pass

    def keep(self, contents: Sequence[bytes]) -> list[Staged]:
        """Put byte strings into the cache."""
        return self._cache.put(contents)

    def admit(self, staged: Sequence[Staged]) -> None:
        for _ in self._objects.threads.map(lambda one: self._objects.put(key_of(one.sha256), one.path), staged):
            pass
        for one in staged:  # nobody here needs the bytes any more
            fs.unlink(one.path)

    def link(self, originals: Sequence[Original]) -> list[OSError | None]:
        return [OSError(errno.EXDEV, "is not on the store's disk") for _ in originals]

    def sync_names(self, digests: Iterable[Digest]) -> None:
        """The cache need not outlive a power cut; what is torn is read again."""

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """See store.far.Far."""
        self._thread.hurried = True
        try:
            yield
        finally:
            self._thread.hurried = False

    def read(self, digest: Digest, most: int | None = None) -> bytes:
        try:
            return self._cache.read(digest, most)
        except DamagedError:  # not in the cache, or torn
            if getattr(self._thread, "hurried", False):
                raise NotHere from None
        if most is not None and (self.size_for_reading(digest) or 0) > most:
            raise too_large(digest, most)
        content = self.read_object(digest)
        self._keep([content])
        return content

    def peek(self, digest: Digest, offset: int, size: int) -> bytes:
        if not (found := self._cache.peek(digest, offset, size)):
            with contextlib.suppress(DamagedError):
                found = self.read(digest)[offset : offset + size]
        return found

    def read_object(self, digest: Digest) -> bytes:
        """The bytes of a blob, from the service. Raises DamagedError."""
        content = self._objects.get(key_of(digest))
        if content is None:
            raise DamagedError(f"blob {digest.hex()}", "is missing")
        if sha256(content) != digest:
            raise DamagedError(f"blob {digest.hex()}", "holds other bytes than its name says")
        return content

    def _keep(self, contents: Sequence[bytes]) -> None:
        for content in contents:
            fs.unlink(self.path(sha256(content)))  # torn, perhaps, and of the right size
        with contextlib.suppress(DiskFull):  # then it is asked for again
            self._cache.put(contents)

    def expect(self, digests: Iterable[Digest]) -> None:
        new = [digest for digest in digests if not self.path(digest).exists()]
        for start in range(0, len(new), _EXPECTED):
            batch = new[start : start + _EXPECTED]
            found = [content for _, content in self._objects.get_many(map(key_of, batch))]
            self._keep([one for digest, one in zip(batch, found, strict=True) if one is not None and sha256(one) == digest])

    def open(self, digest: Digest) -> BinaryIO:
        """The object itself, whatever the cache has: who wants to know that it is right has to read it."""
        copy = cast(BinaryIO, SpooledTemporaryFile(_IN_MEMORY, dir=self._incoming))  # noqa: SIM115
        try:
            size = self._objects.size(key_of(digest)) or 0
            for piece in self._objects.pieces(key_of(digest), 0, size, size):
                copy.write(piece)
        except FileNotFoundError:
            copy.close()
            raise DamagedError(f"blob {digest.hex()}", "is missing") from None
        except BaseException:
            copy.close()
            raise
        copy.seek(0)
        return copy

    def size(self, digest: Digest) -> int | None:
        """What the cache has says nothing: it may be gone from the service."""
        row = self._row(digest)
        return self.ask(digest) if row is None else row

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        found = self._cache.sizes(digests)
        new = [digest for digest in digests if digest not in found]
        asked = zip(new, self._objects.threads.map(self.size_for_reading, new), strict=True)
        return found | {digest: size for digest, size in asked if size is not None}

    def size_for_reading(self, digest: Digest) -> int | None:
        """The size of one of `sizes`."""
        if (size := self._cache.size(digest)) is not None:
            return size
        with self._lock:
            if digest in self._sizes:
                self._sizes.move_to_end(digest)
                return self._sizes[digest]
        if (size := self.size(digest)) is not None:
            with self._lock:
                self._sizes[digest] = size
                while len(self._sizes) > _MOST:
                    self._sizes.popitem(last=False)
        return size

    def ask(self, digest: Digest) -> int | None:
        """Bytes of a blob, as the service has it now."""
        return self._objects.size(key_of(digest))

    def forget(self, digests: Iterable[Digest]) -> None:
        """Drop what the cache knows of blobs that were removed."""
        for digest in digests:
            with self._lock:
                self._sizes.pop(digest, None)
            fs.unlink(self.path(digest))

    def delete(self, digest: Digest) -> int:
        self.forget([digest])
        size = self._objects.size(key_of(digest))
        if size is not None:
            self._delete(key_of(digest))
        return size or 0

    def delete_many(self, digests: Iterable[Digest]) -> int:
        """Remove blobs, several at a time; the bytes freed. When it returns, or raises what one of them raised, nothing is
        under way any more. If it is interrupted something may be, and the lease is not given back then.
        """
        running = [self._objects.threads.submit(self.delete, digest) for digest in digests]
        try:
            wait(running)
        except BaseException:
            for one in running:
                one.cancel()
            raise
        return sum(one.result() for one in running)

    def list(self) -> Iterator[BlobInfo]:
        ahead = self._ahead().total_seconds()
        for one in self._objects.list("blobs"):
            if (digest := digest_of(one.key)) is not None:
                yield BlobInfo(digest, one.size, one.modified.timestamp() + ahead)

    def foreign(self) -> Iterator[Path]:
        for one in self._objects.list("blobs"):
            if digest_of(one.key) is None:
                yield self._layout.root / one.key

    def protect(self, digest: Digest) -> None:
        """Nobody writes to an object."""

    def is_taken(self, digest: Digest) -> bool:
        return self._objects.size(key_of(digest)) is not None

    def set_aside(self, digest: Digest) -> int:
        """It is moved to the cache's `quarantine/`."""
        with self._removing([digest]):
            content = self._objects.get(key_of(digest))
            if content is None or sha256(content) == digest:  # it has been mended since
                raise FileNotFoundError
            aside = self._layout.quarantine / digest.hex()
            fs.replace(aside, content)
            self._delete(key_of(digest))
        return aside.stat().st_ino


def key_of(digest: Digest) -> str:
    """The key of a blob."""
    name = digest.hex()
    return f"blobs/{name[:2]}/{name}"


def digest_of(key: str) -> Digest | None:
    """The digest of the blob that has a key, None if it can't be one's."""
    folder, _, name = key.rpartition("/")
    return bytes.fromhex(name) if is_hex_digest(name) and folder == f"blobs/{name[:2]}" else None
