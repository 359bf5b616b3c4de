"""`/-/metrics`: what all processes of the server have counted, what the store says, and how sync, gc and check went.

In the text format of Prometheus, or OpenMetrics for who asks for it. What is made of the store needs no index.
"""

import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from .. import clock, version
from ..errors import DamagedError, SelectorError
from ..store.catalog import CURRENT
from ..store.records import RepoState
from ..store.store import Store
from .cells import DROPPED, Name, Regions
from .counts import BOUNDS
from .internal import Snapshots
from .settings import Origins
from .view import View

_log = logging.getLogger(__name__)
_PREFIX = "snapmirror_"
_OPEN = "application/openmetrics-text"


#: by the values of the labels. Mapping would not take tuples of a certain length for its keys
_Numbers = dict[Any, float] | dict[Any, int]


class _Counted(NamedTuple):
    """What the name of a cell stands for."""

    text: str
    labels: Sequence[str] = ()


#: counters, by the first part of a cell's name
_COUNTERS = {
    "http_requests": _Counted(
        "Answers, by repo, kind of selector, status, and where they came from.", ("repo", "selector", "status", "cache")
    ),
    "http_sent_bytes": _Counted("Bytes of bodies that were sent.", ("repo",)),
    "pulls": _Counted("Files fetched from upstream because somebody asked, by how that ended.", ("outcome",)),
    "pulled_bytes": _Counted("Bytes of these files."),
    "metadata_reads": _Counted(
        "Times that upstream was asked for metadata because somebody asked, by how that ended.", ("outcome",)
    ),
    "upstream_errors": _Counted("Failures of upstreams while somebody waited.", ("what", "error")),
}
#: histograms of seconds
_HISTOGRAMS = {
    "http_request_seconds": _Counted("Time from the request to the end of its answer.", ("cache",)),
    "pull_seconds": _Counted("Time that upstream took for a file."),
}


class _Facts(NamedTuple):
    """What directories say, which never changes for one state of the store. By path of a repo, under `current`."""

    files: Mapping[str, int]
    bytes: Mapping[str, int]
    withheld: Mapping[str, int]
    #: bytes of all files of all snapshots, as if each had its own
    referenced: int


