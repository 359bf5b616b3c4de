"""Planning one directory: compare what was read with what is held. Pure but for reads of the store."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from .. import addresses, codec
from ..digests import Digest, algorithm
from ..ecosystem import Ecosystem, Repo
from ..errors import TransportError, UpstreamError
from ..readings import Draft, File, FileList, Reading, Upstream
from ..store.assembly import Amendment, Assembled, amend, assemble
from ..store.directories import LEAF_LIMIT, Directory, DirectoryReader
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.origin import recorded_address
from ..validators import Validators
from .noted import Marked
from .press import Content, PlannedLeaf, press

#: files that are looked up at a time
_BATCH = 10_000
#: failures after which other upstreams are not asked for a file any more
_PATIENCE = 3
#: bytes of a leaf when it is planned: digests of its files may be added
_MOST_BYTES = LEAF_LIMIT * 3 // 4


class Header(NamedTuple):
    """What is left to know of a reading once it is planned: it may hold a third of a gigabyte of text."""

    bases: tuple[str, ...]
    info: dict[str, Any]
    extra: dict[str, Any]
    document: str
    validators: Mapping[str, Validators]


@dataclass
class DirectoryPlan:
    """What the next snapshot's directory will hold, and what is missing for it."""

    repo: Repo
    name: str
    header: Header
    previous: DirectoryReader | None
    ecosystem: Ecosystem
    #: names of the previous directory whose leaves do not stay as they are
    replaced: set[str] = field(default_factory=set)
    leaves: dict[str, PlannedLeaf] = field(default_factory=dict)
    #: bytes of leaves that are not in the store yet, and of files that came with them
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    #: records that are not published, with the reason
    withheld: dict[str, str] = field(default_factory=dict)
    #: names of which something is withheld
    wanting: set[str] = field(default_factory=set)
    #: names that keep their old leaves, with the reason
    aside: dict[str, str] = field(default_factory=dict)
    #: those that have none, and names that are too young: that upstream has them is all that the directory will say of them
    leafless: set[str] = field(default_factory=set)
    #: names of the previous directory that upstream has deleted for certain
    gone: frozenset[str] = frozenset()
    #: files whose bytes are not in the store
    wanted: list[File] = field(default_factory=list)
    #: the state in short; empty if there is no such thing
    mark: bytes = b""
    #: names in the previous directory, if that is known without reading it
    names_before: int | None = None
    _old_leaves: dict[str, "_OldLeaf"] = field(default_factory=dict)
    #: how often other upstreams could not be asked for a file
    _failures: int = 0

    @property
    def comparable(self) -> bool:
        """Whether leaves of the previous directory can stand in this one."""
        was = self.previous.document if self.previous else None
        return was is not None and was.mode == self.repo.download and was.form == self.ecosystem.form

    @property
    def standing(self) -> bool:
        """Whether names can be set aside without losing what was published of them."""
        return self.previous is None or self.comparable

    @property
    def wanted_bytes(self) -> int:
        """Bytes to fetch, as far as the metadata says."""
        sizes = {file.sha256 or file.other or file.name: file.size or 0 for file in self.wanted}
        return sum(sizes.values())

    @property
    def listed(self) -> tuple[int, int]:
        """Files that the directory will list, and their bytes."""
        count, size = (self.previous.document.files, self.previous.document.size) if self.previous else (0, 0)
        for old in map(self._old, self.replaced):
            count, size = count - old.files, size - old.size
        for leaf in self.leaves.values():
            count, size = count + len(leaf.files), size + leaf.files.size
        return count, size

    @property
    def names(self) -> int:
        """Names in the directory as planned."""
        before = self.names_before
        if before is None:
            before = len(self.previous.leaves) if self.previous else 0
        return before - len(self.replaced) + len(self.leaves)

    def batches(self) -> Iterator[list[File]]:
        """The files of leaves that are new, some thousand at a time."""
        files = (file for leaf in self.leaves.values() for file in leaf.files)
        while batch := list(islice(files, _BATCH)):
            yield batch

    def source(self, file: File) -> Source:
        """Where to fetch a file."""
        bases = self.header.bases
        if not file.url:
            return Source(file, tuple(addresses.file_url(base, file.name) for base in bases), self.repo.link)
        found = Source(file, (recorded_address(file, bases[0], (bases[0], *self.repo.upstreams)),), self.repo.link)
        return replace(found, others=partial(self._elsewhere, file)) if len(self.repo.upstreams) > 1 else found

    def _elsewhere(self, file: File, asked: Upstream) -> Iterator[str]:
        """Where else a file may be, as far as other upstreams tell."""
        try:
            if self._failures < _PATIENCE:
                yield from self.ecosystem.other_urls(file, self.name, self.repo.upstreams, asked)
        except UpstreamError:
            self._failures += 1

    def take(self, leaf: PlannedLeaf, compressed: bytes | None) -> None:
        """Plan a leaf. A name may come again, with more or less in it, or with nothing."""
        if self.previous and self.previous.leaf(leaf.name):
            self.replaced.add(leaf.name)
        self.leaves.pop(leaf.name, None)
        if leaf.blob:
            self.leaves[leaf.name] = leaf
        if compressed is not None:
            self.blobs[leaf.blob] = compressed

    def listing(self, files: Collection[str]) -> dict[str, str]:
        """{name of a leaf that is planned with one of these files: the file}; several leaves may list one."""
        if not files:
            return {}
        return {leaf.name: file.name for leaf in self.leaves.values() for file in leaf.files if file.name in files}

    def set_aside(self, names: Mapping[str, str]) -> None:
        """Keep the old leaves of these names, {name: reason}, of those that have one, and what is withheld of them; they are
        read again next time.
        """
        self.aside.update(names)
        self.wanting |= names.keys()
        for name in names:
            self.leaves.pop(name, None)
            self.replaced.discard(name)
        self.leafless.update(name for name in names if not (self.previous and self.previous.leaf(name)))
        if names:
            self._carry_over(lambda name: name in names)

    def keep_others(self, read: Collection[str]) -> None:
        """Keep what is withheld and aside of all names but those that were read."""
        self._carry_over(lambda name: name not in read)

    def _carry_over(self, stays: Callable[[str], bool]) -> None:
        was = self.previous.document if self.previous else None
        if was:
            old = {file: why for file, why in was.withheld.items() if stays(self.ecosystem.leaf_of(file))}
            self.withheld = old | self.withheld
            self.leafless.update(filter(stays, was.aside))

    def files_of(self, names: Iterable[str]) -> int:
        """How many files the previous directory lists under these names."""
        return sum(self._old(name).files for name in names)

    def amendment(self) -> Amendment:
        """What differs from the previous directory."""
        unnamed = [file for name in self.replaced for file in self._old(name).strays]
        leaves = {leaf.name: leaf.blob for leaf in self.leaves.values()}
        return Amendment(self.replaced, leaves, unnamed, self.strays, self.labels, self.empty)

    @property
    def labels(self) -> dict[str, str]:
        """Of leaves that are new, those that have one."""
        return {leaf.name: leaf.label for leaf in self.leaves.values() if leaf.label}

    @property
    def empty(self) -> set[str]:
        """Of leaves that are new, those that list no file."""
        return {leaf.name for leaf in self.leaves.values() if not leaf.files}

    @property
    def strays(self) -> dict[str, str]:
        """Files whose leaf can't be told from their names, of leaves that are new: {file: name of the leaf}."""
        leaf_of = self.ecosystem.leaf_of
        return {file.name: leaf.name for leaf in self.leaves.values() for file in leaf.files if leaf_of(file.name) != leaf.name}

    def _old(self, name: str) -> "_OldLeaf":
        """A leaf of the previous directory. It is asked for again and again, and takes a tenth of a millisecond to read."""
        if name not in self._old_leaves:
            content = self.previous.read_leaf(name) if self.previous else None
            files = self.ecosystem.files(content) if content else ()
            strays = tuple(file.name for file in files if self.ecosystem.leaf_of(file.name) != name)
            self._old_leaves[name] = _OldLeaf(len(files), sum(file.size or 0 for file in files), strays)
        return self._old_leaves[name]


