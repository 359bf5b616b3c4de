"""snapmirror log: the history of a package."""

from typing import Annotated

import typer

from ..errors import UsageError
from ..store.records import is_below
from ..sync import history
from ..sync.history import Event
from .context import ConfigOption, JsonOption, complete_repo, opened, output, output_json, printable
from .ecosystems import ECOSYSTEMS


def log(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A package, NAME==VERSION, or the name of a file.")],
    repo: Annotated[
        str | None, typer.Argument(metavar="[REPO]", help="Only repos at or below this path.", autocompletion=complete_repo)
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show when files of a package appeared, changed, were yanked or hot-fixed, and vanished, oldest first."""
    only = repo.strip("/") if repo else ""
    with opened(config, write=False) as (_, store):
        catalog = store.catalog()
        held = {path for record in catalog.records for path in record.repos}
        repos = {path for path in held if is_below(path, only)}
        if only and not repos:
            raise UsageError(f"{only}: no kept snapshot holds a repo at or below it (they hold: {', '.join(sorted(held))})")
        found = history.log(store, ECOSYSTEMS, catalog, name, repos)
    if json:
        output_json(found)
        return
    for event in found.events:
        output(f"{event.snapshot}  {event.what:<9}  {printable(event.file)}{printable(_detail(event))}")


def _detail(event: Event) -> str:
    """What more there is to say of an event, after a colon."""
    if event.what == "changed" and event.was and event.sha256:
        return f": {event.was[:12]} became {event.sha256[:12]}"
    told = ", ".join(event.keys) or event.reason
    return f": {told}" if told else ""
