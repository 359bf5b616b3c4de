"""One `[[repo]]` of the configuration: the keys that repos of every kind have."""

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import msgspec

from .. import units

Mode = Literal["eager", "on-demand", "redirect"]


class Repo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One `[[repo]]` of the configuration; every ecosystem adds its own keys. Raises ValueError for unusable values."""

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
        if isinstance(self.upstream, list) and not all(self.upstream):
            raise ValueError("upstream lists an empty URL: write one that begins with http://, https:// or file:///")
        for upstream in filter(None, self.upstreams):
            self._check_upstream(upstream)
        for pattern in (*self.allow, *self.block):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None

    def _check_upstream(self, upstream: str) -> None:
        try:
            parts = urllib.parse.urlsplit(upstream)
        except ValueError as error:
            raise ValueError(f"upstream can't be used: {error}") from None
        if parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.scheme == "file"):
            raise ValueError("upstream must be a URL that begins with http://, https:// or file:///")
        if self.download == "redirect" and parts.scheme == "file":
            raise ValueError('download = "redirect" sends clients to upstream, so upstream can\'t be a file: URL')

    @property
    def upstreams(self) -> list[str]:
        """The base URLs, in the order in which they are tried; may hold credentials."""
        return [self.upstream] if isinstance(self.upstream, str) else self.upstream

    @property
    def kind(self) -> str:
        """The tag of the concrete class: `conda`."""
        return str(self.__struct_config__.tag)

    def may_fetch(self, path: str) -> bool:
        """Whether `allow` and `block` let upstream be asked for a file on demand. path: below the repo"""
        blocked, allowed = (any(re.fullmatch(one, f"/{path}") for one in rules) for rules in (self.block, self.allow))
        return not blocked and (allowed or not self.allow)

    def expand(self) -> Sequence[Self]:
        """The repos that this table stands for, most often itself alone. Raises ValueError for keys that one can't have."""
        return [self]

    def check_beside(self, others: Mapping[str, "Repo"]) -> None:
        """Check the keys that name other repos. others: {path: repo}, without this one

        Raises ValueError for a key that names a repo which does not exist, or which does not go with this one.
        """

    def below(self, folder: Path) -> Self:
        """The same repo with absolute paths for the local files that its keys name. folder: what they are relative to"""
        return self
