"""Files that are fetched when somebody asks for them: sent on while they arrive, kept once they are what they should be.

There is one transfer of a file, whoever asks and however often: processes agree on it by the flock on the partial file,
and all of them read that file as it grows. The last bytes of every answer wait until the hash is right, so that nobody
takes a wrong file for a whole one. The process that fetches may be killed; then another one that needs the file goes on
where it ended.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .. import clock
from ..errors import AbsentError, DiskFull, LockedError, MismatchError, PlanTooLarge, SnapmirrorError
from ..store import fs
from ..store.live import Blocked, Lost
from ..store.store import Store
from ..transfer.download import Source, download
from ..transfer.hosts import CarefulHttp, Hosts
from ..transfer.http import HURRIED, Http
from ..transfer.notes import StoreNotes
from ..transfer.sessions import RefusedError
from ..transfer.settings import Download
from .answers import HIT, Refused
from .parts import send_file

_log = logging.getLogger(__name__)
#: bytes at the end of an answer that wait for the verdict on the file; smaller answers wait as a whole, and so can
#: still be refused with a status
_HELD_BACK = 64 << 10
#: seconds between two looks at a file that another process fetches
_TICK = 0.01
_MAX_FAILURES = 65_536
#: failures in a row after which a host is left alone, and for how many seconds
_PATIENCE = 4
_PAUSES = (10, 20, 40, 80, 160, 320, 600)

#: device and inode number
_Identity = tuple[int, int]


def hosts_of(store: Store) -> Hosts:
    """Which hosts one process leaves alone, for `status` to tell."""

    def now() -> float:
        return store.now().timestamp()

    def note(host: str, seconds: float, problem: str) -> None:
        """In a thread."""
        if not seconds:
            store.live.unblock(host)
            return
        until = clock.to_id(clock.from_seconds(int(now() + seconds)))
        _log.warning("%s is left alone until %s: %s", host, until, problem)
        store.live.block(Blocked(host=host, until=until, problem=problem))

    return Hosts(_PATIENCE, _PAUSES, now, note)


class Puller:
    """The transfers of one process."""

    def __init__(self, store: Store, settings: Download, hosts: Hosts) -> None:
        self._store = store
        self._http = CarefulHttp(hosts, settings.for_clients, _log.warning, StoreNotes(store), store.now, HURRIED)
        self._hosts = hosts
        self._running: dict[str, Transfer] = {}
        #: content -> (error, when it is forgotten)
        self._failures: dict[str, tuple[SnapmirrorError, float]] = {}

    def _now(self) -> float:
        return self._store.now().timestamp()

    def follow(self, source: Source, negative: float) -> "Transfer":
        """The transfer of a file, begun if nobody has.

        negative: seconds for which everybody is told so, once upstream has said that there is no such file or that it
            will not give it
        Raises Refused for such a file.
        """
        if failure := self._failures.get(source.content):
            error, until = failure
            if self._now() < until:
                refused = refusal(source, error)
                refused.cache = HIT
                raise refused
            del self._failures[source.content]
        transfer = self._running.get(source.content)
        if transfer is None:
            transfer = self._running[source.content] = Transfer(self._store, self._http, self._hosts, source)
            transfer.start(lambda: self._ended(source, transfer.error, negative))
        return transfer

    def _ended(self, source: Source, error: SnapmirrorError | None, negative: float) -> None:
        del self._running[source.content]
        if error is None:
            return
        _log.error("%s can't be had: %s", source.file.name, error)
        if isinstance(error, AbsentError | MismatchError | RefusedError):
            if len(self._failures) >= _MAX_FAILURES:
                del self._failures[next(iter(self._failures))]
            self._failures[source.content] = (error, self._now() + negative)

    def forgive(self) -> None:
        """Forget failures: a sync may have found out more."""
        self._failures.clear()

    def close(self) -> None:
        """End what is under way; what has arrived is kept."""
        self._http.stop()
        self._http.pool.shutdown(cancel_futures=True)


class Transfer:
    """A file on its way into the store, by this process or another one. All but `_fetch` happens in the event loop."""

    def __init__(self, store: Store, http: Http, hosts: Hosts, source: Source) -> None:
        assert source.file.sha256 is not None
        self.source = source
        #: the partial file, once something has arrived for it: what an earlier transfer left may have to be thrown away
        self.growing: _Identity | None = None
        #: the file that has proved right
        self.right: _Identity | None = None
        self.error: SnapmirrorError | None = None
        #: answers that it was or is for
        self.followers = 0
        #: when this process began to ask upstream, and when that was over
        self._asked: float | None = None
        self._answered: float | None = None
        self._store = store
        self._http = http
        self._hosts = hosts
        self._digest = source.file.sha256
        self._paths = (store.layout.incoming / source.content, store.blobs.path(self._digest))
        self._seen = (0, 0)
        self._pulse = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self, ended: Callable[[], None]) -> None:
        """Begin. ended: told when it is over"""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: ended())
        self._task.add_done_callback(lambda _: self._beat())

    async def _run(self) -> None:
        try:
            while True:
                if await self._attempt():
                    break
                await asyncio.sleep(_TICK)
        except SnapmirrorError as error:
            self.error = error
        except Exception as error:
            _log.exception("%s", self.source.file.name)
            self.error = SnapmirrorError(f"internal error: {error}")

    async def _attempt(self) -> bool:
        """Fetch it, unless somebody does; whether the store has it now."""
        fetching = self._loop.run_in_executor(self._http.pool, self._fetch)
        while not fetching.done() and self._asked is None:  # all threads may be busy, while another process fetches it
            await asyncio.wait({fetching}, timeout=_TICK)
            self._look()
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
        self._refuse_too_large()
        incoming = self._store.layout.incoming
        try:
            staged = download(self._http, incoming, self.source, self._arrived, self._hosts, self._needless)
        except AbsentError as error:
            since = clock.to_id(self._store.now())
            with contextlib.suppress(DiskFull):  # it is lost all the same
                self._store.live.lose(self._digest, Lost(name=self.source.file.name, since=since, problem=str(error)))
            raise
        finally:
            self._answered = time.monotonic()
        self._store.live.find(self._digest)
        try:
            self._prove(staged.path)
            self._store.fetched.add(self._digest)
            self._store.admit([staged])
        except DiskFull:
            fs.unlink(staged.path)
            raise
        finally:
            staged.release()

    def _arrived(self, _: int) -> None:
        """In a thread."""
        with contextlib.suppress(FileNotFoundError):
            self.growing = _identity(os.stat(self._paths[0]))
        self._loop.call_soon_threadsafe(self._beat)

    def _needless(self) -> bool:
        """Whether the store has got it meanwhile; else it is this process that asks upstream now."""
        if self._held():
            return True
        self._asked = time.monotonic()
        return False

    @property
    def upstream(self) -> float | None:
        """Seconds that upstream has taken; None if this process has not asked it."""
        return None if self._asked is None else (self._answered or time.monotonic()) - self._asked

    def _refuse_too_large(self) -> None:
        """Raise PlanTooLarge if the file would not leave `min_free`, as a sync does."""
        disk = shutil.disk_usage(self._store.layout.root)
        size, available = self.source.file.size or 0, disk.free - self._http.settings.free_of(disk.total)
        if size > available:
            raise PlanTooLarge(self.source.file.name, size, max(available, 0))

    def _held(self) -> bool:
        return self._store.blobs.size(self._digest) is not None

    def _find(self) -> bool:
        """Whether the store has it."""
        try:
            self._prove(self._paths[1])
        except FileNotFoundError:
            return False
        return True

    def _prove(self, path: Path) -> None:
        """A file is the right one; nobody needs to wait until it is durable."""
        self.right = _identity(os.stat(path))
        self._loop.call_soon_threadsafe(self._beat)

    def _look(self) -> None:
        """Wake who waits if there is more."""
        try:
            status = os.stat(self._paths[0])
        except FileNotFoundError:
            if self.right is None:
                self._find()  # another process may have finished it while all our threads are busy with others
            return
        seen = (status.st_ino, status.st_size)
        if seen != self._seen:
            self.growing = _identity(status) if self._seen[0] == status.st_ino else None
            self._seen = seen
            self._beat()

    def _beat(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def more(self) -> None:
        """Wait until something has changed. Raises Refused if nothing will."""
        if self.error:
            raise refusal(self.source, self.error)
        if self._task.done():
            raise Refused(503, f"{self.source.file.name}: was fetched and is gone again")
        await self._pulse.wait()

    async def whole(self) -> None:
        """Wait until it is in the store. Raises Refused."""
        await asyncio.wait({self._task})
        if self.error:
            raise refusal(self.source, self.error)

    def open(self) -> int | None:
        """The file as far as it is there, the right one if that is known; None if nothing is yet."""
        for path in self._paths:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if self.right in (None, _identity(os.fstat(descriptor))):
                return descriptor
            os.close(descriptor)  # a partial that a killed process has left, while the file came in another way
        return None


class Coming:
    """A part of a file that is on its way. Fulfils parts.Part, and answers.Cache."""

    def __init__(self, transfer: Transfer, start: int, length: int | None) -> None:
        """length: None up to the end, wherever that will be"""
        self._transfer = transfer
        self._first = transfer.followers == 0
        transfer.followers += 1
        self._start = self._at = start
        self._stop = None if length is None else start + length
        self._descriptor: int | None = None
        #: whether bytes of the opened file were sent: then no other one will do
        self._bound = False

    async def begin(self) -> None:
        """Wait until there is something to send. Raises Refused if there will be nothing, and then is closed."""
        try:
            await self._ready()
        except BaseException as error:
            if isinstance(error, Refused):
                error.cache = self
            self.close()
            raise

    async def end(self) -> None:
        """Wait until the file is in the store. Raises Refused."""
        await self._transfer.whole()

    @property
    def status(self) -> str:
        """See Cache."""
        return "miss" if self.upstream is not None else "follow"

    @property
    def upstream(self) -> float | None:
        """See Cache."""
        return self._transfer.upstream if self._first else None

    @property
    def sent(self) -> int:
        """See Part."""
        return self._at - self._start

    def _count(self, step: int) -> None:
        self._at += step

    async def send(self, transport: asyncio.Transport) -> bool:
        """See Part.send."""
        try:
            while ready := await self._ready():
                count = ready - self._at
                self._bound = True
                if self._stop is None:
                    transport.write(b"%x\r\n" % count)
                assert self._descriptor is not None
                await send_file(transport, self._descriptor, self._at, count, self._count)
                if self._at != ready:
                    return False
                if self._stop is None:
                    transport.write(b"\r\n")
        except Refused:
            return False
        if self._stop is None:
            transport.write(b"0\r\n\r\n")
        return True

    async def _ready(self) -> int:
        """The position up to which bytes can be sent, 0 at the end. Raises Refused if the rest will never come."""
        while (ready := self._look()) is None:
            await self._transfer.more()
        return ready

    def _look(self) -> int | None:
        """As _ready; None if nothing can be sent now."""
        if self._descriptor is None and (descriptor := self._transfer.open()) is not None:
            self._descriptor = descriptor
        if self._descriptor is None:
            return None
        status = os.fstat(self._descriptor)
        right = self._transfer.right
        if right == _identity(status):
            stop = status.st_size if self._stop is None else min(self._stop, status.st_size)
            return stop if stop > self._at else 0
        if right or status.st_nlink == 0:  # the transfer began anew, or another one was faster
            if self._bound:
                raise Refused(502, f"{self._transfer.source.file.name}: the transfer began anew")
            self.close()
            return self._look() if right else None
        if self._transfer.growing != _identity(status):
            return None
        stop = min(status.st_size, (status.st_size if self._stop is None else self._stop) - _HELD_BACK)
        return stop if stop > self._at else None

    def close(self) -> None:
        """See Part.close."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def refusal(source: Source, error: SnapmirrorError) -> Refused:
    """The answer for a file that can't be had."""
    if isinstance(error, AbsentError):
        return Refused(404, f"{source.file.name}: upstream has lost it, and nobody had asked for it before: {error}")
    if isinstance(error, DiskFull | PlanTooLarge):
        return Refused(507, f"{source.file.name}: this mirror has no room for it")
    return Refused(502, f"{source.file.name}: {error}")
