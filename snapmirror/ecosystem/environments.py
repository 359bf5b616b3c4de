"""What a lock or an environment file asks of snapshots, and what these have of it: each ecosystem reads its own formats."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..digests import Digest
from ..store.directories import DirectoryReader

#: a directory: path of its repo, and its own name
Place = tuple[str, str]
#: a file: path of its repo, its directory, and its own name
At = tuple[str, str, str]

#: why something is missing
ABSENT = "it is not listed"
OTHER = "it is listed with other bytes"


class Held(NamedTuple):
    """A file that a snapshot lists."""

    sha256: Digest | None
    #: see Ecosystem.records
    record: bytes


class Found(NamedTuple):
    """What one snapshot has of what is asked for."""

    #: {what is asked for: the files that will do, any one of them}
    files: Mapping[str, Mapping[At, Held]]
    #: {what is asked for and is not there: why}
    missing: Mapping[str, str]


class Environment(Protocol):
    """What one file asks for. It remembers what the last snapshot came to, leaf by leaf: ask it of one after the other."""

    #: the kind of the directories that it is looked for in; empty for any
    kind: str
    #: what is asked for and does not count: {what: why}
    aside: Mapping[str, str]

    def find(self, directories: Mapping[Place, DirectoryReader]) -> Found:
        """What a snapshot has of it. directories: those of the kind. Raises DamagedError."""
        ...


class Mirrored(NamedTuple):
    """What is mirrored, as far as it decides which part of a lock is asked for."""

    #: the configured repos of the kind
    repos: Sequence[Any]
    #: the directories of the kind that any kept snapshot has
    places: Collection[Place]
    #: for which an environment is to be solved; empty if nobody says
    platform: str = ""
