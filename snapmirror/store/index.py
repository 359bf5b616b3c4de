"""The LMDB index: a cache of what the files say. The only importer of lmdb.

Five tables (man snapmirror-store, section INDEX). `blobs`: SHA-256 -> size, BLAKE3, when last checked. `md5`: another hash,
of any kind, where it was computed -> SHA-256. `leaves`: digest of a leaf's canonical bytes, or of what it was read from ->
the stored blob. `validators`: document of upstream -> what the server said of its age, and the directory that came of it.
`notes`: what ecosystems like to know again.

A row in `blobs` is written after its blob is durable and deleted before the blob is. Rows of the other tables
may point to blobs that are gone: whoever follows one looks in `blobs` first.
"""

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import lmdb
import msgspec

from ..digests import Digest, sha256
from ..errors import DiskFull, StoreError
from ..validators import Validators
from . import fs

#: what a caller calls a leaf by
LeafKey = TypeVar("LeafKey")

_MAP_SIZE = 64 << 30  # a sparse promise, not an allocation; resizing at run time raced in py-lmdb before 2.3
_TABLES = (b"blobs", b"md5", b"leaves", b"validators", b"notes")
_ROW = struct.Struct(">QQ32s")
#: bytes of LMDB's lock file, for its 126 readers
_LOCK_SIZE = 8192
#: rows in one transaction: long readers pin pages, and one huge delete doubles the file
_PAGE = 10_000


class BlobRow(NamedTuple):
    """What the index says of one blob."""

    size: int
    #: 32 zero bytes if it was never computed: a reindex does not read every byte
    blake3: bytes = bytes(32)
    #: when every byte was last compared with the name, seconds since 1970; 0: never since it was stored
    checked: int = 0


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """A document of upstream as last read."""

    validators: Validators
    #: digest of the directory that came of it
    directory: Digest


