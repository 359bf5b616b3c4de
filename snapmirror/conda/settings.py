"""The keys of a `[[repo]]` with `kind = "conda"`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from .. import addresses, clock, units
from ..ecosystem import Repo
from . import names
from .parts import BY_FILE, CHANNELDATA, NOTICES

#: CEP 26, and underscores
_SUBDIR = re.compile(r"noarch|[a-z0-9]+-[a-z0-9_]+")
_SIDECAR = re.compile(r"\*\.[A-Za-z0-9._-]{1,40}|[A-Za-z0-9_][A-Za-z0-9._-]{,200}")
#: the key of an environment.yml that no lock has at its top level
_ENVIRONMENT = re.compile(r"^dependencies\s*:", re.MULTILINE)

Format = Literal["conda", "tar.bz2"]


class Select(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """`[repo.select]`: what to keep of a channel. What is left out is in no document that we publish."""

    #: MatchSpecs (CEP 29); none: everything
    include: list[str] = []
    #: paths of files that name what to keep: environment.yml, conda-lock.yml, pixi.lock, an explicit list (see wanted)
    include_from: list[str] = []
    #: MatchSpecs; wins over include
    exclude: list[str] = []
    #: formats of packages that are kept, in order of preference: of a package in two formats only the first; none: all
    formats: list[Format] = []
    #: so many versions of each name; and of each of these so many build numbers; 0 for all
    newest: int = 0
    newest_builds: int = 0
    #: days, UTC: only files of that day and later, or only files from before that day
    after: str = ""
    before: str = ""
    #: bytes, as `200MB`
    max_size: str = ""
    #: a duration: a file younger than that is not published yet
    min_age: str = ""
    #: names that need not be so old
    min_age_except: list[str] = []
    #: also what the included records depend on, here and in the repos named in `dependencies_from`
    with_dependencies: bool = False
    dependencies_from: list[str] = []
    #: a selection that keeps nothing is no mistake
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.newest < 0 or self.newest_builds < 0:
            raise ValueError("newest and newest_builds can't be negative")
        if self.dependencies_from and not self.with_dependencies:
            raise ValueError("dependencies_from needs with_dependencies = true")
        for day in filter(None, (self.after, self.before)):
            if not clock.parse_day(day):
                raise ValueError(f"{day!r} is no day; write for example 2026-11-20")
        if self.max_size:
            units.parse_size(self.max_size)
        if self.min_age:
            units.parse_duration(self.min_age)
        _check_specs(self.include + self.exclude)


def _check_specs(specs: list[str]) -> None:
    if not specs:
        return
    from .specs import Spec  # py-rattler is slow to load, and most configurations select nothing

    for text in specs:
        try:
            foreign = Spec(text).foreign
        except ValueError as error:
            raise ValueError(f"{text!r} is no MatchSpec: {error}") from None
        if foreign:
            raise ValueError(f"{text!r} names {foreign}, which says nothing of a record in this channel")


def _may_be_lock(file: str) -> bool:
    """Whether a file is no environment.yml: of that each channel keeps what it has."""
    try:
        return not _ENVIRONMENT.search(Path(file).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False


class Channel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One of several channels of a `[[repo]]`, with what it has of its own."""

    #: below the repo's path and upstream: `bioconda`, `numba/label/dev` (CEP 26)
    name: str
    #: None: those of the repo; so with `select`
    subdirs: list[str] | None = None
    select: Select | None = None


