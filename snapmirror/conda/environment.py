"""What a lock or an environment file asks of channels, and whether a snapshot of them has it.

Of a lock these are its files. An environment file is solved, by py-rattler, for one platform.
"""

import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..digests import Digest
from ..ecosystem.environments import ABSENT, OTHER, At, Environment, Found, Held, Mirrored, Place
from ..errors import UsageError
from ..store.directories import DirectoryReader
from . import leaf, names, solving
from .listed import listed
from .specs import allows
from .wanted import Included, is_explicit, read_file

#: gives the records of a leaf, see Ecosystem.records
Records = Callable[[bytes], Mapping[str, bytes]]

#: so many solutions are remembered: a channel seldom becomes again what it was long ago
_SOLUTIONS = 8
_DEFAULTS = ("pkgs/main", "pkgs/r", "pkgs/msys2")
#: {(number of a channel, directory, name): the leaf that it has under that name}
_Looked = dict[tuple[int, str, str], Digest | None]
#: {(directory, leaf): those of its files that a lock names, each with its MD5}
_Known = dict[tuple[str, Digest], Mapping[str, tuple[Held, Digest | None]]]


def reads(path: Path) -> bool:
    """Whether a file is, by its name or its lines, one that is for conda. Raises OSError."""
    if path.suffix == ".txt":
        return is_explicit(path.read_text("utf-8", "replace"))
    return path.suffix in (".yml", ".yaml") or (path.suffix == ".lock" and path.name != "uv.lock")


def environment(path: Path, mirrored: Mirrored, records: Records) -> Environment:
    """What a file asks for.

    Raises OSError, ValueError for a file that can't be used, UsageError if nobody says for which platform it is to be solved.
    """
    included = read_file(path)
    return Lock(included, mirrored, records) if included.files else Solving(path.name, included, mirrored, records)


class Lock(Environment):
    """Exactly the files that a lock names, in any channel: its URLs need not tell which of them it was made from."""

    kind = "conda"

    def __init__(self, included: Included, mirrored: Mirrored, records: Records) -> None:
        known = {directory for _, directory in mirrored.places}
        self._files = {directory: files for directory, files in included.files.items() if directory in known}
        strange = {directory: files for directory, files in included.files.items() if directory not in known}
        self.aside: Mapping[str, str] = {
            f"{directory}/{file}": f"no snapshot has {directory}" for directory, files in strange.items() for file in files
        }
        if not self._files:
            raise ValueError(f"it is for {', '.join(sorted(strange))}, which no snapshot has")
        self._records = records
        self._known: _Known = {}

    def find(self, directories: Mapping[Place, DirectoryReader]) -> Found:
        """See Environment.find."""
        files: dict[str, Mapping[At, Held]] = {}
        missing: dict[str, str] = {}
        before, self._known = self._known, {}
        for directory, wanted in self._files.items():
            readers = {repo: reader for (repo, name), reader in directories.items() if name == directory}
            for file, sums in wanted.items():
                listings = {
                    repo: found for repo, reader in readers.items() if (found := self._look(directory, reader, file, before))
                }
                right = {
                    (repo, directory, file): held for repo, (held, md5) in listings.items() if allows(sums, held.sha256, md5)
                }
                if right:
                    files[f"{directory}/{file}"] = right
                else:
                    missing[f"{directory}/{file}"] = OTHER if listings else ABSENT
        return Found(files, missing)

    def _look(self, directory: str, reader: DirectoryReader, file: str, before: _Known) -> tuple[Held, Digest | None] | None:
        digest = reader.leaf(reader.name_of(file) or names.leaf_of(file))
        if digest is None:
            return None
        key = directory, digest
        if key not in self._known:
            self._known[key] = before[key] if key in before else self._read(directory, reader.read(digest))
        return self._known[key].get(file)

    def _read(self, directory: str, content: bytes) -> Mapping[str, tuple[Held, Digest | None]]:
        records = self._records(content)
        wanted = self._files[directory]
        return {one.name: (Held(one.sha256, records[one.name]), one.other) for one in leaf.files(content) if one.name in wanted}