class _OldLeaf(NamedTuple):
    """What is to be known of a leaf of the previous directory."""

    files: int
    size: int
    strays: tuple[str, ...]


def make_plan(
    store: Store,
    ecosystem: Ecosystem,
    repo: Repo,
    name: str,
    reading: Reading,
    previous: DirectoryReader | None,
    marked: Marked | None = None,
) -> DirectoryPlan:
    """Compare a reading with the previous state of the directory and with the store.

    A leaf is kept unread if the bytes that it is read from are known and the previous snapshot lists the very leaf that
    came of them: then all its files are held, but for what a check has found bad.

    marked: what is noted of the previous state, if anything
    Raises what the drafts of the reading raise (UpstreamError, SelectionError for a selection that keeps nothing);
    TransportError for a name that is set aside and can't keep its old leaf; HelperEnded, DamagedError.
    """
    header = Header(reading.bases, reading.info, reading.extra, reading.document, reading.validators)
    plan = DirectoryPlan(repo, name, header, previous, ecosystem, withheld=dict(reading.invalid))
    changed = _compare(store, plan, reading, marked) if plan.comparable else None
    if changed is None:
        changed = _compare_all(store, plan, reading)
    for leaf, compressed in press(store, _drafts(store, plan, reading.drafts(changed)), len(changed)) if changed else ():
        plan.take(leaf, compressed)
    if lost := next((name for name in reading.aside if not plan.standing and previous and previous.leaf(name)), None):
        raise TransportError(lost, f"{reading.aside[lost]}, and what was published of it can't stand in a directory made anew")
    plan.set_aside(reading.aside)
    plan.leafless.update(reading.young)
    if reading.alone:
        plan.keep_others({*reading.sources, *reading.gone})
    plan.gone = frozenset(reading.gone)
    plan.mark, plan.header = reading.mark(), header._replace(validators=reading.validators)
    plan.wanted = missing(plan, store.index.held)
    return plan


