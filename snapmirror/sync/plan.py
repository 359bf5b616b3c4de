"""Planning one directory: compare what was read with what is held. Pure but for reads of the store."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import addresses
from ..digests import Digest
from ..ecosystem import Draft, Ecosystem, File, Reading, Repo
from ..store.directories import Assembled, Derived, Directory, DirectoryReader, assemble
from ..store.store import Store
from ..validators import Validators
from .press import Content, PlannedLeaf, press


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
    #: leaves that stay as they are
    kept: dict[str, Digest] = field(default_factory=dict)
    leaves: dict[str, PlannedLeaf] = field(default_factory=dict)
    #: bytes of leaves that are not in the store yet, and of files that came with them
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    #: records that are not published, with the reason
    withheld: dict[str, str] = field(default_factory=dict)
    #: files whose bytes are not in the store
    wanted: list[File] = field(default_factory=list)

    @property
    def wanted_bytes(self) -> int:
        """Bytes to fetch, as far as the metadata says."""
        sizes = {file.sha256 or file.md5 or file.name: file.size or 0 for file in self.wanted}
        return sum(sizes.values())

    @property
    def listed(self) -> tuple[int, int]:
        """Files that the directory will list, and their bytes."""
        count, size = (self.previous.document.files, self.previous.document.size) if self.previous else (0, 0)
        for gone in self._replaced_files():
            count, size = count - 1, size - (gone.size or 0)
        for leaf in self.leaves.values():
            count, size = count + len(leaf.files), size + sum(file.size or 0 for file in leaf.files)
        return count, size

    def take(self, leaf: PlannedLeaf, compressed: bytes | None) -> None:
        """Plan a leaf. A name may come again, with more or less in it, or with nothing."""
        self.kept.pop(leaf.name, None)
        self.leaves.pop(leaf.name, None)
        if leaf.blob:
            self.leaves[leaf.name] = leaf
        if compressed is not None:
            self.blobs[leaf.blob] = compressed

    def _replaced_files(self) -> Iterator[File]:
        if self.previous:
            for name in self.previous.leaves:
                if name not in self.kept:
                    yield from self.ecosystem.files(self.previous.read_leaf(name) or b"")


def make_plan(
    store: Store, ecosystem: Ecosystem, repo: Repo, name: str, reading: Reading, previous: DirectoryReader | None
) -> DirectoryPlan:
    """Compare a reading with the previous state of the directory and with the store.

    A leaf is kept unread if the bytes that it is read from are known and the previous snapshot lists the very leaf that
    came of them: then all its files are held, but for what a check has found bad. Raises UpstreamError where reading a
    changed leaf fails.
    """
    header = Header(reading.bases, reading.info, reading.extra, reading.document, reading.validators)
    plan = DirectoryPlan(repo, name, header, previous, ecosystem, withheld=dict(reading.invalid))
    comparable = previous is not None and previous.document.mode == repo.download and previous.document.form == ecosystem.form
    known = store.leaves(reading.sources) if comparable else {}
    held = previous.leaves if previous and comparable else {}
    plan.kept = {leaf: blob for leaf, blob in known.items() if held.get(leaf) == blob}
    if bad := store.quarantined() if repo.download == "eager" else None:
        plan.kept = {leaf: blob for leaf, blob in plan.kept.items() if not _lists(store, ecosystem, blob, bad)}
    changed = [leaf for leaf in reading.sources if leaf not in plan.kept]
    for leaf, compressed in press(store, _drafts(store, plan, reading.drafts(changed)), len(changed)) if changed else ():
        plan.take(leaf, compressed)
    if repo.download == "eager":
        plan.wanted = [file for file in missing(plan, store.index.held) if file.sha256 not in plan.blobs]
    return plan


def _lists(store: Store, ecosystem: Ecosystem, leaf: Digest, digests: Collection[Digest]) -> bool:
    return any(file.sha256 in digests for file in ecosystem.files(store.metadata.leaf(leaf)))


def _drafts(store: Store, plan: DirectoryPlan, drafts: Iterable[Draft]) -> Iterator[Content]:
    """Complete drafts with the digests that can be had without fetching."""
    for draft in drafts:
        plan.withheld.update(draft.invalid)
        plan.blobs.update(draft.bodies)
        content, files = draft.content, draft.files
        unnamed = [file for file in files if file.sha256 is None]
        if unnamed and plan.repo.download == "eager" and (found := _recall(store, plan, draft.name, unnamed)):
            content = plan.ecosystem.settle(content, found, ())
            files = tuple(file.but(sha256=found.get(file.name, file.sha256)) for file in files)
        clean = not unnamed and not draft.invalid and not any(file.url for file in files)
        yield Content(draft.name, content, files, draft.source if clean else None)


def _recall(store: Store, plan: DirectoryPlan, name: str, files: Iterable[File]) -> dict[str, Digest]:
    """The SHA-256 of files that upstream names by MD5 or size only, where their bytes were verified before.

    After a reindex the table of MD5s is empty; the previous snapshot's leaf then names a candidate.
    """
    eager = plan.previous is not None and plan.previous.document.mode == "eager"
    before = plan.previous.read_leaf(name) if eager and plan.previous else None
    old = (
        {(file.name, file.size, file.md5, file.modified): file.sha256 for file in plan.ecosystem.files(before)}
        if before
        else {}
    )
    found = {}
    for file in files:
        digest = store.index.by_md5(file.md5) if file.md5 else None
        if (
            digest is None
            and (candidate := old.get((file.name, file.size, file.md5, file.modified)))
            and _is(store, candidate, file)
        ):
            digest = candidate
        if digest:
            found[file.name] = digest
    return found


def _is(store: Store, digest: Digest, file: File) -> bool:
    """Whether a blob is held and has the MD5 that upstream states, if it states one."""
    if store.blobs.size(digest) is None:
        return False
    if file.md5 is None:
        return True
    with store.blobs.open(digest) as blob:
        return hashlib.file_digest(blob, "md5").digest() == file.md5  # type: ignore[arg-type]


def missing(plan: DirectoryPlan, held: Callable[[Iterable[Digest]], Mapping[Digest, int]]) -> list[File]:
    """The files of changed leaves that are not held; one byte string may come under several names."""
    listed = [file for leaf in plan.leaves.values() for file in leaf.files]
    present = held(file.sha256 for file in listed if file.sha256)
    return [file for file in listed if file.sha256 not in present] if present else listed


def build_directory(plan: DirectoryPlan, documents: Mapping[str, Derived]) -> Assembled:
    """The directory as planned, with the derived documents that are known already."""
    ecosystem = plan.ecosystem
    leaves = {**plan.kept, **{leaf.name: leaf.blob for leaf in plan.leaves.values()}}
    elsewhere = {file.name: (leaf.name, file.url) for leaf in plan.leaves.values() for file in leaf.files if file.url}
    names = {
        file.name: leaf.name
        for leaf in plan.leaves.values()
        for file in leaf.files
        if ecosystem.leaf_of(file.name) != leaf.name
    }
    if plan.previous:
        names = {file: name for file, name in plan.previous.names.items() if name in plan.kept} | names
    count, size = plan.listed
    directory = Directory(
        kind=ecosystem.kind,
        form=ecosystem.form,
        mode=plan.repo.download,
        origin=addresses.redact(plan.header.bases[0]),
        info=plan.header.info,
        extra=plan.header.extra,
        documents=dict(documents),
        withheld=dict(sorted(plan.withheld.items())),
        files=count,
        size=size,
    )
    return assemble(directory, leaves, elsewhere, names)
