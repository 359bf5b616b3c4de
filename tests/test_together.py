"""What other processes may do beside a running sync: nothing is lost, and nothing incomplete is sealed.

The sync runs here; the other process is a real one, and does its work while the sync stands at one line.
"""

import errno
import fcntl
import hashlib
import multiprocessing
import os
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from channels import Channel, make_package
from inprocess import FAST, Quiet, collect, file_digest, forget, records_of, repodata, store_at, sync
from mirror import Mirror
from mirror import check as check_folder
from msgspec.structs import replace
from pypi_index import Index
from upstream import Call, Status, Upstream

from snapmirror.cli.check import _leaf_files
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.cli.gc import leaf_digests
from snapmirror.cli.tree import tree
from snapmirror.conda import CondaRepo
from snapmirror.digests import sha256
from snapmirror.errors import ClockError, DiskFull
from snapmirror.pypi import PypiRepo
from snapmirror.store import check, fs, gc, locks, scrub, syncing
from snapmirror.store.denied import Rule
from snapmirror.store.eviction import Cache, Room
from snapmirror.store.index import BlobRow
from snapmirror.store.mark import Mark
from snapmirror.store.published import Published
from snapmirror.store.records import Entry, Pin
from snapmirror.store.retention import Retention
from snapmirror.store.snapshots import Snapshots
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.exporting import Export
from snapmirror.sync.live import LiveMetadata
from snapmirror.sync.repair import tree_problems
from snapmirror.sync.report import Report
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.http import Http
from snapmirror.transfer.notes import StoreNotes


@contextmanager
def asked(
    folder: Path, now: Callable[[], datetime] | None = None, **keys: Any
) -> Iterator[tuple[Index, Any, Store, LiveMetadata]]:
    """An empty index that is read on request, the repo `pypi` of it, a store, and what reads it there.

    now: the store's clock; keys: of the repo
    """
    with (
        Index(folder / "index", serials=False) as index,
        store_at(folder / "store", now) as store,
        Http(FAST, print, StoreNotes(store)) as http,
    ):
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request", **keys)
        yield index, repo, store, LiveMetadata(store, ECOSYSTEMS, [repo], lambda: http)


def beside(action: Callable[..., None], *arguments: object) -> None:
    """Do something in a process of its own, to its end."""
    process = multiprocessing.get_context("spawn").Process(target=action, args=arguments)
    process.start()
    process.join(60)
    process.kill()
    process.join()
    assert process.exitcode == 0


def meanwhile(monkeypatch: pytest.MonkeyPatch, line: str, action: Callable[[], object], *, after: bool = False) -> list[str]:
    """Do something once, just before (or after) `line`, a `module:name`, is called; the list tells whether it was."""
    owner, _, name = line.rpartition("." if "." in line.partition(":")[2] else ":")
    real, done = getattr(pkgutil.resolve_name(owner), name), list[str]()

    def stop(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named) if after else None
        if not done:
            done.append(line)
            action()
        return found if after else real(*arguments, **named)

    monkeypatch.setattr(pkgutil.resolve_name(owner), name, stop)
    return done


def forget_and_gc(root: Path, *snapshots: str) -> None:
    with store_at(root) as store:
        forget(store, *snapshots)
        collect(store)


def read_all(root: Path) -> None:
    """`snapmirror check --read-data`."""
    with store_at(root) as store:
        assert [
            found for found in (*scrub.read_data(store, None), *scrub.read_documents(store)) if isinstance(found, check.Problem)
        ]


def drop_what_was_fetched(root: Path) -> None:
    """`snapmirror gc --max-cache 0`, without a grace."""
    terms = gc.Terms(Retention(), keep_trees=timedelta(days=30), grace=timedelta(0))
    with store_at(root) as store:
        mark, room = Mark(store.metadata, leaf_digests), Room(store, leaf_digests, Cache(0, ["chan"]))
        room.read_ahead(terms)
        with store.lock(None) as catalog:
            gc.execute(store, catalog, room.plan(catalog, gc.plan(store, catalog, mark, terms), timedelta(0)))


def forget_and_gc_on_a_full_disk(root: Path, *snapshots: str) -> None:
    """LMDB can't even delete: gc throws the index away, and makes it again when there is room."""

    def full(store: Store, blobs: list[tuple[bytes, int]]) -> int:
        raise DiskFull(root)

    gc._sweep = full
    forget_and_gc(root, *snapshots)


def use_index(root: Path, ready: Event) -> None:
    """Ask for the index as a server does; `ready` is set once it is there, or has to be waited for."""
    hold = locks.hold
    locks.hold = lambda path, what, *, waiting: hold(path, what, waiting=lambda _: ready.set())
    with store_at(root) as store:
        assert store.index
        ready.set()


def keep_index(root: Path, commits: int, opened: Event, made: Event) -> None:
    """Hold the index open, as a server does, until `made`, and use it then."""
    with store_at(root) as store:
        for number in range(commits):
            store.put([b"%d" % number])
        opened.set()
        assert made.wait(60)
        assert store.index.held([sha256(b"something")])


def reindex(root: Path, removed: Event, opened: Event) -> None:
    """Make the index again; when the old one is gone, tell so, and wait until somebody has opened it."""
    rename = fs.rename

    def slow(source: Path | str, target: Path | str) -> None:
        if Path(target).name == "index.lmdb":
            removed.set()
            opened.wait(10)
        rename(source, target)

    fs.rename = slow
    with store_at(root) as store, store.lock(None):
        store.reindex()


def sync_first(store: Store, *configured: CondaRepo) -> Report:
    """Sync the first of the configured repos; the others keep what they have."""
    return Sync(store, ECOSYSTEMS, configured, FAST, Publish(), Quiet(), Options()).run(configured[:1])


