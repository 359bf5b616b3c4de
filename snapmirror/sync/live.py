"""Metadata that is read because somebody asks for it: states of repos that no snapshot has sealed yet, in `live/`.

Made as a sync makes them, in the same order of writes, up to where a sync would seal.
"""

import contextlib
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from .. import addresses, clock
from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import AbsentError, DamagedError, UpstreamError
from ..readings import File, FileList, Known, Reading
from ..store import locks
from ..store.assembly import Amendment, Assembled, amend, assemble
from ..store.catalog import Catalog
from ..store.directories import DirectoryReader
from ..store.documents import current_documents, documents_of
from ..store.live import LiveState, latest
from ..store.records import DirectoryState, Record, RepoState
from ..store.seal import Read
from ..store.store import Store
from ..transfer.http import Http
from . import deny
from .directory import DirectorySync
from .group import Group
from .noted import Marked
from .press import Content, press
from .settings import Options, Publish

#: so many states of a repo are kept beside the latest one
_FORMER = 8


def states(store: Store, catalog: Catalog, repo: Repo, limit: str | None = None) -> dict[str, DirectoryState]:
    """What a repo has: what was read last, by a sync or for somebody who asked. What was of another kind does not count.

    limit: id before which it was sealed, None for now
    """
    live = store.live.state(repo.path) if repo.metadata == "on-request" and limit is None else None
    usable = live is not None and live.kind == repo.kind and _is_whole(store, live)
    return latest(_sealed(catalog, repo, limit), live if usable else None)


def _is_whole(store: Store, live: LiveState) -> bool:
    """Whether a live state can be used; else it is asked for again."""
    try:
        for state in (state for repo in live.all for state in repo.directories.values()):
            store.metadata.directory(state.blob)
    except DamagedError:
        return False
    return True


def is_ahead(store: Store, repo: Repo) -> bool:
    """Whether more is known of a repo than its newest snapshot has."""
    catalog = store.catalog()
    return states(store, catalog, repo) != latest(_sealed(catalog, repo, None), None)


def _sealed(catalog: Catalog, repo: Repo, limit: str | None) -> RepoState | None:
    kept = (one for one in reversed(catalog.records) if repo.path in one.repos and (limit is None or one.id < limit))
    record = next(kept, None)
    return record.repos[repo.path] if record and record.repos[repo.path].kind == repo.kind else None


def outlast(store: Store, catalog: Catalog, ecosystem: Ecosystem, repo: Repo, sealed: Mapping[str, Read]) -> None:
    """Have what was asked for while a sync was under way outlast its seal, until `rebase`: it may have been read before that
    sync read the others. The caller holds the store's lock.

    catalog: as it is under that lock; sealed: what that sync came to
    """
    live = store.live.state(repo.path) if ecosystem.read_by_leaf else None
    if live is None:
        return
    now = states(store, catalog, repo)
    earlier = {
        name: replace(state, read=sealed[name].read)
        for name, state in live.directories.items()
        if name in sealed and now.get(name) == state and state.read < sealed[name].read
    }
    if earlier:
        store.live.keep(repo.path, replace(live, directories={**live.directories, **earlier}))


def rebase(store: Store, ecosystem: Ecosystem, path: str, before: Mapping[str, DirectoryState], sealed: RepoState) -> None:
    """Leave of a repo's live state what was asked for while a sync was under way. The caller holds the store's lock.

    before: what that sync began with; sealed: what it came to
    """
    live = store.live.state(path)
    if live is None:
        return
    try:
        ahead = _ahead(store, ecosystem, live, before, sealed) if live.kind == sealed.kind else {}
    except DamagedError:
        ahead = {}  # it is asked for again
    usable = live.kind == sealed.kind and _is_whole(store, live)
    former = _with_former(ecosystem, live, live.directories) if usable else ()
    if ahead or former:
        store.live.keep(path, LiveState(kind=live.kind, directories=ahead, former=former))
    else:
        store.live.drop(path)


