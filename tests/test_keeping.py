"""Retention, forget and gc: what is deleted, and what never is."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from channels import Channel, make_package
from inprocess import collect, forget, repodata, store_at, sync, ticking
from msgspec.structs import replace

from snapmirror import clock
from snapmirror.cli.check import _leaf_files
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.digests import sha256
from snapmirror.errors import DamagedError, Forgotten, LockedError, UsageError
from snapmirror.readings import File
from snapmirror.store import check, fs, reindex, retention
from snapmirror.store.blobs import LocalBlobs, Staged
from snapmirror.store.catalog import Catalog
from snapmirror.store.directories import DirectoryReader
from snapmirror.store.live import Live, Lost
from snapmirror.store.records import Pin, Record, RepoState
from snapmirror.store.retention import Retention
from snapmirror.store.store import Store
from snapmirror.store.syncing import Registration
from snapmirror.sync.settings import Publish
from snapmirror.sync.trees import of_record
from snapmirror.transfer.download import Source, download
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path / "channel")


def days(store: Store, channel: Channel, count: int) -> tuple[CondaRepo, list[str]]:
    """A snapshot a day, each with a package of its own (the one before is gone) and one that stays."""
    repo = CondaRepo(path="chan", upstream=channel.root.as_uri())
    channel.add(make_package("always"))
    ids = []
    for number in range(count):
        for filename in [name for name in channel.records.get("noarch", {}) if name.startswith("day")]:
            channel.remove(filename)
        channel.add(make_package(f"day{number}"))
        channel.publish()
        report = sync(store, repo)
        assert report.snapshot
        ids.append(report.snapshot)
    return repo, ids


def daily(tmp_path: Path) -> Store:
    root = tmp_path / "store"
    now = ticking("2100-01-01T01:00:00", timedelta(hours=1))  # blobs have the real time, and are old by then
    Store.create(root, now=now)
    return Store.open(root, write=True, now=now)


def noarch(store: Store, id_: str) -> DirectoryReader:
    """The directory that a snapshot has of the channel."""
    record = store.catalog().resolve(id_, "chan", store.now())
    return store.metadata.directory(record.repos["chan"].directories["noarch"].blob)


def held(store: Store, channel_file: bytes) -> bool:
    return store.blobs.size(sha256(channel_file)) is not None


def test_gc_deletes_what_only_forgotten_snapshots_need_and_nothing_else(tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 4)
        packages = {f"day{number}": make_package(f"day{number}").data for number in range(4)}
        assert all(held(store, data) for data in packages.values())
        assert collect(store) == 0
        forget(store, ids[0], ids[1])
        kept = [repodata(store, record, "chan", "noarch") for record in store.catalog().records]
        assert collect(store) > 0
        assert [held(store, packages[f"day{number}"]) for number in range(4)] == [False, False, True, True]
        assert held(store, make_package("always").data)
        assert kept == [repodata(store, record, "chan", "noarch") for record in store.catalog().records]
        with pytest.raises(Forgotten):
            store.catalog().resolve(ids[0], "chan", store.now())
        with store.lock(None):
            assert list(check.structure(store, _leaf_files)) == []


def test_gc_spares_what_was_stored_within_the_grace(tmp_path: Path) -> None:
    with store_at(tmp_path / "store") as store:
        store.put([b"orphan"])
        assert collect(store, grace=timedelta(hours=24)) == 0
        assert store.blobs.size(sha256(b"orphan")) == 6
        assert collect(store) == 6
        assert store.index.blob(sha256(b"orphan")) is None


@pytest.mark.parametrize("what", ["directory", "plan of an eager one", "plan of a redirecting one"])
def test_gc_spares_what_a_running_sync_is_about_to_publish_however_old(what: str, tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 2)
        reader = noarch(store, ids[0])
        planned = replace(reader.document, mode="redirect" if "redirect" in what else "eager")
        leaf = reader.leaves["day0"]
        registration = Registration(store.layout)
        with store.lock(None):
            registration.write(*([reader.digest],) if what == "directory" else ([], [planned]))
        for path in store.layout.syncing.iterdir():
            os.utime(path, (0, 0))
        forget(store, ids[0])
        collect(store)
        assert store.blobs.size(leaf) is not None
        assert held(store, make_package("day0").data) == ("redirect" not in what)
        registration.abandon()  # its process is dead, and has been for more than a week
        collect(store)
        assert list(store.layout.syncing.iterdir()) == []
        assert store.blobs.size(leaf) is None
        assert not held(store, make_package("day0").data)


def test_what_gc_says_that_it_freed_is_what_the_disk_has_got_back(tmp_path: Path, channel: Channel) -> None:
    """From blobs, trees, documents, downloads that nobody finished, and what a killed process left."""

    def used() -> int:
        paths = [path for path in tmp_path.glob("store/**/*") if path.is_file() and not path.name.startswith("index.lmdb")]
        return sum({status.st_ino: status.st_size for status in map(os.lstat, paths)}.values())

    with daily(tmp_path) as store:
        _, ids = days(store, channel, 4)
        forget(store, *ids[:2])
        store.documents.put(sha256(b"made for an old page"), "", b"made for an old page")
        (store.layout.incoming / ("ab" * 32)).write_bytes(bytes(1000))
        left = [store.layout.snapshots / ".name.0123", store.layout.root / ".snapmirror.json.0123"]
        for path in left:
            path.write_bytes(b"half a rec")
        for tree in store.published.links(ids[2]).values():
            fs.remove_tree(store.trees.path(tree))
        of_record(store, ECOSYSTEMS, store.catalog().records[0], Publish())  # made again: its tree has documents that go
        before = used()
        assert collect(store) == before - used() > 1000
        assert not any(path.exists() for path in left)


def test_a_sync_that_finds_a_blob_just_before_gc_deletes_it_leaves_no_row_of_it(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` would call the store damaged."""
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 2)
        forget(store, ids[0])
        delete = LocalBlobs.delete

        def found(blobs: LocalBlobs, digest: bytes) -> int:
            store.held([digest])
            return delete(blobs, digest)

        monkeypatch.setattr(LocalBlobs, "delete", found)
        assert collect(store)
        assert {digest for digest, _ in store.index.blobs()} == {blob.digest for blob in store.blobs.list()}


