"""What a copy has to bring: snapshots of another store are compared with those here. Pure functions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from .. import clock
from ..digests import is_hex_digest
from ..errors import SnapmirrorError
from ..store.catalog import Catalog, is_pin_name
from ..store.denied import Rule
from ..store.listing import FORMAT, Listed, Listing
from ..store.records import Pin, Record, Tombstone


class CopyError(SnapmirrorError):
    """Snapshots that can't be brought from where they are to come from."""

    def __init__(self, origin: str, problem: str) -> None:
        #: a URL, a folder, or an export file
        self.origin = origin
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.origin}: {self.problem}"


class Here(NamedTuple):
    """What this store has."""

    catalog: Catalog
    #: {id: SHA-256 of the record's file in hexadecimal}, of records
    records: dict[str, str]
    #: {id: the same of what was told of its time later}
    pages: dict[str, str]
    denied: Sequence[Rule]


class Wanted(NamedTuple):
    """What is asked for of an origin, as ids of snapshots."""

    asked: Collection[str]
    #: what `current` would mean if no more were here than up to the last that is asked for: it must be kept
    current: Collection[str] = ()
    #: whether somebody has named what is asked for: then it is brought even if it was forgotten here
    named: bool = False
    #: of an export: id and digest of the snapshot that it builds on, None if it builds on none
    base: tuple[str, str] | None = None
    #: whether the origin may be older than what this store has of the same source
    dated: bool = False


@dataclass(frozen=True)
class ToBring:
    """What is lacking here."""

    #: by number
    records: list[Listed] = field(default_factory=list)
    #: snapshots that are not brought and get a tombstone, by number: a selector that means one must not mean an older one
    tombstones: list[Listed] = field(default_factory=list)
    #: records that are here, of which more was told later
    pages: list[Listed] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    denied: list[Rule] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.records, self.tombstones, self.pages, self.pins, self.denied))


def decode_listing(origin: str, content: bytes) -> Listing:
    """A listing that comes from elsewhere. Raises CopyError for one that is none: ids and names become names of files."""
    try:
        listing = msgspec.json.decode(content, type=Listing)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CopyError(origin, f"gives no list of snapshots: {error}") from None
    check_listing(origin, listing)
    return listing


def check_listing(origin: str, listing: Listing) -> None:
    """Raise CopyError unless a listing says what it should, and has no gap."""
    if listing.format != FORMAT:
        raise CopyError(
            origin, f"its list of snapshots has format {listing.format}, this version knows {FORMAT}; upgrade snapmirror"
        )
    ids = [one.id for one in listing.snapshots]
    if not all(map(clock.from_id, ids)) or ids != sorted(set(ids)):
        raise CopyError(origin, "its list of snapshots has ids that are none, or not in order")
    if any(not one.forgotten and one.sha256 is None for one in listing.snapshots):
        raise CopyError(origin, "its list of snapshots lacks digests of records")
    if sorted(one.number for one in listing.snapshots) != list(range(1, len(ids) + 1)):
        raise CopyError(origin, "has lost a snapshot: their numbers have a gap; run `snapmirror check` there")
    if not all(is_pin_name(pin.name) and clock.from_id(pin.snapshot) for pin in listing.pins):
        raise CopyError(origin, "its list of snapshots has a pin that is none")
    if not all(rule.repo or is_hex_digest(rule.spec) for rule in listing.denied):
        raise CopyError(origin, "its list of what is denied has what is no digest")


def choose(listing: Listing, selectors: Sequence[str], present: datetime) -> Wanted:
    """What selectors mean there; all that is kept if there are none. Raises SelectorError."""
    catalog = listing.catalog()
    if not selectors:
        return Wanted({record.id for record in catalog.records})
    asked = {record.id for selector in selectors for record in catalog.answers(selector, present).values()}
    last = max(one.number for one in listing.snapshots if one.id in asked)
    until = Catalog(tuple(entry for entry in catalog.entries if entry.number <= last))
    return Wanted(asked, until.protected().keys() & {record.id for record in until.records}, named=True)


def to_bring(origin: str, listing: Listing, wanted: Wanted, here: Here) -> ToBring:
    """What is to be brought here.

    Raises CopyError where this store is no copy of the same snapshots, or lacks what the origin builds on.
    """
    _compare(origin, listing, here)
    known = here.catalog.by_id
    last = max((one.number for one in listing.snapshots if one.id in wanted.asked or not wanted.named), default=0)
    lacking = sorted((one for one in listing.snapshots if one.id not in known and one.number <= last), key=_number)
    again = [one for one in listing.snapshots if wanted.named and isinstance(known.get(one.id), Tombstone)]
    brought = [one for one in lacking if one.id in wanted.asked or one.id in wanted.current]
    brought = sorted([one for one in (*brought, *again) if one in brought or one.id in wanted.asked], key=_number)
    brought = [one for one in brought if not one.forgotten]
    if lacking or not wanted.dated:
        _refuse_own(origin, listing, here)
    if wanted.base and (lacking or brought) and here.records.get(wanted.base[0]) != wanted.base[1]:
        raise CopyError(origin, f"builds on snapshot {wanted.base[0]}, which is not in this store; import what holds it first")
    ids = {one.id for one in brought}
    kept = ids | here.records.keys()
    rules = {(rule.repo, rule.spec): rule for rule in here.denied}
    return ToBring(
        records=brought,
        tombstones=[one for one in lacking if one.id not in ids],
        pages=[
            one
            for one in listing.snapshots
            if one.id in here.records and one.id in wanted.asked and one.pages and one.pages != here.pages.get(one.id)
        ],
        pins=[pin for pin in listing.pins if pin.snapshot in kept and _is_news(pin, here.catalog.pins.get(pin.name), wanted)],
        denied=[rule for rule in listing.denied if not _covers(rules.get((rule.repo, rule.spec)), rule)],
    )


def _number(one: Listed) -> int:
    return one.number


def _is_news(pin: Pin, held: Pin | None, wanted: Wanted) -> bool:
    """Whether a pin is to be brought. held: the one of its name here, which may have been moved since a file was written"""
    return held is None or (pin != held and not (wanted.dated and pin.set < held.set))


def _covers(held: Rule | None, rule: Rule) -> bool:
    return held is not None and {file.sha256 for file in held.files} >= {file.sha256 for file in rule.files}


def _compare(origin: str, listing: Listing, here: Here) -> None:
    """Raise CopyError if a snapshot is another one here than there."""
    for one in listing.snapshots:
        known = here.catalog.by_id.get(one.id)
        other = known is not None and (
            known.number != one.number
            or (isinstance(known, Record) and not one.forgotten and here.records[one.id] != one.sha256)
        )
        if other:
            raise CopyError(origin, f"snapshot {one.id} is another one here: this store is no copy of that one. {_NEW_STORE}")


_NEW_STORE = "Copy into a store of its own"


def _refuse_own(origin: str, listing: Listing, here: Here) -> None:
    theirs = {one.id for one in listing.snapshots}
    for entry in here.catalog.entries:
        if entry.id not in theirs:
            raise CopyError(
                origin,
                f"lacks snapshot {entry.id} of this store, which is no copy of it: it has snapshots of its own. {_NEW_STORE}",
            )
