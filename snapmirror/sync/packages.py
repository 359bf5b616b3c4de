"""All that the kept snapshots say of a package: each of its files, in which of them it is, and what is said of it.

A directory that is as it was is not looked into, and each distinct leaf is read once, however many snapshots share it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from .. import addresses
from ..digests import Digest
from ..ecosystem import Ecosystem
from ..errors import DamagedError
from ..readings import File
from ..store.catalog import Catalog
from ..store.denied import reasons
from ..store.glimpse import WatchedReader, glimpse
from ..store.records import Record, place_of
from ..store.store import Store
from ..transfer.origin import recorded_address
from . import named

#: ending of the name of what is held of a file's metadata (PEP 658)
_METADATA = ".metadata"


class Span(msgspec.Struct, kw_only=True):
    """Kept snapshots in a row."""

    #: ids
    first: str
    last: str


class PackageFile(msgspec.Struct, kw_only=True):
    """A file as it was listed: the same name with other bytes is another one."""

    #: path of the repo
    repo: str
    #: path of the directory below the repo, empty if the repo is one
    directory: str
    #: name of the file, and its path below a snapshot
    file: str
    path: str
    #: name of the package
    package: str
    version: str
    build: str
    #: bytes, if that is stated
    size: int | None
    #: in hexadecimal, if it is known
    sha256: str | None
    license: str
    summary: str
    depends: list[str]
    #: when upstream had it first, in seconds since 1970, if that is stated
    released: float | None
    #: where upstream had it
    upstream: str
    #: whether the newest snapshot of the repo lists it
    current: bool
    #: oldest first
    spans: list[Span]
    #: the reason, which may be empty; null if it is not yanked
    yanked: str | None = None
    #: the reason, which may be empty; null if it is not denied
    denied: str | None = None


class Withheld(msgspec.Struct, kw_only=True):
    """A file that upstream lists now, and the newest snapshot does not."""

    repo: str
    directory: str
    file: str
    reason: str


class Package(msgspec.Struct, kw_only=True):
    """The answer."""

    #: as it was asked for
    name: str
    #: those that are listed still, then those that went last; of these the newest first
    files: list[PackageFile]
    withheld: list[Withheld]


class _Run(NamedTuple):
    """Snapshots in a row of a repo in which a directory says the same of the name."""

    kind: str
    #: its last state there
    directory: Digest
    leaves: tuple[tuple[str, Digest], ...]
    first: str
    last: str


def package(store: Store, ecosystems: Mapping[str, Ecosystem], catalog: Catalog, spec: str, repos: Collection[str]) -> Package:
    """What the kept snapshots say of what a text names in these repos (see `Ecosystem.naming`): a package, a version, a file.

    Raises DamagedError; UsageError for a text that can mean nothing in these repos, or that no kept snapshot lists.
    """
    question = _Question(store, ecosystems, spec)
    denied = reasons(store.denied.rules())
    found: list[PackageFile] = []
    withheld: list[Withheld] = []
    for repo in sorted(repos):
        records = [record for record in catalog.records if repo in record.repos or not record.partial]
        for directory in sorted(
            {name for record in records if repo in record.repos for name in record.repos[repo].directories}
        ):
            runs = list(question.runs(records, repo, directory))
            files = question.files(runs, repo, directory)
            newest = next((record.id for record in reversed(records) if repo in record.repos), "")
            for one in files:
                one.current = one.spans[-1].last == newest
                one.denied = denied.get(one.sha256 or "")
            found += files
            if runs and runs[-1].last == newest:
                withheld += question.withheld(runs[-1], repo, directory)
    if not found and not withheld:
        raise question.namings.refusal(repos)
    found.sort(key=lambda one: (one.repo, one.directory, one.file))
    found.sort(key=lambda one: (one.spans[-1].last, one.spans[0].first, one.released or 0.0), reverse=True)
    return Package(name=spec, files=found, withheld=withheld)


class _Question:
    """One text, asked of many snapshots."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], spec: str) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self.namings = named.Namings(ecosystems, spec)

    def runs(self, records: list[Record], repo: str, directory: str) -> Iterator[_Run]:
        """What a directory says of the text, oldest first. One that does not have it says that too, with no leaves."""
        current: _Run | None = None
        asked: Sequence[str] = ()
        buckets: tuple[Digest, ...] = ()
        for record in records:
            state = record.repos[repo].directories.get(directory) if repo in record.repos else None
            if state is None:
                if current:
                    yield current
                    yield current._replace(leaves=(), last="")  # or what comes next would go on where this has ended
                current = None
                continue
            if current and (state.blob == current.directory or glimpse(self._store.blobs, state.blob, asked) == buckets):
                current = current._replace(last=record.id, directory=state.blob)
                continue
            reader = WatchedReader(self._store.metadata.directory(state.blob))
            leaves = tuple(named.leaves(reader, self.namings.of(reader.document.kind)))
            asked, buckets = reader.asked, reader.buckets_of(reader.asked)
            if current and current.leaves == leaves:
                current = current._replace(last=record.id, directory=state.blob)
            else:
                if current:
                    yield current
                current = _Run(reader.document.kind, state.blob, leaves, record.id, record.id)
        if current:
            yield current

    def files(self, runs: list[_Run], repo: str, directory: str) -> list[PackageFile]:
        """The files that these runs list, each with what was said of it last."""
        found: dict[tuple[str, str | None], PackageFile] = {}
        open_: set[tuple[str, str | None]] = set()
        for run in runs:
            listed = {(one.file, one.sha256): one for one in self._listed(run, repo, directory)}
            for key, one in listed.items():
                before = found.get(key)
                one.spans = before.spans if before else []
                if key in open_:
                    one.spans[-1].last = run.last
                else:
                    one.spans.append(Span(first=run.first, last=run.last))
                found[key] = one
            open_ = set(listed)
        return list(found.values())

    def _listed(self, run: _Run, repo: str, directory: str) -> Iterator[PackageFile]:
        naming, ecosystem = self.namings.of(run.kind), self._ecosystems[run.kind]
        reader = self._store.metadata.directory(run.directory)
        for leaf, digest in run.leaves:
            content = self._store.metadata.leaf(digest)
            files = {file.name: file for file in ecosystem.files(content)}
            paths = {file.name: path for path, file in ecosystem.paths(content).items()}
            for name, record in ecosystem.records(content):
                if named.covers(naming, leaf, name):
                    said = ecosystem.about(name, record, partial(self._beside, files.get(name + _METADATA)))
                    file = files[name]
                    url = file.but(url=file.url or reader.elsewhere(leaf, name))
                    yield PackageFile(
                        repo=repo,
                        directory=directory,
                        file=name,
                        path=f"{place_of(repo, directory)}/{paths.get(name, name)}",
                        package=leaf,
                        version=said.version,
                        build=said.build,
                        size=file.size,
                        sha256=file.sha256.hex() if file.sha256 else None,
                        license=said.license,
                        summary=said.summary,
                        depends=list(said.depends),
                        released=said.released,
                        upstream=addresses.redact(recorded_address(url, reader.document.origin, ())),
                        current=False,
                        spans=[],
                        yanked=named.yanked(ecosystem, record),
                    )

    def _beside(self, file: File | None) -> bytes:
        """What is held of a file's metadata. It is told of if it is there; a file that is asked for tells if it is damaged."""
        if file is None or file.sha256 is None:
            return b""
        try:
            return self._store.blobs.read(file.sha256)
        except DamagedError:
            return b""

    def withheld(self, run: _Run, repo: str, directory: str) -> list[Withheld]:
        """The files of what is meant that a run withholds."""
        naming, ecosystem = self.namings.of(run.kind), self._ecosystems[run.kind]
        return [
            Withheld(repo=repo, directory=directory, file=file, reason=reason)
            for file, reason in sorted(self._store.metadata.directory(run.directory).document.withheld.items())
            if named.covers(naming, ecosystem.leaf_of(file), file)
        ]
