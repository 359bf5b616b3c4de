"""snapmirror serve: answer for every snapshot over HTTP."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ..errors import UsageError
from ..serve.settings import Serve, origins_of
from ..store.store import Store
from ..sync.live import LiveMetadata
from ..transfer.hosts import CarefulHttp, Hosts
from ..transfer.http import HURRIED
from ..transfer.notes import StoreNotes
from .apart import apart
from .config import Config
from .context import ConfigOption, find_config, opened, read_config, say
from .ecosystems import ECOSYSTEMS
from .stores import opener


def serve(
    host: Annotated[str | None, typer.Option("--host", metavar="H", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="P", help="Port; 0 for any free one.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", help="Number of processes.")] = None,
    config: ConfigOption = None,
) -> None:
    """Serve all snapshots over HTTP. SIGTERM lets running transfers finish; SIGHUP reads the configuration again."""
    path = find_config(config)  # once: the same file whenever it is read again
    given = {"host": host, "port": port, "workers": workers}

    from ..serve import workers as serving  # aiohttp takes 0.2 s to load, and no other verb needs it

    def configured(*, create: bool = False) -> serving.Setup:
        found = read_config(path)
        # Here first: what is wrong is said once, and not by every worker.
        _try(path, create=create) if not found.is_remote else apart(partial(_try, path, create=create), "opens the store")
        on_request = any(repo.metadata == "on-request" for repo in found.repo)
        return serving.Setup(
            settings=_override(found.serve, given),
            open_store=_opener(found),
            origins=origins_of(ECOSYSTEMS, found.repo),
            download=found.download,
            live=partial(_live, found) if on_request else None,
            on_demand=_on_demand(found),
        )

    setup = configured(create=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    raise typer.Exit(serving.run(setup, ECOSYSTEMS, reload=configured, say=say))


def _try(path: Path, *, create: bool) -> None:
    """Open the store as workers will. create: make it if it is missing"""
    with opened(path, write=False, create=create) as (found, _):
        _opener(found)().close()


def _opener(config: Config) -> Callable[[], Store]:
    """What opens the store in a worker."""
    return opener(config, write=_on_demand(config) or any(repo.metadata == "on-request" for repo in config.repo))


def _on_demand(config: Config) -> bool:
    return any(repo.download == "on-demand" for repo in config.repo)


def _live(config: Config, store: Store, hosts: Hosts) -> LiveMetadata:
    """What reads metadata when it is asked for, in one process."""
    http = partial(CarefulHttp, hosts, config.download.for_clients, say, StoreNotes(store), store.now, HURRIED)
    return LiveMetadata(store, ECOSYSTEMS, config.repo, http)


def _override(settings: Serve, given: Mapping[str, object]) -> Serve:
    """The settings, with what the command line gives in the place of theirs; None: it gives nothing. Raises UsageError."""
    try:
        return msgspec.structs.replace(settings, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
