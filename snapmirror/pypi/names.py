"""Names of projects (PEP 503), of wheels (PEP 427), sdists (PEP 625) and older archives, and their versions (PEP 440)."""

import re
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

#: endings of what lies beside a file: its metadata (PEP 658), and its attestations (PEP 740; that they have a name is ours)
METADATA = ".metadata"
PROVENANCE = ".provenance"
SIDECARS = (METADATA, PROVENANCE)
#: bytes of a file name; with `.provenance`, and what a partial download has after that, below the 255 of file systems
_LONGEST = 220

Kind = Literal["wheel", "sdist", "other"]

#: tags of a wheel; a name of 220 bytes can say 50,000, and a page 100,000 such names
_MOST_TAGS = 1000

_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,198}[a-z0-9])?")
_SDISTS = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.Z", ".tar")
_OTHERS = (".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg")
#: how a version begins, also those from before PEP 440
_VERSION = re.compile(r"v?\d|(?:dev|alpha|beta|rc|r\d|snapshot|trunk)", re.IGNORECASE)

#: where a version from before PEP 440 stands
OLDEST = Version("0.dev0")


class Named(NamedTuple):
    """What the name of a file says."""

    kind: Kind
    #: as PEP 440 or as the name writes it; empty if the name does not tell
    version: str
    #: what a wheel runs on (PEP 425)
    tags: frozenset[Tag]

    @property
    def parsed(self) -> Version | None:
        """The version as PEP 440 reads it, None for a version from before PEP 440, or for none."""
        return parse_version(self.version)

    @property
    def is_prerelease(self) -> bool:
        """Whether the version is a pre-release (PEP 440)."""
        version = self.parsed
        return version is not None and version.is_prerelease


normalise = canonicalize_name


def is_project(name: str) -> bool:
    """Whether a text is a normalised name of a project."""
    return _PROJECT.fullmatch(name) is not None and "--" not in name


@lru_cache(65_536)
def parse_version(text: str) -> Version | None:
    """The version that a text is, None if it is none of PEP 440."""
    try:
        return Version(text)
    except ValueError:  # InvalidVersion; or a number of more digits (4300) than Python makes an integer of
        return None


def is_archive(file: str) -> bool:
    """Whether a name ends as those of releases do."""
    return file.endswith((".whl", *_SDISTS, *_OTHERS))


def problem_with(file: str, project: str) -> str | None:
    """Why a file can't be published on the page of a project (normalised), None if it can."""
    if not file:
        return "it has no file name"
    if "/" in file or "\\" in file or file.startswith(".") or not file.isprintable() or "\ufffd" in file:
        return "its file name is unsafe (a path, a leading dot or a control character)"
    if len(file.encode("utf-8", "replace")) > _LONGEST:
        return f"its file name is longer than {_LONGEST} bytes"
    if file.endswith(SIDECARS):
        return "its file name is that of a metadata file"
    return None if _belongs(file, project) else "its file name belongs to another project"


def _belongs(file: str, project: str) -> bool:
    """Whether an installer that looks at the page of a project would take a file to be of it.

    The name of an sdist doesn't say where the project's name ends (`foo-2.0-1.tar.gz`), so every dash that a version
    could follow counts.
    """
    if file.endswith(".whl"):
        return normalise(file.split("-")[0]) == project
    return _version_place(file, project) is not None


def _version_place(file: str, project: str) -> int | None:
    """Where the version begins in the name of a file of a project that is no wheel."""
    for found in re.finditer("-", file):
        if _VERSION.match(file, found.end()) and normalise(file[: found.start()]) == project:
            return found.end()
    return None


def leaf_of(file: str) -> str:
    """The project of a file, or of the file that it lies beside, guessed from its name alone."""
    file = _without(file, SIDECARS)
    stem = _without(file, _SDISTS)
    return normalise(stem.rpartition("-")[0] if stem != file and "-" in stem else file.partition("-")[0])


def _without(file: str, endings: tuple[str, ...]) -> str:
    ending = next((ending for ending in endings if file.endswith(ending)), "")
    return file.removesuffix(ending)


@lru_cache(65_536)
def parse(file: str, project: str) -> Named:
    """What the name of a file on the page of a project says."""
    if file.endswith(".whl"):
        try:
            if prod(part.count(".") + 1 for part in file.split("-")[-3:]) > _MOST_TAGS:
                raise InvalidWheelFilename(file)
            _, version, _, tags = parse_wheel_filename(file)
        except (InvalidWheelFilename, ValueError):  # the latter: see parse_version
            return Named("wheel", file.partition("-")[2].partition("-")[0], frozenset())
        return Named("wheel", str(version), tags)
    kind: Kind = "sdist" if file.endswith(_SDISTS) else "other"
    try:
        name, version = parse_sdist_filename(file)
        if name == project:
            return Named("sdist", str(version), frozenset())
    except InvalidSdistFilename:
        pass
    begin = _version_place(file, project)
    rest = _without(file[begin:], (*_SDISTS, *_OTHERS)) if begin else ""
    return Named(kind, _leading_version(rest), frozenset())


def version_key(text: str) -> Version | str:
    """A value that is equal for all ways of writing one version (`1.0`, `1.0.0`)."""
    return parse_version(text) or text


def _leading_version(rest: str) -> str:
    """`1.0` of `1.0.win32-py2.7`, `1.0-py3.5`: as many of the pieces as make a version."""
    pieces = re.split(r"([.-])", rest)
    for end in range(len(pieces), 0, -2):
        text = "".join(pieces[:end])
        if parse_version(text):
            return text
    return rest
