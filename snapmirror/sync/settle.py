"""Completing a leaf once its files are held, or can't be had."""

from collections.abc import Collection, Mapping
from typing import IO

from ..digests import Digest, sha256
from ..readings import File, FileList
from ..store.store import Store
from .plan import DirectoryPlan
from .press import Content, PlannedLeaf, press


def settle_leaf(
    store: Store, plan: DirectoryPlan, leaf: PlannedLeaf, digests: Mapping[str, Digest], withheld: Collection[str]
) -> None:
    """Plan a leaf anew with what is known only now: computed digests, sizes, what is made of its files; less what is withheld.

    digests: SHA-256 of files that upstream names by MD5 or size {name: digest}; withheld: names of files
    """
    digests = {**digests, **_supplement(store, plan, leaf, digests, withheld)}
    if not (digests or withheld or leaf.files.unsized):
        return
    files = [file.but(sha256=digests.get(file.name, file.sha256)) for file in leaf.files if file.name not in withheld]
    unsized = {file.name: file.sha256 for file in files if file.size is None and file.sha256}
    held = store.held(unsized.values())
    sizes = {name: held[digest] for name, digest in unsized.items() if digest in held}
    content = plan.ecosystem.settle(store.metadata.leaf(leaf.blob), digests, withheld, sizes)
    listed = {file.name: file for file in plan.ecosystem.files(content)} if content else {}
    known = {file.name for file in files}
    files = [file.but(size=listed[file.name].size) for file in files if file.name in listed]
    files += [file for name, file in listed.items() if name not in known]
    source = None if withheld else leaf.source
    for settled, compressed in press(store, [Content(leaf.name, content, FileList(files), source, leaf.label)], 1):
        if settled.blob and compressed is None:
            # Held, but perhaps by no root of gc: the plan was registered before. With its bytes it can be put again.
            plan.take(settled, store.blobs.read(settled.blob))
        else:
            plan.take(settled, compressed)


def _supplement(
    store: Store, plan: DirectoryPlan, leaf: PlannedLeaf, digests: Mapping[str, Digest], withheld: Collection[str]
) -> dict[str, Digest]:
    """Make what upstream lacks of the files that it has; {name: its SHA-256}."""
    if plan.repo.download != "eager" or not plan.ecosystem.supplements:
        return {}

    def read(file: File) -> IO[bytes] | None:
        digest = digests.get(file.name, file.sha256)
        return store.blobs.open(digest) if digest and file.name not in withheld else None

    made = plan.ecosystem.supplement(store.metadata.leaf(leaf.blob), read)
    plan.blobs.update({sha256(body): body for body in made.values()})
    return {name: sha256(body) for name, body in made.items()}
