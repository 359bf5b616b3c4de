"""Pages: what an ecosystem shows of a directory in forms that depend on who asks."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from ..digests import Digest
from ..store.directories import DirectoryReader


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
