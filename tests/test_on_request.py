"""metadata = "on-request": under `current` an index is read when it is asked for, and a sync seals what is known by then."""

import asyncio
import contextlib
import gc
import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import msgspec
import pytest
import requests
from channels import Channel, Package, make_package
from inprocess import in_child, store_at, sync
from mirror import Mirror
from pypi_index import JSON, NOON, Index
from serving import server
from steps import Steps
from test_serve import Clock
from upstream import Call, Html, Stall, Status, Upstream
from wheels import wheel

from snapmirror import codec
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.ecosystem import Want
from snapmirror.errors import TransportError
from snapmirror.pypi import PypiRepo
from snapmirror.readings import File
from snapmirror.serve.answers import Refused
from snapmirror.serve.fresh import Fresh
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import origins_of
from snapmirror.serve.view import Watch
from snapmirror.store.catalog import Catalog
from snapmirror.store.records import RepoState
from snapmirror.store.store import Store
from snapmirror.sync.live import LiveMetadata, states
from snapmirror.transfer.download import Source
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as made:
        made.wheel("six", "1.0")
        made.upload("idna", *wheel("idna", "1.0"))
        yield made


@pytest.fixture
def mirror(tmp_path: Path, index: Index) -> Mirror:
    """Of any project of the index, with nothing in it yet."""
    made = Mirror(tmp_path / "mirror")
    made.repos = [
        {
            "kind": "pypi",
            "path": "pypi",
            "upstream": f"{index.url}/simple/",
            "download": "on-demand",
            "metadata": "on-request",
            "max_metadata_age": "1s",
            "negative_age": "1s",
        }
    ]
    made.settings["download"] |= {"retries": 0}
    made.write()
    return made


def page(url: str, project: str, selector: str = "current") -> requests.Response:
    return requests.get(f"{url}/{selector}/pypi/simple/{project}/", headers={"Accept": JSON}, timeout=20)


def files(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [file["filename"] for file in answer.json()["files"]]


def fetch(answer: requests.Response) -> list[int]:
    """The status of each file of a page."""
    addresses = [urljoin(answer.url, file["url"]) for file in answer.json()["files"]]
    return [requests.get(address, timeout=20).status_code for address in addresses]


def test_any_project_from_an_empty_store(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    """pip installs through it; and again, once it is offline, what was asked for before, after a restart too."""

    def install(url: str, target: str) -> None:
        options = ["--isolated", "--no-cache-dir", "--disable-pip-version-check", "--index-url", f"{url}/current/pypi/simple"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *options, "--target", tmp_path / target, "idna"],
            check=True,
            timeout=60,
        )

    with server(mirror.config) as (url, _):
        install(url, "first")
    mirror.repos[0]["offline"] = True
    mirror.write()
    index.clear()
    with server(mirror.config) as (url, _):
        install(url, "second")
        assert page(url, "flask").status_code == 404
    assert index.paths() == []
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == sorted(
        path.name for path in (tmp_path / "first").iterdir()
    )


def test_a_page_is_asked_for_again_when_it_is_old(mirror: Mirror, index: Index) -> None:
    """Once, conditionally; what upstream has changed shows, and what it has deleted is gone."""
    mirror.repos[0]["max_metadata_age"] = "2s"
    mirror.write()
    with server(mirror.config) as (url, _):
        began = time.monotonic()
        assert page(url, "six").headers["X-Snapmirror-Snapshot"] == "live"
        assert index.asked() == ["six 200"]
        assert _when_asked(index, url, "six") == ["six 304"]
        assert time.monotonic() - began > 1  # ages are of whole seconds
        index.wheel("six", "2.0")
        assert _when_asked(index, url, "six") == ["six 200"]
        assert len(files(page(url, "six"))) == 2
        assert fetch(page(url, "six")) == [200, 200]
        del index.pages["six"]
        index.clear()
        assert _when_asked(index, url, "six") == ["six 404"]
        assert page(url, "six").status_code == 404


def _when_asked(index: Index, url: str, project: str) -> list[str]:
    """What upstream is asked when clients have asked for a page until it is."""
    while not (asked := index.asked()):
        page(url, project)
        time.sleep(0.02)
    return asked


def test_what_is_not_there_is_asked_for_once_in_a_while(mirror: Mirror, index: Index) -> None:
    """So that a new project shows soon, and a misspelt one costs upstream little."""
    mirror.repos[0]["negative_age"] = "2s"
    mirror.write()
    with server(mirror.config) as (url, _):
        began = time.monotonic()
        assert page(url, "flask").status_code == 404
        assert index.asked() == ["flask 404"]
        index.wheel("flask", "1.0")
        assert _when_asked(index, url, "flask") == ["flask 200"]
        assert time.monotonic() - began > 1
        assert files(page(url, "flask")) == ["flask-1.0-py3-none-any.whl"]


def test_a_clock_that_was_ahead(index: Index, tmp_path: Path) -> None:
    """When it is set back, what upstream said meanwhile, or failed to, is not believed for all that time."""
    repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
    origins, clock = origins_of(ECOSYSTEMS, [repo]), Clock("20261120T090000Z")
    settings = Download(retries=0, min_free="0%")
    lost = Source(File("lost", 1, bytes(32), None), (f"{index.url}/lost",))

    async def ask(store: Store) -> None:
        live, hosts = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: Http(settings, print)), hosts_of(store)
        fresh, puller = Fresh(store, live, origins), Puller(store, settings, hosts)
        await fresh.freshen("pypi", Want("six", itself=True))
        await puller.follow(lost, origins["pypi"]).end()
        with pytest.raises(Refused):
            puller.check(lost, origins["pypi"])
        for _ in range(4):
            hosts.note("http://ill.example/", TransportError("http://ill.example/", "fails"))
        with pytest.raises(TransportError):
            hosts.check("http://ill.example/")
        clock.set("20261120T010000Z")
        assert (await fresh.freshen("pypi", Want("six", itself=True))).status == "revalidated"
        assert (await fresh.freshen("pypi", Want("six", itself=True))).status == "hit"
        puller.check(lost, origins["pypi"])
        hosts.check("http://ill.example/")
        fresh.close()
        await puller.close()

    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", write=True, now=clock) as store:
        asyncio.run(ask(store))