def _with_former(ecosystem: Ecosystem, live: LiveState | None, before: Mapping[str, DirectoryState]) -> tuple[RepoState, ...]:
    """The states that stay beside the latest one. Where each name is read by itself, nobody has an index of them.

    before: what the repo had until now
    """
    if ecosystem.read_by_leaf:
        return ()
    last = [RepoState(kind=ecosystem.kind, directories=dict(before))] if before else []
    return (*(live.former if live else ()), *last)[-_FORMER:]


def _ahead(
    store: Store, ecosystem: Ecosystem, live: RepoState, before: Mapping[str, DirectoryState], sealed: RepoState
) -> dict[str, DirectoryState]:
    found = {}
    for name, state in live.directories.items():
        was, now = before.get(name), sealed.directories.get(name)
        if now is None or (was and was.digest == state.digest):
            continue
        if ecosystem.read_by_leaf:
            assembled = _rebased(store, ecosystem, was, state, now)
            store.put(list(assembled.blobs.values()))
            state = replace(state, digest=assembled.digest.hex(), read=max(state.read, now.read))  # noqa: PLW2901
        if state.digest != now.digest and state.read >= now.read:
            found[name] = state
    return found


def _rebased(
    store: Store, ecosystem: Ecosystem, was: DirectoryState | None, live: DirectoryState, sealed: DirectoryState
) -> Assembled:
    """What was sealed, and of the live state the names that only it has otherwise than both began with."""
    ours, theirs = store.metadata.directory(sealed.blob), store.metadata.directory(live.blob)
    if (ours.document.mode, ours.document.form) != (theirs.document.mode, theirs.document.form):
        return Assembled(ours.digest, ours.document, {})
    base, leaves = store.metadata.directory(was.blob).leaves if was else {}, theirs.leaves
    names = [name for name in base.keys() | leaves.keys() if leaves.get(name) != base.get(name) == ours.leaf(name)]
    return _with_leaves(ecosystem, ours, {name: leaves.get(name) for name in names})


