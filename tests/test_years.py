"""Long histories: those that are made up for measuring are real ones, what goes through all days reads nothing twice, and
what is large is let go in time.
"""

import contextlib
import dataclasses
import gc
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from channels import Channel, make_package
from inprocess import store_at, sync, ticking
from msgspec.structs import replace
from serving import serving
from test_bench import bench
from upstream import Call, Upstream

from snapmirror import codec
from snapmirror.cli.check import _leaf_files
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import Conda, CondaRepo
from snapmirror.conda.flat import FlatReading
from snapmirror.digests import Digest, sha256
from snapmirror.errors import DamagedError, UsageError
from snapmirror.serve.answers import UnlistedAnswer
from snapmirror.serve.resolve import Resolver
from snapmirror.serve.view import Watch
from snapmirror.store import check, seal
from snapmirror.store.assembly import Amendment, amend, assemble
from snapmirror.store.blobs import BlobInfo, Blobs
from snapmirror.store.directories import Bucket, Counts, Directory, DirectoryReader, Metadata
from snapmirror.store.glimpse import glimpse
from snapmirror.store.held import Held
from snapmirror.store.mark import Mark, roots
from snapmirror.store.needed import needed_by
from snapmirror.store.store import Store
from snapmirror.sync import history
from snapmirror.sync.dated import Dated

