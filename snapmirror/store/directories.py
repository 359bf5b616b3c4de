"""Directories: one listing of a snapshot, as a blob that points to buckets that point to leaves.

The map name -> leaf is split into a power of two of buckets by a hash of the name, about 16 names each, so that one
changed package rewrites one bucket and the directory and nothing else (measured on 149 real versions: 1.9 MB against
6.0 MB with one flat map a version). Directories and buckets are canonical MessagePack, uncompressed: their identity
must not depend on the version of a compressor, and the digests in them do not compress.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import msgspec

from .. import codec
from ..digests import Digest, sha256
from ..errors import DamagedError
from .blobs import Blobs

#: bytes that a leaf may expand to; conda itself refuses shards above 16 MiB, mamba above 100 MiB
LEAF_LIMIT = 128 << 20
#: of all directories that are kept in memory; 90 bytes each
_MOST_BUCKETS = 1 << 20
#: buckets that are kept decoded, a kilobyte or two each
_DECODED = 16_384
#: directories of which the counts are kept; ten years of a channel have 22,000
_MOST_COUNTS = 1 << 17
#: directories of which the folders are kept
_MOST_FOLDERS = 16


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """A document derived from the directory."""

    #: of the uncompressed canonical form
    sha256: Digest
    #: bytes of the uncompressed canonical form
    size: int
    #: endings under which it is published, "" for the uncompressed form
    suffixes: tuple[str, ...]


class Directory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document that stands for a directory (man snapmirror-store, section DIRECTORIES)."""

    kind: str
    #: version of the functions that made leaves and documents
    form: int
    #: eager, redirect or on-demand
    mode: str
    #: upstream's base URL, ending in a slash, without credentials
    origin: str
    #: what upstream says of the directory, without addresses
    info: dict[str, Any] = {}
    #: keys of upstream's top level that we don't know
    extra: dict[str, Any] = {}
    #: by name, without the endings
    documents: dict[str, Derived] = {}
    #: records that are not published: {file: reason}
    withheld: dict[str, str] = {}
    #: names that upstream has and that have no leaf, because what it says of them could not be used; sorted
    aside: tuple[str, ...] = ()
    #: how many files are listed
    files: int = 0
    #: their bytes, as far as their records state them
    size: int = 0
    #: digests of the buckets, in order
    buckets: tuple[Digest, ...] = ()


class Bucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of the map name -> leaf, and what belongs to it (man snapmirror-store, section BUCKETS)."""

    #: name -> leaf
    leaves: dict[str, Digest] = {}
    #: file -> absolute URL, for files of these leaves that are not at origin + name
    elsewhere: dict[str, str] = {}
    #: file -> name of its leaf where the file's name does not tell; kept in the bucket of the file's own name
    names: dict[str, str] = {}
    #: name -> what a list of all says of it, where its ecosystem has such a list
    labels: dict[str, str] = {}
    #: names whose leaf lists no file: that of conda remembers what was removed (CEP 16), so that the name stays
    empty: set[str] = set()

    @property
    def listing(self) -> dict[str, Digest]:
        """name -> leaf, of those that list a file."""
        return {name: leaf for name, leaf in self.leaves.items() if name not in self.empty} if self.empty else self.leaves


class Counts(msgspec.Struct, frozen=True, gc=False):
    """A directory read only for what lists of snapshots say of it: see `Directory`."""

    mode: str
    files: int = 0
    size: int = 0


class _Labels(msgspec.Struct, frozen=True):
    """A bucket read only for what a list of all names needs."""

    labels: dict[str, str] = {}


class _Names(msgspec.Struct, frozen=True):
    """A bucket read only for the names in it."""

    leaves: dict[str, msgspec.Raw] = {}


def bucket_of(name: str, width: int) -> int:
    """The bucket of a name among `width`, a power of two. A name that is no UTF-8 is in none, and may be looked for."""
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass"))[:4], "big") & (width - 1)


class _Directories:
    """A cache of the directories last used, bounded by the buckets that they have: 700,000 names make one of 5 MiB."""

    def __init__(self, read: Callable[[Digest], Directory]) -> None:
        self._read = read
        self._kept: OrderedDict[Digest, Directory] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def get(self, digest: Digest) -> Directory:
        """A directory. Raises what reading it raises."""
        with self._lock:
            if found := self._kept.get(digest):
                self._kept.move_to_end(digest)
                return found
        found = self._read(digest)
        with self._lock:
            if digest not in self._kept:  # unless another thread was faster
                self._kept[digest] = found
                self._weight += _weight(found)
            while self._weight > _MOST_BUCKETS and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._weight -= _weight(dropped)
        return found


def _weight(directory: Directory) -> int:
    """What a directory counts for, in buckets; a small one at least so much, for what else it holds."""
    return max(len(directory.buckets), _MOST_BUCKETS // 256)


class Metadata:
    """Reads directories, buckets and leaves, with bounded caches of the first two."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._directories = _Directories(self._read_directory)
        self._bucket = lru_cache(_DECODED)(lambda digest: self._decode(digest, Bucket))
        self._counts = lru_cache(_MOST_COUNTS)(lambda digest: self._decode(digest, Counts))
        self.folders = lru_cache(_MOST_FOLDERS)(self._find_folders)

    def _decode(self, digest: Digest, type_: type[Any]) -> Any:
        try:
            return msgspec.msgpack.decode(self._blobs.read(digest), type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DamagedError(f"blob {digest.hex()}", f"is not the {type_.__name__.lower()} it should be: {error}") from None

    def _read_directory(self, digest: Digest) -> Directory:
        found: Directory = self._decode(digest, Directory)
        if (count := len(found.buckets)).bit_count() != 1:  # a copy's origin may send what it likes
            raise DamagedError(
                f"blob {digest.hex()}", f"is not the directory it should be: {count} buckets are no power of two"
            )
        return found

    def directory(self, digest: Digest) -> "DirectoryReader":
        """A directory. Raises DamagedError if it can't be read."""
        return DirectoryReader(self, digest, self._directories.get(digest))

    def counts(self, digest: Digest) -> Counts:
        """What a directory lists, in numbers. Its buckets are not decoded, and it does not drive out what pages need.

        Raises DamagedError if it can't be read.
        """
        found: Counts = self._counts(digest)
        return found

    def expect(self, blobs: Iterable[Digest]) -> None:
        """Many directories, buckets or leaves are going to be read."""
        self._blobs.expect(blobs)

    def bucket(self, digest: Digest) -> Bucket:
        """A bucket. Raises DamagedError if it can't be read."""
        found: Bucket = self._bucket(digest)
        return found

    def labels(self, bucket: Digest) -> dict[str, str]:
        """The labels in a bucket, past the cache: who reads those of all buckets would drive out what pages need.

        Raises DamagedError if it can't be read.
        """
        found: _Labels = self._decode(bucket, _Labels)
        return found.labels

    def names(self, bucket: Digest) -> Iterable[str]:
        """The names in a bucket, past the cache as `labels`. Raises DamagedError if it can't be read."""
        found: _Names = self._decode(bucket, _Names)
        return found.leaves

    def _find_folders(self, directory: Digest) -> set[str]:
        """The folders below a directory whose names are paths. Raises DamagedError if it can't be read."""
        found: set[str] = set()
        buckets = self.directory(directory).document.buckets
        self.expect(buckets)
        for bucket in buckets:
            for name in self.bucket(bucket).leaves:
                folder = name.rpartition("/")[0]
                while folder and folder not in found:
                    found.add(folder)
                    folder = folder.rpartition("/")[0]
        return found

    def leaf(self, digest: Digest) -> bytes:
        """The canonical, uncompressed bytes of a leaf. Raises DamagedError if it can't be read."""
        try:
            return codec.decompress(self._blobs.read(digest, LEAF_LIMIT), LEAF_LIMIT)
        except ValueError as error:
            raise DamagedError(f"blob {digest.hex()}", f"is no leaf: {error}") from None


class DirectoryReader:
    """One stored directory, read lazily. Whatever reads a bucket or a leaf raises DamagedError if that can't be read."""

    def __init__(self, metadata: Metadata, digest: Digest, document: Directory) -> None:
        self._metadata = metadata
        self.digest = digest
        self.document = document

    def _bucket(self, name: str) -> Bucket:
        buckets = self.document.buckets
        return self._metadata.bucket(buckets[bucket_of(name, len(buckets))])

    def buckets_of(self, keys: Iterable[str]) -> tuple[Digest, ...]:
        """The buckets in which names or files belong."""
        buckets = self.document.buckets
        return tuple(buckets[bucket_of(key, len(buckets))] for key in keys)

    def bucket(self, place: int) -> Bucket:
        """One of the buckets, by its place in the directory."""
        return self._metadata.bucket(self.document.buckets[place])

    def leaf(self, name: str) -> Digest | None:
        """The leaf of a name, None if there is none."""
        return self._bucket(name).leaves.get(name)

    def lists(self, name: str) -> bool:
        """Whether it has a leaf of this name that lists a file."""
        return name in self._bucket(name).listing

    def has_folder(self, path: str) -> bool:
        """Whether there are names below a path, in a directory whose names are paths."""
        return path in self._metadata.folders(self.digest)

    def read_leaf(self, name: str) -> bytes | None:
        """The canonical bytes of the leaf of a name, None if there is none."""
        digest = self.leaf(name)
        return None if digest is None else self._metadata.leaf(digest)

    def read(self, leaf: Digest) -> bytes:
        """The canonical bytes of one of its leaves, or of any other. Raises DamagedError if it is none."""
        return self._metadata.leaf(leaf)

    def name_of(self, file: str) -> str | None:
        """The name of the leaf that lists a file, if the file's name does not tell it; else None."""
        return self._bucket(file).names.get(file)

    def elsewhere(self, name: str, file: str) -> str | None:
        """The URL of a file of the leaf `name`, if that is not at origin + file; else None."""
        return self._bucket(name).elsewhere.get(file)

    @cached_property
    def names(self) -> dict[str, str]:
        """Every file whose leaf can't be told from its name: {file: name of the leaf}."""
        found: dict[str, str] = {}
        for bucket in self.document.buckets:
            found.update(self._metadata.bucket(bucket).names)
        return found

    @cached_property
    def labels(self) -> dict[str, str]:
        """Every name that has one, and its label."""
        found: dict[str, str] = {}
        for bucket in self.document.buckets:
            found.update(self._metadata.labels(bucket))
        return found

    @cached_property
    def empty(self) -> set[str]:
        """Every name whose leaf lists no file."""
        return {name for bucket in self.document.buckets for name in self._metadata.bucket(bucket).empty}

    @cached_property
    def listing(self) -> dict[str, Digest]:
        """Every name whose leaf lists a file, and this leaf, sorted by name."""
        return {name: leaf for name, leaf in self.leaves.items() if name not in self.empty}

    @cached_property
    def leaves(self) -> dict[str, Digest]:
        """Every name and its leaf, sorted by name."""
        found: dict[str, Digest] = {}
        self._metadata.expect(self.document.buckets)
        for bucket in self.document.buckets:
            found.update(self._metadata.bucket(bucket).leaves)
        return dict(sorted(found.items()))

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Every name with the canonical bytes of its leaf, sorted by name."""
        self._metadata.expect(self.leaves.values())
        for name, leaf in self.leaves.items():
            yield name, self._metadata.leaf(leaf)
