"""Metadata that is read because somebody asks for it: states of repos that no snapshot has sealed yet, in `live/`.

Made as a sync makes them, in the same order of writes, up to where a sync would seal.
"""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from .. import addresses, clock
from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import AbsentError, UpstreamError
from ..readings import Known, Reading
from ..store import locks
from ..store.catalog import Catalog
from ..store.directories import Amendment, Assembled, DirectoryReader, amend, assemble
from ..store.records import DirectoryState, Record, RepoState
from ..store.store import Store
from ..transfer.http import Http
from .directory import DirectorySync
from .group import Group
from .plan import Marked
from .press import Content, press
from .settings import Options, Publish


def states(store: Store, catalog: Catalog, repo: Repo, limit: str | None = None) -> Mapping[str, DirectoryState]:
    """What a repo has: what was read last, by a sync or for somebody who asked.

    limit: id before which it was sealed, None for now
    """
    sealed = _sealed(catalog, repo.path, limit)
    live = store.live.states().get(repo.path) if repo.metadata == "on-request" and limit is None else None
    if live is None or (sealed and sealed.read > live.read):
        return sealed.directories if sealed else {}
    return {**(sealed.directories if sealed else {}), **live.directories}


def is_ahead(store: Store, repo: Repo) -> bool:
    """Whether more is known of a repo than its newest snapshot has."""
    catalog = store.catalog()
    sealed = _sealed(catalog, repo.path, None)
    return states(store, catalog, repo) != (sealed.directories if sealed else {})


def _sealed(catalog: Catalog, path: str, limit: str | None) -> RepoState | None:
    record = next((one for one in catalog.history(path) if limit is None or one.id < limit), None)
    return record.repos[path] if record else None


