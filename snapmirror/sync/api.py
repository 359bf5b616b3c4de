"""The API for programs below `/-/api/v1/`: what can be asked, what comes back, and the OpenAPI document that says so.

Answers are values of this layer, as `--json` prints them. The server hands in what a request says.
"""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .. import clock, version
from ..digests import is_hex_digest
from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.records import Record, is_below
from ..store.store import Store
from . import compare, health, history, packages, shown
from .calendar import Calendar, Days, month
from .compare import Differences, NameChange
from .health import Health
from .history import Log
from .onefile import OneFile
from .packages import Package
from .searcher import Names, Searcher
from .shown import Snapshot
from .which import Questions, Which


class Pinned(Snapshot, frozen=True, kw_only=True):
    """A snapshot of the list of all."""

    pins: list[str]


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """All kept snapshots, newest first, as far as they were asked for."""

    snapshots: list[Pinned]
    #: id to ask for as `before` to get the next ones; null if these are all
    next: str | None


class Full(Snapshot, frozen=True, kw_only=True):
    """What a selector means: of each repo the state that it answers."""

    #: {"repo/directory": {file: reason}}
    withheld: dict[str, dict[str, str]]
    #: {repo that is left out: which snapshot of it was forgotten}
    forgotten: dict[str, str]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The packages that differ between two snapshots."""

    #: their ids
    old: str
    new: str
    changes: list[NameChange]


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Any answer with a status of 400 and more."""

    message: str


class Parameter(NamedTuple):
    """Something that a request says."""

    name: str
    description: str
    #: whether it is part of the path, and not of the query
    in_path: bool = True


class Kept(NamedTuple):
    """What one process keeps between requests, so that it need not be read again."""

    searcher: Searcher
    calendar: Calendar

    @classmethod
    def of(cls, store: Store) -> "Kept":
        """Empty ones for a store."""
        return cls(Searcher(store), Calendar(store))


class Asked(NamedTuple):
    """One request."""

    store: Store
    ecosystems: Mapping[str, Ecosystem]
    kept: Kept
    catalog: Catalog
    #: {name of a parameter: its value}; those of the query that are not given are missing
    given: Mapping[str, str]


class Endpoint(NamedTuple):
    """One kind of request."""

    #: below `/-/api/v1/`, with the parameters in braces
    path: str
    summary: str
    parameters: Sequence[Parameter]
    result: type[msgspec.Struct]
    #: raises SelectorError for what names no snapshot, UsageError, DamagedError
    answer: Callable[[Asked], msgspec.Struct]
    #: whether the answer stays as it is while no snapshot, pin or denial changes
    lasting: bool = True


_SELECTOR = "`current`, a date, a time, an id or a pin"
_REPO = Parameter("repo", "only repos at or below this path", in_path=False)
#: snapshots in one answer
_PAGE = 1000
#: names in one answer
FOUND = 100


def _snapshots(asked: Asked) -> Snapshots:
    before, pins = asked.given.get("before", "~"), dict[str, list[str]]()
    for pin in asked.catalog.pins.values():
        pins.setdefault(pin.snapshot, []).append(pin.name)
    records = [record for record in reversed(asked.catalog.records) if record.id < before]
    found = []
    for record in records[:_PAGE]:
        snapshot = shown.of_record(asked.store, record)
        fields = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
        found.append(Pinned(**fields, pins=sorted(pins.get(record.id, []))))
    return Snapshots(snapshots=found, next=found[-1].id if len(records) > _PAGE else None)


def _snapshot(asked: Asked) -> Full:
    selector, now = asked.given["selector"], asked.store.now()
    record = asked.catalog.view(selector, now)
    snapshot = shown.of_record(asked.store, record)
    fields = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
    gone = shown.forgotten(asked.catalog, selector, now)
    return Full(**fields, withheld=shown.withheld(asked.store, record), forgotten=gone)


def _diff(asked: Asked) -> Differences:
    old, new = _pair(asked)
    return compare.records(asked.store, asked.ecosystems, old, new, _repos(asked, {**old.repos, **new.repos}))


def _pair(asked: Asked) -> tuple[Record, Record]:
    """What is to be compared. Raises SelectorError."""
    return asked.catalog.pair(asked.given["old"], asked.given["new"], _only(asked), asked.store.now())


