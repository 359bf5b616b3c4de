"""Getting back what a check has found missing: from upstream, verified like any other file; then trees and index."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from .. import units
from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import DamagedError, UpstreamError
from ..readings import File
from ..store import check, fs, scrub
from ..store.check import Problem
from ..store.directories import DirectoryReader
from ..store.held import Held
from ..store.records import Record
from ..store.store import Store
from ..store.trees import name_of
from ..transfer.download import Source
from ..transfer.http import Http
from ..transfer.origin import source_of
from .fetch import Progress, fetch
from .givers import Giver
from .trees import RepoTrees

#: a flag, see Held
_READ = 1


def sources(
    store: Store,
    ecosystems: Mapping[str, Ecosystem],
    configured: Mapping[str, Repo],
    problems: Iterable[Problem],
    giver: Giver | None = None,
) -> dict[Digest, Source]:
    """Where the missing blobs may be had again; files where their directories came from, and at the repo's upstreams.

    giver: a further place, asked first, which may have metadata too
    """
    missing = {problem.blob for problem in problems if problem.blob}
    found = dict(_files(store, ecosystems, configured, missing, giver))
    if giver:
        for digest in missing:
            known = found.get(digest) or Source(File(digest.hex(), None, digest, None), ())
            if urls := tuple(giver.urls(digest, known.file.size)):
                found[digest] = replace(known, urls=urls + known.urls)
    return {digest: source for digest, source in found.items() if source.urls}


def _files(
    store: Store,
    ecosystems: Mapping[str, Ecosystem],
    configured: Mapping[str, Repo],
    missing: Collection[Digest],
    giver: Giver | None,
) -> Iterator[tuple[Digest, Source]]:
    """The missing blobs that are files of eager directories, each once; of a repo that is offline as the giver has them."""
    left, seen = set(missing), Held(())
    catalog, _ = store.snapshots.readable()
    offline = {path for path, repo in configured.items() if repo.offline}
    repos = [item for record in reversed(catalog.records) for item in record.repos.items()]
    for path, repo in sorted(repos, key=lambda item: item[0] in offline):  # another repo may have the same file
        upstreams = configured[path].upstreams if path in configured.keys() - offline else []
        alike = [*(giver.upstreams(path) if giver else []), *upstreams]
        for name, state in repo.directories.items():
            if not left:
                return
            with contextlib.suppress(DamagedError):  # it can't be had from upstream; all else can
                reader = store.metadata.directory(state.blob)
                if reader.document.mode == "eager":
                    ecosystem, origin = ecosystems[reader.document.kind], reader.document.origin
                    for digest, file in _lost(ecosystem, reader, left, seen):
                        left.discard(digest)
                        source = source_of(ecosystem, file, name, origin, upstreams, alike)
                        yield digest, replace(source, urls=()) if path in offline else source


def _lost(
    ecosystem: Ecosystem, reader: DirectoryReader, missing: Collection[Digest], seen: Held
) -> Iterator[tuple[Digest, File]]:
    """The missing files that a directory lists. seen: buckets and leaves that need not be read again; what is read is noted"""
    for place, bucket in enumerate(reader.document.buckets):
        if seen.has(bucket, _READ):
            continue
        seen.note(bucket, _READ)
        with contextlib.suppress(DamagedError):  # what it lists can't be told; what the others list can
            for name, leaf in reader.bucket(place).leaves.items():
                if not seen.has(leaf, _READ):
                    seen.note(leaf, _READ)
                    yield from _of_leaf(ecosystem, reader, name, leaf, missing)


def _of_leaf(
    ecosystem: Ecosystem, reader: DirectoryReader, name: str, leaf: Digest, missing: Collection[Digest]
) -> Iterator[tuple[Digest, File]]:
    try:
        files = ecosystem.files(reader.read(leaf))
    except (DamagedError, ValueError):
        return
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
    giver: Giver | None = None,
) -> list[str]:
    """Mend what can be mended; what was done, a line each. The caller checks again afterwards: where metadata was had again,
    what that refers to may be missing too.

    configured: repos by path, whose upstreams are asked too; problems: what the check has found, wrong blobs taken away
    plain: see `Publish.plain`; giver: see `sources`
    """
    done = []
    if rows := [problem.blob for problem in problems if problem.index and problem.blob]:
        store.index.drop_blobs(rows)
        store.held(rows)  # those that are there are entered again, as they are
        done.append(f"mended {units.plural(len(rows), 'row')} of the index")
    with store.lock_only(progress.message):
        for path in sorted({path for path, _ in check.live(store)}):
            store.live.drop(path)
            done.append(f"dropped the live state of {path}: it is asked for again")
    for blob in store.blobs.list():
        if blob.changeable and scrub.is_whole(store, blob.digest):
            with contextlib.suppress(FileNotFoundError):  # gc has taken it meanwhile
                store.blobs.protect(blob.digest)
                done.append(f"made blob {blob.digest.hex()} read-only again")
    done += [f"{problem.what}: {problem.problem}" for problem in scrub.read_documents(store)]
    done += _put_back(store, {problem.blob for problem in problems if problem.blob})
    wanted = sources(store, ecosystems, configured, problems, giver)
    # What is there is whole, or the check had taken it away: what was wrong was said of it, not in it.
    wanted = {digest: source for digest, source in wanted.items() if store.blobs.size(digest) is None}
    fetched = fetch(store, http, wanted.values(), progress)
    for digest, source in wanted.items():
        result = fetched.get(source.key)
        what = f"{source.file.name} ({digest.hex()})"
        done.append(f"could not get {what}: {result}" if isinstance(result, UpstreamError) else f"got {what} again")
    with store.lock_only(progress.message):
        catalog, unreadable = store.snapshots.readable()
        whole: set[str] = set()
        for record in catalog.records:
            done += _mend_tree(store, ecosystems, record, whole, plain=plain)
        # Else it would take the trees of such a record for those of one that is not kept.
        if not unreadable and not list(store.published.lost(catalog)):
            store.published.refresh(catalog, store.now())
    return done


def _put_back(store: Store, digests: Collection[Digest]) -> Iterator[str]:
    """Make objects again that the service has lost and that the cache of this machine has. A folder has no cache."""
    for digest in digests:
        if store.blobs.size(digest) is None:
            with contextlib.suppress(DamagedError):
                store.put([store.blobs.read(digest)])
                yield f"put {digest.hex()} back from the cache"


def tree_problems(store: Store, ecosystems: Mapping[str, Ecosystem]) -> Iterator[Problem]:
    """Tree objects that lack a file, or have another than the snapshot lists. The caller holds the store's lock."""
    seen: set[str] = set()
    catalog, _ = store.snapshots.readable()
    for record in catalog.records:
        for place, link in store.published.links(record.id).items():
            tree = link.split("/")[0]
            if not _lists(record, place):
                problem = "is published, and the record lists nothing there; restore the record from a backup or a replica"
                yield Problem(f"published/{record.id}/{place}", problem)
            elif tree not in seen and store.trees.path(tree).is_dir():
                seen.add(tree)
                with contextlib.suppress(DamagedError):  # of a leaf, which `check` names
                    trees, name = _at(store, ecosystems, record, place)
                    wrong = _wrong_in(store, trees, name, tree)
                    if wrong is not None:
                        what = f"published/{record.id}/{place}/{wrong}".rstrip("/")
                        yield Problem(what, "is missing, or is not what the snapshot lists")


