"""Sealing: the commit that turns what a sync has made into a snapshot, in a short time under the store's lock."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from .. import clock
from ..errors import ClockError, UsageError
from .catalog import Catalog
from .published import links_of
from .records import DirectoryState, Record, RepoState, place_of
from .store import Store

#: how far the newest snapshot may be ahead of the clock
TOLERATED = timedelta(minutes=5)


class Read(NamedTuple):
    """One directory as a sync leaves it."""

    #: hexadecimal digest of its blob
    digest: str
    #: when upstream was read for it, in the form of an id
    read: str


class Synced(NamedTuple):
    """One repo as a sync leaves it."""

    kind: str
    #: by name
    directories: Mapping[str, Read]
    #: its tree objects: {place below it: object, or a file in one}
    links: Mapping[str, str]
    #: the state that it was compared with
    before: Mapping[str, DirectoryState]


class Past(NamedTuple):
    """What makes a snapshot one of the past."""

    #: its id
    id: str
    #: {repo: what is not known of it} for the repos that were made from what upstream says now of that time
    reconstructed: Mapping[str, str]


def seal(
    store: Store,
    catalog: Catalog,
    synced: Mapping[str, Synced],
    configured: Sequence[str],
    past: Past | None,
) -> Record:
    """Publish a snapshot; its record. The caller holds the store's lock and has seen that all blobs are there.

    catalog: as it is under the lock
    synced: the repos that were read, by path
    configured: paths of all repos of the configuration; those not synced keep what they have, others leave
    past: for a partial snapshot, dated in the past; None for now
    Raises ClockError if the newest snapshot is ahead of the clock, UsageError for an id in the past that would change an answer
    already given, DiskFull with nothing published.
    """
    present = store.now()
    if past is not None:
        check_past(catalog, past.id, synced, present)
    id_ = past.id if past else _next_id(store, catalog, present)
    repos = {path: _state(repo, catalog, path, id_) for path, repo in synced.items()}
    trees = {place_of(path, place): tree for path, repo in synced.items() for place, tree in repo.links.items()}
    if past is None:
        for path in configured:
            _carry(store, catalog, path, repos, trees, synced)
    record = Record(
        id=id_,
        number=catalog.next_number,
        partial=past is not None,
        reconstructed=dict(past.reconstructed) if past else {},
        repos=dict(sorted(repos.items())),
    )
    store.published.publish(id_, trees)  # first: a disk that is full here, or a crash, has published nothing
    store.snapshots.write(record)  # the commit
    store.published.refresh(store.catalog(), present)
    return record


def _next_id(store: Store, catalog: Catalog, present: datetime) -> str:
    """Now, or one second after the newest snapshot."""
    newest = clock.from_id(catalog.entries[-1].id) if catalog.entries else None
    if newest is None or newest < present:
        return clock.to_id(present)
    if newest - present > TOLERATED:
        raise ClockError(store.layout.root, clock.to_id(newest), clock.to_id(present))
    return clock.to_id(newest + timedelta(seconds=1))


def check_past(catalog: Catalog, id_: str, repos: Iterable[str], present: datetime) -> None:
    """Raise UsageError unless a snapshot dated `id_` changes no answer that was given for any of these repos."""
    if id_ > clock.to_id(present):
        raise UsageError(f"no snapshot can be dated {id_}: that time has not come yet")
    if id_ in catalog.by_id:
        raise UsageError(f"no snapshot can be dated {id_}: there is a snapshot with that id already")
    for repo in repos:
        taken = [entry.id for entry in catalog.entries if repo in entry.repos]
        if taken and min(taken) < id_ < max(taken):
            raise UsageError(
                f"no snapshot can be dated {id_}: {repo} has snapshots before and after it ({min(taken)} to {max(taken)}), and "
                "what dates between them answer must not change; use a time before the first or after the last"
            )


def _state(repo: Synced, catalog: Catalog, path: str, id_: str) -> RepoState:
    """A repo's part of the record: since when each directory is unchanged comes from the snapshot before."""
    before = next((entry for entry in reversed(catalog.records) if entry.id < id_ and path in entry.repos), None)
    known = before.repos[path].directories if before else {}
    directories = {}
    for name, read in sorted(repo.directories.items()):
        old = known.get(name)
        since = old.since if old and old.digest == read.digest else id_
        directories[name] = DirectoryState(digest=read.digest, since=since, read=read.read)
    return RepoState(kind=repo.kind, directories=directories)


def _carry(
    store: Store,
    catalog: Catalog,
    path: str,
    repos: dict[str, RepoState],
    trees: dict[str, str],
    synced: Mapping[str, Synced],
) -> None:
    """Rebase one repo onto the newest record: what that has of it stays if we have not read the repo, or read it earlier.

    Times are compared only if somebody else has sealed since we compared states: after a clock was set back, an earlier sync
    of ours may have the later time.
    """
    newest = catalog.newest(path)
    if newest is None:
        return
    theirs = newest.repos[path]
    if path in repos and (theirs.directories == synced[path].before or repos[path].read >= theirs.read):
        return
    repos[path] = theirs
    for ours in links_of(path, trees, repos):
        del trees[ours]
    trees.update(links_of(path, store.published.links(newest.id), newest.repos))
