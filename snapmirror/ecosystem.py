"""The one protocol that an ecosystem (conda, PyPI, …) fulfils, and what its methods answer; `readings` has what it reads.

An ecosystem knows its formats and nothing of HTTP serving, LMDB, locks or the other ecosystems. `sync` and `serve`
know ecosystems only by what stands here. Words: a *directory* is one listing that upstream publishes as a whole
(`conda-forge/linux-64`), a *leaf* one package name's part of it, a *file* one artefact that a leaf lists.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol, Self

import msgspec

from . import addresses, units
from .digests import Digest
from .errors import UsageError
from .readings import Draft, File, Known, Reading, Selection, Upstream
from .store.directories import DirectoryReader

Mode = Literal["eager", "on-demand", "redirect"]


class Repo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One `[[repo]]` of the configuration; every ecosystem adds its own keys."""

    #: where it appears below a snapshot: `conda-forge`, `anaconda/pkgs/main`
    path: str
    #: one base URL, or several that are tried in order; may hold credentials, so never print one unredacted
    upstream: str | list[str]
    download: Mode = "eager"
    #: hard-link the files of a `file://` upstream instead of copying them
    link: bool = False
    #: upstream is not asked for anything: what is held is served, and nothing else
    offline: bool = False
    #: whether only a sync refreshes the metadata, or under `current` also who asks for it
    metadata: Literal["sync", "on-request"] = "sync"
    #: on-request: metadata that was read longer ago is asked for again
    max_metadata_age: str = "10m"
    #: on-demand: how long an answer that there is no such file is believed
    negative_age: str = "60s"
    #: on-demand: whether `max_cache` may drop files of it
    evict: bool = True
    #: on-demand: regular expressions of paths below the repo that may be fetched; none: all
    allow: list[str] = msgspec.field(default_factory=list)
    #: on-demand: of those that may not; wins over `allow`
    block: list[str] = msgspec.field(default_factory=list)
    #: `status` complains if upstream was last read longer ago
    max_age: str = ""

    def __post_init__(self) -> None:
        if self.max_age:
            units.parse_duration(self.max_age)
        units.parse_duration(self.negative_age)
        units.parse_duration(self.max_metadata_age)
        if self.metadata == "on-request" and self.download == "eager":
            raise ValueError('metadata = "on-request" needs download = "on-demand" or "redirect": nobody waits for all files')
        if self.download != "on-demand" and (self.allow or self.block):
            raise ValueError('allow and block need download = "on-demand": nothing else is fetched because it is asked for')
        for pattern in (*self.allow, *self.block):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None

    @property
    def upstreams(self) -> list[str]:
        """The base URLs."""
        return [self.upstream] if isinstance(self.upstream, str) else self.upstream

    @property
    def kind(self) -> str:
        """The tag of the concrete class: `conda`."""
        return str(self.__struct_config__.tag)

    def may_fetch(self, path: str) -> bool:
        """Whether a file may be fetched because it is asked for. path: below the repo"""
        blocked, allowed = (any(re.fullmatch(one, f"/{path}") for one in rules) for rules in (self.block, self.allow))
        return not blocked and (allowed or not self.allow)

    def below(self, folder: Path) -> Self:
        """The same with the paths that it names made absolute: they are relative to this folder."""
        return self


class LeafAt(NamedTuple):
    """A path that names a leaf itself (a shard)."""

    digest: Digest


class Want(NamedTuple):
    """What of a repo's metadata a request needs."""

    #: name of a leaf; empty for all of the repo
    name: str
    #: whether it is asked for itself, and so should be fresh; else it only has to list what is asked for
    itself: bool
    #: where it is below the repo, however it was asked for: what is blocked there is asked for in no other way either
    path: str = ""


class Wishes(NamedTuple):
    """What somebody is going to install."""

    #: paths of requirements, locks, environments
    files: Sequence[str]
    #: requirements as the ecosystem's own installers take them
    specs: Sequence[str]


class Needed(NamedTuple):
    """What wishes come to."""

    #: leaves that list nothing but what is needed, by directory
    drafts: Mapping[str, Sequence[Draft]]
    #: wishes that nothing fulfils: {wish: why}
    missing: Mapping[str, str]


class FileAt(NamedTuple):
    """A path that names a file listed in a directory."""

    file: File
    #: whether the path can never mean other bytes
    immutable: bool = False


class PageAt(NamedTuple):
    """A path that names a page, which is made when somebody asks for it."""

    path: str
    #: the leaf that it is made of; None for one of the whole directory
    leaf: Digest | None


