"""Snapshot records, tombstones and pins: what `snapshots/` and `pins/` hold (man snapmirror-store, section RECORDS)."""

from typing import Annotated, Any, NamedTuple

import msgspec

from ..digests import Digest
from ..errors import DamagedError

Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def place_of(repo: str, directory: str) -> str:
    """Where a directory is published: `repo/directory`, or the repo's own path if the repo is that directory (named "")."""
    return f"{repo}/{directory}" if directory else repo


def is_below(repo: str, path: str) -> bool:
    """Whether a repo is at or below a path; every one is below the empty path."""
    return not path or repo == path or repo.startswith(f"{path}/")


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
    #: {repo: what is not known of it} for the repos that were made from what upstream said later of that time (`--as-of`)
    reconstructed: dict[str, str] = {}
    repos: dict[str, RepoState]
    #: id of the key that has signed it, so that a signature that is gone is missed; left out where none has
    signed: str | msgspec.UnsetType = msgspec.UNSET


#: what `snapshots/<id>.pages` holds: {repo: hexadecimal digest of a directory} that answers instead of the one that the
#: record names. It has the same leaves, and those that were asked for only later and made from what upstream said then.
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


class Copied(NamedTuple):
    """The files of one sealed snapshot, as they are in the store that it comes from."""

    record: bytes
    #: None if it has none
    signature: bytes | None
    #: what was told of its time later, see `Pages`; None if nothing was
    pages: bytes | None


def encode(value: Entry | Pin) -> bytes:
    """A record, tombstone or pin as it stands on disk: readable, keys sorted, so that the same state is the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def decode(data: bytes, type_: Any, what: str) -> Any:
    """A value of this type from one of the store's JSON files. Raises DamagedError, which names the file as `what`."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(what, f"can't be read: {error}") from None
