"""A day of a fleet: 50 clients, an index that changes every ten minutes and fails every twentieth time, in every way.

The clock is ours, so a day takes minutes (`make fleet`); an hour of it is among the tests. No client may ever get a
wrong byte, a page that lists a file which can't be had (but for what upstream has lost before anybody asked), or an error
of ours for what was had before.
"""

import asyncio
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from inprocess import Quiet
from pypi_index import JSON, Index
from upstream import Body, Fault, Html, Redirect, Stall, Status, Truncate

from snapmirror.cli.context import ECOSYSTEMS
from snapmirror.pypi import PypiRepo
from snapmirror.serve.app import Server
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import Origin, Serve
from snapmirror.serve.workers import listen, serving
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.live import LiveMetadata
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.hosts import CarefulHttp
from snapmirror.transfer.http import HURRIED
from snapmirror.transfer.notes import StoreNotes
from snapmirror.transfer.settings import Download

CLIENTS = 50
#: of the simulation
ROUND = timedelta(minutes=2)
DOWNLOAD = Download(retries=0, connect_timeout="2s", stall="1B/1s", min_free="0%")


class Unreliable(Index):
    """Every twentieth answer is wrong in some way."""

    chance = random.Random(1)
    healthy = False

    def _faults(self, path: str) -> tuple[Fault, ...]:
        if self.healthy or self.chance.random() >= 0.05:
            return super()._faults(path)
        ways: list[Fault] = [
            Status(500),
            Status(503, {"Retry-After": "0"}),
            Status(429, {"Retry-After": "0"}),
            Status(200, {"Content-Encoding": "gzip"}, b"no gzip"),
            Status(403),
            Html(),
            Body(b"wrong"),
            Body(os.urandom(5000)),
            Truncate(self.chance.randrange(200)),
            Stall(100, 0.05),
            Redirect(path),
            Redirect("http://127.0.0.1:1/"),
        ]
        return (self.chance.choice(ways),)


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Fleet:
    """What clients have had, and what went wrong."""

    index: Unreliable
    url: str
    chance: random.Random = field(default_factory=lambda: random.Random(2))
    #: pages and files that were had, by address
    had: set[str] = field(default_factory=set)
    #: files that upstream has lost
    lost: set[str] = field(default_factory=set)
    snapshots: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def ask(self, number: int) -> None:
        """What one client does in a round: a page, and one of its files."""
        chance = random.Random(number)
        project = chance.choice([*self.index.pages, "misspelt"])
        selector = chance.choice(["current"] * 4 + (self.snapshots[-1:] or ["current"]))
        page = requests.get(f"{self.url}/{selector}/pypi/simple/{project}/", headers={"Accept": JSON}, timeout=30)
        self.counts[f"pages {page.status_code}"] += 1
        self.counts["pages that were stale"] += "Warning" in page.headers
        key = f"{selector} {project}"
        if page.status_code >= 500 and key in self.had:
            self.wrong.append(f"{key}: {page.status_code} for what was had before: {page.text}")
        if page.status_code != 200:
            return
        self.had.add(key)
        if not page.json()["files"]:
            return
        file = chance.choice(page.json()["files"])
        self._fetch(urljoin(page.url, file["url"]), file)

    def _fetch(self, address: str, file: dict[str, object]) -> None:
        name = str(file["filename"])
        try:
            answer = requests.get(address, timeout=30)
            status = answer.status_code
        except requests.RequestException:
            status = 0
        self.counts[f"files {status or 'cut short'}"] += 1
        if status == 200:
            if hashlib.sha256(answer.content).hexdigest() != file["hashes"]["sha256"]:  # type: ignore[index]
                self.wrong.append(f"{name}: wrong bytes")
            self.had.add(address)
        elif address in self.had:
            self.wrong.append(f"{name}: {status} for what was had before")
        elif status == 404 and name not in self.lost:
            self.wrong.append(f"{name}: {answer.text}")

    def change(self, at: int) -> None:
        """What happens upstream: a release, a new project, a yank; now and then something goes."""
        name = self.chance.choice(list(self.index.pages))
        page = self.index.pages[name]
        match self.chance.randrange(8):
            case 0:
                self.index.upload(f"new-{at}", f"new_{at}-1.0.tar.gz", self.chance.randbytes(90_000))
            case 1 if page["files"]:
                page["files"][-1]["yanked"] = "broken"
                self.index.touch(name)
            case 2 if len(page["files"]) > 1:
                gone = page["files"].pop()
                self.lost.add(gone["filename"])
                (self.index.root / gone["url"].removeprefix(f"{self.index.url}/")).unlink()
                self.index.touch(name)
            case _:
                size = self.chance.choice([2_000, 90_000, 400_000])
                self.index.upload(name, f"{name.replace('-', '_')}-{at + 2}.0.tar.gz", self.chance.randbytes(size))


@contextmanager
def server(root: Path, index: Index, clock: Clock) -> Iterator[tuple[str, Store, PypiRepo]]:
    """A server in this process, with our clock."""
    Store.create(root, now=clock)
    repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
    [sockets] = listen(Serve(port=0), 1)
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        hosts = hosts_of(store)
        http = CarefulHttp(hosts, DOWNLOAD, str, StoreNotes(store), clock, HURRIED)
        live = LiveMetadata(store, ECOSYSTEMS, [repo], http)
        origins = {"pypi": Origin("pypi", repo.upstreams, metadata_age=600.0)}
        async with serving(Server(store, ECOSYSTEMS, Serve(), origins, Puller(store, DOWNLOAD, hosts), live), sockets):
            ready.set()
            await ended.wait()

    with asyncio.Runner(loop_factory=lambda: loop) as runner, Store.open(root, write=True, now=clock) as store:
        thread = threading.Thread(target=runner.run, args=(main(),))
        thread.start()
        try:
            assert ready.wait(30)
            yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}", store, repo
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()


@pytest.mark.timeout(3600)
def test_a_fleet_and_an_index_that_fails(tmp_path: Path) -> None:
    hours = 24 if os.environ.get("SNAPMIRROR_LONG") else 1
    clock = Clock()
    with Unreliable(tmp_path / "index") as index, server(tmp_path / "store", index, clock) as (url, store, repo):
        for name in (f"p{number}" for number in range(20)):
            index.upload(name, f"{name}-1.0.tar.gz", random.Random(name).randbytes(90_000))
        fleet = Fleet(index, url)
        with ThreadPoolExecutor(8) as pool:
            for number in range(hours * 30):
                if number % 5 == 0:
                    fleet.change(number)
                if number % 30 == 29:
                    run = Sync(store, ECOSYSTEMS, [repo], DOWNLOAD, Publish(), Quiet(), Options())
                    fleet.snapshots += filter(None, [run.run([repo]).snapshot])
                list(pool.map(fleet.ask, range(number * CLIENTS, (number + 1) * CLIENTS)))
                clock.now += ROUND
    requests_upstream = len(index.requests)
    print(f"{hours} hours: {dict(sorted(fleet.counts.items()))}; {requests_upstream} requests upstream")
    assert fleet.wrong == []
    assert fleet.counts["files 200"] > 10 * hours
    assert fleet.counts["pages 200"] > 10 * hours
