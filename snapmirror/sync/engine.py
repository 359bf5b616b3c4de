"""A whole sync: several repos, one snapshot.

Order: repos' locks, read, plan, refuse what does not fit, register, fetch, settle, register, derive, register once more, trees,
and the seal under the store's lock. A crash between any two lines leaves what was published as it was, and what was fetched
for the next sync.
"""

import contextlib
import shutil
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from .. import memory, units
from ..ecosystem import Ecosystem, Repo
from ..errors import DamagedError, DiskFull, LockedError, Overtaken, PlanTooLarge, UpstreamError
from ..store import seal, syncing
from ..store.catalog import Catalog
from ..store.documents import current_documents
from ..store.records import Record
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.http import Http
from ..transfer.notes import StoreNotes
from ..transfer.settings import Download
from . import deny, live
from .describe import describe, replaced
from .directory import DirectorySync
from .fetch import Fetched, Progress, fetch
from .following import FollowingSync, LaterSync, MergingSync
from .ground import Ground
from .group import Group, each, no_garbage_collection, parts, refuse_nothing, together
from .plan import DirectoryPlan
from .report import RepoReport, Report
from .settings import Options, Publish
from .trees import build_trees

#: groups of directories that are read at once, for reading is waiting; and files that they may list together: an index of
#: 600,000 takes half a gigabyte until it is planned
_SIDE_BY_SIDE, _FILES = 4, 200_000


class _Running(NamedTuple):
    """A group that is being read, or waits to be planned."""

    group: Group
    #: that it may list
    files: int
    future: Future[None]


def _fits(running: Collection[_Running], files: int) -> bool:
    """Whether a group that may list so many files can be read beside these."""
    return len(running) < _SIDE_BY_SIDE and sum(one.files for one in running) + files <= _FILES


