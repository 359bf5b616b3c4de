"""Pages: what an ecosystem shows of a directory in forms that depend on who asks. They are made at request, not stored."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from ..digests import Digest
from ..store.directories import DirectoryReader


class PageAt(NamedTuple):
    """A path names a page."""

    #: the page's own path below the directory
    path: str
    #: the leaf that it is made of; None for a page of the whole directory
    leaf: Digest | None


class PageMoved(NamedTuple):
    """A path names a page whose own path is another one: clients are redirected."""

    #: relative to the path that was asked for
    location: str


class Site(NamedTuple):
    """What a page depends on beside its leaf: where it is shown, and what must not be on it."""

    #: relative URL from the page to its repo without a selector, ending in a slash: links to files lead there, so that a
    #: file has the same address on the pages of every date
    files: str
    #: SHA-256 of files that are left out
    denied: Collection[Digest]


class Made(NamedTuple):
    """A page in one form."""

    body: bytes
    #: further header fields, each a line `Name: value`
    headers: tuple[str, ...] = ()


class Pages(Protocol):
    """The pages of an ecosystem. Implementations are stateless."""

    #: paths of the folders below a directory that hold the pages, each ending in a slash
    folders: Sequence[str]

    def at(self, reader: DirectoryReader, path: str, *, folder: bool) -> PageAt | PageMoved | None:
        """The page at a path below a directory; None if there is none.

        path: without a slash at the end; folder: whether the request has one there
        """
        ...

    def form(self, page: PageAt, accept: str | None, wanted: str | None) -> str:
        """The media type in which a page is sent.

        accept: value of the request's Accept field; wanted: value of `?format=` in its URL; None if there is none
        """
        ...

    def make(self, reader: DirectoryReader, page: PageAt, form: str, site: Site) -> Made:
        """Make a page in the media type `form`. Raises DamagedError if its leaf can't be read."""
        ...

    def static(self, reader: DirectoryReader) -> Iterator[tuple[str, bytes]]:
        """Every page in every form, for web servers that can't make them: its path below the directory, and its bytes."""
        ...
