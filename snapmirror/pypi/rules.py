"""What a selection keeps of one project: the rules that look at its files and at nothing else."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from .. import units
from . import leaf, names, platforms
from .names import Named
from .requirements import Asked, Need
from .settings import Select

#: seconds since 1970 of a time that never comes
FOREVER = 1 << 62


class Listed(msgspec.Struct, gc=False, eq=False):
    """What a selection needs to know of the record of a file; all else stays undecoded."""

    filename: str
    hashes: dict[str, str]
    size: int | None = None
    yanked: bool | str | None = None
    requires_python: str | None = msgspec.field(name="requires-python", default=None)
    upload_time: str | None = msgspec.field(name="upload-time", default=None)

    @property
    def sha256(self) -> str:
        """In lower-case hexadecimal digits, as in Need and Asked; empty if it is not known."""
        return self.hashes.get("sha256", "").lower()

    @property
    def is_yanked(self) -> bool:
        """Whether upstream has yanked it (PEP 592). The reason may be empty, so an empty text counts as yanked."""
        return self.yanked not in (None, False)

    @property
    def uploaded(self) -> int | None:
        """Seconds since 1970; None if nobody states it."""
        return leaf.seconds(self.upload_time) if self.upload_time else None


class _Leaf(msgspec.Struct, gc=False):
    files: list[Listed]


_LEAF = msgspec.msgpack.Decoder(_Leaf)


def listed(content: bytes) -> list[Listed]:
    """The files of a leaf that snapmirror made; none of an empty one."""
    return _LEAF.decode(content).files if content else []


class Choice(NamedTuple):
    """What is kept of a project."""

    #: their names
    files: frozenset[str]
    #: {key of the configuration: how many files it drops}; `requirements`: files that nobody asks for
    dropped: Counter[str]
    #: seconds since 1970 until which the choice stands: then a file will be old enough
    until: int
    #: files of locks that are not listed, or not with that hash
    missing: frozenset[str]


class Rules:
    """What one repo's selection says of the files of one project."""

    def __init__(self, select: Select, present: datetime, *, final: bool = False) -> None:
        """final: as installers do, a need is met by a pre-release only if it names one, or if there is nothing else"""
        self._select = select
        self._final = final
        self._match = [re.compile(pattern).search for pattern in select.match]
        self._not_match = [re.compile(pattern).search for pattern in select.not_match]
        self._versions: dict[str, SpecifierSet] = {
            names.normalise(name): SpecifierSet(text) for name, text in select.versions.items()
        }
        self._pythons = platforms.pythons(select.python)
        self._platforms = platforms.accepted(select.platforms)
        self._max_size = units.parse_size(select.max_size) if select.max_size else None
        self._min_age = int(units.parse_duration(select.min_age).total_seconds()) if select.min_age else None
        #: seconds since 1970
        self.present = int(present.timestamp())
        self._exempt = {names.normalise(name) for name in select.min_age_except}

    def choose(self, project: str, files: Sequence[Listed], asked: Asked) -> Choice:
        """What is kept of the files on the page of a project. A file counts for the first rule that drops it."""
        locked, missing = _locked(files, asked)
        dropped: Counter[str] = Counter()
        left: dict[Listed, Named] = {}
        until = FOREVER
        for one in files:
            named = names.parse(one.filename, project)
            rule = self._rule(project, one, named)
            if rule is None:
                left[one] = named
            elif one.filename not in locked:
                dropped[rule] += 1
                if rule == "min_age" and self._min_age and one.uploaded is not None:
                    until = min(until, one.uploaded + self._min_age)
        kept = locked | self._wanted(left, asked, dropped, locked)
        return Choice(frozenset(kept), dropped, until, missing)

    def _wanted(self, left: dict[Listed, Named], asked: Asked, dropped: Counter[str], locked: Collection[str]) -> set[str]:
        """Of what the rules leave, the newest versions of what is asked for. They are counted for each need by itself: so, of
        two needs whose ranges overlap, the newest of the lower range fulfils both.
        """
        bounds = asked.bounds or (SpecifierSet(),)
        allowed = {one: named for one, named in left.items() if any(_is_in(named, bound) for bound in bounds)}
        groups = [allowed] if asked.whole else []
        groups += [self._meant(need, bounds, allowed) for need in asked.needs]
        kept = {one.filename for group in groups for one in self._newest(group)}
        meant = {one.filename for group in groups for one in group}
        for one in left:
            if one.filename not in kept and one.filename not in locked:
                dropped["newest" if one.filename in meant else "requirements"] += 1
        return kept

    def _meant(self, need: Need, bounds: Collection[SpecifierSet], allowed: dict[Listed, Named]) -> dict[Listed, Named]:
        """Those of the files within the bounds that a need means."""
        files = {
            one: named
            for one, named in allowed.items()
            if _is_in(named, need.specifier) and (not need.hashes or one.sha256 in need.hashes)
        }
        if not self._final or any(specifier.prereleases for specifier in (need.specifier, *bounds)):
            return files
        return {one: named for one, named in files.items() if not named.is_prerelease} or files

    def _rule(self, project: str, one: Listed, named: Named) -> str | None:
        """The first rule that drops a file, None if none does."""
        select = self._select
        if any(search(one.filename) for search in self._not_match):
            return "not_match"
        if self._match and not any(search(one.filename) for search in self._match):
            return "match"
        if select.types and named.kind not in select.types:
            return "types"
        if project in self._versions and not _is_in(named, self._versions[project]):
            return "versions"
        if not select.prereleases and named.is_prerelease:
            return "prereleases"
        if not select.yanked and one.is_yanked:
            return "yanked"
        return self.machine_rule(one, named) or self._size_or_age_rule(project, one)

    def machine_rule(self, one: Listed, named: Named) -> str | None:
        """The key by which a file is dropped that is for other machines; None if it may be for the right ones."""
        if self._select.python:
            targets = [python for python in self._pythons if platforms.means(one.requires_python or "", python)]
            if not targets or (named.kind == "wheel" and not any(platforms.runs(tag, targets) for tag in named.tags)):
                return "python"
        if self._select.platforms and named.kind == "wheel" and not any(tag.platform in self._platforms for tag in named.tags):
            return "platforms"
        return None

    def _size_or_age_rule(self, project: str, one: Listed) -> str | None:
        if self._max_size is not None and (one.size or 0) > self._max_size:
            return "max_size"
        if self._min_age is None or project in self._exempt:
            return None
        return "min_age" if one.uploaded is None or one.uploaded + self._min_age > self.present else None

    def _newest(self, files: dict[Listed, Named]) -> Iterable[Listed]:
        """The files of the newest versions. A version that is yanked counts as older than all others: clients avoid it."""
        if not self._select.newest:
            return files
        versions: dict[object, list[Listed]] = {}
        for one, named in files.items():
            versions.setdefault(names.version_key(named.version), []).append(one)
        order = _upload if self._select.newest_by == "upload-time" else _version
        newest = sorted(versions.items(), key=lambda item: (_is_offered(item[1]), order(item)), reverse=True)
        return [one for _, group in newest[: self._select.newest] for one in group]


