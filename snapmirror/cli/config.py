"""The configuration file: TOML into typed tables, with errors that name the file, the key and what would be right."""

import contextlib
import difflib
import os
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .. import clock, units
from ..ecosystem import Repo
from ..errors import ConfigError
from ..serve.settings import Serve
from ..store.catalog import RESERVED
from ..store.records import place_of
from ..store.retention import Retention
from ..sync.settings import Publish
from ..transfer.settings import Download
from .ecosystems import ECOSYSTEMS, AnyRepo

#: where a configuration is looked for if none is named
PLACES = (Path("snapmirror.toml"), Path("/etc/snapmirror.toml"))

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A whole configuration. Paths are absolute once `load` has returned it."""

    store: str = "store"
    #: where the LMDB index lies, if the store is on a network disk
    index: str | None = None
    #: how much `gc` leaves of what was fetched on demand and can be had again; "" for all
    max_cache: str = ""
    download: Download = Download()
    retention: Retention = Retention()
    publish: Publish = Publish()
    serve: Serve = Serve()
    repo: list[AnyRepo] = []

    def __post_init__(self) -> None:
        if self.max_cache:
            units.parse_size(self.max_cache)

    @property
    def store_path(self) -> Path:
        """The store's folder."""
        return Path(self.store)

    @property
    def index_path(self) -> Path | None:
        """The index, if it is not in the store."""
        return Path(self.index) if self.index else None


def load(path: Path, upstream: str = "") -> Config:
    """Read a configuration. Raises ConfigError.

    upstream: takes the place of what is configured, if there is only one `[[repo]]`
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "", "there is no such file (make one with `snapmirror init`)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, "", f"can't be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, "", f"is not TOML: {error}") from None
    try:
        config = msgspec.convert(content, Config)
    except msgspec.ValidationError as error:
        raise _explain(path, content, str(error)) from None
    if upstream and len(config.repo) == 1:
        config = msgspec.structs.replace(config, repo=[msgspec.structs.replace(config.repo[0], upstream=upstream)])
    base = path.resolve().parent
    repos: list[AnyRepo] = []
    for number, table in enumerate(config.repo, 1):
        where = f"[[repo]] number {number} ({table.path})"
        with _explained(path, where):
            table.__post_init__()  # upstream may have taken another's place
            expanded = [repo.below(base) for repo in table.expand()]
        for repo in expanded:
            _check_path(path, where, repo)
        repos += expanded
    _check_overlaps(path, repos)
    for repo in repos:
        with _explained(path, f"[[repo]] {repo.path}"):
            repo.check_beside({other.path: other for other in repos if other is not repo})
    index = str(base / config.index) if config.index else None
    log = config.serve.access_log
    serve = msgspec.structs.replace(config.serve, access_log=str(base / log) if log not in ("", "-") else log)
    paths = {"store": str(base / config.store), "index": index}
    download = config.download.found(base, os.environ)
    return msgspec.structs.replace(config, **paths, download=download, serve=serve, repo=repos)


def _explain(path: Path, content: dict[str, Any], message: str) -> ConfigError:
    """msgspec's message with the place as a person would name it, and a suggestion for a misspelt key."""
    found = _WHERE.match(message)
    problem, place = (found[1], found[2] or "") if found else (message, "")
    where = _name(place)
    if unknown := _UNKNOWN.match(problem):
        known = _keys(place, content)
        near = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        line = _line_of(path, unknown[1])
        return ConfigError(path, f"line {line}, {where}" if line else where, f"unknown key {unknown[1]!r}; {hint}")
    return ConfigError(path, where, problem[:1].lower() + problem[1:])


def _name(place: str) -> str:
    """`repo[0].subdirs` as a person says it: `[[repo]] number 1, key subdirs`."""
    if not place:
        return "top level"
    table, _, key = place.partition(".")
    if number := re.fullmatch(r"repo\[(\d+)\]", table):
        table = f"[[repo]] number {int(number[1]) + 1}"
    elif key or (table in Config.__struct_fields__ and isinstance(getattr(Config(), table), msgspec.Struct)):
        table = f"[{table}]"
    else:
        return f"key {table}"
    return f"{table}, key {key}" if key else table


def _keys(place: str, content: Any) -> list[str]:
    """The keys that are known at a place of a configuration, `repo[0].channels[1].select`."""
    table: type[msgspec.Struct] | None = Config
    for key, index in re.findall(r"(\w+)(?:\[(\d+|\.\.\.)\])?", place):
        types = _tables(typing.get_type_hints(table)[key]) if table else []
        content = content[key][int(index)] if index.isdecimal() else {} if index else content.get(key, {})
        table = next((one for one in types if one.__struct_config__.tag in (None, content.get("kind"))), None)
    if table is None:
        return []
    tag = table.__struct_config__.tag_field
    return [*([tag] if tag else []), *table.__struct_fields__]


def _tables(hint: Any) -> list[type[msgspec.Struct]]:
    """The tables that a key of this type may hold."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [table for part in typing.get_args(hint) for table in _tables(part)]


def _line_of(path: Path, key: str) -> int | None:
    pattern = re.compile(rf"\s*(\[+)?\s*[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), None)


@contextlib.contextmanager
def _explained(path: Path, where: str) -> Iterator[None]:
    """A ValueError of a table, which says what is wrong, as a ConfigError, which says where."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(path, where, str(error)) from None


def _check_path(path: Path, where: str, repo: Repo) -> None:
    segments = repo.path.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ConfigError(path, where, "path must be segments of letters, digits, `_`, `.`, `+` and `-`, joined by slashes")
    first = segments[0]
    if first in RESERVED or clock.from_id(first) or clock.parse_day(first):
        raise ConfigError(path, where, f"path begins with {first!r}, which in a URL names a date or is reserved")


def _check_overlaps(path: Path, repos: list[AnyRepo]) -> None:
    owners: dict[str, str] = {}
    for repo in repos:
        if repo.path in owners:
            raise ConfigError(path, "[[repo]]", f"two repos have the path {repo.path}; every path must be its own")
        owners[repo.path] = repo.path
    for repo in repos:
        for name in ECOSYSTEMS[repo.kind].directories(repo):
            place = f"{place_of(repo.path, name)}/"
            inside = next((other for other in owners if f"{other}/".startswith(place) and other != repo.path), None)
            if inside:
                problem = f"the path {inside} is, or is below, a directory of the repo {repo.path}"
                raise ConfigError(path, "[[repo]]", f"{problem}; give one of them another path")
