"""snapmirror client: the settings of a client, to paste."""

import socket
from typing import Annotated

import typer

from .. import addresses
from ..ecosystem.clients import Mirror
from ..errors import UsageError
from ..serve.clients import known, settings
from ..serve.settings import Serve
from ..store.catalog import CURRENT, Catalog, is_pin_name
from .context import ConfigOption, complete_snapshot, opened, output
from .ecosystems import ECOSYSTEMS

_CLIENTS = known(ECOSYSTEMS)


def _complete(incomplete: str) -> list[str]:
    """For the shell: clients that begin so."""
    return [name for name in _CLIENTS if name.startswith(incomplete)]


def client(
    name: Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {', '.join(_CLIENTS)}.", autocompletion=_complete)],
    snapshot: Annotated[
        str,
        typer.Option(
            "--snapshot",
            metavar="SNAPSHOT",
            help="`current`, a date, a time, an id or a pin.",
            autocompletion=complete_snapshot,
        ),
    ] = CURRENT,
    was: Annotated[
        str, typer.Option("--was", metavar="OLD", help="For conda: the selector, or the other mirror's URL, used before.")
    ] = "",
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="Where clients find this mirror; by default at [serve] public_url.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Print the settings with which a client uses this mirror."""
    if name not in _CLIENTS:
        raise UsageError(f"{name}: no settings are known for it; known: {', '.join(_CLIENTS)}")
    if was and not _CLIENTS[name].remembers:
        told = ", ".join(client.name for client in _CLIENTS.values() if client.remembers)
        raise UsageError(
            f"--was: leave it out; {name} does not mind the URLs that it used, only {told} has to be told of these"
        )
    with opened(config, write=False) as (found, store):
        catalog = store.catalog()
        if was:
            _check_old(catalog, was)
        mirror = Mirror(_base(base_url, found.serve), snapshot, was)
        output(settings(store, ECOSYSTEMS, _CLIENTS[name], mirror, catalog).rstrip("\n"))


def _check_old(catalog: Catalog, was: str) -> None:
    """Raise UsageError for what no client can have used. What was forgotten or unpinned meanwhile may well have been."""
    is_url = addresses.is_web(was) or was.startswith("file:")
    if not (is_url or catalog.is_selector(was) or is_pin_name(was)):
        raise UsageError(f"--was {was}: write a selector, such as 2026-11-20, or the URL of another mirror")


def _base(given: str, serve: Serve) -> str:
    """The server's URL for clients: `--base-url`, else `public_url`, else made from its host and port. Raises UsageError."""
    if url := given or serve.public_url:
        if not addresses.is_web(url):
            raise UsageError(f"--base-url {url}: write a URL that begins with http:// or https://")
        return url.rstrip("/")
    if serve.port == 0:
        raise UsageError("[serve] has port = 0, so only the running server knows its port; give --base-url")
    host = socket.gethostname() if serve.host in ("0.0.0.0", "::") else serve.host
    return f"http{'s' if serve.cert else ''}://{f'[{host}]' if ':' in host else host}:{serve.port}"
