"""Giving space back: everything that nothing retained refers to. Plan, then execute, both under the store's lock.

What takes long is done before (`read_ahead`): reading leaves, which never change.

Reachability is computed under the same lock as the sweep: ostree computed it outside and pruned commits that had just
been made (ostree #2337). A root that can't be read ends it before anything is deleted: a mark that goes on past an
error shrinks the set of what lives (ostree #541).
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from .. import clock
from ..digests import Digest
from ..errors import DamagedError, DiskFull
from . import fs, reindex, syncing
from .catalog import Catalog
from .directories import Metadata
from .records import DirectoryState, Record, RepoState
from .retention import Retention, execute_forget, plan_retention
from .store import Store

#: (kind of the directory, uncompressed leaf) -> digests of the files that it lists
LeafDigests = Callable[[str, bytes], Iterable[Digest]]

_BATCH = 1000
_PARTIALS_SECONDS = 7 * 86400.0


@dataclass
class GcPlan:
    """What gc would do."""

    forget: list[Record] = field(default_factory=list)
    #: dead entries of syncs that ended long ago
    entries: list[Path] = field(default_factory=list)
    #: paths of repos whose live states nobody reads any more
    live: list[str] = field(default_factory=list)
    #: notes of files that upstream has lost, which nothing lists any more or which are there
    lost: list[Digest] = field(default_factory=list)
    #: ids whose trees have expired
    trees: list[str] = field(default_factory=list)
    #: blobs that nothing refers to, with their bytes
    blobs: list[tuple[Digest, int]] = field(default_factory=list)
    #: files that were fetched on request and make room for others (see `eviction`), with their bytes
    evicted: list[tuple[Digest, int]] = field(default_factory=list)
    #: documents of the directories of these digests stay in the cache
    documents: set[Digest] = field(default_factory=set)
    #: blobs that stay
    kept: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the blobs to be removed."""
        return sum(size for _, size in (*self.blobs, *self.evicted))


@dataclass(frozen=True)
class Roots:
    """What a mark starts from."""

    directories: list[Digest]
    planned: list[syncing.Planned]


def roots(store: Store, records: Iterable[Record], states: Iterable[RepoState]) -> Roots:
    """The directories of these records, of these live states, and of syncs that run or may be resumed."""
    pages = store.snapshots.pages()
    found = Roots([one.blob for state in states for one in state.directories.values()], [])
    for record in records:
        found.directories.extend(state.blob for repo in record.repos.values() for state in repo.directories.values())
        found.directories.extend(map(bytes.fromhex, pages.get(record.id, {}).values()))
    for entry in syncing.entries(store.layout):
        if entry.alive or entry.age < syncing.KEPT_SECONDS:
            found.directories.extend(entry.directories)
            found.planned.extend(entry.planned)
    return found


class Reader:
    """Reads what directories lead to, every bucket and leaf once, however often it is asked for: none of them ever changes."""

    def __init__(self, metadata: Metadata, leaf_digests: LeafDigests) -> None:
        self.metadata = metadata
        self._leaf_digests = leaf_digests
        self._leaves: dict[Digest, tuple[Digest, ...]] = {}
        self._files: dict[Digest, tuple[Digest, ...]] = {}
        #: one object for each digest of a file: every version of a leaf has most of them again
        self._known: dict[Digest, Digest] = {}

    def leaves(self, bucket: Digest) -> tuple[Digest, ...]:
        """The leaves of a bucket. Raises DamagedError."""
        if bucket not in self._leaves:
            self._leaves[bucket] = tuple(self.metadata.bucket(bucket).leaves.values())
        return self._leaves[bucket]

    def files(self, kind: str, leaf: Digest) -> tuple[Digest, ...]:
        """The files that a leaf lists. Raises DamagedError."""
        if leaf not in self._files:
            try:
                found = self._leaf_digests(kind, self.metadata.leaf(leaf))
                self._files[leaf] = tuple(self._known.setdefault(file, file) for file in found)
            except ValueError as error:
                raise DamagedError(f"blob {leaf.hex()}", f"is no leaf: {error}") from None
        return self._files[leaf]


