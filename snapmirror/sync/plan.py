"""Planning one directory: compare what was read with what is held. Pure but for reads of the store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .. import addresses, codec
from ..digests import Digest, sha256
from ..ecosystem import Draft, Ecosystem, File, Reading, Repo
from ..store.directories import Assembled, Derived, Directory, DirectoryReader, assemble
from ..store.store import Store


@dataclass
class PlannedLeaf:
    """One leaf that is not as it was in the previous snapshot."""

    name: str
    #: name of its blob
    blob: Digest
    #: digest of its canonical bytes
    canonical: Digest
    files: tuple[File, ...]
    #: what it was read from, if it is a function of that alone and nothing of it is withheld
    source: Digest | None


@dataclass
class DirectoryPlan:
    """What the next snapshot's directory will hold, and what is missing for it."""

    repo: Repo
    name: str
    reading: Reading
    previous: DirectoryReader | None
    ecosystem: Ecosystem
    #: leaves that stay as they are
    kept: dict[str, Digest] = field(default_factory=dict)
    leaves: dict[str, PlannedLeaf] = field(default_factory=dict)
    #: bytes of leaves that are not in the store yet
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    #: records that are not published, with the reason
    withheld: dict[str, str] = field(default_factory=dict)
    #: files whose bytes are not in the store
    wanted: list[File] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Where the directory is published: `conda-forge/linux-64`."""
        return f"{self.repo.path}/{self.name}"

    @property
    def wanted_bytes(self) -> int:
        """Bytes to fetch, as far as the metadata says."""
        return sum(file.size or 0 for file in self.wanted)

    @property
    def listed(self) -> tuple[int, int]:
        """Files that the directory will list, and their bytes."""
        count, size = (self.previous.document.files, self.previous.document.size) if self.previous else (0, 0)
        for gone in self._replaced_files():
            count, size = count - 1, size - (gone.size or 0)
        for leaf in self.leaves.values():
            count, size = count + len(leaf.files), size + sum(file.size or 0 for file in leaf.files)
        return count, size

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
    came of them: then all its files are held. Raises UpstreamError where reading a changed leaf fails.
    """
    plan = DirectoryPlan(repo, name, reading, previous, ecosystem, withheld=dict(reading.invalid))
    comparable = previous is not None and previous.document.mode == repo.download and previous.document.form == ecosystem.form
    known = store.index.leaves(reading.sources) if comparable else {}
    held = previous.leaves if previous and comparable else {}
    plan.kept = {leaf: blob for leaf, blob in known.items() if held.get(leaf) == blob}
    changed = [leaf for leaf in reading.sources if leaf not in plan.kept]
    for draft in reading.drafts(changed) if changed else ():  # a name may come again, with more in it
        plan.kept.pop(draft.name, None)
        plan.leaves.pop(draft.name, None)
        plan.withheld.update(draft.invalid)
        if draft.content:
            plan.leaves[draft.name] = _plan_leaf(store, plan, draft)
    if repo.download == "eager":
        plan.wanted = missing(store, plan)
    return plan


def _plan_leaf(store: Store, plan: DirectoryPlan, draft: Draft) -> PlannedLeaf:
    """Turn a draft into a leaf, with the digests that can be had without fetching."""
    content, files = draft.content, draft.files
    if plan.repo.download == "eager":
        found = {
            file.name: digest for file in files if file.sha256 is None and (digest := _recall(store, plan, draft.name, file))
        }
        if found:
            content = plan.ecosystem.settle(content, found, ())
            files = tuple(file._replace(sha256=found.get(file.name, file.sha256)) for file in files)
    clean = not draft.invalid and all(file.sha256 and not file.url for file in draft.files)
    return stored_leaf(store, plan.blobs, draft.name, content, files, draft.source if clean else None)


def stored_leaf(
    store: Store, blobs: dict[Digest, bytes], name: str, content: bytes, files: tuple[File, ...], source: Digest | None
) -> PlannedLeaf:
    """The blob of a leaf: the stored one if the store has these canonical bytes, else compressed and put into `blobs`.

    Never recompressed: another version of zstd makes other bytes of the same leaf, and every date would differ.
    """
    canonical = sha256(content)
    blob = store.index.leaf(canonical)
    if blob is None:
        compressed = codec.compress(content, codec.LEAF_LEVEL)
        blob = sha256(compressed)
        blobs[blob] = compressed
    return PlannedLeaf(name, blob, canonical, files, source)


def _recall(store: Store, plan: DirectoryPlan, name: str, file: File) -> Digest | None:
    """The SHA-256 of a file that upstream names by MD5 or size only, if its bytes were verified before.

    After a reindex the table of MD5s is empty; the previous snapshot's leaf then names a candidate.
    """
    if file.md5 and (digest := store.index.by_md5(file.md5)):
        return digest
    before = plan.previous.read_leaf(name) if plan.previous and plan.previous.document.mode == "eager" else None
    for old in plan.ecosystem.files(before) if before else ():
        if old.name == file.name and old.md5 == file.md5 and old.size == file.size and old.sha256:
            return old.sha256 if store.index.blob(old.sha256) else None
    return None


def missing(store: Store, plan: DirectoryPlan) -> list[File]:
    """The files of changed leaves that are not in the store, each once."""
    listed = [file for leaf in plan.leaves.values() for file in leaf.files]
    held = store.held(file.sha256 for file in listed if file.sha256)
    wanted = {file.sha256 or file.md5 or file.name: file for file in listed if file.sha256 not in held}
    return list(wanted.values())


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
        origin=addresses.redact(plan.reading.bases[0]),
        info=plan.reading.info,
        extra=plan.reading.extra,
        documents=dict(documents),
        withheld=dict(sorted(plan.withheld.items())),
        files=count,
        size=size,
    )
    return assemble(directory, leaves, elsewhere, names)
