"""Files that are fetched when somebody asks for them, and kept once they are what they should be.

There is one transfer of a file, whoever asks and however often: processes agree on it by the flock on the partial file,
and all of them read that file as it grows (see `coming`). The process that fetches may be killed; then another one that
needs the file goes on where it ended.
"""

import asyncio
import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .. import clock
from ..digests import blake3_of
from ..errors import (
    AbsentError,
    DiskFull,
    LockedError,
    MismatchError,
    PlanTooLarge,
    SnapmirrorError,
    StoreError,
    without_frames,
)
from ..store import fs
from ..store.live import Blocked, Lost
from ..store.store import Store
from ..transfer.download import Source, download
from ..transfer.hosts import CarefulHttp, Hosts
from ..transfer.http import HURRIED, Http
from ..transfer.notes import StoreNotes
from ..transfer.sessions import RefusedError
from ..transfer.settings import Download, host_name
from .answers import HIT, Refused
from .settings import Origin
from .turns import Turns

_log = logging.getLogger(__name__)
#: seconds between two looks at a file that another process fetches
_TICK = 0.01
#: looks at it between two tries to fetch it ourselves
_LOOKS = 20
#: seconds for which a server that is about to end waits for the next byte
_LAST_WAIT = 5.0
_MAX_FAILURES = 65_536
#: failures in a row after which a host is left alone
_PATIENCE = 4
#: seconds for which it is left alone then, and after each further failure
_PAUSES = (10, 20, 40, 80, 160, 320, 600)

#: device and inode number
_Identity = tuple[int, int]
#: a file and where it is looked for: that one upstream does not have it tells nothing of another
_Key = tuple[str, ...]


def hosts_of(store: Store) -> Hosts:
    """Which hosts one process leaves alone. They are noted in `live/`, for `snapmirror status`."""

    def now() -> float:
        return store.now().timestamp()

    def note(host: str, seconds: float, problem: str) -> None:
        """In a thread."""
        until = clock.to_id(clock.from_seconds(int(now() + seconds)))
        if seconds:
            _log.warning("%s is left alone until %s: %s", host, until, problem)
        with contextlib.suppress(OSError, DiskFull):  # that it can't be noted is no reason not to answer
            if seconds:
                store.live.note_blocked(Blocked(host=host, until=until, problem=problem))
            else:
                store.live.drop_blocked(host)

    return Hosts(_PATIENCE, _PAUSES, now, note)


class _Means(NamedTuple):
    """What the transfers of one process share."""

    store: Store
    http: Http
    hosts: Hosts
    turns: Turns


class Puller:
    """The transfers of one process."""

    def __init__(
        self, store: Store, settings: Download, hosts: Hosts, told: Callable[["Transfer"], None] = lambda transfer: None
    ) -> None:
        """told: called with each transfer that is over"""
        settings = settings.for_clients
        http = CarefulHttp(hosts, settings, _log.warning, StoreNotes(store), store.now, HURRIED)
        self._means = _Means(store, http, hosts, Turns(settings.per_host, "pull"))
        self._told = told
        self._running: dict[_Key, Transfer] = {}
        #: (error, until when it is believed, seconds since 1970)
        self._failures: dict[_Key, tuple[SnapmirrorError, float]] = {}
        #: of transfers that begin from now on
        self._patience: float | None = None

    def _now(self) -> float:
        return self._means.store.now().timestamp()

    def check(self, source: Source, origin: Origin) -> None:
        """Raise Refused for a file that upstream did not have, or did not give us, less than `origin.negative` ago."""
        error, until = self._failures.get(_key(source, origin), (None, 0.0))
        if error and 0 < until - self._now() <= origin.negative:  # more: the clock was set back
            refused = _refusal(source, error)
            refused.cache = HIT
            raise refused

    def follow(self, source: Source, origin: Origin) -> "Transfer":
        """The transfer of a file, begun if nobody has. Raises Refused as `check` does."""
        self.check(source, origin)
        key = _key(source, origin)
        transfer = self._running.get(key)
        if transfer is None:
            transfer = self._running[key] = Transfer(self._means, source, self._patience)
            transfer.start(lambda: self._ended(key, transfer, origin.negative))
        return transfer

    def _ended(self, key: _Key, transfer: "Transfer", negative: float) -> None:
        error = transfer.error
        self._told(transfer)
        del self._running[key]
        self._failures.pop(key, None)
        if error is None:
            return
        _log.error("%s can't be had: %s", transfer.source.file.name, error)
        if isinstance(error, AbsentError | MismatchError | RefusedError):
            if len(self._failures) >= _MAX_FAILURES:
                del self._failures[next(iter(self._failures))]
            self._failures[key] = (without_frames(error), self._now() + negative)

    def forgive(self) -> None:
        """Forget failures: there is a new snapshot, and that sync may have found out more."""
        self._failures.clear()

    def drain(self) -> None:
        """The server is about to end: from now on nobody waits for long for an upstream that is silent."""
        self._patience = _LAST_WAIT
        for transfer in self._running.values():
            transfer.hurry(_LAST_WAIT)

    async def close(self) -> None:
        """End what is under way without waiting for upstreams. What has arrived is kept; what is whole is still admitted."""
        self._means.http.stop()
        self._means.turns.close()
        for transfer in [one for one in self._running.values() if one.right]:
            await transfer.end()