class PageMoved(NamedTuple):
    """A path that names a page by another than its own address."""

    #: relative
    location: str


class Site(NamedTuple):
    """Where a page is shown."""

    #: what leads from it to the repo without a date, ending in a slash: there its files are, at addresses that last
    files: str
    #: files that are left out
    denied: Collection[Digest]


class Made(NamedTuple):
    """A page."""

    body: bytes
    #: further header fields
    headers: tuple[str, ...] = ()


class Naming(NamedTuple):
    """What a text of the operator's names: a package, a version of it, or a file."""

    #: the same for every way of writing it; of a file, its name
    text: str
    #: name of the leaf that lists it, as far as the text tells
    leaf: str
    #: whether all that such a leaf lists is meant
    whole: bool
    #: whether a file is meant, by the name of its leaf and its own
    covers: Callable[[str, str], bool]


@dataclass(frozen=True)
class DocumentPlan:
    """A derived document that a directory publishes."""

    name: str
    #: endings under which it is published: "" is the document itself, ".zst" and ".bz2" its compressed forms
    suffixes: tuple[str, ...] = field(default=("", ".zst"))


class Pages(Protocol):
    """The pages of an ecosystem that has some, each in several forms. Stateless."""

    #: paths of the folders below a directory in which they are, each ending in a slash
    folders: Sequence[str]

    def at(self, reader: DirectoryReader, path: str, *, folder: bool) -> PageAt | PageMoved | None:
        """The page that a path below a directory names; folder: whether it is asked for with a slash at the end."""
        ...

    def form(self, page: PageAt, accept: str | None, wanted: str | None) -> str:
        """The media type in which it is given. accept: the Accept field; wanted: the value of `?format=`"""
        ...

    def make(self, reader: DirectoryReader, page: PageAt, form: str, site: Site) -> Made:
        """The page. Raises DamagedError."""
        ...

    def static(self, reader: DirectoryReader) -> Iterator[tuple[str, bytes]]:
        """All pages in all forms, for servers that can't make them: path below the directory, and content."""
        ...


