"""A day of a fleet: 50 clients, an index that changes every ten minutes and fails every twentieth time, in every way.

The clock is ours, so a day takes minutes (`make fleet`); an hour of it, with more failures, is among the tests. No client
may ever get a wrong byte, a page that lists a file which can't be had (but for what upstream has lost before anybody asked, or
says to have lost), an error of ours for what was had before, or another page than before from the same snapshot.
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
from proxy import Proxy, make_certificate
from pypi_index import JSON, Index
from upstream import Announce, Body, Chunked, Fault, Gzip, Html, Redirect, Slow, Stall, Status, Truncate

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.pypi import PypiRepo
from snapmirror.serve.app import Server
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import Origin, Serve
from snapmirror.serve.sockets import bind
from snapmirror.serve.workers import serving
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.live import LiveMetadata
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.hosts import CarefulHttp
from snapmirror.transfer.http import HURRIED
from snapmirror.transfer.notes import StoreNotes
from snapmirror.transfer.settings import Download
from snapmirror.web import faces

CLIENTS = 50
#: upstream, each ten minutes
CHANGES = 4
#: of the simulation
ROUND = timedelta(minutes=2)
DOWNLOAD = Download(retries=0, connect_timeout="2s", stall="5000B/1s", min_free="0%", connections=16, per_host=16)
GONE = (404, 410)


class Unreliable(Index):
    """Some answers are wrong, in all ways in turn."""

    chance = random.Random(1)
    healthy = False
    #: host and port of who speaks TLS with a certificate that nobody has signed
    liar = ""

    def __init__(self, root: Path, share: float) -> None:
        """share: of the answers that are wrong"""
        super().__init__(root)
        self.share = share
        self._turns: list[str] = []
        #: how often each thing went wrong
        self.struck: Counter[str] = Counter()
        #: files that are said not to be there, in this round
        self.denied: set[str] = set()

    def _faults(self, path: str) -> tuple[Fault, ...]:
        if self.healthy or self.chance.random() >= self.share:
            return super()._faults(path)
        ways = self._ways(path)
        with self._rules_lock:
            self._turns = self._turns or self.chance.sample(list(ways), len(ways))
            name = self._turns.pop()
        fault = ways[name]
        self.struck[name] += 1
        if isinstance(fault, Status) and fault.code in GONE:
            self.denied.add(path.rpartition("/")[2])
        return (fault,)

    def _ways(self, path: str) -> dict[str, Fault]:
        """What may go wrong with an answer."""
        file = self.root / path.lstrip("/")
        size = file.stat().st_size if file.is_file() else 300
        cut = self.chance.randrange(size)
        here = self.url.removeprefix("http://127.0.0.1")
        return {
            "closes early": Truncate(cut),
            "fewer bytes than it says": Announce(500),
            "more bytes than it says": Announce(-min(size, 200)),
            "chunked and cut": Chunked(cut),
            "chunked": Chunked(),
            "wrong bytes": Body(os.urandom(size)),
            "a few wrong bytes": Body(b"wrong"),
            "gzip": Gzip(),
            "no gzip": Status(200, {"Content-Encoding": "gzip"}, b"no gzip"),
            "another host": Redirect(f"http://localhost{here}{path}"),
            "circles": Redirect(path),
            "login page": Html(),
            "slow-loris": Slow(100),
            "pause": Stall(100, 0.05),
            "no such host": Redirect(f"http://no-such-host.invalid{path}"),
            "nobody there": Redirect("http://127.0.0.1:1/"),
            "TLS that does not verify": Redirect(f"https://{self.liar}{path}"),
            **{str(code): Status(code) for code in (401, 403, *GONE, 500, 502, 504)},
            **{str(code): Status(code, {"Retry-After": "0"}) for code in (429, 503)},
        }


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
    #: what a snapshot has answered: {selector and project: page}
    fixed: dict[str, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    #: the session of each thread
    local: threading.local = field(default_factory=threading.local)

    def ask(self, number: int) -> None:
        """What one client does in a round: a page, and one of its files."""
        chance = random.Random(number)
        project = chance.choice([*self.index.pages, "misspelt"])
        selector = chance.choice(
            ["current"] * 4 + self.snapshots[-1:] + ([chance.choice(self.snapshots)] if self.snapshots else [])
        )
        if files := self.page(selector, project):
            self.file(*chance.choice(chance.choice([files, files[-3:]])))

    def page(self, selector: str, project: str) -> list[tuple[str, str, str]]:
        """Name, address and SHA-256 of each file that is listed."""
        page = self._get(f"{self.url}/{selector}/pypi/simple/{project}/", Accept=JSON)
        self.counts[f"pages {page.status_code}"] += 1
        self.counts["pages that were stale"] += "Warning" in page.headers
        key = f"{selector} {project}"
        if page.status_code >= 500 and key in self.had:
            self.wrong.append(f"{key}: {page.status_code} for what was had before: {page.text}")
        if page.status_code != 200:
            return []
        self.had.add(key)
        if selector != "current" and self.fixed.setdefault(key, page.content) != page.content:
            self.wrong.append(f"{key}: is not what it was: {page.text}")
        return [(one["filename"], urljoin(page.url, one["url"]), one["hashes"]["sha256"]) for one in page.json()["files"]]

    def file(self, name: str, address: str, digest: str) -> None:
        """Fetch one."""
        try:
            answer = self._get(address)
            status = answer.status_code
        except requests.RequestException:
            status = 0
        self.counts[f"files {status or 'cut short'}"] += 1
        if status == 200:
            if hashlib.sha256(answer.content).hexdigest() != digest:
                self.wrong.append(f"{name}: wrong bytes")
            self.had.add(address)
        elif address in self.had:
            self.wrong.append(f"{name}: {status} for what was had before")
        elif status == 404 and name not in self.lost | self.index.denied:
            self.wrong.append(f"{name}: {answer.text}")

    def _get(self, url: str, **headers: str) -> requests.Response:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.trust_env = False
        answer: requests.Response = self.local.session.get(url, headers=headers, timeout=30)
        return answer

    def seal(self, snapshot: str) -> None:
        """A snapshot holds what was had before it was sealed."""
        self.snapshots.append(snapshot)
        self.had |= {f"{snapshot} {key.split()[1]}" for key in self.had if key.startswith("current ")}

    def take_all(self) -> None:
        """All is well again: whatever is listed can be had."""
        for project in self.index.pages:
            for selector in ("current", self.snapshots[-1]):
                files = self.page(selector, project)
                assert f"{selector} {project}" in self.had
                for name, address, digest in files:
                    self.file(name, address, digest)
                    assert address in self.had or name in self.lost, name

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
    [sockets] = bind(Serve(port=0), 1)
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        hosts = hosts_of(store)
        http = CarefulHttp(hosts, DOWNLOAD, str, StoreNotes(store), clock, HURRIED)
        live = LiveMetadata(store, ECOSYSTEMS, [repo], lambda: http)
        origins = {"pypi": Origin("pypi", repo.upstreams, metadata_age=600.0)}
        puller = Puller(store, DOWNLOAD, hosts)
        server = Server(store, ECOSYSTEMS, Serve(), origins, puller, live, faces=faces(store, ECOSYSTEMS))
        async with serving(server, sockets):
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
    certificate = make_certificate(tmp_path / "tls", "localhost")
    with (
        Unreliable(tmp_path / "index", 0.05 if hours == 24 else 0.2) as index,
        Proxy(index.url, certificate=certificate) as liar,
        server(tmp_path / "store", index, clock) as (url, store, repo),
    ):
        index.liar = liar.url.removeprefix("https://")
        for name in (f"p{number}" for number in range(20)):
            index.upload(name, f"{name}-1.0.tar.gz", random.Random(name).randbytes(90_000))
        fleet = Fleet(index, url)
        with ThreadPoolExecutor(CLIENTS) as pool:
            for number in range(hours * 30):
                if number % 5 == 0:
                    for change in range(CHANGES):
                        fleet.change(number * CHANGES + change)
                if number % 30 == 29:
                    run = Sync(store, ECOSYSTEMS, [repo], DOWNLOAD, Publish(), Quiet(), Options())
                    fleet.seal(run.run([repo]).snapshot)
                list(pool.map(fleet.ask, range(number * CLIENTS, (number + 1) * CLIENTS)))
                index.denied.clear()
                clock.now += ROUND
        index.healthy = True
        clock.now += timedelta(hours=1)
        fleet.take_all()
        struck, requests_upstream = dict(sorted(index.struck.items())), len(index.requests)
    print(f"{hours} hours: {dict(sorted(fleet.counts.items()))}")
    print(f"{requests_upstream} requests upstream, of which went wrong: {struck}")
    assert fleet.wrong == []
    assert liar.asked == []
    assert len(struck) == len(index._ways("/"))
    assert fleet.counts["files 200"] > 10 * hours
    assert fleet.counts["pages 200"] > 10 * hours