def _changes(asked: Asked) -> Changes:
    old, new = _pair(asked)
    what, text = asked.given.get("what", ""), asked.given.get("q", "").casefold()
    if what not in ("", *compare.WHAT):
        raise UsageError(f"what={what[:40]}: is none of {', '.join(compare.WHAT)}")
    found = compare.names(asked.store, old, new, _repos(asked, {**old.repos, **new.repos}))
    changes = [one for one in found if what in ("", one.what) and text in one.name.casefold()]
    return Changes(old=old.id, new=new.id, changes=changes)


def _calendar(asked: Asked) -> Days:
    now = asked.store.now().date()
    days = []
    for name, begins in (("begin", True), ("end", False)):
        text = asked.given.get(name, "")
        day = clock.parse_day(text)
        if text and not day:
            raise UsageError(f"{name}={text}: no day; write one as 2026-11-20")
        days.append(day or month("", now)[not begins])
    return asked.kept.calendar.days(asked.catalog, days[0], days[1])


def _packages(asked: Asked) -> Names:
    offset = asked.given.get("offset", "0")
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 10):
        raise UsageError(f"offset={offset[:40]}: no number")
    repos = _repos(asked, _held(asked)) if asked.given.get("repo") else None
    return asked.kept.searcher.search(asked.catalog, asked.given.get("q", ""), repos, FOUND, int(offset))


def _package(asked: Asked) -> Package:
    return packages.package(asked.store, asked.ecosystems, asked.catalog, asked.given["name"], _repos(asked, _held(asked)))


def _health(asked: Asked) -> Health:
    return health.health(asked.store, asked.catalog)


def _log(asked: Asked) -> Log:
    return history.log(asked.store, asked.ecosystems, asked.catalog, asked.given["name"], _repos(asked, _held(asked)))


def _which(asked: Asked) -> Which:
    what = asked.given["what"]
    sha256 = bytes.fromhex(what) if is_hex_digest(what.lower()) else None
    file = OneFile(asked.ecosystems, "" if sha256 else what, sha256)
    return Questions(asked.store, asked.ecosystems, asked.catalog, [], "").answer(what, file)


def _held(asked: Asked) -> dict[str, None]:
    """The repos of all kept snapshots."""
    return {path: None for record in asked.catalog.records for path in record.repos}


def _only(asked: Asked) -> str:
    """The path at or below which repos are meant; empty for all."""
    return asked.given.get("repo", "").strip("/")


def _repos(asked: Asked, held: Mapping[str, object]) -> set[str]:
    """The repos that are meant. Raises UsageError if there is none."""
    only = _only(asked)
    found = {path for path in held if is_below(path, only)}
    if only and not found:
        raise UsageError(f"{only}: there is no repo at or below it")
    return found


ENDPOINTS = (
    Endpoint(
        "snapshots",
        "All kept snapshots, newest first",
        (Parameter("before", "only snapshots before this id, for the next ones", in_path=False),),
        Snapshots,
        _snapshots,
    ),
    Endpoint("snapshots/{selector}", "One snapshot", (Parameter("selector", _SELECTOR),), Full, _snapshot),
    Endpoint(
        "diff/{old}/{new}",
        "The files that were added, removed or changed between two snapshots",
        (Parameter("old", _SELECTOR), Parameter("new", _SELECTOR), _REPO),
        Differences,
        _diff,
    ),
    Endpoint(
        "changes/{old}/{new}",
        "The packages that were added, removed or changed between two snapshots: in a moment, also for years",
        (
            Parameter("old", _SELECTOR),
            Parameter("new", _SELECTOR),
            _REPO,
            Parameter("what", f"only what was {', '.join(compare.WHAT)}", in_path=False),
            Parameter("q", "only names that contain this, whatever its case", in_path=False),
        ),
        Changes,
        _changes,
    ),
    Endpoint(
        "calendar",
        "What there is of each day: snapshots, pins, and how much changed",
        (
            Parameter("begin", "the first day, 2026-11-01; else that of this month", in_path=False),
            Parameter("end", "the last day; else that of this month", in_path=False),
        ),
        Days,
        _calendar,
    ),
    Endpoint(
        "packages",
        "Packages by name, in all kept snapshots",
        (
            Parameter("q", "part of the name", in_path=False),
            _REPO,
            Parameter("offset", f"how many to pass over: an answer has {FOUND}", in_path=False),
        ),
        Names,
        _packages,
        lasting=False,
    ),
    Endpoint(
        "packages/{name}",
        "All files of a package, and which snapshots have each",
        (Parameter("name", "a package, NAME==VERSION, or the name of a file"), _REPO),
        Package,
        _package,
    ),
    Endpoint("health", "How the mirror fares", (), Health, _health, lasting=False),
    Endpoint(
        "log/{name}",
        "When files of a package appeared, changed, were yanked or hot-fixed, and vanished",
        (Parameter("name", "a package, NAME==VERSION, or the name of a file"), _REPO),
        Log,
        _log,
    ),
    Endpoint(
        "which/{what}",
        "The snapshots that have a file",
        (Parameter("what", "the name of a file, its path in a repo of kind files, or its SHA-256 in hexadecimal"),),
        Which,
        _which,
    ),
)


