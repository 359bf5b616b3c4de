"""Fetching what somebody is going to install from a repo whose files come on demand, before it is asked for.

What is needed is found in the newest state of the repo: as it is stored, or, where metadata is on request, as upstream has
it now. Nothing is sealed: the files are listed already, and count as fetched because somebody asked for them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from .. import addresses
from ..digests import Digest
from ..ecosystem import Ecosystem, Needed, Repo, Wishes
from ..errors import AbsentError, PlanTooLarge, UpstreamError, UsageError
from ..readings import Draft, Notes, Reading, Upstream
from ..store.directories import DirectoryReader
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.hosts import CarefulHttp, Hosts
from ..transfer.notes import StoreNotes
from ..transfer.origin import source_of
from ..transfer.settings import Download
from . import live
from .allowed import Rules
from .fetch import Progress, fetch

#: pages that are asked for at once
_SIDE_BY_SIDE = 8


class PrefetchReport(msgspec.Struct, kw_only=True):
    """What came of it."""

    repo: str
    dry_run: bool
    #: what is needed, held or not
    files: int = 0
    bytes: int = 0
    #: what of it was not held
    fetch_files: int = 0
    fetch_bytes: int = 0
    #: files that could not be had, and wishes that nothing fulfils: {name: why}
    problems: dict[str, str] = {}


class StoredReading(Reading):
    """The newest state of a directory. Fulfils `readings.Reading`, and has what ecosystems need that are `read_by_leaf`."""

    left_out = ""
    #: what is found out holds for this run alone
    notes: Notes | None = None

    def __init__(self, job: "Prefetch", name: str) -> None:
        self._job = job
        self._name = name
        self._by_leaf = job.ecosystem.read_by_leaf
        self.upstream: Upstream = job.http
        reader = job.reader(name)
        self.bases: tuple[str, ...] = (addresses.as_folder(addresses.as_folder(job.upstreams[0]) + name),)
        self.info: dict[str, Any] = reader.document.info if reader else {}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = {}
        self.document = ""
        self.validators = {}
        self.sources: Mapping[str, Digest] = {} if self._by_leaf or not reader else reader.leaves

    def ask_for(self, names: Collection[str]) -> None:
        """List these as well, if there are such."""
        self._job.refresh(names)
        reader = self._job.reader(self._name)
        found = {name: leaf for name in names if reader and (leaf := reader.leaf(name))}
        self.sources = {**self.sources, **found}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts; without what is denied."""
        job, reader = self._job, self._job.reader(self._name)
        for name in names:
            content = reader.read_leaf(name) if reader else None
            if content:
                draft = Draft(name, content, job.ecosystem.files(content), self.sources[name], {})
                yield job.rules.cut_draft(job.ecosystem, draft) if job.rules.text else draft


