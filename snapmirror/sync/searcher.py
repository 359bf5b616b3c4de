"""Search for packages by name, in all that the kept snapshots list.

Names are read once for each process, when somebody searches first: those of the newest snapshot at once, and those that are
only in older ones in a thread, newest first. Of a directory that differs from the one after it only the buckets that differ
are read. Until that is done an answer says how far back it reaches.
"""

import logging
import threading
import time
from collections.abc import Collection, Mapping

import msgspec

from ..errors import DamagedError
from ..store.catalog import Catalog
from ..store.records import Record
from ..store.store import Store

_log = logging.getLogger(__name__)
#: seconds that a search waits for older names: all of those of a small store are there by then
_PATIENCE = 0.25
#: seconds of rest after each snapshot, for requests that are answered meanwhile
_REST = 0.002


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A name."""

    #: of the package
    name: str
    #: {repo: id of the newest kept snapshot that lists it}; null if the newest only remembers that its files were removed
    repos: dict[str, str | None]


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What a search came to."""

    #: how many names there are in all
    count: int
    #: those that are called so first, then those that begin so
    found: list[Found]
    #: id of the oldest snapshot whose names are read by now; null if there is none
    reached: str | None
    #: whether that is the oldest that is kept
    complete: bool


class Searcher:
    """Searches the names of one store, for one process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._index: _Index | None = None

    def search(self, catalog: Catalog, text: str, repos: Collection[str] | None, limit: int, offset: int = 0) -> Names:
        """The names that contain a text, whatever its case; `-`, `_` and `.` are the same.

        repos: paths of those to look in; None: all. Raises DamagedError.
        """
        with self._lock:
            if self._index is None or self._index.catalog is not catalog:
                before, self._index = self._index, _Index(self._store, catalog, self._index)
                if before:
                    before.stop()
            index = self._index
        names = index.search(text, repos, limit, offset)
        newest = {repo: record for record in catalog.records for repo in record.repos}
        found = [
            Found(name=one.name, repos={repo: self._last(one.name, repo, id_, newest) for repo, id_ in one.repos.items()})
            for one in names.found
        ]
        return msgspec.structs.replace(names, found=found)

    def _last(self, name: str, repo: str, id_: str | None, newest: Mapping[str, Record]) -> str | None:
        """See Found.repos. newest: {repo: its newest record}"""
        if id_ != newest[repo].id:
            return id_
        for state in newest[repo].repos[repo].directories.values():
            if self._store.metadata.directory(state.blob).lists(name):
                return id_
        return None


class _Index:
    """The names of one catalog."""

    def __init__(self, store: Store, catalog: Catalog, before: "_Index | None") -> None:
        """before: of an earlier catalog; what it has read need not be read again if only newer snapshots have come"""
        self.catalog = catalog
        self._store = store
        #: newest first
        self._records = catalog.records[::-1]
        #: {repo: {name: (as it is searched, id of the newest snapshot that lists it)}}
        self._names: dict[str, dict[str, tuple[str, str]]] = {}
        #: {(repo, directory): buckets of the oldest state that was read}
        self._buckets: dict[tuple[str, str], tuple[bytes, ...]] = {}
        #: how many records were read, and what knows the others
        self._read = 0
        self._older = before if before and before._reaches(catalog) else None
        self._begun = self._stopped = False
        #: whether nothing more will be read
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def _reaches(self, catalog: Catalog) -> bool:
        """Whether all that this has, and nothing older that it lacks, is in a newer catalog."""
        mine = [record.id for record in self.catalog.records]
        return bool(mine) and self._complete and [record.id for record in catalog.records[: len(mine)]] == mine

    @property
    def _complete(self) -> bool:
        return self._read == len(self._records)

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def search(self, text: str, repos: Collection[str] | None, limit: int, offset: int) -> Names:
        """See Searcher.search."""
        with self._lock:
            if not self._begun:
                if self._records:
                    self._take(self._records[0])
                self._begun = True
                threading.Thread(target=self._go_on, name="names", daemon=True).start()
        self._ended.wait(_PATIENCE)
        complete, read = self._complete, self._read
        wanted = _plain(text)
        found: dict[str, dict[str, str | None]] = {}
        for repo, names in list(self._names.items()):
            if repos is None or repo in repos:
                for name, (plain, last) in list(names.items()):
                    if wanted in plain:
                        found.setdefault(name, {})[repo] = last
        ordered = sorted(found, key=lambda name: (_plain(name) != wanted, not _plain(name).startswith(wanted), name))
        return Names(
            count=len(found),
            found=[Found(name=name, repos=dict(sorted(found[name].items()))) for name in ordered[offset : offset + limit]],
            reached=self._records[read - 1].id if read else None,
            complete=complete,
        )

    def _go_on(self) -> None:
        """Read what older snapshots list. In a thread of its own."""
        try:
            while self._read < len(self._records) and not self._stopped:
                record = self._records[self._read]
                if self._older and record.id == self._older._records[0].id:
                    self._adopt(self._older)
                    break
                self._take(record)
                time.sleep(_REST)
        except (DamagedError, OSError) as error:  # of one that was forgotten meanwhile too; the next catalog begins anew
            _log.warning("names of packages are known back to %s only: %s", self._records[max(self._read - 1, 0)].id, error)
        finally:
            self._older = None
            self._ended.set()

    def _adopt(self, older: "_Index") -> None:
        for repo, names in older._names.items():
            mine = self._names.setdefault(repo, {})
            self._names[repo] = {**names, **mine}
        self._read = len(self._records)

    def _take(self, record: Record) -> None:
        """Learn the names that a snapshot lists and no newer one does. Raises DamagedError."""
        for repo, held in record.repos.items():
            names = self._names.setdefault(repo, {})
            for directory, state in held.directories.items():
                reader = self._store.metadata.directory(state.blob)
                buckets, after = reader.document.buckets, self._buckets.get((repo, directory), ())
                same = len(after) == len(buckets)
                differing = [one for place, one in enumerate(buckets) if not same or after[place] != one]
                self._store.metadata.expect(differing)
                for bucket in differing:
                    for name in self._store.metadata.names(bucket):
                        if name not in names:
                            names[name] = (_plain(name), record.id)
                self._buckets[repo, directory] = buckets
        self._read += 1


def _plain(name: str) -> str:
    plain = name.casefold().replace("_", "-").replace(".", "-")
    return name if plain == name else plain  # most are, and are then kept once
