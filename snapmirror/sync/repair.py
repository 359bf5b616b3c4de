"""Getting back what a check has found missing: from upstream, verified like any other file; then trees and index."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from .. import addresses
from ..digests import Digest
from ..ecosystem import Ecosystem, File, Repo
from ..errors import UpstreamError
from ..store import check, fs, reindex
from ..store.check import Problem
from ..store.directories import DirectoryReader
from ..store.records import Record
from ..store.store import Store
from . import export
from .download import Source
from .fetch import Progress, fetch
from .http import Http


def sources(
    store: Store, ecosystems: Mapping[str, Ecosystem], configured: Mapping[str, Repo], problems: Iterable[Problem]
) -> dict[Digest, Source]:
    """Where the missing files may be had again: where the directories that list them came from, and the repo's upstreams."""
    missing = {problem.blob for problem in problems if problem.blob}
    found: dict[Digest, Source] = {}
    for record in reversed(store.catalog().records):
        for path, repo in record.repos.items():
            upstreams = configured[path].upstreams if path in configured else []
            for name, state in repo.directories.items():
                if missing <= found.keys():
                    return found
                reader = store.metadata.directory(state.blob)
                if reader.document.mode == "eager":
                    for digest, file in _lost(store, ecosystems[repo.kind], reader, missing):
                        found.setdefault(digest, Source(file, _urls(file, name, reader.document.origin, upstreams)))
    return found


def _lost(
    store: Store, ecosystem: Ecosystem, reader: DirectoryReader, missing: Collection[Digest | None]
) -> Iterator[tuple[Digest, File]]:
    for name, leaf in reader.leaves.items():
        if store.blobs.size(leaf) is not None:
            for file in ecosystem.files(reader.read(leaf)):
                if file.sha256 and file.sha256 in missing:
                    yield file.sha256, file.but(url=reader.elsewhere(name, file.name))


def _urls(file: File, directory: str, origin: str, upstreams: Sequence[str]) -> tuple[str, ...]:
    """The recorded address, with the credentials that the configuration has for that host; then the other upstreams."""
    recorded = file.url or addresses.file_url(origin, file.name)
    for upstream in upstreams:
        recorded = addresses.with_credentials(recorded, upstream)
    bases = (addresses.as_folder(addresses.as_folder(upstream) + directory) for upstream in upstreams)
    return tuple(dict.fromkeys([recorded, *(addresses.file_url(base, file.name) for base in bases)]))


def repair(
    store: Store,
    ecosystems: Mapping[str, Ecosystem],
    configured: Mapping[str, Repo],
    http: Http,
    progress: Progress,
    problems: list[Problem],
    *,
    plain: bool,
) -> list[str]:
    """Mend what can be mended; what was done, a line each. The caller checks again afterwards."""
    done = []
    if any(problem.index for problem in problems):
        with store.lock(progress.message):
            reindex.execute(store)
        done.append("made the index again")
    wanted = sources(store, ecosystems, configured, problems)
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
