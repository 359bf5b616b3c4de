"""Looking for damage: first what files say of each other, then, if asked, every byte.

Problems come out as values. Nothing here repairs, but what holds wrong bytes is taken away at once, so that nobody is served
from it: a blob goes to `quarantine/`, a document out of the cache.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ..digests import Digest, Sums
from ..errors import DamagedError
from . import fs, syncing
from .blobs import BlobInfo
from .catalog import Catalog
from .directories import Directory
from .index import BlobRow
from .records import place_of
from .store import Store

if TYPE_CHECKING:
    from .signatures import PrivateKey

_PIECE = 1 << 20
#: blobs between two looks at the clock
_BATCH = 64
#: what a file system says of bytes that it has lost. Other errors, such as too many open files, say nothing of the blob: it
#: must not be taken out of the store for them
_LOST = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    #: a path below the store, or `blob <hex>`
    what: str
    problem: str
    #: the blob that is missing or wrong, if it is one
    blob: Digest | None = None
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
    yield from _directories(store, catalog, _Walk(store, leaf_files, blobs))
    for loss in catalog.losses():
        yield Problem(loss.what, loss.problem)
    yield from _denied(store)
    yield from _syncing(store)
    yield from _index(store, blobs)
    yield from _trees(store)


def signatures(store: Store, key: "PrivateKey | None") -> Iterator[Problem]:
    """Signatures that are not what `key` makes of the records as they are; none is looked at without a key."""
    if key is None:
        return
    for id_ in store.snapshots.signed():
        files = store.snapshots.files(id_)
        if files and files.signature is not None and (problem := key.public.problem(files.record, files.signature)):
            yield Problem(f"snapshots/{id_}.sig", problem)


def _directories(store: Store, catalog: Catalog, walk: "_Walk") -> Iterator[Problem]:
    try:
        pages = store.snapshots.pages()
    except DamagedError as error:
        yield Problem(error.what, error.problem)
        pages = {}
    for record in catalog.records:
        for path, repo in record.repos.items():
            for name, state in repo.directories.items():
                yield from walk.directory(state.blob, f"{record.id}/{place_of(path, name)}")
        for path, directory in pages.get(record.id, {}).items():
            yield from walk.directory(bytes.fromhex(directory), f"{record.id}/{path}")
    yield from (problem for _, problem in live(store, walk))


def live(store: Store, walk: "_Walk | None" = None) -> Iterator[tuple[str, Problem]]:
    """What is wrong with the latest states of repos whose metadata is read on request, each with the path of its repo.

    walk: what it has seen is not looked at again; without one, what is wrong is named for every repo that has it
    """
    for path in store.live.unreadable():
        yield path, Problem(f"live/repos/{path}", "can't be read")
    for path, repo in store.live.states().items():
        for name, state in repo.directories.items():
            looking = walk or _Walk(store, lambda *_: (), {})  # such a repo is never eager: no file of it must be there
            for problem in looking.directory(state.blob, f"live/{place_of(path, name)}"):
                yield path, problem


class _Walk:
    """Goes through directories, through what they have in common once."""

    def __init__(self, store: Store, leaf_files: LeafFiles, blobs: Mapping[Digest, BlobInfo]) -> None:
        self._store = store
        self._leaf_files = leaf_files
        self._blobs = blobs
        #: directories and buckets
        self._seen: set[Digest] = set()
        #: leaves, with the mode of a directory that they were seen in
        self._leaves: set[tuple[Digest, str]] = set()

    def directory(self, digest: Digest, place: str) -> Iterator[Problem]:
        """What is wrong below a directory. place: what it is called in problems"""
        if digest in self._seen:
            return
        self._seen.add(digest)
        try:
            document = self._store.metadata.directory(digest).document
        except DamagedError as error:
            yield Problem(error.what, f"{error.problem}; it is the directory {place}", digest)
            return
        for bucket in document.buckets:
            # An eager directory walks it again: where it was seen in one that keeps no files, none of them was looked for.
            if bucket in self._seen and document.mode != "eager":
                continue
            try:
                leaves = self._store.metadata.bucket(bucket).leaves
            except DamagedError as error:
                yield Problem(error.what, f"{error.problem}; it is a bucket of {place}", bucket)
                continue
            self._seen.add(bucket)
            for name, leaf in leaves.items():
                if (leaf, document.mode) not in self._leaves:
                    self._leaves.add((leaf, document.mode))
                    yield from self._leaf(leaf, document, name, place)

    def _leaf(self, leaf: Digest, document: Directory, name: str, place: str) -> Iterator[Problem]:
        try:
            content = self._store.metadata.leaf(leaf)
            files = list(self._leaf_files(document.kind, content)) if document.mode == "eager" else []
        except (DamagedError, ValueError) as error:
            problem = error.problem if isinstance(error, DamagedError) else f"is no leaf: {error}"
            yield Problem(f"blob {leaf.hex()}", f"{problem}; it is the leaf {name} of {place}", leaf)
            return
        for file in files:
            held = self._blobs.get(file.sha256)
            what = f"blob {file.sha256.hex()}"
            if held is None:
                yield Problem(what, f"is missing; {place} lists it as {file.name}", file.sha256)
            elif file.size is not None and file.size != held.size:
                problem = f"has {held.size} bytes instead of {file.size}; {place} lists it as {file.name}"
                yield Problem(what, problem, file.sha256)


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
    """Compare every blob with its name, those checked longest ago first; yields of each its bytes, or the problem.

    seconds: stop after so long, None: go through all; the next call goes on with the others. A bad blob is quarantined before
    its problem is yielded. Needs no lock.
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
    """The row of a blob whose bytes are right, None if they are not, or it is gone. Raises OSError if that can't be said.

    BLAKE3 tells, if we have it: twice as fast as SHA-256.
    """
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
    except DamagedError:
        return None
    except OSError as error:
        if error.errno not in _LOST:
            raise
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
        store.drop_absent([digest])
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
