"""snapmirror serve: answer for every snapshot over HTTP."""

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from ..serve.web import Faces
    from ..serve.workers import Setup

_log = logging.getLogger(__name__)


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
        return setup_of(found, _override(found.serve, given))

    setup = configured(create=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    raise typer.Exit(serving.run(setup, ECOSYSTEMS, reload=configured, announce=_announce))


def _announce(line: str) -> None:
    """Tell the operator that clients are answered, and systemd, if it waits for that: `Type=notify`, sd_notify(3)."""
    with suppress(OSError):  # nobody reads it any more, or its disk is full: no reason not to serve
        say(line)
    if name := os.environ.get("NOTIFY_SOCKET"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", f"\0{name[1:]}" if name.startswith("@") else name)


def _try(path: Path, *, create: bool) -> None:
    """Open the store as workers will. create: make it if it is missing"""
    with opened(path, write=False, create=create) as (found, _):
        setup_of(found, found.serve).open_store().close()


def setup_of(config: Config, settings: Serve) -> "Setup":
    """What a server has to know."""
    from ..serve.workers import Setup  # see above

    on_demand = any(repo.download == "on-demand" for repo in config.repo)
    on_request = any(repo.metadata == "on-request" for repo in config.repo)
    return Setup(
        settings=settings,
        open_store=opener(config, write=on_demand or on_request),
        origins=origins_of(ECOSYSTEMS, config.repo),
        download=config.download,
        live=partial(_live, config) if on_request else None,
        on_demand=on_demand,
        faces=_faces,
    )


def _faces(store: Store) -> "Faces":
    """What is shown beside the files, in one process."""
    from ..web import faces  # jinja2 takes 50 ms to load

    return faces(store, ECOSYSTEMS)


def _live(config: Config, store: Store, hosts: Hosts) -> LiveMetadata:
    """What reads metadata when it is asked for, in one process."""
    http = partial(CarefulHttp, hosts, config.download.for_clients, _log.warning, StoreNotes(store), store.now, HURRIED)
    return LiveMetadata(store, ECOSYSTEMS, config.repo, http)


def _override(settings: Serve, given: Mapping[str, object]) -> Serve:
    """The settings, with what the command line gives in the place of theirs; None: it gives nothing. Raises UsageError."""
    try:
        return msgspec.structs.replace(settings, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