def _compare(store: Store, plan: DirectoryPlan, reading: Reading, marked: Marked | None) -> Collection[str] | None:
    """The names that are to be read, by what the reading itself knows of the previous state; None if it knows nothing."""
    previous = plan.previous
    if previous is None or marked is None or marked.directory != previous.digest:
        return None
    changes = reading.since(marked.mark)
    if changes is None:
        return None
    plan.names_before = marked.names
    asked = {name: reading.sources[name] for name in changes.changed} if changes.sourced else {}
    same = {name for name, leaf in store.leaves(asked).items() if previous.leaf(name) == leaf}
    changed = {*changes.changed, *(name for name in marked.again if name not in changes.gone)} - same
    plan.replaced = {name for name in (*changed, *changes.gone) if previous.leaf(name)}
    return changed


def _compare_all(store: Store, plan: DirectoryPlan, reading: Reading) -> Collection[str]:
    """The names that are to be read, by the source of every name."""
    held = plan.previous.leaves if plan.previous else {}
    assert not (held and reading.alone), "all names that it does not have would be lost"
    known = store.leaves(reading.sources) if plan.comparable else {}
    kept = {leaf: blob for leaf, blob in known.items() if held.get(leaf) == blob}
    if bad := store.quarantined() if plan.repo.download == "eager" else None:
        kept = {leaf: blob for leaf, blob in kept.items() if not _lists(store, plan.ecosystem, blob, bad)}
    plan.replaced = held.keys() - kept.keys()
    return [leaf for leaf in reading.sources if leaf not in kept]


def _lists(store: Store, ecosystem: Ecosystem, leaf: Digest, digests: Collection[Digest]) -> bool:
    return any(file.sha256 in digests for file in ecosystem.files(store.metadata.leaf(leaf)))


def _drafts(store: Store, plan: DirectoryPlan, drafts: Iterable[Draft]) -> Iterator[Content]:
    """Complete drafts with the digests that can be had without fetching."""
    for draft in drafts:
        plan.withheld.update(draft.invalid)
        if draft.invalid:
            plan.wanting.add(draft.name)
        plan.blobs.update(draft.bodies)
        content, files = draft.content, draft.files
        unnamed = [file for file in files if file.sha256 is None]
        if unnamed and plan.repo.download != "redirect" and (found := _recall(store, plan, draft.name, unnamed)):
            content = plan.ecosystem.settle(content, found, (), {})
            files = tuple(file.but(sha256=found.get(file.name, file.sha256)) for file in files)
        addressed = plan.ecosystem.addressed or not any(file.url for file in files)  # else the directory must say it anew
        source = draft.source if addressed and not draft.invalid else None
        label = plan.ecosystem.label(content) if content else ""
        _refuse_unreadable(draft.name, content)
        yield Content(draft.name, content, FileList(files), source, label)


