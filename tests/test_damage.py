"""Damage on the disk, by accident or by hand: check sees it, gc stops at it, repair mends it and harms nothing that is good."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from channels import Channel, make_package
from inprocess import FAST, Quiet, collect, forget, store_at, sync, ticking
from mirror import Mirror, Result
from msgspec.structs import replace
from serving import server
from upstream import Html, Status, Upstream

from snapmirror import codec
from snapmirror.cli.check import _find_problems, _leaf_files
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.digests import sha256
from snapmirror.errors import DamagedError, StoreError
from snapmirror.files.leaf import encode
from snapmirror.readings import File
from snapmirror.store import check, locks, scrub
from snapmirror.store.assembly import Assembled, assemble, with_documents
from snapmirror.store.directories import Directory, Metadata
from snapmirror.store.fs import remove_tree
from snapmirror.store.index import BlobRow
from snapmirror.store.records import DirectoryState, Pin, RepoState
from snapmirror.store.store import Store
from snapmirror.store.trees import name_of
from snapmirror.sync.givers import giver
from snapmirror.sync.repair import repair, sources
from snapmirror.transfer.http import Http

LIB = sha256(make_package("lib").data)
NO_TREES: dict[str, Any] = {"trees": []}
#: Linux has a file there whose first bytes are an error of the device to whoever reads them
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no /proc")
#: strings that are no UTF-8
NO_TEXT = b'{"state": "sealed", "id": "\xff", "name": "\xff", "directories": ["\xff"]}'


def overwrite(path: Path, data: bytes) -> None:
    """What a failing disk does: other bytes under the same name, in the same file."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    overwrite(path, bytes(data))


def blob(mirror: Mirror, digest: bytes = LIB) -> Path:
    with mirror.store() as store:
        return store.blobs.path(digest)


def found_by(mirror: Mirror, *options: str) -> Result:
    """`snapmirror check`, which must see that something is wrong."""
    return mirror.run("check", *options, status=5)


def sound(mirror: Mirror) -> None:
    """Nothing is wrong, however close one looks, and the tree is what the snapshot says."""
    mirror.run("check", "--read-data")
    mirror.published()


@pytest.fixture
def local(tmp_path: Path) -> tuple[Channel, CondaRepo]:
    """A channel in a folder, and a repo of it."""
    channel = Channel(tmp_path / "channel")
    channel.add(make_package("lib"), make_package("tool"))
    channel.publish()
    return channel, CondaRepo(path="chan", upstream=channel.root.as_uri())


def problems(store: Store) -> list[check.Problem]:
    with store.lock(None):
        return list(check.structure(store, _leaf_files))


def gc_stops(store: Store) -> bool:
    """Whether gc stops at damage, with nothing deleted."""
    before = {one.digest for one in store.blobs.list()}
    with pytest.raises(DamagedError) as raised:
        collect(store)
    return raised.value.exit_status == 5 and {one.digest for one in store.blobs.list()} == before


# Metadata


@pytest.mark.parametrize("what", ["directory", "bucket", "leaf", "one bit of a bucket"])
def test_gc_follows_no_metadata_that_reads_well_but_is_not_what_its_name_says(what: str, tmp_path: Path) -> None:
    """Else it would delete what the right bytes refer to."""
    channel = Channel(tmp_path / "channel")
    channel.add(make_package("lib"))
    channel.publish()
    with Upstream(channel.root) as upstream, store_at(tmp_path / "store") as store:
        mode: Literal["eager", "redirect"] = "redirect" if "bucket" in what else "eager"
        repo = CondaRepo(path="chan", upstream=upstream.url, download=mode)
        paths: dict[str, list[Path]] = {"directory": [], "bucket": [], "leaf": []}
        for number in range(2):
            channel.add(make_package("lib", version=f"{number}.5"))
            channel.publish()
            sync(store, repo)
            digest = store.catalog().records[-1].repos["chan"].directories["noarch"].blob
            reader = store.metadata.directory(digest)
            for kind, found in (("directory", digest), ("bucket", reader.document.buckets[0]), ("leaf", reader.leaves["lib"])):
                paths[kind].append(store.blobs.path(found))
            leaf = reader.leaves["lib"]
        if what in paths:
            overwrite(paths[what][1], paths[what][0].read_bytes())  # written to the wrong place
        else:
            flip(paths["bucket"][1], paths["bucket"][1].read_bytes().index(leaf))
    with Store.open(tmp_path / "store", write=True) as store:
        assert problems(store)
        assert gc_stops(store)