class LiveMetadata:
    """Reads what is asked for. Thread-safe, and may run in several processes."""

    def __init__(
        self, store: Store, ecosystems: Mapping[str, Ecosystem], repos: Sequence[Repo], http: Callable[[], Http]
    ) -> None:
        """http: called for each repo, so that none waits for threads that a slow upstream of another one has taken"""
        self._store = store
        self._ecosystems = ecosystems
        self._repos = {repo.path: repo for repo in repos if repo.metadata == "on-request"}
        self._http = {path: http() for path in self._repos}

    def states(self, catalog: Catalog) -> dict[str, LiveState]:
        """What repos with metadata on request have now, by path; those that have nothing yet are not in it."""
        found = {}
        for path, repo in self._repos.items():
            if now := states(self._store, catalog, repo):
                live = self._store.live.state(path)
                found[path] = LiveState(kind=repo.kind, directories=now, former=live.former if live else ())
        return found

    def refresh(self, path: str, name: str) -> None:
        """Ask upstream for the present state of a name of a repo, or of all of it where the name is "".

        It is in `live/` on return. Raises UpstreamError, also where only a part could not be had; AbsentError if upstream
        says that there is no such thing.
        """
        live = self._store.live.state(path)
        if live and not _is_whole(self._store, live):
            self._drop(path)
        try:
            self._refresh(self._repos[path], name)
        except DamagedError:  # it may be in the live state, which can be asked for again
            if not self._drop(path):
                raise
            self._refresh(self._repos[path], name)

    def _drop(self, path: str) -> bool:
        with self._store.lock(_wait):
            return self._store.live.drop(path)

    def _refresh(self, repo: Repo, name: str) -> None:
        ecosystem = self._ecosystems[repo.kind]
        if ecosystem.read_by_leaf and not name and states(self._store, self._store.catalog(), repo):
            return  # each name is asked for by itself; all at once would be thousands of requests for one
        while (directories := self._read(ecosystem, repo, name)) is None:
            pass
        for problem in filter(None, (directory.problem for directory in directories)):
            # that a part is absent does not mean that the repo is
            raise UpstreamError(problem.url, problem.problem) if isinstance(problem, AbsentError) else problem
        reader = directories[0].published
        if name and (reader is None or reader.leaf(name) is None):
            raise AbsentError(addresses.redact(repo.upstreams[0]), 404)

    def _read(self, ecosystem: Ecosystem, repo: Repo, name: str) -> Sequence[DirectorySync] | None:
        """What was read, and is kept; None if it is to be read again: what it was compared with is no longer what is known.

        Raises UpstreamError if nothing could be read.
        """
        group = Group(ecosystem, self._directories(ecosystem, repo, name), self._store.now())
        group.read(self._http[repo.path])
        lock = self._store.layout.locks / f".live {urllib.parse.quote(repo.path, safe='')}"
        with locks.hold(lock, f"the live state of {repo.path}", waiting=_wait):
            before = states(self._store, self._store.catalog(), repo)
            if any(self._is_outdated(one, before.get(one.name), name) for one in group.directories):
                return None
            for directory in group.directories:
                directory.previous = before.get(directory.name)
            group.plan(self._http[repo.path])
            _raise_problem(group.directories)
            return group.directories if self._keep(repo, before, group.directories) else None

    def reconstruct(self, path: str, snapshot: str, name: str) -> None:
        """Have a snapshot answer for a name that nobody had asked for by then, from what is known of it now.

        What was told once stays. Nothing happens if nothing can be told. Raises DamagedError.
        """
        repo = self._repos[path]
        ecosystem, metadata = self._ecosystems[repo.kind], self._store.metadata
        instant = clock.from_id(snapshot)
        with self._store.lock(_wait) as catalog:
            record, now = catalog.by_id.get(snapshot), states(self._store, catalog, repo)
            then = record.repos.get(path) if isinstance(record, Record) else None
            sealed = then.directories.get("") if then and then.kind == repo.kind else None
            if sealed is None or instant is None or "" not in now:
                return
            pages = self._store.snapshots.pages().get(snapshot, {})
            before = metadata.directory(bytes.fromhex(pages[path]) if path in pages else sealed.blob)
            if before.document.mode == "eager":  # as of a sync that fetched all that it listed
                before = DirectoryReader(metadata, before.digest, replace(before.document, mode=repo.download))
            known = metadata.directory(now[""].blob).read_leaf(name)
            content = ecosystem.reconstruct(repo, known, int(instant.timestamp())) if known else b""
            if not content or before.leaf(name):
                return
            made = Content(name, content, FileList(ecosystem.files(content)), None, ecosystem.label(content))
            ((leaf, compressed),) = press(self._store, [made], 1)
            if compressed is not None:
                self._store.put([compressed])
            assembled = _with_leaves(ecosystem, before, {name: leaf.blob})
            self._store.put(list(assembled.blobs.values()))
            self._store.snapshots.write_pages(snapshot, {**pages, path: assembled.digest.hex()})

    def _directories(self, ecosystem: Ecosystem, repo: Repo, name: str) -> list[DirectorySync]:
        now = states(self._store, self._store.catalog(), repo)
        if name and self._can_stand(ecosystem, repo, now.get("")):
            return [_NameSync(self._store, ecosystem, repo, "", now.get(""), Options(allow_shrink=True), asked=name)]
        if name:  # what is known of the others has to be made anew, with it
            repo = ecosystem.with_names(repo, {*self._store.metadata.directory(now[""].blob).leaves, name})
        names = ecosystem.directories(repo)
        return [DirectorySync(self._store, ecosystem, repo, one, now.get(one), Options()) for one in names]

    def _can_stand(self, ecosystem: Ecosystem, repo: Repo, state: DirectoryState | None) -> bool:
        """Whether leaves of a state can stand beside one that is read now."""
        was = self._store.metadata.directory(state.blob).document if state else None
        return was is None or (was.mode, was.form) == (repo.download, ecosystem.form)

    def _is_outdated(self, directory: DirectorySync, now: DirectoryState | None, name: str) -> bool:
        """Whether what was read is to be read again, for it was read for another state than that which is there now.

        name: that was asked for; then the names that are read depend on the state
        """
        if directory.previous == now:
            return False
        if isinstance(directory, _NameSync):
            return not self._can_stand(directory.ecosystem, directory.repo, now)
        return directory.unchanged or bool(name)

    def _keep(self, repo: Repo, before: Mapping[str, DirectoryState], directories: Sequence[DirectorySync]) -> bool:
        """Store what was planned, and make it the latest state: blobs first, as always.

        before: the state that the plan was compared with. False if that, or a leaf, is no longer there to build on.
        """
        blobs: dict[Digest, bytes] = {}
        for directory in directories:
            _withhold_unnamed(directory)
            directory.finish(Publish(plain=False))
            blobs |= directory.stage()
        found = dict(before)
        for directory in directories:
            old = before.get(directory.name)
            if directory.digest and (old is None or old.blob != directory.digest):
                at = max([directory.read_at, *(state.read for state in before.values())])  # the clock may have been set back
                found[directory.name] = DirectoryState(digest=directory.digest.hex(), since=at, read=at)
        if found != before:
            with self._store.lock(_wait) as catalog:
                if states(self._store, catalog, repo) != before:
                    return False  # a sync has sealed; what stays of the old state may even be gone by now
                if any(directory.lost_ground({state.blob for state in before.values()}) for directory in directories):
                    return False  # a gc has taken a leaf that was held, and that no root of it had
                self._store.put([data for digest, data in blobs.items() if self._store.blobs.size(digest) is None])
                ecosystem = self._ecosystems[repo.kind]
                former = _with_former(ecosystem, self._store.live.state(repo.path), before)
                state = LiveState(kind=repo.kind, directories=found, former=former)
                deny.complete(self._store, self._ecosystems, {repo.path: deny.blobs_of(state)})
                self._store.live.keep(repo.path, state)
                with contextlib.suppress(DamagedError):  # of another repo; gc tidies up
                    replaced = set(documents_of(self._store, before.values()))
                    self._store.documents.drop(replaced - set(current_documents(self._store, catalog)))
        for directory in directories:
            directory.remember()
        return True


