"""Making the index again from the files alone, and taking it away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..digests import Digest, sha256
from ..errors import DamagedError
from . import fs, locks, syncing
from .blobs import Blobs
from .directories import Metadata
from .index import BlobRow, Index
from .layout import Layout
from .live import Live
from .snapshots import Snapshots

_BATCH = 10_000


class Sources(NamedTuple):
    """What an index is made of."""

    layout: Layout
    blobs: Blobs
    metadata: Metadata
    snapshots: Snapshots
    live: Live


@contextlib.contextmanager
def standing(layout: Layout) -> Iterator[None]:
    """While it is held, nobody puts an index in its place or takes it away: hold it to open one.

    LMDB makes a file that it is to open and that has just gone, and its lock file would stay for the index that comes next.
    """
    with locks.hold(layout.opening_lock, "the index", waiting=lambda _: None):
        yield


def remove(layout: Layout) -> None:
    """Remove the index. It must not be open in this process."""
    with standing(layout):
        _unlink(layout.index)


def _unlink(index: Path) -> None:
    for path in _files(index):
        fs.unlink(path)


def build(sources: Sources) -> tuple[int, int]:
    """Build a new index beside the old one, and put it in its place by rename; (blobs, leaves) entered.

    It knows every blob and leaf again. BLAKE3 sums come back when `check --read-data` reads the bytes; what was read
    from upstream is decoded once more by the next sync, which then finds the same leaves. The caller holds
    `Store.index_lock`.
    """
    path = sources.layout.index
    fs.make_folder(path.parent)
    building = path.with_name(f"{path.name}.new")
    _unlink(building)
    try:
        with contextlib.closing(Index(building)) as index:
            blobs = _enter_blobs(sources.blobs, index)
            leaves = _enter_leaves(sources, index)
    except BaseException:  # on a full disk others need the room
        _unlink(building)
        raise
    with standing(sources.layout):
        _unlink(path)  # with its lock file: LMDB would take the old index's last state from that, and find nothing
        fs.rename(building, path)
    _unlink(building)
    return blobs, leaves


def _enter_blobs(blobs: Blobs, index: Index) -> int:
    count, rows = 0, {}
    for blob in blobs.list():
        rows[blob.digest] = BlobRow(blob.size)
        count += 1
        if len(rows) == _BATCH:
            index.put_blobs(rows)
            rows = {}
    index.put_blobs(rows)
    return count


def _enter_leaves(sources: Sources, index: Index) -> int:
    """Canonical digest -> blob, of every leaf that a record or a sync refers to."""
    count, rows = 0, {}
    for leaf in _leaves(sources):
        try:
            rows[sha256(sources.metadata.leaf(leaf))] = leaf
        except DamagedError:
            continue  # `check` reports it; an index without it is right
        count += 1
        if len(rows) == _BATCH:
            index.put_leaves(rows)
            rows = {}
    index.put_leaves(rows)
    return count


def _leaves(sources: Sources) -> set[Digest]:
    """Every leaf that a record, a live state or a sync refers to; what can't be read is left to `check`."""
    records = sources.snapshots.readable()[0].records
    directories = {state.blob for record in records for repo in record.repos.values() for state in repo.directories.values()}
    directories |= sources.live.directories
    buckets: set[Digest] = set()
    with contextlib.suppress(DamagedError):
        told = sources.snapshots.pages().values()
        directories.update(bytes.fromhex(digest) for pages in told for digest in pages.values())
    with contextlib.suppress(DamagedError):
        for entry in syncing.entries(sources.layout):
            directories.update(entry.directories)
            buckets.update(bytes.fromhex(bucket) for planned in entry.planned for bucket in planned.buckets)
    for digest in directories:
        with contextlib.suppress(DamagedError):
            buckets.update(sources.metadata.directory(digest).document.buckets)
    leaves: set[Digest] = set()
    for bucket in buckets:
        with contextlib.suppress(DamagedError):
            leaves.update(sources.metadata.bucket(bucket).leaves.values())
    return leaves


def _files(index: Path) -> tuple[Path, Path]:
    """An environment's two files."""
    return index, index.with_name(f"{index.name}-lock")