@pytest.mark.parametrize("what", ["record", "tombstone", "pinned record", "newest record, pinned"])
def test_a_lost_record_is_noticed_before_gc_takes_what_it_held(
    what: str, tmp_path: Path, local: tuple[Channel, CondaRepo]
) -> None:
    channel, repo = local
    with store_at(tmp_path / "store") as store:
        for number in range(3):
            channel.add(make_package(f"day{number}"))
            channel.publish()
            sync(store, repo)
        record = store.catalog().records[-1 if "newest" in what else 1]
        if what == "tombstone":
            forget(store, record.id)
        if "pinned" in what:
            store.snapshots.write_pin(Pin(name="paper", snapshot=record.id, set=record.id))
        store.layout.record(record.id).unlink()
        assert problems(store)
        assert gc_stops(store)


@pytest.mark.parametrize(
    ("where", "data"),
    [
        ("snapshots/20200101T000000Z", NO_TEXT),
        ("pins/paper", NO_TEXT),
        ("syncing/0123456789abcdef", NO_TEXT),
        ("syncing/0123456789abcdef", b"{"),
    ],
    ids=["record", "pin", "syncing", "syncing, cut off"],
)
def test_a_file_that_is_no_json_is_named_by_check_and_stops_gc(where: str, data: bytes, mirror: Mirror) -> None:
    mirror.sync()
    (mirror.store_path / f"{where}.json").write_bytes(data)
    check = found_by(mirror)
    assert f"{where}.json" in check.out + check.err
    assert f"{where}.json" in mirror.run("gc", status=5).err


def test_a_record_that_leads_nowhere_stops_gc(mirror: Mirror) -> None:
    """A number that is missing tells of a record that is gone, but not of the newest."""
    mirror.sync()
    held = {path.name for path in mirror.store_path.glob("blobs/??/*")}
    record = mirror.store_path / "snapshots" / f"{mirror.snapshots()[-1]}.json"
    record.unlink()
    record.symlink_to("elsewhere.json")
    assert record.name in mirror.run("gc", "--grace", "0s", status=5).err
    assert {path.name for path in mirror.store_path.glob("blobs/??/*")} == held


