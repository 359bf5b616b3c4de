"""snapmirror forget: put tombstones in the place of snapshots."""

from datetime import timedelta
from typing import Annotated

import typer

from .. import units
from ..errors import UsageError
from ..store import gc as collecting
from ..store import retention
from ..store.catalog import Catalog
from ..store.records import Record
from ..store.retention import Retention
from ..store.store import Store
from .context import ConfigOption, JsonOption, complete_snapshot, opened, output, output_json, waiting
from .gc import leaf_digests


def forget(
    snapshots: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SNAPSHOT]...", help="Selectors of the snapshots.", autocompletion=complete_snapshot),
    ] = None,
    by_retention: Annotated[
        bool, typer.Option("--retention", help="Forget what the configuration's [retention] does not keep.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would go and the bytes that gc would free, and change nothing.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Forget snapshots. Their URLs answer 410 from then on; the next `snapmirror gc` frees the space."""
    if bool(snapshots) == by_retention:
        raise UsageError("name the snapshots to forget, or say --retention")
    with opened(config, write=True) as (settings, store):
        reader = collecting.Reader(store.metadata, leaf_digests)
        if dry_run:
            collecting.read_ahead(store, reader)
        with store.lock(waiting) as catalog:
            if by_retention:
                records = retention.plan_retention(catalog, settings.retention)
            else:
                records = retention.plan_forget(catalog, snapshots or [], store.now())
            freed = 0
            if dry_run:
                freed = _freed(store, catalog, reader, records, settings.publish.tree_age)
            else:
                retention.execute_forget(store, catalog, records)
    if json:
        output_json({"forgotten": [record.id for record in records], "dry_run": dry_run, "bytes": freed})
        return
    for record in records:
        output(f"{'would forget' if dry_run else 'forgot'} {record.id}")
    if dry_run:
        output(f"gc would then free {units.size(freed)}")
    elif not records:
        output("nothing to forget")


def _freed(store: Store, catalog: Catalog, reader: collecting.Reader, records: list[Record], keep_trees: timedelta) -> int:
    """The bytes that a gc without grace would free if these were forgotten."""
    return collecting.plan(
        store, catalog, reader, retention=Retention(), keep_trees=keep_trees, grace=timedelta(0), forget=records
    ).bytes
