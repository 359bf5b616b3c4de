"""What sync and the ecosystems hand each other: the way to upstream, and what a directory of an upstream reads as."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from .digests import Digest
from .validators import Validators


class File(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One artefact as upstream's metadata describes it. A first sync holds 600,000 of them: they are kept from Python's
    garbage collector, whose passes over them would take longer than reading the metadata.
    """

    #: what the directory calls it: a name, or a path below the directory
    name: str
    #: bytes, if stated
    size: int | None
    sha256: Digest | None
    #: the strongest of the other hashes that are stated (see `digests.OTHERS`); verifies the file if there is no SHA-256
    other: bytes | None
    #: absolute URL where it is not at base + name; never with credentials
    url: str | None = None
    #: seconds since 1970 of upstream's last change, if that is known
    modified: int | None = None

    def but(self, **changes: Any) -> "File":
        """The same with other values in some fields."""
        return msgspec.structs.replace(self, **changes)

    def is_as(self, other: "File") -> bool:
        """Whether another record speaks of the same bytes, as far as both say."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        if self.other and other.other:
            return self.other == other.other
        return self.size == other.size


class FileList:
    """The files of one leaf on its way through a sync, in a third of the room: a day that changes every record of conda-forge
    has 2.8 million, which took 0.9 GB as objects.
    """

    __slots__ = ("_count", "_packed", "size", "unsized")

    def __init__(self, files: Collection[File] = ()) -> None:
        self._packed = _ENCODER.encode(files)
        self._count = len(files)
        #: bytes of those that state them
        self.size = sum(file.size or 0 for file in files)
        #: whether any does not
        self.unsized = any(file.size is None for file in files)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[File]:
        return iter(_DECODER.decode(self._packed))


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[File])


class Draft(NamedTuple):
    """A leaf as read from upstream, before its files are fetched and verified."""

    name: str
    #: uncompressed canonical bytes; empty if nothing valid is left of it
    content: bytes
    #: what it lists
    files: tuple[File, ...]
    #: what the leaf was read from (see `Reading.sources`); None if it is not a function of that alone
    source: Digest | None
    #: records that are invalid in themselves and so are withheld: {file: reason}
    invalid: Mapping[str, str]
    #: files whose bytes came with it and need not be fetched: {SHA-256: bytes}
    bodies: Mapping[Digest, bytes] = {}


class Changes(NamedTuple):
    """What has changed since an earlier state of a directory, as names of leaves."""

    #: names that are new, or may have changed
    changed: Collection[str]
    #: names that are there no more
    gone: Collection[str]
    #: whether `Reading.sources` tells at little cost which of the changed ones are in fact as they were
    sourced: bool = False


class Reading(Protocol):
    """One state of one directory of an upstream."""

    #: where files are fetched from, in order of preference; may hold credentials
    bases: tuple[str, ...]
    #: what the directory says of itself, without addresses; kept and published again
    info: dict[str, Any]
    #: keys of the top level that we don't know; kept and published again
    extra: dict[str, Any]
    #: name -> digest of the bytes that the leaf is read from: equal digests give equal leaves
    sources: Mapping[str, Digest]
    #: records that belong to no leaf: {file: reason}
    invalid: Mapping[str, str]
    #: URL of the document read, empty if there was none; may hold credentials
    document: str
    #: URL -> validators of all documents read, to ask "changed since?" next time
    validators: Mapping[str, Validators]
    #: names that upstream has deleted for certain: that they are missing is no accident
    gone: Collection[str] = ()
    #: names that upstream has, and of which no file is old enough to be published yet. Complete once `drafts` has ended
    young: Collection[str] = ()
    #: what its drafts leave out (what is denied, what is younger than the date that is read for), as a text. What is found
    #: out of drafts and remembered holds only where this is the same
    left_out: str = ""
    #: whether it says nothing of the names that are not in it: these stay as they are
    alone: bool = False
    #: gives the old leaf of a name, which it keeps if it is aside; None if it has none. The sync sets it
    before: Callable[[str], bytes | None] = staticmethod(lambda name: None)
    #: gives all names that there were. The sync sets it
    names_before: Callable[[], Collection[str]] = staticmethod(lambda: ())

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """The leaves of these names, and of other names that become others through them. Raises UpstreamError."""
        ...

    @property
    def aside(self) -> Mapping[str, str]:
        """Names that keep their old leaves, because what upstream says of them can't be used: {name: reason}.

        Complete once `drafts` has ended.
        """
        return {}

    def set_aside(self, names: Mapping[str, str]) -> None:
        """Have these names keep their old leaves too: {name: reason}. What they have is not made drafts any more."""
        raise LookupError("here nothing is kept for the sake of other names")

    def mark(self) -> bytes:
        """What a later reading has to know of this state to tell what has changed (see `since`); empty if it can't.

        Complete once `drafts` has ended.
        """
        return b""

    def since(self, mark: bytes) -> Changes | None:
        """What has changed since the state that gave this mark, found without comparing `sources`; None if it can't tell."""
        return None


class Answer(NamedTuple):
    """A metadata document from upstream."""

    body: bytes
    validators: Validators | None
    #: where it was in the end, after redirects; may hold credentials
    url: str = ""
    #: with names in lower case
    headers: Mapping[str, str] = {}


class Unchanged(Exception):
    """In the place of an answer: the document is as it was when it was read last."""


class Stated(NamedTuple):
    """What the header fields of upstream's answer say of a file; None where they do not."""

    #: bytes
    size: int | None
    #: seconds since 1970
    modified: int | None


class Notes(Protocol):
    """What an ecosystem has found out and would like to know again, under keys that it chooses. It may be lost at any time."""

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """What was noted under these keys, without those under which nothing was."""
        ...

    def put(self, rows: Mapping[str, bytes]) -> None:
        """Note under each of these keys, in the place of what was noted there."""
        ...


class Upstream(Protocol):
    """How an ecosystem reaches upstream; sync provides it."""

    notes: Notes

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        """A document; None if it is still as `known` says. Raises UpstreamError.

        limit: bytes that it may have; known: its validators from the last time; accept: the Accept field that is sent
        """
        ...

    def get_many(
        self, urls: Iterable[str], *, limit: int, known: "Known | None" = None, accept: str = ""
    ) -> Iterator[tuple[str, Answer | Exception]]:
        """Many documents side by side, in any order: the URL of each with its answer, its UpstreamError, or `Unchanged`."""
        ...

    def head_many(self, urls: Iterable[str]) -> Iterator[tuple[str, Stated | Exception]]:
        """What is said of many files, in any order: the URL of each with that, or with its UpstreamError."""
        ...

    def warn(self, message: str) -> None:
        """Tell the operator something that does not fail the sync."""
        ...

    def now(self) -> datetime:
        """The present instant, UTC."""
        ...


class Selection(NamedTuple):
    """A reading cut down to what the configuration keeps of it."""

    reading: Reading
    #: how many records each rule has dropped
    dropped: Mapping[str, int]
    #: whether what is kept of one name depends on others: then it is made again if one has to keep its old leaf after all,
    #: and of directories that are selected together all keep their old state if one does
    tied: bool = False


#: what is known of a URL from the last time, if asking conditionally is allowed at all
Known = Callable[[str], Validators | None]