class Sync:
    """One sync. Make it, `run` it once."""

    def __init__(
        self,
        store: Store,
        ecosystems: Mapping[str, Ecosystem],
        configured: Sequence[Repo],
        download: Download,
        publish: Publish,
        progress: Progress,
        options: Options,
    ) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._configured = configured
        self._publish = publish
        self._download = download
        self._progress = progress
        self._options = options
        self._report = Report(dry_run=options.dry_run)
        self._ground = Ground(store, options)
        self._directories: dict[str, list[DirectorySync]] = {}
        self._groups: list[Group] = []
        #: {path of a repo: what is made of its directories, or of those of others}
        self._followers: dict[str, LaterSync] = {}
        #: paths of the repos whose locks we hold
        self._locked: list[str] = []

    def run(self, repos: Sequence[Repo]) -> Report:
        """Sync these repos, and those that bear on them.

        What upstreams do is in the report, and so are repos that another process has locked. Raises UsageError for a time
        that the snapshot can't get, and errors of the store: LockedError, StoreError, DamagedError.
        """
        if self._options.seal_as:
            paths = [repo.path for repo in repos]
            seal.check_past(self._store.catalog(), self._options.seal_as, paths, self._store.now())
        with (
            contextlib.ExitStack() as stack,
            Http(self._download, self._progress.message, StoreNotes(self._store), self._store.now) as http,
        ):
            stack.callback(self._ground.abandon)
            for bound in together(repos, self._configured, self._ecosystems):
                self._report.repos |= {repo.path: RepoReport() for repo in bound}
                try:
                    for repo in bound:
                        stack.enter_context(self._store.lock_repo(repo.path, None))
                        self._locked.append(repo.path)
                    self._groups += self._make_groups(bound)
                except (LockedError, DamagedError) as error:
                    for repo in bound:
                        self._report.repos[repo.path].fail(error)
                for repo in bound:
                    self._tell(repo.path, "failed" if self._report.repos[repo.path].problem else "waiting")
            with no_garbage_collection():
                self._read(http)
            if self._options.dry_run:
                self._describe()
            elif self._directories:
                self._carry_out(http)
            else:
                self._ground.remove()
        return self._report

    @property
    def _all(self) -> list[DirectorySync]:
        return [directory for directories in self._directories.values() for directory in directories]

    @property
    def _following(self) -> list[LaterSync]:
        return [self._followers[path] for path in self._directories if path in self._followers]

    def _tell(self, path: str, stage: str) -> None:
        """Tell how far a repo is."""
        plans = [one.plan for group in self._groups for one in group.directories if one.repo.path == path]
        known = [plan for plan in plans if plan]
        detail = self._report.repos[path].problem or ""
        if known and not detail:
            detail = f"{units.plural(sum(len(plan.wanted) for plan in known), 'file')} to fetch"
            detail += f"; {len(known)} of {len(plans)} directories read" if len(known) < len(plans) else ""
        self._progress.stage(path, stage, detail)

    # Read and plan

    def _make_groups(self, bound: Sequence[Repo]) -> list[Group]:
        """What is read together of the directories of these repos. What is made of them is put into `_followers`."""
        ecosystem = self._ecosystems[bound[0].kind]
        directories: dict[str, list[DirectorySync]] = {}
        for repo in bound:
            states = self._ground.states(repo)  # read only now that the repo is ours
            if ecosystem.merged(repo):
                continue
            if repo.metadata == "on-request" and "" in states:
                repo = ecosystem.with_names(repo, self._store.metadata.directory(states[""].blob).leaves)  # noqa: PLW2901
            own = directories[repo.path] = [
                DirectorySync(self._store, ecosystem, repo, name, states.get(name), self._options)
                for name in ecosystem.directories(repo)
            ]
            if follower := ecosystem.follower(repo):
                self._followers[repo.path] = FollowingSync(self._store, follower, repo, states.get(""), own, self._publish)
        for repo in (repo for repo in bound if ecosystem.merged(repo)):
            state = self._ground.states(repo).get("")
            others = [one for path in ecosystem.merged(repo) for one in directories.get(path, ())]
            self._followers[repo.path] = MergingSync(self._store, ecosystem, repo, state, others, self._publish)
        return [Group(ecosystem, part, self._store.now()) for part in parts(ecosystem, bound, directories)]

    def _read(self, http: Http) -> None:
        """Read several groups side by side, and plan each as it comes in; no more than a few are in memory, and of large ones
        one alone.
        """
        waiting, running = deque((group, group.expected(_FILES)) for group in self._groups), deque[_Running]()
        pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="read")
        try:
            while waiting or running:
                while waiting and (not running or _fits(running, waiting[0][1])):
                    group, files = waiting.popleft()
                    for path in group.repos:
                        self._tell(path, "reading")
                    running.append(_Running(group, files, pool.submit(group.read, http)))
                group, _, future = running.popleft()
                future.result()
                group.plan(http)
                memory.give_back()
                for path in group.repos:
                    self._tell(path, "reading")
        except BaseException:
            http.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        self._accept()

    def _accept(self) -> None:
        """Take the repos that can be carried out; the others are reported."""
        planned: dict[str, list[DirectorySync]] = {}
        for directory in (directory for group in self._groups for directory in group.directories):
            planned.setdefault(directory.repo.path, []).append(directory)
        for path, directories in planned.items():
            try:
                refuse_nothing(directories[0].repo, directories)
                self._refuse_too_large(directories[0].repo, directories)
            except (UpstreamError, PlanTooLarge) as error:
                for directory in directories:
                    directory.keep(error)
                self._report.repos[path].fail(error)
                self._tell(path, "failed")
            else:
                self._directories[path] = directories
        self._agree()
        self._directories |= {path: [] for path, one in self._followers.items() if isinstance(one, MergingSync)}

    def _read_again(self, directories: Sequence[DirectorySync], http: Http) -> list[DirectorySync]:
        """Read and plan the groups of some directories once more; the directories of these groups that are carried out."""
        groups = [group for group in self._groups if any(directory in group.directories for directory in directories)]
        for group in groups:
            with no_garbage_collection():
                group.read(http)
                group.plan(http)
        return [one for group in groups for one in group.directories if one.repo.path in self._directories]

    def _refuse_too_large(self, repo: Repo, directories: list[DirectorySync]) -> None:
        """Raise PlanTooLarge if what this repo and those before it need does not leave `min_free`."""
        available = self._store.room(self._download.room)
        planned = [directory.plan for directory in [*self._all, *directories] if directory.plan]
        needed = sum(self.bytes_to_write(plan) + sum(map(len, plan.blobs.values())) for plan in planned)
        own = sum(self.bytes_to_write(directory.plan) for directory in directories if directory.plan)
        if own and needed > available:
            raise PlanTooLarge(repo.path, needed, available)

    def bytes_to_write(self, plan: DirectoryPlan) -> int:
        """Bytes that the files of a plan will take on the disk."""
        return plan.wanted_bytes

    # Fetch, settle, publish

    def get(self, http: Http, sources: Sequence[Source]) -> Fetched:
        """Bring files into the store, durably; {source's key: its SHA-256, or why it could not be had}."""
        return fetch(self._store, http, sources, self._progress)

    def _carry_out(self, http: Http) -> None:
        try:
            with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="read") as pool:
                list(pool.map(lambda following: following.read(http), self._following))
            self._fetch(http)
            self._finish(http)
            record = self._seal()
        except DiskFull:
            self._store.clear_partials()  # so that forget and gc have the room to do their work
            raise
        self._describe()
        if record is None:
            return
        self._report.snapshot = record.id
        for directory in self._all:
            for file in replaced(directory):
                self._progress.message(f"{directory.path}/{file}: upstream has other bytes than before under this name")
        catalog = self._store.catalog()
        for directory in [*self._all, *self._following]:
            newest = catalog.newest(directory.repo.path)
            if newest and newest.id == record.id:  # else the next sync begins with another state
                directory.remember()

    def _register(self, http: Http) -> None:
        """Store what is planned so far, and make it a root of gc. What is looked up after that stays.

        What a plan builds on may have been forgotten and collected since it was made: then it is read anew.
        """
        while lost := self._ground.register([*self._all, *self._following]):
            for directory in lost:
                directory.previous = self._ground.states(directory.repo).get(directory.name)
            self._read_again([directory for directory in lost if not isinstance(directory, LaterSync)], http)
            each([one for one in lost if isinstance(one, LaterSync)], lambda later: later.again(http))

    def _fetch(self, http: Http) -> None:
        """Fetch what is missing; what fails, ask upstream once more: it may have changed since its index was read."""
        self._register(http)
        fetched = self._fetch_wanted(http, self._all)
        again = [one for one in self._all if (one.failed or one.outdated) and not one.problem]
        while again:  # a selection is made again as often as one more name has to keep its old leaf
            again = self._read_again(again, http)
            self._register(http)
            fetched |= self._fetch_wanted(http, again)
            again = [one for one in again if one.outdated and not one.problem]
        each(self._all, lambda directory: directory.settle(fetched))
        self._agree()

    def _agree(self) -> None:
        for group in self._groups:
            group.agree()

    def _fetch_wanted(self, http: Http, directories: list[DirectorySync]) -> Fetched:
        for directory in directories:
            directory.refresh_wanted()  # only now that it is registered does "held" mean that it stays
        for path in {directory.repo.path for directory in directories}:
            self._tell(path, "fetching")
        sources = [source for directory in directories for source in directory.sources()]
        fetched: Fetched = {}
        if sources:
            self._progress.begin(len(sources), sum(source.file.size or 0 for source in sources))
            try:
                fetched = self.get(http, sources)
            finally:
                self._progress.end()
        each(directories, lambda directory: directory.take(fetched))
        return fetched

    def _finish(self, http: Http) -> None:
        """Complete all directories, then those that are made of them; from then on all of it stays until it is sealed."""
        for path in self._directories:
            self._tell(path, "publishing")
        self._register(http)  # what was settled: documents are made of it
        self._fetch_lost(http, self._all)  # what can't be had again is not to be in what is made of it either
        each(self._all, self._finish_one)
        self._register(http)
        self._agree()
        for path, following in list(self._followers.items()):
            if path in self._directories:
                each([following], lambda later: later.follow(http))
            if following.empty:
                del self._followers[path]
        self._register(http)
        self._fetch_lost(http, [one for one in self._following if isinstance(one, FollowingSync)])

    def _finish_one(self, directory: DirectorySync) -> None:
        directory.finish(self._publish)
        memory.give_back()

    def _seal(self) -> Record | None:
        """Make the trees, and the snapshot of all repos of which something could be read; None if there is no such repo."""
        synced: dict[str, seal.Synced] = {}
        for path, directories in self._directories.items():
            mains = directories or self._every(path)
            problem = mains[0].problem if all(one.problem for one in mains) else None
            if problem and not live.is_ahead(self._store, mains[0].repo):
                self._report.repos[path].fail(problem)
                continue
            try:
                synced[path] = self._synced(path)
            except DamagedError as error:  # of its trees: it stays as it was, and so does what depends on it
                for directory in self._every(path):
                    directory.keep(error)
                self._agree()
                return self._seal()
        if not synced:
            return None
        configured = [repo.path for repo in self._configured]
        unknown = {path: self._every(path)[0].ecosystem.unknowable for path in synced} if self._options.as_of else {}
        past = seal.Past(self._options.seal_as, unknown) if self._options.seal_as else None
        while True:
            try:
                with self._store.lock(self._options.waiting) as catalog:
                    return self._conclude(catalog, synced, configured, past)
            except Overtaken:  # seal anew, on top of what the other has published
                continue

    def _conclude(
        self, catalog: Catalog, synced: Mapping[str, seal.Synced], configured: Sequence[str], past: seal.Past | None
    ) -> Record:
        """Seal, under the store's lock, and put right what follows from it."""
        self._ground.verify()
        listed = {path: [bytes.fromhex(one.digest) for one in repo.directories.values()] for path, repo in synced.items()}
        deny.complete(self._store, self._ecosystems, listed)  # before anybody can ask for it
        for path, repo in synced.items() if not past else ():
            first = self._every(path)[0]
            live.outlast(self._store, catalog, first.ecosystem, first.repo, repo.directories)
        record = seal.seal(self._store, catalog, synced, configured, past)
        self._ground.remove()
        if not past:  # what was asked for since we began stays the latest state; the rest of that is sealed now
            for path, repo in synced.items():
                live.rebase(self._store, self._ecosystems[repo.kind], path, repo.before, record.repos[path])
        if not syncing.any_alive(self._store.layout, besides=self._locked):
            with contextlib.suppress(DamagedError):  # of another repo: no reason to end a sync that has sealed
                self._store.documents.prune(set(current_documents(self._store, self._store.catalog())))
        return record

    def _fetch_lost(self, http: Http, directories: Sequence[DirectorySync]) -> None:
        """A gc without grace may take a file known by MD5 alone before its SHA-256 could be registered; and a check one that
        lies beside others, and so is brought by no plan.
        """
        lost = {directory: sources for directory in directories if (sources := directory.lost())}
        if lost:
            fetched = self.get(http, [one for sources in lost.values() for one in sources])
            for directory, sources in lost.items():
                if errors := [error for source in sources if isinstance(error := fetched[source.key], UpstreamError)]:
                    directory.keep(errors[0])
            self._agree()

    def _every(self, path: str) -> list[DirectorySync]:
        """The directories of a repo, that which is made of others last."""
        return [*self._directories[path], *([self._followers[path]] if path in self._followers else [])]

    def _synced(self, path: str) -> seal.Synced:
        """A repo as it goes into the record: new states, and the old ones of directories that keep theirs."""
        every = self._every(path)
        found = {}
        for directory in every:
            if directory.problem and directory.previous:
                found[directory.name] = seal.Read(directory.previous.digest, directory.previous.read)
            elif directory.digest:
                found[directory.name] = seal.Read(directory.digest.hex(), directory.read_at)
        before = {directory.name: directory.previous for directory in every if directory.previous}
        links = build_trees(self._store, self._ecosystems, self._publish, path, every)
        return seal.Synced(every[0].repo.kind, found, links, before)

    # Report

    def _describe(self) -> None:
        for path, directories in self._directories.items():
            every = directories if self._options.dry_run else self._every(path)
            repo = self._report.repos[path]
            repo.directories = {one.name: describe(one, planned=self._options.dry_run) for one in every}
            if any(isinstance(one.problem, DamagedError) for one in every):
                repo.exit_status = DamagedError.exit_status
        if self._options.dry_run:
            usage = shutil.disk_usage(self._store.layout.root)
            planned = sum(one.fetch_bytes for repo in self._report.repos.values() for one in repo.directories.values())
            self._report.bytes_after = usage.used + planned
