"""Looking for damage in every byte: of each blob, and of each document in the cache.

What holds wrong bytes is taken away at once, so that nobody is served from it: a blob goes to `quarantine/`, a document out of
the cache, and both out of every tree.
"""

import contextlib
import os
import struct
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from blake3 import blake3

from .. import clock
from ..digests import Digest, Sums
from ..errors import DamagedError
from . import fs
from .check import Problem
from .index import BlobRow
from .store import Store

_PIECE = 1 << 20
#: blobs, and bytes, that a thread reads in one go: of small files handing over takes as long as reading
_GROUP, _GROUP_BYTES = 16, 1 << 20
#: groups that wait to be read: so many that the threads need not wait while results are looked at
_AHEAD = 4
#: a blob on the list of what is to be read: when it was last checked, its inode, its size, its digest. A store may have over
#: ten million: 100 bytes each, where objects with their rows took 600.
_PLACE = struct.Struct(">QQQ32s")
#: seconds between two commits to the index: a process that dies has read for so long in vain
_NOTED = 5.0


def ages(store: Store) -> tuple[int, str | None]:
    """How many blobs were never read since they were stored; when, of the others, the one was that was read longest ago, as
    the form of an id has it, None if none was. Raises StoreError.
    """
    never, oldest = 0, 0
    for _, row in store.index.blobs():
        never += not row.checked
        oldest = min(filter(None, (oldest, row.checked)), default=0)
    return never, clock.to_id(clock.from_seconds(oldest)) if oldest else None


#: blobs with their rows
_Group = list[tuple[Digest, BlobRow]]


def read_data(store: Store, seconds: float | None) -> Iterator[Problem | int]:
    """Compare every blob with its name, those checked longest ago first; yields of each its bytes, or the problem.

    seconds: stop after so long, None: go through all; the next call goes on with the others. A bad blob is quarantined before
    its problem is yielded. Needs no lock.
    """
    queue = _groups(_with_rows(store, _order(store)))
    end = None if seconds is None else time.monotonic() + seconds
    good: dict[Digest, BlobRow] = {}
    noted = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        more_time = True  # at first: however short the time is, a run gets on
        running: deque[tuple[_Group, Future[list[BlobRow | None]]]] = deque()
        try:
            while True:
                if more_time:
                    more = islice(queue, _AHEAD - len(running))
                    running.extend((group, pool.submit(_read_all, store, group)) for group in more)
                if not running:
                    return
                group, reading = running.popleft()
                for (digest, row), fresh in zip(group, reading.result(), strict=True):
                    if fresh:
                        good[digest] = fresh
                        yield row.size
                    elif store.blobs.size(digest) is not None and not is_whole(store, digest):  # else gc took it, or it is back
                        quarantine(store, [digest])
                        yield Problem(f"blob {digest.hex()}", "held other bytes than its name says; quarantined", digest)
                now = time.monotonic()
                more_time = end is None or now < end
                if now - noted >= _NOTED:
                    _note(store, good)
                    good, noted = {}, now
        finally:
            _note(store, good)


def _order(store: Store) -> list[bytes]:
    """Every blob, as a `_PLACE`, in the order of reading."""
    index, order = store.index, []
    for blob in store.blobs.list():
        row = index.blob(blob.digest)
        order.append(_PLACE.pack(row.checked if row else 0, blob.inode, blob.size, blob.digest))
    order.sort()
    return order


def _with_rows(store: Store, order: Iterable[bytes]) -> Iterator[tuple[Digest, BlobRow]]:
    for place in order:
        _, _, size, digest = _PLACE.unpack(place)
        yield digest, (store.index.blob(digest) or BlobRow(size))._replace(size=size)


