"""Advisory locks between processes: flock on files that are never removed, so that a name always means one inode.

Only partial files go: see `hold_if_free`.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import LockedError
from . import fs

#: told what is waited for, when a lock is not free at once
Waiting = Callable[[str], None]


@contextlib.contextmanager
def hold(path: Path, what: str, *, waiting: Waiting | None) -> Iterator[None]:
    """Hold an exclusive lock for the block.

    path: the lock file, made if missing
    what: the locked thing in words, for messages
    waiting: called once with `what` if another process holds it, then we wait; None: raise LockedError instead
    """
    with fs.full_disk(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                _try_again(descriptor, what)
            else:
                waiting(what)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_again(descriptor: int, what: str) -> None:
    """Once more: whoever asks `is_held` holds a lock for microseconds itself, and is not who we must give way to."""
    time.sleep(0.05)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(what) from None


def is_held(path: Path) -> bool:
    """Whether any process, this one too, holds a lock on a file; False if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a partial file for the block. False if any process holds one, or if there is no such file (any more)."""
    try:
        try:
            descriptor, kind = os.open(path, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_EX
        except OSError:  # it is read-only, or a program that runs; then NFS has no exclusive lock
            descriptor, kind = os.open(path, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor, kind) and _leads_to(path, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
