"""The protocol that every ecosystem fulfils: how it reads its upstream, what its leaves say, what it shows to clients.

`sync` and `serve` know an ecosystem by these methods alone. `Ecosystem` is the whole, in three parts:

Reads     asks upstream what there is, and decides what is kept of it
Leaves    reads, cuts and completes the bytes of leaves
Shows     says what a path below a directory names, and makes the documents that are published

Two more protocols are for some ecosystems only: `Follower` (a directory that is made from the others of its repo) and
`TreeReader` (a mirror that another tool has left on this machine).

A method whose body is `...` must be written for every ecosystem. The others have a default, which is right for an ecosystem
without that feature. `repo` is the ecosystem's own subclass of `Repo`; its type here is `Any`, because each has another one.
Errors that a method raises are named in its docstring; UpstreamError includes the errors below it in `errors.py`.
"""

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
from .environments import Environment, Mirrored
from .pages import Pages
from .values import About, DocumentPlan, FileAt, LeafAt, Naming, Needed, Want, Wishes


class Reads(Protocol):
    """Asks upstream what there is, and decides what is kept of it."""

    #: what today's metadata does not tell of an earlier time, for messages: "files deleted since"
    unknowable: str
    #: whether upstream has a document for each leaf: if one of them can't be read, its leaf keeps its old state and the
    #: others go on
    read_by_leaf: bool = False

    def directories(self, repo: Any) -> Sequence[str]:
        """The directories of a repo, as paths below it. A repo that is a single directory names it ""."""
        return [""]

    def read(self, repo: Any, directory: str, upstream: Upstream, known: Known, avoid: Collection[str]) -> Reading | None:
        """Ask upstream for the present state of a directory; None if it has not changed.

        known: gives the validators of a document, by its URL, if upstream may answer "not modified"
        avoid: URLs of documents that proved unusable a moment ago; another form of them is read instead
        Raises AbsentError if upstream has no such directory, UpstreamError if the directory can't be read.
        """
        ...

    def empty(self, repo: Any, directory: str) -> Reading:
        """An empty state: it is published for a directory that upstream does not have. Asks nobody."""
        ...

    def settings(self, repo: Any) -> str:
        """A text of all settings that decide what is made of a reading, with the contents of the files that they name.

        What was made under another text is made again, even if upstream has not changed.
        """
        ...

    def other_urls(self, file: File, directory: str, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
        """More URLs to fetch a file from, if its recorded URL fails: where the upstreams of today would have it.

        directory: the one that lists the file
        upstreams: base URLs, as they are configured now
        asked: for an ecosystem that must ask an upstream where the file is
        Raises UpstreamError if that fails.
        """
        for upstream in upstreams:
            yield addresses.file_url(addresses.as_folder(addresses.as_folder(upstream) + directory), file.name)

    # What is kept of a reading

    def selects(self, repo: Any) -> bool:
        """Whether the configuration leaves anything of a repo out. Then `select` is called."""
        return False

    def select(
        self, repos: Mapping[str, Any], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """What is kept of each reading, with the keys of `readings`.

        repos: {path: repo}, at least one of which selects
        readings: {(path of the repo, directory): reading}
        present: the time from which ages are counted, UTC
        Raises SelectionError for a selection that contradicts itself or keeps nothing, UpstreamError.
        """
        raise LookupError("repos of this kind are kept whole")

    def ages(self, repo: Any) -> bool:
        """Whether time alone changes what is kept: a file gets old enough. Then upstream is read even if unchanged."""
        return False

    def needed(self, repo: Any, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
        """The files that `prefetch` fetches: what is wished for, in the newest version allowed, and what that depends on.

        readings: {directory: reading}; if leaves are `read_by_leaf`, a reading lists only the names passed to its `ask_for`
        present: the time from which ages are counted, UTC
        Raises SelectionError for wishes that can't be read or that contradict each other, UpstreamError, and UsageError
        if repos of this kind state no dependencies.
        """
        raise UsageError(f"{repo.path}: repos of kind {repo.kind} state no dependencies, so there is nothing to prefetch")

    def environment(self, path: Path, mirrored: Mirrored) -> Environment | None:
        """What a lock, or another file that describes an environment, asks of snapshots; None if it is of another ecosystem.

        Raises OSError, ValueError for a file that can't be read, UsageError if more must be said.
        """
        return None

    # Repos that depend on each other

    def selected_with(self, repo: Any, others: Collection[Any]) -> Collection[str]:
        """Paths of the other repos on which it depends what this one keeps, or the other way round. All of them are read and
        selected together.

        others: those that are configured beside it, of its kind
        """
        return ()

    def merged(self, repo: Any) -> Sequence[str]:
        """Paths of the repos that this repo publishes as one, the first having precedence. Empty if it has an upstream."""
        return ()

    def merge(
        self,
        repo: Any,
        readers: Mapping[str, DirectoryReader],
        denied: Mapping[str, Collection[str]],
        known: Mapping[str, Collection[str]],
    ) -> Reading:
        """The state of a repo that is `merged` of others.

        readers: {path of a repo: its directory "", as the same snapshot publishes it}
        denied: {path of a repo: names of leaves that the operator denies there}; no later repo supplies these names
        known: {path of a repo that could not be read: names that later repos may supply}; any other may be new in it
        """
        raise LookupError("repos of this kind are not merged")

    def follower(self, repo: Any) -> "Follower | None":
        """The ecosystem of one more directory, named "": what upstream has beside the directories of the repo.

        None if there is no such directory.
        """
        return None

    # Metadata on request

    def wanted_by(self, path: str) -> Want:
        """What metadata a request needs. path: below the repo"""
        return Want("", itself=True)

    def read_name(self, repo: Any, name: str, upstream: Upstream) -> Reading | None:
        """Ask upstream for the present state of one name alone: `Reading.since` says that all others are as they were.

        None if upstream can't be asked for one name.
        Raises AbsentError if upstream has no such name, UpstreamError.
        """
        return None

    def with_names(self, repo: Any, names: Collection[str]) -> Any:
        """The repo as a sync is to read it, if its metadata is on request. names: of the leaves that are held by now"""
        return repo


class Leaves(Protocol):
    """Reads, cuts and completes the bytes of leaves. They are uncompressed and canonical, in and out."""

    #: version of the bytes that `settle` and `derive` make; raise it when they make others of the same input
    form: int
    #: whether leaves hold the addresses of their files; if not, the directory does
    addressed: bool = False
    #: whether `supplement` may make files that upstream lacks
    supplements: bool = False
    #: the key of a record that says whether upstream has yanked the file, perhaps with the reason (PEP 592); empty if none does
    yank: str = ""

    def files(self, leaf: bytes) -> tuple[File, ...]:
        """The files that a leaf lists. Raises ValueError for bytes that are no leaf."""
        ...

    def records(self, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Each file that a leaf lists: its name, and its record as canonical MessagePack. `diff` and `log` compare these."""
        ...

    def leaf_of(self, file: str) -> str:
        """The name of the leaf that lists a file, guessed from the name of the file.

        The directory stores every file for which the guess is wrong; `leaf_at` asks it first.
        """
        ...

    def label(self, leaf: bytes) -> str:
        """What a list of all names says of this one. It is stored in the directory, so that the list needs no leaf.

        Empty for nothing.
        """
        return ""

    def settle(self, leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """A leaf completed with what is known once its files are held; empty if it lists nothing any more.

        digests: {file: SHA-256}, to add where upstream states none
        withheld: files to take out
        sizes: {file: bytes}, to add where upstream states none
        """
        ...

    def supplement(self, leaf: bytes, read: Callable[[File], IO[bytes] | None]) -> Mapping[str, bytes]:
        """Files that upstream lacks, made from files that the leaf lists: {name: content}.

        read: opens a file that is held; None for one that is not
        """
        return {}

    # Time

    def as_of(self, leaf: bytes, instant: int) -> bytes:
        """A leaf with only the files that upstream had at an instant, seconds since 1970; empty if it had none."""
        ...

    def reconstruct(self, repo: Any, leaf: bytes, instant: int) -> bytes:
        """What a snapshot would have held of a name that nobody had asked for when it was sealed.

        leaf: what is known of the name now; instant: when the snapshot was sealed, seconds since 1970
        As `as_of`, and marked as made later. Empty if there was nothing, or if nobody can tell.
        """
        return b""

    def dated(self, repo: Any) -> bool:
        """Whether leaves are to state when this mirror first saw each file. Then `dates` and `date` are called."""
        return False

    def dates(self, leaf: bytes) -> Mapping[str, int]:
        """When each file was first seen, as far as a leaf states it: {file: milliseconds since 1970}."""
        return {}

    def date(self, leaf: bytes, seen: Mapping[str, int]) -> bytes:
        """A leaf that states when these files were first seen. seen: {file: milliseconds since 1970}"""
        return leaf


class Shows(Leaves, Protocol):
    """Says what a path below a directory names, and makes the documents that are published."""

    #: pages that depend on who asks; None if there are none
    pages: Pages | None = None
    #: the programs that can use repos of this kind
    clients: Sequence[Client] = ()
    #: whether names of files are paths, so that folders below a directory have listings of their own
    nested: bool = False
    #: whether eager repos get hard-link trees, if `[publish] trees` does not say which repos do
    linked: bool = False

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """The leaf or file at a path below a directory; None if there is none. Documents are found without this."""
        name = self.leaf_at(reader, path)
        content = reader.read_leaf(name)
        file = self.paths(content).get(path) if content else None
        if file and (url := reader.elsewhere(name, path)):
            file = file.but(url=url)
        return FileAt(file) if file else None

    def leaf_at(self, reader: DirectoryReader, path: str) -> str:
        """The name of the leaf that lists the file at a path below a directory, if any leaf does."""
        return reader.name_of(path) or self.leaf_of(path)

    def paths(self, leaf: bytes) -> Mapping[str, File]:
        """Where files of a leaf are published: {path below the directory: file}, without those that are not published."""
        return {file.name: file for file in self.files(leaf)}

    def leaf_path(self, digest: Digest) -> str | None:
        """Where a leaf is published itself, as a path below the directory; None if leaves are not."""
        return None

    def media_type(self, path: str) -> str:
        """The Content-Type of a document, leaf or file. path: below the directory"""
        return "application/octet-stream"

    def documents(self, repo: Any, info: Mapping[str, Any]) -> Sequence[DocumentPlan]:
        """The documents that a directory publishes. info: what upstream says of the directory (`Reading.info`)"""
        return ()

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """Make a document, in its plain form. The same directory and leaves always give the same bytes.

        Raises DamagedError if a leaf can't be read.
        """
        raise LookupError(f"no directory of this kind has a document {document}")

    def about(self, file: str, record: bytes, metadata: Callable[[], bytes]) -> About:
        """What a record says of a file. Whatever it says, this does not fail.

        record: as `records` gives it
        metadata: reads what is held beside the file (`<file>.metadata`); empty if nothing is
        """
        return About()

    def naming(self, spec: str) -> Naming:
        """What the operator means by a text: a package, a version of one, or a file.

        Raises ValueError, with what to write instead, for a text that can mean nothing.
        """
        ...


class Ecosystem(Reads, Shows, Protocol):
    """All that `sync` and `serve` know of a format. Implementations are stateless."""

    #: a stored directory states it, and so is read by the ecosystem that made it; but for a follower's, it is also the
    #: `kind` of a `[[repo]]`
    kind: str

    def tree_reader(self) -> "TreeReader | None":
        """The same ecosystem, as `adopt` uses it to read what other tools have mirrored; None if it can't."""
        return None


class Follower(Ecosystem, Protocol):
    """The ecosystem of a directory that depends on the others of its repo. It is planned when these are settled."""

    def follow(
        self,
        repo: Any,
        reading: Reading,
        others: Mapping[str, DirectoryReader],
        previous: DirectoryReader | None,
        upstream: Upstream,
    ) -> Reading:
        """What is published of upstream's state: only what belongs to files that the other directories list.

        reading: what `read` returned
        others: {directory: its reader}, as the same snapshot publishes them
        previous: this directory as the newest snapshot has it, None if it has none
        Raises UpstreamError.
        """
        ...


class TreeReader(Ecosystem, Protocol):
    """An ecosystem that reads a mirror which another tool has left on this machine."""

    def holds(self, repo: Any, folder: Path) -> bool:
        """Whether a folder looks like a mirror of the repo. The folder need not exist."""
        ...

    def looks_for(self, repo: Any) -> str:
        """What `holds` looks for, as the end of a message that begins with "holds none of the"."""
        ...

    def at(self, repo: Any, folder: Path) -> Any:
        """The repo, with the folder as its upstream."""
        ...
