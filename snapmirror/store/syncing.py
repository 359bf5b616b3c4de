"""What running syncs are about to publish: roots of gc until they are sealed (man snapmirror-store, SYNCING ENTRIES).

An entry is `syncing/<random>.json`, flocked by its sync. An entry whose lock is held is alive however old; a dead one
is kept for seven days, so that the next sync finds what was fetched.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..digests import Digest
from . import fs, locks
from .directories import Directory
from .layout import Layout
from .records import Hex, decode

_KEPT_SECONDS = 7 * 86400


class Planned(msgspec.Struct, frozen=True):
    """A directory before it is finished, when it is no blob yet; its buckets and leaves are."""

    kind: str
    mode: str
    buckets: list[Hex]


class SyncingEntry(NamedTuple):
    """One entry as gc sees it."""

    path: Path
    directories: tuple[Digest, ...]
    planned: tuple[Planned, ...]
    alive: bool
    #: seconds since it was last written
    age: float

    @property
    def expired(self) -> bool:
        """Whether its sync has died, so long ago that nobody is going to resume it."""
        return not self.alive and self.age >= _KEPT_SECONDS


class _Content(msgspec.Struct):
    directories: list[Hex]
    planned: list[Planned]


class Registration:
    """The entry of one sync. Call `write` only while holding the store's lock."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.syncing / f"{secrets.token_hex(8)}.json"
        self._descriptor: int | None = None

    def write(self, directories: Iterable[Digest], planned: Iterable[Directory] = ()) -> None:
        """Make these directories, and all that they refer to, roots of gc, instead of those written before; durable on return.

        directories: finished ones, which are blobs; planned: unfinished ones, whose buckets are
        """
        self.verify()
        plans = [Planned(one.kind, one.mode, [bucket.hex() for bucket in one.buckets]) for one in planned]
        content = msgspec.json.encode(_Content([digest.hex() for digest in directories], plans))
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        fs.write_new(temporary, content)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)  # NFS gives no exclusive lock on what is only read
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # before it has its name, so that nobody sees it dead
        fs.rename(temporary, self.path)
        self._release()  # of the file that had the name before
        self._descriptor = descriptor
        fs.sync_folder(self.path.parent)
        self._publish(content)

    def verify(self) -> None:
        """See that what was written is a root still, before something is published that counts on it: on a disk it is, for the
        lock tells that we live. Raises ObjectError.
        """

    @property
    def stands(self) -> bool:
        """Whether it was written, and neither removed nor abandoned since."""
        return self._descriptor is not None

    def _publish(self, content: bytes) -> None:
        """Let other machines know. On a disk that is done."""

    def remove(self) -> None:
        """All is sealed: take the entry away."""
        fs.unlink(self.path)
        self._release()

    def abandon(self) -> None:
        """Leave the entry as a dead one: what was fetched stays for the next sync."""
        self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def entries(layout: Layout) -> Iterator[SyncingEntry]:
    """Every entry, dead ones too. Raises DamagedError if one can't be read: it is a root."""
    for path in sorted(layout.syncing.glob("[!.]*.json")):  # one with a dot has not been registered
        try:
            content: _Content = decode(path.read_bytes(), _Content, f"syncing/{path.name}")
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # its sync has just sealed
        directories = tuple(bytes.fromhex(digest) for digest in content.directories)
        yield SyncingEntry(path, directories, tuple(content.planned), locks.is_held(path), age)


def any_alive(layout: Layout, besides: Iterable[str] = ()) -> bool:
    """Whether anybody holds a lock in `locks/`: a sync, or whoever makes trees or the index. besides: paths of repos that
    do not count, because their locks are the caller's own.
    """
    own = {layout.opening_lock, *(layout.repo_lock(repo) for repo in besides)}
    return any(path not in own and locks.is_held(path) for path in layout.locks.iterdir())
