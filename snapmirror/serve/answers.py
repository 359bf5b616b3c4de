"""What a path may come to: values that `resolve` and `search` find, and `send` sends; or a refusal."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..digests import Digest
from ..ecosystem import Ecosystem, PageAt, Site
from ..errors import DamagedError
from ..store.directories import Derived
from ..transfer.download import Source
from .settings import Origin
from .view import View


class Place(NamedTuple):
    """The snapshot that an answer comes from."""

    #: its id, or `live`
    snapshot: str
    #: the id form of the time until which a day's answer may still change, empty if it may not
    provisional: str = ""
    #: whether the URL names that snapshot by its exact id
    exact: bool = False


class Fetchable(NamedTuple):
    """How a file can be had that is fetched when it is asked for."""

    source: Source
    #: how its repo is configured, None if it no longer is
    origin: Origin | None
    #: its path below the repo
    path: str


@dataclass(frozen=True, slots=True)
class BlobAnswer:
    """The bytes of a blob."""

    place: Place
    digest: Digest
    media: str
    #: bytes as the metadata states them, None if it does not
    size: int | None
    #: whether these bytes are the answer for ever
    immutable: bool
    #: seconds since 1970 of upstream's last change, if that is known
    modified: int | None = None
    #: None if it has to be held
    fetchable: Fetchable | None = None


@dataclass(frozen=True, slots=True)
class DocumentAnswer:
    """One published form of a derived document."""

    place: Place
    #: of the directory; not its reader, which would keep all names of all directories ever asked for in memory
    directory: Digest
    ecosystem: Ecosystem
    name: str
    suffix: str
    derived: Derived
    media: str
    #: id of the snapshot since which the directory is unchanged
    since: str
    immutable: bool


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A page of an ecosystem's own, made when it is asked for; in which form depends on the request."""

    place: Place
    #: of the directory
    directory: Digest
    ecosystem: Ecosystem
    page: PageAt
    site: Site


@dataclass(frozen=True, slots=True)
class ElsewhereAnswer:
    """A file that upstream has."""

    place: Place
    url: str


@dataclass(frozen=True, slots=True)
class FolderAnswer:
    """A folder to be listed."""

    place: Place | None
    #: equal keys, equal pages; None: it is made of the whole view
    key: Hashable | None
    #: makes the page; reads the whole directory, so not in the event loop
    page: Callable[[], bytes]
    #: whether it lists so much that no other such page is to be made at the same time
    large: bool = False


@dataclass(frozen=True, slots=True)
class SlashAnswer:
    """A folder that was asked for without the slash at its end."""

    place: Place | None
    #: relative
    location: str


@dataclass(frozen=True, slots=True)
class UnlistedAnswer:
    """Nothing that the directory lists, as far as can be told at once; `Resolver.search` tells, and may take a while."""

    place: Place
    repo: str
    #: the path below the repo
    inner: str
    #: whether it is asked for under `current`, where what an older snapshot lists will do
    current: bool


Answer = BlobAnswer | DocumentAnswer | ElsewhereAnswer | FolderAnswer | PageAnswer | SlashAnswer | UnlistedAnswer


class Cache(Protocol):
    """What the access log tells of where an answer came from; asked for when the answer is over."""

    @property
    def status(self) -> str:
        """One of those in the manual (snapmirror.toml, access_log), or `-`."""
        ...

    @property
    def upstream(self) -> float | None:
        """Seconds that upstream took; None if it was not asked because of this request."""
        ...


class Cached(NamedTuple):
    """What is known before the answer begins. Fulfils Cache."""

    status: str
    upstream: float | None = None


UNCACHED = Cached("-")
HIT = Cached("hit")


class Refused(Exception):
    """A request that is answered with an error status and a sentence that says why."""

    #: for the access log: what had been tried
    cache: Cache = UNCACHED
    #: further header lines
    fields: tuple[str, ...] = ()

    def __init__(self, status: int, problem: str, place: Place | None = None) -> None:
        self.status = status
        self.problem = problem
        self.place = place
        super().__init__(problem)


class NotReading(Refused):
    """A method other than GET and HEAD."""

    fields = ("Allow: GET, HEAD",)

    def __init__(self, method: str) -> None:
        super().__init__(405, f"{method}: this server can only be read")


def not_listed(place: Place, repo: str, inner: str) -> Refused:
    """The refusal of a path below a repo that names nothing."""
    return Refused(404, f"{inner}: is not in {repo} of snapshot {place.snapshot}", place)


def damaged(place: Place, what: str, problem: str) -> Refused:
    """The refusal of what is listed but is not in the store as it should be; worded as a DamagedError."""
    return Refused(503, str(DamagedError(what, problem)), place)


def refuse_denied(view: View, digest: Digest | None, name: str, place: Place | None) -> None:
    """Raise Refused if the operator denies a file or leaf."""
    if digest is not None and (reason := view.denied.get(digest.hex())) is not None:
        raise Refused(403, f"{name}: denied by the operator of this mirror" + (f": {reason}" if reason else ""), place)
