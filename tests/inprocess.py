"""Syncing in this process, for tests that seal dozens of snapshots; the command line is tested through tests/mirror.py."""

import itertools
import json
import os
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.cli.gc import leaf_digests
from snapmirror.ecosystem import FileAt, Repo
from snapmirror.store import gc, retention
from snapmirror.store.mark import Mark
from snapmirror.store.records import Record
from snapmirror.store.retention import Retention
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.report import Report
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.settings import Download

FAST = Download(retries=1, connect_timeout="2s", stall="1B/2s", min_free="0%")


class Quiet:
    """A sync.fetch.Progress that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def stage(self, repo: str, stage: str, detail: str) -> None: ...
    def begin(self, files: int, size: int) -> None: ...
    def arrived(self, size: int) -> None: ...
    def end(self) -> None: ...


def ticking(start: str = "2026-11-20T01:00:00", step: timedelta = timedelta(hours=1)) -> Callable[[], datetime]:
    """A clock that `step`s at every look, so that every snapshot has a time of its own."""
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    count = itertools.count()
    return lambda: first + next(count) * step


@contextmanager
def store_at(root: Path, now: Callable[[], datetime] | None = None) -> Iterator[Store]:
    """A store, made if it is not there."""
    clock = {"now": now} if now else {}
    if not (root / "snapmirror.json").exists():
        Store.create(root, **clock)
    with Store.open(root, write=True, **clock) as store:
        yield store


def sync(
    store: Store,
    *repos: Repo,
    only: Collection[str] | None = None,
    publish: Publish | None = None,
    download: Download = FAST,
    **options: Any,
) -> Report:
    """Sync repos, or of these only some, waiting for no lock."""
    run = Sync(store, ECOSYSTEMS, repos, download, publish or Publish(), Quiet(), Options(**options))
    return run.run([repo for repo in repos if only is None or repo.path in only])


def repodata(store: Store, record: Record, path: str, directory: str) -> dict[str, Any]:
    """The repodata.json that a snapshot publishes for a subdir."""
    reader = store.metadata.directory(record.repos[path].directories[directory].blob)
    found: dict[str, Any] = json.loads(ECOSYSTEMS["conda"].derive(reader, "repodata.json"))
    return found


def records_of(document: dict[str, Any]) -> dict[str, Any]:
    """Every record of a repodata.json by file name."""
    return {**document.get("packages", {}), **document.get("packages.conda", {})}


def file_digest(store: Store, record: Record, path: str, directory: str, name: str) -> str | None:
    """The SHA-256 that a snapshot gives for a file."""
    reader = store.metadata.directory(record.repos[path].directories[directory].blob)
    found = ECOSYSTEMS["conda"].locate(reader, name)
    return found.file.sha256.hex() if isinstance(found, FileAt) and found.file.sha256 else None


def forget(store: Store, *snapshots: str) -> None:
    """`snapmirror forget`."""
    with store.lock(None) as catalog:
        retention.execute_forget(store, catalog, retention.plan_forget(catalog, snapshots, store.now()))


def collect(
    store: Store,
    grace: timedelta = timedelta(0),
    keep: Retention | None = None,
    keep_trees: timedelta = timedelta(days=30),
    on_request: Collection[str] | None = None,
) -> int:
    """`snapmirror gc`; the bytes freed. on_request: as in `gc.Terms`"""
    terms = gc.Terms(keep or Retention(), keep_trees, grace, on_request=on_request)
    with store.lock(None) as catalog:
        plan = gc.plan(store, catalog, Mark(store.metadata, leaf_digests), terms)
        return gc.execute(store, catalog, plan)


def in_child(action: object) -> None:
    """Run in a forked process, so that LMDB and locks are as after a real death."""
    child = os.fork()
    if child == 0:
        try:
            action()  # type: ignore[operator]
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
