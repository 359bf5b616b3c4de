"""Giving space back: everything that nothing retained refers to. Plan, then execute, both under the store's lock.

What takes long is done before (`read_ahead`): reading leaves, which never change. What is kept is told by `mark`.

Reachability is computed under the same lock as the sweep: ostree computed it outside and pruned commits that had just
been made (ostree #2337). A root that can't be read ends it before anything is deleted: a mark that goes on past an
error shrinks the set of what lives (ostree #541).
"""

import contextlib
import math
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from .. import clock
from ..digests import Digest
from ..errors import DamagedError, DiskFull
from . import fs, reindex, syncing
from .catalog import Catalog
from .documents import current_documents
from .mark import Mark, Roots, roots
from .records import Record
from .retention import Retention, execute_forget, plan_retention
from .store import Store

#: blobs, each with its bytes
Sized = Sequence[tuple[Digest, int]]

_BATCH = 1000
_PARTIALS_SECONDS = 7 * 86400.0


@dataclass(frozen=True)
class GcPlan:
    """What gc would do."""

    #: records that become tombstones
    forget: Sequence[Record]
    #: entries of syncs that died long ago
    dead_syncs: Sequence[Path]
    #: paths of repos whose live states nobody reads any more
    stale_states: Collection[str]
    #: notes of files that upstream has lost, which nothing lists any more or which are there
    stale_notes: Sequence[Digest]
    #: blobs that were found bad long ago and that nothing refers to any more
    quarantined: Sequence[Digest]
    #: ids of snapshots whose trees go
    trees: Sequence[str]
    #: blobs that nothing refers to
    blobs: Sized
    #: blobs that stay, and their bytes
    kept: int
    kept_bytes: int
    #: digests of the documents that stay in the cache
    documents: Collection[Digest]
    #: files that were fetched on request and make room for others (see `eviction`)
    evicted: Sized = ()
    #: blobs that nothing refers to and that readers may still come for: a later gc removes them
    condemned: Collection[Digest] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the blobs to be removed."""
        return sum(size for _, size in (*self.blobs, *self.evicted))


@dataclass(frozen=True)
class Terms:
    """What gc is to keep."""

    retention: Retention
    #: how old a snapshot's tree may get
    keep_trees: timedelta
    #: spares what was stored less than this ago; zero: nothing
    grace: timedelta
    #: what is taken as forgotten beside what the retention does not keep
    forget: Callable[[Catalog], Iterable[Record]] = lambda _: ()
    #: paths of the repos whose live states count; None for all
    on_request: Collection[str] | None = None


class Start(NamedTuple):
    """What a plan starts from."""

    forgotten: Sequence[Record]
    after: Catalog
    #: paths of repos whose live states don't count
    stale: Collection[str]
    roots: Roots


def start(store: Store, catalog: Catalog, terms: Terms) -> Start:
    """What `plan` is going to look at. Raises DamagedError."""
    found = [*terms.forget(catalog), *plan_retention(catalog, terms.retention, store.now())]
    forgotten = list({record.id: record for record in found}.values())
    after = catalog.forgetting(forgotten, store.now())
    limit, known, states = spared_after(store, terms.grace), terms.on_request, store.live.states()
    stale = {path for path in states if known is not None and path not in known and store.live.written(path) <= limit}
    live = (state for path, latest in states.items() if path not in stale for state in latest.all)
    return Start(forgotten, after, stale, roots(store, after.records, live))


def read_ahead(store: Store, mark: Mark, terms: Terms) -> None:
    """Read what `plan` is going to look at: in a large store that takes minutes, in which nobody need wait for its lock.

    What is needed now and no longer when the plan is made stays until the next gc.
    """
    with contextlib.suppress(DamagedError):  # another gc may be at work; the plan decides
        mark.add(start(store, store.catalog(), terms).roots)


def plan(store: Store, catalog: Catalog, mark: Mark, terms: Terms) -> GcPlan:
    """What gc would do now. mark: new, or what was read ahead

    The caller holds the store's lock. Raises DamagedError if a root can't be read or has been lost.
    """
    catalog.verify()
    for lost in store.published.lost(catalog):
        raise lost
    begin = start(store, catalog, terms)
    mark.add(begin.roots)
    limit = spared_after(store, terms.grace)
    kept, kept_bytes, unused = _sort(store, mark, limit)
    ripe = store.ripe(unused, limit)
    return GcPlan(
        forget=begin.forgotten,
        dead_syncs=[entry.path for entry in syncing.entries(store.layout) if entry.expired],
        stale_states=begin.stale,
        stale_notes=[digest for digest in store.live.lost() if digest not in mark or store.blobs.size(digest) is not None],
        quarantined=[digest for digest in store.found_bad(_PARTIALS_SECONDS) if digest not in mark],
        trees=_expired(store, begin.after, store.now() - terms.keep_trees),
        blobs=list(ripe.items()),
        kept=kept + len(unused) - len(ripe),
        kept_bytes=kept_bytes + sum(unused.values()) - sum(ripe.values()),
        condemned=unused.keys() - ripe.keys(),
        documents=set(current_documents(store, begin.after)),
    )


def spared_after(store: Store, grace: timedelta) -> float:
    """Blobs that were stored after this are spared: seconds since 1970; infinity without a grace, for then none is."""
    return (store.now() - grace).timestamp() if grace else math.inf


def _sort(store: Store, mark: Mark, limit: float) -> tuple[int, int, dict[Digest, int]]:
    """How many blobs stay, their bytes, and those that nothing refers to, with their bytes."""
    kept, kept_bytes, going = 0, 0, {}
    for blob in store.blobs.list():
        if blob.digest in mark or blob.stored > limit:
            kept += 1
            kept_bytes += blob.size
        else:
            going[blob.digest] = blob.size
    return kept, kept_bytes, going


def _expired(store: Store, after: Catalog, limit: datetime) -> list[str]:
    """The snapshots whose trees go: they are not kept, or are older than the limit and neither current nor pinned."""
    kept, protected, oldest = {record.id for record in after.records}, after.protected(), clock.to_id(limit)
    return [id_ for id_ in store.published.snapshots() if id_ not in kept or (id_ < oldest and id_ not in protected)]


def execute(store: Store, catalog: Catalog, planned: GcPlan) -> int:
    """Carry a plan out; the bytes freed. The caller has held the store's lock since the plan was made.

    What needs no write of the index goes first, so that a full disk gets air; then per batch: rows out of the
    index, committed, then the files. borg #9748: an index that still named deleted objects made backups of nothing.
    """
    freed = store.clear_partials(_PARTIALS_SECONDS)
    store.fetched.tidy(_PARTIALS_SECONDS, lambda digest: store.blobs.size(digest) is not None)
    store.condemn(planned.condemned)
    for entry in planned.dead_syncs:
        store.drop_registration(entry)
    for path in planned.stale_states:
        store.live.drop(path)
    for digest in planned.stale_notes:
        store.live.drop_lost(digest)
    freed += _drop_quarantined(store, [*planned.quarantined, *(digest for digest, _ in planned.evicted)])
    try:
        _forget(store, catalog, planned)
    except DiskFull:  # a day has begun, say, and not even its link can be made
        store.make_room()
        _forget(store, catalog, planned)
    if not syncing.any_alive(store.layout):  # what a sync has made and not yet published looks like what nobody needs
        freed += _drop_trees(store) + store.documents.prune(planned.documents) + _drop_leftovers(store)
    going = (*planned.blobs, *planned.evicted)
    try:
        freed += _sweep(store, going)
        store.index.drop_dangling()
    except DiskFull:
        freed += _sweep_without_index(store, going)
        _ = store.index  # made again from the files, now that there is room
    return freed


def _drop_quarantined(store: Store, digests: Iterable[Digest]) -> int:
    """Remove what was found in the places of blobs; the bytes freed. While one of them is not had again, every sync reads all
    anew.
    """
    freed = 0
    for digest in digests:
        path = store.layout.quarantine / digest.hex()
        with contextlib.suppress(FileNotFoundError):
            freed += path.lstat().st_size
            fs.unlink(path)
    return freed


def _forget(store: Store, catalog: Catalog, planned: GcPlan) -> None:
    """What is to be done to records, and to the links that are made from them."""
    if planned.trees:
        store.published.refresh(catalog, store.now(), planned.trees)
    execute_forget(store, catalog, planned.forget)
    left = store.catalog()
    _drop_strays(store, left)
    store.published.refresh(left, store.now())


def _drop_strays(store: Store, left: Catalog) -> None:
    """Remove what lies beside records that are not there: a process died after it forgot one, or before it wrote one."""
    for ids, remove in (
        (store.snapshots.pages(), store.snapshots.remove_pages),
        (store.snapshots.signed(), store.snapshots.remove_signature),
    ):
        for id_ in ids:
            if not isinstance(left.by_id.get(id_), Record):
                remove(id_)


def _drop_trees(store: Store) -> int:
    """Remove tree objects that no snapshot links to; the bytes of documents that only they held."""
    used = {link.split("/")[0] for id_ in store.published.snapshots() for link in store.published.links(id_).values()}
    freed = 0
    for path in store.layout.trees.iterdir():
        if path.name in used:
            continue
        freed += _own_bytes(path)
        fs.discard_tree(path)  # by halves it would be taken for what the next sync wants to link
    return freed


def _own_bytes(tree: Path) -> int:
    """Bytes of the files that only a tree holds."""
    total = 0
    for parent, _, files in os.walk(tree):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # a scrub has found it bad meanwhile
                status = os.lstat(os.path.join(parent, name))
                if status.st_nlink == 1 and stat.S_ISREG(status.st_mode):
                    total += status.st_size
    return total


def _drop_leftovers(store: Store) -> int:
    """Remove what a process that was killed had not yet given its name; the bytes freed.

    `.trees` and `.views` have such names for good; what is left in them goes with the trees and views that nothing uses.
    In `live/` only the states are written under the store's lock: a server may be at work on the notes.
    """
    layout = store.layout
    outcomes = layout.live / "outcomes"  # whoever writes one just now goes without
    folders = (layout.snapshots, layout.pins, layout.denied, layout.syncing, store.live.folder, outcomes, layout.published)
    freed = 0
    left = [path for folder in (*folders, *layout.blobs.iterdir()) for path in folder.glob(".*")]
    for path in (*left, *layout.root.glob(f".{layout.format.name}.*")):
        if path in (layout.trees, layout.views):
            continue
        if path.is_dir():
            fs.remove_tree(path)
            continue
        with contextlib.suppress(FileNotFoundError), fs.sparing_open():  # an outcome that has got its name meanwhile
            size = path.lstat().st_size
            fs.unlink(path)
            freed += size
    return freed


def _sweep(store: Store, blobs: Sized) -> int:
    """Remove blobs, and the rows of the index before them; the bytes freed."""
    freed = 0
    for start in range(0, len(blobs), _BATCH):
        freed += store.remove([digest for digest, _ in blobs[start : start + _BATCH]])
    return freed


def _sweep_without_index(store: Store, blobs: Sized) -> int:
    """On a full disk LMDB can't even delete: without an index there is none that could name what is gone."""
    with store.index_lock():  # or another process would make it again from files that are about to go
        store.close_index()
        reindex.remove(store.layout)
        store.announce([digest for digest, _ in blobs])
        return sum(store.delete(digest) for digest, _ in blobs)
