"""snapmirror forget: put tombstones in the place of snapshots."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from .. import units
from ..errors import UsageError
from ..store import gc as collecting
from ..store import retention
from ..store.catalog import Catalog
from ..store.mark import Mark
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

        def chosen(catalog: Catalog) -> Sequence[Record]:
            if by_retention:
                return retention.plan_retention(catalog, settings.retention, store.now())
            return retention.plan_forget(catalog, snapshots or [], store.now())

        if dry_run:
            records, freed = _freed(store, chosen, settings.publish.tree_age)
        else:
            with store.lock(waiting) as catalog:
                records, freed = chosen(catalog), 0
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


def _freed(store: Store, chosen: Callable[[Catalog], Sequence[Record]], keep_trees: timedelta) -> tuple[Sequence[Record], int]:
    """What would be forgotten, and the bytes that a gc without grace would then free."""
    terms = collecting.Terms(retention=Retention(), keep_trees=keep_trees, grace=timedelta(0), forget=chosen)
    mark = Mark(store.metadata, leaf_digests)
    collecting.read_ahead(store, mark, terms)
    with store.lock(waiting) as catalog:
        planned = collecting.plan(store, catalog, mark, terms)
    return planned.forget, planned.bytes
