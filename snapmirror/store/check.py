"""Looking for damage in what files say of each other; `scrub` looks at every byte.

Problems come out as values, and nothing here repairs.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..digests import Digest, is_hex_digest
from ..errors import DamagedError
from . import syncing
from .blobs import BlobInfo
from .catalog import Catalog
from .directories import Directory
from .held import Held
from .records import place_of
from .store import Store
from .trees import leads_out


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    #: a path below the store, or `blob <hex>`
    what: str
    problem: str
    #: the blob that is missing or wrong, if it is one
    blob: Digest | None = None
    #: whether it is a row of the index that is wrong
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

    The caller holds the store's lock (`Store.lock_only`).
    """
    catalog, unreadable = store.snapshots.readable()
    for error in unreadable:
        yield Problem(error.what, f"{error.problem}; restore it from a backup or a replica")
    yield from _foreign(store)
    changeable: list[Digest] = []
    held = Held(_noticing(store.blobs.list(), changeable))
    for digest in changeable:
        problem = "can be written to, or is a link to a file elsewhere; a change in it would be one of every snapshot"
        yield Problem(f"blob {digest.hex()}", problem, digest)
    yield from _directories(store, catalog, _Walk(store, leaf_files, held))
    there = {error.what for error in unreadable}
    for loss in [*([] if unreadable else catalog.losses()), *store.published.lost(catalog)]:
        if loss.what not in there:
            yield Problem(loss.what, loss.problem)
    yield from _denied(store)
    yield from _syncing(store)
    yield from _index(store, held)
    yield from _trees(store)


def _foreign(store: Store) -> Iterator[Problem]:
    """What is in `blobs/` and is none."""
    for path in store.blobs.foreign():
        what = str(path.relative_to(store.layout.root))
        yield Problem(what, "is no blob; nothing refers to it. Look what it is, and remove it", _digest_of(path))


def _noticing(blobs: Iterable[BlobInfo], changeable: list[Digest]) -> Iterator[BlobInfo]:
    """The same blobs; those that can be changed are put into a list."""
    for blob in blobs:
        if blob.changeable:
            changeable.append(blob.digest)
        yield blob


def _digest_of(path: Path) -> Digest | None:
    """The digest that a path in `blobs/` has as its name, if that is its place."""
    name = path.name
    return bytes.fromhex(name) if is_hex_digest(name) and name.startswith(path.parent.name) else None


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
    for path, latest in store.live.states().items():
        for name, state in (item for repo in latest.all for item in repo.directories.items()):
            looking = walk or _Walk(store, lambda *_: (), Held(()))  # such a repo is never eager: no file of it must be there
            for problem in looking.directory(state.blob, f"live/{place_of(path, name)}"):
                yield path, problem


#: what is noted of a blob: it was seen as a directory, or as a bucket of one; as a bucket of an eager one; as a leaf of one
#: that keeps no files; as a leaf of an eager one
_SEEN, _EAGER, _LEAF, _EAGER_LEAF = 1, 2, 4, 8


class _Walk:
    """Goes through directories, through what they have in common once."""

    def __init__(self, store: Store, leaf_files: LeafFiles, held: Held) -> None:
        self._store = store
        self._leaf_files = leaf_files
        self._held = held
        #: {where a directory is published: whether it was eager when it was last looked at, and the buckets that it had, as far
        #: as these could be read}
        self._last: dict[str, tuple[bool, set[Digest]]] = {}

    def _is_new(self, digest: Digest, flag: int) -> bool:
        """Whether this was not noted of a blob before; from now on it is."""
        new = not self._held.has(digest, flag)
        if new:
            self._held.note(digest, flag)
        return new

    def _verify_there(self, digest: Digest) -> None:
        """Raise DamagedError if a blob is gone: of a store of objects the cache may have what the service has lost."""
        if self._held.size(digest) is None and not self._store.blobs.is_taken(digest):
            raise DamagedError(f"blob {digest.hex()}", "is missing")

    def directory(self, digest: Digest, place: str) -> Iterator[Problem]:
        """What is wrong below a directory. place: what it is called in problems"""
        if not self._is_new(digest, _SEEN):
            return
        try:
            self._verify_there(digest)
            document = self._store.metadata.directory(digest).document
        except DamagedError as error:
            yield Problem(error.what, f"{error.problem}; it is the directory {place}", digest)
            return
        # An eager directory walks a bucket again that was seen in one that keeps no files: none of them was looked for there.
        eager = document.mode == "eager"
        of = place.partition("/")[2]
        was_eager, before = self._last.get(of, (eager, set[Digest]()))
        _, readable = self._last[of] = eager, set(document.buckets)
        for bucket in document.buckets:
            if (bucket in before and eager <= was_eager) or self._held.has(bucket, _EAGER if eager else _SEEN):
                continue
            try:
                self._verify_there(bucket)
                leaves = self._store.metadata.bucket(bucket).leaves
            except DamagedError as error:
                yield Problem(error.what, f"{error.problem}; it is a bucket of {place}", bucket)
                readable.discard(bucket)
                continue
            self._held.note(bucket, _SEEN | _EAGER if eager else _SEEN)
            for name, leaf in leaves.items():
                if self._is_new(leaf, _EAGER_LEAF if eager else _LEAF):
                    yield from self._leaf(leaf, document, name, place)

    def _leaf(self, leaf: Digest, document: Directory, name: str, place: str) -> Iterator[Problem]:
        try:
            self._verify_there(leaf)
            content = self._store.metadata.leaf(leaf)
            files = list(self._leaf_files(document.kind, content)) if document.mode == "eager" else []
        except (DamagedError, ValueError) as error:
            problem = error.problem if isinstance(error, DamagedError) else f"is no leaf: {error}"
            yield Problem(f"blob {leaf.hex()}", f"{problem}; it is the leaf {name} of {place}", leaf)
            return
        for file in files:
            size = self._held.size(file.sha256)
            what = f"blob {file.sha256.hex()}"
            if size is None:
                yield Problem(what, f"is missing; {place} lists it as {file.name}", file.sha256)
            elif file.size is not None and file.size != size:
                problem = f"has {size} bytes instead of {file.size}; {place} lists it as {file.name}"
                yield Problem(what, problem, file.sha256)
            if leads_out(file.name):
                yield Problem(
                    f"blob {leaf.hex()}", f"lists {file.name!r}, a name that leads out of {place}; no tree can hold it"
                )


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


def _index(store: Store, blobs: Held) -> Iterator[Problem]:
    """Rows without a blob. A blob without a row is what a crash leaves: whole, and found by whoever wants it next."""
    for digest, row in store.index.blobs():
        size = blobs.size(digest)
        if size is None and store.blobs.is_taken(digest) and store.blobs.size(digest) is not None:
            continue  # a sync has stored it since we looked
        if size is None:
            yield Problem(f"blob {digest.hex()}", "is in the index and not on the disk", digest, index=True)
        elif size != row.size:
            problem = f"has {size} bytes on the disk and {row.size} in the index"
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
                path = os.path.join(parent, name)
                if _is_changeable(path):
                    problem = "can be written to, or is a link; a change in it would be one of every snapshot"
                    yield Problem(os.path.relpath(path, store.layout.root), problem)


def _is_changeable(path: str) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:  # a scrub has found it bad meanwhile
        return False
    return not stat.S_ISREG(status.st_mode) or bool(status.st_mode & 0o222)