def _groups(order: Iterable[tuple[Digest, BlobRow]]) -> Iterator[_Group]:
    group: _Group = []
    for item in order:
        group.append(item)
        if len(group) == _GROUP or sum(row.size for _, row in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _read_all(store: Store, group: _Group) -> list[BlobRow | None]:
    return [_read(store, digest, row) for digest, row in group]


def _note(store: Store, good: Mapping[Digest, BlobRow]) -> None:
    """Enter when blobs were read."""
    store.held(good)  # enters those that are there and have no row
    store.index.mark_checked(good)


def read_documents(store: Store) -> Iterator[Problem]:
    """Read every derived document in the cache. A bad one is taken out of it, and of every tree: it can be made again."""
    for path in sorted(store.layout.documents.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue  # pruned meanwhile
        with file:  # to the end: no other file gets the number of its inode, and is taken out of trees in its place
            status = os.fstat(file.fileno())
            if not _is_wrong(store, path, status.st_mode):
                continue
            fs.unlink(path)
            _take_out_of_trees(store, {status.st_ino})
        problem = "held other bytes than its name says, or could be written to; removed, and made again when needed"
        yield Problem(f"documents/{path.name}", problem)


def _is_wrong(store: Store, document: Path, mode: int) -> bool:
    with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
        return bool(mode & 0o222) or not store.documents.is_whole(document)
    return False


def _read(store: Store, digest: Digest, row: BlobRow) -> BlobRow | None:
    """The row of a blob whose bytes are right, None if they are not, or it is gone. Raises OSError if that can't be said.

    BLAKE3 tells, if we have it: twice as fast as SHA-256. Where it says no, SHA-256 decides: it may be the index that is wrong.
    """
    now = int(store.now().timestamp())
    try:
        with store.blobs.open(digest) as file:
            if any(row.blake3):
                running = blake3()
                while piece := file.read(_PIECE):
                    running.update(piece)
                if running.digest() == row.blake3:
                    return row._replace(checked=now)
                file.seek(0)
            sums = Sums()
            while piece := file.read(_PIECE):
                sums.update(piece)
            return BlobRow(sums.size, sums.blake3, now) if sums.sha256 == digest else None
    except DamagedError:
        return None
    except OSError as error:
        if error.errno not in fs.LOST:
            raise
        return None


def take_away(store: Store, problems: Iterable[Problem]) -> list[Digest]:
    """Quarantine the blobs that problems are of and that hold wrong bytes, or are no files; which these were."""
    gone = [
        digest
        for digest in {problem.blob for problem in problems if problem.blob}
        if store.blobs.is_taken(digest) and not (store.blobs.size(digest) is not None and is_whole(store, digest))
    ]
    if gone:
        quarantine(store, gone)
    return gone


def is_whole(store: Store, digest: Digest) -> bool:
    """Whether the bytes of a blob are those that its name says."""
    return _read(store, digest, BlobRow(0)) is not None


def quarantine(store: Store, digests: Collection[Digest]) -> None:
    """Move blobs out of the store and of every tree; the rows go first, as in every deletion."""
    inodes = set()
    store.index.drop_blobs(digests)
    try:
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):  # gc took it meanwhile
                inodes.add(store.blobs.set_aside(digest))
    finally:
        store.drop_absent(digests)
        if inodes:
            _take_out_of_trees(store, inodes)


def _take_out_of_trees(store: Store, inodes: Collection[int]) -> None:
    """Remove the links to files that are no longer where new ones are made from. There may be millions of names in trees: go
    through them once for all that were found together.

    Who builds a tree does not hold the store's lock, and what is built gets another name when it is whole: a tree that is
    passed over because it has just lost its name has another then. So all are gone through until no name has changed meanwhile.
    """
    trees, seen = store.layout.trees, set[str]()
    while (names := set(os.listdir(trees))) != seen:
        seen = names
        for name in names:
            for parent, _, files in os.walk(trees / name):
                for file in files:
                    link = os.path.join(parent, file)
                    with contextlib.suppress(FileNotFoundError):  # gc, say, is taking its tree away
                        if os.lstat(link).st_ino in inodes:
                            fs.unlink(link)