def test_a_gc_between_the_name_of_a_blob_and_its_row_leaves_no_row_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that was slower than gc's grace."""
    Store.create(tmp_path)
    with Store.open(tmp_path, write=True) as store:
        admit = LocalBlobs.admit

        def late(blobs: LocalBlobs, staged: Sequence[Staged]) -> None:
            admit(blobs, staged)
            assert collect(store) == sum(one.size for one in staged)

        monkeypatch.setattr(LocalBlobs, "admit", late)
        store.put([b"of no use"])
        assert not list(store.index.blobs())


def test_bytes_that_a_full_disk_takes_away_before_they_have_their_name_are_not_taken_for_held(tmp_path: Path) -> None:
    """Of a process that was stopped for hours while it stored them; the snapshot would be published without them."""
    Store.create(tmp_path)
    with (
        Store.open(tmp_path, write=True) as store,
        Store.open(tmp_path, write=True, now=lambda: datetime.now(UTC) + timedelta(hours=2)) as later,
    ):

        def contents() -> Iterator[bytes]:
            yield b"one"
            later.clear_partials()
            yield b"two"

        with pytest.raises(FileNotFoundError):
            store.blobs.put(contents())  # type: ignore[arg-type]
        assert not list(store.layout.incoming.glob("put-*"))
        store.put([b"one", b"two"])
        assert store.blobs.read(sha256(b"one")) == b"one"


def test_gc_drops_notes_of_lost_files_that_are_there_or_that_nothing_lists(tmp_path: Path, channel: Channel) -> None:
    """`status` would name them for ever."""
    with daily(tmp_path) as store:
        days(store, channel, 1)
        listed, there, nowhere = (sha256(make_package(name).data) for name in ("day0", "always", "other"))
        store.blobs.delete(listed)
        for digest in (listed, there, nowhere):
            store.live.note_lost(digest, Lost(name="package.conda", since="20260101T000000Z", problem="404"))
        collect(store)
        assert store.live.lost().keys() == {listed}


def test_a_live_state_that_is_just_removed_by_hand_does_not_stop_gc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daily(tmp_path) as store:
        store.live.keep("pypi", RepoState(kind="pypi", directories={}))
        written, asked = Live.written, []

        def removed(live: Live, repo: str) -> float:
            asked.append(live.drop(repo))
            return written(live, repo)

        monkeypatch.setattr(Live, "written", removed)
        assert collect(store, on_request=()) == 0
        assert asked == [True]


