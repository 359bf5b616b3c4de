"""Which files of the kept snapshots a rule of the deny list stands for."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from ..digests import Digest, is_hex_digest
from ..ecosystem import Ecosystem
from ..errors import DamagedError, UsageError
from ..readings import File
from ..store.catalog import Catalog
from ..store.denied import DeniedFile, Rule
from ..store.directories import DirectoryReader
from ..store.records import RepoState
from ..store.store import Store
from . import named


@dataclass
class Found:
    """What a rule stands for."""

    #: files by their SHA-256
    files: dict[Digest, DeniedFile] = field(default_factory=dict)
    #: names of files of which no SHA-256 is known: of these nothing but later snapshots can be changed
    unsummed: set[str] = field(default_factory=set)
    #: how many snapshots list any of these
    snapshots: int = 0
    #: what could not be read
    damage: list[DamagedError] = field(default_factory=list)

    def take(self, leaf: str, file: File) -> None:
        """Note a file, and the name of the leaf that lists it."""
        if file.sha256 is None:
            self.unsummed.add(file.name)
        else:
            self.files[file.sha256] = DeniedFile(sha256=file.sha256.hex(), name=file.name, leaf=leaf)


def canonical(ecosystem: Ecosystem, spec: str) -> str:
    """A spec as a rule of a repo has it: the same for all ways of writing it. Raises UsageError for one that names nothing."""
    if is_hex_digest(spec.lower()):
        return spec.lower()
    try:
        return ecosystem.naming(spec).text
    except ValueError as problem:
        raise UsageError(f"{spec!r} names nothing that can be denied: {problem}") from None


def kept(store: Store, catalog: Catalog, repo: str) -> Iterator[list[Digest]]:
    """The directories of a repo in each snapshot, with what was told of it later. Raises DamagedError."""
    later = store.snapshots.pages()
    for record in catalog.history(repo):
        told = later.get(record.id, {}).get(repo)
        yield blobs_of(record.repos[repo]) + ([bytes.fromhex(told)] if told else [])


def blobs_of(state: RepoState) -> list[Digest]:
    """The directories of a state of a repo."""
    return [one.blob for one in state.directories.values()]


def find(store: Store, ecosystems: Mapping[str, Ecosystem], snapshots: Iterable[Collection[Digest]], spec: str) -> Found:
    """The files that a spec stands for in these snapshots of a repo. What can't be read is passed over, and told.

    snapshots: the directories of each
    """
    found = Found()
    #: directories and leaves that were looked into -> whether they list any of it
    known: dict[Digest, bool] = {}
    for directories in snapshots:
        listing = False
        for blob in directories:
            if blob not in known:
                try:
                    reader = store.metadata.directory(blob)
                    known[blob] = _search(ecosystems[reader.document.kind], reader, spec, found, known)
                except DamagedError as error:
                    found.damage.append(error)
                    known[blob] = False
            listing = listing or known[blob]
        found.snapshots += listing
    return found


def _search(ecosystem: Ecosystem, reader: DirectoryReader, spec: str, found: Found, known: dict[Digest, bool]) -> bool:
    """Whether a directory lists any of it."""
    listing = False
    for name, leaf in _leaves(ecosystem, reader, spec):
        if leaf not in known:
            files = _files(ecosystem, reader.read(leaf), spec, name)
            for file in files:
                found.take(name, file)
            known[leaf] = bool(files)
        listing = listing or known[leaf]
    return listing


def _leaves(ecosystem: Ecosystem, reader: DirectoryReader, spec: str) -> Iterator[tuple[str, Digest]]:
    """The leaves that may list it: of a SHA-256 any, else what its name tells."""
    if is_hex_digest(spec):
        yield from reader.leaves.items()
        return
    with contextlib.suppress(ValueError):  # it names nothing here, and may name something beside it
        yield from named.leaves(reader, ecosystem.naming(spec))


def _files(ecosystem: Ecosystem, content: bytes, spec: str, leaf: str) -> list[File]:
    """Those of the files of a leaf that a spec stands for. leaf: its name"""
    if is_hex_digest(spec):
        return named.with_digest(ecosystem, content, bytes.fromhex(spec))
    naming = ecosystem.naming(spec)
    return [file for file in ecosystem.files(content) if named.covers(naming, leaf, file.name)]


def complete(store: Store, ecosystems: Mapping[str, Ecosystem], repos: Mapping[str, Collection[Digest]]) -> None:
    """Add to the rules what is just going to be published of them: it was read before they were made.

    repos: {path: directories}. The caller holds the store's lock. What can't be read is left to the next one.
    """
    for rule in store.denied.rules():
        if rule.repo in repos:
            extend(store, ecosystems, rule, [repos[rule.repo]])


def extend(store: Store, ecosystems: Mapping[str, Ecosystem], rule: Rule, snapshots: Iterable[Collection[Digest]]) -> None:
    """Add to a rule what these snapshots of its repo list of it. As `complete`; snapshots: as of `find`."""
    if is_hex_digest(rule.spec):
        return
    found = find(store, ecosystems, snapshots, rule.spec)
    known = {file.sha256 for file in rule.files}
    more = [file for file in found.files.values() if file.sha256 not in known]
    if more:
        store.denied.write(msgspec.structs.replace(rule, files=(*rule.files, *more)))