def _locked(files: Iterable[Listed], asked: Asked) -> tuple[frozenset[str], frozenset[str]]:
    """The files that locks name, and those of their files that are missing here.

    Hashes are compared rather than names: uv's pylock.toml has `pyyaml-6.0.tar.gz` where the index has `PyYAML-6.0.tar.gz`.
    """
    sums = {one for stated in asked.files.values() for one in stated}
    found = [one for one in files if one.sha256 in sums or asked.files.get(one.filename) == set()]
    had = {one.sha256 for one in found} | {one.filename for one in found}
    missing = {file for file, stated in asked.files.items() if had.isdisjoint(stated or {file})}
    return frozenset(one.filename for one in found), frozenset(missing)


def _is_in(named: Named, specifier: SpecifierSet) -> bool:
    """Whether a specifier means a version; one from before PEP 440 is meant only by the empty specifier."""
    version = named.parsed
    try:
        return specifier.contains(version, prereleases=True) if version else not str(specifier)
    except ValueError:  # a dependency on a number that names.parse_version can't read
        return False


def _is_offered(files: Iterable[Listed]) -> bool:
    return not all(one.is_yanked for one in files)


def _version(item: tuple[object, list[Listed]]) -> tuple[Version, str]:
    return (item[0], "") if isinstance(item[0], Version) else (names.OLDEST, str(item[0]))


def _upload(item: tuple[object, list[Listed]]) -> tuple[int, Version, str]:
    """A version's age is that of its first file: a wheel that is added later makes it no newer."""
    return (min((one.uploaded or 0 for one in item[1]), default=0), *_version(item))