def _key(source: Source, origin: Origin) -> _Key:
    return source.key, *source.urls, *origin.upstreams


class Transfer:
    """A file on its way into the store, by this process or another one. All but `_fetch` happens in the event loop."""

    def __init__(self, means: _Means, source: Source, patience: float | None) -> None:
        """patience: seconds to wait for the next byte, None for as long as it is fetched"""
        assert source.file.sha256 is not None
        self.source = source
        #: the partial file, once bytes have arrived for it: those that it had before may have to be thrown away
        self.growing: _Identity | None = None
        #: the file, partial or blob, once it has proved right, and what it is opened as: gc may remove it before anybody has
        #: read it, and another one would get its inode number
        self.right: _Identity | None = None
        self._opened: int | None = None
        #: why it can't be had
        self.error: SnapmirrorError | None = None
        #: how many answers it was or is for
        self.followers = 0
        #: when this process began to ask upstream, and when that was over (time.monotonic)
        self._asked: float | None = None
        self._answered: float | None = None
        self._patience = patience
        self._means = means
        self._store = means.store
        self._digest = source.file.sha256
        self._partial = self._store.layout.incoming / source.content
        self._blob = self._store.blobs.path(self._digest)
        #: inode number and size of the partial when it was last looked at
        self._seen = (0, 0)
        #: set, and replaced by another one, whenever something has changed
        self._pulse = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self, ended: Callable[[], None]) -> None:
        """Begin. ended: called when it is over"""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: ended())
        self._task.add_done_callback(lambda _: self._beat())

    async def _run(self) -> None:
        try:
            while not await self._attempt():
                for _ in range(_LOOKS):
                    await asyncio.sleep(_TICK)
                    self._look()
        except SnapmirrorError as error:
            self.error = error
        except OSError as error:  # of our disk: those of upstreams are UpstreamErrors by then
            problem = f"can't be written: {error.strerror or error}"
            self.error = StoreError(Path(error.filename or self._store.layout.root), problem)
        except Exception as error:
            _log.exception("%s", self.source.file.name)
            self.error = SnapmirrorError(f"internal error: {error}")

    async def _attempt(self) -> bool:
        """Try to fetch it. Whether the store has it now; if not, another process is fetching it."""
        host = host_name(self.source.urls[0])
        fetching = asyncio.ensure_future(self._means.turns.run(host, self._fetch))
        pause = _TICK
        while not fetching.done() and self._asked is None:  # another process may fetch it before it is our turn
            await asyncio.wait({fetching}, timeout=pause)
            self._look()
            pause = min(2 * pause, _LOOKS * _TICK)  # hundreds may wait, and their looks take the time of those who have a turn
        try:
            await fetching
        except LockedError:
            self._look()
            return self._find()
        return True

    def _fetch(self) -> None:
        """In a thread."""
        if self._find():
            return
        incoming, source = self._store.layout.incoming, replace(self.source, awaited=True)
        try:
            staged = download(self._means.http, incoming, source, self._arrived, self._means.hosts, self._needless)
        except AbsentError as error:
            since = clock.to_id(self._store.now())
            with contextlib.suppress(OSError, DiskFull):  # it is lost all the same
                self._store.live.note_lost(self._digest, Lost(name=self.source.file.name, since=since, problem=str(error)))
            raise
        finally:
            if self._asked is not None:
                self._answered = time.monotonic()
        try:
            self._prove(staged.path)
            self._store.live.drop_lost(self._digest)
            self._store.fetched.add(self._digest)
            self._store.admit([staged._replace(blake3=blake3_of(staged.path))])
        except DiskFull:
            fs.unlink(staged.path)
            raise
        finally:
            staged.release()

    def _arrived(self, _: int) -> None:
        """In a thread."""
        with contextlib.suppress(FileNotFoundError):
            self.growing = identity(os.stat(self._partial))
        self._loop.call_soon_threadsafe(self._beat)

    def _needless(self) -> bool:
        """Whether the store has got it meanwhile. If not, this process asks upstream now: the partial is ours. In a thread.

        Raises PlanTooLarge.
        """
        if self._store.blobs.size(self._digest) is not None:
            return True
        self._refuse_too_large()
        self._asked = time.monotonic()
        return False

    @property
    def size(self) -> int:
        """Bytes of the file, once it is in the store."""
        return self._store.blobs.size(self._digest) or 0

    @property
    def upstream(self) -> float | None:
        """Seconds that upstream has taken so far; None if this process has not asked it."""
        return None if self._asked is None else (self._answered or time.monotonic()) - self._asked

    def _refuse_too_large(self) -> None:
        """Raise PlanTooLarge if what the partial lacks would not leave `min_free` on the disk, as a sync does."""
        present, available = self._partial.stat().st_size, self._store.room(self._means.http.settings.room)
        missing = (self.source.file.size or 0) - present
        if missing > available:
            if not present:
                fs.unlink(self._partial)
            raise PlanTooLarge(self.source.file.name, missing, available)

    def _find(self) -> bool:
        """Whether the store has it; then that is the right file."""
        try:
            self._prove(self._blob)
        except FileNotFoundError:
            return False
        return True

    def _prove(self, path: Path) -> None:
        """Note that a file is the right one: who waits may have all of it, before it is durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self._opened, self.right = descriptor, identity(os.fstat(descriptor))
        self._loop.call_soon_threadsafe(self._beat)

    def _look(self) -> None:
        """See whether another process has brought more of it, and wake who waits."""
        try:
            status = os.stat(self._partial)
        except FileNotFoundError:
            if self.right is None:
                self._find()  # another process may have finished it
            return
        seen = (status.st_ino, status.st_size)
        if seen != self._seen:
            self.growing = identity(status) if self._seen[0] == status.st_ino else None
            self._seen = seen
            self._beat()

    def hurry(self, patience: float) -> None:
        """From now on nobody waits for the next byte for more than so many seconds."""
        self._patience = patience
        self._beat()

    def _beat(self) -> None:
        """Wake who waits."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def more(self) -> None:
        """Wait until something has changed. Raises Refused if nothing will."""
        if self.error:
            raise _refusal(self.source, self.error)
        if self._task.done():
            raise Refused(503, f"{self.source.file.name}: was fetched and is gone again")
        try:
            async with asyncio.timeout(self._patience):
                await self._pulse.wait()
        except TimeoutError:
            raise Refused(503, f"{self.source.file.name}: this server is about to end, and upstream is silent") from None

    async def end(self) -> None:
        """Wait until it is over, however that may be."""
        await asyncio.wait({self._task})

    async def whole(self) -> None:
        """Wait until it is in the store. Raises Refused."""
        while not self._task.done():
            await self.more()
        if self.error:
            raise _refusal(self.source, self.error)

    def open(self) -> int | None:
        """Open the file as far as it is there, the right one if that is known; None if there is none yet."""
        for path in (self._partial, self._blob):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if self.right in (None, identity(os.fstat(descriptor))):
                    return descriptor
                os.close(descriptor)
        # By its path, if it still has one: what is made by dup has one position for all, and sendfile moves it.
        return None if self._opened is None else os.dup(self._opened)


def identity(status: os.stat_result) -> _Identity:
    """What tells a file from any other, whatever its name is by now."""
    return status.st_dev, status.st_ino


def _refusal(source: Source, error: SnapmirrorError) -> Refused:
    """The answer for a file that can't be had: 404 lost, 507 no room, 502 anything else."""
    if isinstance(error, AbsentError):
        return Refused(404, f"{source.file.name}: upstream has lost it, and nobody had asked for it before: {error}")
    if isinstance(error, DiskFull):
        return Refused(507, f"{source.file.name}: this mirror has no room for it: no space left on its disk")
    if isinstance(error, PlanTooLarge):
        return Refused(507, f"{source.file.name}: this mirror has no room for it beside what it keeps free")
    return Refused(502, f"{source.file.name}: {error}")
