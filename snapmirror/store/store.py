"""One opened store: the parts that share its folder, its locks, and whatever needs several of the parts."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .. import clock
from ..digests import Digest, is_hex_digest
from ..errors import DamagedError, DiskFull, LockedError, StoreError
from . import fs, layout, locks, reindex, syncing
from .blobs import LocalBlobs, Original, Staged
from .catalog import Catalog
from .denied import Denied
from .directories import Metadata
from .documents import Documents
from .far import Far
from .fetched import Fetched
from .index import BlobRow, Index, LeafKey, problem
from .layout import Layout
from .live import Live
from .outcomes import Outcomes
from .published import Published
from .snapshots import Snapshots
from .trees import Trees

if TYPE_CHECKING:
    from .signatures import PrivateKey

#: seconds for which a file that `Blobs.put` has written may wait for its name; no lock tells that its process lives
_WAITING_SECONDS = 3600.0


class Store:
    """One opened store. Open it with `Store.open`, and close it.

    Reading needs no lock and no index; writing needs the store's owner.
    """

    def __init__(self, paths: Layout, now: clock.Clock, key: "PrivateKey | None" = None) -> None:
        self.layout = paths
        self.now = now
        self.blobs = LocalBlobs(paths)
        self.metadata = Metadata(self.blobs)
        self.snapshots = Snapshots(paths, key)
        self.denied = Denied(paths)
        self.live = Live(paths)
        self.fetched = Fetched(paths, now)
        self.outcomes = Outcomes(paths, now)
        self.trees = Trees(paths)
        self.documents = Documents(paths)
        self.published = Published(paths)
        #: where blobs are that are not files of this machine; None: all are
        self.far: Far | None = None
        self._index: Index | None = None
        self._opening = threading.Lock()

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        write: bool,
        now: clock.Clock = clock.now,
        index: Path | None = None,
        key: "PrivateKey | None" = None,
    ) -> "Store":
        """Open a store. Raises StoreError if it is none, is of an unknown format, or may not be written by this user;
        DamagedError if it has lost its snapshots, pins or denials.

        write: whether anything is going to be written; now: its clock; index: where the index lies, if not below the root
        key: signs the snapshots that are sealed; None: they are not signed
        """
        paths = Layout(root, index)
        layout.verify(paths, write=False)
        # Empty ones would be made: gc would find that nothing refers to any blob, or is pinned; a sync, that nothing is denied.
        if not paths.snapshots.is_dir():
            raise DamagedError("snapshots/", "is missing, and all snapshots with it; restore it from a backup")
        for folder in (paths.pins, paths.denied) if write else (paths.pins,):
            if not folder.is_dir():
                problem = f"is missing, and all that was {'pinned' if folder == paths.pins else 'denied'} with it"
                raise DamagedError(f"{folder.name}/", f"{problem}; restore it from a backup, or make it if that has none")
        layout.verify(paths, write=write)
        return cls(paths, now, key)

    @classmethod
    def create(cls, root: Path, *, now: clock.Clock = clock.now) -> None:
        """Make an empty store in a missing or empty folder. Raises StoreError if it holds anything else."""
        layout.create(Layout(root), layout.format_of(now()))

    @property
    def index(self) -> Index:
        """The LMDB index, opened when first needed; never before a fork. A missing one is made again from the files.

        Ask for it anew each time: another process may have put a new one in its place.
        """
        with self._opening:
            while self._index is None or self._index.replaced:
                with reindex.standing(self.layout):
                    if self.layout.index.exists():
                        self._index = Index(self.layout.index)  # the old one is closed when no thread uses it any more
                        break
                with self.index_lock():
                    if not self.layout.index.exists():
                        self._build_index()
            return self._index

    def _build_index(self) -> tuple[int, int]:
        return reindex.build(reindex.Sources(self.layout, self.blobs, self.metadata, self.snapshots, self.live))

    def index_problem(self) -> StoreError | None:
        """What is wrong with the index, None if every row of it can be read. Only before it is opened here."""
        return problem(self.layout.index)

    def reindex(self) -> tuple[int, int]:
        """Make the index again from the files; (blobs, leaves) entered. The caller holds the store's lock.

        Raises LockedError while a sync runs.
        """
        if syncing.any_alive(self.layout):  # it holds the old index open and would write into a file without a name
            raise LockedError("a repo of this store")
        with self.index_lock():  # or a server that finds it gone for a moment would take the half-built one away
            self.close_index()
            return self._build_index()

    @contextlib.contextmanager
    def index_lock(self) -> Iterator[None]:
        """Hold it where the index is made or taken away: while it is held, nobody else makes a missing one again."""
        with locks.hold(self.layout.locks / ".index", "the index", waiting=lambda _: None):
            yield

    def registration(self) -> syncing.Registration:
        """An entry for a sync that begins."""
        return syncing.Registration(self.layout)

    def room(self, on_disk: Callable[[Path], int]) -> int:
        """Bytes that blobs may still take. on_disk: tells it of the disk of a folder"""
        return on_disk(self.layout.root)

    def close(self) -> None:
        """Close what was opened."""
        self.close_index()

    def close_index(self) -> None:
        """Close the index, if it was opened; it is opened again when it is needed."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def catalog(self) -> Catalog:
        """All snapshots as they are now. Raises DamagedError."""
        return self.snapshots.catalog()

    @contextlib.contextmanager
    def lock(self, waiting: locks.Waiting | None) -> Iterator[Catalog]:
        """Hold the store's lock; gives the catalog as it is under it.

        waiting: as in `locks.hold`. Raises LockedError where that is None, DamagedError.
        """
        with self.lock_only(waiting):
            yield self.catalog()

    @contextlib.contextmanager
    def lock_only(self, waiting: locks.Waiting | None) -> Iterator[None]:
        """The same without the catalog: for who looks for damage, and must not end at a record that can't be read."""
        with locks.hold(self.layout.lock, f"the store {self.layout.root}", waiting=waiting):
            yield

    @contextlib.contextmanager
    def lock_repo(self, repo: str, waiting: locks.Waiting | None) -> Iterator[None]:
        """Hold a repo's lock, as a sync does throughout. waiting: as in `locks.hold`."""
        with locks.hold(self.layout.repo_lock(repo), f"the repo {repo}", waiting=waiting):
            yield

    @contextlib.contextmanager
    def lock_trees(self, waiting: locks.Waiting | None) -> Iterator[None]:
        """While it is held, gc spares trees and documents that nothing refers to yet, as it does while a sync runs."""
        with self._hold_spared(self.layout.locks / ".trees", "the trees", waiting):
            yield

    @contextlib.contextmanager
    def lock_copies(self, waiting: locks.Waiting | None) -> Iterator[None]:
        """Held by who brings snapshots of another store into this one. While it is, gc spares trees and documents too."""
        with self._hold_spared(self.layout.locks / ".copies", "the copying of snapshots", waiting):
            yield

    @contextlib.contextmanager
    def _hold_spared(self, path: Path, what: str, waiting: locks.Waiting | None) -> Iterator[None]:
        """Hold a lock that makes gc spare what is made, from when the gc is over that began before (a sync registers then)."""
        with locks.hold(path, what, waiting=waiting):
            with self.lock_only(waiting):
                pass
            yield

    def put(self, data: Sequence[bytes]) -> None:
        """Store byte strings: durable and in the index on return."""
        self._enter(self.blobs.put(data))

    def admit(self, staged: Sequence[Staged]) -> None:
        """Store finished files of `incoming/`: durable and in the index on return."""
        self.blobs.admit(staged)
        self._enter(staged)

    def adopt(self, originals: Sequence[Original]) -> list[OSError | None]:
        """Store files that lie elsewhere by a second name: durable and in the index on return.

        For each of them what was in the way, None if nothing was (see `Blobs.link`).
        """
        problems = self.blobs.link(originals)
        self._enter([one for one, problem in zip(originals, problems, strict=True) if problem is None])
        return problems

    def held(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Those of the digests that are held, with their bytes: the disk says so, the index only knows more about them.

        A row may outlive its blob: the index lies on a disk of its own and the store came back from a backup, say. And a
        process that died between naming its blobs and indexing them leaves whole blobs without a row, whose names may not be
        durable yet; they are entered here.
        """
        sizes = {digest: size for digest in digests if (size := self.blobs.size(digest)) is not None}
        unknown = sizes.keys() - self.index.held(sizes)
        if unknown:
            self.blobs.sync_names(unknown)
            self.index.put_blobs({digest: BlobRow(sizes[digest]) for digest in unknown})
            self.drop_absent(unknown)
        return sizes

    def drop_absent(self, digests: Iterable[Digest]) -> None:
        """Take out the rows of those blobs that are gone.

        Between the row and the file of a blob that is being deleted another process may find it whole, and enter it again; or
        have given it its name, and enter it only now. One of the two comes last, and sees what there is.
        """
        gone = [digest for digest in digests if self.blobs.size(digest) is None]
        if self.index.held(gone):
            self.index.drop_blobs(gone)

    def remove(self, digests: Sequence[Digest]) -> int:
        """Remove blobs, their rows first; the bytes freed. The caller holds the store's lock."""
        self.announce(digests)
        self.index.drop_blobs(digests)
        freed = sum(map(self.delete, digests))
        self.drop_absent(digests)
        return freed

    def announce(self, digests: Sequence[Digest]) -> None:
        """Let other machines know of blobs that are about to go. On a disk there are none."""

    def delete(self, digest: Digest) -> int:
        """Remove one blob, but for its row; the bytes freed."""
        self.fetched.remove(digest)
        return self.blobs.delete(digest)

    def ripe(self, unused: Mapping[Digest, int], limit: float) -> dict[Digest, int]:
        """Those of the blobs that nothing refers to that may be removed now; with their bytes.

        limit: of what was stored or, where readers may come late, found to be of no use after that, nothing is removed;
        seconds since 1970
        """
        return dict(unused)

    def condemn(self, unused: Collection[Digest]) -> None:
        """Note since when nothing refers to blobs that are not yet ripe. On a disk all are."""

    def drop_registration(self, entry: Path) -> None:
        """Remove the entry of a sync that died long ago."""
        fs.unlink(entry)

    def leaves(self, digests: Mapping[LeafKey, Digest]) -> dict[LeafKey, Digest]:
        """The blobs of leaves that are held. digests: for each key that of the leaf's canonical form or of its source; keys
        for which no leaf is held are left out.
        """
        found = self.index.leaves(digests)
        return {key: blob for key, blob in found.items() if self.blobs.size(blob) is not None}

    def quarantined(self) -> frozenset[Digest]:
        """Blobs that were found bad and have not been had again."""
        return frozenset(digest for digest in self.found_bad() if self.blobs.size(digest) is None)

    def found_bad(self, older: float = 0.0) -> Iterator[Digest]:
        """Blobs that were found bad `older` seconds ago or earlier, whether or not they have been had again."""
        limit = self.now().timestamp() - older
        for path in self.layout.quarantine.iterdir():
            if is_hex_digest(path.name) and (not older or path.lstat().st_ctime <= limit):
                yield bytes.fromhex(path.name)

    def _enter(self, staged: Sequence[Staged | Original]) -> None:
        rows = {one.sha256: BlobRow(one.size, one.blake3) for one in staged}
        self.index.put_blobs(rows, {one.other: one.sha256 for one in staged if one.other})
        self.drop_absent(rows)  # a gc may have removed one since it got its name

    def clear_partials(self, older: float = 0.0) -> int:
        """Remove what no process is writing in `incoming/`, last written `older` seconds ago or earlier; the bytes freed.

        older: 0 for all, what was written just now too
        """
        freed = 0
        now = self.now().timestamp()
        for path in self.layout.incoming.iterdir():
            if path.name == "CACHEDIR.TAG":
                continue
            # The lock is held to the end: who took the file up meanwhile would write to one without a name.
            with locks.hold_if_free(path) as free, contextlib.suppress(FileNotFoundError):
                status = path.stat()
                least = max(older, _WAITING_SECONDS) if path.name.startswith("put-") else older
                # The clock is cut to the second: what was written in this one is not 0 seconds old but less.
                if free and (not least or now - status.st_mtime >= least):
                    freed += status.st_size
                    fs.unlink(path)
        return freed

    def make_room(self) -> None:
        """On a full disk, drop partial downloads, and then the index: deleting snapshots needs a little space itself.

        The caller holds the store's lock.
        """
        if not self._has_room():
            self.clear_partials()
        if not self._has_room():  # the index can be made again once there is space
            self.close_index()
            reindex.remove(self.layout)

    def _has_room(self) -> bool:
        probe = self.layout.incoming / "probe"
        try:
            fs.replace(probe, bytes(65536))
        except DiskFull:
            return False
        finally:
            fs.unlink(probe)
        return True
