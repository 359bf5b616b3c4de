"""MatchSpecs (CEP 29), the order of versions (CEP 33) and lock files, as py-rattler reads them.

py-rattler is slow to load: modules that every command loads import this one inside functions.

Records may hold dependencies that are no specs, and versions that are none: `dependency` gives None for these, and `Build`
matches nothing. A spec that the operator has written is parsed by `Spec`, which raises.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from rattler import BuildString, LockFile, MatchSpec, PackageRecord, Version
from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError, InvalidVersionError

from .leaf import Record, texts

#: a build string (CEP 26), as rattler enforces it
_BUILD = re.compile(r"[A-Za-z0-9_.+]{1,64}").fullmatch
#: a part of a spec in brackets, as rattler writes it
_PART = re.compile(r"""(\w+)=("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
#: parts that are compared as they are written, where conda also knows patterns
_LITERAL = ("license", "license_family", "subdir", "track_features")
#: parts that are not compared, or by the solver alone, in words
_PARTS = {
    "url": "an address",
    "channel": "a channel",
    "namespace": "a namespace",
    "file_name": "a file name",
    "condition": "a condition",
    "extras": "extras",
    "subdir": "a subdir",
}
#: nobody needs a longer spec, or one with more brackets. rattler reads what is nested, and what is joined by `and`, by calling
#: itself: of some thousands of these the process dies
_LONGEST, _MOST_BRACKETS = 4096, 64


class Stated(Protocol):
    """A record: what it states, by key. Upstream may have written anything."""

    def get(self, key: str, /) -> object:
        """None for what it does not state."""


class Build:
    """What specs see of a record."""

    __slots__ = ("_is_package", "_package", "_stated", "build", "name", "number", "subdir", "version")

    def __init__(
        self, name: object, version: object, build: object, number: object, subdir: object = None, stated: Stated | None = None
    ) -> None:
        """The values of a record, whatever these are. stated: the record, for what few specs ask"""
        #: in lower case, as conda compares names
        self.name = str(name or "").lower()
        self.version, self.build = str(version or ""), str(build or "")
        self.number = number if isinstance(number, int) else 0
        self.subdir = str(subdir or "noarch")
        self._stated = stated
        self._package: PackageRecord | None = None
        self._is_package: bool | None = None

    @classmethod
    def of(cls, record: Record) -> "Build":
        """What specs see of a decoded record."""
        name, version, build, number, subdir = map(record.get, ("name", "version", "build", "build_number", "subdir"))
        return cls(name, version, build, number, subdir, record)

    @property
    def order(self) -> tuple[Version, int]:
        """Version and build number: the newer of two builds has the greater."""
        return version_order(self.version), self.number

    @property
    def is_plausible(self) -> bool:
        """Whether rattler can read its build string and number. Cheaper than `package`, which needs name and version too."""
        return _BUILD(self.build) is not None and 0 <= self.number < 1 << 64

    @property
    def package(self) -> PackageRecord | None:
        """The record as rattler matches it; None if rattler can't read its name, version or build."""
        if self._is_package is None:
            try:
                build = BuildString(self.build)
                self._package = PackageRecord(self.name, self.version, build, self.number, self.subdir)
            except (InvalidVersionError, InvalidPackageNameError, ValueError, OverflowError):
                pass
            self._is_package = self._package is not None
        return self._package

    @property
    def described(self) -> PackageRecord | None:
        """The same, with what specs can only ask for in brackets. To set that takes longer than all else."""
        if self._stated is not None and self.package is not None:
            describe(self.package, self._stated)
            self._stated = None
        return self.package


def describe(package: PackageRecord, stated: Stated) -> None:
    """Set what specs can only ask for in brackets, as far as a record states it in the form that it has to have."""
    for key in ("license", "license_family"):
        if isinstance(text := stated.get(key), str):
            setattr(package, key, text)
    for key, size in (("md5", 16), ("sha256", 32)):
        if isinstance(digest := stated.get(key), bytes) and len(digest) == size:
            setattr(package, key, digest)
    if flags := texts(stated.get("flags")):
        package.flags = flags
    if features := _features(stated.get("track_features")):
        package.track_features = features


def _features(stated: object) -> list[str]:
    """`track_features` (CEP 34): builds with fewer of them are preferred."""
    return stated.replace(",", " ").split() if isinstance(stated, str) else texts(stated)


class Spec:
    """A MatchSpec (CEP 29). Its name may be a pattern: `lib*`, `^py.*$`."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, with what is wrong, for a text that is no spec."""
        if not is_readable(text):
            raise ValueError(f"it is longer than {_LONGEST} characters, or has more than {_MOST_BRACKETS} brackets")
        try:
            self._spec = MatchSpec(text, exact_names_only=False)
            matcher = self._spec.name
            exact = matcher.as_package_name()
            self._pattern = MatchSpec(matcher.normalized, exact_names_only=False) if exact is None else None
        except InvalidMatchSpecError as error:
            raise ValueError(str(error)) from None
        self.text = text
        #: the package name that it means, in lower case; None if it is a pattern
        self.name: str | None = exact.normalized if exact is not None else None
        self._in_brackets = "[" in text
        #: whether nothing but name and version decide
        self._by_version = self._spec.build is None and self._spec.build_number is None and not self._in_brackets
        self._answers: dict[tuple[str, str], bool] = {}

    @property
    def foreign(self) -> str | None:
        """A part of it that no record in a channel answers, in words: `a channel` for example; None if it has no such part."""
        if found := self.first_of("url", "channel", "namespace", "file_name", "condition", "extras"):
            return found
        patterns = (key for key, value in self._written() if key in _LITERAL and ("*" in value or value[1] == "^"))
        return next((f"a pattern as {key}" for key in patterns), None)

    def first_of(self, *parts: str) -> str | None:
        """The first that it has of some of its _PARTS, in words."""
        return next((_PARTS[part] for part in parts if self._has(part)), None)

    def _has(self, part: str) -> bool:
        if part == "url":  # also of a spec that is a URL or a path; py-rattler has no attribute for it
            return any(key == part for key, _ in self._written())
        return getattr(self._spec, part) is not None

    def _written(self) -> list[tuple[str, str]]:
        """Parts that rattler writes in brackets and quotes, with their values."""
        return _PART.findall(str(self._spec))

    @property
    def is_conditional(self) -> bool:
        """Whether, as a dependency, it holds only under a condition: `numpy[version="<2",when="python <3.9"]` (CEP 48)."""
        return self._spec.condition is not None

    @property
    def is_new(self) -> bool:
        """Whether it has a part that came with `v3` (CEP 43 to 45): a client that does not know that can't read it."""
        if self.first_of("condition", "extras"):
            return True
        return "flags=" in _PART.sub("", str(self._spec))  # py-rattler has no attribute for them

    def speaks_of(self, name: str) -> bool:
        """Whether it can match records of a name. name: in lower case"""
        if self._pattern is None:
            return self.name == name
        package = Build(name, "0", "0", 0).package
        return package is not None and self._pattern.matches(package)

    def matches(self, build: Build) -> bool:
        """Whether a record is meant. If the spec says nothing of builds, one answer does for all builds of a version."""
        if not self._by_version:
            return self._matches(build)
        if not build.is_plausible:
            return False
        answer = self._answers.get((build.name, build.version))
        if answer is None:
            answer = self._answers[build.name, build.version] = self._matches(Build(build.name, build.version, "0", 0))
        return answer

    def _matches(self, build: Build) -> bool:
        """rattler itself does not look at the subdir."""
        package = build.described if self._in_brackets else build.package
        return package is not None and self._spec.matches(package) and self._spec.subdir in (None, build.subdir)


def is_readable(text: str) -> bool:
    """Whether rattler may be given a text that somebody else has written."""
    return len(text) <= _MOST_BRACKETS or (len(text) <= _LONGEST and text.count("(") + text.count("[") <= _MOST_BRACKETS)


@lru_cache(100_000)
def version_order(text: str) -> Version:
    """A version that sorts as conda has it (CEP 33). What is no version counts as `0`."""
    try:
        return Version(text)
    except InvalidVersionError:
        return Version("0")


@lru_cache(100_000)
def dependency(text: str) -> Spec | None:
    """The spec of a dependency; None for a text that is no spec, which nothing fulfils."""
    try:
        return Spec(text)
    except ValueError:
        return None


class Locked(NamedTuple):
    """The hashes that a lock states of a file."""

    sha256: bytes | None = None
    md5: bytes | None = None

    def allows(self, sha256: bytes | None, md5: bytes | None) -> bool:
        """Whether the file of a record with these hashes is meant: the SHA-256 decides if both state one, else the MD5."""
        both = [(one, other) for one, other in zip(self, (sha256, md5), strict=True) if one and other]
        return both[0][0] == both[0][1] if both else not any(self)


def allows(stated: Iterable[Locked], sha256: bytes | None, md5: bytes | None) -> bool:
    """Whether one of the hashes that locks state of a file allows that of a record."""
    return any(one.allows(sha256, md5) for one in stated)


def locked(lock: Path) -> Iterator[tuple[str, Locked]]:
    """URL and hashes of every conda package in a pixi.lock or conda-lock.yml.

    Raises ValueError for other files. The formats are those of pixi and conda-lock; py-rattler knows their versions.
    """
    try:
        for _, environment in LockFile.from_path(lock).environments():
            for records in environment.conda_repodata_records().values():
                yield from ((record.url, Locked(record.sha256, record.md5)) for record in records)
    except Exception as error:  # py-rattler promises no types; whatever it is, the file can't be used
        raise ValueError(str(error)) from None
