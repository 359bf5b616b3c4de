"""What to keep as files name it: requirements.txt and constraints.txt (pip), pylock.toml (PEP 751), uv.lock."""

import os
import re
import tomllib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from packaging.markers import Marker
from packaging.pylock import Pylock, PylockValidationError, is_valid_pylock_path
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from ..errors import SelectionError
from . import names
from .platforms import Machines, pythons
from .settings import PypiRepo

_HASH = re.compile(r"--hash[= ]\s*sha256:([0-9a-fA-F]{64})")
#: what follows a requirement on its line: `--hash`, `--config-settings` or `-C`, and what older versions of pip have
_OPTIONS = re.compile(r"\s(?:--[a-z-]+[= ]|-C).*$")
_COMMENT = re.compile(r"(^|\s)#.*$")
_OTHER_FILE = re.compile(r"(?:-r|--requirement|-c|--constraint)[= ]?\s*(.+)")
#: lines that ask an index for nothing: options, folders, archives and repositories
_ELSEWHERE = re.compile(r"-|\.|[^@;]*[/\\]|.*\.(whl|tar\.gz|zip)$")


class Need(NamedTuple):
    """Versions of a project that somebody asks for."""

    specifier: SpecifierSet
    extras: frozenset[str] = frozenset()
    #: hexadecimal SHA-256 of the only files that will do; none: any
    hashes: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """Equal texts are equal needs."""
        return f"{self.specifier} {sorted(self.extras)} {sorted(self.hashes)}"


class Asked(NamedTuple):
    """All that is asked of one project."""

    #: everything that the rules leave
    whole: bool = False
    needs: tuple[Need, ...] = ()
    #: what constraints allow: versions that lie in one of these; none: all
    bounds: tuple[SpecifierSet, ...] = ()
    #: of locks, which no rule drops: {file: the hexadecimal SHA-256 that it may have; none: any}
    files: Mapping[str, set[str]] = MappingProxyType({})

    @property
    def text(self) -> str:
        """Equal texts are equal wishes."""
        files = sorted((file, sorted(hashes)) for file, hashes in self.files.items())
        return f"{self.whole} {sorted({need.text for need in self.needs})} {[*map(str, self.bounds)]} {files}"


#: versions, and on which machines only these will do; None: on all
_Constraint = tuple[SpecifierSet, Marker | None]


class Wanted:
    """What all files of a repo name together, by the normalised name of a project."""

    def __init__(self) -> None:
        #: what requirements ask of it
        self.needs: dict[str, list[Need]] = {}
        #: what constraints say of it
        self.constraints: dict[str, list[_Constraint]] = {}
        #: see Asked.bounds
        self.bounds: dict[str, tuple[SpecifierSet, ...]] = {}
        #: see Asked.files
        self.files: dict[str, dict[str, set[str]]] = {}

    @property
    def projects(self) -> list[str]:
        """Every project of which something is to be kept, sorted."""
        return sorted({*self.needs, *self.files})

    def asked(self, name: str, *, whole: bool = False) -> Asked:
        """What is asked of a project. whole: see Asked.whole"""
        return Asked(whole, tuple(self.needs.get(name, ())), self.bounds.get(name, ()), self.files.get(name, {}))


def read(repo: PypiRepo, lines: Sequence[str] = ()) -> Wanted:
    """What the `requirements` of a repo ask for. lines: further ones, as of a requirements.txt

    Raises SelectionError for what can't be read.
    """
    wanted = Wanted()
    machines = Machines(pythons(repo.select.python), repo.select.platforms)
    for name in repo.requirements:
        path = Path(name)
        try:
            _read(path, wanted, machines)
        except OSError as error:
            raise SelectionError(repo.path, f"reads {error.filename or path}, which can't be read: {error.strerror}") from None
        except ValueError as error:  # also for what is no TOML or no UTF-8
            raise SelectionError(repo.path, f"reads {path}: {error}") from None
    for line in lines:
        try:
            _take_line(line, wanted, machines, constraint=False)
        except ValueError as error:
            raise SelectionError(repo.path, f"can't look for that: {error}") from None
    wanted.bounds = {name: _bounds(stated, machines) for name, stated in wanted.constraints.items()}
    return wanted


def read_file(path: Path, machines: Machines) -> Wanted:
    """What one file asks for. Raises ValueError for what is none of these, OSError for what can't be read."""
    wanted = Wanted()
    _read(path, wanted, machines)
    wanted.bounds = {name: _bounds(stated, machines) for name, stated in wanted.constraints.items()}
    return wanted