class LiveMetadata:
    """Reads what is asked for. Thread-safe, and may run in several processes."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], repos: Sequence[Repo], http: Http) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._repos = {repo.path: repo for repo in repos if repo.metadata == "on-request"}
        self._http = http

    def states(self, catalog: Catalog) -> dict[str, RepoState]:
        """What repos with metadata on request have now, by path; those that have nothing yet are not in it."""
        found = {path: states(self._store, catalog, repo) for path, repo in self._repos.items()}
        return {path: RepoState(kind=self._repos[path].kind, directories=dict(one)) for path, one in found.items() if one}

    def refresh(self, path: str, name: str) -> None:
        """Ask upstream for the present state of a name of a repo, or of all of it where the name is "".

        It is in `live/` on return. Raises UpstreamError; AbsentError if upstream says that there is no such thing.
        """
        repo = self._repos[path]
        ecosystem = self._ecosystems[repo.kind]
        group = Group(ecosystem, self._directories(ecosystem, repo, name), self._store.now())
        group.read(self._http)
        _raise_problem(group.directories)
        lock = self._store.layout.locks / f".live {urllib.parse.quote(path, safe='')}"
        with locks.hold(lock, f"the live state of {path}", waiting=_wait):
            before = states(self._store, self._store.catalog(), repo)
            for directory in group.directories:
                directory.previous = before.get(directory.name)
            group.plan(self._http)
            _raise_problem(group.directories)
            self._keep(repo, before, group.directories)
        reader = group.directories[0].published
        if name and (reader is None or reader.leaf(name) is None):
            raise AbsentError(addresses.redact(repo.upstreams[0]), 404)

    def reconstruct(self, path: str, snapshot: str, name: str) -> None:
        """Have a snapshot answer for a name that nobody had asked for by then, from what is known of it now.

        What was told once stays. Nothing happens if nothing can be told. Raises DamagedError.
        """
        repo = self._repos[path]
        ecosystem, metadata = self._ecosystems[repo.kind], self._store.metadata
        instant = clock.from_id(snapshot)
        with self._store.lock(_wait) as catalog:
            record, now = catalog.by_id.get(snapshot), states(self._store, catalog, repo)
            if not isinstance(record, Record) or instant is None or "" not in now:
                return
            pages = self._store.snapshots.pages().get(snapshot, {})
            digest = bytes.fromhex(pages[path]) if path in pages else record.repos[path].directories[""].blob
            before, known = metadata.directory(digest), metadata.directory(now[""].blob).read_leaf(name)
            content = ecosystem.reconstruct(repo, known, int(instant.timestamp())) if known else b""
            if not content or before.leaf(name):
                return
            assembled, leaves = _with_leaf(self._store, ecosystem, before, name, content)
            self._store.put([*leaves, *assembled.blobs.values()])
            self._store.snapshots.write_pages(snapshot, {**pages, path: assembled.digest.hex()})

    def _directories(self, ecosystem: Ecosystem, repo: Repo, name: str) -> list[DirectorySync]:
        now = states(self._store, self._store.catalog(), repo)
        if name:
            return [_NameSync(self._store, ecosystem, repo, "", now.get(""), Options(allow_shrink=True), asked=name)]
        repo = ecosystem.known(repo, self._store.metadata.directory(now[""].blob).leaves if "" in now else ())
        names = ecosystem.directories(repo)
        return [DirectorySync(self._store, ecosystem, repo, one, now.get(one), Options()) for one in names]

    def _keep(self, repo: Repo, before: Mapping[str, DirectoryState], directories: Sequence[DirectorySync]) -> None:
        """Store what was planned, and make it the latest state: blobs first, as always."""
        blobs: dict[Digest, bytes] = {}
        for directory in directories:
            directory.stage()
            _withhold_unnamed(directory)
            directory.finish(Publish(plain=False))
            blobs |= directory.stage()
        found = dict(before)
        for directory in directories:
            old = before.get(directory.name)
            if directory.digest and (old is None or old.blob != directory.digest):
                since = read = directory.read_at
                found[directory.name] = DirectoryState(digest=directory.digest.hex(), since=since, read=read)
        if found != before:
            with self._store.lock(_wait):
                self._store.put([data for digest, data in blobs.items() if self._store.blobs.size(digest) is None])
                self._store.live.keep(repo.path, RepoState(kind=repo.kind, directories=found))
        for directory in directories:
            directory.remember()


def _with_leaf(
    store: Store, ecosystem: Ecosystem, before: DirectoryReader, name: str, content: bytes
) -> tuple[Assembled, list[bytes]]:
    """A directory with one leaf more, and the leaf's bytes where the store has not got it."""
    files = ecosystem.files(content)
    ((leaf, compressed),) = press(store, [Content(name, content, files, None, ecosystem.label(content))], 1)
    size = before.document.size + sum(file.size or 0 for file in files)
    document = replace(before.document, files=before.document.files + len(files), size=size)
    strays = {file.name: name for file in files if ecosystem.leaf_of(file.name) != name}
    labels = {name: leaf.label} if leaf.label else {}
    leaves = before.leaves
    amended = amend(before, document, len(leaves) + 1, Amendment((), {name: leaf.blob}, (), strays, labels))
    if amended is None:
        amended = assemble(document, leaves | {name: leaf.blob}, {}, before.names | strays, before.labels | labels)
    return amended, [compressed] if compressed is not None else []


@dataclass(eq=False)
class _NameSync(DirectorySync):
    """One name of a directory of which all else stays."""

    asked: str = ""

    def _ask(self, http: Http, known: Known) -> Reading | None:
        return self.ecosystem.read_name(self.repo, self.asked, http)

    def _marked(self) -> Marked | None:
        return Marked(self.previous.blob, len(self.reader.leaves), b"alone") if self.previous and self.reader else None


def _raise_problem(directories: Sequence[DirectorySync]) -> None:
    """Raise what is wrong if that is so with all of them."""
    problems = [directory.problem for directory in directories if directory.problem]
    if problems and len(problems) == len(directories):
        raise problems[0]


def _withhold_unnamed(directory: DirectorySync) -> None:
    """Files that only their bytes could name are for a sync: nobody waits for them here."""
    if directory.plan and directory.plan.wanted and not directory.problem:
        url = directory.plan.header.document
        wanted = directory.plan.wanted
        directory.failed = {file.name: UpstreamError(url, "upstream states no SHA-256: a sync fetches it") for file in wanted}
        directory.settle({})


def _wait(what: str) -> None:
    """Whoever holds the lock does not need it for long."""
