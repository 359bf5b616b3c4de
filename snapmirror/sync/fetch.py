"""Fetching many files side by side, and giving them to the store in durable batches."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import NamedTuple, Protocol

from .. import addresses
from ..digests import Digest
from ..errors import LockedError, MismatchError, TransportError, UpstreamError
from ..store.blobs import Staged
from ..store.store import Store
from ..transfer.download import Source, download
from ..transfer.hosts import Hosts
from ..transfer.http import Http

#: files, and seconds, between two durable batches: a kill can cost the work of one, and not even its bytes
_BATCH_FILES = 128
_BATCH_SECONDS = 2.0
#: bytes: the disk writes one batch while the next one arrives
_BATCH_BYTES = 256 << 20
#: seconds that running transfers get to notice that all is over
_STOPPING_SECONDS = 5.0


class Progress(Protocol):
    """Told how far a sync is. The command line draws it; tests and libraries pass what they like."""

    def message(self, text: str) -> None:
        """Something happened that a person should know."""
        ...

    def stage(self, repo: str, stage: str, detail: str) -> None:
        """How far a sync is with a repo: `waiting`, `reading`, `fetching`, `publishing`, `failed`, and a few words more."""
        ...

    def begin(self, files: int, size: int) -> None:
        """So many files of so many bytes are going to be fetched."""
        ...

    def arrived(self, size: int) -> None:
        """So many bytes have just come in; called from several threads."""
        ...

    def end(self) -> None:
        """The fetching is over."""
        ...


#: {key of a source: its SHA-256, or why it could not be had}
Fetched = dict[str, Digest | UpstreamError]


class Wanted(NamedTuple):
    """One byte string, which several repos may list."""

    #: with every address that it may be had from: one repo's upstream may lack what another's has
    source: Source
    #: one of those who list it for each size that they state: where these differ, the hash tells what the file is
    stated: tuple[Source, ...]

    def succeed(self, digest: Digest, size: int) -> Fetched:
        """What to tell of it to those who state its size, right or wrong."""
        return {
            source.key: digest
            if source.file.size in (None, size)
            else MismatchError(addresses.redact(source.urls[0]), "size", str(source.file.size), str(size))
            for source in self.stated
        }

    def fail(self, error: UpstreamError) -> Fetched:
        """It can't be had."""
        return {source.key: error for source in self.stated}


class _Held(Exception):
    """The bytes have come into the store by another process."""

    def __init__(self, digest: Digest, size: int) -> None:
        self.digest = digest
        self.size = size


_Running = dict[Future[Staged], Wanted]


def fetch(store: Store, http: Http, sources: Iterable[Source], progress: Progress) -> Fetched:
    """Fetch, verify and store files, each byte string once; what came of every source.

    Returns when all are durable and in the index. Raises StoreError, DiskFull; what was finished before stays in the store.
    """
    found: Fetched = {}
    batch: list[tuple[Wanted, Staged]] = []
    committed = time.monotonic()
    hosts = Hosts()
    queue = _unknown(store, distinct(sources), found)
    running: _Running = {}
    try:
        while True:
            _submit(queue, running, store, http, progress, hosts)
            if not running:
                break
            done, _ = wait(running, timeout=_BATCH_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                _collect(store, future, running.pop(future), batch, found)
            size = sum(staged.size for _, staged in batch)
            if batch and (len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES or time.monotonic() - committed > _BATCH_SECONDS):
                _commit(store, batch, found)
                committed = time.monotonic()
        _commit(store, batch, found)
    except BaseException:
        for _, staged in batch:
            staged.release()
        http.stop()
        for future in running:
            future.cancel()
        for future in wait(running, timeout=_STOPPING_SECONDS).done:
            if not future.cancelled() and not future.exception():
                future.result().release()
        raise
    return found


def distinct(sources: Iterable[Source]) -> Iterator[Wanted]:
    """Each byte string once, in the order of the sources."""
    found: dict[str, Source] = {}
    disputed: dict[str, dict[int | None, Source]] = {}
    for source in sources:
        known = found.setdefault(source.content, source)
        if known is not source:
            found[source.content] = replace(known, urls=tuple(dict.fromkeys((*known.urls, *source.urls))))
        if known.file.size != source.file.size:
            sizes = disputed.setdefault(source.content, {known.file.size: known})
            sizes.setdefault(source.file.size, source)
    for content, source in found.items():
        if sizes := disputed.get(content, {}):
            yield Wanted(replace(source, file=source.file.but(size=None)), tuple(sizes.values()))
        else:
            yield Wanted(source, (source,))


def _unknown(store: Store, queue: Iterable[Wanted], found: Fetched) -> Iterator[Wanted]:
    """Those that have to be fetched. The others were, but are listed in no snapshot yet: that they are held no hash tells, but
    the address, the size and the date.
    """
    for wanted in queue:
        digest = store.index.notes([key]).get(key) if (key := _note_of(wanted.source)) else None
        if digest and (size := store.held([digest]).get(digest)) is not None:
            found.update(wanted.succeed(digest, size))
        else:
            yield wanted


def _note_of(source: Source) -> str:
    """Under what it is noted which bytes a file had; empty if a hash tells that, or if nothing does."""
    return "" if source.can_resume or source.file.modified is None else f"fetched {source.key} {source.file.modified}"


def _submit(queue: Iterator[Wanted], running: _Running, store: Store, http: Http, progress: Progress, hosts: Hosts) -> None:
    """Keep a few transfers more under way than there are threads; 600,000 futures would be a gigabyte."""
    while len(running) < 3 * http.settings.connections:
        wanted = next(queue, None)
        if wanted is None:
            return
        running[http.pool.submit(_download, store, http, wanted.source, progress, hosts)] = wanted


def _download(store: Store, http: Http, source: Source, progress: Progress, hosts: Hosts) -> Staged:
    """Raises _Held if another process was fetching the same bytes, and now the store has them."""
    while True:
        try:
            return download(http, store.layout.incoming, source, progress.arrived, hosts)
        except LockedError:
            time.sleep(0.2)
        if http.stopping:
            raise TransportError(addresses.redact(source.urls[0]), "stopped")
        if (digest := source.file.sha256) and (size := store.blobs.size(digest)) is not None:
            raise _Held(digest, size)


def _collect(store: Store, future: Future[Staged], wanted: Wanted, batch: list[tuple[Wanted, Staged]], found: Fetched) -> None:
    """Take what came of one transfer."""
    try:
        batch.append((wanted, future.result()))
    except UpstreamError as error:
        found.update(wanted.fail(error))
    except _Held as held:
        store.held([held.digest])  # that process may have died before it had entered it
        found.update(wanted.succeed(held.digest, held.size))


def _commit(store: Store, batch: list[tuple[Wanted, Staged]], found: Fetched) -> None:
    """Store the files of a batch, and empty it."""
    if batch:
        store.admit([staged for _, staged in batch])
        if noted := {key: staged.sha256 for wanted, staged in batch if (key := _note_of(wanted.source))}:
            store.index.put_notes(noted)
        for wanted, staged in batch:
            found.update(wanted.succeed(staged.sha256, staged.size))
        while batch:
            batch.pop()[1].release()
