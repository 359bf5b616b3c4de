"""The API for programs below `/-/api/v1/`: what can be asked, what comes back, and the OpenAPI document that says so.

Answers are values of this layer, as `--json` prints them. The server hands in what a request says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .. import __version__
from ..digests import is_hex_digest
from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.store import Store
from . import compare, history, shown
from .compare import Differences
from .history import Log
from .onefile import OneFile
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


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Any answer with a status of 400 and more."""

    message: str


class Parameter(NamedTuple):
    """Something that a request says."""

    name: str
    description: str
    #: whether it is part of the path, and not of the query
    in_path: bool = True


class Asked(NamedTuple):
    """One request."""

    store: Store
    ecosystems: Mapping[str, Ecosystem]
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


_SELECTOR = "`current`, a date, a time, an id or a pin"
_REPO = Parameter("repo", "only repos at or below this path", in_path=False)
#: snapshots in one answer
_PAGE = 1000


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
    record = asked.catalog.view(asked.given["selector"], asked.store.now())
    snapshot = shown.of_record(asked.store, record)
    fields = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
    return Full(**fields, withheld=shown.withheld(asked.store, record))


def _diff(asked: Asked) -> Differences:
    old, new = (asked.catalog.view(asked.given[name], asked.store.now()) for name in ("old", "new"))
    return compare.records(asked.store, asked.ecosystems, old, new, _repos(asked, {**old.repos, **new.repos}))


def _log(asked: Asked) -> Log:
    held = {path: None for record in asked.catalog.records for path in record.repos}
    return history.log(asked.store, asked.ecosystems, asked.catalog, asked.given["name"], _repos(asked, held))


def _which(asked: Asked) -> Which:
    what = asked.given["what"]
    sha256 = bytes.fromhex(what) if is_hex_digest(what) else None
    file = OneFile(asked.ecosystems, "" if sha256 else what, sha256)
    return Questions(asked.store, asked.ecosystems, asked.catalog, [], "").answer(what, file)


def _repos(asked: Asked, held: Mapping[str, object]) -> set[str]:
    """The repos that are meant. Raises UsageError if there is none."""
    only = asked.given.get("repo", "").strip("/")
    found = {path for path in held if not only or path == only or path.startswith(f"{only}/")}
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
        "log/{name}",
        "When files of a package appeared, changed, were yanked or hot-fixed, and vanished",
        (Parameter("name", "a package, NAME==VERSION, or the name of a file"), _REPO),
        Log,
        _log,
    ),
    Endpoint(
        "which/{what}",
        "The snapshots that have a file",
        (Parameter("what", "the name of a file, or its SHA-256 in hexadecimal"),),
        Which,
        _which,
    ),
)


class Api:
    """Answers requests. Fulfils serve.api.Api."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem]) -> None:
        self._store = store
        self._ecosystems = ecosystems

    def answer(self, path: str, query: Mapping[str, str], catalog: Catalog) -> bytes | None:
        """The JSON for a decoded path below `/-/api/v1/`; None if there is nothing of that kind.

        Raises SelectorError, UsageError, DamagedError.
        """
        if path == "openapi.json":
            return msgspec.json.encode(openapi())
        for endpoint in ENDPOINTS:
            if (given := _match(endpoint, path)) is not None:
                known = [one.name for one in endpoint.parameters if not one.in_path]
                if unknown := sorted(query.keys() - known):
                    raise UsageError(f"{unknown[0]}: there is no such parameter (there are: {', '.join(known) or 'none'})")
                asked = Asked(self._store, self._ecosystems, catalog, {**query, **given})
                return msgspec.json.encode(endpoint.answer(asked))
        return None


def _match(endpoint: Endpoint, path: str) -> dict[str, str] | None:
    """{parameter: what a path has in its place}; None if the path is no such question."""
    parts, segments = endpoint.path.split("/"), path.split("/")
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
    about = {"title": "snapmirror", "version": __version__, "description": "What a mirror with a memory holds, and held."}
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
        "operationId": endpoint.path.partition("/")[0] + ("_one" if endpoint.path == "snapshots/{selector}" else ""),
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "the answer", "content": content(result)},
            "default": {"description": "why there is none", "content": content(error)},
        },
    }