class Metrics:
    """Makes the document. One for each process."""

    def __init__(self, store: Store, regions: Regions, origins: Origins, snapshots: Snapshots) -> None:
        self._store = store
        self._regions = regions
        self._origins = origins
        self._snapshots = snapshots
        self._known: tuple[View, _Facts] | None = None

    def document(self, accept: str, view: View, problem: str) -> tuple[bytes, str]:
        """The document and its media type. Takes a while: not in the event loop.

        accept: field of the request; problem: why the store can't be read, empty if it can
        """
        found = _Families(self._families(view, problem))
        encode, media = choose_encoder(_OPEN if _OPEN in accept else "")
        return encode(found), media

    def _families(self, view: View, problem: str) -> Iterator[Metric]:
        yield _gauge("info", "What answers.", {(version(),): 1}, ("version",))
        yield from _counted(self._regions.totals())
        for part in (self._runs(), self._left_alone(), self._disk(), self._state(view)):
            try:
                yield from part
            except (DamagedError, OSError) as error:  # what was counted is told all the same
                problem = problem or str(error)
                _log.error("metrics: %s", error)
        yield _gauge("store_readable", "Whether the snapshots can be read.", {(): 0 if problem else 1})

    def _left_alone(self) -> Iterator[Metric]:
        """What this and other processes have noted of hosts."""
        until, now = "Hosts that are left alone because they failed again and again.", clock.to_id(self._store.now())
        blocked = {(one.host,): 1 for one in self._store.live.blocked() if one.until > now}
        yield _gauge("upstream_left_alone", until, blocked, ("host",))

    def _state(self, view: View) -> Iterator[Metric]:
        """What the snapshots say."""
        catalog, now = view.catalog, self._store.now()
        yield _gauge("snapshots", "Snapshots that are kept.", {(): len(catalog.records)})
        yield _gauge("pins", "Pins.", {(): len(catalog.pins)})
        newest = clock.from_id(catalog.records[-1].id) if catalog.records else None
        yield _gauge(
            "snapshot_age_seconds", "Time since the newest snapshot.", {(): (now - newest).total_seconds()} if newest else {}
        )
        read = {path: clock.from_id(repo.read) for path, repo in self._repos(view).items()}
        ages = {(path,): (now - then).total_seconds() for path, then in read.items() if then}
        yield _gauge("repo_age_seconds", "Time since upstream was last read for what is current.", ages, ("repo",))
        limits = {(path,): origin.max_age for path, origin in self._origins.items() if origin.max_age is not None}
        yield _gauge("repo_max_age_seconds", "The configured max_age.", limits, ("repo",))
        facts = self._facts(view)
        for name, text, numbers in (
            ("repo_files", "Files that are current.", facts.files),
            ("repo_bytes", "Bytes of these files.", facts.bytes),
            ("withheld_files", "Files that upstream lists and current does not.", facts.withheld),
        ):
            yield _gauge(name, text, {(path,): number for path, number in numbers.items()}, ("repo",))
        yield _gauge("snapshots_bytes", "Bytes of the files of all snapshots, as if each had its own.", {(): facts.referenced})

    def _repos(self, view: View) -> Mapping[str, RepoState]:
        """What is current, by path."""
        try:
            return view.answering.view(CURRENT, self._store.now()).repos
        except SelectorError:
            return {}

    def _facts(self, view: View) -> _Facts:
        if self._known is None or self._known[0] is not view:
            self._known = view, self._read_facts(view)
        return self._known[1]

    def _read_facts(self, view: View) -> _Facts:
        files, size, withheld = dict[str, int](), dict[str, int](), dict[str, int]()
        for path, repo in self._repos(view).items():
            found = [self._store.metadata.directory(state.blob).document for state in repo.directories.values()]
            files[path] = sum(one.files for one in found)
            size[path] = sum(one.size for one in found)
            withheld[path] = sum(len(one.withheld) for one in found)
        return _Facts(files, size, withheld, self._snapshots.referenced(view.catalog))

    def _disk(self) -> Iterator[Metric]:
        root = self._store.layout.root
        held = self._store.outcomes.held()
        yield _gauge("store_blobs", "Blobs, as sync or gc has last counted them.", {(): held.blobs} if held else {})
        yield _gauge("store_bytes", "Bytes of these blobs.", {(): held.bytes} if held else {})
        yield _gauge("store_free_bytes", "Free bytes on the store's disk.", {(): shutil.disk_usage(root).free})
        yield _gauge("store_free_inodes", "Free inodes there; 0 where there is no limit.", {(): os.statvfs(root).f_favail})

    def _runs(self) -> Iterator[Metric]:
        """How the verbs that are processes of their own have ended."""
        noted, by = self._store.outcomes.all(), ("verb", "repo")
        runs = {(one.verb, one.repo, how): count for one in noted for how, count in one.runs.items()}
        yield _counter(
            "runs", _Counted("Runs of sync (of each repo), gc and check, by how they ended.", (*by, "outcome")), runs
        )
        seconds = {(one.verb, one.repo): one.seconds for one in noted}
        yield _gauge("last_run_seconds", "How long the last run took.", seconds, by)
        for name, text, ids in (
            ("last_run_timestamp_seconds", "When the last run ended.", [one.ended for one in noted]),
            ("last_success_timestamp_seconds", "When the last run ended that did all.", [one.succeeded for one in noted]),
        ):
            times = zip(noted, map(clock.from_id, ids), strict=True)
            yield _gauge(name, text, {(one.verb, one.repo): then.timestamp() for one, then in times if then}, by)
        numbers = {one.verb: one for one in noted if not one.repo}
        check, gc = numbers.get("check"), numbers.get("gc")
        yield _gauge(
            "check_problems", "Damage that the last check has left.", {(): check.numbers.get("problems", 0)} if check else {}
        )
        freed = {(): gc.totals.get("freed", 0)} if gc else {}
        yield _counter("gc_freed_bytes", _Counted("Bytes that gc has freed."), freed)


class _Families:
    """What the encoders of prometheus_client take."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families


def _gauge(name: str, text: str, numbers: _Numbers, labels: Sequence[str] = ()) -> Metric:
    """numbers: by the values of the labels; none for what is not known"""
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for values, number in sorted(numbers.items()):
        family.add_metric(values, number)
    return family


def _counter(name: str, counted: _Counted, numbers: _Numbers) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, counted.text, labels=counted.labels)
    for values, number in sorted(numbers.items()):
        family.add_metric(values, number)
    return family


def _counted(totals: Mapping[Name, float]) -> Iterator[Metric]:
    """What the processes have counted."""
    found: dict[str, dict[Name, float]] = {}
    for (family, *values), number in totals.items():
        found.setdefault(family, {})[tuple(values)] = number
    for name, counted in _COUNTERS.items():
        numbers = found.get(name, {})
        yield _counter(name, counted, numbers if counted.labels else {(): numbers.get((), 0.0)})
    for name, counted in _HISTOGRAMS.items():
        yield _histogram(name, counted, found.get(name, {}))
    yield _counter("uncounted", _Counted("Times that there was no room to count something."), found[DROPPED[0]])


def _histogram(name: str, counted: _Counted, numbers: Mapping[Name, float]) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, counted.text, labels=counted.labels)
    every: list[Name] = sorted({key[:-1] for key in numbers}) if counted.labels else [()]
    for values in every:
        each = itertools.accumulate(numbers.get((*values, bound), 0.0) for bound in BOUNDS)
        family.add_metric(values, list(zip(BOUNDS, each, strict=True)), numbers.get((*values, "sum"), 0.0))
    return family
