"""Looking for damage: first what files say of each other, then, if asked, every byte.

Problems come out as values; nothing here repairs, but a blob whose bytes are wrong is moved to `quarantine/` at once, so
that nobody is served from it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blake3 import blake3

from ..digests import Digest, Sums
from ..errors import DamagedError
from . import fs, syncing
from .blobs import BlobInfo
from .catalog import Catalog
from .index import BlobRow
from .records import place_of
from .store import Store

_PIECE = 1 << 20
_BATCH = 64


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    #: a path below the store, or `blob <hex>`
    what: str
    problem: str
    #: the blob that is missing or wrong, if it is one
    blob: Digest | None = None
    #: `snapshot/repo/directory` and the file's name, for a blob that a directory lists
    place: tuple[str, str] | None = None
    #: whether making the index again mends it
    index: bool = False


@dataclass(frozen=True)
class Listed:
    """A file that a leaf lists."""

    name: str
    sha256: Digest
    size: int | None


#: (kind of the directory, uncompressed leaf) -> the files that it lists
LeafFiles = Callable[[str, bytes], Iterable[Listed]]


def structure(store: Store, leaf_files: LeafFiles) -> Iterator[Problem]:
    """Every record, directory, bucket, leaf, link and row; metadata byte by byte, files by size.

    The caller holds the store's lock.
    """
    try:
        catalog = store.catalog()
    except DamagedError as error:
        yield Problem(error.what, error.problem)
        return
    blobs = {blob.digest: blob for blob in store.blobs.list()}
    yield from _directories(store, catalog, blobs, leaf_files)
    for loss in catalog.losses():
        yield Problem(loss.what, loss.problem)
    yield from _denied(store)
    yield from _syncing(store)
    yield from _index(store, blobs)
    yield from _trees(store)


def _directories(store: Store, catalog: Catalog, blobs: dict[Digest, BlobInfo], leaf_files: LeafFiles) -> Iterator[Problem]:
    seen: set[object] = set()
    try:
        pages = store.snapshots.pages()
    except DamagedError as error:
        yield Problem(error.what, error.problem)
        pages = {}
    for record in catalog.records:
        for path, repo in record.repos.items():
            for name, state in repo.directories.items():
                if state.blob not in seen:
                    seen.add(state.blob)
                    yield from _directory(store, state.blob, f"{record.id}/{place_of(path, name)}", blobs, leaf_files, seen)
        for path, directory in pages.get(record.id, {}).items():
            yield from _directory(store, bytes.fromhex(directory), f"{record.id}/{path}", blobs, leaf_files, seen)
    yield from (problem for _, problem in live(store, seen))


def live(store: Store, seen: set[object] | None = None) -> Iterator[tuple[str, Problem]]:
    """What is wrong with the latest states of repos whose metadata is read on request, by path. They list no eager files."""
    for path in store.live.unreadable():
        yield path, Problem(f"live/repos/{path}", "can't be read")
    for path, repo in store.live.states().items():
        for name, state in repo.directories.items():
            place = f"live/{place_of(path, name)}"
            for problem in _directory(store, state.blob, place, {}, lambda *_: (), set() if seen is None else seen):
                yield path, problem


def _directory(
    store: Store, digest: Digest, place: str, blobs: dict[Digest, BlobInfo], leaf_files: LeafFiles, seen: set[object]
) -> Iterator[Problem]:
    try:
        document = store.metadata.directory(digest).document
    except DamagedError as error:
        yield Problem(error.what, f"{error.problem}; it is the directory {place}", digest)
        return
    for bucket in document.buckets:
        # An eager directory walks it again: where it was seen in one that keeps no files, none of them was looked for.
        if bucket in seen and document.mode != "eager":
            continue
        try:
            leaves = store.metadata.bucket(bucket).leaves
        except DamagedError as error:
            yield Problem(error.what, f"{error.problem}; it is a bucket of {place}", bucket)
            continue
        seen.add(bucket)
        for name, leaf in leaves.items():
            if (leaf, document.mode) in seen:
                continue
            seen.add((leaf, document.mode))
            yield from _leaf(store, leaf, document.kind, document.mode, (place, name), blobs, leaf_files)


def _leaf(
    store: Store,
    leaf: Digest,
    kind: str,
    mode: str,
    place: tuple[str, str],
    blobs: dict[Digest, BlobInfo],
    leaf_files: LeafFiles,
) -> Iterator[Problem]:
    try:
        store.blobs.read(leaf)
        files = list(leaf_files(kind, store.metadata.leaf(leaf))) if mode == "eager" else []
    except (DamagedError, ValueError) as error:
        problem = error.problem if isinstance(error, DamagedError) else f"is no leaf: {error}"
        yield Problem(f"blob {leaf.hex()}", f"{problem}; it is the leaf {place[1]} of {place[0]}", leaf)
        return
    for file in files:
        held = blobs.get(file.sha256)
        what = f"blob {file.sha256.hex()}"
        if held is None:
            yield Problem(what, f"is missing; {place[0]} lists it as {file.name}", file.sha256, (place[0], file.name))
        elif file.size is not None and file.size != held.size:
            problem = f"has {held.size} bytes instead of {file.size}; {place[0]} lists it as {file.name}"
            yield Problem(what, problem, file.sha256, (place[0], file.name))


def _denied(store: Store) -> Iterator[Problem]:
    try:
        store.denied.rules()
    except DamagedError as error:
        yield Problem(error.what, f"{error.problem}; nothing is synced until it is mended, or removed and denied again")


def _syncing(store: Store) -> Iterator[Problem]:
    try:
        list(syncing.entries(store.layout))
    except DamagedError as error:
        yield Problem(error.what, f"{error.problem}; gc stops at it. If no sync is running, remove it")


def _index(store: Store, blobs: dict[Digest, BlobInfo]) -> Iterator[Problem]:
    """Rows without a blob. A blob without a row is what a crash leaves: whole, and found by whoever wants it next."""
    for digest, row in store.index.blobs():
        held = blobs.get(digest)
        if held is None and store.blobs.size(digest) is not None:
            continue  # a sync has stored it since we looked
        if held is None:
            yield Problem(f"blob {digest.hex()}", "is in the index and not on the disk", digest, index=True)
        elif held.size != row.size:
            problem = f"has {held.size} bytes on the disk and {row.size} in the index"
            yield Problem(f"blob {digest.hex()}", problem, digest, index=True)


def _trees(store: Store) -> Iterator[Problem]:
    """Links lead to tree objects, and what these hold are the blobs themselves."""
    used = set()
    for id_ in store.published.snapshots():
        for place, link in store.published.links(id_).items():
            tree = link.split("/")[0]
            if not store.trees.path(tree).is_dir():
                yield Problem(f"published/{id_}/{place}", f"leads to the tree object {tree}, which is missing")
            used.add(tree)
    for tree in sorted(used):
        for parent, _, files in os.walk(store.trees.path(tree)):
            for name in files:
                if os.stat(os.path.join(parent, name)).st_mode & 0o222:
                    path = os.path.relpath(os.path.join(parent, name), store.layout.root)
                    yield Problem(path, "can be written to; a change in it would be one of every snapshot")


# Every byte


def read_data(store: Store, seconds: float | None) -> Iterator[Problem | int]:
    """Compare every blob with its name, those checked longest ago first; yields the bytes read, and problems.

    seconds: stop after so long; the next call goes on with the others. A bad blob is quarantined before it is yielded.
    """
    rows = dict(store.index.blobs())
    order = [(blob.digest, rows.get(blob.digest, BlobRow(blob.size))) for blob in store.blobs.list()]
    order.sort(key=lambda item: item[1].checked)
    end = None if seconds is None else time.monotonic() + seconds
    queue = iter(order)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        while batch := list(islice(queue, _BATCH)):
            good: dict[Digest, BlobRow] = {}
            for (digest, row), fresh in zip(batch, pool.map(lambda item: _read(store, *item), batch), strict=True):
                if fresh is None:
                    if store.blobs.size(digest) is not None:  # else gc took it meanwhile
                        quarantine(store, digest)
                        yield Problem(f"blob {digest.hex()}", "held other bytes than its name says; quarantined", digest)
                    continue
                good[digest] = fresh
                yield row.size
            store.held(digest for digest in good if digest not in rows)
            store.index.mark_checked(good)
            if end is not None and time.monotonic() >= end:
                return


def read_documents(store: Store) -> Iterator[Problem]:
    """Read every derived document in the cache. A bad one is taken out of it, and of every tree: it can be made again."""
    for path in sorted(store.layout.documents.iterdir()):
        if path.name.startswith("."):
            continue
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            if not store.documents.is_whole(path):
                _take_out(store, path)
                yield Problem(
                    f"documents/{path.name}", "held other bytes than its name says; removed, and made again when needed"
                )


def _read(store: Store, digest: Digest, row: BlobRow) -> BlobRow | None:
    """The row of a blob whose bytes are right, None if they are not. BLAKE3 if we have it: twice as fast as SHA-256."""
    now = int(store.now().timestamp())
    try:
        with store.blobs.open(digest) as file:
            if any(row.blake3):
                running = blake3()
                while piece := file.read(_PIECE):
                    running.update(piece)
                return row._replace(checked=now) if running.digest() == row.blake3 else None
            sums = Sums()
            while piece := file.read(_PIECE):
                sums.update(piece)
            return BlobRow(sums.size, sums.blake3, now) if sums.sha256 == digest else None
    except (DamagedError, OSError):
        return None


def is_whole(store: Store, digest: Digest) -> bool:
    """Whether the bytes of a blob are those that its name says."""
    # Without a BLAKE3, so that SHA-256 decides: it may be the index that is wrong.
    return _read(store, digest, BlobRow(0)) is not None


def quarantine(store: Store, digest: Digest) -> None:
    """Move a blob out of the store and of every tree; the row goes first, as in every deletion."""
    path = store.blobs.path(digest)
    with contextlib.suppress(FileNotFoundError):
        store.index.drop_blobs([digest])
        aside = store.layout.quarantine / digest.hex()
        fs.rename(path, aside)
        fs.sync_folder(path.parent)
        _take_out_of_trees(store, os.stat(aside).st_ino)


def _take_out(store: Store, document: Path) -> None:
    inode = os.stat(document).st_ino
    fs.unlink(document)
    _take_out_of_trees(store, inode)


def _take_out_of_trees(store: Store, inode: int) -> None:
    for parent, _, files in os.walk(store.layout.trees):
        for name in files:
            link = store.layout.trees / parent / name
            if os.lstat(link).st_ino == inode:
                fs.unlink(link)
