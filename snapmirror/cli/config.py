"""The configuration file: TOML into typed tables, with errors that name the file, the key and what would be right."""

import difflib
import os
import re
import tomllib
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import clock, units
from ..conda import CondaRepo
from ..conda.settings import Channel, Select
from ..ecosystem import Repo
from ..errors import ConfigError
from ..files import FilesRepo
from ..pypi import PypiRepo
from ..serve.settings import Serve
from ..store.catalog import RESERVED
from ..store.records import place_of
from ..store.retention import Retention
from ..sync.settings import Publish
from ..transfer.settings import Auth, Download, Host

#: where a configuration is looked for if none is named
PLACES = (Path("snapmirror.toml"), Path("/etc/snapmirror.toml"))

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
#: the tables that a `[[repo]]` may be
AnyRepo = CondaRepo | FilesRepo | PypiRepo
_KINDS: dict[object, type[AnyRepo]] = {"conda": CondaRepo, "files": FilesRepo, "pypi": PypiRepo}
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
        for repo in _expand(path, where, table):
            _check_repo(path, where, repo)
            repos.append(repo.below(base))
    _check_merges(path, repos)
    _check_overlaps(path, repos)
    _check_dependencies(path, repos)
    index = str(base / config.index) if config.index else None
    log = config.serve.access_log
    serve = msgspec.structs.replace(config.serve, access_log=str(base / log) if log not in ("", "-") else log)
    paths = {"store": str(base / config.store), "index": index}
    download = config.download.found(base, os.environ)
    return msgspec.structs.replace(config, **paths, download=download, serve=serve, repo=repos)


def _expand(path: Path, where: str, table: AnyRepo) -> Sequence[AnyRepo]:
    """The repos of one table. msgspec.structs.replace does not check again what a channel has of its own."""
    try:
        repos = table.expand() if isinstance(table, CondaRepo) else [table]
        for repo in repos:
            repo.__post_init__()
    except ValueError as error:
        raise ConfigError(path, where, str(error)) from None
    return repos


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


def _keys(place: str, content: dict[str, Any]) -> list[str]:
    """The keys that are known at a place of a configuration."""
    if ".channels[" in place:
        return list((Select if place.endswith(".select") else Channel).__struct_fields__)
    if number := re.match(r"repo\[(\d+)\]", place):
        repo = _KINDS[content["repo"][int(number[1])]["kind"]]
        if not place.endswith(".select"):
            return ["kind", *repo.__struct_fields__]
        select = next(field.default for field in msgspec.structs.fields(repo) if field.name == "select")
        return list(select.__struct_fields__)
    if place.startswith("download.hosts["):
        return list((Auth if place.endswith(".auth") else Host).__struct_fields__)
    table = getattr(Config(), place, None) if place else Config()
    return list(table.__struct_fields__) if isinstance(table, msgspec.Struct) else []


def _line_of(path: Path, key: str) -> int | None:
    pattern = re.compile(rf"\s*(\[+)?\s*[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), None)


def _check_repo(path: Path, where: str, repo: Repo) -> None:
    segments = repo.path.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ConfigError(path, where, "path must be segments of letters, digits, `_`, `.`, `+` and `-`, joined by slashes")
    first = segments[0]
    if first in RESERVED or clock.from_id(first) or clock.parse_day(first):
        raise ConfigError(path, where, f"path begins with {first!r}, which in a URL names a date or is reserved")
    if not repo.upstreams and not (isinstance(repo, PypiRepo) and repo.merge):
        raise ConfigError(path, where, "upstream names no URL")
    for upstream in repo.upstreams:
        try:
            parts = urllib.parse.urlsplit(upstream)
        except ValueError as error:
            raise ConfigError(path, where, f"upstream can't be used: {error}") from None
        if parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.scheme == "file"):
            raise ConfigError(path, where, "upstream must be a URL that begins with http://, https:// or file:///")
    if repo.download == "redirect" and any(upstream.startswith("file:") for upstream in repo.upstreams):
        raise ConfigError(path, where, 'download = "redirect" sends clients to upstream, so upstream can\'t be a file: URL')


def _check_dependencies(path: Path, repos: list[AnyRepo]) -> None:
    known = {repo.path: repo for repo in repos if isinstance(repo, CondaRepo)}
    for repo in repos:
        if not isinstance(repo, CondaRepo):
            continue
        for other in repo.select.dependencies_from:
            if other not in known or other == repo.path:
                problem = f"dependencies_from names {other!r}, which is no other repo of this file ({', '.join(sorted(known))})"
                raise ConfigError(path, f"[[repo]] {repo.path}", problem)
            if "on-request" in (repo.metadata, known[other].metadata):
                problem = f"dependencies_from names {other!r}, and of neither may the metadata be on request"
                raise ConfigError(path, f"[[repo]] {repo.path}", problem)
            if known[other].offline != repo.offline:
                problem = f"{other!r}, which dependencies_from names, and this repo must both be offline, or neither"
                raise ConfigError(path, f"[[repo]] {repo.path}", problem)


def _check_merges(path: Path, repos: list[AnyRepo]) -> None:
    known = {repo.path: repo for repo in repos if isinstance(repo, PypiRepo) and not repo.merge}
    for repo in repos:
        for other in repo.merge if isinstance(repo, PypiRepo) else ():
            where = f"[[repo]] {repo.path}"
            if other not in known:
                problem = (
                    f"merge names {other!r}, which is no index of this file with files of its own ({', '.join(sorted(known))})"
                )
                raise ConfigError(path, where, problem)
            if known[other].download not in (repo.download, *(["eager"] if repo.download == "on-demand" else [])):
                raise ConfigError(path, where, f"merge names {other!r}, which is not downloaded as this repo is")
            if "on-request" in (repo.metadata, known[other].metadata):
                problem = f"merge names {other!r}, and of neither may the metadata be on request: nobody knows what it has"
                raise ConfigError(path, where, problem)


def _check_overlaps(path: Path, repos: list[AnyRepo]) -> None:
    owners: dict[str, str] = {}
    for repo in repos:
        if repo.path in owners:
            raise ConfigError(path, "[[repo]]", f"two repos have the path {repo.path}; every path must be its own")
        owners[repo.path] = repo.path
    for repo in repos:
        for name in [*repo.subdirs, "noarch"] if isinstance(repo, CondaRepo) else [""]:
            place = f"{place_of(repo.path, name)}/"
            inside = next((other for other in owners if f"{other}/".startswith(place) and other != repo.path), None)
            if inside:
                problem = f"the path {inside} is, or is below, a directory of the repo {repo.path}"
                raise ConfigError(path, "[[repo]]", f"{problem}; give one of them another path")