#: those about one of what another endpoint lists
_SINGLE = ("snapshots/{selector}", "packages/{name}")


class Api:
    """Answers requests. Fulfils serve.api.Api."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem]) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._kept = Kept.of(store)

    def ask(self, path: str, query: Mapping[str, str], catalog: Catalog) -> msgspec.Struct | None:
        """The answer for a raw path below `/-/api/v1/`; None if there is nothing of that kind. Raises as `answer`."""
        for endpoint in ENDPOINTS:
            if (given := _match(endpoint, path)) is not None:
                known = [one.name for one in endpoint.parameters if not one.in_path]
                if unknown := sorted(query.keys() - known):
                    raise UsageError(f"{unknown[0]}: there is no such parameter (there are: {', '.join(known) or 'none'})")
                return endpoint.answer(Asked(self._store, self._ecosystems, self._kept, catalog, {**query, **given}))
        return None

    def lasts(self, path: str) -> bool:
        """See serve.api.Api."""
        return not any(_match(endpoint, path) is not None and not endpoint.lasting for endpoint in ENDPOINTS)

    def answer(self, path: str, query: Mapping[str, str], catalog: Catalog) -> bytes | None:
        """The JSON for a raw path below `/-/api/v1/`; None if there is nothing of that kind.

        Raises SelectorError, UsageError, DamagedError.
        """
        if path == "openapi.json":
            return msgspec.json.encode(openapi())
        found = self.ask(path, query, catalog)
        return None if found is None else msgspec.json.encode(found)


def _match(endpoint: Endpoint, path: str) -> dict[str, str] | None:
    """{parameter: what a path has in its place}; None if the path is no such question.

    A name at the end may hold slashes, encoded or not: proxies decode them.
    """
    parts = endpoint.path.split("/")
    segments = list(map(urllib.parse.unquote, path.split("/", len(parts) - 1)))
    if len(parts) != len(segments):
        return None
    pairs = list(zip(parts, segments, strict=True))
    if not all(segment if part.startswith("{") else segment == part for part, segment in pairs):
        return None
    return {part[1:-1]: segment for part, segment in pairs if part.startswith("{")}


def openapi() -> dict[str, Any]:
    """The description of all this (OpenAPI 3.1)."""
    types = (*(endpoint.result for endpoint in ENDPOINTS), Error)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    *results, error = schemas
    paths = {
        f"/{endpoint.path}": {"get": _operation(endpoint, result, error)}
        for endpoint, result in zip(ENDPOINTS, results, strict=True)
    }
    about = {"title": "snapmirror", "version": version(), "description": "What a mirror with a memory holds, and held."}
    return {"openapi": "3.1.0", "info": about, "servers": [{"url": "."}], "paths": paths, "components": {"schemas": components}}


def _operation(endpoint: Endpoint, result: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, Any]:
    def content(schema: Mapping[str, Any]) -> dict[str, Any]:
        return {"application/json": {"schema": schema}}

    parameters = [
        {
            "name": one.name,
            "in": "path" if one.in_path else "query",
            "required": one.in_path,
            "description": one.description,
            "schema": {"type": "string"},
        }
        for one in endpoint.parameters
    ]
    return {
        "operationId": endpoint.path.partition("/")[0] + ("_one" if endpoint.path in _SINGLE else ""),
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "the answer", "content": content(result)},
            "default": {"description": "why there is none", "content": content(error)},
        },
    }
