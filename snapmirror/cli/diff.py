"""snapmirror diff: what changed between two snapshots."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..store.records import is_below
from ..store.store import Store
from ..sync import compare
from ..sync.compare import Differences
from ..sync.which import Questions
from .config import Config
from .context import (
    ConfigOption,
    JsonOption,
    complete_repo,
    complete_snapshot,
    opened,
    output,
    output_json,
    printable,
    say,
    tell,
)
from .ecosystems import ECOSYSTEMS
from .which import PlatformOption, named


def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="`current`, a date, a time, an id or a pin.", autocompletion=complete_snapshot)
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, of the newer one.", autocompletion=complete_snapshot)],
    repo: Annotated[
        str | None, typer.Argument(metavar="[REPO]", help="Only repos at or below this path.", autocompletion=complete_repo)
    ] = None,
    for_: Annotated[
        Path | None,
        typer.Option("--for", metavar="FILE", help="Only what changes for a lock, requirements.txt or environment.yml."),
    ] = None,
    platform: PlatformOption = "",
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Status 1 if they differ, 0 if not, 2 for any failure.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the files that were added, removed or changed between two snapshots."""
    only = repo.strip("/") if repo else ""
    try:
        with opened(config, write=False) as (settings, store):
            found = _compare(settings, store, (old, new), only, for_, platform)
        if json:
            output_json(found)
        else:
            for id_, lacking in ((found.old, found.missing_old), (found.new, found.missing_new)):
                if lacking:
                    say(f"{id_} lacks {named(lacking)}")
            print_changes(found)
    except Exception as error:
        if not exit_code or isinstance(error, BrokenPipeError):  # typer ends for a reader that has gone
            raise
        tell(error)
        raise typer.Exit(2) from None  # whatever the error leads to elsewhere: here 1 says that they differ
    raise typer.Exit(1 if exit_code and (found.added or found.removed or found.changed) else 0)


def print_changes(found: Differences) -> None:
    """One line for each file that differs."""
    for mark, names in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for name in names:
            output(f"{mark} {printable(name)}")


def _compare(
    settings: Config, store: Store, selectors: tuple[str, str], only: str, file: Path | None, platform: str
) -> Differences:
    """selectors: of the old and the new one; only: of repos at or below this path; file: of that environment

    Raises UsageError, DamagedError.
    """
    catalog = store.catalog()
    before, after = catalog.pair(*selectors, only, store.now())
    paths = {path for path in {**before.repos, **after.repos} if is_below(path, only)}
    if only and not paths:
        known = ", ".join(sorted({**before.repos, **after.repos}))
        raise UsageError(f"{only}: neither {before.id} nor {after.id} holds a repo at or below it (they hold: {known})")
    if file is None:
        return compare.records(store, ECOSYSTEMS, before, after, paths)
    environment = Questions(store, ECOSYSTEMS, catalog, settings.repo, platform).environment(file)
    if environment is None:
        raise UsageError(f"--for {file}: that is no lock, requirements or environment file, as far as its name tells")
    return compare.environments(store, environment, before, after, paths)
