"""What is being served: an immutable view of the store, and the watch that replaces it when the store changes."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from .. import clock
from ..digests import Digest
from ..errors import DamagedError
from ..store.catalog import Catalog
from ..store.denied import reasons
from ..store.live import LiveState
from ..store.records import Entry, Pages, Record, Tombstone
from ..store.snapshots import settled_at
from ..store.store import Store

_log = logging.getLogger(__name__)
#: seconds between two looks at the store
_INTERVAL = 0.5
#: how many times as long as a look took it is until the next one that nobody knows to be worth it
_REST = 10
#: a view expires so long after it was made, or earlier
_LIFE = timedelta(hours=1)
#: tells what repos with metadata on request have now, by path; see fresh.Live
States = Callable[[Catalog], Mapping[str, LiveState]]
#: ids of the records that stand for these, and for what they had shortly before: only `current` comes so late
_LIVE, _FORMER = "99999999T999999Z", "99999999T999998Z"


def snapshot_of(record: Record) -> str:
    """What answers from a record say that they are from: its id, or `live`."""
    return "live" if record.id in (_LIVE, _FORMER) else record.id


class _Later(NamedTuple):
    """What was read of upstream since the snapshots were sealed, because somebody asked for it."""

    #: the latest states of repos, by path
    live: Mapping[str, LiveState]
    #: what snapshots answer more than they were sealed with, by their ids
    pages: Mapping[str, Pages]


class View(NamedTuple):
    """The state that answers are made of. What is cached for one view is dropped with it."""

    #: the snapshots
    catalog: Catalog
    #: the same, with what was read since because somebody asked
    answering: Catalog
    #: hexadecimal SHA-256 -> reason, of the files that the operator has denied
    denied: Mapping[str, str]
    #: the same files, for pages. Views share it while it is the same: in keys, to compare 10,000 takes three times as long as
    #: to send a page
    denied_files: frozenset[Digest]
    #: when answers may change although nothing in the store does
    expires: datetime


class Watch:
    """Looks for changes in the store when asked for the view: at most twice a second, unless told that there may be some."""

    def __init__(self, store: Store, states: States = lambda _: {}) -> None:
        self._store = store
        self._states = states
        self._later = _Later({}, {})
        #: why the store can't be read, empty if it can
        self.problem = ""
        self._next_look = self._rested = 0.0
        self._seen: tuple[int | None, ...] = ()
        self._view = View(Catalog(), Catalog(), {}, frozenset(), store.now())
        self.view()

    def view(self, selector: str = "") -> View:
        """The present view; the one before if the store can't be read (then `problem` says why).

        selector: of the request. An id later than all that are known is looked for at once: it would mean the one before it.
        """
        if time.monotonic() >= self._next_look or self._is_news(selector):
            began = time.monotonic()
            self._next_look = began + _INTERVAL
            try:
                self._look()
            except (DamagedError, OSError) as error:
                problem = str(error) if isinstance(error, DamagedError) else f"the store can't be read: {error.strerror}"
                if problem != self.problem:
                    _log.error("serving what was last read: %s", problem)
                self.problem = problem
            ended = time.monotonic()
            self._rested = ended + _REST * (ended - began)
        return self._view

    def renew(self) -> None:
        """Have the next call of `view` look, whenever the last one did."""
        self._next_look = 0.0

    def hurry(self) -> None:
        """Have the next call of `view` look, unless looks would then take much of the time."""
        self._next_look = min(self._next_look, self._rested)

    def _is_news(self, selector: str) -> bool:
        """Whether a selector is an id later than all that are known."""
        entries = self._view.catalog.entries  # compared first: it is asked at every request
        return (not entries or selector > entries[-1].id) and clock.from_id(selector) is not None

    def _look(self) -> None:
        layout = self._store.layout
        found = tuple(map(settled_at, (layout.snapshots, layout.pins, layout.denied, self._store.live.folder)))
        now = self._store.now()
        expired = not (now < self._view.expires <= now + _LIFE)  # later: the clock was set back
        if None not in found and found == self._seen and not self.problem and not expired:
            return
        catalog = self._store.catalog()
        denied = reasons(self._store.denied.rules())
        self._seen = found
        live = self._states(catalog)
        if (newer := self._store.catalog()) is not catalog:  # what was live may be sealed by now, and live no more
            catalog, live = newer, self._states(newer)
        later = _Later(live, self._store.snapshots.pages())
        view = self._view
        if catalog is not view.catalog or (denied, later) != (view.denied, self._later) or expired:
            self._later = later
            files = view.denied_files if denied == view.denied else frozenset(map(bytes.fromhex, denied))
            self._view = View(catalog, _answering(catalog, later), denied, files, _expires(catalog, now))
        if self.problem:
            _log.info("the store can be read again")
            self.problem = ""


def _answering(catalog: Catalog, later: _Later) -> Catalog:
    """The catalog with what was read later: some records more, and more pages of those that are there."""
    if later.pages:
        catalog = Catalog(tuple(_with_pages(entry, later.pages.get(entry.id, {})) for entry in catalog.entries), catalog.pins)
    for path, state in later.live.items():
        for former in state.former:
            catalog = catalog.followed_by(Record(id=_FORMER, number=0, partial=True, repos={path: former}))
    if later.live:
        catalog = catalog.followed_by(Record(id=_LIVE, number=0, partial=True, repos=dict(later.live)))
    return catalog


def _with_pages(record: Entry, pages: Pages) -> Entry:
    """A record with the directories that answer instead of those that it names; see `records.Pages`."""
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
    """When answers may change by time alone: days begin and end on the hour, somewhere; a snapshot whose id is ahead of our
    clock begins to count then.
    """
    hour = now.replace(minute=0, second=0) + _LIFE
    ahead = [clock.from_id(entry.id) for entry in catalog.entries[-8:]]
    return min([hour, *(instant for instant in ahead if instant and instant > now)])
