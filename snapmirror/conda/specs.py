"""Conda's MatchSpecs, its order of versions and its lock files, as py-rattler knows them (imported here and in `packages`).

A spec of a dependency may be one that nobody can parse, and a record may have a version that is none: `Depends` and
`Build` say so by matching nothing. A spec that the operator wrote is parsed by `Spec`, which raises.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from rattler import BuildString, LockFile, MatchSpec, PackageRecord, Version
from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError, InvalidVersionError

from .leaf import Record

#: CEP 26, as rattler enforces it
_BUILD = re.compile(r"[A-Za-z0-9_.+]{1,64}").fullmatch
#: parts of a spec that are about something else than what a channel says of a record
_FOREIGN = ("channel", "namespace", "file_name", "condition", "extras")


class Build:
    """What specs see of a record."""

    __slots__ = ("_is_package", "_package", "build", "license", "name", "number", "subdir", "version")

    def __init__(
        self, name: object, version: object, build: object, number: object, subdir: object = None, license_: object = None
    ) -> None:
        """What a record says, whatever it is."""
        #: in lower case, as conda compares names
        self.name = str(name or "").lower()
        self.version, self.build = str(version or ""), str(build or "")
        self.number = number if isinstance(number, int) else 0
        self.license = license_ if isinstance(license_, str) else None
        self.subdir = str(subdir or "noarch")
        self._package: PackageRecord | None = None
        self._is_package: bool | None = None

    @classmethod
    def of(cls, record: Record) -> "Build":
        """Of a decoded record."""
        return cls(*(record.get(key) for key in ("name", "version", "build", "build_number", "subdir", "license")))

    @property
    def order(self) -> tuple[Version, int]:
        """What makes one build newer than another."""
        return version_order(self.version), self.number

    @property
    def is_plausible(self) -> bool:
        """Whether rattler can read its build; if it can't read name or version, no build of these helps."""
        return _BUILD(self.build) is not None and 0 <= self.number < 1 << 64

    @property
    def package(self) -> PackageRecord | None:
        """The record as rattler matches it; None if its name, version or build is none to rattler."""
        if self._is_package is None:
            try:
                build = BuildString(self.build)
                self._package = PackageRecord(self.name, self.version, build, self.number, self.subdir, license=self.license)
            except (InvalidVersionError, InvalidPackageNameError, ValueError, OverflowError):
                pass
            self._is_package = self._package is not None
        return self._package


class Spec:
    """A MatchSpec. Its name may be a pattern: `lib*`, `^py.*$`."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, which says what is wrong, for a text that is no spec."""
        try:
            self._spec = MatchSpec(text, exact_names_only=False)
        except InvalidMatchSpecError as error:
            raise ValueError(str(error)) from None
        matcher = self._spec.name
        exact = matcher.as_package_name()
        self.text = text
        #: the one name that it speaks of, None if it is a pattern
        self.name: str | None = exact.normalized if exact is not None else None
        self._pattern = MatchSpec(matcher.normalized, exact_names_only=False) if exact is None else None
        #: whether nothing but name and version decide
        self._by_version = self._spec.build is None and self._spec.build_number is None and "[" not in text
        self._answers: dict[tuple[str, str], bool] = {}

    @property
    def foreign(self) -> str | None:
        """A part of it that says nothing of a record in a channel, `channel` for example; None if there is none."""
        return next((part.replace("_", " ") for part in _FOREIGN if getattr(self._spec, part) is not None), None)

    def speaks_of(self, name: str) -> bool:
        """Whether it may match records of this name."""
        if self._pattern is None:
            return self.name == name
        package = Build(name, "0", "0", 0).package
        return package is not None and self._pattern.matches(package)

    def matches(self, build: Build) -> bool:
        """Whether a record is meant. A thousand builds of a version are looked at once if it says nothing of builds."""
        if not self._by_version:
            return self._matches(build)
        if not build.is_plausible:
            return False
        answer = self._answers.get((build.name, build.version))
        if answer is None:
            answer = self._answers[build.name, build.version] = self._matches(Build(build.name, build.version, "0", 0))
        return answer

    def _matches(self, build: Build) -> bool:
        """rattler's own answer leaves the subdir out."""
        package = build.package
        return package is not None and self._spec.matches(package) and self._spec.subdir in (None, build.subdir)


@lru_cache(100_000)
def version_order(text: str) -> Version:
    """A version as conda sorts it; one that is none comes first."""
    try:
        return Version(text)
    except InvalidVersionError:
        return Version("0")


@lru_cache(100_000)
def dependency(text: str) -> Spec | None:
    """The spec of a dependency; None if it is none, and so nothing fulfils it."""
    try:
        return Spec(text)
    except ValueError:
        return None


def locked(lock: Path) -> Iterator[tuple[str, bytes | None]]:
    """URL and SHA-256 of every conda package in a pixi.lock or conda-lock.yml. Raises ValueError if it is neither."""
    try:
        for _, environment in LockFile.from_path(lock).environments():
            for records in environment.conda_repodata_records().values():
                yield from ((record.url, record.sha256) for record in records)
    except Exception as error:  # py-rattler promises no types; whatever it is, the file can't be used
        raise ValueError(str(error)) from None
