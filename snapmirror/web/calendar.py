"""A month as a table: weeks from Monday to Sunday, each day with what there is of it."""

import math
from datetime import date, timedelta
from typing import NamedTuple

from ..sync.calendar import Day, Days, following
from .visit import Visit

#: how strongly a day may be coloured
_LEVELS = 4


class Cell(NamedTuple):
    """A day."""

    #: 2026-11-20
    day: str
    #: of the month
    number: int
    #: what there is of it; None if there is no kept snapshot
    has: Day | None
    #: how much changed, from 0 to _LEVELS
    level: int
    #: what is read out, and shown where a mouse stays
    label: str
    selected: bool


class Month(NamedTuple):
    """A month."""

    #: 2026-11
    name: str
    #: each with seven days; None before the first and after the last
    weeks: list[list[Cell | None]]
    #: the months before and after it that have a snapshot, or lie between such; empty if there is none
    before: str
    after: str
    #: how many snapshots it has
    snapshots: int


def calendar(visit: Visit, days: Days, first: date, selected: str = "", most: int = 0) -> Month:
    """A month that begins with `first`.

    days: of it, and perhaps of other months
    most: what counts as much change; 0 for the most of the month
    """
    by_day = {one.day: one for one in days.days}
    end = following(first)
    mine = [one for one in days.days if first.isoformat() <= one.day < end.isoformat()]
    most = most or max((one.changed for one in mine), default=0)
    cells: list[Cell | None] = [None] * first.weekday()
    day = first
    while day < end:
        has = by_day.get(day.isoformat())
        cells.append(
            Cell(
                day.isoformat(),
                day.day,
                has,
                _level(has, most),
                label(visit, day.isoformat(), has),
                day.isoformat() == selected,
            )
        )
        day += timedelta(days=1)
    cells += [None] * (-len(cells) % 7)
    last_before = (first - timedelta(days=1)).isoformat()[:7] if first > date(1, 1, 31) else ""
    return Month(
        name=first.isoformat()[:7],
        weeks=[cells[at : at + 7] for at in range(0, len(cells), 7)],
        before=last_before if days.first and days.first < first.isoformat() else "",
        after=end.isoformat()[:7] if days.last and days.last >= end.isoformat() else "",
        snapshots=sum(len(one.snapshots) for one in mine),
    )


def _level(day: Day | None, most: int) -> int:
    if day is None or not day.changed or not most:
        return 0
    return min(_LEVELS, 1 + int((_LEVELS - 1) * math.log1p(day.changed) / math.log1p(most)))


def label(visit: Visit, day: str, has: Day | None) -> str:
    """A day in words."""
    if has is None:
        return visit.t("{day}: no snapshot", day=day)
    parts = [visit.t("{day}, snapshots: {count}", day=day, count=len(has.snapshots))]
    changed = "packages changed: about {count}" if has.estimated else "packages changed: {count}"
    parts.append(visit.t(changed, count=f"{has.changed:,}"))
    if has.pins:
        parts.append(visit.t("pins: {pins}", pins=", ".join(has.pins)))
    return ", ".join(parts)
