"""Getting back what a check has found missing: from upstream, verified like any other file; then trees and index."""

from collections.abc import Iterable, Mapping

from .. import addresses
from ..digests import Digest
from ..ecosystem import Ecosystem, File
from ..errors import UpstreamError
from ..store import check, fs, reindex
from ..store.check import Problem
from ..store.records import Record
from ..store.store import Store
from . import export
from .download import Source
from .fetch import Progress, fetch
from .http import Http


def sources(store: Store, ecosystems: Mapping[str, Ecosystem], problems: Iterable[Problem]) -> dict[Digest, Source]:
    """Where the missing files may be had again: where the directories that list them came from."""
    missing = {problem.blob for problem in problems if problem.blob}
    found: dict[Digest, Source] = {}
    for record in reversed(store.catalog().records):
        for repo in record.repos.values():
            ecosystem = ecosystems[repo.kind]
            for state in repo.directories.values():
                reader = store.metadata.directory(state.blob)
                if reader.document.mode != "eager" or missing <= found.keys():
                    continue
                for name, leaf in reader.leaves.items():
                    if store.blobs.size(leaf) is None:
                        continue
                    for file in ecosystem.files(reader.read(leaf)):
                        if file.sha256 in missing and file.sha256 not in found:
                            url = reader.elsewhere(name, file.name) or addresses.file_url(reader.document.origin, file.name)
                            found[file.sha256] = Source(File(file.name, file.size, file.sha256, None), (url,))
    return found


def repair(
    store: Store, ecosystems: Mapping[str, Ecosystem], http: Http, progress: Progress, problems: list[Problem], *, plain: bool
) -> list[str]:
    """Mend what can be mended; what was done, a line each. The caller checks again afterwards."""
    done = []
    if any(problem.index for problem in problems):
        with store.lock(progress.message):
            reindex.execute(store)
        done.append("made the index again")
    wanted = sources(store, ecosystems, problems)
    for digest in wanted:
        if store.blobs.size(digest) is not None:  # it is there, with the wrong bytes
            check.quarantine(store, digest)
            done.append(f"quarantined {digest.hex()}")
    fetched = fetch(store, http, wanted.values(), progress)
    for digest, source in wanted.items():
        result = fetched.get(source.key)
        what = f"{source.file.name} ({digest.hex()})"
        done.append(f"could not get {what}: {result}" if isinstance(result, UpstreamError) else f"got {what} again")
    with store.lock(progress.message) as catalog:
        for record in catalog.records:
            done += _mend_tree(store, ecosystems, record, plain=plain)
        store.published.refresh(catalog, store.now())
    return done


def _mend_tree(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, *, plain: bool) -> list[str]:
    """Make the tree objects of a snapshot again that are gone or lack a file."""
    links, done = store.published.links(record.id), []
    for place, tree in list(links.items()):
        path, _, name = place.rpartition("/")
        ecosystem = ecosystems[record.repos[path].kind]
        reader = store.metadata.directory(record.repos[path].directories[name].blob)
        export.refill(store, ecosystem, reader, plain=plain)
        listing = export.tree_listing(store, ecosystem, reader, plain=plain)
        if all((store.trees.path(tree) / file).exists() for file in listing):
            continue
        if any(not source.path.exists() for source in listing.values()):
            continue  # the check names the file
        fs.remove_tree(store.trees.path(tree))
        links[place] = store.trees.build(listing)
        done.append(f"linked published/{record.id}/{place} again")
    if done:
        store.published.publish(record.id, links)
    return done
