"""The errors that cross from one module to another, and the exit status that each leads to if nobody catches it.

    SnapmirrorError                  1  failed
    ├── UsageError                   2  wrong usage
    │   ├── ConfigError              2  a configuration that cannot be used
    │   ├── SelectionError           2  a `[repo.select]` that can't be meant so
    │   └── SelectorError            2  a text that is no selector, or names nothing
    │       └── Forgotten            2  the snapshot it resolves to was forgotten
    ├── StoreError                   1  a folder that is no store, or not ours to write
    │   ├── UnknownFormat            1  a store of another version
    │   ├── DiskFull                 1  no space left while writing
    │   └── ClockError               1  the newest snapshot lies in the future
    ├── ObjectError                  1  the object store could not be used
    ├── LockedError                  4  another process holds the store or a repo
    │   └── Overtaken                4  it has published something since we looked
    ├── DamagedError                 5  what the store says of itself is not true
    ├── PlanTooLarge                 1  a plan that does not fit on the disk
    ├── HelperEnded                  1  somebody ended a process that worked for this one
    ├── TooManyFiles                 1  this process may open no more files, or connections
    └── UpstreamError                1  upstream could not be used
        ├── AbsentError              1  upstream says that there is no such file (404, 410)
        ├── TransportError           1  it did not answer, or kept failing
        ├── ShrinkError              1  it suddenly lists under half of what it did
        ├── MismatchError            1  bytes that are not what the metadata promised
        └── BadIndexError            1  metadata that cannot be parsed

Errors carry what they are about as attributes; `str()` makes the sentence a user reads. Errors that only one
module raises and catches live in that module.
"""

from pathlib import Path
from typing import TypeVar

from . import units

_Error = TypeVar("_Error", bound=BaseException)


def without_frames(error: _Error) -> _Error:
    """An error that is to be remembered: what raised it, and what raised that, would be kept too, with all their variables."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class SnapmirrorError(Exception):
    """Root of the tree; never raised itself."""

    exit_status = 1


class UsageError(SnapmirrorError):
    """The command line asks for something that cannot be done as asked."""

    exit_status = 2


class ConfigError(UsageError):
    """The configuration file can't be used."""

    def __init__(self, file: Path, where: str, problem: str) -> None:
        #: the file that was read
        self.file = file
        #: line or key in it, empty if the whole file is meant
        self.where = where
        #: what is wrong, and what would be right
        self.problem = problem

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return f"{self.file}{where}: {self.problem}"


class SelectionError(UsageError):
    """A `[repo.select]` that is well-formed and can't be meant so: it keeps nothing, or names what no repo has."""

    def __init__(self, repo: str, problem: str) -> None:
        #: path of the repo
        self.repo = repo
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.repo}: its selection {self.problem}"


class SelectorError(UsageError):
    """A selector that is malformed, or that names no snapshot, or none yet (404 over HTTP)."""

    def __init__(self, selector: str, problem: str) -> None:
        #: the text as the user gave it
        self.selector = selector
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.selector}: {self.problem}"


class Forgotten(SelectorError):
    """The snapshot that a selector resolves to was forgotten (410 over HTTP)."""

    def __init__(self, selector: str, snapshot: str, before: str | None, after: str | None) -> None:
        #: id of the forgotten snapshot
        self.snapshot = snapshot
        #: ids of the nearest kept snapshots on either side, of the same repo if one was asked for; None: there is none
        self.before = before
        self.after = after
        nearest = " and ".join(filter(None, (before, after))) or "none"
        super().__init__(selector, f"snapshot {snapshot} was forgotten; the nearest kept: {nearest}")


class StoreError(SnapmirrorError):
    """A folder that can't be used as a store."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class UnknownFormat(StoreError):
    """A store written in a format that this version does not know."""

    def __init__(self, path: Path, found: object, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(path, f"store format {found!r} is unknown to this version (it knows {known}); upgrade snapmirror")


class DiskFull(StoreError):
    """No space left while writing (ENOSPC, EDQUOT)."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            "no space left on the disk; what was published is untouched. "
            "Free space (snapmirror forget, then snapmirror gc) and sync again",
        )


