"""Which snapshots the configuration keeps, and forgetting: plan, then execute."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from .. import clock
from ..errors import UsageError
from .catalog import Catalog
from .records import Record
from .store import Store

#: so long clients go by an index that is no longer current: they, and caches on the way, keep one for some minutes
_OVERLAP = timedelta(hours=1)


class Retention(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """The `[retention]` table: how many snapshots of each kind to keep. All zero: keep everything."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        if min(msgspec.structs.astuple(self)) < 0:
            raise ValueError("no number of snapshots can be negative; leave all of them out to keep every snapshot")

    def __bool__(self) -> bool:
        return any(msgspec.structs.astuple(self))


_PERIODS: dict[str, Callable[[datetime], object]] = {
    "last": lambda instant: instant,
    "daily": lambda instant: instant.date(),
    "weekly": lambda instant: instant.isocalendar()[:2],
    "monthly": lambda instant: (instant.year, instant.month),
    "yearly": lambda instant: instant.year,
}


def keep(catalog: Catalog, retention: Retention, present: datetime) -> dict[str, str]:
    """The snapshots to keep, {id: reason}: those that must not be forgotten, and for every repo those that were current a
    moment ago, and the last one of each of the newest periods, in UTC.

    It is counted for every repo alone: a partial snapshot, dated to the end of a day, would push out the complete one of
    that day.
    """
    if not retention:
        return {record.id: "no retention is configured" for record in catalog.records}
    kept = {id_: reason for id_, reason in catalog.protected().items() if id_ in catalog.by_id}
    limit = clock.to_id(present - _OVERLAP)
    for repo in catalog.repos:
        history = catalog.history(repo)
        for new, old in pairwise(history):
            if new.id > limit:
                kept.setdefault(old.id, "it was current within the last hour")
        for name, period in _PERIODS.items():
            last_of: dict[object, str] = {}
            for record in history:
                if instant := clock.from_id(record.id):
                    last_of.setdefault(period(instant), record.id)
            for id_ in list(last_of.values())[: getattr(retention, name)]:
                kept.setdefault(id_, name)
    return kept


def plan_forget(catalog: Catalog, snapshots: Iterable[str], present: datetime) -> list[Record]:
    """The records that selectors name, each once.

    Raises UsageError if one of them is current or pinned, SelectorError where a selector names none or several.
    """
    protected = catalog.protected()
    found = {record.id: record for record in (catalog.single(text, present) for text in snapshots)}
    for id_ in found:
        if id_ in protected:
            raise UsageError(f"snapshot {id_} can't be forgotten: {protected[id_]}")
    return list(found.values())


def plan_retention(catalog: Catalog, retention: Retention, present: datetime) -> list[Record]:
    """The records that the configuration does not keep."""
    kept = keep(catalog, retention, present)
    return [record for record in catalog.records if record.id not in kept]


def execute_forget(store: Store, catalog: Catalog, records: Collection[Record]) -> None:
    """Put a tombstone in the place of each record. The caller holds the store's lock.

    Links go before the records that they are made from; the bytes go with the next gc.
    """
    if not records:
        return
    store.make_room()
    present = store.now()
    after = catalog.forgetting(records, present)
    store.published.refresh(after, present)
    for record in records:
        store.snapshots.write(after.by_id[record.id])
        store.snapshots.remove_pages(record.id)