def _wrong_in(store: Store, trees: RepoTrees, name: str, tree: str) -> str | None:
    """A file of the tree object of a directory that is missing, is not what it should be, or should not be there.

    Which plain forms and pages it has is a matter of the configuration as it was then: that, and what no digest is known of,
    the object's own name tells. Empty if one of these is wrong and it can't be said which.
    """
    folder = store.trees.path(tree)
    try:
        return _wrong_below(folder, store, trees, name)
    except FileNotFoundError as error:  # a scrub has found it bad meanwhile
        return os.path.relpath(error.filename, folder)


def _wrong_below(folder: Path, store: Store, trees: RepoTrees, name: str) -> str | None:
    """See `_wrong_in`. Raises FileNotFoundError for a name that vanishes meanwhile."""
    within = f"{folder}/"  # texts: there may be a million names, and a Path takes four times as long as to look at a file
    found = {os.path.join(parent, file)[len(within) :] for parent, _, files in os.walk(folder) for file in files}
    listing = dict(trees.blobs(name))
    for path, blob in listing.items():
        if not _same(store, within + path, blob):
            return path
    derived = found - listing.keys()
    for path in derived:
        if not _is_own(os.lstat(folder / path)):
            return path
    documents = trees.documents(name, plain=True)
    for path, (digest, suffix) in documents.items():
        if suffix if path not in derived else not store.documents.holds(folder / path, digest):
            return path
    if name_of(listing | {path: _sha256_of(folder / path) for path in derived}) == folder.name:
        return None
    known = {*documents, *trees.pages(name)}
    return min(derived - known, default=None) or min(known - derived, default="")


def _same(store: Store, path: str, digest: Digest) -> bool:
    """Whether a name in a tree leads to a blob: one inode, or, where a file system allows no more links, a copy."""
    try:
        link, blob = os.lstat(path), os.stat(store.blobs.path_text(digest))
    except FileNotFoundError:
        return False
    if not _is_own(link):
        return False
    return link.st_ino == blob.st_ino or (link.st_size == blob.st_size and _sha256_of(path) == digest)


def _is_own(status: os.stat_result) -> bool:
    """Whether a name in a tree leads to a file itself, which nobody may write to."""
    return stat.S_ISREG(status.st_mode) and not status.st_mode & 0o222


def _sha256_of(path: str | Path) -> Digest:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _lists(record: Record, place: str) -> bool:
    """Whether a record, which may have rotted, lists a directory to which a place may belong."""
    path = max((path for path in record.repos if f"{place}/".startswith(f"{path}/")), key=len, default=None)
    return path is not None and not {place[len(path) + 1 :], ""}.isdisjoint(record.repos[path].directories)


def _at(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, place: str) -> tuple[RepoTrees, str]:
    """The trees of the repo that has a place, and the name of the directory to which it belongs. Raises DamagedError."""
    path = max((path for path in record.repos if f"{place}/".startswith(f"{path}/")), key=len)
    readers = {name: store.metadata.directory(state.blob) for name, state in record.repos[path].directories.items()}
    trees = RepoTrees(store, ecosystems, readers)
    return trees, trees.at(place[len(path) + 1 :])


def _mend_tree(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, whole: set[str], *, plain: bool) -> list[str]:
    """Make the tree objects of a snapshot again that are gone, lack a file or have another in its place.

    whole: those that need not be looked at again, for many snapshots have the same; more are added
    """
    links, done = store.published.links(record.id), []
    for place, link in list(links.items()):
        tree = link.split("/")[0]
        if tree in whole or not _lists(record, place):
            continue  # the check names what is not listed
        try:
            trees, name = _at(store, ecosystems, record, place)
            if store.trees.path(tree).is_dir() and _wrong_in(store, trees, name, tree) is None:
                whole.add(tree)
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