class Prefetch:
    """One run for one repo."""

    def __init__(
        self,
        store: Store,
        ecosystems: Mapping[str, Ecosystem],
        configured: Sequence[Repo],
        repo: Repo,
        download: Download,
        progress: Progress,
    ) -> None:
        """Raises UsageError for a repo of which nothing is fetched on demand."""
        if repo.download != "on-demand" or repo.offline:
            what = "it is offline" if repo.offline else f'its download is "{repo.download}"'
            raise UsageError(f"{repo.path}: {what}; what is fetched beforehand is what would be fetched on demand")
        self._store = store
        self._repo = repo
        self._progress = progress
        self.ecosystem = ecosystems[repo.kind]
        self.rules = Rules(self.ecosystem, repo.path, store.denied.rules())
        merged = self.ecosystem.merged(repo)
        self.upstreams = [*repo.upstreams, *(one for other in configured if other.path in merged for one in other.upstreams)]
        self.http = CarefulHttp(Hosts(), download, progress.message, StoreNotes(store), store.now)
        self._live = live.LiveMetadata(store, ecosystems, configured, lambda: self.http)

    def run(self, wishes: Wishes, *, dry_run: bool) -> PrefetchReport:
        """Raises UsageError, SelectionError, UpstreamError, PlanTooLarge; what single files come to is in the report."""
        report = PrefetchReport(repo=self._repo.path, dry_run=dry_run)
        with self.http:
            if not self.ecosystem.read_by_leaf:
                self.refresh([""])
            names = self.ecosystem.directories(self._repo)
            if self._repo.metadata == "sync" and not any(map(self.reader, names)):
                raise UsageError(f"{self._repo.path}: there is no snapshot of it yet; run `snapmirror sync {self._repo.path}`")
            readings = {name: StoredReading(self, name) for name in names}
            needed = self.ecosystem.needed(self._repo, readings, wishes, self._store.now())
            report.problems |= needed.missing
            sources = self._not_held(self._sources(needed, report), report)
            if not dry_run:
                self._fetch(sources, report)
        return report

    def reader(self, name: str) -> DirectoryReader | None:
        """What is known of a directory now; None if nothing is."""
        state = live.states(self._store, self._store.catalog(), self._repo).get(name)
        return self._store.metadata.directory(state.blob) if state else None

    def refresh(self, names: Collection[str]) -> None:
        """Have upstream asked for names, or for all of the repo ("" alone), where that is done on request."""
        if self._repo.metadata == "on-request":
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
                list(pool.map(self._refresh, names))

    def _refresh(self, name: str) -> None:
        try:
            self._live.refresh(self._repo.path, name)
        except UpstreamError as error:
            if name and isinstance(error, AbsentError):
                return  # of what depends on it nothing can be had; of what was wished for it is said
            if not name and not any(map(self.reader, self.ecosystem.directories(self._repo))):
                raise
            self._progress.message(f"{name or self._repo.path}: {error}; going by what is held of it")

    def _sources(self, needed: Needed, report: PrefetchReport) -> dict[Digest, Source]:
        """Where each needed file comes from, by its SHA-256, which all that an on-demand repo lists have.

        What may not be fetched is reported.
        """
        found: dict[Digest, Source] = {}
        for directory, drafts in needed.drafts.items():
            reader = self.reader(directory)
            if reader is None:
                continue  # upstream has nothing in it: there are no drafts of it
            for draft in drafts:
                for path, file in self.ecosystem.paths(draft.content).items():
                    below = f"{directory}/{path}" if directory else path
                    if not self._repo.may_fetch(below):
                        report.problems[file.name] = "this mirror is set up not to fetch it (allow, block)"
                    elif file.sha256:
                        there = file if file.url else file.but(url=reader.elsewhere(draft.name, file.name))
                        origin, alike = reader.document.origin, self._repo.upstreams
                        source = source_of(self.ecosystem, there, directory, origin, self.upstreams, alike)
                        found.setdefault(file.sha256, source)
        return found

    def _not_held(self, sources: Mapping[Digest, Source], report: PrefetchReport) -> dict[Digest, Source]:
        """What is to be fetched of what is needed. Counts both, and notes the use of what is held. Raises PlanTooLarge."""
        missing = {digest: source for digest, source in sources.items() if self._store.blobs.size(digest) is None}
        report.files, report.bytes = len(sources), sum(source.file.size or 0 for source in sources.values())
        report.fetch_files, report.fetch_bytes = len(missing), sum(source.file.size or 0 for source in missing.values())
        if report.fetch_bytes > (available := self._store.room(self.http.settings.room)):
            raise PlanTooLarge(self._repo.path, report.fetch_bytes, available)
        if not report.dry_run:
            for digest in sources.keys() - missing.keys():
                self._store.fetched.use(digest)
        return missing

    def _fetch(self, sources: Mapping[Digest, Source], report: PrefetchReport) -> None:
        if not sources:
            return
        for digest in sources:
            self._store.fetched.add(digest)  # before it is there: see store.fetched
        self._progress.begin(len(sources), report.fetch_bytes)
        try:
            found = fetch(self._store, self.http, sources.values(), self._progress)
        finally:
            self._progress.end()
        for source in sources.values():
            if isinstance(result := found[source.key], UpstreamError):
                report.problems[source.file.name] = str(result)
