"""Blobs for a server: from the cache, or from the service. Fulfils store.far.Far."""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

from ..digests import Digest
from ..errors import DiskFull
from ..store import fs
from ..store.layout import Layout
from .blobs import RemoteBlobs, key_of
from .objects import Objects

#: seconds after which a refresh looks at everything, in case who changed it died before it told of it
_FULLY = 60.0
#: seconds between two notes that a file was used
_NOTED = 3600.0
#: what is left of the bound after room was made
_LEFT = 0.9


class FarBlobs:
    """See store.far.Far."""

    def __init__(
        self,
        layout: Layout,
        objects: Objects,
        blobs: RemoteBlobs,
        most: int,
        changed: Callable[[], bool],
        pull: Callable[[], None],
    ) -> None:
        """most: bytes of files that are kept
        changed: tells whether anybody has told of a change; pull: brings the copies up to date
        """
        self._objects = objects
        self._blobs = blobs
        self._hot = Hot(layout.root / "hot", layout.incoming, most)
        self._changed = changed
        self._pull = pull
        self._fully = time.monotonic()

    def hurried(self) -> contextlib.AbstractContextManager[None]:
        """See Far."""
        return self._blobs.hurried()

    def cached(self, digest: Digest) -> Path | None:
        """See Far."""
        path = self._blobs.path(digest)
        return path if path.exists() else self._hot.get(digest)

    def size(self, digest: Digest) -> int | None:
        """See Far."""
        return self._blobs.size_for_reading(digest)

    def fetch(self, digest: Digest, *, hot: bool) -> Path:
        """See Far."""
        if not hot:
            self._blobs.read(digest)
            return self._blobs.path(digest)
        return self._hot.put(digest, self._blobs.read_object(digest))

    async def stream(self, digest: Digest, start: int, count: int, size: int) -> AsyncIterator[bytes]:
        """See Far."""
        async for piece in self._objects.stream(key_of(digest), start, count, size):
            yield piece

    def begin(self, digest: Digest, size: int) -> "Filling":
        """See Far."""
        return Filling(self._hot, digest, size)

    def url(self, digest: Digest, lifetime: timedelta) -> str:
        """See Far."""
        return self._objects.sign("GET", key_of(digest), lifetime)

    def refresh(self) -> None:
        """See Far."""
        if self._changed() or time.monotonic() - self._fully >= _FULLY:
            self._pull()
            self._fully = time.monotonic()


class Hot:
    """Files that were asked for, `hot/ab/<64 hex>`, those used last; bounded."""

    def __init__(self, folder: Path, incoming: Path, most: int) -> None:
        self._folder = folder
        self._incoming = incoming
        self._most = most
        self._lock = threading.Lock()
        #: bytes that were added here since all was counted; None: not counted yet
        self._added: int | None = None

    def get(self, digest: Digest) -> Path | None:
        """The file of a blob, None if it is not kept."""
        path = self._path(digest)
        try:
            used = path.stat().st_mtime
        except FileNotFoundError:
            return None
        if (now := time.time()) - used > _NOTED:
            fs.touch(path, now, create=False)
        return path

    def has_room(self, size: int) -> bool:
        """Whether a blob of so many bytes would stay until the next one comes."""
        return size <= self._most * _LEFT

    def temporary(self) -> Path:
        """A name for a file on its way."""
        return self._incoming / f"put-{secrets.token_hex(8)}"

    def put(self, digest: Digest, data: bytes) -> Path:
        """Keep a blob."""
        temporary = self.temporary()
        fs.write_new(temporary, data, sync=False)
        return self.take(digest, temporary)

    def take(self, digest: Digest, temporary: Path) -> Path:
        """Keep a blob that is written, and make room for it. Takes as long as the disk does."""
        path = self._path(digest)
        fs.make_folder(path.parent)
        fs.sync_file(temporary)  # nobody reads all of it again: after a power cut it would be there, and empty
        fs.rename(temporary, path)
        with self._lock:
            added = path.stat().st_size
            self._added = None if self._added is None else self._added + added
            if self._added is None or self._added > self._most * (1 - _LEFT):
                self._added = 0
                threading.Thread(target=self._make_room, name="room", daemon=True).start()  # it looks at every file
        return path

    def _make_room(self) -> None:
        kept = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process of this machine makes room too
                status = path.stat()
                kept.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        if total <= self._most:
            return
        for _, size, path in sorted(kept):
            if total <= self._most * _LEFT:
                break
            fs.unlink(path)
            total -= size

    def _path(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name


class Filling:
    """See store.far.Filling. A full disk is no reason not to answer."""

    def __init__(self, hot: Hot, digest: Digest, size: int) -> None:
        self._hot = hot
        self._digest = digest
        self._path = hot.temporary()
        self._descriptor: int | None = None
        with self._harmless():
            self._descriptor = fs.open_new(self._path) if hot.has_room(size) else None

    def write(self, data: bytes) -> None:
        """See store.far.Filling."""
        with self._harmless():
            if self._descriptor is not None:
                fs.write_all(self._descriptor, data)

    def end(self, *, whole: bool) -> None:
        """See store.far.Filling."""
        if self._descriptor is None:
            return
        os.close(self._descriptor)
        self._descriptor = None
        if whole:
            threading.Thread(target=self._keep, name="keep", daemon=True).start()
        else:
            fs.unlink(self._path)

    def _keep(self) -> None:
        with self._harmless():
            self._hot.take(self._digest, self._path)

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DiskFull):
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            fs.unlink(self._path)
