"""The pages of snapshots: all of them on a calendar, one of them, two compared, and where their folders are."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ..errors import SelectorError, UsageError
from ..store.catalog import CURRENT
from ..store.records import Record
from ..sync.api import Changes, Full
from ..sync.calendar import Days, day_of
from ..sync.compare import WHAT
from .calendar import calendar
from .visit import Visit, quoted

#: snapshots, and changes, on one page
_SNAPSHOTS = 60
_CHANGES = 300
#: files that are withheld
_WITHHELD = 200


def every(visit: Visit) -> Mapping[str, Any]:
    """All snapshots of a year. See pages.PAGES."""
    records = visit.catalog.records
    years = list(dict.fromkeys(record.id[:4] for record in reversed(records)))
    year = visit.one("year", years[0] if years else "")
    if years and year not in years:
        raise SelectorError(year[:40], f"there is no snapshot of that year; there are some of {', '.join(years)}")
    days: Days | None = visit.ask("calendar", begin=f"{year}-01-01", end=f"{year}-12-31") if years else None
    most = max((one.changed for one in days.days), default=0) if days else 0
    months = [calendar(visit, days, date(int(year), number, 1), most=most) for number in range(1, 13)] if days else []
    of_year = [record for record in reversed(records) if record.id[:4] == year]
    offset = visit.number("offset")
    rows = of_year[offset : offset + _SNAPSHOTS]
    return {
        "year": year,
        "years": years,
        "months": [month for month in months if month.snapshots],
        "count": len(of_year),
        "rows": rows,
        "offset": offset,
        "step": _SNAPSHOTS,
        "changes": {record.id: _change(records, record.id) for record in rows},
        "pins": _pins(visit),
    }


def _change(records: Sequence[Record], id_: str) -> Mapping[str, str]:
    """What the page `compare` is asked for what a record changed, empty if there is nothing to compare it with.

    records: all that are kept, oldest first; id_: of this one. A partial record says nothing of repos that it does not hold: it
    is compared with the newest before it that says something of each of its repos, and others are left out.
    """
    place = bisect_left(records, id_, key=lambda one: one.id)
    record, earlier = records[place], records[:place][::-1]
    held = record.repos.keys()
    known = {repo for repo in held if any(repo in one.repos for one in earlier)}
    for old in earlier:
        if known <= old.repos.keys() or not (record.partial or old.partial):
            more = record.partial and not old.repos.keys() <= held
            if not more or len(held) == 1:
                return {"old": old.id, "new": record.id, "repo": next(iter(held)) if more else ""}
    return {}


def _pins(visit: Visit) -> Mapping[str, list[str]]:
    """{id: the names of its pins}"""
    found: dict[str, list[str]] = {}
    for name, pin in sorted(visit.catalog.pins.items()):
        found.setdefault(pin.snapshot, []).append(name)
    return found


def one(visit: Visit) -> Mapping[str, Any]:
    """One snapshot. See pages.PAGES."""
    selector = visit.one("id", CURRENT)
    found: Full = visit.ask(f"snapshots/{quoted(selector, whole=True)}")
    record = visit.catalog.by_id.get(found.id)
    withheld = [(directory, file, why) for directory, files in found.withheld.items() for file, why in files.items()]
    ids = [record.id for record in visit.catalog.records]
    place = ids.index(found.id) if found.id in ids else -1
    return {
        "selector": selector,
        "snapshot": found,
        "signed": record.signed or "" if isinstance(record, Record) else "",
        "withheld": withheld[:_WITHHELD],
        "withheld_count": len(withheld),
        "change": _change(visit.catalog.records, found.id) if place >= 0 else {},
        "before": ids[place - 1] if place > 0 else "",
        "after": ids[place + 1] if 0 <= place < len(ids) - 1 else "",
        "pins": _pins(visit).get(found.id, []),
    }


def compare(visit: Visit) -> Mapping[str, Any]:
    """What differs between two snapshots. See pages.PAGES."""
    records = visit.catalog.records
    latest = _change(records, records[-1].id) if records and not (visit.one("old") or visit.one("new")) else {}
    old, new = (visit.one(name, latest.get(name, CURRENT)) for name in ("old", "new"))
    repo, what, text = visit.one("repo", latest.get("repo", "")), visit.one("what"), visit.one("q")
    path = f"changes/{quoted(old, whole=True)}/{quoted(new, whole=True)}"
    found: Changes = visit.ask(path, repo=repo, what=what, q=text)
    offset = visit.number("offset")
    counts = {kind: sum(one.what == kind for one in found.changes) for kind in WHAT}
    return {
        "old": old,
        "new": new,
        "old_id": found.old,
        "new_id": found.new,
        "json": visit.api(path, repo=repo, what=what, q=text),
        "repo": repo,
        "repos": sorted({path for record in records for path in record.repos}),
        "what": what,
        "text": text,
        "rows": found.changes[offset : offset + _CHANGES],
        "count": len(found.changes),
        "counts": counts,
        "offset": offset,
        "step": _CHANGES,
    }


def browse(visit: Visit) -> Mapping[str, Any]:
    """Where the folders of all snapshots are. See pages.PAGES."""
    records = visit.catalog.records[::-1]
    years = list(dict.fromkeys(record.id[:4] for record in records))
    year = visit.one("year", years[0] if years else "")
    if years and year not in years:
        raise UsageError(f"year={year[:40]}: there is no snapshot of that year")
    of_year = [record.id for record in records if record.id[:4] == year]
    try:
        current = list(visit.catalog.answers(CURRENT, visit.store.now()))
    except SelectorError:
        current = []
    return {
        "year": year,
        "years": years,
        "current": current,
        "days": list(dict.fromkeys(map(day_of, of_year))),
        "ids": of_year,
        "pins": sorted(visit.catalog.pins.values(), key=lambda pin: pin.name),
    }
