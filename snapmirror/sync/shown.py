"""A snapshot as programs are told of it: `show --json`, `snapshots --json`, and the server's API."""

from datetime import datetime

import msgspec

from ..store.catalog import Catalog
from ..store.records import Record, place_of
from ..store.store import Store


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """One directory of a repo."""

    #: SHA-256 of the directory, hexadecimal: equal ones list the same
    digest: str
    #: when upstream was read, and since which snapshot it is unchanged, in the form of an id
    read: str
    since: str
    #: eager, redirect or on-demand
    mode: str
    files: int
    #: of these files, as far as their records state them
    bytes: int


class Repo(msgspec.Struct, frozen=True, kw_only=True):
    """One repo of a snapshot."""

    kind: str
    read: str
    since: str
    files: int
    bytes: int
    directories: dict[str, Directory]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A kept snapshot with the counts of each repo and directory."""

    id: str
    #: order of publication
    number: int
    #: whether others are looked up before it
    partial: bool
    #: {repo: what is not known of it} for the repos that were made from what upstream said later of that time
    reconstructed: dict[str, str]
    #: by path
    repos: dict[str, Repo]


def of_record(store: Store, record: Record) -> Snapshot:
    """A record with its counts. Raises DamagedError."""
    return Snapshot(
        id=record.id,
        number=record.number,
        partial=record.partial,
        reconstructed=record.reconstructed,
        repos={path: _repo(store, record, path) for path in record.repos},
    )


def _repo(store: Store, record: Record, path: str) -> Repo:
    repo, directories = record.repos[path], dict[str, Directory]()
    for name, state in repo.directories.items():
        counts = store.metadata.counts(state.blob)
        directories[name] = Directory(
            digest=state.digest, read=state.read, since=state.since, mode=counts.mode, files=counts.files, bytes=counts.size
        )
    return Repo(
        kind=repo.kind,
        read=repo.read,
        since=repo.since,
        files=sum(one.files for one in directories.values()),
        bytes=sum(one.bytes for one in directories.values()),
        directories=directories,
    )


def withheld(store: Store, record: Record) -> dict[str, dict[str, str]]:
    """{"repo/directory": {file: reason}}, without those that withhold nothing. Raises DamagedError."""
    found = {
        place_of(path, name): store.metadata.directory(state.blob).document.withheld
        for path, repo in record.repos.items()
        for name, state in repo.directories.items()
    }
    return {directory: files for directory, files in found.items() if files}


def forgotten(catalog: Catalog, selector: str, present: datetime) -> dict[str, str]:
    """{repo: which snapshot of it was forgotten}, of those that the view of a selector leaves out for that."""
    return {repo: error.problem for repo, error in catalog.forgotten(selector, present).items()}
