"""Making the index again from the files alone."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..digests import Digest, sha256
from ..errors import DamagedError, LockedError
from . import fs, syncing
from .index import BlobRow, Index

if TYPE_CHECKING:
    from .store import Store

_BATCH = 10_000


def remove(store: "Store") -> None:
    """Remove the index. It must not be open in this process."""
    for path in _files(store.layout.index):
        fs.unlink(path)


def execute(store: "Store") -> tuple[int, int]:
    """Make the index again; (blobs, leaves) entered. The caller holds the store's lock.

    It knows every blob and leaf again. BLAKE3 sums come back when `check --read-data` reads the bytes; what was read
    from upstream is decoded once more by the next sync, which then finds the same leaves. Raises LockedError while a
    sync runs.
    """
    if syncing.any_alive(store.layout):  # it holds the old index open and would write into a file without a name
        raise LockedError("a repo of this store")
    store.close()
    return build(store)


def build(store: "Store") -> tuple[int, int]:
    """Build a new index beside the old one, and put it in its place by rename."""
    path = store.layout.index
    building = path.with_name(f"{path.name}.new")
    for leftover in _files(building):
        fs.unlink(leftover)
    index = Index(building)
    try:
        blobs = _enter_blobs(store, index)
        leaves = _enter_leaves(store, index)
    finally:
        index.close()
    remove(store)
    fs.rename(building, path)
    fs.unlink(_files(building)[1])
    return blobs, leaves


def _enter_blobs(store: "Store", index: Index) -> int:
    count, rows = 0, {}
    for blob in store.blobs.list():
        rows[blob.digest] = BlobRow(blob.size)
        count += 1
        if len(rows) == _BATCH:
            index.put_blobs(rows)
            rows = {}
    index.put_blobs(rows)
    return count


def _enter_leaves(store: "Store", index: Index) -> int:
    """Canonical digest -> blob, of every leaf that a record or a sync refers to."""
    count, rows = 0, {}
    for leaf in _leaves(store):
        try:
            rows[sha256(store.metadata.leaf(leaf))] = leaf
        except DamagedError:
            continue  # `check` reports it; an index without it is right
        count += 1
        if len(rows) == _BATCH:
            index.put_leaves(rows)
            rows = {}
    index.put_leaves(rows)
    return count


def _leaves(store: "Store") -> set[Digest]:
    """Every leaf that a record, a live state or a sync refers to; what can't be read is left to `check`."""
    directories = {
        state.blob
        for record in store.catalog().records
        for repo in record.repos.values()
        for state in repo.directories.values()
    }
    directories |= store.live.directories
    buckets: set[Digest] = set()
    with contextlib.suppress(DamagedError):
        directories.update(bytes.fromhex(digest) for pages in store.snapshots.pages().values() for digest in pages.values())
    with contextlib.suppress(DamagedError):
        for entry in syncing.entries(store.layout):
            directories.update(entry.directories)
            buckets.update(bytes.fromhex(bucket) for planned in entry.planned for bucket in planned.buckets)
    for digest in directories:
        with contextlib.suppress(DamagedError):
            buckets.update(store.metadata.directory(digest).document.buckets)
    leaves: set[Digest] = set()
    for bucket in buckets:
        with contextlib.suppress(DamagedError):
            leaves.update(store.metadata.bucket(bucket).leaves.values())
    return leaves


def _files(index: Path) -> tuple[Path, Path]:
    """An environment's two files."""
    return index, index.with_name(f"{index.name}-lock")
