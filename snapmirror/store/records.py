"""Snapshot records: what `snapshots/<id>.json` holds (man snapmirror-store, section RECORDS)."""

from typing import Annotated

import msgspec

from ..digests import Digest
from ..errors import DamagedError

Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def place_of(repo: str, directory: str) -> str:
    """Where a directory is published: `repo/directory`, or the repo's own path if the repo is that directory (named "")."""
    return f"{repo}/{directory}" if directory else repo


class DirectoryState(msgspec.Struct, frozen=True, kw_only=True):
    """One directory of a repo at one snapshot."""

    #: hexadecimal digest of the directory's blob
    digest: Hex
    #: id of the snapshot since which it is unchanged
    since: str
    #: when upstream was last read for it, in the form of an id
    read: str

    @property
    def blob(self) -> Digest:
        """The directory's digest as bytes."""
        return bytes.fromhex(self.digest)


class RepoState(msgspec.Struct, frozen=True, kw_only=True):
    """One repo at one snapshot."""

    kind: str
    directories: dict[str, DirectoryState]

    @property
    def read(self) -> str:
        """When upstream was last read for any of it, in the form of an id."""
        return max((state.read for state in self.directories.values()), default="")

    @property
    def since(self) -> str:
        """Id since which all of it is unchanged."""
        return max((state.since for state in self.directories.values()), default="")


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="state", tag="sealed"):
    """A sealed snapshot."""

    id: str
    #: order of publication; ids sealed for the past are out of that order
    number: int
    #: whether it holds only what was synced into it (`--seal-as`), so that others are looked up before it
    partial: bool = False
    #: {repo: what is not known of it} of those that are as upstream had them then, told from what it said later (`--as-of`)
    reconstructed: dict[str, str] = {}
    repos: dict[str, RepoState]


#: {repo: directory in hexadecimal} that answers for a snapshot instead of the one that its record names: the same, and
#: leaves that were asked for later and are told from what upstream says now; what `snapshots/<id>.pages` holds
Pages = dict[str, Hex]


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, tag_field="state", tag="forgotten"):
    """What is left of a forgotten snapshot, so that no selector comes to mean an older one."""

    id: str
    number: int
    partial: bool = False
    #: when it was forgotten, in the form of an id
    forgotten: str
    #: paths of the repos that it held
    repos: list[str]


Entry = Record | Tombstone


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What `pins/<name>.json` holds."""

    name: str
    snapshot: str
    #: when it was made or last moved, in the form of an id
    set: str


def encode(value: Entry | Pin) -> bytes:
    """A record, tombstone or pin as it stands on disk: readable, keys sorted, so that the same state is the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def decode_entry(data: bytes, what: str) -> Entry:
    """A record or tombstone. Raises DamagedError."""
    try:
        return msgspec.json.decode(data, type=Record | Tombstone)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(what, f"can't be read: {error}") from None


def decode_pages(data: bytes, what: str) -> Pages:
    """What was told later. Raises DamagedError."""
    try:
        return msgspec.json.decode(data, type=Pages)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(what, f"can't be read: {error}") from None


def decode_pin(data: bytes, what: str) -> Pin:
    """A pin. Raises DamagedError."""
    try:
        return msgspec.json.decode(data, type=Pin)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(what, f"can't be read: {error}") from None
