"""Making a directory: of all its leaves, or of another directory and what differs."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from .. import codec
from ..digests import Digest, sha256
from .directories import Bucket, Derived, Directory, DirectoryReader, bucket_of

_NAMES_PER_BUCKET = 16


class Assembled(NamedTuple):
    """A directory ready to be stored."""

    digest: Digest
    directory: Directory
    #: what is to be stored: the directory, and those of its buckets that are new
    blobs: dict[Digest, bytes]


def assemble(
    directory: Directory,
    leaves: Mapping[str, Digest],
    elsewhere: Mapping[str, tuple[str, str]],
    names: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    empty: Collection[str] = (),
) -> Assembled:
    """Build the buckets of a directory.

    directory: without buckets
    leaves: name -> leaf
    elsewhere: file -> (name of its leaf, URL)
    names: file -> name of its leaf where that can't be told from the file's name
    labels: name -> what a list of all says of it
    empty: names whose leaf lists no file
    """
    width = _width(len(leaves))
    parts = [Bucket(leaves={}, elsewhere={}, names={}, labels={}, empty=set()) for _ in range(width)]
    for name, leaf in leaves.items():
        parts[bucket_of(name, width)].leaves[name] = leaf
    for file, (name, url) in elsewhere.items():
        parts[bucket_of(name, width)].elsewhere[file] = url
    for file, name in names.items():
        parts[bucket_of(file, width)].names[file] = name
    for name, label in (labels or {}).items():
        parts[bucket_of(name, width)].labels[name] = label
    for name in empty:
        parts[bucket_of(name, width)].empty.add(name)
    encoded = [codec.to_msgpack(part) for part in parts]
    digests = tuple(map(sha256, encoded))
    return _assembled(directory, digests, dict(zip(digests, encoded, strict=True)))


def _width(names: int) -> int:
    width = 1
    while width * _NAMES_PER_BUCKET < names:
        width *= 2
    return width


def _assembled(directory: Directory, buckets: tuple[Digest, ...], blobs: dict[Digest, bytes]) -> Assembled:
    directory = msgspec.structs.replace(directory, buckets=buckets)
    content = codec.to_msgpack(directory)
    digest = sha256(content)
    return Assembled(digest, directory, {**blobs, digest: content})


def with_documents(assembled: Assembled, documents: Mapping[str, Derived]) -> Assembled:
    """The same directory with other derived documents."""
    buckets = {digest: content for digest, content in assembled.blobs.items() if digest != assembled.digest}
    directory = msgspec.structs.replace(assembled.directory, documents=dict(documents))
    return _assembled(directory, directory.buckets, buckets)


class Amendment(NamedTuple):
    """What changes in a directory of which all else stays. It can't say anything of `elsewhere`."""

    #: names that lose the leaf that they had
    replaced: Collection[str]
    #: the leaves of names that get one: another one, or their first
    leaves: Mapping[str, Digest]
    #: files that leave the map `names`
    unnamed: Collection[str]
    #: files that come into it: {file: name of its leaf}
    names: Mapping[str, str]
    #: labels of those names in `leaves` that have one
    labels: Mapping[str, str] = {}
    #: those names in `leaves` whose leaf lists no file
    empty: Collection[str] = ()


def amend(before: DirectoryReader, directory: Directory, count: int, amendment: Amendment) -> Assembled | None:
    """A directory made of another one: what `assemble` would make of all leaves, but only buckets that differ are made anew.

    directory: the new document, without buckets
    count: how many names it has
    None if with so many names it has another number of buckets. Raises DamagedError if an old bucket can't be read.
    """
    old = before.document.buckets
    if _width(count) != len(old):
        return None
    copies = _Copies(before)
    for name in amendment.replaced:
        bucket = copies.of(name)
        bucket.leaves.pop(name, None)
        bucket.labels.pop(name, None)
        bucket.empty.discard(name)
    for file in amendment.unnamed:
        copies.of(file).names.pop(file, None)
    for name, leaf in amendment.leaves.items():
        copies.of(name).leaves[name] = leaf
    for file, name in amendment.names.items():
        copies.of(file).names[file] = name
    for name, label in amendment.labels.items():
        copies.of(name).labels[name] = label
    for name in amendment.empty:
        copies.of(name).empty.add(name)
    encoded = {place: codec.to_msgpack(bucket) for place, bucket in copies.items()}
    digests = list(old)
    for place, content in encoded.items():
        digests[place] = sha256(content)
    new = {digests[place]: content for place, content in encoded.items() if digests[place] != old[place]}
    return _assembled(directory, tuple(digests), new)


class _Copies(dict[int, Bucket]):
    """Copies of those buckets of a directory that are going to be changed, by their place."""

    def __init__(self, before: DirectoryReader) -> None:
        super().__init__()
        self._before = before

    def __missing__(self, place: int) -> Bucket:
        was = self._before.bucket(place)
        copies = {"leaves": dict(was.leaves), "names": dict(was.names), "labels": dict(was.labels), "empty": set(was.empty)}
        self[place] = msgspec.structs.replace(was, **copies)
        return self[place]

    def of(self, key: str) -> Bucket:
        """The copy in which a name or a file belongs."""
        return self[bucket_of(key, len(self._before.document.buckets))]
