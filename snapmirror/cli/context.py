"""What every verb needs: the configuration, the store, and a way to print. The only place that reads the environment."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from .. import clock
from ..errors import ConfigError, UsageError
from ..store.catalog import RESERVED, Catalog
from ..store.store import Store
from . import config as configuration
from .config import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration; else $SNAPMIRROR_CONFIG, ./snapmirror.toml, /etc/snapmirror.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def find_config(path: Path | None) -> Path:
    """The configuration file that counts. Raises ConfigError if there is none."""
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
    named_otherwise = path is not None or "SNAPMIRROR_CONFIG" in os.environ or not os.environ.get("TUNASYNC_WORKING_DIR")
    return "" if named_otherwise else os.environ.get("TUNASYNC_UPSTREAM_URL", "")


@contextlib.contextmanager
def opened(
    path: Path | None, *, write: bool, create: bool = False, allow_clashes: bool = False
) -> Iterator[tuple[Config, Store]]:
    """The configuration and its store.

    allow_clashes: a pin may have the name of a repo: it is about to be removed
    create: make the store, saying so, where its folder is missing or empty
    """
    config = configuration.load(find_config(path), _upstream(path))
    if create and not (config.store_path / "snapmirror.json").exists():
        Store.create(config.store_path)
        say(f"created the store {config.store_path}")
    with Store.open(config.store_path, write=write, index=config.index_path) as store:
        if not allow_clashes:
            _refuse_clashes(config, store.catalog(), path)
        yield config, store


def _refuse_clashes(config: Config, catalog: Catalog, path: Path | None) -> None:
    """Pins, first segments of repos and reserved words share one namespace."""
    for repo in config.repo:
        first = repo.path.split("/")[0]
        if first in catalog.pins:
            problem = f"begins with {first!r}, which is a pin; remove the pin (snapmirror unpin {first}) or choose another path"
            raise ConfigError(find_config(path), f"[[repo]] {repo.path}", f"path {problem}")


def taken_names(config: Config, catalog: Catalog) -> frozenset[str]:
    """Names that a pin can't have: reserved words, and first segments of repos."""
    return RESERVED | {path.split("/")[0] for path in [*catalog.repos, *(repo.path for repo in config.repo)]}


def time_id(option: str, text: str | None, *, begin: bool = False) -> str | None:
    """The id that the TIME of an option means, see clock.parse_time; None for none. Raises UsageError."""
    if text is None:
        return None
    instant = clock.parse_time(text, begin=begin)
    if instant is None:
        raise UsageError(f"{option} {text}: write an id (20261120T010000Z) or a date (2026-11-20)")
    return clock.to_id(instant)


def say(text: str) -> None:
    """A message for a person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def waiting(what: str) -> None:
    """Said while a lock is not free."""
    say(f"{what} is in use by another process; waiting")


def show(text: str) -> None:
    """A result, on standard output."""
    print(text, flush=True)


def show_json(value: Any) -> None:
    """A result as one JSON object."""
    show(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def printable(text: str) -> str:
    """A name from upstream that may hold anything, safe for a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
