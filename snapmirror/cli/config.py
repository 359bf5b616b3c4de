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
from ..digests import sha256
from ..ecosystem import Repo
from ..errors import ConfigError, UsageError
from ..remote.settings import S3, is_remote, parse_address
from ..serve.settings import Serve
from ..store.catalog import RESERVED
from ..store.records import place_of
from ..store.retention import Retention
from ..sync.settings import Publish
from ..transfer.settings import Download
from .ecosystems import ECOSYSTEMS, AnyRepo

if typing.TYPE_CHECKING:
    from ..store.signatures import PrivateKey

#: where a configuration is looked for if none is named
PLACES = (Path("snapmirror.toml"), Path("/etc/snapmirror.toml"))

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_INVALID = re.compile(r"Invalid (?:enum )?value (.*)")


class Sign(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """The `[sign]` table."""

    #: file of the private key that signs every snapshot; empty: none is signed
    key: str = ""

    def read_key(self) -> "PrivateKey | None":
        """The key, None if there is none. Raises UsageError if it can't be read."""
        if not self.key:
            return None
        from ..store.signatures import PrivateKey  # its library takes 0.1 s to load

        return PrivateKey.read(Path(self.key))


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A whole configuration. In one that `load` has returned, paths are absolute and each repo is one of its own."""

    #: a folder, or `s3://bucket/prefix`
    store: str = "store"
    #: where the LMDB index lies, if the store is on a network disk
    index: str | None = None
    #: of an object store: the folder of what this machine keeps of it, which can be thrown away
    cache: str = ""
    s3: S3 = S3()
    #: how many bytes `gc` leaves of what was fetched on demand and can be had again, such as `200GB`; empty: all
    max_cache: str = ""
    download: Download = Download()
    retention: Retention = Retention()
    publish: Publish = Publish()
    serve: Serve = Serve()
    sign: Sign = Sign()
    repo: list[AnyRepo] = []

    def __post_init__(self) -> None:
        if self.max_cache:
            units.parse_size(self.max_cache)

    @property
    def is_remote(self) -> bool:
        """Whether the store is no folder."""
        return is_remote(self.store)

    @property
    def store_path(self) -> Path:
        """The store's folder; of an object store that of its cache."""
        return Path(self.cache if self.is_remote else self.store)

    @property
    def exported(self) -> Publish:
        """The `[publish]` of this store: one of objects has no trees, which are links to files."""
        return msgspec.structs.replace(self.publish, trees=[]) if self.is_remote else self.publish

    @property
    def index_path(self) -> Path | None:
        """The index, if it is not in the store."""
        return Path(self.index) if self.index else None


def load(path: Path, upstream: str = "") -> Config:
    """Read a configuration. Raises ConfigError.

    upstream: takes the place of what is configured, if there is only one `[[repo]]`
    """
    content = _parse(path)
    try:
        config = msgspec.convert(content, Config)
    except msgspec.ValidationError as error:
        raise _explain(path, content, str(error)) from None
    base = path.resolve().parent
    repos = _repos(path, base, config.repo, upstream if len(config.repo) == 1 else "")
    if config.serve.auth and (taken := next((repo.path for repo in repos if repo.path.split("/")[0] == "t"), None)):
        raise ConfigError(path, f"[[repo]] {taken}", "path begins with 't', after which URLs have a token ([serve.auth])")
    with _explained(path, "key store"):
        address = _address(config.store)
    if address:
        config = _remote(path, base, config, repos, address)
    return msgspec.structs.replace(
        config,
        store=config.store if config.is_remote else str(base / config.store),
        index=str(base / config.index) if config.index else None,
        download=config.download.found(base, os.environ).trusting(url for repo in repos for url in repo.upstreams),
        serve=_serve(base, config.serve),
        sign=Sign(key=str(base / config.sign.key) if config.sign.key else ""),
        repo=repos,
    )


def _address(store: str) -> str | None:
    """The address of a store of objects; None for a folder. Raises ValueError for what is neither."""
    if is_remote(store):
        return str(parse_address(store))
    if "://" in store:
        raise ValueError(f"{store!r} is no store: write the path of its folder, or s3://bucket/prefix")
    return None


def _remote(path: Path, base: Path, config: Config, repos: list[AnyRepo], address: str) -> Config:
    """The configuration of an object store, which has a cache."""
    for repo in repos:
        if repo.download == "on-demand" or repo.metadata == "on-request":
            problem = 'fetches when it is asked, which only a store on a disk can; use download = "eager" or "redirect"'
            raise ConfigError(path, f"[[repo]] {repo.path}", problem)
    if config.serve.accel:
        raise ConfigError(path, "[serve], key accel", "nginx can send the files of a store on a disk only; leave it out")
    cache = str(base / config.cache) if config.cache else _cache_of(address)
    return msgspec.structs.replace(config, store=address, cache=cache)


def with_store(config: Config, store: str) -> Config:
    """The same configuration with another store. Raises UsageError for what is none."""
    try:
        address = _address(store)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if address is None:
        folder = str(Path(store).absolute())
        # What belongs together, here too: another index would be made in the store, perhaps on a network disk.
        return msgspec.structs.replace(config, store=folder, index=config.index if folder == config.store else None)
    # What belongs together: a cache says how much of what was removed elsewhere its index has been told.
    cache, index = (config.cache, config.index) if address == config.store else (_cache_of(address), None)
    return msgspec.structs.replace(config, store=address, cache=cache, index=index)


def _cache_of(address: str) -> str:
    """Where the cache of a store lies if nothing is said: one for each address."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(caches / "snapmirror" / sha256(address.encode()).hex()[:16])


def _serve(base: Path, serve: Serve) -> Serve:
    """The table with absolute paths."""
    paths = {"access_log": serve.access_log, "cert": serve.cert, "key": serve.key}
    return msgspec.structs.replace(serve, **{key: str(base / name) for key, name in paths.items() if name not in ("", "-")})


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "", "there is no such file (make one with `snapmirror init DIR`)") from None
    except OSError as error:
        raise ConfigError(path, "", f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", f"is not UTF-8, as TOML must be: byte {error.start} is wrong") from None
    except RecursionError:
        raise ConfigError(path, "", "is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError; or a number of more digits than Python makes an integer of
        raise ConfigError(path, "", f"is not TOML: {error}") from None


def _repos(path: Path, base: Path, tables: list[AnyRepo], upstream: str) -> list[AnyRepo]:
    """The repos that the tables stand for, checked. base: what their paths are relative to; upstream: instead of theirs"""
    repos: list[AnyRepo] = []
    for number, table in enumerate(tables, 1):
        where = f"[[repo]] number {number} ({table.path})"
        with _explained(path, where):
            asked = msgspec.structs.replace(table, upstream=upstream) if upstream and table.upstream else table
            expanded = [repo.below(base) for repo in asked.expand()]
        for repo in expanded:
            _check_path(path, where, repo)
        repos += expanded
    _check_overlaps(path, repos)
    for repo in repos:
        with _explained(path, f"[[repo]] {repo.path}"):
            repo.check_beside({other.path: other for other in repos if other is not repo})
    return repos


def _explain(path: Path, content: dict[str, Any], message: str) -> ConfigError:
    """msgspec's message with the place as a person would name it, and what would be right there."""
    found = _WHERE.match(message)
    problem, place = (found[1], found[2] or "") if found else (message, "")
    where = _name(place)
    if unknown := _UNKNOWN.match(problem):
        known = _keys(place, content)
        near = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        line = _line_of(path, unknown[1])
        return ConfigError(path, f"line {line}, {where}" if line else where, f"unknown key {unknown[1]!r}; {hint}")
    if invalid := _INVALID.match(problem):
        problem = f"invalid value {invalid[1]}; write one of {', '.join(map(repr, _choices(place, content)))}"
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
    table = _tables_at(place, content)[0]
    tag = table.__struct_config__.tag_field
    return [*([tag] if tag else []), *table.__struct_fields__]


def _choices(place: str, content: Any) -> list[str]:
    """The values that are right at the place of a key that takes only some, `repo[0].download`."""
    parent, _, key = place.rpartition(".")
    tables = _tables_at(parent, content)
    if key == tables[0].__struct_config__.tag_field:
        return [str(table.__struct_config__.tag) for table in tables]
    return _literals(typing.get_type_hints(tables[0])[key.partition("[")[0]])


def _tables_at(place: str, content: Any) -> list[type[msgspec.Struct]]:
    """The table that a place of a configuration holds; those of all kinds, if the content is of none that is known."""
    tables: list[type[msgspec.Struct]] = [Config]
    for key, index in re.findall(r"(\w+)(?:\[(\d+|\.\.\.)\])?", place):
        every = _tables(typing.get_type_hints(tables[0])[key])
        content = content[key][int(index)] if index.isdecimal() else {} if index else content.get(key, {})
        tables = [one for one in every if one.__struct_config__.tag in (None, content.get("kind"))] or every
    return tables


def _tables(hint: Any) -> list[type[msgspec.Struct]]:
    """The tables that a key of this type may hold."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [table for part in typing.get_args(hint) for table in _tables(part)]


def _literals(hint: Any) -> list[str]:
    """The values that a key of this type may have, or hold in its list."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for part in typing.get_args(hint) for value in _literals(part)]


def _line_of(path: Path, key: str) -> int | None:
    """The line of a key; None if several tables have one of this name."""
    pattern = re.compile(rf"\s*(\[+)?\s*[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, 1) if pattern.match(line)]
    return found[0] if len(found) == 1 else None


@contextlib.contextmanager
def _explained(path: Path, where: str) -> Iterator[None]:
    """A ValueError of a table, which says what is wrong, as a ConfigError, which says where."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(path, where, str(error)) from None


def _check_path(path: Path, where: str, repo: Repo) -> None:
    """Raise ConfigError for a repo's path that can't stand in a URL after a selector, or in the place of one."""
    segments = repo.path.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ConfigError(path, where, "path must be segments of letters, digits, `_`, `.`, `+` and `-`, joined by slashes")
    first = segments[0]
    if first in RESERVED or clock.from_id(first) or clock.parse_day(first):
        raise ConfigError(path, where, f"path begins with {first!r}, which names a date or is reserved; choose another")


def _check_overlaps(path: Path, repos: list[AnyRepo]) -> None:
    """Raise ConfigError for two repos of one path, and for one whose path is, or is below, a directory of another."""
    taken: set[str] = set()
    for repo in repos:
        if repo.path in taken:
            raise ConfigError(path, "[[repo]]", f"two repos have the path {repo.path}; give one of them another path")
        taken.add(repo.path)
    for repo in repos:
        for name in ECOSYSTEMS[repo.kind].directories(repo):
            place = f"{place_of(repo.path, name)}/"
            inside = next((other for other in taken if f"{other}/".startswith(place) and other != repo.path), None)
            if inside:
                problem = f"the path {inside} is, or is below, a directory of the repo {repo.path}"
                raise ConfigError(path, "[[repo]]", f"{problem}; give one of them another path")
