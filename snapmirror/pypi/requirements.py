"""Files that name what to keep: requirements.txt and constraints.txt (pip), pylock.toml (PEP 751), uv.lock."""

import os
import re
import tomllib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, NamedTuple

from packaging.pylock import Pylock, PylockValidationError, is_valid_pylock_path
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from ..errors import SelectionError
from . import names
from .platforms import Machines, pythons
from .settings import PypiRepo

_HASH = re.compile(r"--hash[= ]\s*sha256:([0-9a-fA-F]{64})")
#: what follows a requirement on its line
_OPTIONS = re.compile(r"\s--[a-z-]+[= ].*$")
_COMMENT = re.compile(r"(^|\s)#.*$")
_OTHER_FILE = re.compile(r"(?:-r|--requirement|-c|--constraint)[= ]?\s*(.+)")
#: what asks an index for nothing: options, and what is a folder, an archive or a repository
_ELSEWHERE = re.compile(r"-|\.|[^@;]*[/\\]|.*\.(whl|tar\.gz|zip)$")


class Need(NamedTuple):
    """Versions of a project that somebody asks for."""

    specifier: SpecifierSet
    extras: frozenset[str] = frozenset()
    #: hexadecimal SHA-256 of the only files that will do; none: any
    hashes: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The same for the same need."""
        return f"{self.specifier} {sorted(self.extras)} {sorted(self.hashes)}"


#: versions, and the machines on which nothing else will do
_Constraint = tuple[SpecifierSet, frozenset[int]]


class Wanted:
    """What all files of a repo name together."""

    def __init__(self) -> None:
        #: project -> what requirements ask of it
        self.needs: dict[str, list[Need]] = {}
        #: project -> what constraints say of it
        self.constraints: dict[str, list[_Constraint]] = {}
        #: project -> what they allow of it: what lies in any of these
        self.bounds: dict[str, tuple[SpecifierSet, ...]] = {}
        #: project -> {file of a lock: the hexadecimal SHA-256 that it may have; none: any}
        self.files: dict[str, dict[str, set[str]]] = {}

    @property
    def projects(self) -> list[str]:
        """Every project of which something is to be kept, sorted."""
        return sorted({*self.needs, *self.files})


def read(repo: PypiRepo, lines: Sequence[str] = ()) -> Wanted:
    """What the `requirements` of a repo ask for, and some more lines. Raises SelectionError for what can't be read."""
    wanted = Wanted()
    machines = Machines(pythons(repo.select.python), repo.select.platforms)
    for name in repo.requirements:
        path = Path(name)
        try:
            if path.name == "uv.lock":
                _read_uv(path, wanted)
            elif is_valid_pylock_path(path):
                _read_pylock(path, wanted)
            else:
                _read_lines(path, wanted, machines, "constraint" in path.name.lower(), ())
        except OSError as error:
            raise SelectionError(repo.path, f"reads {path}, which can't be read: {error.strerror}") from None
        except ValueError as error:  # TOML and UTF-8 that are none too
            raise SelectionError(repo.path, f"reads {path}: {error}") from None
    for line in lines:
        try:
            _take_line(line, wanted, machines, constraint=False)
        except ValueError as error:
            raise SelectionError(repo.path, f"can't look for that: {error}") from None
    wanted.bounds = {name: _bounds(stated, machines.count) for name, stated in wanted.constraints.items()}
    return wanted


def _bounds(stated: Sequence[_Constraint], machines: int) -> tuple[SpecifierSet, ...]:
    """What constraints allow that do not all hold on the same machines: on each, what all of those say that hold there."""
    together = {frozenset(one for one in stated if number in one[1]) for number in range(machines)}
    found = {reduce(and_, (specifier for specifier, _ in those), SpecifierSet()) for those in together}
    return tuple(sorted(found, key=str))


def files_of(repo: PypiRepo) -> list[Path]:
    """The files that name what a repo keeps, with those that they include; one that can't be read includes none."""
    found: list[Path] = []
    left = [Path(name) for name in reversed(repo.requirements)]
    while left:
        path = left.pop()
        if path in found or not path.is_file():
            continue
        found.append(path)
        lines = _lines(path.read_text("utf-8", "replace")) if path.suffix not in (".toml", ".lock") else ()
        left += [_included(path, other[1]) for line in lines if (other := _OTHER_FILE.fullmatch(line))]
    return found


def _included(path: Path, stated: str) -> Path:
    return Path(os.path.normpath(path.parent / stated.strip("'\" ")))


def _read_lines(path: Path, wanted: Wanted, machines: Machines, constraints: bool, above: tuple[Path, ...]) -> None:
    """pip's format (pip's reference, "Requirements File Format"). above: the files that include this one."""
    if path in above:
        return
    for line in _lines(path.read_text("utf-8-sig")):
        if other := _OTHER_FILE.fullmatch(line):
            inner = constraints or line.startswith(("-c", "--constraint"))
            _read_lines(_included(path, other[1]), wanted, machines, inner, (*above, path))
        elif not _ELSEWHERE.match(line):
            _take_line(line, wanted, machines, constraints)


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        if line := _COMMENT.sub("", line).strip():
            yield line


def _take_line(line: str, wanted: Wanted, machines: Machines, constraint: bool) -> None:
    stated = _OPTIONS.sub("", line).strip()
    try:
        found = Requirement(stated)
    except InvalidRequirement as error:
        raise ValueError(f"{stated!r} is no requirement: {str(error).splitlines()[0]}") from None
    machines_ = machines.where(found.marker)
    if found.url or not machines_:
        return
    name = names.normalise(found.name)
    if constraint:
        wanted.constraints.setdefault(name, []).append((found.specifier, machines_))
    else:
        hashes = frozenset(digits.lower() for digits in _HASH.findall(line))
        need = Need(found.specifier, frozenset(map(names.normalise, found.extras)), hashes)
        wanted.needs.setdefault(name, []).append(need)


def _read_pylock(path: Path, wanted: Wanted) -> None:
    try:
        lock = Pylock.from_dict(tomllib.loads(path.read_text("utf-8")))
    except PylockValidationError as error:
        raise ValueError(str(error)) from None
    for package in lock.packages:
        for file in [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]:
            _take_file(package.name, file.filename, file.hashes.get("sha256"), wanted)


def _read_uv(path: Path, wanted: Wanted) -> None:
    """uv's format has no specification; since version 1 a package has `source`, `sdist` and `wheels`."""
    lock = tomllib.loads(path.read_text("utf-8"))
    if lock.get("version") != 1 or not isinstance(lock.get("package"), list):
        raise ValueError(f"it is no uv.lock that this version of snapmirror knows: its version is {lock.get('version')!r}")
    for package in lock["package"]:
        if "registry" in package.get("source", {}):
            for file in [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]:
                kind, _, digits = str(file.get("hash", "")).partition(":")
                _take_file(package["name"], _file_of(file), digits if kind == "sha256" else None, wanted)


def _file_of(entry: Mapping[str, Any]) -> str:
    place = str(entry.get("url") or entry.get("path") or entry.get("filename") or "")
    return urllib.parse.unquote(urllib.parse.urlsplit(place).path.rpartition("/")[2])


def _take_file(project: str, file: str, sha256: str | None, wanted: Wanted) -> None:
    found = wanted.files.setdefault(names.normalise(project), {}).setdefault(file, set())
    if sha256:
        found.add(sha256.lower())
