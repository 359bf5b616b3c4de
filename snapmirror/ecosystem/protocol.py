"""The one protocol that an ecosystem fulfils: how it reads its upstream, what its leaves say, what it shows of them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

from .. import addresses
from ..digests import Digest
from ..errors import UsageError
from ..readings import File, Known, Reading, Selection, Upstream
from ..store.directories import DirectoryReader
from .clients import Client
from .pages import Pages
from .values import DocumentPlan, FileAt, LeafAt, Naming, Needed, Want, Wishes


class Reads(Protocol):
    """What there is to be had upstream, and what is kept of it."""

    #: what today's metadata can't tell of an earlier time (`Leaves.as_of`)
    unknowable: str
    #: whether each leaf is read from a document of its own, so that one can keep its old state while the others go on
    apart: bool = False

    def directories(self, repo: Any) -> Sequence[str]:
        """The directories of a repo, as paths below it; "" is the repo itself, which then has no other."""
        return [""]

    def read(self, repo: Any, directory: str, upstream: Upstream, known: Known, avoid: Collection[str]) -> Reading | None:
        """Upstream's present state; None if unchanged since `known`. Raises UpstreamError, AbsentError if there is none.

        avoid: URLs of documents that proved unusable a moment ago; another form is read instead
        """
        ...

    def empty(self, repo: Any, directory: str) -> Reading:
        """What is published for a directory that upstream has never had."""
        ...

    def settings(self, repo: Any) -> str:
        """All settings that bear on what is made of a reading, as a text: what was made with others is made anew."""
        ...

    def others(self, file: File, directory: str, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
        """Where a file may be that is not where it was listed: at upstreams of its repo as they are configured now.

        asked: how these are asked, if that takes it. Raises UpstreamError where one can't be.
        """
        for upstream in upstreams:
            yield addresses.file_url(addresses.as_folder(addresses.as_folder(upstream) + directory), file.name)

    # What is kept of it

    def selects(self, repo: Any) -> bool:
        """Whether the configuration leaves anything of a repo out."""
        return False

    def select(
        self, repos: Mapping[str, Any], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """What is kept of readings {(repo, directory): reading} of repos {path: repo}; of such as `selects`.

        Raises SelectionError for a selection that can't be meant so; UpstreamError.
        """
        raise LookupError("repos of this kind are kept whole")

    def ages(self, repo: Any) -> bool:
        """Whether what is kept of the same reading changes with time."""
        return False

    def needed(self, repo: Any, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
        """What wishes need of what a repo lists, by directory: the newest version that each allows, and so on.

        Readings of an ecosystem whose leaves are `apart` also have `ask_for`, and list what they were asked for.
        Raises SelectionError for wishes that can't be read or meant so; UpstreamError.
        """
        raise UsageError(f"{repo.path}: of a repo of kind {repo.kind} nothing is needed but what somebody names")

    # Several repos, and several directories, that bear on each other

    def bound(self, repo: Any) -> Collection[str]:
        """Paths of repos of which something is kept for this one's sake: they are read and selected together."""
        return ()

    def merged(self, repo: Any) -> Sequence[str]:
        """Paths of the repos that this one publishes as one; none if it has an upstream."""
        return ()

    def merge(self, repo: Any, readers: Mapping[str, DirectoryReader], denied: Mapping[str, Collection[str]]) -> Reading:
        """What comes of the directories of these repos, by path. denied: names of leaves that a repo may not have, by path"""
        raise LookupError("no repo of this kind is one of several")

    def follower(self, repo: Any) -> "Follower | None":
        """What makes the directory "" of a repo that has others: all that upstream says beside these, of what they list."""
        return None

    # Metadata on request

    def wanted_by(self, path: str) -> Want:
        """What a request for a path below a repo needs, where metadata is read when it is asked for."""
        return Want("", itself=True)

    def read_name(self, repo: Any, name: str, upstream: Upstream) -> Reading | None:
        """Upstream's present state of one name alone, where that can be had; of all others `Reading.since` says that they
        are as they were. Raises UpstreamError, AbsentError if there is no such name.
        """
        return None

    def known(self, repo: Any, names: Collection[str]) -> Any:
        """A repo whose metadata is on request, as it is synced: with the names that are known by now."""
        return repo


