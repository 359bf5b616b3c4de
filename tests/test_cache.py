"""`gc --max-cache`: of what was fetched on demand, that goes which nobody has wanted for longest; it comes again on request.

Nothing goes that can't be had again, nor what anything else that is kept needs.
"""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from channels import Channel, Package, make_package
from inprocess import store_at
from mirror import Mirror
from pypi_index import JSON, Index
from serving import server
from upstream import Upstream

from snapmirror.cli.gc import leaf_digests
from snapmirror.store import fetched, locks
from snapmirror.store import gc as gc_
from snapmirror.store.eviction import Cache, Room
from snapmirror.store.mark import Mark
from snapmirror.store.retention import Retention
from snapmirror.store.store import Store

_SIZE = 200_000


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as made:
        yield made


@pytest.fixture
def channel(upstream: Upstream) -> Channel:
    return Channel(upstream.root / "chan")


@pytest.fixture
def packages(channel: Channel) -> list[Package]:
    """Four of about the same size."""
    made = [make_package(name, payload=random.Random(name).randbytes(_SIZE), subdir="noarch") for name in "abcd"]
    channel.add(*made)
    channel.publish()
    return made


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream, packages: list[Package]) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
    made.sync()
    upstream.clear()
    return made


def get(url: str, package: Package) -> None:
    """Ask for a package, which must come whole."""
    answer = requests.get(f"{url}/current/chan/noarch/{package.filename}", timeout=30)
    assert (answer.status_code, answer.content == package.data) == (200, True), answer.text[:200]


def fetch(mirror: Mirror, *packages: Package) -> None:
    """Have packages fetched, as clients do: one after the other, the first one longest ago."""
    mirror.write()
    with server(mirror.config) as (url, _):
        for package in packages:
            get(url, package)
    for days, package in enumerate(reversed(packages), 1):
        then = time.time() - days * 86400
        os.utime(note(mirror, package), (then, then))


def digest(package: Package) -> str:
    return hashlib.sha256(package.data).hexdigest()


def note(mirror: Mirror, package: Package) -> Path:
    """What says when a package was last wanted."""
    name = digest(package)
    return mirror.store_path / "live" / "fetched" / name[:2] / name


def held(mirror: Mirror) -> str:
    """The packages that the store has, by name."""
    found = (make_package(name, payload=random.Random(name).randbytes(_SIZE), subdir="noarch") for name in "abcd")
    with mirror.store() as store:
        return "".join(package.record["name"] for package in found if store.blobs.size(bytes.fromhex(digest(package))))


def gc(mirror: Mirror, limit: str = "0", grace: str = "0s") -> int:
    """How many files it drops to make room."""
    evicted: int = mirror.run("gc", "--max-cache", limit, "--grace", grace, "--json").json["evicted"]
    mirror.run("check", "--read-data")
    return evicted


def test_what_nobody_has_wanted_for_longest_goes_and_comes_again(
    mirror: Mirror, upstream: Upstream, packages: list[Package]
) -> None:
    """A server that has answered with it a moment ago notices; a use counts from then on; the metadata stays."""
    fetch(mirror, *packages)
    mirror.settings["max_cache"] = f"{3 * _SIZE}"
    with server(mirror.config) as (url, _):
        for package in (packages[1], packages[0]):
            get(url, package)
        assert mirror.run("gc").out.startswith("freed 0 blobs")  # all were stored today
        said = mirror.run("gc", "--grace", "0s", "--dry-run").out
        assert "would make room by dropping 2 files of on-demand repos" in said
        assert held(mirror) == "abcd"
        assert gc(mirror, limit=f"{3 * _SIZE}") == 2
        assert held(mirror) == "ab"
        upstream.clear()
        assert mirror.run("gc", "--grace", "0s", "--max-cache", "0").out.startswith("made room by dropping 2 files")
        for package in packages:
            get(url, package)
        assert sorted(upstream.paths()) == [f"/chan/noarch/{package.filename}" for package in packages]
    assert held(mirror) == "abcd"


