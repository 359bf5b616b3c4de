"""snapmirror forget: put tombstones in the place of snapshots."""

from datetime import timedelta
from typing import Annotated

import typer

from .. import units
from ..errors import UsageError
from ..store import gc as collecting
from ..store import retention
from ..store.retention import Retention
from .context import ConfigOption, JsonOption, opened, show, show_json, waiting
from .gc import leaf_digests


def forget(
    snapshots: Annotated[list[str] | None, typer.Argument(metavar="[SNAPSHOT]...", help="Selectors of the snapshots.")] = None,
    by_retention: Annotated[
        bool, typer.Option("--retention", help="What the configuration's [retention] does not keep.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go, and the bytes that gc would free.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Forget snapshots. Their URLs answer 410 from now on; `snapmirror gc` frees the space."""
    if bool(snapshots) == by_retention:
        raise UsageError("name the snapshots to forget, or say --retention")
    with opened(config, write=True) as (settings, store), store.lock(waiting) as catalog:
        if by_retention:
            records = retention.plan_retention(catalog, settings.retention)
        else:
            records = retention.plan_forget(catalog, snapshots or [], store.now())
        freed = 0
        if dry_run:
            planned = collecting.plan(
                store,
                catalog,
                collecting.Reader(store.metadata, leaf_digests),
                retention=Retention(),
                keep_trees=settings.publish.tree_age,
                grace=timedelta(0),
                forget=records,
            )
            freed = planned.bytes
        else:
            retention.execute_forget(store, catalog, records)
    if json:
        show_json({"forgotten": [record.id for record in records], "dry_run": dry_run, "bytes": freed})
        return
    for record in records:
        show(f"{'would forget' if dry_run else 'forgot'} {record.id}")
    if dry_run:
        show(f"gc would then free {units.size(freed)}")
    elif not records:
        show("nothing to forget")
