"""snapmirror tree: export a snapshot as a folder of hard links."""

from ..sync.trees import of_record
from .context import ConfigOption, SnapshotArgument, opened, output, say, waiting
from .ecosystems import ECOSYSTEMS


def tree(snapshot: SnapshotArgument, config: ConfigOption = None) -> None:
    """Export a snapshot as a folder of hard links, for web servers, rsync or file://, and print its path."""
    with opened(config, write=True) as (settings, store), store.lock_trees(waiting):
        record = store.catalog().single(snapshot, store.now())
        links = of_record(store, ECOSYSTEMS, record, settings.exported)
        with store.lock(waiting) as catalog:
            record = catalog.resolve(record.id, None, store.now())  # it may have been forgotten meanwhile
            store.published.publish(record.id, links)
            store.published.refresh(catalog, store.now())
    if not links:
        say(f"snapshot {record.id}: nothing to export; that is only done with eager repos, and as [publish] trees says")
        return
    output(str(store.layout.published / record.id))