def test_a_use_is_noted_once_a_day_and_not_at_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was fetched; what a sync brought is never noted, so that it never goes."""
    monkeypatch.setattr(fetched, "_SURE", 0.0)
    times = [datetime.fromisoformat(f"2026-11-{hour}:00:00Z") for hour in ("20T01", "20T02", "20T23", "21T00", "21T01")]
    clock = times[:1]
    with store_at(tmp_path / "store", now=lambda: clock[-1]) as store:
        store.fetched.add(bytes(32))
        noted = []
        for time_ in times[1:]:
            clock.append(time_)
            for digest in (bytes(32), bytes(31) + b"\1"):
                store.fetched.use(digest)
            noted.append(store.fetched.list())
    assert noted == [{bytes(32): time_.timestamp()} for time_ in (times[1], times[1], times[3], times[3])]


def test_what_is_being_sent(mirror: Mirror, packages: list[Package], channel: Channel) -> None:
    """Is sent to its end."""
    large = make_package("large", payload=os.urandom(30_000_000), subdir="noarch")
    channel.add(large)
    channel.publish()
    mirror.sync()
    fetch(mirror, large)
    with server(mirror.config) as (url, _):
        address = f"{url}/current/chan/noarch/{large.filename}"
        with requests.get(address, stream=True, timeout=30) as answer:
            first = answer.raw.read(1000)
            assert gc(mirror) == 1
            assert first + answer.raw.read() == large.data


def test_what_a_pin_or_an_eager_repo_lists_stays(mirror: Mirror, upstream: Upstream, packages: list[Package]) -> None:
    fetch(mirror, *packages)
    mirror.run("pin", "paper", "current")
    assert gc(mirror) == 0
    mirror.run("unpin", "paper")
    other = Channel(upstream.root / "other")
    other.add(packages[0])
    other.publish()
    mirror.add("other", f"{upstream.url}/other", subdirs=["noarch"])
    mirror.sync()
    assert gc(mirror) == 3
    assert held(mirror) == "a"


@pytest.mark.parametrize("keys", [{"evict": False}, {"offline": True}])
def test_repos_that_keep_what_they_have(mirror: Mirror, packages: list[Package], keys: dict[str, bool]) -> None:
    """Because they are told to, or because they could not have it again, as one that is no longer configured."""
    fetch(mirror, *packages)
    mirror.repos[0] |= keys
    assert gc(mirror) == 0
    mirror.repos.clear()
    assert gc(mirror) == 0
    (mirror.root / "own").mkdir()
    mirror.repos.append({"kind": "pypi", "path": "own", "packages": str(mirror.root / "own")})
    mirror.sync()
    assert gc(mirror) == 0
    assert held(mirror) == "abcd"


def test_what_upstream_has_withdrawn_stays_for_its_dates(mirror: Mirror, channel: Channel, packages: list[Package]) -> None:
    fetch(mirror, *packages)
    channel.remove(packages[0].filename)
    channel.publish()
    mirror.sync()
    assert gc(mirror) == 3
    assert held(mirror) == "a"


@pytest.mark.parametrize(("days", "count"), [(6, 4), (8, 0)])
def test_what_upstream_lists_stays_if_it_has_not_answered_for_a_week(
    days: int, count: int, mirror: Mirror, packages: list[Package]
) -> None:
    """It may be gone, and what was fetched all that is left: a sync that can't read it keeps the old state."""
    fetch(mirror, *packages)
    later = datetime.now(UTC) + timedelta(days=days)
    with store_at(mirror.store_path, now=lambda: later) as store, store.lock(None) as catalog:
        terms = gc_.Terms(Retention(), timedelta(0), timedelta(0))
        planned = gc_.plan(store, catalog, Mark(store.metadata, leaf_digests), terms)
        room = Room(store, leaf_digests, Cache(0, {"chan"}))
        assert len(room.plan(catalog, planned, timedelta(0)).evicted) == count