class Leaves(Protocol):
    """What leaves say, and what becomes of them. All bytes of leaves are uncompressed and canonical."""

    #: version of `settle` and `derive`; a change of any byte that they make raises it
    form: int
    #: whether leaves hold the addresses of their files, so that a directory need not
    addressed: bool = False
    #: whether upstream may lack files that can be made of others
    supplements: bool = False

    def files(self, leaf: bytes) -> tuple[File, ...]:
        """The files that a leaf lists. Raises ValueError if these are not the bytes of one."""
        ...

    def records(self, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Each file that a leaf lists with the canonical bytes of all that is said of it: what `diff` compares."""
        ...

    def leaf_of(self, file: str) -> str:
        """The name of the leaf that lists a file, guessed from its name alone: the directory keeps the exceptions, so the
        fewer the smaller it is. See `leaf_at` for where it is served.
        """
        ...

    def label(self, leaf: bytes) -> str:
        """What a list of a directory's names says of this one, so that it can be made without the leaves; empty for nothing."""
        return ""

    def settle(self, leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """A leaf with computed digests added and withheld files taken out; empty if nothing is left.

        sizes: bytes of files of which upstream states none
        """
        ...

    def supplement(self, leaf: bytes, read: Callable[[File], IO[bytes] | None]) -> Mapping[str, bytes]:
        """Files that upstream lacks and that are made of those that a leaf lists: {name: content}; see `supplements`.

        read: opens one of these; None for one that can't be had
        """
        return {}

    # Time

    def as_of(self, leaf: bytes, instant: int) -> bytes:
        """A leaf with only the files that upstream had at an instant, seconds since 1970; empty if there was none."""
        ...

    def reconstruct(self, repo: Any, leaf: bytes, instant: int) -> bytes:
        """What a snapshot sealed at an instant, seconds since 1970, can answer for a name that nobody had asked for by
        then: `as_of`, marked as such. Empty if there is nothing, or no way to tell.
        """
        return b""

    def dated(self, repo: Any) -> bool:
        """Whether leaves are to say when each file was first seen here."""
        return False

    def dates(self, leaf: bytes) -> Mapping[str, int]:
        """When files were first seen as a leaf says, milliseconds since 1970, of those of which it does."""
        return {}

    def date(self, leaf: bytes, seen: Mapping[str, int]) -> bytes:
        """A leaf that says of these files when they were first seen."""
        return leaf


class Shows(Leaves, Protocol):
    """What paths below a directory mean, and what is made of leaves for who asks."""

    #: None if it has no pages
    pages: Pages | None = None
    #: what its repos can be used with
    clients: Sequence[Client] = ()
    #: whether names of files are paths, below folders that are listed each by itself
    nested: bool = False
    #: whether eager repos get trees where the configuration does not say which do
    linked: bool = False

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """What a path below a directory names, other than a document."""
        name = self.leaf_at(reader, path)
        content = reader.read_leaf(name)
        file = self.paths(content).get(path) if content else None
        if file and (url := reader.elsewhere(name, path)):
            file = file.but(url=url)
        return FileAt(file) if file else None

    def leaf_at(self, reader: DirectoryReader, path: str) -> str:
        """The name of the leaf that lists the file at a path below a directory, if any does."""
        return reader.name_of(path) or self.leaf_of(path)

    def paths(self, leaf: bytes) -> Mapping[str, File]:
        """{path below the directory: file} of those that a leaf lists and that are published."""
        return {file.name: file for file in self.files(leaf)}

    def leaf_path(self, digest: Digest) -> str | None:
        """Where a leaf itself is published, if it is: `shards/<hex>.msgpack.zst`."""
        return None

    def media_type(self, path: str) -> str:
        """The Content-Type of a document, leaf or file."""
        return "application/octet-stream"

    def documents(self, repo: Any, info: Mapping[str, Any]) -> Sequence[DocumentPlan]:
        """The documents that a directory of a repo publishes. info: what the directory says of itself"""
        return ()

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """The uncompressed canonical form of a document: a function of directory and leaves."""
        raise LookupError(f"no directory of this kind has a document {document}")

    def naming(self, spec: str) -> Naming:
        """What a text of the operator's names. Raises ValueError, which says what would be right, if that is nothing."""
        ...


class Ecosystem(Reads, Shows, Protocol):
    """What makes conda conda. Implementations are stateless. What has a default is what few ecosystems have."""

    #: the tag of its `[[repo]]`
    kind: str

    def tree_reader(self) -> "TreeReader | None":
        """How it reads what other tools have mirrored; None if it can't."""
        return None


class Follower(Ecosystem, Protocol):
    """The ecosystem of a directory that is read with the others of its repo and planned once these are settled."""

    def follow(
        self,
        repo: Any,
        reading: Reading,
        others: Mapping[str, DirectoryReader],
        previous: DirectoryReader | None,
        upstream: Upstream,
    ) -> Reading:
        """What is published of a reading that `read` made, beside the others as they are going to be published.

        previous: the directory as it was. Raises UpstreamError.
        """
        ...


class TreeReader(Ecosystem, Protocol):
    """An ecosystem as it reads what other tools have left on this machine."""

    def holds(self, repo: Any, folder: Path) -> bool:
        """Whether a folder, which need not be there, looks like a tree of a repo."""
        ...

    def looks_for(self, repo: Any) -> str:
        """What it is that `holds` looks for, to go on with after "holds none of the"."""
        ...

    def at(self, repo: Any, folder: Path) -> Any:
        """A repo as it is configured, with a folder for its upstream."""
        ...
