"""What is being served: an immutable view of the store, and the watch that replaces it when the store changes."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from .. import clock
from ..errors import DamagedError
from ..store.catalog import Catalog
from ..store.denied import reasons
from ..store.records import Entry, Pages, Record, RepoState, Tombstone
from ..store.snapshots import settled_at
from ..store.store import Store

_log = logging.getLogger(__name__)
#: seconds between two looks at the store
_INTERVAL = 0.5


#: tells what repos with metadata on request have now; sync provides it
States = Callable[[Catalog], Mapping[str, RepoState]]
#: id of the record that stands for these: only `current` comes so late
_LIVE = "99999999T999999Z"


def snapshot_of(record: Record) -> str:
    """What answers from a record say that they are from."""
    return "live" if record.id == _LIVE else record.id


class _Later(NamedTuple):
    """What was read of upstream since the snapshots were sealed, because somebody asked for it."""

    live: Mapping[str, RepoState]
    #: by id of the snapshot
    pages: Mapping[str, Pages]


class View(NamedTuple):
    """The state that answers are made of. What is cached for one view is dropped with it."""

    #: counts views, so that it can be part of a key
    number: int
    #: the snapshots
    catalog: Catalog
    #: the same, and what was read since for somebody who asked
    answering: Catalog
    #: hexadecimal SHA-256 -> reason, of the files that the operator has denied
    denied: Mapping[str, str]
    #: when answers may change although nothing in the store does
    expires: datetime


class Watch:
    """Looks for changes in the store at most twice a second, when asked for the view."""

    def __init__(self, store: Store, states: States = lambda _: {}) -> None:
        self._store = store
        self._states = states
        self._later = _Later({}, {})
        #: why the store can't be read, empty if it can
        self.problem = ""
        self._next_look = 0.0
        self._seen: tuple[int | None, ...] = ()
        self._view = View(0, Catalog(), Catalog(), {}, store.now())
        self.view()

    def view(self, selector: str = "") -> View:
        """The present view; the one before if the store can't be read (then `problem` says why).

        selector: of the request; an id after all that we know of is looked for at once, or it would mean the one before it
        """
        if time.monotonic() >= self._next_look or self._is_news(selector):
            self._next_look = time.monotonic() + _INTERVAL
            try:
                self._look()
            except (DamagedError, OSError) as error:
                problem = str(error) if isinstance(error, DamagedError) else f"the store can't be read: {error.strerror}"
                if problem != self.problem:
                    _log.error("serving what was last read: %s", problem)
                self.problem = problem
        return self._view

    def renew(self) -> None:
        """Look at once: this process has just changed something."""
        self._next_look = 0.0

    def _is_news(self, selector: str) -> bool:
        entries = self._view.catalog.entries
        return clock.from_id(selector) is not None and (not entries or selector > entries[-1].id)

    def _look(self) -> None:
        layout = self._store.layout
        found = tuple(map(settled_at, (layout.snapshots, layout.pins, layout.denied, self._store.live.folder)))
        now = self._store.now()
        if None not in found and found == self._seen and not self.problem and now < self._view.expires:
            return
        catalog = self._store.catalog()
        denied = reasons(self._store.denied.rules())
        self._seen = found
        later = _Later(self._states(catalog), self._store.snapshots.pages())
        view = self._view
        if catalog is not view.catalog or (denied, later) != (view.denied, self._later) or now >= view.expires:
            self._later = later
            self._view = View(view.number + 1, catalog, _with(catalog, later), denied, _expires(catalog, now))
        if self.problem:
            _log.info("the store can be read again")
            self.problem = ""


def _with(catalog: Catalog, later: _Later) -> Catalog:
    """The catalog with what was read later: another record, and more pages of some that are there."""
    if later.pages:
        catalog = Catalog(tuple(_more(entry, later.pages.get(entry.id, {})) for entry in catalog.entries), catalog.pins)
    if later.live:
        catalog = catalog.followed_by(Record(id=_LIVE, number=0, partial=True, repos=dict(later.live)))
    return catalog


def _more(record: Entry, pages: Pages) -> Entry:
    if isinstance(record, Tombstone) or not pages:
        return record
    repos = dict(record.repos)
    for path, digest in pages.items():
        if path in repos:
            state = repos[path].directories[""]
            directories = {**repos[path].directories, "": replace(state, digest=digest)}
            repos[path] = replace(repos[path], directories=directories)
    return replace(record, repos=repos)


def _expires(catalog: Catalog, now: datetime) -> datetime:
    """Days begin and end on the hour, somewhere; a snapshot from a clock that was ahead of ours begins to count later."""
    hour = now.replace(minute=0, second=0) + timedelta(hours=1)
    ahead = [clock.from_id(entry.id) for entry in catalog.entries[-8:]]
    return min([hour, *(instant for instant in ahead if instant and instant > now)])