class Ecosystem(Protocol):
    """What makes conda conda. Implementations are stateless. What has a default is what few ecosystems have."""

    kind: str
    #: None if it has no pages
    pages: Pages | None
    #: whether upstream may lack files that can be made of others
    supplements: bool
    #: what today's metadata can't tell of an earlier time (`as_of`)
    unknowable: str
    #: whether eager repos get trees where the configuration does not say which do
    linked: bool
    #: version of `settle` and `derive`; a change of any byte that they make raises it
    form: int
    #: whether names of files are paths, below folders that are listed each by itself
    nested: bool
    #: whether each leaf is read from a document of its own, so that one can keep its old state while the others go on
    apart: bool
    #: whether leaves hold the addresses of their files, so that a directory need not
    addressed: bool

    def directories(self, repo: Any) -> Sequence[str]:
        """The directories of a repo, as paths below it; "" is the repo itself, which then has no other."""
        ...

    def documents(self, repo: Any, info: Mapping[str, Any]) -> Sequence[DocumentPlan]:
        """The documents that a directory of a repo publishes. info: what the directory says of itself"""
        ...

    def follower(self, repo: Any) -> "Follower | None":
        """What makes the directory "" of a repo that has others: all that upstream says beside these, of what they list."""
        return None

    def read(self, repo: Any, directory: str, upstream: Upstream, known: Known, avoid: Collection[str]) -> Reading | None:
        """Upstream's present state; None if unchanged since `known`. Raises UpstreamError, AbsentError if there is none.

        avoid: URLs of documents that proved unusable a moment ago; another form is read instead
        """
        ...

    def read_name(self, repo: Any, name: str, upstream: Upstream) -> Reading | None:
        """Upstream's present state of one name alone, where that can be had; of all others `Reading.since` says that they
        are as they were. Raises UpstreamError, AbsentError if there is no such name.
        """
        return None

    def others(self, file: File, directory: str, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
        """Where a file may be that is not where it was listed: at upstreams of its repo as they are configured now.

        asked: how these are asked, if that takes it. Raises UpstreamError where one can't be.
        """
        for upstream in upstreams:
            yield addresses.file_url(addresses.as_folder(addresses.as_folder(upstream) + directory), file.name)

    def wanted_by(self, path: str) -> Want:
        """What a request for a path below a repo needs, where metadata is read when it is asked for."""
        return Want("", itself=True)

    def known(self, repo: Any, names: Collection[str]) -> Any:
        """A repo whose metadata is on request, as it is synced: with the names that are known by now."""
        return repo

    def empty(self, repo: Any, directory: str) -> Reading:
        """What is published for a directory that upstream has never had."""
        ...

    def settings(self, repo: Any) -> str:
        """All settings that bear on what is made of a reading, as a text: what was made with others is made anew."""
        ...

    def selects(self, repo: Any) -> bool:
        """Whether the configuration leaves anything of a repo out."""
        return False

    def ages(self, repo: Any) -> bool:
        """Whether what is kept of the same reading changes with time."""
        return False

    def dated(self, repo: Any) -> bool:
        """Whether leaves are to say when each file was first seen here."""
        return False

    def dates(self, leaf: bytes) -> Mapping[str, int]:
        """When files were first seen as a leaf says, milliseconds since 1970, of those of which it does."""
        return {}

    def date(self, leaf: bytes, seen: Mapping[str, int]) -> bytes:
        """A leaf that says of these files when they were first seen."""
        return leaf

    def bound(self, repo: Any) -> Collection[str]:
        """Paths of repos of which something is kept for this one's sake: they are read and selected together."""
        return ()

    def merged(self, repo: Any) -> Sequence[str]:
        """Paths of the repos that this one publishes as one; none if it has an upstream."""
        return ()

    def merge(self, repo: Any, readers: Mapping[str, DirectoryReader], denied: Mapping[str, Collection[str]]) -> Reading:
        """What comes of the directories of these repos, by path. denied: names of leaves that a repo may not have, by path"""
        raise LookupError("no repo of this kind is one of several")

    def select(
        self, repos: Mapping[str, Any], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """What is kept of readings {(repo, directory): reading} of repos {path: repo}.

        Raises SelectionError for a selection that can't be meant so; UpstreamError.
        """
        ...

    def needed(self, repo: Any, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
        """What wishes need of what a repo lists, by directory: the newest version that each allows, and so on.

        Readings of an ecosystem whose leaves are `apart` also have `ask_for`, and list what they were asked for.
        Raises SelectionError for wishes that can't be read or meant so; UpstreamError.
        """
        raise UsageError(f"{repo.path}: of a repo of kind {self.kind} nothing is needed but what somebody names")

    def settle(self, leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """A leaf with computed digests added and withheld files taken out; empty if nothing is left.

        sizes: bytes of files of which upstream states none. All bytes are uncompressed and canonical.
        """
        ...

    def files(self, leaf: bytes) -> tuple[File, ...]:
        """The files that a leaf (uncompressed) lists. Raises ValueError if these are not the bytes of one."""
        ...

    def supplement(self, leaf: bytes, read: Callable[[File], IO[bytes] | None]) -> Mapping[str, bytes]:
        """Files that upstream lacks and that are made of those that a leaf lists: {name: content}; see `supplements`.

        read: opens one of these; None for one that can't be had
        """
        return {}

    def as_of(self, leaf: bytes, instant: int) -> bytes:
        """A leaf with only the files that upstream had at an instant, seconds since 1970; empty if there was none."""
        ...

    def reconstruct(self, repo: Any, leaf: bytes, instant: int) -> bytes:
        """What a snapshot sealed at an instant, seconds since 1970, can answer for a name that nobody had asked for by
        then: `as_of`, marked as such. Empty if there is nothing, or no way to tell.
        """
        return b""

    def paths(self, leaf: bytes) -> Mapping[str, File]:
        """{path below the directory: file} of those that a leaf lists and that are published."""
        ...

    def records(self, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Each file that a leaf lists with the canonical bytes of all that is said of it."""
        ...

    def label(self, leaf: bytes) -> str:
        """What a list of a directory's names says of this one, so that it can be made without the leaves; empty for nothing."""
        return ""

    def leaf_of(self, file: str) -> str:
        """The name of the leaf that lists a file, guessed from its name alone (a directory keeps the exceptions)."""
        ...

    def naming(self, spec: str) -> Naming:
        """What a text of the operator's names. Raises ValueError, which says what would be right, if that is nothing."""
        ...

    def leaf_at(self, reader: DirectoryReader, path: str) -> str:
        """The name of the leaf that lists the file at a path below a directory, if any does."""
        ...

    def leaf_path(self, digest: Digest) -> str | None:
        """Where a leaf itself is published, if it is: `shards/<hex>.msgpack.zst`."""
        ...

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """What a path below a directory names, other than a document."""
        ...

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """The uncompressed canonical form of a document: a function of directory and leaves."""
        ...

    def media_type(self, path: str) -> str:
        """The Content-Type of a document, leaf or file."""
        ...


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
