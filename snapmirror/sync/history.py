"""The history of a package: what each kept snapshot says of it that the one before it did not.

A directory, a bucket or a leaf that is as it was is not looked into: of thousands of snapshots only the leaves that differ are
read, each once, and of the buckets only those in which the name belongs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from .. import codec
from ..digests import Digest
from ..ecosystem import Ecosystem
from ..readings import File
from ..store.catalog import Catalog
from ..store.glimpse import WatchedReader, glimpse
from ..store.records import DirectoryState, Record, place_of
from ..store.store import Store
from . import named

#: `changed`: other bytes under the same name; `hot-fixed`: the same bytes with other metadata
What = Literal["appeared", "changed", "hot-fixed", "yanked", "unyanked", "vanished"]
#: leaves that are kept in memory, for a file may become again what it was, and two repos may list the same
_LEAVES = 16


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a file."""

    #: id of the first snapshot that shows it
    snapshot: str
    #: id of the kept snapshot before that, which does not show it yet; None if that is the first of the repo
    previous: str | None
    what: What
    #: path of the repo
    repo: str
    #: repo, directory and name of the file, and its path below a snapshot, which is another for Python projects
    file: str
    path: str
    #: in hexadecimal, if it is known; of a file that vanished, what it was
    sha256: str | None
    #: `changed`: the SHA-256 before
    was: str | None = None
    #: `hot-fixed`: the keys of its record that are others
    keys: list[str] = []
    #: `yanked`: the reason that upstream states; `vanished`: why the file is withheld, if it is
    reason: str | None = None


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The history of what a text names."""

    #: as it was asked for
    name: str
    #: oldest first, those of one snapshot by path
    events: list[Event]


class _Listed(NamedTuple):
    file: File
    #: see Ecosystem.records
    record: bytes
    #: below the directory
    path: str


class _Seen(NamedTuple):
    """What one snapshot says of the name in one directory."""

    directory: Digest | None = None
    leaves: tuple[tuple[str, Digest], ...] = ()
    files: Mapping[str, _Listed] = {}
    #: {file: reason}
    withheld: Mapping[str, str] = {}
    kind: str = ""
    #: by which names the leaves were found, and the buckets of these
    asked: Sequence[str] = ()
    buckets: tuple[Digest, ...] = ()


def log(store: Store, ecosystems: Mapping[str, Ecosystem], catalog: Catalog, spec: str, repos: Collection[str]) -> Log:
    """The history of what a text names in these repos: a package, a version of one, or a file (see `Ecosystem.naming`).

    A snapshot that was forgotten is passed over: what it showed first counts for the next kept one. Raises DamagedError;
    UsageError for a text that can mean nothing in these repos, or that no kept snapshot lists.
    """
    history = _History(store, ecosystems, spec)
    held = [record.repos[repo] for record in catalog.records for repo in repos if repo in record.repos]
    store.metadata.expect({state.blob for repo in held for state in repo.directories.values()})
    events = [event for record in catalog.records for event in history.turn(record, repos)]
    if not events:
        raise history.namings.refusal(repos)
    return Log(name=spec, events=events)


class _History:
    """Goes through snapshots, oldest first."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], spec: str) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self.namings = named.Namings(ecosystems, spec)
        #: {repo: id of the last snapshot, once there is one of the repo}
        self._previous: dict[str, str] = {}
        #: {repo: {directory: what its last snapshot said}}
        self._seen: dict[str, dict[str, _Seen]] = {}
        self._listing = lru_cache(_LEAVES)(self._read)

    def turn(self, record: Record, repos: Collection[str]) -> Iterator[Event]:
        """What the next snapshot says that the one before did not."""
        for repo in sorted(repos):
            held = record.repos.get(repo)
            if held is None and record.partial:
                continue  # it says nothing of the repo
            seen = self._seen.setdefault(repo, {})
            directories = held.directories if held else {}
            for name in sorted({*seen, *directories}):
                before = seen.get(name, _Seen())
                seen[name] = now = self._look(directories.get(name), before)
                if now.files is not before.files:
                    yield from self._events(record.id, repo, name, before, now)
            if held or repo in self._previous:
                self._previous[repo] = record.id

    def _look(self, state: DirectoryState | None, before: _Seen) -> _Seen:
        if state is None:
            return _Seen(kind=before.kind)
        if state.blob == before.directory:
            return before
        if before.asked and glimpse(self._store.blobs, state.blob, before.asked) == before.buckets:
            return before._replace(directory=state.blob)  # what it withholds matters only where a leaf is another
        reader = WatchedReader(self._store.metadata.directory(state.blob))
        kind = reader.document.kind
        naming = self.namings.of(kind)
        leaves = tuple(named.leaves(reader, naming))
        withheld = reader.document.withheld
        files = before.files
        if leaves != before.leaves:
            files = {name: one for leaf, digest in leaves for name, one in self._listing(kind, leaf, digest).items()}
        return _Seen(state.blob, leaves, files, withheld, kind, reader.asked, reader.buckets_of(reader.asked))

    def _read(self, kind: str, leaf: str, digest: Digest) -> Mapping[str, _Listed]:
        """The files of a leaf that are meant."""
        naming, ecosystem = self.namings.of(kind), self._ecosystems[kind]
        content = self._store.metadata.leaf(digest)
        files = {file.name: file for file in ecosystem.files(content)}
        paths = {file.name: path for path, file in ecosystem.paths(content).items()}
        records = ((name, record) for name, record in ecosystem.records(content) if named.covers(naming, leaf, name))
        return {name: _Listed(files[name], record, paths.get(name, name)) for name, record in records}

    def _events(self, snapshot: str, repo: str, directory: str, before: _Seen, now: _Seen) -> Iterator[Event]:
        place, previous = place_of(repo, directory), self._previous.get(repo)
        yank = self._ecosystems[now.kind].yank if now.kind else ""
        for name in sorted({*before.files, *now.files}):
            old, new = before.files.get(name), now.files.get(name)
            shown = new or old
            if shown is None or (old and new and old.record == new.record):
                continue
            for told in _happened(old, new, yank, now.withheld.get(name)):
                file, path = f"{place}/{name}", f"{place}/{shown.path}"
                sha256 = _hex(shown.file)
                yield Event(snapshot=snapshot, previous=previous, repo=repo, file=file, path=path, sha256=sha256, **told)


def _happened(old: _Listed | None, new: _Listed | None, yank: str, withheld: str | None) -> Iterator[dict[str, Any]]:
    """What happened to a file, as fields of an Event. yank: see Ecosystem.yank; withheld: why the file is, if it is"""
    before = codec.from_msgpack(old.record) if old else {}
    said = codec.from_msgpack(new.record) if new else {}
    if new is None:
        yield {"what": "vanished", "reason": withheld}
        return
    if old is None:
        yield {"what": "appeared"}
    elif not new.file.is_as(old.file):
        yield {"what": "changed", "was": _hex(old.file)}
    elif keys := [key for key in sorted({*before, *said} - {yank}) if before.get(key) != said.get(key)]:
        yield {"what": "hot-fixed", "keys": keys}
    if yank and before.get(yank) != (reason := said.get(yank)):
        if named.is_yanked(reason):
            yield {"what": "yanked", "reason": reason if isinstance(reason, str) else None}
        elif named.is_yanked(before.get(yank)):
            yield {"what": "unyanked"}


def _hex(file: File) -> str | None:
    return file.sha256.hex() if file.sha256 else None
