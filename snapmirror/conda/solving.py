"""Solving environments with py-rattler, from records that somebody gives it.

py-rattler is slow to load: modules that every command loads import this one inside functions.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from rattler import (
    BuildString,
    ChannelPriority,
    Gateway,
    GenericVirtualPackage,
    MatchSpec,
    PackageName,
    PackageRecord,
    RepoDataRecord,
    Subdir,
    Version,
)
from rattler import solve as _rattler_solve
from rattler.exceptions import (
    InvalidMatchSpecError,
    InvalidPackageNameError,
    InvalidVersionError,
    ParseSubdirError,
    SolverError,
)

from .. import clock
from .leaf import listed_at
from .listed import Listed
from .specs import Spec, dependency, describe, is_readable

#: a record as the solver takes it
Package = RepoDataRecord
#: the system of the machines that environments are solved for, as packages ask for it: a Linux with the glibc of Debian 10,
#: a macOS 13, and no GPU
_SYSTEMS = {
    "linux": (("__unix", "0"), ("__linux", "5.10"), ("__glibc", "2.28")),
    "osx": (("__unix", "0"), ("__osx", "13.0")),
    "win": (("__win", "0"),),
}
#: the names of machines (`__archspec`) where the platform has another
_MACHINES = {"64": "x86_64", "32": "x86"}


class Unsolvable(Exception):
    """No set of packages fulfils all specs; the text says which can't be fulfilled."""


class Solved(NamedTuple):
    """A package of a solution."""

    #: number of the channel that it comes from
    channel: int
    directory: str
    #: as the channel was asked for it
    name: str
    file: str


def this_platform() -> str:
    """The subdir of this machine's platform: `linux-64`."""
    return str(Subdir.current())


def is_platform(text: str) -> bool:
    """Whether a text is the subdir of a platform that rattler knows."""
    try:
        Subdir(text)
    except ParseSubdirError:
        return False
    return True


def verify_solvable(text: str) -> None:
    """Raise ValueError for a spec that is a pattern, or has one in its condition, or names what the solver does not look at."""
    spec = Spec(text)
    if found := "an address" if "://" in text else spec.first_of("subdir"):
        raise ValueError(f"{text!r} names {found}; name a package of a channel")
    if spec.name is None:
        raise ValueError(f"{text!r} is a pattern; name a package")
    try:
        MatchSpec(text)
    except InvalidMatchSpecError as error:
        raise ValueError(f"{text!r} can't be solved: {error}") from None


def package(listed: Listed, channel: int, directory: str) -> Package | None:
    """A record as the solver takes it; None for one that it can't read. channel: number among those it is solved from"""
    build = listed.build
    depends, constrains, extras = listed.depends, listed.constrains, listed.extras
    if not all(map(_is_solvable, chain(depends, constrains, *extras.values()))):
        return None
    try:
        record = PackageRecord(
            build.name,
            build.version,
            BuildString(build.build),
            build.number,
            directory,
            depends=depends,
            constrains=constrains,
            extra_depends=extras or None,
        )
    except (InvalidVersionError, InvalidPackageNameError, ValueError, OverflowError):
        return None
    describe(record, listed.stated)
    if built := listed_at(None, listed.timestamp):
        record.timestamp = clock.from_seconds(int(built))
    base = f"http://{channel}.invalid"
    return RepoDataRecord(record, listed.file, f"{base}/{directory}/package", base)


def _is_solvable(text: str) -> bool:
    """Whether the solver may be given a record that asks for this: it dies of one that asks for a pattern."""
    if not is_readable(text):
        return False
    spec = dependency(text) if "*" in text or "^" in text else None
    return spec is None or spec.name is not None


def solve(channels: Sequence[Callable[[str, str], Sequence[Package]]], specs: Sequence[str], platform: str) -> list[Solved]:
    """The packages of an environment, by name. Nothing is fetched.

    channels: in order of precedence; each gives its packages, if it has any, by directory and name
    specs: MatchSpecs; platform: the subdir for which it is solved, beside noarch
    A name is taken from the first channel that has it, and only if that gives no solution from others too, as conda does.
    Raises Unsolvable, and whatever a channel raises.
    """
    try:
        found = _solve(channels, specs, platform, ChannelPriority.Strict)
    except Unsolvable:
        if len(channels) < 2:
            raise
        found = _solve(channels, specs, platform, ChannelPriority.Disabled)
    return sorted(map(_solved, found), key=lambda one: one.name)


def _solved(one: Package) -> Solved:
    _, _, host, directory, _ = one.url.split("/")
    return Solved(int(host.partition(".")[0]), directory, one.name.normalized, one.file_name)


def _solve(
    channels: Sequence[Callable[[str, str], Sequence[Package]]], specs: Sequence[str], platform: str, priority: ChannelPriority
) -> list[Package]:
    sources = [_Source(channel) for channel in channels]
    try:
        return asyncio.run(
            _rattler_solve(
                sources,
                [MatchSpec(text) for text in specs],
                gateway=Gateway(),
                platforms=[Subdir(platform), Subdir("noarch")],
                virtual_packages=_system(platform),
                channel_priority=priority,
            )
        )
    except SolverError as error:
        raise Unsolvable(" ".join(str(error).split())) from None
    finally:
        for source in sources:
            if source.problem:
                raise source.problem


class _Source:
    """A channel as rattler asks it. What that raises would come out as an error of rattler's, so it is kept."""

    def __init__(self, channel: Callable[[str, str], Sequence[Package]]) -> None:
        self._channel = channel
        self.problem: Exception | None = None

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[Package]:
        """The packages of one name. Called by rattler."""
        try:
            return list(self._channel(str(platform), name.normalized))
        except Exception as problem:
            self.problem = problem
            return []

    def package_names(self, platform: Subdir) -> list[str]:
        """Nobody asks for all names while an environment is solved, but rattler wants to see the method."""
        return []


def _system(platform: str) -> list[GenericVirtualPackage]:
    system, _, machine = platform.partition("-")
    stated = [(name, version, "0") for name, version in _SYSTEMS.get(system, ())]
    if machine:
        stated.append(("__archspec", "1", _MACHINES.get(machine, machine)))
    return [GenericVirtualPackage(PackageName(name), Version(version), BuildString(build)) for name, version, build in stated]