def test_an_outcome_that_a_sync_notes_just_now_does_not_stop_gc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daily(tmp_path) as store:
        outcomes, unlink = store.layout.live / "outcomes", fs.unlink
        outcomes.mkdir(exist_ok=True)
        for number in range(2):
            (outcomes / f".sync.json.{number}").write_bytes(b"{}")

        def noted_meanwhile(path: Path) -> bool:
            for other in set(outcomes.glob(".*")) - {path}:
                other.rename(outcomes / "sync.json")
            return unlink(path)

        monkeypatch.setattr(fs, "unlink", noted_meanwhile)
        assert collect(store) == len(b"{}")
        assert [path.name for path in outcomes.iterdir()] == ["sync.json"]


@pytest.mark.parametrize("what", ["record", "directory", "bucket", "leaf", "syncing"])
def test_gc_deletes_nothing_when_it_cannot_read_a_root(what: str, tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 2)
        forget(store, ids[0])
        record = store.catalog().records[-1]
        directory = store.metadata.directory(record.repos["chan"].directories["noarch"].blob)
        damaged = {
            "record": store.layout.record(record.id),
            "directory": store.blobs.path(directory.digest),
            "bucket": store.blobs.path(directory.document.buckets[0]),
            "leaf": store.blobs.path(next(iter(directory.leaves.values()))),
            "syncing": store.layout.syncing / "0.json",
        }[what]
        if what == "syncing":
            damaged.write_bytes(b"{")
        else:
            damaged.chmod(0o644)
            damaged.write_bytes(b"damaged")
        before = {blob.digest for blob in store.blobs.list()}
    with Store.open(tmp_path / "store", write=True) as store:
        with pytest.raises(DamagedError) as raised:
            collect(store)
        assert raised.value.exit_status == 5
        assert {blob.digest for blob in store.blobs.list()} == before


def test_retention_keeps_the_last_snapshot_of_each_period(tmp_path: Path) -> None:
    from test_catalog import catalog, sealed

    ids = [f"2026{month:02}{day:02}T{hour:02}0000Z" for month in (1, 2, 3) for day in (1, 2, 15) for hour in (3, 9)]
    found = catalog(*(sealed(id_, "a") for id_ in ids), paper=ids[0])
    kept = retention.keep(found, Retention(last=1, daily=2, monthly=3), NOW)
    assert sorted(kept) == [ids[0], "20260115T090000Z", "20260215T090000Z", "20260302T090000Z", "20260315T090000Z"]
    assert kept[ids[0]] == "the pin paper names it"
    assert len(retention.keep(found, Retention(), NOW)) == len(ids)
    just_sealed = datetime(2026, 3, 15, 9, 30, tzinfo=UTC)
    assert sorted(retention.keep(found, Retention(last=1), just_sealed)) == [ids[0], *ids[-2:]]


def test_retention_counts_for_every_repo_so_that_a_partial_snapshot_pushes_out_no_complete_one() -> None:
    """One dated to the end of a day, with a repo that came later, is the last of that day for that repo alone."""
    from test_catalog import catalog, forgotten, sealed

    days = [f"202611{day}T{hour}0000Z" for day in (20, 21, 22) for hour in ("03", "09")]
    late = [sealed(f"202611{day}T235959Z", "late", partial=True) for day in (20, 21)]
    found = catalog(*(sealed(id_, "chan") for id_ in days), *late)
    kept = retention.keep(found, Retention(daily=2), NOW)
    assert sorted(kept) == ["20261120T235959Z", "20261121T090000Z", "20261121T235959Z", "20261122T090000Z"]
    before = found.resolve("2026-11-21", "chan", NOW).id
    gone = [forgotten(entry.id, *entry.repos, partial=entry.partial) for entry in found.entries if entry.id not in kept]
    after = catalog(*(found.by_id[id_] for id_ in kept), *gone)
    assert after.resolve("2026-11-21", "chan", NOW).id == before


def test_who_asks_for_a_forgotten_snapshot_is_told_of_kept_ones_that_hold_the_repo() -> None:
    from test_catalog import at, catalog, forgotten, sealed

    found = catalog(
        sealed(at(1), "chan"),
        sealed(at(2), "other", partial=True),
        forgotten(at(3), "chan"),
        sealed(at(4), "other", partial=True),
        sealed(at(5), "chan", "other"),
    )
    for selector in (at(3), "20261120T033000Z"):
        with pytest.raises(Forgotten) as raised:
            found.resolve(selector, "chan", NOW)
        assert (raised.value.before, raised.value.after) == (at(1), at(5))


