"""The keys of a `[[repo]]` with `kind = "pypi"`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from .. import units
from ..ecosystem import Repo
from . import names
from .platforms import problem_with_platform

Type = Literal["sdist", "wheel"]


class Select(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """`[repo.select]`: what to keep of the files of projects. What is left out is on no page that we publish."""

    #: {project: specifier (PEP 440)}: only these versions of it
    versions: dict[str, str] = {}
    #: how many versions of a project are kept, 0 for all
    newest: int = 0
    newest_by: Literal["version", "upload-time"] = "version"
    #: whether prereleases are kept (PEP 440), and yanked files (PEP 592)
    prereleases: bool = True
    yanked: bool = True
    #: none: all, also those that nobody uploads any more (eggs, installers)
    types: list[Type] = []
    #: specifiers of the Python versions that install (PEP 440); none: all
    python: list[str] = []
    #: platforms of the machines that install, as wheels name them (PEP 425, 600, 656); none: all
    platforms: list[str] = []
    #: a size with its unit (`units.parse_size`); empty: no limit
    max_size: str = ""
    #: regular expressions that are searched for in the name of a file; `not_match` wins
    match: list[str] = []
    not_match: list[str] = []
    #: a duration (`units.parse_duration`): a file that was uploaded later than that ago is not published yet, nor is one
    #: whose upload time nobody states; empty: no limit
    min_age: str = ""
    #: projects whose files need not be so old
    min_age_except: list[str] = []
    #: also what the kept files depend on
    with_dependencies: bool = False
    #: a selection that keeps nothing is no mistake
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.newest < 0:
            raise ValueError("newest can't be negative")
        if self.max_size:
            units.parse_size(self.max_size)
        if self.min_age:
            units.parse_duration(self.min_age)
        for specifier in [*self.versions.values(), *self.python]:
            _check_specifier(specifier)
        for name in [*self.versions, *self.min_age_except]:
            _check_project(name)
        for pattern in [*self.match, *self.not_match]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        for platform in self.platforms:
            if problem := problem_with_platform(platform):
                raise ValueError(problem)


def _check_specifier(text: str) -> None:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError(f"{text!r} is no version specifier; write for example >=4,<5") from None


def _check_project(name: str) -> None:
    if not names.is_project(names.normalise(name)):
        raise ValueError(f"{name!r} is no name of a project; write for example urllib3")


class PypiRepo(Repo, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="pypi"):
    """A Python package index: a mirror of one, a folder of files, or several repos published as one."""

    #: `PyPI`, or the address of an index (or several, in order of preference), with or without `/simple` at its end
    upstream: str | list[str] = ""
    #: names, or `all` that upstream lists
    projects: Literal["all"] | list[str] = msgspec.field(default_factory=list)
    #: files that name what to keep: requirements.txt, constraints.txt, pylock.toml, uv.lock
    requirements: list[str] = msgspec.field(default_factory=list)
    #: instead of an upstream: a folder of wheels and sdists
    packages: str = ""
    #: instead of an upstream: paths of repos that are published as one; a project comes from the first that has it
    merge: list[str] = msgspec.field(default_factory=list)
    #: mirror the attestations of files too (PEP 740)
    provenance: bool = False
    select: Select = Select()

    def __post_init__(self) -> None:
        stated = [key for key in ("upstream", "packages", "merge") if getattr(self, key)]
        if len(stated) != 1:
            which = f"both {' and '.join(stated)}" if stated else "neither upstream nor packages nor merge"
            raise ValueError(f"it has {which}; give one of them: an index, a folder of files, or repos to publish as one")
        wanted = bool(self.projects or self.requirements)
        if self.metadata == "on-request":
            self._check_on_request()
        elif self.upstream and not wanted:
            raise ValueError('it names no projects; write projects = ["six"], requirements = ["requirements.txt"] or "all"')
        if wanted and not self.upstream:
            raise ValueError(f"projects and requirements are read from an upstream; {stated[0]} has none")
        if self.projects == "all":
            self._check_all()
        else:
            for name in self.projects:
                _check_project(name)
        if not self.upstream and (self.select != Select() or self.provenance):
            raise ValueError(f"what {stated[0]} has is published whole: no select or provenance")
        if self.packages and self.download != "eager":
            raise ValueError("a folder of packages is one index, whose files are all kept: no other download")
        super().__post_init__()

    def _check_all(self) -> None:
        """Raise ValueError for what can't stand beside `projects = "all"`."""
        if self.requirements:
            raise ValueError('projects = "all" leaves nothing for requirements to add')
        if self.select.with_dependencies:
            raise ValueError('projects = "all" leaves nothing for with_dependencies to add')

    def _check_on_request(self) -> None:
        """Raise ValueError for what can't stand beside `metadata = "on-request"`. Without `projects` any may be asked for."""
        if not self.upstream:
            raise ValueError('metadata = "on-request" needs an upstream')
        if self.projects == "all" or self.requirements or self.select.with_dependencies:
            raise ValueError(
                'metadata = "on-request" asks for one project at a time: no projects = "all", requirements or with_dependencies'
            )

    def below(self, folder: Path) -> "PypiRepo":
        """See Repo.below."""
        requirements = [str(folder / name) for name in self.requirements]
        packages = str(folder / self.packages) if self.packages else ""
        return msgspec.structs.replace(self, packages=packages, requirements=requirements)

    def check_beside(self, others: Mapping[str, Repo]) -> None:
        """See Repo.check_beside. What `merge` names must have files of its own, which are downloaded as this repo's are."""
        indexes = {path: other for path, other in others.items() if isinstance(other, PypiRepo) and not other.merge}
        for name in self.merge:
            if (other := indexes.get(name)) is None:
                known = ", ".join(sorted(indexes))
                raise ValueError(f"merge names {name!r}, which is no index of this file with files of its own ({known})")
            if other.download not in (self.download, *(["eager"] if self.download == "on-demand" else [])):
                raise ValueError(f"merge names {name!r}, which is not downloaded as this repo is")
            if "on-request" in (self.metadata, other.metadata):
                raise ValueError(
                    f"merge names {name!r}, and of neither may the metadata be on request: nobody knows what it has"
                )

    @property
    def upstreams(self) -> list[str]:
        """The addresses: of indexes, with `PyPI` spelled out, or of the folder `packages`; none of a repo with `merge`."""
        if self.packages:
            return [Path(self.packages).absolute().as_uri()]
        return [_address_of(one) for one in super().upstreams if one]

    def may_ask(self, name: str) -> bool:
        """Whether upstream may learn the name of a project (normalised). `allow` and `block` are about files alone where only a
        sync reads the metadata.
        """
        return self.metadata == "sync" or self.may_fetch(f"simple/{name}/")

    @property
    def named(self) -> list[str]:
        """The projects that are named, normalised and without repetition, in their order; none if all are meant."""
        return [] if self.projects == "all" else list(dict.fromkeys(map(names.normalise, self.projects)))


def _address_of(upstream: str) -> str:
    if upstream.lower() != "pypi":
        return upstream
    from pypi_simple import PYPI_SIMPLE_ENDPOINT  # slow to load

    return PYPI_SIMPLE_ENDPOINT