def read_ahead(store: Store, reader: Reader) -> None:
    """Read what a plan is going to look at. That takes minutes in a large store, in which nobody has to wait for its lock."""
    with contextlib.suppress(DamagedError):  # another gc may be at work; the plan decides
        mark(reader, roots(store, store.catalog().records, store.live.states().values()))


def mark(reader: Reader, start: Roots) -> set[Digest]:
    """Every blob that these directories need. Raises DamagedError if one of them can't be read."""
    reached, leaves = walk(reader, start)
    reached.update(files_of(reader, leaves))
    return reached


def walk(reader: Reader, start: Roots) -> tuple[set[Digest], dict[str, set[Digest]]]:
    """The directories, buckets and leaves of these; the leaves by kind, of those whose files are kept."""
    reached: set[Digest] = set(start.directories)
    kept: dict[str, set[Digest]] = {}
    buckets: set[Digest] = set()
    for digest in reached.copy():
        directory = reader.metadata.directory(digest).document
        (buckets if directory.mode == "redirect" else kept.setdefault(directory.kind, set())).update(directory.buckets)
    for planned in start.planned:
        digests = map(bytes.fromhex, planned.buckets)
        (buckets if planned.mode == "redirect" else kept.setdefault(planned.kind, set())).update(digests)
    for bucket in buckets:
        reached.add(bucket)
        reached.update(reader.leaves(bucket))
    leaves: dict[str, set[Digest]] = {}
    for kind, listed in kept.items():
        leaves[kind] = {leaf for bucket in listed for leaf in reader.leaves(bucket)}
        reached |= listed | leaves[kind]
    return reached, leaves


def files_of(reader: Reader, leaves: Mapping[str, Iterable[Digest]]) -> Iterator[Digest]:
    """The files that leaves list, these given by kind."""
    for kind, digests in leaves.items():
        for leaf in digests:
            yield from reader.files(kind, leaf)


def plan(
    store: Store,
    catalog: Catalog,
    reader: Reader,
    *,
    retention: Retention,
    keep_trees: timedelta,
    grace: timedelta,
    forget: Iterable[Record] = (),
    on_request: Collection[str] | None = None,
) -> GcPlan:
    """What gc would do now, `forget` and what the retention does not keep taken as forgotten.

    on_request: paths of the repos whose live states count; None for all
    The caller holds the store's lock. Raises DamagedError, with nothing deleted, if a root can't be read.
    """
    catalog.verify()
    found = GcPlan(forget=list({record.id: record for record in [*forget, *plan_retention(catalog, retention)]}.values()))
    going = {record.id for record in found.forget}
    kept = [record for record in catalog.records if record.id not in going]
    now = store.now()
    limit = (now - grace).timestamp() if grace else math.inf
    live = store.live.states()
    found.live = [
        path for path in live if on_request is not None and path not in on_request and store.live.written(path) <= limit
    ]
    states = [state for path, state in live.items() if path not in found.live]
    reached = mark(reader, roots(store, kept, states))
    for blob in store.blobs.list():
        if blob.digest in reached or blob.stored > limit:
            found.kept += 1
        else:
            found.blobs.append((blob.digest, blob.size))
    found.entries = [
        entry.path for entry in syncing.entries(store.layout) if not entry.alive and entry.age >= syncing.KEPT_SECONDS
    ]
    found.lost = [one for one in store.live.lost() if one not in reached or store.blobs.size(one) is not None]
    found.trees = _expired(store, catalog, going, now - keep_trees)
    found.documents = set(current_documents(store, Catalog(tuple(kept), catalog.pins)))
    return found


def _expired(store: Store, catalog: Catalog, going: set[str], limit: datetime) -> list[str]:
    """Snapshots whose trees are older than the limit, or that are forgotten; `current` and pins keep theirs."""
    protected = catalog.protected()
    return [
        id_
        for id_ in store.published.snapshots()
        if id_ in going or id_ not in catalog.by_id or (id_ < clock.to_id(limit) and id_ not in protected)
    ]


