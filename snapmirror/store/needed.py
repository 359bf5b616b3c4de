"""Which snapshots need a blob: what is said of one that can't be had again."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

from ..digests import Digest
from ..errors import DamagedError
from .catalog import Catalog
from .check import LeafFiles
from .directories import Directory
from .store import Store


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
    """What directories need of some blobs; all that they have in common is read once."""

    def __init__(self, store: Store, leaf_files: LeafFiles, blobs: frozenset[Digest]) -> None:
        self._metadata = store.metadata
        self._leaf_files = leaf_files
        self._blobs = blobs
        self._directories: dict[Digest, frozenset[Digest]] = {}
        #: by mode
        self._buckets: dict[str, dict[Digest, frozenset[Digest]]] = {}
        self._leaves: dict[tuple[Digest, str], frozenset[Digest]] = {}

    def of(self, directory: Digest) -> frozenset[Digest]:
        """Those blobs that a directory needs."""
        if directory not in self._directories:
            self._directories[directory] = frozenset(self._of_directory(directory))
        return self._directories[directory]

    def _of_directory(self, digest: Digest) -> Iterator[Digest]:
        yield from self._blobs & {digest}
        with contextlib.suppress(DamagedError):
            document = self._metadata.directory(digest).document
            known = self._buckets.setdefault(document.mode, {})
            for bucket in document.buckets:
                if bucket not in known:
                    known[bucket] = self._of_bucket(bucket, document)
                yield from known[bucket]

    def _of_bucket(self, bucket: Digest, document: Directory) -> frozenset[Digest]:
        found = set(self._blobs & {bucket})
        with contextlib.suppress(DamagedError):
            for leaf in self._metadata.bucket(bucket).leaves.values():
                found |= self._of_leaf(leaf, document)
        return frozenset(found)

    def _of_leaf(self, leaf: Digest, document: Directory) -> frozenset[Digest]:
        key = leaf, document.mode
        if key not in self._leaves:
            found = {leaf}
            if document.mode == "eager":
                with contextlib.suppress(DamagedError, ValueError):
                    found.update(file.sha256 for file in self._leaf_files(document.kind, self._metadata.leaf(leaf)))
            self._leaves[key] = self._blobs & found
        return self._leaves[key]


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