HISTORY = Path(__file__).resolve().parents[2] / "shared" / "data" / "main-linux-aarch64"
DAYS = 40


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "trees"])
def made_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a made-up channel of some days, without trees and with them."""
    root = tmp_path_factory.mktemp("years") / "store"
    size = dataclasses.replace(bench("size").Size().scaled(0.0005).within(DAYS), trees=request.param)
    with bench("channel").opened(root, size) as growing:
        for _ in range(DAYS):
            growing.add()
    return root


def test_what_is_made_up_is_what_a_sync_would_have_made(made_up: Path) -> None:
    with Store.open(made_up, write=True) as store:
        with store.lock(None) as catalog:
            assert list(check.structure(store, _leaf_files)) == []
        assert len(catalog.records) == DAYS
        directories = catalog.records[-1].repos["conda-forge"].directories
        for state in directories.values():
            reader = store.metadata.directory(state.blob)
            reading = FlatReading(f"{reader.document.origin}repodata.json", Conda().derive(reader, "repodata.json"), "", None)
            drafts = list(reading.drafts(reading.sources))
            assert {draft.name: draft.content for draft in drafts} == dict(reader.contents())
            files = [file for draft in drafts for file in draft.files]
            assert (len(files), sum(file.size or 0 for file in files)) == (reader.document.files, reader.document.size)
        assert sum(store.metadata.directory(state.blob).document.files for state in directories.values()) > 1000


def test_a_server_answers_for_any_day_of_it(made_up: Path) -> None:
    with serving(made_up) as url:
        for day in ("2015-01-10", "2015-02-09", "current"):
            with urllib.request.urlopen(f"{url}/{day}/conda-forge/noarch/repodata_shards.msgpack.zst") as answer:
                shards = codec.from_msgpack(codec.decompress(answer.read(), 1 << 20))["shards"]
            name, digest = next(iter(shards.items()))
            with urllib.request.urlopen(f"{url}/{day}/conda-forge/noarch/shards/{digest.hex()}.msgpack.zst") as answer:
                records = codec.from_msgpack(codec.decompress(answer.read(), 1 << 20))["packages.conda"]
            assert records
            assert {record["name"] for record in records.values()} == {name}


def test_the_same_calls_make_the_same_history(tmp_path: Path) -> None:
    channel = bench("channel")
    for root in (tmp_path / "one", tmp_path / "other"):
        for _ in range(2):
            with channel.opened(root, bench("size").Size().scaled(0.0002).within(8)) as growing:
                growing.add()
                growing.add()
    one, other = ((tmp_path / root / "snapshots" / "20150104T010000Z.json").read_bytes() for root in ("one", "other"))
    assert one == other


@pytest.mark.real_data
@pytest.mark.skipif(not HISTORY.exists(), reason="the recorded channels (../shared) are not beside the project")
def test_the_growth_is_that_of_a_real_channel() -> None:
    growth = bench("growth")
    assert dataclasses.astuple(growth.fit(HISTORY)) == pytest.approx(dataclasses.astuple(growth.Growth()), rel=0.005)


def test_a_figure_grows_as_what_it_goes_through_or_more() -> None:
    verdict = bench("years")._verdict
    assert verdict([(1.0, 10), (1.1, 20), (1.2, 100)], "blobs") == "not"
    assert verdict([(1.0, 10), (2.0, 20), (10.5, 100)], "blobs") == "as blobs"
    assert verdict([(1.0, 10), (4.0, 20), (100.0, 100)], "blobs") == "MORE than blobs"


class Counted(Metadata):
    """Counts how often a bucket is asked for, and which directories are."""

    asked = 0

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs)
        self.directories: list[Digest] = []

    def directory(self, digest: Digest) -> DirectoryReader:
        self.directories.append(digest)
        return super().directory(digest)

    def bucket(self, digest: Digest) -> Bucket:
        self.asked += 1
        return super().bucket(digest)


@pytest.fixture
def long_history(tmp_path: Path) -> Iterator[tuple[Store, Digest, int]]:
    """Thirty days of an eager directory of 64 names, of which one changes each day; a leaf of the last ten days; and how many
    buckets there are.
    """
    now = datetime(2020, 1, 1, tzinfo=UTC)
    directory = Directory(kind="conda", form=Conda.form, mode="eager", origin="https://upstream.invalid/")
    Store.create(tmp_path / "store", now=lambda: now)
    buckets: set[Digest] = set()
    with Store.open(tmp_path / "store", write=True, now=lambda: now) as store:
        before = None
        for day in range(30):
            now += timedelta(days=1)
            names = range(64) if before is None else [day]
            made = {f"name{name}": codec.compress(codec.to_msgpack({"removed": [f"x{day}"], "x": name}), 3) for name in names}
            leaves = {name: sha256(leaf) for name, leaf in made.items()}
            assembled = (
                amend(before, directory, 64, Amendment(list(leaves), leaves, (), {}))
                if before
                else assemble(directory, leaves, {}, {})
            )
            assert assembled
            store.put([*made.values(), *assembled.blobs.values()])
            before = store.metadata.directory(assembled.digest)
            buckets.update(before.document.buckets)
            read = seal.Read(assembled.digest.hex(), "20200101T000000Z")
            with store.lock(None) as catalog:
                seal.seal(store, catalog, {"chan": seal.Synced("conda", {"noarch": read}, {}, {})}, ["chan"], None)
            if day == 20:
                changed = leaves["name20"]
        store.metadata = Counted(store.blobs)
        yield store, changed, len(buckets)


def test_check_reads_what_the_days_have_in_common_once(long_history: tuple[Store, Digest, int]) -> None:
    store, _, buckets = long_history
    assert isinstance(store.metadata, Counted)
    with store.lock(None):
        assert list(check.structure(store, _leaf_files)) == []
    assert store.metadata.asked == buckets


def test_gc_reads_what_the_days_have_in_common_once(long_history: tuple[Store, Digest, int]) -> None:
    store, _, buckets = long_history
    assert isinstance(store.metadata, Counted)
    read = []

    def digests(_: str, leaf: bytes) -> list[Digest]:
        read.append(leaf)
        return []

    start = roots(store, store.catalog().records, ())
    mark = Mark(store.metadata, digests)
    for _ in range(2):
        mark.add(start)
    assert store.metadata.asked == buckets
    assert len(read) == len(set(read)) == 64 + 29
    assert all(blob.digest in mark for blob in store.blobs.list())


def test_what_gc_could_not_read_ahead_it_reads_again(long_history: tuple[Store, Digest, int]) -> None:
    store, leaf, _ = long_history
    file = sha256(b"a file")
    start = roots(store, store.catalog().records, ())
    broken = [True]

    def digests(_: str, content: bytes) -> list[Digest]:
        if content == store.metadata.leaf(leaf):
            if broken:
                raise ValueError(broken.pop())
            return [file]
        return []

    mark = Mark(store.metadata, digests)
    with pytest.raises(DamagedError, match=leaf.hex()):
        mark.add(start)
    assert file not in mark
    mark.add(start)
    assert file in mark


def test_digests_that_an_upstream_has_made_up_so_that_they_begin_alike_hold_nobody_up() -> None:
    held, began = Held(()), time.process_time()
    for number in range(20_000):
        held.note(bytes(2) + number.to_bytes(30, "big"), 1)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("groups", [1, 1 << 16])
def test_what_check_holds_of_blobs_is_what_there_is(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapmirror.store.held._GROUPS", groups)
    blobs = {sha256(number.to_bytes(4, "big")): number << 30 for number in range(5000)}
    one = b"\1\2" + bytes(7) + b"\1\2" + bytes(21)
    across = one[9:] + bytes(9)  # what is within the row of the other looks like it
    held = Held(BlobInfo(digest, size, 0.0) for digest, size in {**blobs, one: 0}.items())
    assert {digest: held.size(digest) for digest in blobs} == blobs
    assert held.size(one) == 0
    assert held.size(across) is None
    for digest in (one, across):
        held.note(digest, 1)
        held.note(digest, 4)
        assert [held.has(digest, flag) for flag in (1, 2, 4, 6)] == [True, False, True, True]
    assert not any(held.has(digest, 0xFF) for digest in blobs)
    assert Held([BlobInfo(one, 0, 0.0), BlobInfo(across, 7, 0.0)]).size(across) == 7


def test_who_needs_a_blob_is_told_by_reading_a_bucket_once(long_history: tuple[Store, Digest, int]) -> None:
    store, leaf, buckets = long_history
    assert isinstance(store.metadata, Counted)
    found = needed_by(store, store.catalog(), _leaf_files, [leaf])
    assert found == {leaf: [record.id for record in store.catalog().records[20:]]}
    assert store.metadata.asked == buckets
    assert needed_by(store, store.catalog(), _leaf_files, []) == {}
    assert store.metadata.asked == buckets


def states_of(store: Store, *keys: str) -> list[tuple[Digest, ...]]:
    """The buckets that say something of these, oldest day first, without those that are as on the day before."""
    digests = [record.repos["chan"].directories["noarch"].blob for record in store.catalog().records]
    buckets = [Metadata(store.blobs).directory(digest).buckets_of(keys) for digest in digests]
    return [one for one, before in zip(buckets, [(), *buckets], strict=False) if one != before]


def test_of_a_file_that_is_missing_only_days_are_read_on_which_it_may_have_been_there(
    long_history: tuple[Store, Digest, int],
) -> None:
    store, _, _ = long_history
    resolver = Resolver(store, ECOSYSTEMS, Watch(store).view(), "", {})
    answer = resolver.resolve("/current/chan/noarch/name40-1-0.conda")
    assert isinstance(answer, UnlistedAnswer)
    assert isinstance(store.metadata, Counted)
    store.metadata.directories.clear()
    assert resolver.search(answer) is None
    assert len(store.metadata.directories) == len({*states_of(store, "name40-1-0.conda", "name40")}) < 30


def test_the_history_of_a_package_reads_only_days_on_which_it_may_have_changed(long_history: tuple[Store, Digest, int]) -> None:
    store, _, _ = long_history
    assert isinstance(store.metadata, Counted)
    with pytest.raises(UsageError, match="no kept snapshot lists it"):
        history.log(store, ECOSYSTEMS, store.catalog(), "name40", {"chan"})
    assert len(store.metadata.directories) == len(states_of(store, "name40")) < 30


def test_when_a_file_was_first_seen_is_told_by_days_on_which_its_package_may_have_changed(
    long_history: tuple[Store, Digest, int],
) -> None:
    store, _, _ = long_history
    assert isinstance(store.metadata, Counted)
    repo = CondaRepo(path="chan", upstream="https://upstream.invalid", download="redirect", indexed_timestamp="first-seen")
    file = {"name": "name20", "version": "1", "build": "0", "build_number": 0, "depends": [], "sha256": "0" * 64}
    index = codec.to_json({"packages.conda": {"name20-1-0.conda": file}})
    reading = FlatReading("https://upstream.invalid/noarch/repodata.json", index, "", None)
    dated = Dated(store, ECOSYSTEMS["conda"], repo, "noarch", reading, "20200301T000000Z", None)
    (draft,) = dated.drafts(["name20"])
    assert list(Conda().dates(draft.content)) == ["name20-1-0.conda"]
    assert len(store.metadata.directories) == len(states_of(store, "name20")) < 30


@pytest.mark.parametrize("names", [1, 100, 300, 2_000_000])
def test_where_a_name_belongs_is_seen_without_reading_the_directory(tmp_path: Path, names: int) -> None:
    """Few buckets, some, and more than MessagePack says in two bytes."""
    directory = Directory(kind="conda", form=1, mode="eager", origin="https://upstream.invalid/", files=3)
    width = 1
    while width * 16 < names:
        width *= 2
    directory = replace(directory, buckets=tuple(sha256(number.to_bytes(4, "big")) for number in range(width)))
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", write=True) as store:
        (stored,) = store.blobs.put([codec.to_msgpack(directory)])
        assert glimpse(store.blobs, stored.sha256, ["a", "b"]) == store.metadata.directory(stored.sha256).buckets_of(["a", "b"])
        assert store.metadata.counts(stored.sha256) == Counts(mode="eager", files=3)
        assert glimpse(store.blobs, sha256(b"another"), ["a"]) is None


def test_indexes_are_read_side_by_side_only_where_they_are_known_to_be_small(
    tmp_path: Path, upstream: Upstream, channel: Channel
) -> None:
    """Six large ones together would take gigabytes."""
    repo = CondaRepo(path="chan", upstream=f"{upstream.url}/chan", subdirs=["linux-64"])

    def met(seconds: float) -> bool:
        """Whether a sync asks for both of them before it has one. seconds: for which the first waits for the other"""
        both = threading.Barrier(2, timeout=seconds)

        def wait() -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait()

        for subdir in ("linux-64", "noarch"):
            upstream.fault(f"/chan/{subdir}/repodata.json.zst", Call(wait), times=1)
        assert sync(store, repo).snapshot
        return not both.broken

    with store_at(tmp_path / "store", ticking()) as store:
        assert not met(0.5)
        channel.add(make_package("more"))
        channel.publish()
        assert met(30)


def test_an_index_is_let_go_once_it_is_planned(tmp_path: Path) -> None:
    """A third of a gigabyte each, and while several are read nobody collects garbage."""
    channel = Channel(tmp_path / "channel")
    channel.add(make_package("lib"))
    channel.publish()
    gc.disable()
    try:
        with store_at(tmp_path / "store") as store:
            assert sync(store, CondaRepo(path="chan", upstream=channel.root.as_uri(), subdirs=["linux-64"])).snapshot
            assert [one for one in gc.get_objects() if type(one).__name__.endswith("Reading")] == []
    finally:
        gc.enable()
