"""Making room: of the files that were fetched because somebody asked, those go that nobody has wanted for longest.

A file goes only if it can be had again: what is current in one of the given repos lists it, so that upstream had it a
moment ago, and whoever lists it fetches it on demand. What upstream has withdrawn stays for the dates that list it; if
upstream itself has not answered for a week, all stays.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from .. import clock
from ..digests import Digest
from ..errors import DamagedError
from . import gc, syncing
from .catalog import Catalog
from .live import latest
from .mark import LeafDigests, Mark, Roots, read_leaf
from .records import RepoState
from .store import Store

#: how long ago a sync may have read upstream for what is current. Who has never synced has an index only from who asks.
_FRESH = timedelta(days=7)


@dataclass(frozen=True)
class Cache:
    """How much may stay."""

    #: bytes of files that could go
    limit: int
    #: paths of the repos whose files can be fetched again
    repos: Collection[str]


class _Kept(NamedTuple):
    """What one snapshot or live state has of a repo."""

    path: str
    directories: Sequence[Digest]
    #: whether the snapshot is
    pinned: bool = False


class Room:
    """Plans what goes. `read_ahead` reads what is long, `plan` decides under the store's lock."""

    def __init__(self, store: Store, leaf_digests: LeafDigests, cache: Cache) -> None:
        self._store = store
        self._leaf_digests = leaf_digests
        self._cache = cache
        #: what is fetched from now on stays until the next gc
        self._fetched = store.fetched.list().keys()
        #: of each current leaf that was read: those of the fetched files that it lists
        self._listed: dict[Digest, tuple[Digest, ...]] = {}
        self._needed = Mark(store.metadata, leaf_digests)

    def read_ahead(self, terms: gc.Terms) -> None:
        """See gc.read_ahead."""
        with contextlib.suppress(DamagedError):
            start = gc.start(self._store, self._store.catalog(), terms)
            self._replaceable(start.after, start.stale)

    def plan(self, catalog: Catalog, planned: gc.GcPlan, grace: timedelta) -> gc.GcPlan:
        """The plan of gc with the files added that go to make room.

        grace: as in `gc.Terms`. The caller holds the store's lock. Raises DamagedError.
        """
        used = self._store.fetched.list()
        found = self._replaceable(catalog.forgetting(planned.forget, self._store.now()), planned.stale_states) & used.keys()
        blobs = [blob for blob in self._store.blobs.list() if blob.digest in found] if found else []
        limit = gc.spared_after(self._store, grace)
        excess = sum(blob.size for blob in blobs) - self._cache.limit
        evicted = []
        for blob in sorted(blobs, key=lambda blob: (used[blob.digest], blob.digest)):
            if excess <= 0:
                break
            if blob.stored <= limit:  # else whoever asked for it may not have opened it yet
                evicted.append((blob.digest, blob.size))
                excess -= blob.size
        freed = sum(size for _, size in evicted)
        return replace(planned, evicted=evicted, kept=planned.kept - len(evicted), kept_bytes=planned.kept_bytes - freed)

    def _replaceable(self, kept: Catalog, stale: Collection[str]) -> set[Digest]:
        """The fetched files that can be had again. stale: paths of repos whose live states don't count"""
        if not self._fetched:
            return set()
        live = {path: state for path, state in self._store.live.states().items() if path not in stale}
        current, protecting = _split(self._store, kept, live, self._cache.repos)
        metadata, found = set(current), set[Digest]()
        for digest in current:
            directory = self._store.metadata.directory(digest)
            leaves = directory.leaves.values()
            metadata.update(directory.document.buckets, leaves)
            for leaf in leaves:
                found.update(self._fetched_of(directory.document.kind, leaf))
        found -= metadata
        if found:
            self._needed.add(protecting)
        return {digest for digest in found if digest not in self._needed}

    def _fetched_of(self, kind: str, leaf: Digest) -> tuple[Digest, ...]:
        if leaf not in self._listed:
            files = read_leaf(self._store.metadata, self._leaf_digests, kind, leaf)
            self._listed[leaf] = tuple(file for file in files if file in self._fetched)
        return self._listed[leaf]


def _split(store: Store, kept: Catalog, live: Mapping[str, RepoState], repos: Collection[str]) -> tuple[list[Digest], Roots]:
    """Directories whose files can be had again, and those whose files stay.

    What only older dates list of these repos is in neither, so that it stays as well: upstream may not have it any more. Nor
    is what a dead sync was about to publish, as far as it is on demand: it would keep everything for a week.
    """
    current, protecting = list[Digest](), Roots([], [])
    newest = {path: record.repos[path] for path in kept.repos if (record := kept.newest(path))}
    since = clock.to_id(store.now() - _FRESH)
    for path in repos:
        for one in latest(newest.get(path), live.get(path)).values():
            if _on_demand(store, one.blob):  # a merged index is made anew though those that it is made of could not be read
                (current if path not in newest or one.read >= since else protecting.directories).append(one.blob)
    for kept_ in _repos(store, kept, live):
        for directory in kept_.directories:
            if kept_.pinned or kept_.path not in repos or not _on_demand(store, directory):
                protecting.directories.append(directory)
    for entry in syncing.entries(store.layout):
        if not entry.expired:  # an export that is alive has counted on every file that it found
            protecting.directories.extend(one for one in entry.directories if entry.alive or not _on_demand(store, one))
            protecting.planned.extend(one for one in entry.planned if entry.alive or one.mode != "on-demand")
    return current, protecting


def _repos(store: Store, kept: Catalog, live: Mapping[str, RepoState]) -> Iterator[_Kept]:
    pages = store.snapshots.pages()
    pinned = {pin.snapshot for pin in kept.pins.values()}
    for record in kept.records:
        for path, state in record.repos.items():
            yield _Kept(path, _blobs(state), record.id in pinned)
        for path, digest in pages.get(record.id, {}).items():
            yield _Kept(path, [bytes.fromhex(digest)], record.id in pinned)
    for path, state in live.items():
        yield _Kept(path, _blobs(state))


def _blobs(state: RepoState) -> list[Digest]:
    return [directory.blob for directory in state.directories.values()]


def _on_demand(store: Store, directory: Digest) -> bool:
    return store.metadata.directory(directory).document.mode == "on-demand"
