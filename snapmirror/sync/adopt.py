"""Adopting a tree of this machine: a sync from its folder whose files come into the store as they lie there.

Reading, planning, withholding and sealing are those of every sync. The files are hashed by several threads, and get
their second names in batches: bytes durable, names, names durable, index rows. Nothing is written into a file.
"""

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from .. import addresses
from ..digests import Digest, Sums, algorithm
from ..errors import MismatchError, TransportError, UpstreamError
from ..store.blobs import Original, identity
from ..transfer.download import Arrived, Source, verify
from ..transfer.http import Http
from ..transfer.local import file_path
from .engine import Sync
from .fetch import Fetched, Wanted, distinct
from .plan import DirectoryPlan

#: files and seconds between two batches: each syncs up to 256 folders, and is what a kill can cost of hashing
_BATCH_FILES = 10_000
_BATCH_SECONDS = 20.0
#: files that a thread hashes before it reports
_CHUNK = 32
_PIECE = 4 << 20
#: why a file that could be read can't have a second name, but a copy
_COPIED = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class NotTakenError(UpstreamError):
    """A file that stays where it is; no trouble of transport, so it alone is withheld."""


class Amount(NamedTuple):
    """So many files, and their bytes."""

    files: int = 0
    bytes: int = 0

    def plus(self, size: int) -> "Amount":
        """One file more."""
        return Amount(self.files + 1, self.bytes + size)


class Candidate(NamedTuple):
    """A file of the tree that looks like one that is wanted."""

    wanted: Wanted
    #: without symbolic links
    path: str
    size: int


@dataclass
class AdoptPlan:
    """What becomes of the files that a tree lists and the store does not hold."""

    link: list[Candidate] = field(default_factory=list)
    copy: list[Candidate] = field(default_factory=list)
    #: those that can be refused unread
    refused: list[tuple[Wanted, UpstreamError]] = field(default_factory=list)


def make_plan(sources: Iterable[Source], device: int, user: int) -> AdoptPlan:
    """Look at each file, without opening it.

    device: number of the store's file system; user: who must own the files
    """
    plan = AdoptPlan()
    for wanted in distinct(sources):
        try:
            path, status = _look(wanted.source, user)
        except UpstreamError as error:
            plan.refused.append((wanted, error))
            continue
        (plan.link if status.st_dev == device else plan.copy).append(Candidate(wanted, path, status.st_size))
    return plan


def _look(source: Source, user: int) -> tuple[str, os.stat_result]:
    """The path of the first file that may be it. Raises UpstreamError for the first that may not."""
    problems: list[UpstreamError] = []
    for url in source.urls:
        try:
            return _look_at(url, source, user)
        except UpstreamError as error:
            problems.append(error)
    raise problems[0]