def current_documents(store: Store, catalog: Catalog) -> Iterator[Digest]:
    """Digests of the documents of everything that `current` means, of what is read on request as it was sealed too."""
    for repo in catalog.repos:
        if record := catalog.newest(repo):
            yield from documents_of(store, record.repos[repo].directories.values())
    for live in store.live.states().values():
        with contextlib.suppress(DamagedError):
            yield from documents_of(store, live.directories.values())


def documents_of(store: Store, states: Iterable[DirectoryState]) -> Iterator[Digest]:
    """Digests of the documents of directories."""
    for state in states:
        for derived in store.metadata.directory(state.blob).document.documents.values():
            yield derived.sha256


def execute(store: Store, catalog: Catalog, planned: GcPlan) -> int:
    """Do it; the bytes freed. The caller has held the store's lock since the plan was made.

    What needs no write of the index goes first, so that a full disk gets air; then per batch: rows out of the
    index, committed, then the files. borg #9748: an index that still named deleted objects made backups of nothing.
    """
    freed = store.clear_partials(_PARTIALS_SECONDS)
    store.fetched.tidy(_PARTIALS_SECONDS, lambda digest: store.blobs.size(digest) is not None)
    for entry in planned.entries:
        fs.unlink(entry)
    for path in planned.live:
        store.live.drop(path)
    for digest in planned.lost:
        store.live.find(digest)
    for id_ in planned.trees:
        store.published.drop(id_)
    execute_forget(store, catalog, planned.forget)
    left = store.catalog()
    for id_ in store.snapshots.pages():
        if not isinstance(left.by_id.get(id_), Record):  # forgotten by a process that died before it removed them
            store.snapshots.remove_pages(id_)
    store.published.refresh(left, store.now())
    if not syncing.any_alive(store.layout):  # what a sync has made and not yet published looks like what nobody needs
        freed += _drop_trees(store) + store.documents.prune(planned.documents) + _drop_leftovers(store)
    going = [*planned.blobs, *planned.evicted]
    try:
        freed += _sweep(store, going)
        store.index.drop_dangling()
    except DiskFull:
        freed += _sweep_without_index(store, going)
        _ = store.index  # made again from the files, now that there is room
    return freed


def _drop_trees(store: Store) -> int:
    """Remove tree objects that no snapshot links to; the bytes of documents that only they held."""
    used = {link.split("/")[0] for id_ in store.published.snapshots() for link in store.published.links(id_).values()}
    freed = 0
    for path in store.layout.trees.iterdir():
        if path.name in used:
            continue
        freed += sum(status.st_size for file in path.rglob("*") if (status := file.lstat()).st_nlink == 1 and file.is_file())
        fs.remove_tree(path)
    return freed


def _drop_leftovers(store: Store) -> int:
    """Remove what a process that was killed had not yet given its name; the bytes freed.

    `.trees` and `.views` have such names for good; what is left in them goes with the trees and views that nothing uses.
    """
    folders = [
        store.layout.snapshots,
        store.layout.pins,
        store.layout.syncing,
        store.layout.published,
        *store.layout.blobs.iterdir(),
    ]
    freed = 0
    for path in (
        path for folder in folders for path in folder.glob(".*") if path not in (store.layout.trees, store.layout.views)
    ):
        if path.is_dir():
            fs.remove_tree(path)
        else:
            freed += path.lstat().st_size
            fs.unlink(path)
    return freed


def _sweep(store: Store, blobs: list[tuple[Digest, int]]) -> int:
    freed = 0
    for start in range(0, len(blobs), _BATCH):
        batch = blobs[start : start + _BATCH]
        store.index.drop_blobs(digest for digest, _ in batch)
        freed += sum(_delete(store, digest) for digest, _ in batch)
    return freed


def _sweep_without_index(store: Store, blobs: list[tuple[Digest, int]]) -> int:
    """On a full disk LMDB can't even delete: without an index there is none that could name what is gone."""
    with store.index_lock():  # or another process would make it again from files that are about to go
        store.close()
        reindex.remove(store.layout.index)
        return sum(_delete(store, digest) for digest, _ in blobs)


def _delete(store: Store, digest: Digest) -> int:
    store.fetched.remove(digest)
    return store.blobs.delete(digest)
