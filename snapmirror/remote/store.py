"""One opened store whose bytes are objects. What differs from one on a disk is here; all else is done on the cache's copies."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import msgspec

from .. import clock
from ..digests import Digest, sha256
from ..errors import LockedError, ObjectError, Overtaken, StoreError
from ..store import fs, layout, locks, reindex
from ..store.blobs import Staged
from ..store.denied import Denied
from ..store.directories import Metadata
from ..store.index import BlobRow, LeafKey
from ..store.layout import Layout
from ..store.records import Hex
from ..store.snapshots import Snapshots
from ..store.store import Store
from ..store.syncing import Registration
from .blobs import RemoteBlobs
from .copies import Copies, Swept, number_of, swept_key
from .far import FarBlobs
from .files import RemoteFiles
from .lease import Lease
from .objects import FORMAT_KEY, Objects
from .probe import PROBES, probe
from .settings import S3, Address

if TYPE_CHECKING:
    from ..store.signatures import PrivateKey

_CONDEMNED = "condemned.json"
#: seconds after which a running sync says again what it is about to publish: a gc takes entries for dead after seven days
_SAID_AGAIN = 86400.0
#: for which lists of what was removed are kept; a cache that has not seen them for longer is begun anew
_SWEPT_KEPT = timedelta(days=90)
#: so many blobs unknown to the index are asked for one by one; for more, all are listed
_FEW = 1000


class _Condemned(msgspec.Struct):
    """What `condemned.json` holds."""

    #: since when nothing refers to a blob, seconds since 1970 by the service's clock
    since: dict[Hex, float] = {}


class RemoteStore(Store):
    """Fulfils what `store.store.Store` does. Its `layout` is that of the cache."""

    blobs: RemoteBlobs
    far: FarBlobs

    def __init__(
        self, cache: Layout, objects: Objects, now: clock.Clock, key: "PrivateKey | None" = None, hot: int = 0
    ) -> None:
        """hot: bytes of files that a server keeps in the cache"""
        super().__init__(cache, now, key)
        self.objects = objects
        self._ahead: timedelta | None = None
        #: whether anything was removed since the lock was taken
        self._removing_now = False
        self._registrations = WeakSet[_Registration]()
        self._lease = Lease(objects, now)
        self._copies = Copies(cache, objects, now, self._forget, self._start_over)
        files = RemoteFiles(cache, objects, self._lease, self._copies)
        self.blobs = RemoteBlobs(cache, objects, self._lease.delete, self._clock_ahead, self._row, self._removing)
        self.metadata = Metadata(self.blobs)
        self.snapshots = Snapshots(cache, key, files)
        self.denied = Denied(cache, files)
        self.far = FarBlobs(cache, objects, self.blobs, hot, self._copies.changed, self._copies.pull)

    @classmethod
    def open_remote(
        cls,
        address: Address,
        settings: S3,
        cache: Path,
        *,
        write: bool,
        now: clock.Clock = clock.now,
        index: Path | None = None,
        key: "PrivateKey | None" = None,
        hot: int = 0,
    ) -> "RemoteStore":
        """Open a store, and bring its copies up to date. The arguments are those of `Store.open`, and the cache's folder, and
        how many bytes of files a server keeps in it.

        Raises ObjectError, StoreError if there is none, it is of an unknown format, or is not fit for several writers.
        """
        objects = Objects(address, settings)
        try:
            paths = Layout(cache, index)
            _begin_cache(paths, objects)
            if write:
                probe(objects, rounds=1)
            store = cls(paths, objects, now, key, hot)
            if store._copies.changed():
                store._copies.pull()
        except BaseException:
            objects.close()
            raise
        return store

    @classmethod
    def create_remote(cls, address: Address, settings: S3, now: clock.Clock = clock.now) -> bool:
        """Make an empty store below a prefix unless there is one; whether it was made.

        Raises ObjectError if there is anything else, or two writers could publish at once there.
        """
        objects = Objects(address, settings)
        try:
            if objects.get(FORMAT_KEY) is not None:
                return False
            other = next((one for one in objects.list("") if not one.key.startswith(PROBES)), None)
            if other is not None:
                if objects.get(FORMAT_KEY) is not None:  # another machine was a moment faster
                    return False
                problem = f"is neither a store nor empty, for it holds {other.key}; choose another prefix for `store`"
                raise ObjectError(str(address), "", problem)
            probe(objects, rounds=3)
            return objects.create(FORMAT_KEY, layout.format_of(now()))
        finally:
            objects.close()

    @classmethod
    def there(cls, address: Address, settings: S3) -> bool:
        """Whether there is a store below a prefix. Raises ObjectError if that can't be told."""
        objects = Objects(address, settings)
        try:
            return objects.get(FORMAT_KEY) is not None
        finally:
            objects.close()

    def close(self) -> None:
        super().close()
        self.objects.close()

    @contextlib.contextmanager
    def lock_only(self, waiting: locks.Waiting | None) -> Iterator[None]:
        with super().lock_only(waiting), self._lease.hold(waiting):
            self._copies.pull()
            self._removing_now = False
            yield
            if self._removing_now and not self._lease.doubtful:  # else a request may still be under way
                self._list_removed(())  # what the list before it names is gone, and stays if it comes again

    def registration(self) -> Registration:
        made = _Registration(self.layout, self.objects, self._lease)
        self._registrations.add(made)
        return made

    def drop_registration(self, entry: Path) -> None:
        self._lease.delete(_syncing_key(entry))
        super().drop_registration(entry)

    def room(self, on_disk: Callable[[Path], int]) -> int:
        return 1 << 62

    # What is held: the index knows, for only who removes blobs tells of it

    def held(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        wanted, swept = set(digests), self._copies.swept
        found = self.index.held(wanted)
        unknown = wanted - found.keys()
        if len(unknown) > _FEW:
            rows = {blob.digest: BlobRow(blob.size) for blob in self.blobs.list() if blob.digest in unknown}
        else:
            sizes = zip(unknown, self.objects.threads.map(self.blobs.ask, unknown), strict=True)
            rows = {digest: BlobRow(size) for digest, size in sizes if size is not None}
        return found | {digest: row.size for digest, row in self._still_there(rows, swept).items()}

    def put(self, data: Sequence[bytes]) -> None:
        swept, named = self._copies.swept, {sha256(one): one for one in data}
        held = self.index.held(named)
        self.blobs.upload({digest: one for digest, one in named.items() if digest not in held})
        self._still_there({digest: BlobRow(len(one)) for digest, one in named.items() if digest not in held}, swept)
        self.blobs.keep(data)

    def admit(self, staged: Sequence[Staged]) -> None:
        for registration in list(self._registrations):  # a first sync may take weeks
            if registration.is_old:
                with contextlib.nullcontext() if self._lease.held else self.lock_only(lambda _: None):
                    registration.say_again()
        swept = self._copies.swept
        self.blobs.admit(staged)
        there = self._still_there({one.sha256: BlobRow(one.size, one.blake3) for one in staged}, swept)
        if others := {one.other: one.sha256 for one in staged if one.other and one.sha256 in there}:
            self.index.put_blobs({}, others)

    def _still_there(self, rows: Mapping[Digest, BlobRow], swept: int) -> dict[Digest, BlobRow]:
        """Enter blobs that were there when a list of what was removed had been applied, but for those that it or later ones
        name: a gc elsewhere may take them yet, and whoever applied the list on this machine has taken out their rows before
        they were entered.
        """
        index = self.index  # first: making a missing one waits for what is held below
        with self._copies.still():
            gone = self._copies.in_doubt(swept) if rows else set()
            there = {digest: row for digest, row in rows.items() if digest not in gone}
            if there:
                index.put_blobs(there)
        return there

    def drop_absent(self, digests: Iterable[Digest]) -> None:
        """A row is entered only while nobody takes any out."""

    def leaves(self, digests: Mapping[LeafKey, Digest]) -> dict[LeafKey, Digest]:
        return self.index.leaves(digests)

    # What goes

    def remove(self, digests: Sequence[Digest]) -> int:
        self.announce(digests)
        return self.blobs.delete_many(digests)

    def announce(self, digests: Sequence[Digest]) -> None:
        """Others' indexes are told before the blobs go, as our own is."""
        self._removing_now = True
        self._list_removed(digests)
        self._forget(digests)

    def _list_removed(self, digests: Sequence[Digest]) -> None:
        lists = list(self.objects.list("swept"))
        newest = max((number_of(one.key) for one in lists), default=0)
        content = msgspec.json.encode(Swept([digest.hex() for digest in digests]))
        # A service may carry out what it began to receive in time, a minute later: others may have read that list by then.
        if not self._lease.create(swept_key(newest + 1), content):
            raise Overtaken(f"the store {self.objects.address}")
        self._copies.tell()
        for one in lists:
            if self.now() - self._clock_ahead() - one.modified > _SWEPT_KEPT:
                self._lease.delete(one.key)

    def _build_index(self) -> tuple[int, int]:
        """What is removed while all blobs are listed is taken out by the next `Copies.pull`."""
        known = self._copies.swept
        done = super()._build_index()
        self._copies.rewind(known)
        return done

    def ripe(self, unused: Mapping[Digest, int], limit: float) -> dict[Digest, int]:
        if limit == float("inf"):
            return dict(unused)
        since, ahead = self._condemned(), self._clock_ahead().total_seconds()
        names = {digest: digest.hex() for digest in unused}
        return {digest: unused[digest] for digest, name in names.items() if name in since and since[name] + ahead < limit}

    def condemn(self, unused: Collection[Digest]) -> None:
        since, present = self._condemned(), (self.now() - self._clock_ahead()).timestamp()
        noted = {name: since.get(name, present) for name in (digest.hex() for digest in unused)}
        if noted != since:
            self._lease.put(_CONDEMNED, msgspec.json.encode(_Condemned(noted)))

    def _condemned(self) -> dict[Hex, float]:
        data = self.objects.get(_CONDEMNED)
        return msgspec.json.decode(data, type=_Condemned).since if data else {}

    @contextlib.contextmanager
    def _removing(self, digests: Sequence[Digest]) -> Iterator[None]:
        """See RemoteBlobs."""
        with contextlib.nullcontext() if self._lease.held else self.lock_only(lambda _: None):
            self.announce(digests)
            yield

    def _row(self, digest: Digest) -> int | None:
        """Bytes of a blob that the index knows, if it is open here: a server does without."""
        row = self._index.blob(digest) if self._index is not None and not self._index.replaced else None
        return row.size if row else None

    def _forget(self, digests: Iterable[Digest]) -> None:
        gone = list(digests)
        if self.layout.index.exists():
            self.index.drop_blobs(gone)
        self.blobs.forget(gone)

    def _start_over(self) -> None:
        """Nothing that the cache says of blobs is to be trusted."""
        self.close_index()
        reindex.remove(self.layout)  # whoever is making one meanwhile has the lists applied again: see `_build_index`
        for folder in self.layout.blobs.iterdir():
            for path in folder.iterdir():
                fs.unlink(path)

    def _clock_ahead(self) -> timedelta:
        """By how much this machine's clock is ahead of the service's."""
        if self._ahead is None:
            there = self.objects.now()  # first: it may take a while, by which a blob must not look older
            self._ahead = self.now() - there
        return self._ahead


class _Registration(Registration):
    """The entry of a sync, as an object too."""

    def __init__(self, cache: Layout, objects: Objects, lease: Lease) -> None:
        super().__init__(cache)
        self._objects = objects
        self._lease = lease
        #: what was written last, and when, by time.monotonic
        self._content = b""
        self._said = 0.0

    def verify(self) -> None:
        """A gc elsewhere can't see that we live, only when it was written: we may have slept."""
        if self.stands and self._objects.size(_syncing_key(self.path)) is None:
            problem = "no longer says that this sync is running, for nothing was heard of it for seven days; begin it anew"
            raise ObjectError(str(self._objects.address), "", problem)

    @property
    def is_old(self) -> bool:
        """Whether it should be said again."""
        return self.stands and time.monotonic() - self._said >= _SAID_AGAIN

    def say_again(self) -> None:
        """Let others know that this is still to be published. The caller holds the store's lock. Raises ObjectError."""
        self.verify()
        self._publish(self._content)

    def _publish(self, content: bytes) -> None:
        self._lease.put(_syncing_key(self.path), content)
        self._content, self._said = content, time.monotonic()

    def remove(self) -> None:
        """As long as the lease lasts, for a gc may be looking: else the entry is left to grow old."""
        with contextlib.suppress(ObjectError, LockedError):
            if self._lease.held:
                self._lease.delete(_syncing_key(self.path))
            else:
                self._objects.delete(_syncing_key(self.path))  # nothing was sealed
        super().remove()


def _syncing_key(path: Path) -> str:
    return f"syncing/{path.name}"


def _begin_cache(cache: Layout, objects: Objects) -> None:
    """Make a missing cache. Raises ObjectError if there is no store, StoreError if the folder is of another one."""
    data = objects.get(FORMAT_KEY)
    if data is None:
        raise ObjectError(str(objects.address), "", "is no store: it has no snapmirror.json (`snapmirror sync` makes one)")
    layout.create(cache, data)
    if cache.format.read_bytes() != data:
        raise StoreError(cache.root, f"is a cache of another store than {objects.address}; remove it, or name another")
    layout.verify(cache, write=True)