def _look_at(url: str, source: Source, user: int) -> tuple[str, os.stat_result]:
    if not url.startswith("file:"):
        raise NotTakenError(addresses.redact(url), "is not in the tree but at that address")
    path = str(file_path(url))
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path)
            status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotTakenError(url, "is not there") from None
    except (OSError, ValueError) as error:
        raise NotTakenError(url, f"can't be looked at: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise NotTakenError(url, "is no regular file")
    if status.st_uid != user:
        raise NotTakenError(url, f"belongs to user {status.st_uid}, not to user {user}, who runs this")
    if source.file.size not in (None, status.st_size):
        raise MismatchError(url, "size", str(source.file.size), str(status.st_size))
    return path, status


class Adoption(Sync):
    """A sync from a tree of this machine. Its repos' upstreams are `file:` URLs."""

    #: files that have come in by a second name, and as copies
    linked = Amount()
    copied = Amount()

    @cached_property
    def _seen(self) -> Fetched:
        """What came of files that failed, or that only their addresses name: the store can't tell that it holds these."""
        return {}

    def plan_files(self) -> AdoptPlan:
        """What a run would do; after a dry run, what it would have done. Pure."""
        return self._plan([source for directory in self._all for source in directory.sources()])

    def _plan(self, sources: Iterable[Source]) -> AdoptPlan:
        return make_plan(sources, os.stat(self._store.layout.blobs).st_dev, os.geteuid())

    def bytes_to_write(self, plan: DirectoryPlan) -> int:
        """See Sync. A second name takes no bytes."""
        folder = file_path(plan.header.bases[0])
        linked = folder.is_dir() and folder.stat().st_dev == os.stat(self._store.layout.blobs).st_dev
        return 0 if linked else super().bytes_to_write(plan)

    def get(self, http: Http, sources: Sequence[Source]) -> Fetched:
        """See Sync. A tree does not change as an upstream may: no file is looked at twice, unless a gc has taken it."""
        found: Fetched = {source.key: self._seen[source.key] for source in sources if self._still_holds(source.key)}
        plan = self._plan(source for source in sources if source.key not in found)
        for wanted, error in plan.refused:
            found |= wanted.fail(error)
        copy = [*plan.copy, *self._link(plan.link, found)]
        found |= self._copy(http, copy)
        self._seen.update(
            {
                source.key: found[source.key]
                for source in sources
                if (source.file.sha256 is None and source.file.other is None) or isinstance(found[source.key], UpstreamError)
            }
        )
        return found

    def _still_holds(self, key: str) -> bool:
        """Whether what came of a source is so still."""
        seen = self._seen.get(key)
        return self._store.blobs.size(seen) is not None if isinstance(seen, bytes) else seen is not None

    def _copy(self, http: Http, candidates: Sequence[Candidate]) -> Fetched:
        if not candidates:
            return {}
        sources = [replace(source, link=False) for one in candidates for source in one.wanted.stated]
        found = super().get(http, sources)
        others: dict[bytes, Digest] = {}
        for one in candidates:
            digest = found[one.wanted.stated[0].key]
            if isinstance(digest, bytes):
                self.copied = self.copied.plus(self._store.blobs.size(digest) or 0)
                if kind := _other(one.wanted.source):
                    with self._store.blobs.open(digest) as blob:
                        others[hashlib.file_digest(blob, kind).digest()] = digest  # type: ignore[arg-type]
        self._store.index.put_blobs({}, others)
        return {
            key: NotTakenError(error.url, error.problem) if isinstance(error, TransportError) else error
            for key, error in found.items()
        }

    def _link(self, candidates: Sequence[Candidate], found: Fetched) -> list[Candidate]:
        """Hash files and give them second names; those that have to be copied after all."""
        batch: list[tuple[Candidate, Original]] = []
        copy: list[Candidate] = []
        committed = time.monotonic()
        for one, result in _hashed(candidates, self._progress.arrived):
            if isinstance(result, UpstreamError):
                found |= one.wanted.fail(result)
            else:
                batch.append((one, result))
            if len(batch) >= _BATCH_FILES or (batch and time.monotonic() - committed > _BATCH_SECONDS):
                copy += self._commit(batch, found)
                batch, committed = [], time.monotonic()
        return copy + self._commit(batch, found)

    def _commit(self, batch: Sequence[tuple[Candidate, Original]], found: Fetched) -> list[Candidate]:
        copy = []
        problems = self._store.adopt([original for _, original in batch])
        for (one, original), problem in zip(batch, problems, strict=True):
            if problem is None:
                found |= one.wanted.succeed(original.sha256, original.size)
                self.linked = self.linked.plus(original.size)
            elif problem.errno in _COPIED:
                copy.append(one)
            else:
                where = addresses.redact(one.wanted.source.urls[0])
                found |= one.wanted.fail(NotTakenError(where, problem.strerror or str(problem)))
        return copy


_Hashed = list[tuple[Candidate, Original | UpstreamError]]


def _hashed(candidates: Sequence[Candidate], arrived: Arrived) -> Iterator[tuple[Candidate, Original | UpstreamError]]:
    """Each with its sums, or why it is not what is wanted; from several threads, in no order."""
    stop = threading.Event()
    threads = os.cpu_count() or 1
    chunks = iter([candidates[start : start + _CHUNK] for start in range(0, len(candidates), _CHUNK)])

    def hash_(chunk: Sequence[Candidate]) -> _Hashed:
        return [(one, _hash(one, arrived)) for one in chunk if not stop.is_set()]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="hash")
    running: set[Future[_Hashed]] = set()
    try:
        while True:
            for chunk in chunks:
                running.add(pool.submit(hash_, chunk))
                if len(running) >= 4 * threads:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _other(source: Source) -> str:
    """What hash to take of a file beside SHA-256: upstream may have stated an MD5 that the tree has nowhere."""
    if source.file.sha256:
        return ""
    return algorithm(source.file.other) if source.file.other else "md5"


def _hash(candidate: Candidate, arrived: Arrived) -> Original | UpstreamError:
    source = candidate.wanted.source
    sums = Sums(_other(source))
    try:
        with open(candidate.path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            while piece := file.read(min(_PIECE, status.st_size + 1)):
                sums.update(piece)
        verify(sums, source, source.urls[0])
    except OSError as error:
        return NotTakenError(addresses.redact(source.urls[0]), f"can't be read: {error.strerror or error}")
    except UpstreamError as error:
        return error
    arrived(sums.size)
    return Original(candidate.path, sums.sha256, sums.blake3, sums.size, sums.other, identity(status))
