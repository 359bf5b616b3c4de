"""Set me up: the settings of a client, for repos and a date that are chosen on a calendar."""

from collections.abc import Mapping
from typing import Any

from .. import clock
from ..ecosystem.clients import Client, Mirror
from ..errors import SelectorError, UsageError
from ..serve import clients
from ..store.catalog import CURRENT
from ..store.records import Record
from ..sync.calendar import Days, month
from .calendar import Month, calendar
from .visit import Visit


def setup(visit: Visit) -> Mapping[str, Any]:
    """See pages.PAGES."""
    selector, now = visit.one("date", CURRENT), visit.store.now()
    problem, answers = "", dict[str, Record]()
    try:
        answers = visit.catalog.answers(selector, now)
    except SelectorError as error:
        problem = str(error)
    known = {client.name: client for client in clients.known(visit.ecosystems).values() if _paths(visit, answers, client)}
    client = known.get(visit.one("client")) or next(iter(known.values()), None)
    paths = _paths(visit, answers, client) if client else []
    picked = [path for path in visit.many("repo") if path in paths]
    platforms = _platforms(answers, paths) if client and "{platform}" in client.example else []
    platform = visit.one("platform")
    if platform not in platforms:
        platform = next((one for one in ("linux-64", *platforms) if one in platforms), "")
    settings = ""
    if client:
        try:
            mirror = Mirror(visit.base, selector, picked=picked)
            settings = clients.settings(visit.store, visit.ecosystems, client, mirror, visit.catalog)
        except (UsageError, SelectorError) as error:
            problem = problem or str(error)
    choice = {"client": client.name if client else "", "repo": picked, "platform": platform, "date": selector}
    newest = max((record.id for record in answers.values()), default="")
    return {
        "status": 404 if problem and visit.catalog.records else 200,
        "problem": problem,
        "clients": list(known),
        "client": client,
        "repos": paths,
        "picked": picked,
        "platforms": platforms,
        "platform": platform,
        "having": _having(answers, paths, platform),
        "selector": selector,
        "settings": settings,
        "example": client.example.replace("{platform}", platform) if client else "",
        "choice": choice,
        "newest": newest,
        "moving": _moving(selector, visit),
        "pins": sorted(visit.catalog.pins.values(), key=lambda pin: pin.snapshot, reverse=True),
        "month": _month(visit, newest),
    }


def _paths(visit: Visit, answers: Mapping[str, Record], client: Client) -> list[str]:
    """The repos that a client can use."""
    kinds = {kind for kind, ecosystem in visit.ecosystems.items() if client in ecosystem.clients}
    return [path for path, record in answers.items() if record.repos[path].kind in kinds]


def _platforms(answers: Mapping[str, Record], paths: list[str]) -> list[str]:
    return sorted({name for path in paths for name in answers[path].repos[path].directories if name not in ("", "noarch")})


def _having(answers: Mapping[str, Record], paths: list[str], platform: str) -> list[str]:
    """The repos that have something of their own for a platform."""
    return [path for path in paths if not platform or platform in answers[path].repos[path].directories]


def _moving(selector: str, visit: Visit) -> bool:
    """Whether what a selector means may yet change: it is `current`, or a day that is not over."""
    day = clock.parse_day(selector)
    return selector == CURRENT or (day is not None and clock.end_of(day) >= visit.store.now())


def _month(visit: Visit, newest: str) -> Month:
    """The month that is asked for, else that of the date that is chosen."""
    about = clock.from_id(newest)
    first, last = month(visit.one("month"), about.date() if about else visit.store.now().date())
    days: Days = visit.ask("calendar", begin=first.isoformat(), end=last.isoformat())
    return calendar(visit, days, first, selected=visit.one("date"))
