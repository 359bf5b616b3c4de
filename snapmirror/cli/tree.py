"""snapmirror tree: export a snapshot as a folder of hard links."""

from ..store.records import Record, place_of
from ..store.store import Store
from ..sync.trees import RepoTrees
from .context import ConfigOption, opened, say, show, waiting
from .ecosystems import ECOSYSTEMS
from .snapshots import SnapshotArgument


def tree(snapshot: SnapshotArgument, config: ConfigOption = None) -> None:
    """Make the tree of a snapshot again, for web servers, rsync or file://, and print its path."""
    with opened(config, write=True) as (settings, store), store.lock_trees(waiting):
        record = store.catalog().single(snapshot, store.now())
        links = _build(store, record, settings.publish.plain)
        with store.lock(waiting) as catalog:
            record = catalog.resolve(record.id, None, store.now())  # it may have been forgotten meanwhile
            store.published.publish(record.id, links)
            store.published.refresh(catalog, store.now())
    if not links:
        say(f"snapshot {record.id} has no eager repo: there are no files to link")
        return
    show(str(store.layout.published / record.id))


def _build(store: Store, record: Record, plain: bool) -> dict[str, str]:
    links: dict[str, str] = {}
    for path, repo in record.repos.items():
        readers = {name: store.metadata.directory(state.blob) for name, state in repo.directories.items()}
        built = RepoTrees(store, ECOSYSTEMS, readers).build({}, plain=plain)
        links |= {place_of(path, place): tree for place, tree in built.items()}
    return links