def _read(path: Path, wanted: Wanted, machines: Machines) -> None:
    try:
        if path.name == "uv.lock":
            _read_uv(path, wanted)
        elif is_valid_pylock_path(path):
            _read_pylock(path, wanted)
        else:
            _read_lines(path, wanted, machines, "constraint" in path.name.lower(), ())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _bounds(stated: Sequence[_Constraint], machines: Machines) -> tuple[SpecifierSet, ...]:
    """See Asked.bounds. On each machine all constraints must be met that hold there; machines differ in which these are."""
    together = machines.together([marker for _, marker in stated])
    found = {reduce(and_, (stated[number][0] for number in those), SpecifierSet()) for those in together}
    return tuple(sorted(found, key=str))


def files_of(repo: PypiRepo) -> list[Path]:
    """The files that name what a repo keeps, with those that they include. Files that are not there are left out."""
    found: list[Path] = []
    left = [Path(name) for name in reversed(repo.requirements)]
    while left:
        path = left.pop()
        if path in found or not path.is_file():
            continue
        found.append(path)
        lines = _lines(path.read_text("utf-8-sig", "replace")) if path.suffix not in (".toml", ".lock") else ()
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
            included = _included(path, other[1])
            inner = constraints or line.startswith(("-c", "--constraint"))
            try:
                _read_lines(included, wanted, machines, inner, (*above, path))
            except ValueError as error:
                raise ValueError(f"{included}: {error}") from None
        elif not _ELSEWHERE.match(_OPTIONS.sub("", line)):
            _take_line(line, wanted, machines, constraints)


def _lines(text: str) -> Iterator[str]:
    """Lines as pip reads them: continued ones joined, without comments and empty ones."""
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        if line := _COMMENT.sub("", line).strip():
            yield line


def _take_line(line: str, wanted: Wanted, machines: Machines, constraint: bool) -> None:
    """Take a requirement (PEP 508), with pip's options after it. Raises ValueError for what is none."""
    stated = _OPTIONS.sub("", line).strip()
    try:
        found = Requirement(stated)
    except (InvalidRequirement, RecursionError) as error:
        raise ValueError(f"{stated!r} is no requirement: {str(error).splitlines()[0]}") from None
    if found.url or not machines.need(found.marker):
        return
    name = names.normalise(found.name)
    if constraint:
        wanted.constraints.setdefault(name, []).append((found.specifier, found.marker))
    else:
        hashes = frozenset(digits.lower() for digits in _HASH.findall(line))
        need = Need(found.specifier, frozenset(map(names.normalise, found.extras)), hashes)
        wanted.needs.setdefault(name, []).append(need)


def _read_pylock(path: Path, wanted: Wanted) -> None:
    """The wheels and sdists of a lock (PEP 751), whatever their markers say."""
    try:
        lock = Pylock.from_dict(tomllib.loads(path.read_text("utf-8")))
    except PylockValidationError as error:
        raise ValueError(str(error)) from None
    for package in lock.packages:
        for file in [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]:
            _take_file(package.name, file.filename, file.hashes.get("sha256"), wanted)


class _UvFile(msgspec.Struct):
    """A file in uv.lock; its name is the end of whichever address it has."""

    url: str = ""
    path: str = ""
    filename: str = ""
    hash: str = ""


class _UvPackage(msgspec.Struct):
    """A `[[package]]` of uv.lock."""

    name: str
    source: dict[str, object] = {}
    sdist: _UvFile | None = None
    wheels: list[_UvFile] = []


def _read_uv(path: Path, wanted: Wanted) -> None:
    """uv's format has no specification; this is its version 1."""
    lock = tomllib.loads(path.read_text("utf-8"))
    if lock.get("version") != 1:
        raise ValueError(f"it is no uv.lock that this version of snapmirror knows: its version is {lock.get('version')!r}")
    try:
        packages = msgspec.convert(lock.get("package"), list[_UvPackage])
    except msgspec.ValidationError as error:
        raise ValueError(f"it is no uv.lock: {error}") from None
    for package in packages:
        if "registry" in package.source:
            for file in [*package.wheels, *([package.sdist] if package.sdist else ())]:
                place = urllib.parse.urlsplit(file.url or file.path or file.filename).path
                kind, _, digits = file.hash.partition(":")
                name = urllib.parse.unquote(place.rpartition("/")[2])
                _take_file(package.name, name, digits if kind == "sha256" else None, wanted)


def _take_file(project: str, file: str, sha256: str | None, wanted: Wanted) -> None:
    found = wanted.files.setdefault(names.normalise(project), {}).setdefault(file, set())
    if sha256:
        found.add(sha256.lower())