def _with_leaves(ecosystem: Ecosystem, before: DirectoryReader, leaves: Mapping[str, Digest | None]) -> Assembled:
    """A directory with these leaves, which the store has, under their names; None: with none."""
    old = {name: ecosystem.files(content) for name in leaves if (content := before.read_leaf(name))}
    contents = {name: before.read(leaf) for name, leaf in leaves.items() if leaf}
    new = {name: ecosystem.files(content) for name, content in contents.items()}
    labels = {name: label for name, content in contents.items() if (label := ecosystem.label(content))}
    leaf_of = ecosystem.leaf_of
    strays = {file.name: name for name, files in new.items() for file in files if leaf_of(file.name) != name}
    unnamed = [file.name for name, files in old.items() for file in files if leaf_of(file.name) != name]
    count = before.document.files + sum(map(len, new.values())) - sum(map(len, old.values()))
    size = before.document.size + _bytes(new) - _bytes(old)
    come = {name: leaf for name, leaf in leaves.items() if leaf}
    aside = tuple(name for name in before.document.aside if name not in come)
    document = replace(before.document, files=count, size=size, aside=aside)
    found = {name: leaf for name, leaf in {**before.leaves, **leaves}.items() if leaf}
    empty = {name for name, files in new.items() if not files}
    amended = amend(before, document, len(found), Amendment(leaves.keys(), come, unnamed, strays, labels, empty))
    if amended is None:
        names = {file: name for file, name in before.names.items() if name not in leaves}
        stay = {name: label for name, label in before.labels.items() if name not in leaves}
        amended = assemble(document, found, {}, names | strays, stay | labels, (before.empty - leaves.keys()) | empty)
    return amended


def _bytes(files: Mapping[str, Sequence[File]]) -> int:
    return sum(file.size or 0 for listed in files.values() for file in listed)


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
    if directory.plan and directory.plan.wanted:
        directory.stage()  # settling reads the leaves
        url = addresses.redact(directory.plan.header.document)
        unnamed = UpstreamError(url, "upstream states no SHA-256: a sync fetches it")
        directory.failed = {file.name: unnamed for file in directory.plan.wanted}
        directory.settle({})


def _wait(what: str) -> None:
    """Whoever holds the lock does not need it for long."""
