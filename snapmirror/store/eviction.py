"""Making room: of the files that were fetched because somebody asked, those go that nobody has wanted for longest.

A file goes only if it can be had again: what is current in one of the given repos lists it, so that upstream had it a
moment ago, and whoever lists it fetches it on demand. What upstream has withdrawn stays for the dates that list it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from ..digests import Digest
from . import gc
from .blobs import BlobInfo
from .catalog import Catalog
from .live import latest
from .records import RepoState
from .store import Store


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


def make_room(
    store: Store, catalog: Catalog, planned: gc.GcPlan, reader: gc.Reader, cache: Cache, grace: timedelta
) -> gc.GcPlan:
    """The plan of gc with the files added that go to make room.

    grace: as in `gc.plan`. The caller holds the store's lock. Raises DamagedError.
    """
    used = store.fetched.list()
    found = _replaceable(store, catalog, planned, reader, cache.repos, used) if used else []
    limit = gc.spared_after(store, grace)
    excess = sum(blob.size for blob in found) - cache.limit
    evicted = []
    for blob in sorted(found, key=lambda blob: (used[blob.digest], blob.digest)):
        if excess <= 0:
            break
        if blob.stored <= limit:  # else whoever asked for it may not have opened it yet
            evicted.append((blob.digest, blob.size))
            excess -= blob.size
    freed = sum(size for _, size in evicted)
    return replace(planned, evicted=evicted, kept=planned.kept - len(evicted), kept_bytes=planned.kept_bytes - freed)


def _replaceable(
    store: Store,
    catalog: Catalog,
    planned: gc.GcPlan,
    reader: gc.Reader,
    repos: Collection[str],
    used: Collection[Digest],
) -> list[BlobInfo]:
    """The fetched files that can be had again. used: those that were fetched."""
    kept = catalog.forgetting(planned.forget, store.now())
    live = {path: state for path, state in store.live.states().items() if path not in planned.stale_states}
    current, protecting = _split(store, kept, live, repos)
    metadata, leaves = gc.walk(reader, current)
    candidates = {digest for digest in gc.files_of(reader, leaves) if digest in used}
    candidates -= metadata
    if candidates:
        candidates -= gc.mark(reader, protecting)
    return [blob for blob in store.blobs.list() if blob.digest in candidates] if candidates else []


def _split(store: Store, kept: Catalog, live: Mapping[str, RepoState], repos: Collection[str]) -> tuple[gc.Roots, gc.Roots]:
    """Directories whose files can be had again, and those whose files stay.

    What only older dates list of these repos is in neither, so that it stays as well: upstream may not have it any more. Nor
    is what a sync is about to publish, as far as it is on demand: a dead one would keep everything for a week.
    """
    current, protecting = gc.Roots([], []), gc.Roots([], [])
    newest = {path: record.repos[path] for path in kept.repos if (record := kept.newest(path))}
    for path in repos:
        latest_ = latest(newest.get(path), live.get(path)).values()
        current.directories.extend(one.blob for one in latest_ if _on_demand(store, one.blob))
    for kept_ in _repos(store, kept, live):
        for directory in kept_.directories:
            if kept_.pinned or kept_.path not in repos or not _on_demand(store, directory):
                protecting.directories.append(directory)
    syncs = gc.roots(store, (), ())
    protecting.directories.extend(one for one in syncs.directories if not _on_demand(store, one))
    protecting.planned.extend(one for one in syncs.planned if one.mode != "on-demand")
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
