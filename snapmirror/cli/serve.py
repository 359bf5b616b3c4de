"""snapmirror serve: answer for every snapshot over HTTP."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ..errors import UsageError
from ..serve.settings import Serve
from ..store.store import Store
from . import config as configuration
from .context import ECOSYSTEMS, ConfigOption, find_config, opened, say


def serve(
    host: Annotated[str | None, typer.Option("--host", metavar="H", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="P", help="Port; 0 for any free one.")] = None,
    workers_: Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes.")] = None,
    config: ConfigOption = None,
) -> None:
    """Serve all snapshots, read-only. SIGTERM ends it when running transfers are done; SIGHUP reads the configuration again."""
    path = find_config(config)
    given = {"host": host, "port": port, "workers": workers_}

    def settings() -> Serve:
        return _override(configuration.load(path).serve, given)

    def open_store() -> Store:
        return Store.open(configuration.load(path).store_path, write=False)

    from ..serve import workers  # aiohttp takes 0.2 s to load, and no other verb needs it

    _ensure_store(path)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    raise typer.Exit(workers.run(settings(), open_store, ECOSYSTEMS, reload=settings, say=say))


def _ensure_store(path: Path) -> None:
    """Open it once before any worker does, for a clear error; make it if its folder is missing or empty."""
    with opened(path, write=False, create=True):
        pass


def _override(settings: Serve, given: Mapping[str, object]) -> Serve:
    """The configuration with what the command line says."""
    try:
        return msgspec.structs.replace(settings, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
