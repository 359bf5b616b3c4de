"""snapmirror tree: export a snapshot as a folder of hard links."""

from ..store.records import Record, place_of
from ..store.store import Store
from ..sync.settings import Publish
from ..sync.trees import RepoTrees
from .context import ConfigOption, SnapshotArgument, opened, output, say, waiting
from .ecosystems import ECOSYSTEMS


def tree(snapshot: SnapshotArgument, config: ConfigOption = None) -> None:
    """Export a snapshot as a folder of hard links, for web servers, rsync or file://, and print its path."""
    with opened(config, write=True) as (settings, store), store.lock_trees(waiting):
        record = store.catalog().single(snapshot, store.now())
        links = _build(store, record, settings.publish)
        with store.lock(waiting) as catalog:
            record = catalog.resolve(record.id, None, store.now())  # it may have been forgotten meanwhile
            store.published.publish(record.id, links)
            store.published.refresh(catalog, store.now())
    if not links:
        say(f"snapshot {record.id}: nothing to export; that is only done with eager repos, and as [publish] trees says")
        return
    output(str(store.layout.published / record.id))


def _build(store: Store, record: Record, publish: Publish) -> dict[str, str]:
    """Make the trees of the repos that a sync would export; {place: tree}, as `Published.publish` takes them."""
    links: dict[str, str] = {}
    for path, repo in record.repos.items():
        if not publish.wants_tree(path, "eager", usual=ECOSYSTEMS[repo.kind].linked):  # build leaves out what is not eager
            continue
        readers = {name: store.metadata.directory(state.blob) for name, state in repo.directories.items()}
        built = RepoTrees(store, ECOSYSTEMS, readers).build({}, plain=publish.plain)
        links |= {place_of(path, place): tree for place, tree in built.items()}
    return links