class ClockError(StoreError):
    """The newest snapshot is more than five minutes ahead of the clock."""

    def __init__(self, path: Path, newest: str, now: str) -> None:
        self.newest = newest
        self.now = now
        super().__init__(path, f"the newest snapshot {newest} is ahead of the clock ({now}): set the clock right")


class ObjectError(SnapmirrorError):
    """The service that holds a store's objects could not be used."""

    def __init__(self, address: str, code: str, problem: str) -> None:
        #: `s3://bucket/prefix`, or that of an object
        self.address = address
        #: what the service calls the error, `NoSuchBucket` say; empty if it said nothing
        self.code = code
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.address}: {self.problem}" + (f" ({self.code})" if self.code else "")


class LockedError(SnapmirrorError):
    """Another process holds a lock and we were told not to wait."""

    exit_status = 4

    def __init__(self, what: str) -> None:
        #: what is locked, in words: `the store /srv/mirror`, `the repo conda-forge`
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is locked by another process; try again when it has ended"


class Overtaken(LockedError):
    """Another process has published under the number that was ours, while we were thought to be dead."""


class DamagedError(SnapmirrorError):
    """Something that the store needs is missing or is not what its name says."""

    exit_status = 5

    def __init__(self, what: str, problem: str) -> None:
        #: the damaged thing: a path below the store, or a blob's name
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem} (run `snapmirror check`)"


class PlanTooLarge(SnapmirrorError):
    """A plan needs more bytes than the disk can give."""

    def __init__(self, what: str, needed: int, available: int) -> None:
        #: what was to be fetched: path of a repo, or name of a file
        self.what = what
        #: bytes that the plan would write
        self.needed = needed
        #: bytes that may still be written, `min_free` already taken off
        self.available = available

    def __str__(self) -> str:
        return (
            f"the plan needs {units.size(self.needed)} ({self.needed} bytes) and the disk has "
            f"{units.size(self.available)} ({self.available} bytes) to spare above min_free; nothing was fetched"
        )


class HelperEnded(SnapmirrorError):
    """A process that this one had started to work for it was ended from outside, by a kernel that is out of memory, say."""

    def __init__(self, task: str, status: int) -> None:
        #: what it did, as a verb: `compresses metadata`
        self.task = task
        #: its exit status; negative: the signal that ended it
        self.status = status

    def __str__(self) -> str:
        how = f"by signal {-self.status}" if self.status < 0 else f"with status {self.status}"
        return f"the process that {self.task} was ended {how}, perhaps for want of memory"


class TooManyFiles(SnapmirrorError):
    """This process or this machine may open no more files and connections (EMFILE, ENFILE). It is no fault of upstream's."""

    def __init__(self, what: str) -> None:
        #: what was to be opened
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: too many open files; raise the limit (`ulimit -n`, `LimitNOFILE=` of systemd)"


class UpstreamError(SnapmirrorError):
    """Upstream could not be used. `url` never holds credentials."""

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"


class AbsentError(UpstreamError):
    """Upstream says that it has no such file: 404, 410; a form of an index may also be 403 (S3) or 501 (some proxies)."""

    def __init__(self, url: str, status: int) -> None:
        self.status = status
        super().__init__(url, f"upstream answers {status}")


class TransportError(UpstreamError):
    """No usable answer after all retries: connection, time-out, 5xx, 429, 403."""


class ShrinkError(UpstreamError):
    """A new state that lists under half of the files of the state before."""

    def __init__(self, url: str, before: int, now: int) -> None:
        #: how many files the newest snapshot lists, and how many the new state
        self.before = before
        self.now = now
        super().__init__(url, f"lists {now} files, the newest snapshot {before}; `sync --allow-shrink` accepts that")


class MismatchError(UpstreamError):
    """The bytes are not those that the metadata promised."""

    def __init__(self, url: str, what: str, expected: str, actual: str) -> None:
        #: `size`, or which hash, as hashlib calls it: `sha256`, `md5`
        self.what = what
        self.expected = expected
        self.actual = actual
        super().__init__(url, f"{what} is {actual}, the metadata says {expected}")


class BadIndexError(UpstreamError):
    """Metadata that can't be parsed, or is too large."""