def test_what_a_sync_had_to_bring_stays(mirror: Mirror, channel: Channel, packages: list[Package]) -> None:
    """Upstream states no SHA-256 of it; that it is asked for makes no difference."""
    channel.hotfix(packages[0].filename, drop=["sha256"])
    channel.publish()
    mirror.sync()
    assert held(mirror) == "a"
    with server(mirror.config) as (url, _):
        for package in packages:
            get(url, package)
    assert gc(mirror) == 3
    assert held(mirror) == "a"


def test_a_crash_between_two_steps(mirror: Mirror, packages: list[Package]) -> None:
    """A note without its blob, of a transfer or a gc that was killed, is harmless; a blob without one stays."""
    fetch(mirror, *packages)
    with mirror.store() as store:
        store.blobs.path(bytes.fromhex(digest(packages[0]))).unlink()
    note(mirror, packages[1]).unlink()
    mirror.run("reindex")
    assert gc(mirror) == 2
    assert held(mirror) == "b"
    old = time.time() - 30 * 86400
    os.utime(note(mirror, packages[0]), (old, old))
    mirror.run("gc")
    assert not note(mirror, packages[0]).exists()
    fetch(mirror, packages[0])
    assert held(mirror) == "ab"


def test_metadata_that_was_read_on_request(mirror: Mirror, channel: Channel, packages: list[Package]) -> None:
    """What no snapshot lists yet comes again too; what upstream has withdrawn since the last one stays."""
    fetch(mirror, packages[0])
    mirror.repos[0] |= {"metadata": "on-request", "max_metadata_age": "1s"}
    new = make_package("new", subdir="noarch")
    channel.add(new)
    channel.remove(packages[0].filename)
    channel.publish()
    mirror.write()
    with server(mirror.config) as (url, _):
        requests.get(f"{url}/current/chan/noarch/repodata.json", timeout=30).raise_for_status()
        for package in (new, *packages[1:]):
            get(url, package)
        assert gc(mirror) == 4
        get(url, new)
    assert held(mirror) == "a"
    mirror.sync()
    assert gc(mirror) == 1


def test_what_was_told_of_a_pinned_snapshot_later(tmp_path: Path) -> None:
    """Stays with it."""
    with Index(tmp_path / "index") as index:
        index.wheel("six", "1.0")
        index.wheel("idna", "1.0", upload_time="2020-01-01T00:00:00Z")
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("py", f"{index.url}/simple/", kind="pypi", download="on-demand", metadata="on-request")
        mirror.write()
        with server(mirror.config) as (url, _):
            requests.get(f"{url}/py/simple/six/", timeout=20).raise_for_status()
            mirror.sync()
            mirror.run("pin", "paper", "current")
            requests.get(f"{url}/py/simple/idna/", timeout=20).raise_for_status()
            page = requests.get(f"{url}/paper/py/simple/idna/", headers={"Accept": JSON}, timeout=20)
            (file,) = page.json()["files"]
            requests.get(urljoin(page.url, file["url"]), timeout=20).raise_for_status()
        assert gc(mirror) == 0
        mirror.run("unpin", "paper")
        assert gc(mirror) == 1


def test_nobody_waits_for_what_gc_reads(mirror: Mirror, packages: list[Package]) -> None:
    """It reads before it takes the store's lock, which pages that are asked for on request need."""
    fetch(mirror, *packages)
    held = []

    with Store.open(mirror.store_path, write=True) as store:

        def watched(kind: str, leaf: bytes) -> Iterator[bytes]:
            held.append(locks.is_held(store.layout.lock))
            return leaf_digests(kind, leaf)

        terms = gc_.Terms(Retention(), keep_trees=timedelta(days=30), grace=timedelta(0))
        mark, room = Mark(store.metadata, watched), Room(store, watched, Cache(0, ["chan"]))
        gc_.read_ahead(store, mark, terms)
        room.read_ahead(terms)
        with store.lock(None) as catalog:
            planned = room.plan(catalog, gc_.plan(store, catalog, mark, terms), timedelta(0))
    assert (set(held), len(planned.evicted)) == ({False}, len(packages))
