"""The `[serve]` table of the configuration, and what a server has to know of each `[[repo]]`."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, NamedTuple

import msgspec

from .. import addresses, units
from ..ecosystem import Ecosystem, Repo


class Origin(NamedTuple):
    """Where the files of a repo come from, as it is configured."""

    kind: str
    #: base URLs, may hold credentials; of a repo that publishes several as one, theirs too
    upstreams: Sequence[str] = ()
    #: of the upstreams, those of which each may have what another lists
    alike: Sequence[str] = ()
    #: upstream is not asked for anything
    offline: bool = False
    #: seconds for which it is believed that upstream does not have a file
    negative: float = 60.0
    #: seconds for which metadata is believed; None if only a sync refreshes it
    metadata_age: float | None = None
    #: seconds since upstream was read after which `status` complains; None for never
    max_age: float | None = None
    #: whether the file at a path below the repo may be fetched
    may_fetch: Callable[[str], bool] = lambda path: True


#: path of a repo -> how it is configured
Origins = Mapping[str, Origin]


def origins_of(ecosystems: Mapping[str, Ecosystem], repos: Sequence[Repo]) -> dict[str, Origin]:
    """The origins of all configured repos."""
    found = {}
    for repo in repos:
        merged = ecosystems[repo.kind].merged(repo)
        others = [upstream for other in repos if other.path in merged for upstream in other.upstreams]
        found[repo.path] = Origin(
            kind=repo.kind,
            upstreams=[*repo.upstreams, *others],
            alike=repo.upstreams,
            offline=repo.offline,
            negative=units.parse_duration(repo.negative_age).total_seconds(),
            metadata_age=units.parse_duration(repo.max_metadata_age).total_seconds() if repo.metadata == "on-request" else None,
            max_age=units.parse_duration(repo.max_age).total_seconds() if repo.max_age else None,
            may_fetch=repo.may_fetch,
        )
    return found


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[serve.auth.NAME]`: a secret with which repos may be read."""

    #: SHA-256 of the token's text, hexadecimal
    sha256: str
    #: paths that it may read, with all below them; None for everything
    repos: list[str] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 is no SHA-256: write 64 hexadecimal digits, as `snapmirror token` prints them")
        for path in self.repos or ():
            if "" in path.split("/"):
                raise ValueError(f"repos has {path!r}: write paths without a slash at the ends, or leave the key out for all")
        if self.repos == []:
            raise ValueError("repos is empty: write paths of repos, or leave the key out for all")


class Serve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to serve."""

    #: address to listen on; a name may stand for several
    host: str = "127.0.0.1"
    #: 0: any free one, reported at the start
    port: int = 8080
    #: processes, each with a listening socket of its own
    workers: int = 1
    #: where clients find us if a proxy puts us elsewhere (`https://example.org/mirror`); for pages and settings
    public_url: str = ""
    #: the path below which an nginx in front of us has the store's blobs, so that it sends their bytes; empty if we do
    accel: str = ""
    #: a file, `-` for standard output, empty for none
    access_log: str = ""
    access_log_format: Literal["combined", "json"] = "combined"
    #: PEM files: a certificate, with those that lead to a root, and its key; empty for plain HTTP
    cert: str = ""
    key: str = ""
    #: of an object store: whether files pass through us, or clients are sent to the service for them
    files: Literal["proxy", "redirect"] = "proxy"
    #: for how long the URL is good to which a client is sent
    redirect_for: str = "1h"
    #: how many bytes of files of an object store are kept in its cache
    cache_size: str = "10GB"
    #: who may read; empty for everybody
    auth: dict[str, Token] = {}

    @property
    def redirect(self) -> timedelta | None:
        """For how long such a URL is good; None if nobody is sent elsewhere."""
        return units.parse_duration(self.redirect_for) if self.files == "redirect" else None

    def __post_init__(self) -> None:
        if not self.host:  # of a variable that is not set: sockets would listen on every address
            raise ValueError("host is empty: write an address to listen on; 0.0.0.0 and :: stand for all of this machine")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is none: write 0 to 65535")
        if not 1 <= self.workers <= 256:
            raise ValueError(f"{self.workers} workers: write 1 to 256")
        units.parse_size(self.cache_size)
        if not timedelta(minutes=1) <= units.parse_duration(self.redirect_for) <= timedelta(days=7):
            raise ValueError(f"redirect_for is {self.redirect_for!r}; write 1m to 7d")
        if bool(self.cert) != bool(self.key):
            there, missing = ("cert", "key") if self.cert else ("key", "cert")
            raise ValueError(f"{there} is given and {missing} is not: TLS needs both")
        if self.accel and not (self.accel.startswith("/") and self.accel.endswith("/")):
            raise ValueError(f"accel {self.accel!r} is no path of a folder: it begins and ends with a slash")
        if self.public_url and not addresses.is_web(self.public_url):
            raise ValueError(f"public_url {self.public_url!r} is no URL: write one that begins with http:// or https://")
