"""Getting back what a check has found missing: from upstream, verified like any other file; then trees and index."""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import DamagedError, UpstreamError
from ..readings import File
from ..store import check, fs
from ..store.check import Problem
from ..store.directories import DirectoryReader
from ..store.records import Record
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.http import Http
from ..transfer.origin import source_of
from .fetch import Progress, fetch
from .trees import RepoTrees


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
                with contextlib.suppress(DamagedError):  # it can't be had from upstream; all else can
                    reader = store.metadata.directory(state.blob)
                    if reader.document.mode == "eager":
                        ecosystem, origin = ecosystems[reader.document.kind], reader.document.origin
                        for digest, file in _lost(store, ecosystem, reader, missing):
                            found.setdefault(digest, source_of(ecosystem, file, name, origin, upstreams, upstreams))
    return found


def _lost(
    store: Store, ecosystem: Ecosystem, reader: DirectoryReader, missing: Collection[Digest | None]
) -> Iterator[tuple[Digest, File]]:
    for name, leaf in reader.leaves.items():
        try:
            files = ecosystem.files(reader.read(leaf))
        except (DamagedError, ValueError):
            continue
        for file in files:
            if file.sha256 and file.sha256 in missing:
                yield file.sha256, file.but(url=reader.elsewhere(name, file.name) or file.url)


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
    """Mend what can be mended; what was done, a line each. The caller checks again afterwards.

    configured: repos by path, whose upstreams are asked too; problems: what the check has found; plain: see `Publish.plain`
    """
    done = []
    if any(problem.index for problem in problems):
        with store.lock(progress.message):
            store.reindex()
        done.append("made the index again")
    with store.lock(progress.message):
        for path in sorted({path for path, _ in check.live(store)}):
            store.live.drop(path)
            done.append(f"dropped the live state of {path}: it is asked for again")
    wanted = sources(store, ecosystems, configured, problems)
    for digest in list(wanted):
        if store.blobs.size(digest) is None:
            continue
        if check.is_whole(store, digest):  # what was wrong was said of it, not in it
            del wanted[digest]
        else:
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


def tree_problems(store: Store, ecosystems: Mapping[str, Ecosystem]) -> Iterator[Problem]:
    """Tree objects that lack a file, or have another than the snapshot lists. The caller holds the store's lock."""
    seen: set[str] = set()
    try:
        records = store.catalog().records
    except DamagedError:
        return  # the check names it
    for record in records:
        for place, link in store.published.links(record.id).items():
            tree = link.split("/")[0]
            if tree not in seen and store.trees.path(tree).is_dir():
                seen.add(tree)
                with contextlib.suppress(DamagedError):  # of a leaf, which `check` names
                    trees, name = _at(store, ecosystems, record, place)
                    if wrong := _wrong_in(store, trees, name, tree):
                        yield Problem(f"published/{record.id}/{place}/{wrong}", "is missing, or is not what the snapshot lists")


def _wrong_in(store: Store, trees: RepoTrees, name: str, tree: str) -> str | None:
    """A file of the tree object of a directory that is missing, or is not the blob that it should be."""
    folder = store.trees.path(tree)
    for path, blob in trees.blobs(name):
        if not _same(store, folder / path, blob):
            return path
    # whether the plain forms are there is a matter of the configuration as it was then
    return next((path for path in trees.documents(name, plain=False) if not (folder / path).exists()), None)


def _same(store: Store, path: Path, digest: Digest) -> bool:
    """Whether a name in a tree leads to a blob: one inode, or, where a file system allows no more links, a copy."""
    try:
        link, blob = os.stat(path), os.stat(store.blobs.path(digest))
    except FileNotFoundError:
        return False
    return link.st_ino == blob.st_ino or (link.st_size == blob.st_size and _sha256_of(path) == digest)


def _sha256_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _at(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, place: str) -> tuple[RepoTrees, str]:
    """The trees of the repo that has a place, and the name of the directory to which it belongs. Raises DamagedError."""
    path = max((path for path in record.repos if f"{place}/".startswith(f"{path}/")), key=len)
    readers = {name: store.metadata.directory(state.blob) for name, state in record.repos[path].directories.items()}
    trees = RepoTrees(store, ecosystems, readers)
    return trees, trees.at(place[len(path) + 1 :])


def _mend_tree(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, *, plain: bool) -> list[str]:
    """Make the tree objects of a snapshot again that are gone, lack a file or have another in its place."""
    links, done = store.published.links(record.id), []
    for place, link in list(links.items()):
        tree = link.split("/")[0]
        try:
            trees, name = _at(store, ecosystems, record, place)
            if store.trees.path(tree).is_dir() and _wrong_in(store, trees, name, tree) is None:
                continue
            if any(store.blobs.size(blob) is None for _, blob in trees.blobs(name)):
                continue  # the check names the file
            fs.discard_tree(store.trees.path(tree))
            links[place] = trees.build_one(name, plain=plain) + link[len(tree) :]
        except DamagedError:
            continue  # of a leaf, which the check names too
        done.append(f"linked published/{record.id}/{place} again")
    if done:
        store.published.publish(record.id, links)
    return done
