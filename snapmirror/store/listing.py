"""What a store has to give to a copy of it: a list that comes before the bytes (man snapmirror-store, section COPIES)."""

from pathlib import Path

import msgspec

from ..digests import sha256
from . import records
from .catalog import Catalog
from .denied import Rule
from .layout import Layout
from .records import Entry, Hex, Pin, Record, RepoState, Tombstone
from .snapshots import read
from .store import Store

FORMAT = 1


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A snapshot, or what is left of a forgotten one."""

    id: str
    number: int
    partial: bool = False
    #: paths of the repos that it holds or held
    repos: list[str]
    #: when it was forgotten, in the form of an id; empty for a record that is kept
    forgotten: str = ""
    #: of the record's bytes; empty where it was forgotten
    sha256: Hex | None = None
    #: of the signature's, and of what was told of its time later; None where there is none
    signature: Hex | None = None
    pages: Hex | None = None

    def tombstone(self, present: str) -> Tombstone:
        """What stands for it where it is not kept. present: the time, in the form of an id."""
        return Tombstone(
            id=self.id, number=self.number, partial=self.partial, forgotten=self.forgotten or present, repos=sorted(self.repos)
        )


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All snapshots of a store, by id, with its pins and what its operator denies."""

    format: int = FORMAT
    snapshots: list[Listed]
    pins: list[Pin]
    denied: list[Rule]

    def catalog(self) -> Catalog:
        """The same for finding what selectors mean; its records name repos, and nothing of what they hold."""
        return Catalog(tuple(map(_outline, self.snapshots)), {pin.name: pin for pin in self.pins})


def _outline(listed: Listed) -> Entry:
    if listed.forgotten:
        return listed.tombstone("")
    repos = {path: RepoState(kind="", directories={}) for path in listed.repos}
    return Record(id=listed.id, number=listed.number, partial=listed.partial, repos=repos)


def listing_of(store: Store) -> Listing:
    """What a store has now. Raises DamagedError."""
    listed = []
    for path in sorted(store.layout.snapshots.glob("[!.]*.json")):
        content = path.read_bytes()
        entry: Entry = records.decode(content, Entry, f"snapshots/{path.name}")
        if isinstance(entry, Tombstone):
            listed.append(
                Listed(id=entry.id, number=entry.number, partial=entry.partial, repos=entry.repos, forgotten=entry.forgotten)
            )
        else:
            listed.append(_listed(store.layout, entry, content))
    return Listing(snapshots=listed, pins=list(store.catalog().pins.values()), denied=store.denied.rules())


def _listed(layout: Layout, record: Record, content: bytes) -> Listed:
    return Listed(
        id=record.id,
        number=record.number,
        partial=record.partial,
        repos=list(record.repos),
        sha256=sha256(content).hex(),
        signature=_digest_of(layout.signature(record.id)),
        pages=_digest_of(layout.pages(record.id)),
    )


def _digest_of(path: Path) -> str | None:
    content = read(path)
    return None if content is None else sha256(content).hex()
