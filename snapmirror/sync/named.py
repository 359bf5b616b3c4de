"""What a text names in a directory (`Ecosystem.naming`): the leaves that may list it, and which of their files are meant."""

from collections.abc import Collection, Iterator, Mapping

from .. import codec
from ..digests import Digest
from ..ecosystem import Ecosystem, Naming
from ..errors import UsageError
from ..readings import File
from ..store.directories import DirectoryReader


class Namings:
    """What a text means in directories of each kind."""

    def __init__(self, ecosystems: Mapping[str, Ecosystem], spec: str) -> None:
        self._ecosystems = ecosystems
        self._spec = spec
        self._found: dict[str, Naming] = {}
        #: {kind in which it can mean nothing: why}
        self._problems: dict[str, str] = {}

    def of(self, kind: str) -> Naming:
        """What it means in a directory of a kind; where it can mean nothing, a leaf of that very name.

        Upstreams list names that nobody could write, and a search finds them.
        """
        if kind not in self._found:
            try:
                self._found[kind] = self._ecosystems[kind].naming(self._spec)
            except ValueError as problem:
                self._problems[kind] = str(problem)
                self._found[kind] = Naming(self._spec, self._spec, True, lambda leaf, _: leaf == self._spec)
        return self._found[kind]

    def refusal(self, repos: Collection[str]) -> UsageError:
        """What to say if no kept snapshot lists it in these repos."""
        if self._problems.keys() == self._found.keys() != set():
            return UsageError(f"{self._spec!r} names nothing: {next(iter(self._problems.values()))}")
        return UsageError(f"{self._spec}: no kept snapshot lists it in {', '.join(sorted(repos)) or 'any repo'}")


def leaves(reader: DirectoryReader, naming: Naming) -> Iterator[tuple[str, Digest]]:
    """The leaves that may list it, each with its name. No bucket is read but those of these names. Raises DamagedError."""
    for name in dict.fromkeys((naming.leaf, naming.leaf.lower(), reader.name_of(naming.text))):
        if name and (leaf := reader.leaf(name)):
            yield name, leaf


def covers(naming: Naming, leaf: str, file: str) -> bool:
    """Whether a file is meant. leaf: name of the leaf that lists it"""
    return naming.text == file or naming.covers(leaf, file)


def with_digest(ecosystem: Ecosystem, leaf: bytes, digest: Digest) -> list[File]:
    """The files of a leaf that have a SHA-256. Nearly no leaf has one, and to look for its bytes is quicker than to decode all.

    leaf: its bytes
    """
    if digest not in leaf and digest.hex().encode() not in leaf:
        return []
    return [file for file in ecosystem.files(leaf) if file.sha256 == digest]


def yanked(ecosystem: Ecosystem, record: bytes) -> str | None:
    """Why a file is yanked, perhaps without a reason; None if it is not."""
    stated = codec.from_msgpack(record).get(ecosystem.yank) if ecosystem.yank else None
    if not is_yanked(stated):
        return None
    return stated if isinstance(stated, str) else ""


def is_yanked(stated: object) -> bool:
    """Whether what a record states says that its file is. The reason may be empty, so an empty text does (PEP 592)."""
    return stated not in (None, False)
