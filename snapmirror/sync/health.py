"""How the mirror fares, for people and programs: what ran last and how it ended, what is held, what fits on the disk."""

import contextlib
import shutil

import msgspec

from .. import clock
from ..errors import DamagedError, SelectorError
from ..store.catalog import CURRENT, Catalog
from ..store.records import Record
from ..store.store import Store
from .calendar import day_of


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How a verb went last, for a repo or for the store."""

    verb: str
    #: path of the repo; empty for the whole store
    repo: str
    #: ids; empty if there was none
    ended: str
    succeeded: str
    seconds: float
    #: whether the last run did all that it should
    good: bool
    #: {how runs ended: how many}
    runs: dict[str, int]


class RepoHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A repo under `current`."""

    repo: str
    kind: str
    #: ids: when upstream was read last, and since when nothing of it has changed
    read: str
    since: str
    files: int
    bytes: int
    withheld: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The last snapshot of a day, and the store then."""

    day: str
    #: of the files that this snapshot lists
    bytes: int
    #: of all blobs in the store when that was counted that day; null if it was not
    stored: int | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    repos: list[RepoHealth]
    runs: list[Run]
    #: {host of an upstream that failed again and again: id until which it is left alone}
    left_alone: dict[str, str]
    #: bytes of the disk, and those that are free
    disk: int
    free: int
    #: blobs, and their bytes, as they were last counted; null if they never were
    blobs: int | None
    stored: int | None
    #: bytes of the files of all kept snapshots, as if each had its own
    referenced: int
    snapshots: int
    #: oldest first
    growth: list[Point]


def health(store: Store, catalog: Catalog) -> Health:
    """How the mirror fares now. Raises DamagedError, OSError."""
    now = clock.to_id(store.now())
    try:
        newest = catalog.view(CURRENT, store.now()).repos
    except SelectorError:  # there is none, or it was forgotten
        newest = {}
    repos = []
    for path, repo in newest.items():
        found = [store.metadata.directory(state.blob).document for state in repo.directories.values()]
        repos.append(
            RepoHealth(
                repo=path,
                kind=repo.kind,
                read=repo.read,
                since=repo.since,
                files=sum(one.files for one in found),
                bytes=sum(one.size for one in found),
                withheld=sum(len(one.withheld) for one in found),
            )
        )
    store.metadata.expect(catalog.directories)
    held, disk = store.outcomes.held(), shutil.disk_usage(store.layout.root)
    sizes = {record.id: _bytes(store, record) for record in catalog.records}
    days = {day_of(record.id): sizes[record.id] for record in catalog.records}
    stored = dict(held.days) if held else {}
    return Health(
        repos=repos,
        runs=[
            Run(
                verb=one.verb,
                repo=one.repo,
                ended=one.ended,
                succeeded=one.succeeded,
                seconds=one.seconds,
                good=one.ended == one.succeeded,
                runs=one.runs,
            )
            for one in store.outcomes.all()
        ],
        left_alone={one.host: one.until for one in store.live.blocked() if one.until > now},
        disk=disk.total,
        free=disk.free,
        blobs=held.blobs if held else None,
        stored=held.bytes if held else None,
        referenced=sum(sizes.values()),
        snapshots=len(catalog.records),
        growth=[Point(day=day, bytes=size, stored=stored.get(day)) for day, size in days.items()],
    )


def _bytes(store: Store, record: Record) -> int:
    """Of the files that a snapshot lists; those of a directory that can't be read are left out."""
    total = 0
    for repo in record.repos.values():
        for state in repo.directories.values():
            with contextlib.suppress(DamagedError):
                total += store.metadata.counts(state.blob).size
    return total