class Solving(Environment):
    """The specs of an environment file with all that they need, from those of its channels that are mirrored; from all, if it
    names none of these.
    """

    kind = "conda"

    def __init__(self, name: str, included: Included, mirrored: Mirrored, records: Records) -> None:
        """name: of the file, for messages. Raises ValueError for what can't be solved."""
        for spec in included.specs:
            solving.verify_solvable(spec)
        self._name = name
        self._specs = included.specs
        self._platform = _platform(mirrored)
        self._records = records
        self._repos, strange = _in_order({repo for repo, _ in mirrored.places}, included.channels)
        self.aside: Mapping[str, str] = dict.fromkeys(strange, "no repo is this channel")
        #: what was looked for on the way to each of the last solutions, and that
        self._solved: list[tuple[_Looked, Found]] = []
        #: by channel, directory and leaf
        self._packages: dict[tuple[int, str, Digest], Sequence[solving.Package]] = {}
        #: by leaf and file
        self._held: dict[tuple[Digest, str], Held] = {}

    def find(self, directories: Mapping[Place, DirectoryReader]) -> Found:
        """See Environment.find. Where all that was looked for on the way to a solution is as it was, so is the solution."""
        for looked, found in self._solved:
            if all(self._look(directories, *key) == digest for key, digest in looked.items()):
                return found
        looked = {}

        def packages(channel: int, directory: str, name: str) -> Sequence[solving.Package]:
            looked[channel, directory, name] = digest = self._look(directories, channel, directory, name)
            return self._of_leaf(directories, channel, directory, digest) if digest else ()

        found = self._solve(directories, packages)
        self._solved = [(looked, found), *self._solved[: _SOLUTIONS - 1]]
        self._forget(looked, found)
        return found

    def _forget(self, looked: _Looked, found: Found) -> None:
        """Forget the leaves that were not looked into this time: of a history of years all would be too many."""
        used = {(channel, directory, digest) for (channel, directory, _), digest in looked.items()}
        self._packages = {key: made for key, made in self._packages.items() if key in used}
        held = {id(one) for files in found.files.values() for one in files.values()}
        self._held = {key: one for key, one in self._held.items() if id(one) in held}

    def _look(self, directories: Mapping[Place, DirectoryReader], channel: int, directory: str, name: str) -> Digest | None:
        reader = directories.get((self._repos[channel], directory))
        return reader.leaf(name) if reader else None

    def _of_leaf(
        self, directories: Mapping[Place, DirectoryReader], channel: int, directory: str, digest: Digest
    ) -> Sequence[solving.Package]:
        """The packages of a leaf, without those that are there in a better format too, and without wheels."""
        key = channel, directory, digest
        if key not in self._packages:
            records = {one.file: one for one in listed(directories[self._repos[channel], directory].read(digest))}
            worse = {file.removesuffix(".conda") + ".tar.bz2" for file in records if file.endswith(".conda")}
            chosen = [one for file, one in records.items() if file not in worse and not file.endswith(".whl")]
            self._packages[key] = [made for one in chosen if (made := solving.package(one, channel, directory))]
        return self._packages[key]

    def _solve(
        self, directories: Mapping[Place, DirectoryReader], packages: Callable[[int, str, str], Sequence[solving.Package]]
    ) -> Found:
        channels = [partial(packages, number) for number in range(len(self._repos))]
        try:
            solution = solving.solve(channels, self._specs, self._platform)
        except solving.Unsolvable as problem:
            return Found({}, {self._name: str(problem)})
        files: dict[str, Mapping[At, Held]] = {}
        for one in solution:
            repo = self._repos[one.channel]
            held = self._hold(directories[repo, one.directory], one.name, one.file)
            files[f"{one.directory}/{one.file}"] = {(repo, one.directory, one.file): held}
        return Found(files, {})

    def _hold(self, reader: DirectoryReader, name: str, file: str) -> Held:
        digest = reader.leaf(name)
        assert digest  # the solver has the package from there
        if (digest, file) not in self._held:
            content = reader.read(digest)
            sha256 = next(one.sha256 for one in leaf.files(content) if one.name == file)  # `v3` may list it as well
            self._held[digest, file] = Held(sha256, self._records(content)[file])
        return self._held[digest, file]


def _platform(mirrored: Mirrored) -> str:
    """For which platform to solve: the stated one, else the only one, else this machine's. Raises UsageError."""
    directories = {directory for _, directory in mirrored.places} - {"noarch"}
    known = sorted(directory for directory in directories if solving.is_platform(directory))
    text = ", ".join(known) or "none"
    if mirrored.platform:
        if mirrored.platform not in known:
            raise UsageError(f"--platform {mirrored.platform}: no snapshot has it (there are: {text})")
        return mirrored.platform
    if len(known) == 1:
        return known[0]
    if known and solving.this_platform() not in known:
        raise UsageError(f"name the platform for which it is to be solved, with --platform (there are: {text})")
    return solving.this_platform()


def _in_order(repos: Collection[str], channels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The repos that are these channels, in the order of the channels, and the channels that no repo is."""
    found: list[str] = []
    strange: list[str] = []
    for channel in (one for one in channels if one != "nodefaults"):
        names = _DEFAULTS if channel == "defaults" else (_name_of(channel),)
        its = [repo for name in names for repo in sorted(repos) if _ends_with(repo, name) or _ends_with(name, repo)]
        found += its
        strange += [] if its else [channel]
    return list(dict.fromkeys(found)) or sorted(repos), strange


def _name_of(channel: str) -> str:
    """The name of a channel, or the path in its URL."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(channel).path) if "://" in channel else channel
    return path.strip("/")


def _ends_with(path: str, end: str) -> bool:
    return f"/{path}".endswith(f"/{end}")