def sync_one(root: Path, *configured: CondaRepo) -> None:
    with store_at(root) as store:
        assert sync_first(store, *configured).exit_status(strict=True) == 0


def die_while_publishing(root: Path, *configured: CondaRepo) -> None:
    Published.publish = lambda *_: os._exit(0)  # type: ignore[method-assign]
    sync_one(root, *configured)
    raise AssertionError("it should be dead")


def die_while_registering(root: Path, repo: CondaRepo) -> None:
    real = fs.write_new

    def write_new(path: Path, data: bytes, *, sync: bool = True) -> None:
        real(path, data[: len(data) // 2] if path.parent.name == "syncing" else data, sync=sync)
        if path.parent.name == "syncing":
            os._exit(0)

    fs.write_new = write_new
    sync_one(root, repo)
    raise AssertionError("it should be dead")


def die_when_sealed(root: Path, repo: CondaRepo) -> None:
    real = Snapshots.write

    def write(self: Snapshots, entry: Entry) -> None:
        real(self, entry)
        os._exit(0)

    Snapshots.write = write  # type: ignore[method-assign]
    sync_one(root, repo)
    raise AssertionError("it should be dead")


def made(folder: Path, *names: str) -> tuple[Channel, CondaRepo]:
    """A published channel of these packages, and a repo of it by the name of its folder."""
    channel = Channel(folder)
    channel.add(*map(make_package, names))
    channel.publish()
    return channel, CondaRepo(path=folder.name, upstream=folder.as_uri())


def listed(store: Store, path: str) -> set[str]:
    """What the newest snapshot lists of a repo; fails the test unless all of it is in the store, and nothing is amiss."""
    record = store.catalog().records[-1]
    with store.lock(None):
        assert list(check.structure(store, _leaf_files)) == []
    names = set(records_of(repodata(store, record, path, "noarch")))
    digests = [file_digest(store, record, path, "noarch", name) for name in names]
    assert all(digest and sha256(store.blobs.read(bytes.fromhex(digest))).hex() == digest for digest in digests)
    tree = store.layout.published / "current" / path / "noarch"
    if os.path.lexists(tree):
        check_folder(tree)
    return names


def named(tree: Path) -> None:
    """What a sync does when a tree is whole."""
    fs.rename(tree, tree.with_name("c" * 64))


TREES, NO_TREES = Publish(), Publish(trees=[])
REGISTER = "snapmirror.sync.engine:Sync._register"
LISTING = "snapmirror.sync.trees:RepoTrees.blobs"
LINKING = "snapmirror.store.trees:Trees.build"
SYNCED = "snapmirror.sync.engine:Sync._synced"


def test_trees_are_made_when_the_gc_that_began_before_is_over(mirror: Mirror) -> None:
    """It has found nobody whom it would have to spare, and takes what looks like what nobody needs."""
    mirror.sync()
    with mirror.store() as store, store.lock(None):  # as gc does
        for path in (*store.layout.trees.iterdir(), *store.layout.documents.iterdir()):
            fs.remove_tree(path) if path.is_dir() else fs.unlink(path)
        process = mirror.start("tree", "current")
        assert process.stderr
        assert "waiting" in process.stderr.readline()
        assert not list(store.layout.documents.iterdir())
    mirror.finish(process)
    assert list(mirror.tree("chan/noarch").iterdir())


@pytest.mark.parametrize("publish", [TREES, NO_TREES], ids=["trees", "no trees"])
@pytest.mark.parametrize("what", ["repo", "package"])
def test_what_comes_back_just_when_gc_takes_it_is_fetched_again(
    what: str, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a forgotten snapshot holds it, so that a sync which found it there while reading upstream must look again."""
    channel, repo = made(tmp_path / "chan", "lib", "tool")
    _, other = made(tmp_path / "other", "data")
    with store_at(tmp_path / "store") as store:
        sync(store, repo, other, publish=publish)
        first = store.catalog().records[0].id
        if what == "package":
            channel.remove("lib-1.0-0.conda", removed=False)
            channel.publish()
            sync(store, repo, other, publish=publish)
            channel.add(make_package("lib"))
            channel.publish()
        else:
            sync(store, other, publish=publish)
        done = meanwhile(monkeypatch, REGISTER, lambda: beside(forget_and_gc, tmp_path / "store", first))
        assert sync(store, repo, other, publish=publish).exit_status(strict=True) == 0
        assert done
        assert listed(store, "chan") == {"lib-1.0-0.conda", "tool-1.0-0.conda"}
        collect(store)
        assert sync(store, repo, other, publish=publish).exit_status(strict=True) == 0


@pytest.mark.parametrize(
    "line",
    [
        "snapmirror.sync.directory:DirectorySync.finish",
        "snapmirror.sync.export:derive",
        "snapmirror.sync.following:LaterSync.follow",
    ],
)
def test_what_is_left_of_a_package_stays_though_gc_takes_what_had_just_that(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build is withheld after the plan was registered; what remains is what only a forgotten snapshot holds."""
    channel, repo = made(tmp_path / "chan", "lib", "tool")
    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        first = store.catalog().records[0].id
        channel.remove("lib-1.0-0.conda", removed=False)
        channel.publish()
        sync(store, repo)
        channel.add(make_package("lib"), make_package("lib", "2.0"))
        channel.publish()
        channel.remove("lib-2.0-0.conda", listed=True)
        done = meanwhile(monkeypatch, line, lambda: beside(forget_and_gc, tmp_path / "store", first))
        report = sync(store, repo)
        assert done
        assert list(report.repos["chan"].directories["noarch"].withheld) == ["lib-2.0-0.conda"]
        assert listed(store, "chan") == {"lib-1.0-0.conda", "tool-1.0-0.conda"}


@pytest.mark.parametrize("again", ["is there", "is gone"])
def test_a_file_known_by_its_md5_is_fetched_again_though_gc_takes_it_as_soon_as_it_is_there(
    again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can name it as wanted before its SHA-256 is known. What upstream has lost meanwhile is not published."""
    channel, repo = made(tmp_path / "chan", "lib", "tool")
    channel.hotfix("lib-1.0-0.conda", drop=("sha256",))
    channel.publish()

    def act() -> None:
        beside(forget_and_gc, tmp_path / "store")
        if again == "is gone":
            channel.remove("lib-1.0-0.conda", listed=True)

    with store_at(tmp_path / "store") as store:
        done = meanwhile(monkeypatch, "snapmirror.sync.engine:Sync._finish", act)
        report = sync(store, repo)
        assert done
        if again == "is gone":
            assert "lib-1.0-0.conda" in str(report.repos["chan"].directories["noarch"].problem)
            assert store.catalog().records == ()
        else:
            assert report.exit_status(strict=True) == 0
            assert listed(store, "chan") == {"lib-1.0-0.conda", "tool-1.0-0.conda"}
        assert not list(check.structure(store, _leaf_files))


def test_what_gc_takes_and_nobody_has_any_more_is_in_no_merged_index_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(tmp_path / "index") as index, store_at(tmp_path / "store") as store:
        index.upload("six", "six-1.0.tar.gz", b"six")["hashes"] = {"md5": hashlib.md5(b"six").hexdigest()}
        own = PypiRepo(path="own", upstream=f"{index.url}/simple/", projects=["six"])

        def act() -> None:
            beside(forget_and_gc, tmp_path / "store")
            index.fault("/packages/*", Status(503))

        done = meanwhile(monkeypatch, "snapmirror.sync.engine:Sync._finish", act)
        report = sync(store, own, PypiRepo(path="python", upstream="", merge=["own"]))
        assert done
        assert "503" in str(report.repos["own"].problem)
        assert store.catalog().records == ()


def test_a_page_that_becomes_what_it_was_is_kept_though_gc_just_takes_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are read because somebody asks are registered by no sync."""
    with asked(tmp_path) as (index, _, store, live):
        index.upload("six", "six-1.0.tar.gz")
        live.refresh("pypi", "six")
        index.upload("six", "six-2.0.tar.gz")
        live.refresh("pypi", "six")
        index.pages["six"]["files"].pop()
        keep = "snapmirror.sync.live:LiveMetadata._keep"
        done = meanwhile(monkeypatch, keep, lambda: beside(forget_and_gc, tmp_path / "store"))
        live.refresh("pypi", "six")
        assert done
        state = live.states(store.catalog())["pypi"].directories[""]
        content = store.metadata.directory(state.blob).read_leaf("six") or b""
        assert [file.name for file in ECOSYSTEMS["pypi"].files(content)] == ["six-1.0.tar.gz"]


def test_what_is_registered_stays_so_when_what_was_read_on_request_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when a gc has taken what that was planned on: the other repos are planned, and may have come, already."""
    _, other = made(tmp_path / "chan", "lib")
    with asked(tmp_path) as (index, repo, store, live):
        index.upload("six", "six-1.0.tar.gz")
        live.refresh("pypi", "six")
        fetch, seen = Sync._fetch_wanted, []

        def look_up(self: Sync, *arguments: Any) -> Any:
            for _ in range(2):
                seen.append([(entry.directories, entry.planned) for entry in syncing.entries(store.layout)])
                self._ground.states(repo)
            return fetch(self, *arguments)

        monkeypatch.setattr(Sync, "_fetch_wanted", look_up)
        sync(store, repo, other)
        assert seen[0] == seen[1] != []


def test_a_page_that_is_read_anew_just_before_a_sync_seals_the_old_one_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the place of the sealed one, files and names of files and all."""
    with asked(tmp_path) as (index, repo, store, live):
        index.upload("six", "six-1.0-1.tar.gz")  # a name that alone does not tell the project
        index.upload("six", "six-1.0.tar.gz")
        live.refresh("pypi", "six")
        old = store.metadata.directory(live.states(store.catalog())["pypi"].directories[""].blob)
        assert dict(old.names) == {"six-1.0-1.tar.gz": "six"}

        def ask() -> None:
            index.pages["six"]["files"].pop(0)
            index.upload("six", "six-2.0.tar.gz")
            index.upload("six", "six-3.0.tar.gz")
            live.refresh("pypi", "six")

        done = meanwhile(monkeypatch, SYNCED, ask)
        sync(store, repo)
        assert done
        reader = store.metadata.directory(live.states(store.catalog())["pypi"].directories[""].blob)
        files = ECOSYSTEMS["pypi"].files(reader.read_leaf("six") or b"")
        assert [file.name for file in files] == ["six-1.0.tar.gz", "six-2.0.tar.gz", "six-3.0.tar.gz"]
        assert (reader.document.files, reader.document.size) == (3, sum(file.size or 0 for file in files))
        assert dict(reader.names) == {}
        index.upload("six", "six-4.0.tar.gz")
        meanwhile(monkeypatch, SYNCED, lambda: live.refresh("pypi", "six"))
        sync(store, repo)
        assert store.live.states() == {}  # both have read the same, and that is sealed


def test_a_snapshot_of_the_past_takes_nothing_from_what_is_known_now(tmp_path: Path) -> None:
    with asked(tmp_path, projects=["six"]) as (index, repo, store, live):
        index.upload("six", "six-1.0.tar.gz")
        sync(store, repo)
        index.upload("six", "six-2.0.tar.gz")
        live.refresh("pypi", "six")
        before = live.states(store.catalog())
        assert sync(store, repo, seal_as="20240101T000000Z").snapshot
        assert live.states(store.catalog()) == before


def test_what_two_servers_tell_of_a_date_at_once_is_told_once(tmp_path: Path) -> None:
    """Both find that nobody had asked for the page by then; what the first has told stays, whatever upstream says next."""
    with asked(tmp_path) as (index, repo, store, live):
        index.upload("six", "six-1.0.tar.gz")
        index.upload("flask", "flask-1.0.tar.gz")
        live.refresh("pypi", "six")
        sealed = sync(store, repo).snapshot or ""
        told = []
        for version in "23":
            live.refresh("pypi", "flask")
            live.reconstruct("pypi", sealed, "flask")
            told.append(store.snapshots.pages()[sealed]["pypi"])
            index.upload("flask", f"flask-{version}.0.tar.gz")
        assert told[0] == told[1]
        assert store.metadata.directory(bytes.fromhex(told[0])).document.files == 2


def test_documents_of_what_was_read_on_request_stay_until_it_is_read_anew(tmp_path: Path) -> None:
    channel, _ = made(tmp_path / "chan", "lib")
    keys: dict[str, Any] = {"download": "on-demand", "metadata": "on-request"}
    repo = CondaRepo(path="chan", upstream=channel.root.as_uri(), **keys)
    with store_at(tmp_path / "store") as store, Http(FAST, print, StoreNotes(store)) as http:
        live = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: http)
        found: list[set[str]] = []
        for name in ("more", "new"):
            channel.add(make_package(name))
            channel.publish()
            live.refresh("chan", "")
            found.append({path.name for path in store.layout.documents.iterdir()})
        assert found[0]
        assert len(found[0]) == len(found[1])
        assert not found[0] & found[1]
        collect(store)
        assert {path.name for path in store.layout.documents.iterdir()} == found[1]


@pytest.mark.parametrize(
    ("who", "when", "line"),
    [
        ("gc", "before", LISTING),
        ("gc", "before", LINKING),
        ("gc", "after", SYNCED),
        ("sync", "before", LISTING),
        ("sync", "before", LINKING),
    ],
)
def test_documents_and_trees_that_are_not_published_yet_are_left_alone(
    who: str, when: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    _, other = made(tmp_path / "other", "data")
    root = tmp_path / "store"
    with store_at(root) as store:
        sync(store, repo, other)
        first = store.catalog().records[0].id
        sync(store, repo, other)
        channel.add(make_package("new"))
        channel.publish()
        act = (sync_one, root, other, repo) if who == "sync" else (forget_and_gc, root, first)
        done = meanwhile(monkeypatch, line, lambda: beside(*act), after=when == "after")
        assert sync_first(store, repo, other).exit_status(strict=True) == 0
        assert done
        assert listed(store, "chan") == {"lib-1.0-0.conda", "new-1.0-0.conda"}


def test_a_tree_that_is_made_by_hand_is_left_alone_by_gc(
    mirror: Mirror, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    channel.add(make_package("new"))
    channel.publish()
    mirror.sync()
    first = mirror.snapshots()[0]
    fs.remove_tree(mirror.store_path / "published" / first)
    mirror.run("gc")
    done = meanwhile(monkeypatch, "snapmirror.cli.tree:of_record", lambda: mirror.run("gc"), after=True)
    tree(first, mirror.config)
    assert done
    assert mirror.published(first)
    mirror.run("check")


def test_an_export_is_whole_though_gc_makes_room_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that comes on demand may be missing; once its size is told, it may not. An export that has died keeps none."""
    _, repo = made(tmp_path / "chan", "lib", "tool")
    root, lib = tmp_path / "store", make_package("lib").data
    with store_at(root) as store:
        sync(store, replace(repo, download="on-demand"))
        store.fetched.add(sha256(lib))
        store.put([lib])
        done = meanwhile(monkeypatch, "snapmirror.sync.exporting:_Writer", lambda: beside(drop_what_was_fetched, root))
        Export(store, ECOSYSTEMS, Quiet(), print).run(tmp_path / "all.tar", None, [], None)
        assert done
        assert lib in (tmp_path / "all.tar").read_bytes()
        dead = store.registration()
        with store.lock(None) as catalog:
            dead.write(state.blob for state in catalog.records[-1].repos["chan"].directories.values())
        dead.abandon()
        beside(drop_what_was_fetched, root)
        assert store.blobs.size(sha256(lib)) is None


def test_an_export_is_whole_though_what_it_builds_on_is_forgotten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    root, new = tmp_path / "store", make_package("new").data
    with store_at(root) as store:
        sync(store, repo)
        first = store.catalog().records[0].id
        channel.add(make_package("new"))
        channel.publish()
        sync(store, repo)
    done = meanwhile(monkeypatch, "snapmirror.sync.exporting:Export._blobs", lambda: beside(forget_and_gc, root, first))
    with store_at(root) as store:
        Export(store, ECOSYSTEMS, Quiet(), print).run(tmp_path / "more.tar", first, [], None)
        assert done
        content = (tmp_path / "more.tar").read_bytes()
        assert (new in content, make_package("lib").data in content) == (True, False)


def test_gc_takes_no_row_back_that_a_scrub_has_just_read(tmp_path: Path) -> None:
    """Else the next sync would believe that it has the file."""
    channel, repo = made(tmp_path / "chan", "lib", "tool")
    with store_at(tmp_path / "store") as store:
        sync(store, repo, publish=NO_TREES)
        channel.remove("lib-1.0-0.conda")
        channel.publish()
        sync(store, repo, publish=NO_TREES)
        reading = scrub.read_data(store, None)
        next(reading)
        beside(forget_and_gc, tmp_path / "store", store.catalog().records[0].id)
        assert not [found for found in reading if isinstance(found, check.Problem)]
        assert store.index.blob(sha256(make_package("lib").data)) is None
        channel.add(make_package("lib"))
        channel.publish()
        assert sync(store, repo, publish=NO_TREES).exit_status(strict=True) == 0
        assert "lib-1.0-0.conda" in listed(store, "chan")


def test_a_file_that_gc_takes_and_somebody_brings_again_while_a_scrub_reads_is_no_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when it was to be read, and is there when that is looked at."""
    with store_at(tmp_path / "store") as store:
        store.put([b"on demand"])
        done = meanwhile(monkeypatch, "snapmirror.store.scrub:_read", lambda: store.remove([sha256(b"on demand")]))
        brought = meanwhile(monkeypatch, "snapmirror.store.scrub:_read", lambda: store.put([b"on demand"]), after=True)
        assert list(scrub.read_data(store, None)) == []
        assert done
        assert brought
        assert store.blobs.read(sha256(b"on demand")) == b"on demand"


def test_gc_takes_no_file_that_is_just_linked_however_old_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link has the date of its file."""
    channel, _ = made(tmp_path / "chan", "lib")
    os.utime(channel.root / "noarch" / "lib-1.0-0.conda", (1e9, 1e9))
    repo = CondaRepo(path="chan", upstream=channel.root.as_uri(), link=True)
    with store_at(tmp_path / "store") as store:
        done = meanwhile(monkeypatch, "snapmirror.store.store:Store.admit", lambda: beside(forget_and_gc, tmp_path / "store"))
        assert sync(store, repo).exit_status(strict=True) == 0
        assert done
        assert listed(store, "chan") == {"lib-1.0-0.conda"}


def test_a_check_beside_a_sync_takes_new_files_for_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, repo = made(tmp_path / "chan", "lib")
    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        done = meanwhile(monkeypatch, "snapmirror.store.check:_index", lambda: store.put([b"fetched by a sync"]))
        assert listed(store, "chan") == {"lib-1.0-0.conda"}
        assert done


@pytest.mark.parametrize("what", ["file", "document"])
@pytest.mark.parametrize("change", [fs.discard_tree, named], ids=["taken away", "named"])
def test_wrong_bytes_are_taken_out_of_every_tree_and_told_though_trees_come_and_go(
    change: Callable[[Path], None], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync gives a tree its name when it is whole, and gc takes one away, while a scrub goes through them."""
    with store_at(tmp_path / "store") as store:
        store.put([b"good"])
        path = store.blobs.path(sha256(b"good"))
        if what == "document":
            path = store.documents.put(sha256(b"document"), "", b"document")
        for name in (".new-0", "a" * 64, "b" * 64):
            (store.layout.trees / name).mkdir()
            fs.link(path, store.layout.trees / name / "link")
        path.chmod(0o644)
        path.write_bytes(b"wrong")
        path.chmod(0o444)
        lstat, seen = os.lstat, list[Path]()

        def slow(looked_at: str | Path, **keys: Any) -> os.stat_result:
            if Path(looked_at).name == "link" and not seen:
                seen.append(Path(looked_at).parent)
                change(seen[0] if change is fs.discard_tree else store.layout.trees / ".new-0")
            return lstat(looked_at, **keys)

        monkeypatch.setattr("os.lstat", slow)
        found = [*scrub.read_data(store, None), *scrub.read_documents(store)]
        assert seen
        assert sum(isinstance(one, check.Problem) for one in found) == 1
        assert not path.exists()
        assert list(store.layout.trees.rglob("link")) == []


@pytest.mark.parametrize(
    ("files", "line", "after"),
    [
        ("blobs/*/{lib}", "snapmirror.store.trees:_link_all", False),
        ("documents/*.zst", "snapmirror.store.trees:_link_all", False),
        ("documents/*.zst", "snapmirror.sync.export:refill", True),
    ],
)
def test_a_sync_names_what_a_check_takes_away_while_it_makes_trees_and_the_next_one_gets_it_again(
    files: str, line: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    bad = files.format(lib=sha256(make_package("lib").data).hex())

    def spoil_and_check() -> None:
        for path in (tmp_path / "store").glob(bad):
            path.chmod(0o644)
            path.write_bytes(b"wrong")
            path.chmod(0o444)
        beside(read_all, tmp_path / "store")

    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        channel.add(make_package("new"))
        channel.publish()
        done = meanwhile(monkeypatch, line, spoil_and_check, after=after)
        report = sync(store, repo)
        assert done
        assert report.exit_status(strict=False) == 5
        gone = r"(blob |documents/)[0-9a-f]{64}(\.zst)?: is gone: .*`sync`.* get it anew"
        assert re.match(gone, report.repos["chan"].problem or "")
        assert len(store.catalog().records) == 1
        assert sync(store, repo).exit_status(strict=True) == 0
        assert listed(store, "chan") == {"lib-1.0-0.conda", "new-1.0-0.conda"}


def test_a_document_that_is_removed_is_not_mistaken_for_what_gets_its_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 gives the number to the next file at once: a document that a sync makes again, say, and links into a tree."""
    with store_at(tmp_path / "store") as store:
        store.documents.put(sha256(b"document"), "", b"document").chmod(0o644)
        new = store.layout.trees / ("a" * 64) / "link"
        new.parent.mkdir()
        done = meanwhile(monkeypatch, "snapmirror.store.fs:unlink", lambda: new.write_bytes(b"document"), after=True)
        assert len(list(scrub.read_documents(store))) == 1
        assert done
        assert new.read_bytes() == b"document"


@pytest.fixture
def returning(mirror: Mirror, channel: Channel) -> Mirror:
    """A mirror whose next sync finds `lib` upstream again, with another record; only the first snapshot has its bytes."""
    mirror.settings["publish"] = {"trees": []}
    mirror.sync()
    channel.remove("lib-1.0-0.conda")
    channel.add(make_package("more"))
    channel.publish()
    mirror.sync()
    channel.add(make_package("lib"))
    channel.hotfix("lib-1.0-0.conda", license="changed")
    channel.publish()
    return mirror


def test_repair_mends_the_index_of_a_running_sync_row_by_row(returning: Mirror, upstream: Upstream) -> None:
    def act() -> None:
        with Store.open(returning.store_path, write=True) as store:
            store.index.put_blobs({bytes(32): BlobRow(5)})
        ended.append(returning.run("check", "--repair", status=None).status)
        returning.run("forget", first)
        returning.run("gc", "--grace", "0s")

    ended: list[int] = []
    first = returning.snapshots()[0]
    upstream.fault("/chan/noarch/repodata.json*", Call(act), times=1)
    returning.sync()
    assert ended == [0]
    assert "lib-1.0-0.conda" in returning.listed("chan/noarch")
    returning.run("check", "--repair")
    returning.run("check", "--read-data")


def test_a_sync_goes_on_with_the_index_that_another_process_has_made(returning: Mirror, upstream: Upstream) -> None:
    first = returning.snapshots()[0]
    upstream.fault(
        "/chan/noarch/repodata.json*",
        Call(lambda: beside(forget_and_gc_on_a_full_disk, returning.store_path, first)),
        times=1,
    )
    returning.sync()
    assert "lib-1.0-0.conda" in returning.listed("chan/noarch")
    returning.run("check", "--read-data")
    returning.sync()


def test_a_server_that_finds_no_index_waits_for_the_one_that_is_just_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not take the half of it away to make its own."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    server = spawn.Process(target=use_index, args=(tmp_path / "store", ready))

    def ask() -> None:
        server.start()
        assert ready.wait(60)

    with store_at(tmp_path / "store") as store:
        store.put([b"something"])
        done = meanwhile(monkeypatch, "snapmirror.store.fs:rename", ask)  # the old index is gone by then
        with store.lock(None):
            assert store.reindex() == (1, 0)
        assert done
        server.join(60)
        assert server.exitcode == 0
        assert store.index.held([sha256(b"something")])


@pytest.mark.parametrize("commits", [1, 2])
def test_a_new_index_is_read_whole_though_a_server_has_the_old_one_open(commits: int, tmp_path: Path) -> None:
    """LMDB looks up in the lock file which of the last two states is the newest, and that of the old index says otherwise."""
    spawn = multiprocessing.get_context("spawn")
    opened, made = spawn.Event(), spawn.Event()
    server = spawn.Process(target=keep_index, args=(tmp_path / "store", commits, opened, made))
    with store_at(tmp_path / "store") as store:
        store.put([b"something"])
        server.start()
        assert opened.wait(60)
        with store.lock(None):
            assert store.reindex() == (1 + commits, 0)
        assert store.index.held([sha256(b"something")])
        made.set()
        server.join(60)
        assert server.exitcode == 0


def test_two_processes_may_find_at_once_that_there_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "store"
    done = meanwhile(monkeypatch, "snapmirror.store.layout:create", lambda: Store.create(root))
    Store.create(root)
    assert done
    Store.open(root, write=True).close()


@pytest.mark.parametrize("name", ["pins/paper.json", "snapshots/20200101T000000Z.pages"])
def test_what_another_process_takes_away_while_it_is_read_counts_as_gone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_at(tmp_path / "store") as store:
        path = store.layout.root / name
        path.write_bytes(b"{}")
        done = meanwhile(monkeypatch, "pathlib:Path.read_bytes", path.unlink)
        assert (store.catalog().pins, store.snapshots.pages()) == ({}, {})
        assert done


@pytest.mark.parametrize(
    ("files", "call", "walk"),
    [
        ("live/fetched/00/*", "os:stat", lambda store: store.fetched.list()),
        ("documents/*", "snapmirror.store.fs:unlink", lambda store: store.documents.prune(())),
        ("published/.trees/unused/*", "os:lstat", collect),
        ("published/.trees/?*/*.conda", "os:lstat", lambda store: list(check.structure(store, _leaf_files))),
        ("published/.trees/?*/repodata*", "os:lstat", lambda store: list(tree_problems(store, ECOSYSTEMS))),
        ("published/2*/chan/noarch", "os:readlink", lambda store: store.published.links(store.catalog().records[0].id)),
    ],
)
def test_a_name_that_vanishes_while_a_folder_is_gone_through_ends_nothing(
    files: str, call: str, walk: Callable[[Store], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gc or check takes it away, or a tree gets new links."""
    _, repo = made(tmp_path / "chan", "lib", "tool")
    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        unused = store.layout.trees / "unused"
        unused.mkdir()
        for number in range(2):
            store.fetched.add(bytes([0] * 31 + [number]))
            (unused / f"{number}").touch()
        going = {str(path) for path in store.layout.root.glob(files)}
        owner, name = call.split(":")
        real, gone = getattr(pkgutil.resolve_name(owner), name), list[str]()

        def vanish(path: str | Path, *arguments: Any, **named: Any) -> Any:
            if str(path) in going and not gone:
                gone.extend(going)
                for one in going:
                    os.remove(one)
            return real(path, *arguments, **named)

        monkeypatch.setattr(pkgutil.resolve_name(owner), name, vanish)
        walk(store)
        assert gone


def test_what_is_written_right_after_a_folder_was_read_is_seen(tmp_path: Path) -> None:
    """Though the clock of the file system has not moved on; where it has, names are read again only if it tells of a change."""
    with store_at(tmp_path / "store") as store:
        folder = store.layout.pins
        for name, age, seen in (("soon", 0, True), ("later", 10, False)):
            at = time.time() - age
            os.utime(folder, (at, at))
            store.catalog()
            store.snapshots.write_pin(Pin(name=name, snapshot="20200101T000000Z", set="20200101T000000Z"))
            os.utime(folder, (at, at))
            assert (name in store.catalog().pins) == seen
        os.utime(folder)
        assert store.catalog().pins.keys() == {"soon", "later"}


def test_a_pin_that_is_moved_to_a_new_snapshot_while_the_store_is_read_names_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    root = tmp_path / "store"
    sync_one(root, repo)
    channel.add(make_package("new"))
    channel.publish()

    def seal_and_pin() -> None:
        sync_one(root, repo)
        with store_at(root) as other:
            newest = other.catalog().records[-1].id
            other.snapshots.write_pin(Pin(name="paper", snapshot=newest, set=newest))

    with store_at(root) as store:
        done = meanwhile(monkeypatch, "snapmirror.store.snapshots:Folder.read", seal_and_pin, after=True)
        found = store.catalog()
        assert done
        assert found.resolve("paper", "chan", store.now()).id == found.pins["paper"].snapshot
        found.verify()


def test_a_sync_that_dies_while_it_publishes_takes_no_repo_out_of_current(tmp_path: Path) -> None:
    _, repo = made(tmp_path / "chan", "lib")
    _, other = made(tmp_path / "other", "data")
    with store_at(tmp_path / "store") as store:
        sync(store, repo, other)
    beside(die_while_publishing, tmp_path / "store", repo, other)
    current = tmp_path / "store" / "published" / "current"
    assert {path.name for path in current.iterdir()} == {"chan", "other"}
    with store_at(tmp_path / "store") as store:
        sync_first(store, repo, other)
        assert {path.name for path in current.iterdir()} == {"chan", "other"}
        assert all(store.published.links(record.id) for record in store.catalog().records)


def test_a_sync_that_dies_when_it_has_sealed_hands_out_nothing_that_was_denied_meanwhile(
    tmp_path: Path, upstream: Upstream
) -> None:
    """The rule was made when the sync had read the index already: it knows no digest but what the sync tells it."""
    made(upstream.root / "chan", "lib")
    repo = CondaRepo(path="chan", upstream=f"{upstream.url}/chan")
    with store_at(tmp_path / "store") as store:
        rule = Rule(repo="chan", spec="lib", reason="", since="")
        upstream.fault("*.conda", Call(lambda: store.denied.write(rule)))
        beside(die_when_sealed, tmp_path / "store", repo)
        assert len(store.catalog().records) == 1
        assert [file.name for rule in store.denied.rules() for file in rule.files] == ["lib-1.0-0.conda"]


def test_what_dead_processes_left_half_written_stops_nobody_and_is_cleared_by_gc(tmp_path: Path) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    root = tmp_path / "store"
    sync_one(root, repo)
    channel.add(make_package("new"))
    channel.publish()
    beside(die_while_registering, root, repo)
    (root / "published" / ".new-0123").mkdir()
    (root / "snapshots" / "20200101T000000Z.pages").write_bytes(b"{}")  # its snapshot is forgotten
    (root / "live" / "repos").mkdir()
    for folder in ("snapshots", "denied", "live/repos", "blobs/ab"):
        (root / folder / ".name.0123").write_bytes(b"{")
    with store_at(root) as store:
        collect(store)
        assert sorted(path.name for path in root.rglob(".*")) == [".index", ".opening", ".trees", ".views"]
        assert store.snapshots.pages() == {}
        assert sync(store, repo).exit_status(strict=True) == 0
        assert "new-1.0-0.conda" in listed(store, "chan")


def test_a_clock_that_was_set_back_loses_nothing_that_was_read(tmp_path: Path) -> None:
    channel, repo = made(tmp_path / "chan", "lib")
    times = [datetime(2026, 11, 20, 12, 4, tzinfo=UTC)]
    with store_at(tmp_path / "store", now=lambda: times[-1]) as store:
        sync(store, repo)
        times.append(datetime(2026, 11, 20, 12, 1, tzinfo=UTC))
        channel.add(make_package("new"))
        channel.publish()
        sync(store, repo)
        assert "new-1.0-0.conda" in listed(store, "chan")


def test_a_clock_that_was_set_back_hides_nothing_that_is_read_because_somebody_asks(tmp_path: Path) -> None:
    times = [datetime(2026, 11, 20, 12, tzinfo=UTC)]
    with asked(tmp_path, lambda: times[-1]) as (index, repo, store, live):
        index.upload("idna", "idna-1.0.tar.gz")
        live.refresh("pypi", "idna")
        sync(store, repo)
        times.append(datetime(2026, 11, 20, 11, tzinfo=UTC))
        index.upload("six", "six-1.0.tar.gz")
        live.refresh("pypi", "six")
        reader = store.metadata.directory(live.states(store.catalog())["pypi"].directories[""].blob)
        assert set(reader.leaves) == {"idna", "six"}


def test_a_clock_that_was_set_back_by_an_hour_seals_nothing(tmp_path: Path) -> None:
    """A snapshot of before another one would change what a date has answered; one of an hour ahead would be a lie."""
    channel, repo = made(tmp_path / "chan", "lib")
    times = [datetime(2026, 11, 20, 12, 0, tzinfo=UTC)]
    with store_at(tmp_path / "store", now=lambda: times[-1]) as store:
        sync(store, repo)
        channel.add(make_package("new"))
        channel.publish()
        times.append(datetime(2026, 11, 20, 11, 54, 59, tzinfo=UTC))
        with pytest.raises(ClockError, match=r"20261120T120000Z is ahead of the clock .20261120T115459Z.: set the clock right"):
            sync(store, repo)
        assert [record.id for record in store.catalog().records] == ["20261120T120000Z"]
        times.append(datetime(2026, 11, 20, 11, 55, 0, tzinfo=UTC))
        sync(store, repo)
        assert [record.id for record in store.catalog().records] == ["20261120T120000Z", "20261120T120001Z"]
        assert "new-1.0-0.conda" in listed(store, "chan")


def test_two_syncs_that_build_the_same_tree_at_once_leave_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two repos of one channel, say."""
    channel, repo = made(tmp_path / "chan", "lib")
    other, root = CondaRepo(path="other", upstream=channel.root.as_uri()), tmp_path / "store"
    with store_at(root) as store:
        done = meanwhile(monkeypatch, "snapmirror.store.trees:Trees._give_name", lambda: beside(sync_one, root, other))
        assert sync(store, repo).exit_status(strict=True) == 0
        assert done
        (tree,) = [path for path in store.layout.trees.iterdir() if path.is_dir()]
        assert (tree / "lib-1.0-0.conda").stat().st_nlink == 2  # the blob's name, and this one
        assert not list(check.structure(store, _leaf_files))


@pytest.mark.parametrize("drop", [(), ("sha256",)], ids=["sha256", "md5"])
def test_bytes_that_another_repo_brought_excuse_no_record_with_a_wrong_size(drop: tuple[str, ...], tmp_path: Path) -> None:
    """A client would refuse the file that it gets."""
    right, repo = made(tmp_path / "right", "lib")
    wrong, lying = made(tmp_path / "wrong", "lib", "tool")
    wrong.hotfix("lib-1.0-0.conda", size=5)
    for channel in (right, wrong):
        channel.hotfix("lib-1.0-0.conda", drop=drop)
        channel.publish()
    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        report = sync(store, repo, lying)
        assert list(report.repos["wrong"].directories["noarch"].withheld) == ["lib-1.0-0.conda"]
        assert (listed(store, "right"), listed(store, "wrong")) == ({"lib-1.0-0.conda"}, {"tool-1.0-0.conda"})


def test_an_index_that_another_replaces_while_it_is_opened_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB makes what it finds gone, and with it a lock file, which must not become that of the new index."""
    context = multiprocessing.get_context("spawn")
    removed, opened = context.Event(), context.Event()
    other = context.Process(target=reindex, args=(tmp_path / "store", removed, opened))
    with store_at(tmp_path / "store") as store:
        store.put([b"something"])

    def start() -> None:
        other.start()
        removed.wait(3)  # or it waits for us

    with store_at(tmp_path / "store") as store:
        done = meanwhile(monkeypatch, "lmdb:open", start)
        assert store.index
        opened.set()
        other.join(60)
        assert done
        assert other.exitcode == 0
        store.put([b"more"])
        assert len(store.index.held([sha256(b"something"), sha256(b"more")])) == 2


def test_locks_are_those_that_nfs_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the server has to be asked for a lock, and it gives no exclusive one on a file that is open for reading alone."""
    flock = fcntl.flock

    def strict(file: int, kind: int) -> None:
        if kind & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, kind)

    monkeypatch.setattr("fcntl.flock", strict)
    channel, repo = made(tmp_path / "chan", "lib")
    with store_at(tmp_path / "store") as store:
        first = sync(store, repo).snapshot
        assert first
        channel.add(make_package("more"))
        channel.publish()
        assert sync(store, repo).exit_status(strict=True) == 0
        forget(store, first)
        collect(store)
        with store.lock(None):
            store.reindex()
            assert not list(check.structure(store, _leaf_files))


def test_gc_goes_on_past_what_nfs_keeps_because_somebody_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There what is open gets another name instead, which can't be removed, and its folder neither."""
    real, open_still = os.unlink, [True]

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        name = os.path.basename(path)
        if open_still and name.startswith(".nfs"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if open_still and name in ("old-1.0-0.conda", old.hex()):
            os.rename(path, os.path.join(os.path.dirname(path), f".nfs{name}"), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        else:
            real(path, dir_fd=dir_fd)

    channel, repo = made(tmp_path / "chan", "lib", "old", "older")
    old = sha256(make_package("old").data)
    with store_at(tmp_path / "store") as store:
        monkeypatch.setattr("os.unlink", unlink)
        for name in ("old", "older"):
            sync(store, repo)
            channel.remove(f"{name}-1.0-0.conda")
            channel.publish()
            sync(store, repo)
            forget(store, *(record.id for record in store.catalog().records[:-1]))
            collect(store)
            assert store.blobs.size(sha256(make_package(name).data)) is None
        assert len(list(store.layout.root.rglob(".nfs*"))) == 2  # a blob, and in a tree
        open_still.clear()
        collect(store)
        assert not list(store.layout.root.rglob(".nfs*"))
        assert len(list(store.layout.trees.iterdir())) == 1
