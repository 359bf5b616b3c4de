"""What one process counts while it serves: answers, and what came of asking upstreams. `metrics` tells of it.

Labels are few whatever clients ask for: repos are those that there are or were, anything else is `-`.
"""

import time
import urllib.parse
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import AbsentError, BadIndexError, DiskFull, MismatchError, PlanTooLarge, SnapmirrorError, TransportError
from ..store.catalog import CURRENT, Catalog
from .cells import Region
from .internal import PREFIX
from .pull import Transfer
from .respond import Reply

#: in the place of a repo, selector or cache status that there is not
NONE = "-"
#: upper bounds of what is counted together, seconds
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: as they are written
BOUNDS = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")
#: paths that are remembered, and characters of one; clients may make up any number of them
_MOST_PATHS, _LONG = 16_384, 256
#: the first class that an error is of names it
_ERRORS = {AbsentError: "absent", MismatchError: "mismatch", BadIndexError: "index", TransportError: "transport"}


#: what a request was about: path of a repo; and `current`, `date`, `time`, `id`, `pin`, `none` (a path without a selector) or
#: `internal`
About = tuple[str, str]
NOWHERE: About = (NONE, NONE)


class Places:
    """Tells what a path is about, of one state of the store."""

    def __init__(self, catalog: Catalog, configured: Iterable[str]) -> None:
        """configured: paths of repos"""
        self._catalog = catalog
        self._known: dict[str, About] = {}
        #: {first segment: paths of repos that begin with it, the longest first}
        self._repos: dict[str, list[str]] = {}
        for path in sorted({*catalog.repos, *configured}, key=len, reverse=True):
            self._repos.setdefault(path.partition("/")[0], []).append(path)

    def of(self, path: str) -> About:
        """path: raw, without a token; empty if that is not known"""
        found = self._known.get(path)
        if found is None:
            found = self._find(path)
            if len(self._known) < _MOST_PATHS and len(path) < _LONG:
                self._known[path] = found
        return found

    def _find(self, path: str) -> About:
        if not path:
            return NOWHERE
        if path.startswith(PREFIX):
            return NONE, "internal"
        inner = (urllib.parse.unquote(path) if "%" in path else path)[1:]
        first, _, rest = inner.partition("/")
        kind = self._kind(first)
        return self._repo(inner if kind == "none" else rest), kind

    def _kind(self, text: str) -> str:
        if not self._catalog.is_selector(text):
            return "none"
        if text == CURRENT or text in self._catalog.pins:
            return CURRENT if text == CURRENT else "pin"
        return "id" if text in self._catalog.by_id else "date" if "-" in text else "time"

    def _repo(self, inner: str) -> str:
        for path in self._repos.get(inner.partition("/")[0], ()):
            if inner.startswith(path) and inner[len(path) : len(path) + 1] in ("", "/"):
                return path
        return NONE


class _Cells(NamedTuple):
    """Where an answer is counted."""

    requests: int
    bytes: int
    buckets: list[int]
    seconds: int


class Counts:
    """The numbers of this process. Its methods are called in the event loop only."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._answers: dict[tuple[About, int, str], _Cells] = {}

    def answered(self, reply: Reply) -> None:
        """Count an answer that is over."""
        seconds = time.monotonic() - reply.began
        key = (reply.about, reply.status, reply.cache.status)
        cells = self._answers.get(key)
        if cells is None:
            cells = self._answers[key] = self._cells(*key)
        numbers = self._region.numbers
        numbers[cells.requests] += 1
        numbers[cells.bytes] += reply.body_length
        numbers[cells.buckets[bisect_left(BUCKETS, seconds)]] += 1
        numbers[cells.seconds] += seconds

    def _cells(self, about: About, status: int, cache: str) -> _Cells:
        cell = self._region.cell
        buckets = [cell(("http_request_seconds", cache, bound)) for bound in BOUNDS]
        requests = cell(("http_requests", *about, str(status), cache))
        return _Cells(requests, cell(("http_sent_bytes", about[0])), buckets, cell(("http_request_seconds", cache, "sum")))

    def pulled(self, transfer: Transfer) -> None:
        """Count a transfer that is over; not if another process has done it."""
        if transfer.upstream is None:
            return
        self._add("pulls", _outcome(transfer.error))
        if transfer.error:
            self._failed("file", transfer.error)
        else:
            self._add("pulled_bytes", by=transfer.size)
        self._add("pull_seconds", BOUNDS[bisect_left(BUCKETS, transfer.upstream)])
        self._add("pull_seconds", "sum", by=transfer.upstream)

    def refreshed(self, problem: SnapmirrorError | None) -> None:
        """Count that upstream was asked for metadata. problem: why in vain, None if not"""
        self._add("metadata_reads", _outcome(problem))
        if problem:
            self._failed("metadata", problem)

    def _failed(self, what: str, error: SnapmirrorError) -> None:
        if (outcome := _outcome(error)) != "full":
            self._add("upstream_errors", what, outcome)

    def _add(self, *name: str, by: float = 1) -> None:
        self._region.numbers[self._region.cell(name)] += by


def _outcome(error: SnapmirrorError | None) -> str:
    """How asking upstream ended, in a word."""
    if error is None:
        return "ok"
    if isinstance(error, DiskFull | PlanTooLarge):
        return "full"
    return next((name for kind, name in _ERRORS.items() if isinstance(error, kind)), "other")