@pytest.mark.parametrize("how", ["a folder", pytest.param("lost by the disk", marks=NEEDS_PROC)])
def test_what_the_disk_can_not_give_back_is_named_and_mended_like_any_damage(
    how: str, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """It ended whatever came across it, check too, which had nothing to say but that of the system."""
    other = Channel(upstream.root / "other")
    other.add(make_package("thing"))
    other.publish()
    mirror.add("other", f"{upstream.url}/other")
    mirror.sync()
    copy = shutil.copytree(mirror.store_path, mirror.root / "copy", symlinks=True)
    record = mirror.store_path / "snapshots" / f"{mirror.snapshots()[-1]}.json"
    lost, content = mirror.reader("other/noarch").digest, record.read_bytes()

    def lose(path: Path) -> None:
        path.unlink()
        if how == "a folder":
            path.mkdir()
        else:
            path.symlink_to("/proc/self/mem")

    lose(record)
    assert f"snapshots/{record.name}: can't be read" in found_by(mirror).out
    assert f"snapshots/{record.name}: can't be read" in mirror.run("gc", status=5).err
    remove_tree(record) if how == "a folder" else record.unlink()
    record.write_bytes(content)
    lose(blob(mirror, lost))
    channel.add(make_package("new"))
    channel.publish()
    mirror.sync("chan")
    assert "new-1.0-0.conda" in mirror.listed("chan/noarch")
    blob(mirror).unlink()
    found = found_by(mirror)
    assert f"blob {lost.hex()}: can't be read" in found.out
    assert f"blob {LIB.hex()}: is missing" in found.out
    mirror.run("check", "--repair", "--from", str(copy))
    sound(mirror)


def test_a_copy_of_a_record_or_pin_under_another_name_is_damage(tmp_path: Path, local: tuple[Channel, CondaRepo]) -> None:
    """A date, or a pin, would come to mean what it never did."""
    with store_at(tmp_path / "store") as store:
        sync(store, local[1])
        (record,) = store.catalog().records
        store.snapshots.write_pin(Pin(name="paper", snapshot=record.id, set=record.id))
        for original, names in (
            (store.layout.record(record.id), ("20200101T000000Z", "99991231T000000Z")),
            (store.layout.pin("paper"), ("a", "z")),
        ):
            for name in names:
                copy = Path(shutil.copy(original, original.with_name(f"{name}.json")))
                with pytest.raises(DamagedError, match=f"{name}.json: holds"):
                    store.catalog()
                assert gc_stops(store)
                copy.unlink()
        collect(store)


def test_a_store_that_holds_what_a_later_version_brought_is_left_to_that(mirror: Mirror) -> None:
    mirror.sync()
    mirror.sync()
    first, newest = mirror.snapshots()
    leaf = codec.compress(b"{}", 3)
    with Store.open(mirror.store_path, write=True) as store:
        for snapshot in (first, newest):
            state = Directory(kind="debian", form=1, mode="eager", origin=f"https://example.org/{snapshot}/")
            made = assemble(state, {"thing": sha256(leaf)}, {}, {})
            store.put([leaf, *made.blobs.values()])
            path = store.layout.record(snapshot)
            record = json.loads(path.read_bytes())
            directory = {"digest": made.digest.hex(), "since": snapshot, "read": snapshot}
            record["repos"]["debian"] = {"kind": "debian", "directories": {"simple": directory}}
            path.write_text(json.dumps(record))
        before = {one.digest for one in store.blobs.list()}
    for verb in ("gc", "check", "check --repair", "tree current", f"diff {first} current"):
        mirror.run(*verb.split(), status=2).line("'debian'", "upgrade")
    with mirror.store() as store:
        assert {one.digest for one in store.blobs.list()} == before


# Files


@pytest.mark.parametrize(
    ("publish", "changed"),
    [({}, True), ({}, False), (NO_TREES, False)],
    ids=["trees", "trees, unchanged upstream", "no trees, unchanged upstream"],
)
def test_a_file_that_was_found_bad_is_fetched_by_the_next_sync(
    publish: dict[str, Any], changed: bool, mirror: Mirror, channel: Channel
) -> None:
    mirror.settings["publish"] = publish
    mirror.sync()
    flip(blob(mirror))
    found_by(mirror, "--read-data").out.index(LIB.hex())
    assert not blob(mirror).exists()
    if changed:
        channel.add(make_package("new"))
        channel.publish()
    mirror.sync("--strict")
    assert "lib-1.0-0.conda" in mirror.listed("chan/noarch")
    assert sha256(blob(mirror).read_bytes()) == LIB
    mirror.published()  # the tree is whole
    mirror.run("check", "--repair")  # the tree of the snapshot before, which lost the file too
    sound(mirror)


def test_what_lies_beside_a_package_and_was_found_bad_is_fetched_by_the_next_sync(mirror: Mirror, channel: Channel) -> None:
    (channel.root / "noarch" / "lib-1.0-0.conda.sig").write_bytes(b"signature")
    mirror.repos[0]["sidecars"] = ["*.sig"]
    mirror.sync()
    flip(blob(mirror, sha256(b"signature")))
    found_by(mirror, "--read-data")
    mirror.sync("--strict")
    assert (mirror.tree("chan/noarch") / "lib-1.0-0.conda.sig").read_bytes() == b"signature"
    mirror.run("check", "--repair")  # the tree of the snapshot before
    mirror.run("check", "--read-data")


def test_a_file_that_was_found_bad_and_is_listed_no_more_makes_no_sync_read_all_anew(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """It stays in quarantine: nobody may have it any more for the older snapshot that lists it."""
    mirror.sync()
    channel.remove("lib-1.0-0.conda", removed=False)
    channel.publish()
    mirror.sync()
    flip(blob(mirror))
    found_by(mirror, "--read-data")
    mirror.sync()
    upstream.clear()
    mirror.sync()
    assert {request.path: request.status for request in upstream.requests if request.status != 404} == {
        f"/chan/{subdir}/repodata.json.zst": 304 for subdir in ("linux-64", "noarch")
    }


@pytest.mark.parametrize("how", ["no row", "empty index"])
def test_a_scrub_reads_what_the_index_does_not_know(how: str, mirror: Mirror) -> None:
    """A sync killed just after it named the file leaves such."""
    mirror.sync()
    if how == "no row":
        with Store.open(mirror.store_path, write=True) as store:
            store.index.drop_blobs([LIB])
    else:
        (mirror.store_path / "index.lmdb").write_bytes(b"")
    flip(blob(mirror))
    assert LIB.hex() in found_by(mirror, "--read-data").out


@pytest.mark.parametrize(
    ("how", "verb"), [("cut in half", "check"), ("row of another length", "check"), ("row that is no UTF-8", "sync")]
)
def test_a_damaged_index_is_named_with_the_way_out(how: str, verb: str, mirror: Mirror) -> None:
    mirror.sync()
    if how == "cut in half":
        path = mirror.store_path / "index.lmdb"
        os.truncate(path, path.stat().st_size // 2)
    else:
        with Store.open(mirror.store_path, write=True) as store, store.index._env.begin(write=True) as transaction:
            if how == "row of another length":
                transaction.put(LIB, b"12345678", db=store.index._blobs)
            for key, row in transaction.cursor(store.index._seen) if "UTF-8" in how else ():
                transaction.put(key, row.replace(b'"', b"\xff"), db=store.index._seen)  # the quotes of an ETag
    mirror.run(verb, status=1).line("index.lmdb", "`snapmirror reindex`")
    mirror.run("reindex")
    sound(mirror)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps this limit")
def test_an_index_for_which_there_are_too_few_addresses_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    """As where a cluster limits what a process may have (ulimit -v): an index that is made again could not be opened either."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with store_at(tmp_path / "store") as store:
        resource.setrlimit(resource.RLIMIT_AS, (32 << 30, hard))
        try:
            with pytest.raises(StoreError, match="64 GiB of addresses") as raised:
                store.put([b"a blob"])
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert "reindex" not in str(raised.value)


def test_an_index_that_is_cut_short_is_said_to_be_so_by_whoever_opens_it_next(tmp_path: Path) -> None:
    """While somebody still had the first error, the index counted as open, which was what the next one was told."""
    with store_at(tmp_path / "store") as store:
        store.put([b"a blob"])
    os.truncate(tmp_path / "store" / "index.lmdb", 8192)
    with store_at(tmp_path / "store") as store:
        errors: list[StoreError] = []
        for _ in range(2):
            with pytest.raises(StoreError, match="cut short") as raised:
                store.put([b"another"])
            errors.append(raised.value)


def test_a_scrub_that_must_end_soon_is_carried_on_by_the_next(mirror: Mirror) -> None:
    mirror.sync()
    with Store.open(mirror.store_path, write=True) as store:
        store.put([b"file %d" % number for number in range(70)])
        sizes = {one.digest: one.size for one in store.blobs.list()}

        def unread() -> set[bytes]:
            return {digest for digest, row in store.index.blobs() if not row.checked}

        for limit, left in (("0s", len(sizes) - 64), ("0s", 0), ("1h", 0)):
            read = mirror.run("check", "--read-data", "--max-duration", limit, "--json").json["bytes_read"]
            assert len(unread()) == left
        assert read == sum(sizes.values())


def test_repair_looks_once_at_a_tree_that_many_snapshots_have(
    local: tuple[Channel, CondaRepo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a large channel takes ten seconds, in which nobody can seal, and a month of snapshots has it."""
    _, repo = local
    looked, real = list[str](), name_of

    def named(listing: dict[str, bytes]) -> str:
        looked.append(real(listing))
        return looked[-1]

    with store_at(tmp_path / "store", ticking()) as store, Http(FAST, print) as http:
        for _ in range(3):
            sync(store, repo)
        monkeypatch.setattr("snapmirror.sync.repair.name_of", named)
        assert repair(store, ECOSYSTEMS, {"chan": repo}, http, Quiet(), [], plain=True) == []
        trees = {path.name for path in store.layout.trees.iterdir()}
        assert sorted(looked) == sorted(trees)
        shutil.rmtree(store.trees.path(looked[0]))
        assert len(repair(store, ECOSYSTEMS, {"chan": repo}, http, Quiet(), [], plain=True)) == 1
        assert {path.name for path in store.layout.trees.iterdir()} == trees


def test_blobs_that_came_back_writable_are_read_without_the_lock(
    local: tuple[Channel, CondaRepo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore that is the whole store, and hours in which nobody could seal, pin or deny."""
    _, repo = local
    held, real = list[bool](), scrub._read

    def read(store: Store, digest: bytes, row: BlobRow) -> BlobRow | None:
        held.append(locks.is_held(store.layout.lock))
        return real(store, digest, row)

    with store_at(tmp_path / "store") as store, Http(FAST, print) as http:
        sync(store, repo)
        for path in store.layout.blobs.glob("??/*"):
            path.chmod(0o644)
        monkeypatch.setattr(scrub, "_read", read)
        found = _find_problems(store, None, None, read_data=False)
        repair(store, ECOSYSTEMS, {"chan": repo}, http, Quiet(), found.problems, plain=True)
        assert len(held) >= 2 * len(list(store.blobs.list()))
        assert not any(held)
        assert not any(blob.changeable for blob in store.blobs.list())


def test_a_scrub_holds_little_of_each_blob(tmp_path: Path) -> None:
    """Ten years of a large channel are over ten million."""
    with store_at(tmp_path / "store") as store:
        store.put([b"file %d" % number for number in range(800)])
        listed = scrub._order(store)  # and not what is traced of memory: a thread that reads has a megabyte for a moment
        assert len(listed) == 800
        assert sum(map(sys.getsizeof, listed)) < 800 * 100
        assert len(list(scrub.read_data(store, None))) == 800


def test_a_scrub_that_may_open_no_more_files_takes_no_good_one_away(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with store_at(tmp_path / "store") as store:
        store.put([b"file %d" % number for number in range(100)])
        reading = scrub.read_data(store, None)
        next(reading)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            with pytest.raises(OSError, match="Too many open files"):
                list(reading)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(list(store.blobs.list())) == 100


def test_many_wrong_files_are_taken_out_of_trees_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each of them millions of names would be gone through, and nobody could publish meanwhile."""
    with store_at(tmp_path / "store") as store:
        digests = [one.sha256 for one in store.blobs.put([b"file %d" % number for number in range(5)])]
        tree = store.trees.path(store.trees.build({f"{digest.hex()}.conda": digest for digest in digests}))
        for digest in digests[1:]:
            overwrite(store.blobs.path(digest), b"wrong")
        walk, walked = os.walk, list[Path]()

        def watched(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
            walked.append(folder)
            return walk(folder)

        monkeypatch.setattr("os.walk", watched)
        assert set(scrub.take_away(store, [check.Problem("", "", digest) for digest in digests])) == set(digests[1:])
        assert walked == [tree]
        assert [path.name for path in tree.iterdir()] == [f"{digests[0].hex()}.conda"]


def test_repair_moves_no_good_file_away_because_the_index_is_wrong(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    with Store.open(mirror.store_path, write=True) as store:
        store.index.put_blobs({LIB: BlobRow(5)})
    (channel.root / "noarch" / "lib-1.0-0.conda").unlink()  # it could not be had again
    assert LIB.hex() in found_by(mirror).out
    assert "lib-1.0-0.conda" not in mirror.run("check", "--repair").err  # nothing is asked of upstream
    assert blob(mirror).exists()
    sound(mirror)


def test_repair_gets_a_bad_file_again_and_keeps_the_bad_one_apart(mirror: Mirror) -> None:
    mirror.sync()
    overwrite(blob(mirror), b"cut short")
    mirror.run("check", "--repair").line("quarantined", LIB.hex())
    assert [path.read_bytes() for path in (mirror.store_path / "quarantine").iterdir()] == [b"cut short"]
    sound(mirror)


def test_repair_gets_all_it_can_where_it_cannot_get_all(mirror: Mirror) -> None:
    mirror.sync()
    blob(mirror).unlink()
    leaf = mirror.reader("chan/noarch").leaves["data"]
    overwrite(blob(mirror, leaf), b"damaged")
    assert leaf.hex() in found_by(mirror, "--repair").out
    assert sha256(blob(mirror).read_bytes()) == LIB


def test_repair_gets_what_other_parts_of_a_directory_list_if_one_is_lost(mirror: Mirror, channel: Channel) -> None:
    channel.add(*(make_package(f"more{number}") for number in range(40)))
    channel.publish()
    mirror.sync()
    reader = mirror.reader("chan/noarch")
    buckets = set(reader.document.buckets) - set(reader.buckets_of(["lib"]))
    for digest in (LIB, *buckets):
        blob(mirror, digest).unlink()
    found_by(mirror, "--repair")
    assert sha256(blob(mirror).read_bytes()) == LIB


def test_repair_reads_what_snapshots_have_in_common_once(
    local: tuple[Channel, CondaRepo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of metadata that is lost no snapshot tells where it may be had, so that none is left out."""
    channel, repo = local
    with store_at(tmp_path / "store") as store:
        for version in ("2.0", "3.0"):
            sync(store, repo)
            channel.add(make_package("lib", version))
            channel.publish()
        read: list[bytes] = []
        real = Metadata.leaf

        def leaf(self: Metadata, digest: bytes) -> bytes:
            read.append(digest)
            return real(self, digest)

        monkeypatch.setattr(Metadata, "leaf", leaf)
        lost = check.Problem("a leaf", "is missing", bytes(32))
        assert sources(store, ECOSYSTEMS, {"chan": repo}, [lost]) == {}
        assert len(read) == len(set(read)) == 3


def test_repair_asks_no_upstream_of_a_repo_that_is_offline(local: tuple[Channel, CondaRepo], tmp_path: Path) -> None:
    """Another place, if one is given, and the upstream of another repo that has the same file."""
    _, repo = local
    off, other = replace(repo, offline=True), replace(repo, path="same")
    lost = check.Problem("a file", "is missing", LIB)
    with store_at(tmp_path / "store") as store:
        sync(store, repo)
        assert sources(store, ECOSYSTEMS, {"chan": off}, [lost]) == {}
        given = sources(store, ECOSYSTEMS, {"chan": off}, [lost], giver("http://mirror.example/old"))[LIB]
        with Http(FAST, print) as http:
            assert all("mirror.example/old/" in url for url in (*given.urls, *given.others(http)))
        sync(store, repo, other, only=["same"])
        (url,) = sources(store, ECOSYSTEMS, {"chan": off, "same": other}, [lost])[LIB].urls
        assert url.startswith(repo.upstreams[0])


@pytest.mark.parametrize("again", [True, False])
def test_gc_removes_a_bad_file_that_no_snapshot_needs(again: bool, local: tuple[Channel, CondaRepo], tmp_path: Path) -> None:
    """For as long as it is missed every sync reads all that upstream has, unchanged or not."""
    channel, repo = local
    with store_at(tmp_path / "store", ticking("2100-01-01T01:00:00")) as store:  # long after it was found bad
        first = sync(store, repo).snapshot
        assert first
        flip(store.blobs.path(LIB))
        assert [one.blob for one in scrub.read_data(store, None) if isinstance(one, check.Problem)] == [LIB]
        if again:
            sync(store, repo)
        channel.remove("lib-1.0-0.conda")
        channel.publish()
        sync(store, repo)
        collect(store)
        assert store.quarantined() == (frozenset() if again else {LIB})  # still needed
        forget(store, *(record.id for record in store.catalog().records[:-1]))
        collect(store)
        assert list(store.layout.quarantine.iterdir()) == []
        assert store.quarantined() == frozenset()


# Trees and documents


def without_a_file(folder: Path) -> None:
    (folder / "lib-1.0-0.conda").unlink()


def with_another_file(folder: Path) -> None:
    (folder / "lib-1.0-0.conda").unlink()
    (folder / "lib-1.0-0.conda").write_bytes(b"something else")


def without_a_document(folder: Path) -> None:
    (folder / "repodata.json.zst").unlink()


@pytest.mark.parametrize("harm", [without_a_file, with_another_file, without_a_document])
def test_a_tree_that_is_not_what_its_snapshot_lists_is_seen_and_mended(harm: Callable[[Path], None], mirror: Mirror) -> None:
    mirror.sync()
    before = mirror.published()
    harm(mirror.tree("chan/noarch"))
    assert "chan/noarch" in found_by(mirror).out
    mirror.run("check", "--repair")
    assert mirror.published() == before
    sound(mirror)


def test_a_file_that_programs_could_write_to_through_a_tree_is_named(mirror: Mirror) -> None:
    mirror.sync()
    (mirror.tree("chan/noarch") / "lib-1.0-0.conda").chmod(0o644)
    assert "lib-1.0-0.conda: can be written to" in found_by(mirror).out


@pytest.mark.parametrize("name", ["../../up.sh", "sub/../../../up.sh", "{root}/up.sh", ""])
def test_what_is_listed_under_a_name_that_leads_out_of_its_tree_is_linked_nowhere(name: str, mirror: Mirror) -> None:
    """No reader of upstreams lets such a name in; one that did would have links made anywhere on the disk."""
    mirror.sync()
    name = name.format(root=mirror.root)
    with Store.open(mirror.store_path, write=True) as store:
        leaf = codec.compress(encode(File(name, 4, sha256(b"evil"), None)), 3)
        directory = Directory(kind="files", form=1, mode="eager", origin="https://example.org/")
        made = assemble(directory, {name: sha256(leaf)}, {}, {})
        store.put([b"evil", leaf, *made.blobs.values()])
        newest = store.catalog().records[-1]
        state = DirectoryState(digest=made.digest.hex(), since=newest.id, read=newest.id)
        store.snapshots.write(replace(newest, repos={"x": RepoState(kind="files", directories={"": state})}))
    mirror.run("tree", "current", status=5).line(repr(name), "leads out")
    assert not list(mirror.root.rglob("up.sh"))


@pytest.mark.parametrize("count", [0, 3])
def test_a_directory_in_which_no_name_has_its_place(count: int, mirror: Mirror, tmp_path: Path) -> None:
    """Is named, and copied nowhere: who wrote it was no snapmirror."""
    mirror.sync()
    with Store.open(mirror.store_path, write=True) as store:
        newest = store.catalog().records[-1]
        before = store.metadata.directory(newest.repos["chan"].directories["noarch"].blob).document
        content = codec.to_msgpack(replace(before, buckets=before.buckets[:1] * count))
        store.put([content])
        state = DirectoryState(digest=sha256(content).hex(), since=newest.id, read=newest.id)
        repo = replace(newest.repos["chan"], directories={"noarch": state})
        store.snapshots.write(replace(newest, repos={"chan": repo}))
    assert f"{sha256(content).hex()}: is not the directory it should be: {count} buckets" in found_by(mirror).out
    with server(mirror.config) as (url, _):
        assert requests.get(f"{url}/current/chan/noarch/lib-1.0-0.conda", timeout=20).status_code == 503
    copy = Mirror(tmp_path / "copy")
    copy.write()
    assert f"{count} buckets are no power of two" in copy.run("replicate", str(mirror.store_path), status=None).err
    assert copy.snapshots() == []


@pytest.mark.parametrize("mend", ["check --repair", "sync"])
def test_a_damaged_document_gets_into_no_tree(mend: str, mirror: Mirror) -> None:
    mirror.sync()
    before = mirror.published()
    digest = mirror.reader("chan/noarch").document.documents["repodata.json"].sha256.hex()
    overwrite(mirror.store_path / "documents" / f"{digest}.zst", b"damaged")
    assert digest in found_by(mirror, "--read-data").out
    mirror.run(*mend.split())
    assert mirror.published() == before
    sound(mirror)


def test_a_document_that_comes_out_otherwise_than_recorded_gets_into_no_tree(mirror: Mirror) -> None:
    """What made it may have changed since: a date never answers in other bytes than it did."""
    mirror.sync()
    reader = mirror.reader("chan/noarch")
    documents = dict(reader.document.documents)
    documents["repodata.json"] = replace(documents["repodata.json"], sha256=sha256(b"as it was"))
    with Store.open(mirror.store_path, write=True) as store:
        made = with_documents(Assembled(reader.digest, reader.document, {}), documents)
        store.put(list(made.blobs.values()))
        newest = store.catalog().records[-1]
        newest.repos["chan"].directories["noarch"] = DirectoryState(digest=made.digest.hex(), since=newest.id, read=newest.id)
        store.snapshots.write(newest)
    mirror.run("tree", "current", status=5).line("repodata.json", "is not what was recorded")


def test_trees_get_and_lose_the_plain_repodata_as_the_configuration_says(mirror: Mirror) -> None:
    for plain in (False, True, False):
        mirror.settings["publish"] = {"plain": plain}
        mirror.sync()
        assert (mirror.tree("chan/noarch") / "repodata.json").exists() == plain
    mirror.run("check")


# Backups


def test_a_backup_needs_only_what_cannot_be_made_again(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    channel.add(make_package("new"))
    channel.publish()
    mirror.sync()
    needed = {"snapmirror.json", "blobs", "snapshots", "pins", "denied"}
    for verb in ("gc", "check --repair", "reindex", "tree current", f"forget {mirror.snapshots()[0]}", "sync"):
        for path in mirror.store_path.iterdir():
            if path.name not in needed:
                remove_tree(path) if path.is_dir() else path.unlink()
        mirror.run(*verb.split())
    assert {"lib-1.0-0.conda", "new-1.0-0.conda"} <= mirror.listed("chan/noarch")
    assert mirror.published()
    sound(mirror)


def test_a_store_whose_snapshots_are_not_there_yet_is_left_alone(mirror: Mirror) -> None:
    """While a backup comes back a timer may start a sync, which would begin anew, and a gc, which would take all blobs."""
    mirror.settings["publish"] = NO_TREES
    mirror.sync()
    held, snapshots = {path.name for path in mirror.store_path.glob("blobs/??/*")}, mirror.store_path / "snapshots"
    snapshots.rename(mirror.root / "backup")
    for verb in ("sync", "gc --grace 0s", "check"):
        mirror.run(*verb.split(), status=5).line("snapshots/: is missing")
    assert not snapshots.exists()
    (mirror.root / "backup").rename(snapshots)
    assert {path.name for path in mirror.store_path.glob("blobs/??/*")} == held
    sound(mirror)


@pytest.mark.parametrize("folder", ["pins", "denied"])
def test_a_store_whose_pins_or_denials_are_not_there_yet_is_left_alone(
    folder: str, local: tuple[Channel, CondaRepo], tmp_path: Path
) -> None:
    """A gc would forget what was pinned, a sync publish what is denied; an empty folder says that there was nothing."""
    root = tmp_path / "store"
    with store_at(root) as store:
        sync(store, local[1])
    (root / folder).rename(tmp_path / "backup")
    for write in (True, False) if folder == "pins" else (True,):
        with pytest.raises(DamagedError, match=f"{folder}/: is missing"):
            Store.open(root, write=write)
    assert not (root / folder).exists()
    (root / folder).mkdir()
    with store_at(root) as store:
        assert sync(store, local[1]).exit_status(strict=True) == 0


@pytest.mark.parametrize("change", [{}, {"license": "changed"}], ids=["as it was", "other record"])
def test_a_store_put_back_from_yesterday_is_not_taken_for_what_a_newer_index_says(
    change: dict[str, str], mirror: Mirror, channel: Channel
) -> None:
    mirror.settings |= {"index": str(mirror.root / "index.lmdb"), "publish": NO_TREES}
    mirror.sync()
    shutil.copytree(mirror.store_path, mirror.root / "backup", symlinks=True)
    channel.add(make_package("new"))
    channel.publish()
    mirror.sync()
    remove_tree(mirror.store_path)
    (mirror.root / "backup").rename(mirror.store_path)
    if change:
        channel.hotfix("new-1.0-0.conda", **change)
        channel.publish()
    mirror.sync()
    assert "new-1.0-0.conda" in mirror.listed("chan/noarch")
    assert blob(mirror, sha256(make_package("new").data)).exists()
    mirror.run("check", "--repair")


@pytest.mark.parametrize("trees", [True, False], ids=["trees made anew", "no trees"])
@pytest.mark.parametrize("what", ["directory", "bucket", "leaf", "leaf that is replaced"])
def test_damage_of_one_repo_ends_no_sync_of_another(
    what: str, trees: bool, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    mirror.settings["publish"] = NO_TREES
    other = Channel(upstream.root / "other")
    other.add(make_package("thing"))
    other.publish()
    mirror.add("other", f"{upstream.url}/other")
    mirror.sync()
    reader, before = mirror.reader("other/noarch"), mirror.record().repos["other"].directories["noarch"].digest
    bad = {"directory": reader.digest, "bucket": reader.document.buckets[0]}.get(what, reader.leaves["thing"])
    overwrite(blob(mirror, bad), b"damaged")
    for changed, name in ((channel, "new"), (other, "thing" if "replaced" in what else "new")):
        changed.add(make_package(name, "2.0"))
        changed.publish()
    mirror.settings["publish"] = {} if trees else NO_TREES
    found = mirror.sync(status=5)
    found.line("other/noarch", bad.hex(), "snapmirror check", "it keeps its old state")
    assert "new-2.0-0.conda" in mirror.listed("chan/noarch")
    assert mirror.record().repos["other"].directories["noarch"].digest == before
    repos = mirror.sync("--json", status=5).json["repos"]
    assert {path: repo["exit_status"] for path, repo in repos.items()} == {"chan": 0, "other": 5}
    mirror.sync("chan")


# Upstreams that are damaged themselves


@pytest.mark.parametrize("answer", [Status(404), Html()], ids=["404", "login page"])
def test_an_upstream_that_has_lost_nearly_all_files_keeps_the_old_state(
    answer: Status | Html, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    mirror.sync()
    before = mirror.directories()
    for name in ("lib", "data"):
        channel.add(make_package(name, ext=".tar.bz2" if name == "data" else ".conda", license="rebuilt"))
    channel.publish()
    upstream.fault("/chan/noarch/*-1.0-0.*", answer)
    assert "chan/noarch" in mirror.sync(status=3).err
    assert mirror.directories() == before
    upstream.heal()
    mirror.sync()
    assert mirror.directories() != before


def test_a_subdir_that_is_gone_for_good_can_be_let_go(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    shutil.rmtree(channel.root / "linux-64")
    mirror.sync(status=3)
    assert mirror.listed("chan/linux-64")
    mirror.sync("--allow-shrink")
    assert mirror.listed("chan/linux-64") == set()
