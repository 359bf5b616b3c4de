"""Which snapshots need a blob: what is said of one that can't be had again."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from ..digests import Digest
from ..errors import DamagedError
from .catalog import Catalog
from .check import LeafFiles
from .directories import Directory
from .held import Held
from .store import Store

#: how a blob was gone through
_DIRECTORY, _BUCKET, _EAGER_BUCKET, _EAGER_LEAF = 1, 2, 4, 8


def needed_by(store: Store, catalog: Catalog, leaf_files: LeafFiles, blobs: Collection[Digest]) -> dict[Digest, list[str]]:
    """Of each of these blobs the ids of the snapshots that need it, oldest first; of one that none needs, an empty list.

    What only a bucket or leaf that can't be read would tell is not known: it is that blob that the snapshot is named for.
    """
    found: dict[Digest, list[str]] = {blob: [] for blob in blobs}
    if not found:
        return found
    needs = _Needs(store, leaf_files, frozenset(blobs))
    for record in catalog.records:
        states = (state for repo in record.repos.values() for state in repo.directories.values())
        for blob in {blob for state in states for blob in needs.of(state.blob)}:
            found[blob].append(record.id)
    return found


class _Needs:
    """What directories need of some blobs. All that they have in common is read once, and most of it leads to none of them."""

    def __init__(self, store: Store, leaf_files: LeafFiles, blobs: frozenset[Digest]) -> None:
        self._metadata = store.metadata
        self._leaf_files = leaf_files
        self._blobs = blobs
        self._barren = Held(())
        self._needs: dict[tuple[Digest, int], frozenset[Digest]] = {}

    def of(self, directory: Digest) -> frozenset[Digest]:
        """Those blobs that a directory needs."""
        return self._once(directory, _DIRECTORY, partial(self._of_directory, directory))

    def _once(self, digest: Digest, how: int, look: Callable[[], Iterator[Digest]]) -> frozenset[Digest]:
        """It, and what it leads to. how: a flag, for the same bytes may be gone through in several ways"""
        if self._barren.has(digest, how):
            return frozenset()
        if (digest, how) not in self._needs:
            found = {digest}
            with contextlib.suppress(DamagedError, ValueError):
                found.update(look())
            if not (needs := self._blobs & found):
                self._barren.note(digest, how)
                return needs
            self._needs[digest, how] = needs
        return self._needs[digest, how]

    def _of_directory(self, digest: Digest) -> Iterator[Digest]:
        document = self._metadata.directory(digest).document
        how = _EAGER_BUCKET if document.mode == "eager" else _BUCKET
        for bucket in document.buckets:
            yield from self._once(bucket, how, partial(self._of_bucket, bucket, document))

    def _of_bucket(self, bucket: Digest, document: Directory) -> Iterator[Digest]:
        for leaf in self._metadata.bucket(bucket).leaves.values():
            if document.mode == "eager":
                yield from self._once(leaf, _EAGER_LEAF, partial(self._of_leaf, leaf, document))
            else:
                yield leaf

    def _of_leaf(self, leaf: Digest, document: Directory) -> Iterator[Digest]:
        return (file.sha256 for file in self._leaf_files(document.kind, self._metadata.leaf(leaf)))


def runs(kept: Sequence[str], ids: Collection[str]) -> str:
    """Ids of snapshots as a text: `A to B` for those between which no kept one is left out. kept: all ids, in order"""
    parts: list[list[str]] = []
    following, wanted = False, set(ids)
    for id_ in kept:
        if id_ in wanted:
            if not following:
                parts.append([])
            parts[-1].append(id_)
        following = id_ in wanted
    return ", ".join(part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts)