def test_current_and_pins_cannot_be_forgotten(tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 3)
        store.snapshots.write_pin(Pin(name="paper", snapshot=ids[0], set=ids[0]))
        for snapshot in ("paper", "current"):
            with pytest.raises(UsageError, match="can't be forgotten"):
                forget(store, snapshot)
        collect(store, keep=Retention(last=1))
        assert [record.id for record in store.catalog().records] == [ids[0], ids[2]]


def test_trees_of_current_days_and_pins_lead_to_the_files_and_go_when_forgotten(tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        repo, ids = days(store, channel, 4)
        published = store.layout.published
        assert os.path.samefile(published / "current" / "chan" / "noarch", published / ids[-1] / "chan" / "noarch")
        package = published / ids[1] / "chan" / "noarch" / "day1-1.0-0.conda"
        assert package.read_bytes() == make_package("day1").data
        assert os.path.samefile(package, store.blobs.path(sha256(package.read_bytes())))
        before = len(list(store.layout.trees.iterdir()))
        sync(store, repo)  # nothing has changed: nothing is linked
        assert len(list(store.layout.trees.iterdir())) == before
        forget(store, ids[1])
        collect(store)
        assert not (published / ids[1]).exists()
        assert len(list(store.layout.trees.iterdir())) < before


def test_trees_grow_as_old_as_is_configured_and_those_of_current_and_pins_stay(tmp_path: Path, channel: Channel) -> None:
    with daily(tmp_path) as store:
        _, ids = days(store, channel, 4)
        store.snapshots.write_pin(Pin(name="paper", snapshot=ids[0], set=ids[0]))
        collect(store)
        assert store.published.snapshots() == ids
        collect(store, keep_trees=timedelta(0))
        assert store.published.snapshots() == [ids[0], ids[3]]
        assert [record.id for record in store.catalog().records] == ids


def test_a_day_that_takes_its_repos_from_several_snapshots_is_published_as_one(tmp_path: Path, channel: Channel) -> None:
    times = [datetime(2026, 11, 20, 10, tzinfo=UTC)]
    channel.add(make_package("tool"))
    channel.publish()
    repo, late = (CondaRepo(path=path, upstream=channel.root.as_uri()) for path in ("chan", "late"))
    with store_at(tmp_path / "store", now=lambda: times[-1]) as store:
        published = store.layout.published
        sync(store, repo)
        times.append(datetime(2026, 11, 22, 10, tzinfo=UTC))
        sync(store, repo, late, only=["late"], seal_as="20261120T235959Z")
        for selector in ("2026-11-20", "2026-11-21", "current"):
            assert {path.name for path in (published / selector).iterdir()} == {"chan", "late"}
            tool = published / selector / "late" / "noarch" / "tool-1.0-0.conda"
            assert tool.read_bytes() == make_package("tool").data
        sync(store, repo, late)
        forget(store, "20261120T235959Z")
        assert os.readlink(published / "2026-11-20") == "20261120T100000Z"  # which says it all now
        assert os.readlink(published / "current") == "20261122T100000Z"
        assert list(store.layout.views.iterdir()) == []


@pytest.mark.parametrize("kept", [True, False])
def test_the_days_since_an_old_pin_are_not_gone_through_for_every_repo(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years of fifty repos took 3 to 6 seconds of the store's lock at each sync and pin."""
    begin, asked, real = datetime(2026, 1, 1, tzinfo=UTC), list[str](), Catalog.at

    def at(catalog: Catalog, limit: str, repo: str | None, selector: str) -> Record:
        asked.append(selector)
        return real(catalog, limit, repo, selector)

    monkeypatch.setattr(Catalog, "at", at)
    repos = {f"repo{number}": RepoState(kind="files", directories={}) for number in range(20)}
    ids = [clock.to_id(begin + timedelta(days=number)) for number in range(100)]
    records = tuple(Record(id=id_, number=number, repos=repos) for number, id_ in enumerate(ids, 1))
    with store_at(tmp_path / "store") as store:
        for id_ in (ids[0], ids[-1]):
            store.published.publish(id_, dict.fromkeys(repos, "ab" * 32))
        pin = Pin(name="paper", snapshot=ids[0], set=ids[0])
        catalog, present = Catalog(records, {"paper": pin}), begin + timedelta(days=99, hours=1)
        store.published.refresh(catalog if kept else catalog.forgetting(records[1:-1], present), present)
        links = {path.name: os.readlink(path) for path in store.layout.published.iterdir() if path.is_symlink()}
        assert links == {"paper": ids[0], "2026-01-01": ids[0], "current": ids[-1]}
        assert len(asked) < 200


def test_a_repo_below_what_was_another_one_is_written_into_no_tree_of_that(tmp_path: Path) -> None:
    """A folder of installers, say, that has become channels, of which one was dated back."""
    with store_at(tmp_path / "store") as store:
        trees = []
        for number, (repo, place) in enumerate((("all", "all"), ("all/chan", "all/chan/noarch")), 1):
            store.put([repo.encode()])
            id_, tree = f"2026010{number}T000000Z", store.trees.build({"file": sha256(repo.encode())})
            store.published.publish(id_, {place: tree})
            state = RepoState(kind="files", directories={})
            store.snapshots.write(Record(id=id_, number=number, partial=number > 1, repos={repo: state}))
            trees.append(store.trees.path(tree))
        store.published.refresh(store.catalog(), store.now())
        assert os.path.samefile(store.layout.published / "current" / "all", trees[0])
        assert [path.name for tree in trees for path in tree.rglob("*")] == ["file", "file"]


def test_a_blob_with_as_many_links_as_ext4_allows_gets_a_fresh_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from snapmirror.store import fs

    real, refused = fs.Linker.link, []

    def link(linker: fs.Linker, folder: str, name: str, target: str) -> None:
        if not refused:
            refused.append(name)
            raise OSError(errno.EMLINK, "Too many links")
        real(linker, folder, name, target)

    with store_at(tmp_path / "store") as store:
        store.put([b"package"])
        path = store.blobs.path(sha256(b"package"))
        old = path.stat().st_ino
        monkeypatch.setattr(fs.Linker, "link", link)
        tree = store.trees.build({"package.conda": sha256(b"package")})
        assert path.stat().st_ino != old
        assert os.path.samefile(path, store.trees.path(tree) / "package.conda")
        assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("batch", [2, 10_000], ids=["several batches", "one batch"])
def test_the_index_can_be_thrown_away(batch: int, tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex, "_BATCH", batch)
    with daily(tmp_path) as store:
        repo, ids = days(store, channel, 3)
        readers = [noarch(store, id_) for id_ in ids]
        leaves = {leaf: sha256(store.metadata.leaf(leaf)) for reader in readers for leaf in reader.leaves.values()}
        died = Registration(store.layout)
        with store.lock(None):
            died.write([readers[0].digest], [readers[1].document])
        died.abandon()
        forget(store, *ids[:2])  # what only the sync that died still has, the next one finds
        before = dict(store.index.blobs())
    (tmp_path / "store" / "index.lmdb").unlink()
    (tmp_path / "store" / "index.lmdb.new").write_bytes(b"half of one that a killed process was making")
    with Store.open(tmp_path / "store", write=True, now=ticking("2100-01-02T01:00:00")) as store:
        assert {digest: row.size for digest, row in store.index.blobs()} == {d: row.size for d, row in before.items()}
        assert store.leaves(leaves) == {leaf: leaf for leaf in leaves}
        old = store.catalog().records[-1]
        report = sync(store, repo)
        directory = report.repos["chan"].directories["noarch"]
        assert (directory.state, directory.fetch_files) == ("unchanged", 0)
        assert (
            store.catalog().records[-1].repos["chan"].directories["noarch"].digest
            == old.repos["chan"].directories["noarch"].digest
        )


def test_a_finished_download_is_out_of_reach_of_other_syncs_until_it_has_its_name(tmp_path: Path) -> None:
    """Another process whose metadata differ would else empty the file just before it is renamed into the store."""
    original = tmp_path / "package.conda"
    original.write_bytes(b"package")
    right = Source(File(original.name, 7, sha256(b"package"), None), (original.as_uri(),))
    wrong = Source(File(original.name, 8, sha256(b"package"), None), (original.as_uri(),))
    with store_at(tmp_path / "store") as store, Http(Download(), print) as http:
        staged = download(http, store.layout.incoming, right, lambda _: None)
        with pytest.raises(LockedError):
            download(http, store.layout.incoming, wrong, lambda _: None)
        store.admit([staged])
        staged.release()
        assert store.blobs.read(staged.sha256) == b"package"