def test_what_is_not_there_takes_little_memory(index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for one name after another that upstream does not have, or for such files, does not fill it."""
    repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
    origins = origins_of(ECOSYSTEMS, [repo])
    settings = Download(retries=0, min_free="0%")

    async def ask(fresh: Fresh, puller: Puller, numbers: range) -> None:
        for number in numbers:
            with pytest.raises(Refused, match="upstream has no such thing"):
                await fresh.freshen("pypi", Want(f"none-{number}", itself=True))
            content = hashlib.sha256(str(number).encode()).digest()
            source = Source(File(f"none-{number}", 1, content, None), (f"{index.url}/none-{number}",))
            await puller.follow(source, origins["pypi"]).end()
            with pytest.raises(Refused, match="upstream has lost it"):
                puller.check(source, origins["pypi"])

    async def measure(store: Store) -> int:
        """Bytes that are kept of a name and a file."""
        live = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: Http(settings, print))
        fresh, puller = Fresh(store, live, origins), Puller(store, settings, hosts_of(store))
        await ask(fresh, puller, range(10))
        tracemalloc.start()
        await ask(fresh, puller, range(10, 60))
        index.clear()
        caplog.clear()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        fresh.close()
        await puller.close()
        return kept // 50

    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", write=True) as store:
        assert asyncio.run(measure(store)) < 10_000


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Status(503), 502), (Html(), 502), (Status(401), 502), (Status(403), 404)],
    ids=["fails", "answers a login page", "wants to know who asks", "forbids"],
)
def test_an_index_that_is_ill(mirror: Mirror, index: Index, fault: Any, status: int) -> None:
    """What is held goes out with a warning; of what is not it is said that upstream fails, and not that there is none.

    What it forbids it may just not have: some say so of everything that is not there.
    """
    with server(mirror.config) as (url, _):
        page(url, "six")
        index.fault("/simple/*", fault)
        time.sleep(1.1)
        answer = page(url, "six")
        assert files(answer) == ["six-1.0-py3-none-any.whl"]
        assert "Response is Stale" in answer.headers["Warning"]
        assert int(answer.headers["Age"]) >= 1
        answer = page(url, "idna")
        assert (answer.status_code, "nothing is held" in answer.text) == (status, True)


def test_what_can_not_be_kept(mirror: Mirror, index: Index) -> None:
    """Is no reason to refuse what is held."""
    with server(mirror.config) as (url, _):
        page(url, "six")
        mirror.sync()
        folder = mirror.store_path / "live" / "repos"
        shutil.rmtree(folder)
        folder.write_bytes(b"")
        index.wheel("six", "2.0")
        time.sleep(1.1)
        answer = page(url, "six")
        assert (files(answer), "Warning" in answer.headers) == (["six-1.0-py3-none-any.whl"], True)


def test_a_sync_seals_what_is_known(mirror: Mirror, index: Index) -> None:
    """Under its id and date it stays as it was, while `current` goes on."""
    with server(mirror.config) as (url, _):
        page(url, "six")
        mirror.sync()
        (sealed,) = mirror.snapshots()
        index.wheel("six", "2.0")
        time.sleep(1.1)
        assert len(files(page(url, "six"))) == 2
        assert files(page(url, "six", sealed)) == ["six-1.0-py3-none-any.whl"]
        index.fault("/simple/*", Status(503))
        mirror.sync(status=None)
        later = mirror.snapshots()[-1]
        assert len(files(page(url, "six", later))) == 2  # it was known, though upstream is silent
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")


def test_a_file_of_which_no_sha256_is_stated_waits_for_a_sync(mirror: Mirror, index: Index) -> None:
    """That fetches it and so learns its name; who only asks for the page does not wait for its files."""
    for version, data in (("1.0", b"abc"), ("2.0", b"abcd")):
        index.upload("old", f"old-{version}-py3-none-any.whl", data)
    index.pages["old"]["files"][0]["hashes"] = {"md5": hashlib.md5(b"abc").hexdigest()}
    with server(mirror.config) as (url, _):
        assert files(page(url, "old")) == ["old-2.0-py3-none-any.whl"]
        assert index.paths().count("/simple/old/") == len(index.paths())
        mirror.sync()
        assert files(page(url, "old")) == ["old-1.0-py3-none-any.whl", "old-2.0-py3-none-any.whl"]
        assert fetch(page(url, "old")) == [200, 200]


def test_what_is_asked_for_while_a_sync_is_under_way(mirror: Mirror, index: Index) -> None:
    """Does not make it begin anew; nothing that either has read is lost, and of each name the newest counts."""
    asked = iter(range(9))
    for number in range(9):
        index.wheel(f"p{number}", "1.0")
    with server(mirror.config) as (url, _):
        page(url, "six")
        page(url, "idna")
        index.wheel("idna", "2.0")

        def ask() -> None:
            page(url, f"p{next(asked)}")

        index.fault("/simple/six/", Call(ask))
        mirror.sync()
        assert next(asked) == 1
        index.fault("/simple/*", Status(503))
        assert len(files(page(url, "idna"))) == 2
        assert len(files(page(url, "p0"))) == 1
        index.heal()
    mirror.sync()
    with mirror.store() as store:
        assert store.live.states() == {}  # all of it is sealed
    assert sorted(mirror.reader("pypi/").leaves) == ["idna", "p0", "six"]
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")


def test_what_was_asked_for_is_there_while_a_sync_seals(tmp_path: Path) -> None:
    """Though it was read before the sync read the others: at no step of the seal it is said that there is no such thing."""

    class Watching(Steps):
        def step(self, *arguments: Any) -> Any:
            found = super().step(*arguments)
            if kept.is_set():
                state = states(store, store.catalog(), repo)[""]
                seen.append("idna" in store.metadata.directory(state.blob).leaves)
            return found

    kept, asked, seen, present = threading.Event(), threading.Event(), list[bool](), [NOON]

    def begin() -> None:
        """A sync, as far as it has read the others."""
        present[0] += timedelta(minutes=1)
        syncing.start()
        assert asked.wait(20)

    def hold() -> None:
        asked.set()
        assert kept.wait(20)

    def watch() -> None:
        Watching(tmp_path / "store").install()
        with Index(tmp_path / "index") as index, Http(Download(retries=0), print) as http:
            index.wheel("six", "1.0")
            index.wheel("idna", "1.0")
            nonlocal repo, syncing, store
            repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
            with store_at(tmp_path / "store", lambda: present[0]) as store:
                live = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: http)
                live.refresh("pypi", "six")
                syncing = threading.Thread(target=lambda: sync(store, repo))
                index.fault("/simple/idna/", Call(begin))
                index.fault("/simple/six/", Call(hold))
                live.refresh("pypi", "idna")
                kept.set()
                syncing.join()
                assert len(store.catalog().records) == 1
        assert len(seen) > 10
        assert all(seen)

    repo: Any = None
    syncing: Any = None
    store: Any = None
    in_child(watch)


def test_a_sync_that_seals_while_a_server_looks(index: Index, tmp_path: Path) -> None:
    """What was asked for before is in one of the two that it sees, or in both."""
    repo: Any = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
    with Http(Download(retries=0), print) as http, store_at(tmp_path / "store") as store:
        live = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: http)
        sync(store, repo)
        live.refresh("pypi", "idna")

        def late(catalog: Catalog) -> Mapping[str, RepoState]:
            if len(store.catalog().records) == 1:
                sync(store, repo)
            return live.states(catalog)

        answering = Watch(store, late).view().answering
        state = answering.resolve("current", "pypi", store.now()).repos["pypi"].directories[""]
        assert list(store.metadata.directory(state.blob).leaves) == ["idna"]


@pytest.mark.parametrize("happened", ["nothing", "a blob is in quarantine", "another download"])
def test_a_request_for_one_project_leaves_the_others(happened: str, mirror: Mirror, index: Index) -> None:
    """With what is withheld of them; the next sync seals them all."""
    index.wheel("flask", "1.0")
    odd = index.wheel("flask", "2.0", hashes={}, size=None)
    mirror.repos[0]["download"] = "redirect" if happened == "another download" else "on-demand"
    mirror.write()
    with server(mirror.config) as (url, _):
        for project in ("flask", "idna", "six"):
            assert page(url, project).status_code == 200
    if happened == "a blob is in quarantine":
        (mirror.store_path / "quarantine" / ("ab" * 32)).write_bytes(b"of any repo")
    mirror.repos[0]["download"] = "on-demand"
    mirror.write()
    with server(mirror.config) as (url, _):
        assert fetch(page(url, "six")) == [200]
    with mirror.store() as store:
        reader = store.metadata.directory(store.live.states()["pypi"].directories[""].blob)
        assert (list(reader.leaves), reader.document.mode) == (["flask", "idna", "six"], "on-demand")
    mirror.sync()
    assert list(mirror.reader("pypi/").leaves) == ["flask", "idna", "six"]
    assert list(mirror.withheld("pypi/")) == [odd]


@pytest.mark.parametrize("what", ["state", "directory", "bucket", "leaf"])
def test_a_live_state_that_is_damaged(mirror: Mirror, index: Index, what: str) -> None:
    """Is named by `check`, and asked for again: neither a server nor gc stops at it."""
    with server(mirror.config) as (url, _):
        page(url, "idna")
        mirror.sync()
        page(url, "six")
    with mirror.store() as store:
        state = store.live.states()["pypi"].directories[""]
        reader = store.metadata.directory(state.blob)
        blobs = {"state": b"", "directory": state.blob, "bucket": reader.document.buckets[0], "leaf": reader.leaves["six"]}
    if what == "state":
        (mirror.store_path / "live" / "repos" / "pypi.json").write_bytes(b'{"kind": "\xff"}')
    else:
        store.blobs.path(blobs[what]).unlink()
    assert "live/" in mirror.run("check", status=5).out
    if what == "bucket":
        assert "dropped the live state of pypi" in mirror.run("check", "--repair").err
        with mirror.store() as store:
            assert store.live.states() == {}
    time.sleep(1.1)  # from then on a server goes by what changes
    with server(mirror.config) as (url, _):
        assert files(page(url, "six")) == ["six-1.0-py3-none-any.whl"]
        assert files(page(url, "idna")) == ["idna-1.0-py3-none-any.whl"]
    mirror.run("check", "--read-data")
    mirror.run("gc", "--grace", "0s")


def test_a_live_state_goes_with_its_repo(mirror: Mirror, index: Index) -> None:
    """When it has not been written for a while, so that nothing of it is kept for ever."""
    with server(mirror.config) as (url, _):
        page(url, "six")
    mirror.run("gc", "--grace", "0s")
    mirror.repos[0] |= {"metadata": "sync", "projects": ["six"]}
    for grace, left in (("24h", 1), ("0s", 0)):
        mirror.run("gc", "--grace", grace)
        with mirror.store() as store:
            assert (len(store.live.states()), len(list(store.blobs.list()))) == (left, 3 * left)


def test_what_names_nothing_does_not_have_everything_asked_for(mirror: Mirror, index: Index) -> None:
    """Of thousands of projects that would be thousands of requests."""
    with server(mirror.config) as (url, _):
        page(url, "six")
        page(url, "idna")
        index.clear()
        assert requests.get(f"{url}/pypi/favicon.ico", timeout=20).status_code == 404
        assert index.paths() == []


def test_a_date_before_a_repo_was_on_request_is_asked_for_what_was_not_mirrored_then(mirror: Mirror, index: Index) -> None:
    """Its snapshot keeps the files of all that it lists; those of what is told of now come when they are asked for."""
    index.wheel("flask", "1.0", upload_time="2026-01-01T00:00:00Z")
    repo = mirror.repos[0]
    mirror.repos = [{key: repo[key] for key in ("kind", "path", "upstream")} | {"projects": ["six"]}]
    mirror.sync()
    (sealed,) = mirror.snapshots()
    mirror.repos = [repo]
    mirror.write()
    with server(mirror.config) as (url, _):
        told = page(url, "flask", sealed)
        assert files(told) == ["flask-1.0-py3-none-any.whl"]
        mirror.run("check")
        assert fetch(told) == [200]
        assert fetch(page(url, "six", sealed)) == [200]


def test_a_date_is_asked_for_what_nobody_had_asked_for_then(mirror: Mirror, index: Index) -> None:
    """What had been uploaded by then is told from today's page, marked, and told the same ever after."""
    index.wheel("flask", "1.0", upload_time="2026-01-01T00:00:00Z")
    with server(mirror.config) as (url, _):
        page(url, "six")
        mirror.sync()
        (sealed,) = mirror.snapshots()
        index.wheel("flask", "2.0", upload_time="2999-01-01T00:00:00Z")
        told = page(url, "flask", sealed)
        assert files(told) == ["flask-1.0-py3-none-any.whl"]
        assert (told.json()["_snapmirror-reconstructed"], told.headers["X-Snapmirror-Snapshot"]) == (True, sealed)
        assert fetch(told) == [200]
        assert files(page(url, "six", sealed)) == ["six-1.0-py3-none-any.whl"]
        assert "_snapmirror-reconstructed" not in page(url, "six", sealed).json()
        assert page(url, "nothing", sealed).status_code == 404
        index.fault("/simple/idna/", Status(503))
        assert page(url, "idna", sealed).status_code == 502
        del index.pages["flask"]
        mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")
    with server(mirror.config) as (url, _):
        time.sleep(1.1)
        again = page(url, "flask", sealed)
        assert again.content == told.content
        assert fetch(again) == [200]
        assert page(url, "flask").status_code == 404
    pages = mirror.store_path / "snapshots" / f"{sealed}.pages"
    kept = pages.read_bytes()
    pages.write_bytes(kept[:-5])
    said = mirror.run("check", status=5).out
    assert f"snapshots/{pages.name}: can't be read" in said
    assert "1 problem found" in said
    mirror.run("gc", "--grace", "0s", status=5)
    pages.write_bytes(kept)
    mirror.run("pin", "first", sealed)
    mirror.sync(status=3)
    mirror.run("unpin", "first")
    mirror.run("forget", sealed)
    pages.write_bytes(kept)  # as after a crash
    mirror.run("gc", "--grace", "0s")
    assert not pages.exists()


def test_a_lock_file_names_files_of_pages_that_nobody_has_asked_for(mirror: Mirror, index: Index) -> None:
    """Their page is read then, for the hash that it states."""
    path = index.pages["six"]["files"][0]["url"].removeprefix(index.url)
    with server(mirror.config) as (url, _):
        assert requests.get(f"{url}/pypi{path}", timeout=20).status_code == 200
    assert index.paths() == ["/simple/six/", path]


def test_several_processes_know_what_each_other_has_read(mirror: Mirror, index: Index) -> None:
    """A file is found wherever its page was read."""
    for number in range(20):
        index.wheel(f"p{number}", "1.0")
    with server(mirror.config, "--workers", "3") as (url, _):
        for number in range(20):
            assert fetch(page(url, f"p{number}")) == [200]
        time.sleep(1.1)  # a process sees within a second what others have done
        assert len(requests.get(f"{url}/pypi/simple/", headers={"Accept": JSON}, timeout=20).json()["projects"]) == 20


def test_the_youngest_files_are_held_back(mirror: Mirror, index: Index) -> None:
    """`min_age` holds for what is asked for, page and file, and for files that nobody knows the age of."""
    mirror.repos[0]["select"] = {"min_age": "7d"}
    mirror.write()
    index.wheel("six", "2.0", upload_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    index.wheel("six", "3.0", upload_time=None)
    young = index.pages["six"]["files"][1]["url"].removeprefix(index.url)
    with server(mirror.config) as (url, _):
        assert files(page(url, "six")) == ["six-1.0-py3-none-any.whl"]
        assert requests.get(f"{url}/pypi{young}", timeout=20).status_code == 404
    assert young not in index.paths()


@contextlib.contextmanager
def read_on_request(folder: Path, *packages: Package) -> Iterator[tuple[Upstream, Channel, Mirror]]:
    """A channel, and a mirror that reads its index when it is asked for, and again after a second."""
    with Upstream(folder / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        channel.add(*packages)
        channel.publish()
        mirror, subdirs = Mirror(folder / "mirror"), sorted({package.record["subdir"] for package in packages})
        keys = {"download": "on-demand", "metadata": "on-request", "max_metadata_age": "1s"}
        mirror.add("chan", f"{upstream.url}/chan", subdirs=subdirs, **keys)
        mirror.write()
        yield upstream, channel, mirror


def test_a_conda_channel(tmp_path: Path) -> None:
    """Its index is read when it is asked for; a sync seals it."""
    with read_on_request(tmp_path, make_package("tool")) as (upstream, channel, mirror), server(mirror.config) as (url, _):
        base = f"{url}/current/chan/noarch"
        assert list(requests.get(f"{base}/repodata.json", timeout=20).json()["packages.conda"]) == ["tool-1.0-0.conda"]
        assert requests.get(f"{base}/tool-1.0-0.conda", timeout=20).status_code == 200
        mirror.sync()
        channel.add(make_package("tool", "2.0"))
        channel.publish()
        time.sleep(1.1)
        assert len(requests.get(f"{base}/repodata.json", timeout=20).json()["packages.conda"]) == 2
        upstream.fault("*", Status(503, {"Retry-After": "0"}))
        time.sleep(1.1)
        answer = requests.get(f"{base}/repodata.json", timeout=30)
        assert (len(answer.json()["packages.conda"]), "Warning" in answer.headers) == (2, True)
        sealed = requests.get(f"{base}/repodata.json".replace("current", mirror.snapshots()[0]), timeout=20)
        assert len(sealed.json()["packages.conda"]) == 1


def test_a_channel_whose_index_a_client_has_already(tmp_path: Path) -> None:
    """What that lists is there for a while, whoever has the index read again meanwhile, and though a sync and gc run."""
    with (
        read_on_request(tmp_path, make_package("tool"), make_package("lib")) as (upstream, channel, mirror),
        server(mirror.config) as (url, _),
    ):
        base = f"{url}/current/chan/noarch"
        paths = []
        for happens in ("read again", "synced"):
            index = codec.decompress(requests.get(f"{base}/repodata_shards.msgpack.zst", timeout=20).content, 1 << 20)
            shard = msgspec.msgpack.decode(index)["shards"]["tool"].hex()
            paths.append(f"shards/{shard}.msgpack.zst")
            channel.add(make_package("tool", f"2.{len(paths)}"))
            channel.publish()
            if happens == "synced":
                mirror.sync()
            mirror.run("gc", "--grace", "0s")
            time.sleep(1.1)
            upstream.clear()
            assert requests.get(f"{base}/{paths[-1]}", timeout=20).status_code == 200
            assert upstream.paths() == []  # nor need a client wait for it
            assert requests.get(f"{base}/repodata.json", timeout=20).status_code == 200
            for path in paths:
                answer = requests.get(f"{base}/{path}", timeout=20)
                assert (answer.status_code, answer.headers["X-Snapmirror-Snapshot"]) == (200, "live"), happens
                assert hashlib.sha256(answer.content).hexdigest() in path
        mirror.run("gc", "--grace", "0s")
        assert requests.get(f"{base}/{paths[0]}", timeout=20).status_code == 200
        mirror.run("check", "--read-data")


def test_a_channel_whose_live_state_is_damaged(tmp_path: Path) -> None:
    """The next sync leaves nothing of it that would stop gc."""
    with read_on_request(tmp_path, make_package("tool")) as (_, channel, mirror):
        with server(mirror.config) as (url, _):
            assert requests.get(f"{url}/current/chan/noarch/repodata.json", timeout=20).ok
        with mirror.store() as store:
            [directory] = store.live.directories
            blob = store.blobs.path(directory)
        blob.chmod(0o644)
        blob.write_bytes(b"damaged")
        channel.add(make_package("tool", "2.0"))
        channel.publish()
        time.sleep(1.1)  # or what was read for a client would count as read later
        mirror.sync()
        mirror.run("gc", "--grace", "0s")


def test_a_channel_of_which_a_part_fails(tmp_path: Path) -> None:
    """What could be read is new; that the rest is old is said. A date that no snapshot holds is a 404 that says why."""
    with read_on_request(tmp_path, make_package("tool"), make_package("tool", subdir="linux-64")) as (
        upstream,
        channel,
        mirror,
    ):
        mirror.settings["download"] |= {"retries": 0}
        mirror.write()
        with server(mirror.config) as (url, _):
            base = f"{url}/current/chan"
            assert requests.get(f"{base}/noarch/repodata.json", timeout=20).ok
            channel.add(make_package("tool", "2.0"), make_package("tool", "2.0", subdir="linux-64"))
            channel.publish()
            upstream.fault("/chan/linux-64/*", Status(503))
            time.sleep(1.1)
            for subdir, count in (("noarch", 2), ("linux-64", 1)):
                answer = requests.get(f"{base}/{subdir}/repodata.json", timeout=20)
                assert (len(answer.json()["packages.conda"]), "Warning" in answer.headers) == (count, True)
            upstream.heal()
            mirror.sync()
            for date in ("2020-01-01", mirror.snapshots()[0]):
                answer = requests.get(f"{url}/{date}/chan/osx-64/repodata.json", timeout=20)
                assert answer.status_code == 404
                assert "what an index was can't be told from today's, which does not have packages deleted since" in answer.text
            kept = {path.name[:64] for path in (mirror.store_path / "documents").iterdir()}
        assert len(kept) == 4  # repodata.json and the index of shards of both subdirs, as they are now


def test_a_repo_below_a_channel_that_is_read_on_request(tmp_path: Path) -> None:
    """It is answered as it was synced: the channel's upstream is not asked for it, and may have gone."""
    with Upstream(tmp_path / "upstream") as upstream:
        for path in ("chan", "label"):
            channel = Channel(upstream.root / path)
            channel.add(make_package("tool"))
            channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand", metadata="on-request")
        mirror.add("chan/label/dev", f"{upstream.url}/label", subdirs=["noarch"])
        mirror.sync()
        upstream.clear()
        upstream.fault("*", Status(404))
        with server(mirror.config) as (url, _):
            for selector in ("current", mirror.snapshots()[0]):
                base = f"{url}/{selector}/chan/label/dev/noarch"
                answer = requests.get(f"{base}/repodata.json", timeout=20)
                assert (answer.status_code, "Warning" in answer.headers) == (200, False)
                assert "is not in chan/label/dev" in requests.get(f"{base}/none.json", timeout=20).text
        assert upstream.paths() == []


def test_a_channel_below_another_whose_upstream_fails(tmp_path: Path) -> None:
    """That nothing of it is held does not mean that there is no such channel, though the one above it is there and lacks it."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        channel.add(make_package("tool"))
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.settings["download"] |= {"retries": 0}
        for path in ("chan", "chan/main"):
            mirror.add(path, f"{upstream.url}/{path}", subdirs=["noarch"], download="on-demand", metadata="on-request")
        mirror.write()
        upstream.fault("/chan/main/*", Status(503))
        with server(mirror.config) as (url, _):
            assert requests.get(f"{url}/current/chan/noarch/repodata.json", timeout=20).status_code == 200
            for file in ("repodata.json", "tool-1.0-0.conda"):
                answer = requests.get(f"{url}/current/chan/main/noarch/{file}", timeout=20)
                assert (answer.status_code, "chan/main: nothing is held" in answer.text) == (502, True)


def test_what_may_not_be_asked_for(mirror: Mirror, index: Index) -> None:
    """Upstream does not learn the name; what is held is answered."""
    with server(mirror.config) as (url, _):
        page(url, "six")
    mirror.sync()
    mirror.repos[0]["block"] = ["/simple/mine/", ".*/six[-/].*"]
    mirror.write()
    index.clear()
    with server(mirror.config) as (url, _):
        for selector in ("current", mirror.snapshots()[0]):
            answer = page(url, "mine", selector)
            assert answer.status_code == 403
            assert "/simple/mine/: this mirror is set up not to ask" in answer.json()["message"]
        for way in ("simple/Mine/", "pypi/mine/json", "packages/aa/bb/cc/mine-1.0-py3-none-any.whl"):
            assert requests.get(f"{url}/pypi/{way}", timeout=20).status_code == 403
        assert files(page(url, "six")) == ["six-1.0-py3-none-any.whl"]
        assert index.asked() == []
        assert fetch(page(url, "six")) == [403]
        assert fetch(page(url, "idna")) == [200]
    index.clear()
    mirror.sync()
    told = mirror.run("prefetch", "pypi", "--spec", "mine", "--spec", "six", status=3)
    assert "mine: nothing that the index lists fulfils it" in told.err
    assert index.asked() == ["idna 304"]
    with server(mirror.config) as (url, _):
        assert files(page(url, "six", mirror.snapshots()[-1])) == ["six-1.0-py3-none-any.whl"]


def test_projects_that_the_mirror_must_not_have(mirror: Mirror, index: Index) -> None:
    """Upstream does not learn their names, not even while it is not known yet where below its address the pages are."""
    mirror.repos[0] |= {"upstream": index.url, "projects": ["six"]}
    mirror.write()
    with server(mirror.config) as (url, _):
        assert page(url, "mine").status_code == 404
        assert index.paths() == []
        assert files(page(url, "six")) == ["six-1.0-py3-none-any.whl"]
        assert page(url, "idna").status_code == 404
    assert not any("mine" in path or "idna" in path for path in index.paths())


def test_what_is_denied(mirror: Mirror, index: Index) -> None:
    """Leaves the page, or the whole of it the index, until it is allowed again."""
    index.wheel("six", "2.0")
    with server(mirror.config) as (url, _):
        page(url, "six")
        mirror.run("deny", "pypi", "six==1.0", "--reason", "old")
        mirror.run("deny", "pypi", "idna", "--reason", "bad")
        time.sleep(1.1)
        assert files(page(url, "six")) == ["six-2.0-py3-none-any.whl"]
        assert page(url, "idna").status_code == 404
        mirror.run("allow", "pypi", "six==1.0")
        mirror.run("allow", "pypi", "idna")
        time.sleep(1.1)
        assert (len(files(page(url, "six"))), len(files(page(url, "idna")))) == (2, 1)


def test_a_repo_that_no_snapshot_has_yet(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    """Though there are snapshots, of others: a date has nothing of it."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        channel.add(make_package("tool"))
        channel.publish()
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"])
        mirror.sync("chan")
    (sealed,) = mirror.snapshots()
    with server(mirror.config) as (url, _):
        assert page(url, "six", sealed).status_code == 404
        assert page(url, "six").status_code == 200


def test_a_file_of_a_page_that_can_not_be_read(mirror: Mirror, index: Index) -> None:
    """It is not said not to be there: nobody knows."""
    path = index.pages["six"]["files"][0]["url"].removeprefix(index.url)
    index.fault("/simple/*", Status(503))
    with server(mirror.config) as (url, _):
        answer = requests.get(f"{url}/pypi{path}", timeout=20)
        assert (answer.status_code, "nothing is held" in answer.text) == (502, True)


def test_the_server_ends_although_an_index_is_silent(mirror: Mirror, index: Index) -> None:
    """Who waits is told so."""
    mirror.settings["download"] |= {"stall": "1B/60s"}
    mirror.write()
    index.fault("/simple/*", Stall(0, 60.0))
    with server(mirror.config) as (url, process), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(page, url, "six")
        while not index.requests:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        assert (waiting.result().status_code, "about to end" in waiting.result().text) == (502, True)
