"""What several verbs share: the configuration, the store, options and arguments, and the ways to print."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from .. import clock
from ..ecosystem import Repo
from ..errors import ConfigError, SnapmirrorError, UsageError
from ..store.catalog import CURRENT, RESERVED, Catalog, is_pin_name
from ..store.store import Store
from . import config as configuration
from . import stores
from .config import Config

_Value = TypeVar("_Value")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration; by default $SNAPMIRROR_CONFIG, ./snapmirror.toml or /etc/snapmirror.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def find_config(path: Path | None) -> Path:
    """The configuration file: the one that is named, else the first that is there. Raises ConfigError if there is none."""
    if path is not None:
        return path
    if named := os.environ.get("SNAPMIRROR_CONFIG"):
        return Path(named)
    if folder := os.environ.get("TUNASYNC_WORKING_DIR"):
        return Path(folder) / "snapmirror.toml"
    for place in configuration.PLACES:
        if place.exists():
            return place
    raise ConfigError(
        configuration.PLACES[0], "", "there is no configuration here; name one with --config, or run `snapmirror init DIR`"
    )


def _upstream(path: Path | None) -> str:
    """The upstream of the tunasync job that runs us, if it is also the job that names the configuration."""
    named_otherwise = path is not None or os.environ.get("SNAPMIRROR_CONFIG") or not os.environ.get("TUNASYNC_WORKING_DIR")
    return "" if named_otherwise else os.environ.get("TUNASYNC_UPSTREAM_URL", "")


def read_config(path: Path | None) -> Config:
    """The configuration. path: what `--config` names. Raises ConfigError."""
    return configuration.load(find_config(path), _upstream(path))


def complete_repo(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell: the paths of configured repos that begin so."""
    with contextlib.suppress(SnapmirrorError, OSError):
        return [repo.path for repo in read_config(context.params.get("config")).repo if repo.path.startswith(incomplete)]
    return []


def complete_snapshot(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell: selectors that begin so: `current`, pins, days and ids, the newest first."""
    with contextlib.suppress(SnapmirrorError, OSError):
        with stores.opener(read_config(context.params.get("config")), write=False)() as store:
            catalog = store.catalog()
        ids = [record.id for record in reversed(catalog.records)]
        days = dict.fromkeys(f"{id_[:4]}-{id_[4:6]}-{id_[6:8]}" for id_ in ids)
        return [one for one in (CURRENT, *sorted(catalog.pins), *days, *ids) if one.startswith(incomplete)]
    return []


def complete_pin(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell: pins that begin so."""
    return [one for one in complete_snapshot(context, incomplete) if is_pin_name(one)]


SnapshotArgument = Annotated[
    str,
    typer.Argument(metavar="SNAPSHOT", help="`current`, a date, a time, an id or a pin.", autocompletion=complete_snapshot),
]


@contextlib.contextmanager
def opened(
    path: Path | None,
    *,
    write: bool,
    create: bool = False,
    plan: bool = False,
    allow_clashes: bool = False,
    sign: bool = False,
) -> Iterator[tuple[Config, Store]]:
    """The configuration, and its store for the time of the block. Raises ConfigError, StoreError, DamagedError.

    path: what `--config` names
    write: whether the verb changes the store, which only its owner may
    create: make the store, saying so, where its folder is missing or empty
    plan: use an empty store there, for the time of the block
    sign: whether the verb seals snapshots, so that it needs the key, if there is one
    allow_clashes: do not refuse a repo and a pin of one name: the verb may be what ends that
    """
    file = find_config(path)
    config = read_config(path)
    key = config.sign.read_key() if sign else None  # first: what can't be signed need not be fetched
    if create and stores.create(config):
        say(f"created the store {config.store}")
    planned = stores.planned(config) if plan else contextlib.nullcontext(config)
    with planned as config, stores.opener(config, write=write, key=key)() as store:
        if not allow_clashes:
            _refuse_clashes(config, store.catalog(), file)
        yield config, store


def _refuse_clashes(config: Config, catalog: Catalog, file: Path) -> None:
    """Pins, first segments of repos and reserved words share one namespace."""
    for repo in config.repo:
        first = repo.path.split("/")[0]
        if first in catalog.pins:
            problem = f"begins with {first!r}, which is a pin; remove the pin (snapmirror unpin {first}) or choose another path"
            raise ConfigError(file, f"[[repo]] {repo.path}", f"path {problem}")


def taken_names(config: Config, catalog: Catalog) -> frozenset[str]:
    """Names that a pin can't have: reserved words, and first segments of repos that are, or ever were, mirrored."""
    return RESERVED | {path.split("/")[0] for path in [*catalog.repos, *(repo.path for repo in config.repo)]}


def choose(configured: Sequence[Repo], paths: Sequence[str]) -> list[Repo]:
    """The repos at or below some paths; all if no path is given. Raises UsageError for a path that names none."""
    if not configured:
        raise UsageError("the configuration has no [[repo]]; add one, as snapmirror.toml(5) describes")
    chosen: dict[str, Repo] = {}
    for path in (wanted.strip("/") for wanted in paths):
        below = [repo for repo in configured if repo.path == path or repo.path.startswith(f"{path}/")]
        if not below:
            known = ", ".join(repo.path for repo in configured)
            raise UsageError(f"{path}: no [[repo]] of the configuration is at or below it (configured: {known})")
        chosen.update({repo.path: repo for repo in below})
    return list(chosen.values()) if paths else list(configured)


def parsed(option: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """The value of an option. Raises UsageError, which names the option, where `parse` raises ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def time_id(option: str, text: str | None, *, begin: bool = False) -> str | None:
    """The id that the TIME of an option means, see clock.parse_time; None if it is not given. Raises UsageError."""
    if text is None:
        return None
    instant = clock.parse_time(text, begin=begin)
    if instant is None:
        raise UsageError(f"{option} {text}: write an id (20261120T010000Z) or a date (2026-11-20)")
    return clock.to_id(instant)


def say(text: str) -> None:
    """A message of one line, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def tell(error: Exception) -> int:
    """Say what ended a run, in one line; the exit status that it leads to."""
    if isinstance(error, SnapmirrorError):
        say(f"snapmirror: {error}")
        return error.exit_status
    if isinstance(error, OSError):
        owner = "; run as the user who owns it" if isinstance(error, PermissionError) and error.filename else ""
        say(f"snapmirror: {error.filename or 'the system'}: {error.strerror or error}{owner}")
        return 1
    if "SNAPMIRROR_DEBUG" in os.environ:
        traceback.print_exception(error)
        return 1
    kind = type(error).__name__
    say(f"snapmirror: a fault of snapmirror itself ({kind}: {error}); SNAPMIRROR_DEBUG=1 shows where. Please report it")
    return 1


def waiting(what: str) -> None:
    """Say that a lock is not free. Fulfils store.locks.Waiting."""
    say(f"{what} is in use by another process; waiting")


def output(text: str) -> None:
    """A result, on standard output; in it a path that is no UTF-8 has its own bytes, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")
    print(text, flush=True)


def output_json(value: Any) -> None:
    """A result as one JSON object, on standard output."""
    try:
        found = msgspec.json.encode(value)
    except UnicodeEncodeError:
        found = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    output(msgspec.json.format(found, indent=2).decode())


def _encodable(value: Any) -> Any:
    """What JSON can hold: a path of this machine may be no UTF-8, and is then written as messages have it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, (list, tuple)) else value


def printable(text: str) -> str:
    """A line, safe for a terminal: what comes from upstream may hold anything."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
