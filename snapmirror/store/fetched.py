"""Which blobs were fetched because somebody asked for them, and when they were last wanted: `live/fetched/ab/<64 hex>`.

Each is an empty file whose modification time is the last use. The blob's own times will not do: that of its modification says
since when it is stored, that of its last access is changed by every backup, or by nobody where noatime is set. What has no
such file was brought otherwise, and is never dropped to make room.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from .. import clock
from ..digests import Digest, is_hex_digest
from ..errors import DiskFull
from . import fs
from .layout import Layout

_DAY = 86400
#: seconds between two looks at what day it is: each costs a fiftieth of the time in which a small file is sent
_SURE = 1.0
#: blobs of which a process remembers that their use is noted
_MOST = 65_536


class Fetched:
    """Reads and writes the files; several processes may at once."""

    def __init__(self, layout: Layout, now: clock.Clock) -> None:
        self._folder = layout.live / "fetched"
        self._now = now
        self._noted: set[Digest] = set()
        self._day = 0
        self._sure = 0.0

    def add(self, digest: Digest) -> None:
        """Note that a blob was fetched, before it gets its name: after a crash a blob without a note would stay for ever."""
        path = self._path(digest)
        fs.make_folder(path.parent)
        fs.touch(path, self._now().timestamp(), create=True)

    def use(self, digest: Digest) -> None:
        """Note that a blob is wanted, if it was fetched; that costs a system call a day. Call it from one thread only."""
        if digest in self._noted and time.monotonic() < self._sure:
            return
        now = self._now().timestamp()
        self._sure = time.monotonic() + _SURE
        if int(now) // _DAY != self._day or len(self._noted) >= _MOST:
            self._day = int(now) // _DAY
            self._noted.clear()
        if digest not in self._noted:
            self._noted.add(digest)
            with contextlib.suppress(OSError, DiskFull):  # no reason not to answer
                fs.touch(self._path(digest), now, create=False)

    def remove(self, digest: Digest) -> None:
        """Remove the note of a blob, before the blob goes: what a sync brings later under that name was not fetched."""
        fs.unlink(self._path(digest))

    def list(self) -> dict[Digest, float]:
        """When each was last wanted, seconds since 1970."""
        found = {}
        for path in self._folder.glob("??/*"):
            if is_hex_digest(path.name):
                with contextlib.suppress(FileNotFoundError):  # gc has removed it meanwhile
                    found[bytes.fromhex(path.name)] = path.stat().st_mtime
        return found

    def tidy(self, older: float, held: Callable[[Digest], bool]) -> None:
        """Remove the notes of blobs that are not held, last wanted over `older` seconds ago: later ones may be on their way."""
        limit = self._now().timestamp() - older
        for digest, used in self.list().items():
            if used < limit and not held(digest):
                self.remove(digest)

    def _path(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name
