"""snapmirror gc: free what nothing kept refers to."""

from collections.abc import Iterator
from typing import Annotated

import typer

from .. import units
from ..digests import Digest
from ..errors import UsageError
from ..store import gc as collecting
from .context import ECOSYSTEMS, ConfigOption, JsonOption, opened, show, show_json, waiting


def leaf_digests(kind: str, leaf: bytes) -> Iterator[Digest]:
    """What the store needs to know of a leaf: the files that it lists."""
    return (file.sha256 for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def gc(
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="Spare what was stored less than this ago.")
    ] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Apply [retention], then remove every byte that no kept snapshot needs."""
    try:
        spared = units.parse_duration(grace)
    except ValueError as error:
        raise UsageError(f"--grace: {error}") from None
    with opened(config, write=True) as (settings, store), store.lock(waiting) as catalog:
        planned = collecting.plan(
            store, catalog, leaf_digests, retention=settings.retention, keep_trees=settings.publish.tree_age, grace=spared
        )
        freed = planned.bytes if dry_run else collecting.execute(store, catalog, planned)
    forgotten = [record.id for record in planned.forget]
    if json:
        show_json(
            {"forgotten": forgotten, "blobs": len(planned.blobs), "bytes": freed, "kept": planned.kept, "dry_run": dry_run}
        )
        return
    would = "would " if dry_run else ""
    for id_ in forgotten:
        show(f"{would}forget {id_}" if dry_run else f"forgot {id_}")
    removed = f"{units.plural(len(planned.blobs), 'blob')}, {units.size(freed)}"
    show(f"would free {removed}; {planned.kept} stay" if dry_run else f"freed {removed}; {planned.kept} stay")