def _refuse_unreadable(name: str, content: bytes) -> None:
    """Raise TransportError for a leaf that nobody could read again once it is stored: it would end every sync, and gc."""
    if len(content) > codec.HARMLESS:
        try:
            codec.decompress(codec.compress(content, codec.LEAF_LEVEL), _MOST_BYTES)
        except ValueError as error:
            raise TransportError(name, f"upstream says too much of it: {error}") from None


def _recall(store: Store, plan: DirectoryPlan, name: str, files: Iterable[File]) -> dict[str, Digest]:
    """The SHA-256 of files that upstream names by another hash or size only, where their bytes were verified before.

    After a reindex the table of other hashes is empty; the previous snapshot's leaf then names a candidate.
    """
    keeps_files = plan.previous is not None and plan.previous.document.mode != "redirect"
    before = plan.previous.read_leaf(name) if plan.previous and keeps_files else None
    old = {_promise(file): file.sha256 for file in plan.ecosystem.files(before)} if before else {}
    found = {}
    for file in files:
        digest = store.index.by_other(file.other) if file.other else None
        if digest is None and (candidate := old.get(_promise(file))) and _is_held_as(store, candidate, file):
            digest = candidate
        if digest:
            found[file.name] = digest
    return found


def _promise(file: File) -> tuple[object, ...]:
    """What is stated of a file without a SHA-256; size and date don't matter where a hash does, and may have been added."""
    return (file.name, file.other) if file.other else (file.name, file.size, file.modified)


def _is_held_as(store: Store, digest: Digest, file: File) -> bool:
    """Whether a blob is held, and has the hash other than SHA-256 that upstream states, if it states one."""
    if store.blobs.size(digest) is None:
        return False
    if file.other is None:
        return True
    with store.blobs.open(digest) as blob:
        return hashlib.file_digest(blob, algorithm(file.other)).digest() == file.other  # type: ignore[arg-type]


def missing(plan: DirectoryPlan, held: Callable[[Iterable[Digest]], Mapping[Digest, int]]) -> list[File]:
    """The files of changed leaves that a sync must bring, and that are neither held nor came with them.

    Of an on-demand repo those without a SHA-256: nothing could say, when they are asked for, which bytes were meant.
    One byte string may have several names.
    """
    if plan.repo.download == "redirect":
        return []
    found: list[File] = []
    for batch in plan.batches():
        listed = [file for file in batch if file.sha256 not in plan.blobs]
        if plan.repo.download == "on-demand":
            listed = [file for file in listed if file.sha256 is None]
        present = held(file.sha256 for file in listed if file.sha256)
        found += [file for file in listed if file.sha256 not in present]
    return found


def build_directory(plan: DirectoryPlan) -> Assembled:
    """The directory as planned, without derived documents; its blobs as far as they are new."""
    count, size = plan.listed
    directory = Directory(
        kind=plan.ecosystem.kind,
        form=plan.ecosystem.form,
        mode=plan.repo.download,
        origin=addresses.redact(plan.header.bases[0]),
        info=plan.header.info,
        extra=plan.header.extra,
        withheld=dict(sorted(plan.withheld.items())),
        aside=tuple(sorted(plan.leafless)),
        files=count,
        size=size,
    )
    amended = None
    if plan.previous and plan.names_before is not None:
        amended = amend(plan.previous, directory, plan.names, plan.amendment())
    return amended or _assemble(plan, directory)


def _assemble(plan: DirectoryPlan, directory: Directory) -> Assembled:
    previous = plan.previous
    leaves = {name: leaf for name, leaf in previous.leaves.items() if name not in plan.replaced} if previous else {}
    names = {file: name for file, name in previous.names.items() if name in leaves} if previous else {}
    labels = {name: label for name, label in previous.labels.items() if name in leaves} if previous else {}
    empty = previous.empty & leaves.keys() if previous else set()
    new = plan.leaves.values()
    elsewhere = (
        {}
        if plan.ecosystem.addressed
        else {file.name: (leaf.name, file.url) for leaf in new for file in leaf.files if file.url}
    )
    leaves |= {leaf.name: leaf.blob for leaf in new}
    return assemble(directory, leaves, elsewhere, names | plan.strays, labels | plan.labels, empty | plan.empty)