class CondaRepo(Repo, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conda"):
    """A conda channel, or a label of one; or, with `channels`, many below one path."""

    upstream: str | list[str] = ""
    #: instead of an upstream: a folder of built packages, which are indexed here
    packages: str = ""
    #: names, or tables for channels that differ from the others
    channels: list[str | Channel] = msgspec.field(default_factory=list)
    #: noarch is mirrored whether it is listed or not
    subdirs: list[str] = msgspec.field(default_factory=list)
    #: also publish `repodata.json.bz2`, which the common mirror script stops without
    bz2: bool = False
    #: also publish `current_repodata.json`, which conda before 26 asks for
    current_repodata: bool = False
    #: `first-seen`: if upstream does not say when it first listed a file (CEP 47), say when this mirror first saw it
    indexed_timestamp: Literal["upstream", "first-seen"] = "upstream"
    #: documents beside repodata to mirror if upstream has them, at the channel's root or in its subdirs; `*.ending`: what
    #: upstream has at each package's address with that ending added, such as `*.v0.sigs`, attestations (CEP 27)
    sidecars: list[str] = msgspec.field(default_factory=lambda: [CHANNELDATA, NOTICES, *BY_FILE])
    select: Select = Select()

    def __post_init__(self) -> None:
        if bool(self.upstream) == bool(self.packages):
            which = "both upstream and packages" if self.packages else "neither upstream nor packages"
            raise ValueError(f"it has {which}; give one of them: where the channel is, or a folder of built packages")
        if self.packages and (self.channels or self.download != "eager"):
            raise ValueError("a folder of packages is one channel, whose files are all kept: no channels, no other download")
        for subdir in self.subdirs:
            if not _SUBDIR.fullmatch(subdir) or len(subdir) > 32:
                raise ValueError(f"{subdir!r} is no subdir; write for example linux-64 or noarch")
        if len(set(self.subdirs)) < len(self.subdirs):
            raise ValueError("a subdir is listed twice")
        for sidecar in self.sidecars:
            if not _SIDECAR.fullmatch(sidecar) or names.is_ours(sidecar):
                raise ValueError(f"{sidecar!r} can't be a sidecar; write for example notices.json, or *.v0.sigs")
        super().__post_init__()

    @property
    def directories(self) -> list[str]:
        """The subdirs that are mirrored, sorted: every channel must have noarch (CEP 26)."""
        return sorted({*self.subdirs, "noarch"})

    @property
    def upstreams(self) -> list[str]:
        """See Repo.upstreams; of a folder of packages its `file:` URL."""
        return [Path(self.packages).absolute().as_uri()] if self.packages else super().upstreams

    def below(self, folder: Path) -> "CondaRepo":
        """See Repo.below."""
        files = [str(folder / name) for name in self.select.include_from]
        packages = str(folder / self.packages) if self.packages else ""
        return msgspec.structs.replace(self, packages=packages, select=msgspec.structs.replace(self.select, include_from=files))

    def expand(self) -> "list[CondaRepo]":
        """See Repo.expand: the repo itself, or one repo for each channel."""
        return [self._repo_of(Channel(name=one) if isinstance(one, str) else one) for one in self.channels] or [self]

    def check_beside(self, others: Mapping[str, Repo]) -> None:
        """See Repo.check_beside: `dependencies_from` must name other channels, which can be read together with this one."""
        channels = {path: other for path, other in others.items() if isinstance(other, CondaRepo)}
        for name in self.select.dependencies_from:
            if (other := channels.get(name)) is None:
                known = ", ".join(sorted({*channels, self.path}))
                raise ValueError(f"dependencies_from names {name!r}, which is no other repo of this file ({known})")
            if "on-request" in (self.metadata, other.metadata):
                raise ValueError(f"dependencies_from names {name!r}, and of neither may the metadata be on request")
            if other.offline != self.offline:
                raise ValueError(f"{name!r}, which dependencies_from names, and this repo must both be offline, or neither")

    def includes_with(self, other: "CondaRepo") -> bool:
        """Whether another channel includes from a lock from which this one does, and both are read by syncs."""
        read = all(not repo.offline and repo.metadata == "sync" for repo in (self, other))
        return read and any(map(_may_be_lock, set(self.select.include_from) & set(other.select.include_from)))

    def _repo_of(self, channel: Channel) -> "CondaRepo":
        upstreams = [addresses.as_folder(upstream) + channel.name for upstream in self.upstreams]
        return msgspec.structs.replace(
            self,
            path=f"{self.path}/{channel.name}",
            upstream=upstreams,
            subdirs=self.subdirs if channel.subdirs is None else channel.subdirs,
            select=channel.select or self.select,
            channels=[],
        )
