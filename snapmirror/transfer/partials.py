"""Files of `incoming/`: partial ones, which are flocked while they are written; who finds one locked leaves it alone."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import LockedError, StoreError
from ..store import fs


@contextlib.contextmanager
def our_disk(path: Path) -> Iterator[None]:
    """Make errors of the store's disk a StoreError or DiskFull: those of upstreams are UpstreamErrors by then."""
    try:
        with fs.full_disk(path):
            yield
    except OSError as error:
        raise StoreError(path, f"can't be written: {error.strerror or error}") from None


def open_partial(path: Path) -> BinaryIO:
    """The partial file, locked and open for reading and writing; no other name leads to it. Raises LockedError."""
    while True:
        try:
            file = open(path, "r+b", buffering=0, opener=_open)  # noqa: SIM115 - the caller's
        except PermissionError:  # made read-only to be named in the store, and its process died before
            if not os.access(path.parent, os.W_OK):
                raise
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as finished:
                _lock(finished)
                if is_at(path, finished) and os.fstat(finished.fileno()).st_nlink == 1:
                    os.fchmod(finished.fileno(), 0o644)  # it is whole: a batch of these need not be fetched again
                elif is_at(path, finished):
                    fs.unlink(path)
            continue
        try:
            _lock(file)
            if is_at(path, file):  # else another sync has named it before we had its lock: it is a blob now
                if os.fstat(file.fileno()).st_nlink == 1:
                    return file
                fs.unlink(path)  # it may be a link to somebody's own file, as earlier versions made: never write into it
        except BaseException:
            file.close()
            raise
        file.close()


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(f"the download of {Path(file.name).name}") from None


def is_at(path: Path, file: BinaryIO) -> bool:
    """Whether a path still leads to an opened file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def begin_anew(partial: BinaryIO) -> None:
    """Put an empty file in the place of the partial: who sends the old one on as it grows must not mix two transfers' bytes."""
    if os.fstat(partial.fileno()).st_size == 0:
        partial.seek(0)
        return
    path = Path(partial.name)
    temporary = path.with_name(f"put-{secrets.token_hex(8)}")
    with open(temporary, "x+b", buffering=0) as empty:
        _lock(empty)
        fs.rename(temporary, path)  # from here on the lock on the old file is nobody's business
        os.dup2(empty.fileno(), partial.fileno(), inheritable=False)