class Index:
    """One open environment. A process opens it once, and anew after a fork.

    Every method raises StoreError if the index can't be used, DiskFull if the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors(), contextlib.ExitStack() as opened:
            # LMDB makes it of a hole, and writes to it through memory, which on a full disk ends the process.
            with contextlib.suppress(FileExistsError):
                fs.write_new(path.with_name(f"{path.name}-lock"), bytes(_LOCK_SIZE), sync=False)
            self._env = lmdb.open(
                os.fsencode(path), map_size=_MAP_SIZE, max_dbs=len(_TABLES), subdir=False, readahead=False, mode=0o644
            )
            # LMDB opens nothing twice in a process, and whoever keeps the error would keep this open: another thread was told
            # that, and not that the disk was full.
            opened.callback(self._env.close)
            self._file = _inode(path)
            needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
            if os.path.getsize(path) < needed:  # touching a page that is not there is SIGBUS
                raise self._unusable("it is cut short")
            self._env.reader_check()  # rows of readers that died would pin pages for ever
            self._blobs, self._others, self._leaves, self._seen, self._notes = (self._env.open_db(name) for name in _TABLES)
            opened.pop_all()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    @property
    def replaced(self) -> bool:
        """Whether a new index has been put in its place, or it was taken away: rows written here would be lost."""
        return _inode(self.path) != self._file

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.MemoryError:
            problem = f"the index needs {_MAP_SIZE >> 30} GiB of addresses, hardly any of which it fills with memory"
            raise StoreError(self.path, f"{problem}; raise the limit (`ulimit -v unlimited`, `LimitAS=` of systemd)") from None
        except (lmdb.Error, OSError, struct.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if "No space left" in str(error) or "quota" in str(error):
                raise DiskFull(self.path) from None
            raise self._unusable(str(error)) from None

    def _unusable(self, why: str) -> StoreError:
        return StoreError(self.path, f"the index can't be used ({why}); `snapmirror reindex` makes it again")

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[lmdb.Transaction]:
        with self._errors(), self._env.begin(write=write, buffers=False) as transaction:
            yield transaction

    # What is held

    def blob(self, digest: Digest) -> BlobRow | None:
        """What is known of a blob, None if it is not held."""
        with self._transaction() as transaction:
            row = _get(transaction, self._blobs, digest)
            return None if row is None else _row(row)

    def held(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Those of the digests that have a row, with their bytes."""
        with self._transaction() as transaction:
            if not transaction.stat(self._blobs)["entries"]:
                return {}  # the first sync of all: no need to look up 600,000
            rows = ((digest, _get(transaction, self._blobs, digest)) for digest in digests)
            return {digest: _row(row).size for digest, row in rows if row is not None}

    def blobs(self) -> Iterator[tuple[Digest, BlobRow]]:
        """Every row, by digest, in short transactions."""
        start: bytes | None = b""
        while start is not None:
            page: list[tuple[Digest, BlobRow]] = []
            with self._transaction() as transaction, transaction.cursor(self._blobs) as cursor:
                if cursor.set_range(start):
                    for key, value in cursor:
                        page.append((bytes(key), _row(bytes(value))))
                        if len(page) == _PAGE:
                            break
            yield from page
            start = page[-1][0] + b"\0" if len(page) == _PAGE else None

    def totals(self) -> tuple[int, int]:
        """How many blobs have a row, and their bytes. Takes 0.5 s for a million."""
        with self._transaction() as transaction, transaction.cursor(self._blobs) as cursor:
            sizes = [_ROW.unpack(value)[0] for value in cursor.iternext(keys=False, values=True)]
        return len(sizes), sum(sizes)

    def put_blobs(self, rows: Mapping[Digest, BlobRow], others: Mapping[bytes, Digest] | None = None) -> None:
        """Enter blobs that are durable; others: another hash -> SHA-256, where one was computed. One commit."""
        with self._transaction(write=True) as transaction:
            for digest, row in rows.items():
                transaction.put(digest, _ROW.pack(row.size, row.checked, row.blake3), db=self._blobs)
            for key, digest in (others or {}).items():
                transaction.put(key, digest, db=self._others)

    def mark_checked(self, rows: Mapping[Digest, BlobRow]) -> None:
        """Replace rows after a check, but for those that have been taken out meanwhile: their blobs are gone."""
        with self._transaction(write=True) as transaction:
            for digest, row in rows.items():
                if _get(transaction, self._blobs, digest) is not None:
                    transaction.put(digest, _ROW.pack(row.size, row.checked, row.blake3), db=self._blobs)

    def drop_blobs(self, digests: Iterable[Digest]) -> None:
        """Take blobs out, before their files go; one commit."""
        with self._transaction(write=True) as transaction:
            for digest in digests:
                transaction.delete(digest, db=self._blobs)

    # What leads to a blob

    def by_other(self, other: bytes) -> Digest | None:
        """The held blob with a hash that is no SHA-256, if that was computed when it came."""
        with self._transaction() as transaction:
            return self._held(transaction, _get(transaction, self._others, other))

    def leaves(self, digests: Mapping[LeafKey, Digest]) -> dict[LeafKey, Digest]:
        """For each key of a canonical or source digest the held leaf, left out where there is none."""
        with self._transaction() as transaction:
            found = ((key, _get(transaction, self._leaves, digest)) for key, digest in digests.items())
            return {key: blob for key, blob in found if blob is not None and self._held(transaction, blob)}

    def put_leaves(self, rows: Mapping[Digest, Digest]) -> None:
        """Enter leaves: canonical or source digest -> blob."""
        with self._transaction(write=True) as transaction:
            for digest, blob in rows.items():
                transaction.put(digest, blob, db=self._leaves)

    def _held(self, transaction: lmdb.Transaction, blob: Digest | None) -> Digest | None:
        return blob if blob is not None and _get(transaction, self._blobs, blob) is not None else None

    # What upstream said

    def seen(self, document: str) -> Seen | None:
        """The last reading of a document of upstream, None if it was not read; `document` is any text that names it."""
        with self._transaction() as transaction:
            row = _get(transaction, self._seen, sha256(document.encode()))
            return msgspec.msgpack.decode(row, type=Seen) if row else None

    def put_seen(self, rows: Mapping[str, Seen]) -> None:
        """Remember readings."""
        with self._transaction(write=True) as transaction:
            for document, seen in rows.items():
                transaction.put(sha256(document.encode()), msgspec.msgpack.encode(seen), db=self._seen)

    # What ecosystems note

    def notes(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What was noted, of those keys of which anything was."""
        with self._transaction() as transaction:
            found = ((key, _get(transaction, self._notes, sha256(key.encode()))) for key in keys)
            return {key: row for key, row in found if row is not None}

    def put_notes(self, rows: Mapping[str, bytes]) -> None:
        """Note under each of these keys, in the place of what was noted there; one commit."""
        with self._transaction(write=True) as transaction:
            for key, row in rows.items():
                transaction.put(sha256(key.encode()), row, db=self._notes)

    # Housekeeping

    def read_all(self) -> None:
        """Read every row of every table. LMDB has no checksums: where a page is wrong it may end the process, see `problem`."""
        for _ in self.blobs():
            pass
        with self._transaction() as transaction:
            for table in (self._others, self._leaves, self._seen, self._notes):
                for _ in transaction.cursor(table):
                    pass

    def drop_dangling(self) -> int:
        """Take out rows of `md5` and `leaves` whose blobs are gone; how many."""
        return sum(self._drop_dangling(table) for table in (self._others, self._leaves))

    def _drop_dangling(self, table: lmdb._Database) -> int:
        dropped, start = 0, b""
        while True:
            with self._transaction(write=True) as transaction, transaction.cursor(table) as cursor:
                more = cursor.set_range(start)
                for _ in range(_PAGE):
                    if not more:
                        return dropped
                    start = bytes(cursor.key())
                    if self._held(transaction, bytes(cursor.value())) is None:
                        dropped += 1
                        cursor.delete()  # leaves the cursor at the next row, or nowhere
                        more = bool(cursor.key())
                    else:
                        more = cursor.next()
                start += b"\0"


def _get(transaction: lmdb.Transaction, table: lmdb._Database, key: bytes) -> bytes | None:
    value = transaction.get(key, db=table)
    return None if value is None else bytes(value)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _row(row: bytes) -> BlobRow:
    size, checked, blake3 = _ROW.unpack(row)
    return BlobRow(size, blake3, checked)


def problem(path: Path) -> StoreError | None:
    """What is wrong with an index, None if all of it can be read. It must not be open in this process.

    Another process reads it: of a page that is damaged LMDB may make an assertion that fails, or a fault of memory.
    """
    if not path.exists():
        return None
    program = f"from pathlib import Path; from {__name__} import Index; Index(Path({str(path)!a})).read_all()"
    command = (sys.executable, "-c", program)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return StoreError(path, "the index can't be used; `snapmirror reindex` makes it again") if done.returncode else None
