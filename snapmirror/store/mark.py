"""What gc must keep: everything that records, live states and running syncs lead to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..digests import Digest
from ..errors import DamagedError
from . import syncing
from .directories import Metadata
from .held import Held
from .records import Record, RepoState
from .store import Store

#: (kind of the directory, uncompressed leaf) -> digests of the files that it lists
LeafDigests = Callable[[str, bytes], Iterable[Digest]]

#: What is noted of a blob: all that it leads to was reached but for files, for its directory only redirects to them; files
#: as well; it is a file itself.
_LISTED, _WHOLE, _FILE = 1, 2, 4


@dataclass(frozen=True)
class Roots:
    """What a mark starts from."""

    directories: list[Digest]
    planned: list[syncing.Planned]


def roots(store: Store, records: Iterable[Record], states: Iterable[RepoState]) -> Roots:
    """The directories of these records, of these live states, and of syncs that run or may be resumed.

    Those of one place follow each other: they have most in common. Raises DamagedError if an entry of a sync, or what was
    told later of a snapshot, can't be read.
    """
    pages = store.snapshots.pages()
    places: dict[tuple[str, str], list[Digest]] = {}
    for record in records:
        for path, repo in record.repos.items():
            for name, state in repo.directories.items():
                places.setdefault((path, name), []).append(state.blob)
        for path, digest in pages.get(record.id, {}).items():
            places.setdefault((path, "pages"), []).append(bytes.fromhex(digest))
    found = Roots([digest for digests in places.values() for digest in digests], [])
    found.directories.extend(one.blob for state in states for one in state.directories.values())
    for entry in syncing.entries(store.layout):
        if not entry.expired:
            found.directories.extend(entry.directories)
            found.planned.extend(entry.planned)
    return found


def read_leaf(metadata: Metadata, leaf_digests: LeafDigests, kind: str, leaf: Digest) -> list[Digest]:
    """The files that a leaf lists; kind: of its directory. Raises DamagedError."""
    try:
        return list(leaf_digests(kind, metadata.leaf(leaf)))
    except ValueError as error:
        raise DamagedError(f"blob {leaf.hex()}", f"is no leaf: {error}") from None


class Mark:
    """Every blob that roots need, as far as they were added. Each directory, bucket and leaf is read once, however many lead
    to it: none of them ever changes. It takes some 50 bytes a blob (see `held`).
    """

    def __init__(self, metadata: Metadata, leaf_digests: LeafDigests) -> None:
        self._metadata = metadata
        self._leaf_digests = leaf_digests
        self._noted = Held(())

    def __contains__(self, digest: Digest) -> bool:
        return self._noted.has(digest, _LISTED | _WHOLE | _FILE)

    def add(self, start: Roots) -> None:
        """Go through these. Raises DamagedError if something can't be read; it is tried again by who adds it again."""
        for digest in self._fresh(start.directories, _LISTED):
            directory = self._metadata.directory(digest).document
            self._add(directory.buckets, directory.kind, directory.mode)
            self._noted.note(digest, _LISTED)
        for planned in start.planned:
            self._add(map(bytes.fromhex, planned.buckets), planned.kind, planned.mode)

    def _add(self, buckets: Iterable[Digest], kind: str, mode: str) -> None:
        """All is noted after what it leads to: an error in between must not let that be taken for done."""
        how = _LISTED if mode == "redirect" else _WHOLE
        for bucket in self._fresh(buckets, how):
            for leaf in self._fresh(self._metadata.bucket(bucket).leaves.values(), how):
                if how == _WHOLE:
                    for file in self._fresh(read_leaf(self._metadata, self._leaf_digests, kind, leaf), _FILE):
                        self._noted.note(file, _FILE)
                self._noted.note(leaf, how)
            self._noted.note(bucket, how)

    def _fresh(self, digests: Iterable[Digest], how: int) -> Iterator[Digest]:
        """Those of which this is not noted yet."""
        return (digest for digest in digests if not self._noted.has(digest, how))
