"""The reduced repodata for conda's classic solver. The only importer of py-rattler, which knows conda's order of versions.

For every name the builds of the newest version with the highest build number; then, until nothing is missing, for every
dependency of a kept record that no kept record fulfils, the newest records that do. As conda-index makes it.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from rattler import BuildString, MatchSpec, PackageRecord, Version
from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError, InvalidVersionError

from .leaf import SECTIONS, Record, Shard


class _Build(NamedTuple):
    section: str
    file: str
    record: Record

    @property
    def order(self) -> tuple[Version, int]:
        """What makes one build newer than another."""
        return _version(str(self.record.get("version"))), self.number

    @property
    def number(self) -> int:
        """The build number."""
        number = self.record.get("build_number")
        return number if isinstance(number, int) else 0

    @property
    def package(self) -> PackageRecord | None:
        """The record as rattler matches it; None if its name or version is none to rattler."""
        name, version, build = (str(self.record.get(key) or "") for key in ("name", "version", "build"))
        try:
            return PackageRecord(name, version, BuildString(build), self.number, str(self.record.get("subdir") or "noarch"))
        except (InvalidVersionError, InvalidPackageNameError):
            return None


def reduce(shards: Iterable[Shard]) -> Iterator[Shard]:
    """The shards with only the records that current_repodata.json lists."""
    builds: dict[str, list[_Build]] = {}
    for shard in shards:
        for section in SECTIONS:
            for file, record in (shard.get(section) or {}).items():
                builds.setdefault(record["name"], []).append(_Build(section, file, record))
    kept: dict[str, list[_Build]] = {name: _newest(found) for name, found in builds.items()}
    missing = {depend for found in kept.values() for build in found for depend in _depends(build)}
    seen: set[str] = set()
    while missing:
        seen |= missing
        added = [build for depend in sorted(missing) for build in _fulfil(depend, builds, kept)]
        missing = {depend for build in added for depend in _depends(build)} - seen
    for name in sorted(kept):
        reduced: Shard = {section: {} for section in SECTIONS}
        for build in kept[name]:
            reduced[build.section][build.file] = build.record
        yield reduced


def _newest(builds: Iterable[_Build]) -> list[_Build]:
    builds = list(builds)
    top = max(build.order for build in builds)
    return [build for build in builds if build.order == top]


def _fulfil(depend: str, builds: dict[str, list[_Build]], kept: dict[str, list[_Build]]) -> list[_Build]:
    """Keep the newest records that fulfil a dependency, unless a kept one does; those that were added."""
    name = depend.split()[0] if depend.split() else ""
    spec = _spec(depend)
    if spec is None or name not in builds or any(_matches(spec, build) for build in kept[name]):
        return []
    fitting = [build for build in builds[name] if _matches(spec, build)]
    added = _newest(fitting) if fitting else []
    kept[name] += added
    return added


def _depends(build: _Build) -> list[str]:
    depends = build.record.get("depends")
    return [depend for depend in depends if isinstance(depend, str)] if isinstance(depends, list) else []


def _matches(spec: MatchSpec, build: _Build) -> bool:
    return build.package is not None and spec.matches(build.package)


@lru_cache(100_000)
def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersionError:
        return Version("0")


@lru_cache(100_000)
def _spec(text: str) -> MatchSpec | None:
    try:
        return MatchSpec(text)
    except InvalidMatchSpecError:
        return None
