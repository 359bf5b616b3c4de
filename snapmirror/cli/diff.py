"""snapmirror diff: what changed between two snapshots."""

from typing import Annotated, Any

import typer

from ..errors import SnapmirrorError, UsageError
from ..store.store import Store
from ..sync import compare
from .context import ConfigOption, JsonOption, complete_repo, complete_snapshot, opened, output, output_json, printable, say
from .ecosystems import ECOSYSTEMS


def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="`current`, a date, a time, an id or a pin.", autocompletion=complete_snapshot)
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, of the newer one.", autocompletion=complete_snapshot)],
    repo: Annotated[
        str | None, typer.Argument(metavar="[REPO]", help="Only repos at or below this path.", autocompletion=complete_repo)
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Status 1 if they differ, 0 if not, 2 for any failure.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the files that were added, removed or changed between two snapshots."""
    try:
        with opened(config, write=False) as (_, store):
            found = _compare(store, old, new, repo.strip("/") if repo else None)
    except SnapmirrorError as error:
        if not exit_code:
            raise
        say(f"snapmirror: {error}")
        raise typer.Exit(2) from None
    if json:
        output_json(found)
    else:
        for mark, key in (("+", "added"), ("-", "removed"), ("~", "changed")):
            for name in found[key]:
                output(f"{mark} {printable(name)}")
    different = any(found[key] for key in ("added", "removed", "changed"))
    raise typer.Exit(1 if exit_code and different else 0)


def _compare(store: Store, old: str, new: str, only: str | None) -> dict[str, Any]:
    """The differences as `--json` prints them; only: of repos at or below this path. Raises UsageError, DamagedError."""
    catalog, now = store.catalog(), store.now()
    before, after = catalog.view(old, now), catalog.view(new, now)
    paths = {path for path in {**before.repos, **after.repos} if only is None or path == only or path.startswith(f"{only}/")}
    if only and not paths:
        known = ", ".join(sorted({**before.repos, **after.repos}))
        raise UsageError(f"{only}: neither {before.id} nor {after.id} holds a repo at or below it (they hold: {known})")
    changes = compare.records(store, ECOSYSTEMS, before, after, paths)
    return {"old": before.id, "new": after.id, **changes}
