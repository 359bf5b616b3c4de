"""Fetching many files side by side, and giving them to the store in durable batches."""

import time
import urllib.parse
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Protocol

from ..digests import Digest
from ..errors import LockedError, TransportError, UpstreamError
from ..store.blobs import Staged
from ..store.store import Store
from .download import Source, download
from .http import Http

#: files, and seconds, between two durable batches: what a kill can cost is that much work, and not even its bytes
_BATCH_FILES = 128
_BATCH_SECONDS = 2.0
#: bytes: the disk writes one batch while the next one arrives
_BATCH_BYTES = 256 << 20
#: seconds that running transfers get to notice that all is over
_STOPPING_SECONDS = 5.0
#: transport failures in a row after which a host is given up for this sync
_HOPELESS = 10


class Progress(Protocol):
    """Told how far a sync is. The command line draws it; tests and libraries pass what they like."""

    def message(self, text: str) -> None:
        """Something happened that a person should know."""
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


Fetched = dict[str, Digest | UpstreamError]


def fetch(store: Store, http: Http, sources: Iterable[Source], progress: Progress) -> Fetched:
    """Fetch, verify and store files; {source's key: its SHA-256, or why it could not be had}.

    Returns when all are durable and in the index. Raises DiskFull; what was finished before stays in the store.
    """
    found: Fetched = {}
    batch: dict[str, Staged] = {}
    committed = time.monotonic()
    hosts = _Hosts()
    queue = iter(_merged(sources))
    running: dict[Future[Staged], Source] = {}
    try:
        while True:
            _submit(queue, running, store, http, progress, hosts)
            if not running:
                break
            done, _ = wait(running, timeout=_BATCH_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                source = running.pop(future)
                result = _result(future, source, hosts)
                if isinstance(result, Staged):
                    batch[source.key] = result
                else:
                    found[source.key] = result
            size = sum(staged.size for staged in batch.values())
            if batch and (len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES or time.monotonic() - committed > _BATCH_SECONDS):
                _commit(store, batch, found)
                committed = time.monotonic()
        _commit(store, batch, found)
    except BaseException:
        for staged in batch.values():
            staged.release()
        http.stop()
        for future in running:
            future.cancel()
        wait(running, timeout=_STOPPING_SECONDS)
        raise
    return found


def _merged(sources: Iterable[Source]) -> list[Source]:
    """Each byte string once, with every address that it may be had from: one repo's upstream may lack what another's has."""
    merged: dict[str, Source] = {}
    for source in sources:
        known = merged.get(source.key)
        urls = tuple(dict.fromkeys((*known.urls, *source.urls))) if known else source.urls
        merged[source.key] = replace(known or source, urls=urls)
    return list(merged.values())


def _submit(
    queue: Iterator[Source],
    running: dict[Future[Staged], Source],
    store: Store,
    http: Http,
    progress: Progress,
    hosts: "_Hosts",
) -> None:
    """Keep a few transfers more under way than there are threads; 600,000 futures would be a gigabyte."""
    while len(running) < 3 * http.settings.connections:
        source = next(queue, None)
        if source is None:
            return
        running[http.pool.submit(_download, store, http, source, progress, hosts)] = source


def _download(store: Store, http: Http, source: Source, progress: Progress, hosts: "_Hosts") -> Staged:
    hosts.check(source)
    while True:
        try:
            return download(http, store.layout.incoming, source, progress.arrived)
        except LockedError:
            time.sleep(0.2)  # another process fetches the same bytes; if it succeeds, its partial goes and ours is a new one


def _result(future: Future[Staged], source: Source, hosts: "_Hosts") -> Staged | UpstreamError:
    try:
        staged = future.result()
    except UpstreamError as error:
        hosts.failed(source, error)
        return error
    hosts.succeeded(source)
    return staged


def _commit(store: Store, batch: dict[str, Staged], found: Fetched) -> None:
    if batch:
        store.admit(list(batch.values()))
        found.update({key: staged.sha256 for key, staged in batch.items()})
        while batch:
            batch.popitem()[1].release()


class _Hosts:
    """Which hosts have failed so often in a row that asking on only costs time."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}

    def check(self, source: Source) -> None:
        """Raise TransportError if the only hosts of a source are hopeless."""
        hosts = [_host(url) for url in source.urls]
        if all(self._failures.get(host, 0) >= _HOPELESS for host in hosts):
            raise TransportError(hosts[0], f"given up after {_HOPELESS} failures in a row")

    def failed(self, source: Source, error: UpstreamError) -> None:
        """Count a failure of transport; an answer of any kind, 404 too, is none."""
        if isinstance(error, TransportError):
            for url in source.urls:
                self._failures[_host(url)] = self._failures.get(_host(url), 0) + 1
        else:
            self.succeeded(source)

    def succeeded(self, source: Source) -> None:
        """The host answers."""
        for url in source.urls:
            self._failures[_host(url)] = 0


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
