"""Everything that upstreams, clients and disks do to a file that is fetched on demand, against one server.

Whatever it is: no client takes a wrong file for a whole one, nothing wrong is kept, the log names the file and holds no
secret, and when all is well again the next client gets it. Of files whose size the index states, and of those where it
does not (PyPI's HTML): their answers come in chunks.
"""

import asyncio
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
import urllib3
from channels import Channel, make_package
from disks import small_disk
from mirror import Mirror
from proxy import Proxy, make_certificate
from pypi_index import JSON, Index
from serving import free_port, server
from upstream import Announce, Body, Chunked, Fault, Gzip, Html, Redirect, Slow, Status, Truncate, Upstream
from waiting import eventually

from snapmirror.readings import File
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import Origin
from snapmirror.store.store import Store
from snapmirror.transfer.download import Source
from snapmirror.transfer.settings import Download

#: bytes of a file: more than is held back
_SIZE = 300_000
#: statuses that an answer may have; -1: the connection ends short
RIGHT, CUT, BAD, LOST = (200,), (-1, 502), (502,), (404,)
SECRET = "s3cr3t-t0ken"


@dataclass(frozen=True)
class Case:
    """What goes wrong."""

    fault: Fault
    #: RIGHT where it is got over; CUT where bytes may go out before it shows
    statuses: tuple[int, ...]
    #: what the log says of it
    said: str


#: HERE: an address that is not upstream's but leads to a server; it is put in later
CASES = {
    "closes early": Case(Truncate(_SIZE // 3), CUT, "the connection broke"),
    "closes at once": Case(Truncate(0), BAD, "the connection broke"),
    "sends fewer bytes than it says": Case(Announce(500), (200, 502), "size is"),
    "sends more bytes than it says": Case(Announce(-500), CUT, "size is|sha256 is"),
    "cuts its chunks": Case(Chunked(_SIZE // 3), CUT, "the connection broke"),
    "chunks": Case(Chunked(), RIGHT, ""),
    "wrong bytes of the right length": Case(Body(random.Random(5).randbytes(_SIZE)), CUT, "sha256 is"),
    "gzip": Case(Gzip(), RIGHT, ""),
    "a login page": Case(Html(), BAD, "size is|sha256 is"),
    "nothing": Case(Body(b""), BAD, "size is|sha256 is"),
    "sends elsewhere": Case(Redirect("http://HERE/elsewhere"), RIGHT, ""),
    "sends in circles": Case(Redirect("CIRCLE"), BAD, "redirects without end"),
    "sends to no host": Case(Redirect("http://no-such-host.invalid/file"), BAD, "can't be had"),
    "sends to nobody": Case(Redirect("http://NOBODY/file"), BAD, "Connection refused"),
    "sends to who can't prove its name": Case(Redirect("https://LIAR/file"), BAD, "certificate verify failed"),
    "dribbles": Case(Slow(400), CUT, "stalled"),
    "forbids": Case(Status(403), BAD, "403 (forbidden)"),
    "wants to know who asks": Case(Status(401), BAD, "401"),
    "has lost it": Case(Status(404), LOST, "404"),
    "has taken it away": Case(Status(410), LOST, "410"),
    "fails": Case(Status(500), BAD, "500"),
}


#: files of tests that are about something else
OTHERS = ("leaving", "other way", "later", "looked at")


class Site:
    """A server of a channel and of an index without sizes, with one file for each case, and both upstreams."""

    def __init__(self, mirror: Mirror, channel: Upstream, index: Index, files: dict[tuple[str, str], bytes]) -> None:
        self.mirror = mirror
        self.channel = channel
        self.index = index
        #: kind, case -> what the file of it should be
        self.files = files
        self.log: list[str] = []
        #: of each, where it is served
        self.urls: dict[tuple[str, str], str] = {}
        #: of the worker
        self.process = 0

    def upstream(self, kind: str) -> Upstream:
        return self.channel if kind == "sized" else self.index

    def is_held(self, data: bytes) -> bool:
        with self.mirror.store() as store:
            return store.blobs.size(hashlib.sha256(data).digest()) is not None


def name_of(case: str) -> str:
    return case.replace(" ", "-").replace("'", "")


@contextmanager
def served(mirror: Mirror, log: list[str], *options: str) -> Iterator[tuple[str, int]]:
    """The URL and the process of a server whose log goes on growing."""
    mirror.write()
    with server(mirror.config, *options) as (url, process):
        assert process.stderr
        reader = threading.Thread(target=lambda: log.extend(iter(process.stderr.readline, "")))  # type: ignore[union-attr]
        reader.start()
        try:
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            reader.join(20)


def worker(supervisor: int) -> int:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    eventually(lambda: children.read_text().split())
    return int(children.read_text().split()[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("faults")
    with Upstream(root / "channel") as channel_upstream, Index(root / "index", json=False) as index:
        channel = Channel(channel_upstream.root / "chan")
        files: dict[tuple[str, str], bytes] = {}
        for number, case in enumerate([*CASES, *OTHERS]):
            payload = random.Random(number).randbytes(_SIZE)
            package = make_package(name_of(case), payload=payload, subdir="noarch")
            channel.add(package)
            files["sized", case] = package.data
            index.upload(f"w{number}", f"w{number}-1.0-py3-none-any.whl", payload)
            files["unsized", case] = payload
        channel.publish()
        for one in (channel_upstream, index):
            one.credentials = ("user", SECRET)
        mirror = Mirror(root / "mirror")
        mirror.settings["download"] |= {"stall": "2000B/1s", "retries": 1, "connections": 16, "per_host": 16}
        keys = {"download": "on-demand", "negative_age": "0s"}
        own = f"user:{SECRET}@"
        mirror.add("chan", f"{channel_upstream.url}/chan".replace("//", f"//{own}"), subdirs=["noarch"], **keys)
        mirror.add("py", f"{index.url}/simple/".replace("//", f"//{own}"), kind="pypi", projects="all", **keys)
        mirror.sync()
        found = Site(mirror, channel_upstream, index, files)
        with served(mirror, found.log, "--workers", "1") as (url, process):
            found.process = worker(process)
            for number, case in enumerate([*CASES, *OTHERS]):
                found.urls["sized", case] = f"{url}/current/chan/noarch/{name_of(case)}-1.0-0.conda"
                page = f"{url}/current/py/simple/w{number}/"
                (link,) = [one.split('"')[1] for one in requests.get(page, timeout=10).text.splitlines() if "<a " in one]
                found.urls["unsized", case] = urljoin(page, link).partition("#")[0]
            yield found
        assert SECRET not in "".join(found.log)
        for path in mirror.store_path.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a server that speaks TLS with a certificate that nobody has signed."""
    certificate = make_certificate(tmp_path_factory.mktemp("liar") / "tls", "localhost")
    with Proxy("http://127.0.0.1:1", certificate=certificate) as proxy:
        yield proxy.url.removeprefix("https://")


@pytest.mark.parametrize("kind", ["sized", "unsized"])
@pytest.mark.parametrize("case", CASES)
def test_an_upstream_that_is_ill(site: Site, liar: str, tmp_path: Path, kind: str, case: str) -> None:
    fault, statuses, said = CASES[case].fault, CASES[case].statuses, CASES[case].said
    address, data, upstream = site.urls[kind, case], site.files[kind, case], site.upstream(kind)
    name = address.rpartition("/")[2]
    began = len(site.log)
    with Upstream(tmp_path) as elsewhere:
        (tmp_path / "elsewhere").write_bytes(data)
        if isinstance(fault, Redirect):
            there = {"HERE": elsewhere.url.removeprefix("http://").replace("127.0.0.1", "localhost"), "LIAR": liar}
            location = fault.location
            for word, host in (there | {"NOBODY": f"127.0.0.1:{free_port()}", "CIRCLE": f"/x/{name}"}).items():
                location = location.replace(word, host)
            fault = Redirect(location)
        upstream.fault(f"*/{name}", fault)
        if case == "wrong bytes of the right length":
            upstream.heal()
            upstream.fault(f"*/{name}", Body(random.Random(5).randbytes(len(data))))
        answered = -1
        try:
            answer = requests.get(address, timeout=30)
            answered = answer.status_code
            assert answered != 200 or answer.content == data
            assert SECRET not in answer.text + str(answer.headers)
        except requests.RequestException:
            pass
        assert not any("authorization" in request.headers for request in elsewhere.requests)
    assert answered in statuses
    if answered == 200:
        eventually(lambda: site.is_held(data))
    else:
        assert not site.is_held(data)
        eventually(lambda: name in "".join(site.log[began:]))
        log = "".join(site.log[began:])
        assert any(part in log for part in said.split("|")), log
    upstream.heal()
    assert requests.get(address, timeout=30).content == data
    eventually(lambda: site.is_held(data))


def test_two_hundred_clients_at_once(tmp_path: Path) -> None:
    """Of a file that nobody has asked for: one request upstream, and everybody gets what they asked for; then all is let go.

    With the usual patience, not the site's second: two hundred clients in one process with the upstream keep it waiting.
    """
    with Upstream(tmp_path / "upstream") as upstream, ExitStack() as opened:
        channel = Channel(upstream.root / "chan")
        channel.add(package := make_package("many", payload=random.Random(1).randbytes(50_000_000), subdir="noarch"))
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
        mirror.sync()
        log: list[str] = []
        url, supervisor = opened.enter_context(served(mirror, log, "--workers", "1"))
        data, address, process = package.data, f"{url}/current/chan/noarch/many-1.0-0.conda", worker(supervisor)
        descriptors = len(os.listdir(f"/proc/{process}/fd"))
        upstream.clear()

        def get(number: int) -> bool:
            if number % 20 == 0:
                answer = requests.get(address, timeout=60)
                return answer.content == data
            start = number * 250_000
            answer = requests.get(address, headers={"Range": f"bytes={start}-{start + 199_999}"}, timeout=60)
            return (answer.status_code, answer.content) == (206, data[start : start + 200_000])

        with ThreadPoolExecutor(200) as pool:
            answers = [pool.submit(get, number) for number in range(200)]
        assert [one for one in answers if one.exception() or not one.result()] == [], log
        assert upstream.paths() == ["/chan/noarch/many-1.0-0.conda"]
        eventually(lambda: len(os.listdir(f"/proc/{process}/fd")) <= descriptors + 8)  # some are the index's


@pytest.mark.parametrize("kind", ["sized", "unsized"])
def test_clients_that_leave(site: Site, kind: str) -> None:
    """At once, after the headers, after a byte: they leave nothing open, and the file comes in all the same."""
    data, address, upstream = site.files[kind, "leaving"], site.urls[kind, "leaving"], site.upstream(kind)
    descriptors, began = len(os.listdir(f"/proc/{site.process}/fd")), len(site.log)
    upstream.fault("*", Slow(200_000))
    for read in [None, 0, 1, 1000] * 5:
        try:
            with requests.get(address, stream=True, timeout=0.05 if read is None else 5) as answer:
                answer.raw.read(read)
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            pass
    eventually(lambda: site.is_held(data))
    upstream.heal()
    assert requests.get(address, timeout=10).content == data
    eventually(lambda: len(os.listdir(f"/proc/{site.process}/fd")) <= descriptors + 8)  # some are the index's
    assert site.log[began:] == []  # nothing went wrong


@pytest.mark.parametrize("kind", ["sized", "unsized"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_who_looks_at_a_file_does_not_have_it_fetched(site: Site, kind: str, version: str) -> None:
    """HEAD is answered from the metadata, also while upstream is silent."""
    upstream, (host, _, path) = site.upstream(kind), site.urls[kind, "looked at"].removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    upstream.clear()
    with socket.create_connection((name, int(port)), 5) as connection:
        connection.sendall(f"HEAD /{path} {version}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (b"Content-Length: " in answer) == (kind == "sized")
    assert upstream.paths() == []


def test_a_file_comes_in_another_way_while_it_is_waited_for(site: Site) -> None:
    """By a sync or `adopt`; a partial that was waited for is forgotten."""
    data, address = site.files["sized", "other way"], site.urls["sized", "other way"]
    partial = site.mirror.store_path / "incoming" / hashlib.sha256(data).hexdigest()
    with partial.open("wb") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)  # as a process does that fetches it
        other.write(data[:1000])
        other.flush()
        client = pool.submit(requests.get, address, headers={"Range": "bytes=200000-"}, timeout=10)
        time.sleep(0.3)
        with Store.open(site.mirror.store_path, write=True) as store:
            store.put([data])
        answer = client.result()
        assert (answer.status_code, answer.content) == (206, data[200000:])
    partial.unlink()


def test_a_file_is_collected_before_its_first_client_reads_it(tmp_path: Path) -> None:
    """The next file gets its inode number, most likely: a beginning of the same download, by another process."""
    data = random.Random(1).randbytes(3000)
    (tmp_path / "file").write_bytes(data)
    digest = hashlib.sha256(data).digest()
    source = Source(File("file", len(data), digest, None), ((tmp_path / "file").as_uri(),))

    async def follow(store: Store) -> None:
        puller = Puller(store, Download(), hosts_of(store))
        transfer = puller.follow(source, Origin("files"))
        await transfer.end()
        first, second = transfer.open(), transfer.open()
        assert first is not None
        assert second is not None
        os.lseek(first, 1000, os.SEEK_SET)
        assert os.lseek(second, 0, os.SEEK_CUR) == 0  # where one client has got to is not where another one is
        os.close(first)
        os.close(second)
        assert store.blobs.delete(digest)
        (store.layout.incoming / source.content).write_bytes(data[:-1] + b"?")
        descriptor = transfer.open()
        assert descriptor is not None
        assert os.pread(descriptor, 4000, 0) == data
        os.close(descriptor)
        await puller.close()

    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", write=True) as store:
        asyncio.run(follow(store))


def test_all_places_are_taken(tmp_path: Path) -> None:
    """By other files of the upstream: what another process fetches is passed on all the same."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        *many, other = (make_package(f"busy-{number}", payload=random.Random(number).randbytes(_SIZE)) for number in range(5))
        channel.add(*many, other)
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.settings["download"] |= {"per_host": 1}
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
        mirror.sync()
        upstream.fault("*/busy-*", Slow(100_000))
        begun = len(upstream.requests)
        partial = mirror.store_path / "incoming" / hashlib.sha256(other.data).hexdigest()
        with served(mirror, []) as (url, _), ThreadPoolExecutor(5) as pool, partial.open("wb") as process:
            address = f"{url}/chan/noarch"
            first = [pool.submit(requests.get, f"{address}/{busy.filename}", timeout=20) for busy in many]
            eventually(lambda: len(upstream.requests) == begun + 4)
            fcntl.flock(process, fcntl.LOCK_EX)
            second = pool.submit(requests.get, f"{address}/{other.filename}", timeout=20)
            time.sleep(0.2)
            process.write(other.data)
            process.flush()
            partial.rename(mirror.store_path / "blobs" / partial.name[:2] / partial.name)
            assert second.result().content == other.data
            assert not any(client.done() for client in first)
            upstream.heal()
            assert [client.result().content for client in first] == [busy.data for busy in many]


def test_files_that_wait_for_their_turn_take_no_time(tmp_path: Path) -> None:
    """Of an upstream that is slow, however many are asked for."""
    files = [File(f"{number}", 1, hashlib.sha256(b"%d" % number).digest(), None) for number in range(200)]

    async def wait(store: Store, port: int) -> float:
        """The part of the time that it takes to wait."""
        puller = Puller(store, Download(retries=0, min_free="0%"), hosts_of(store))
        for file in files:
            puller.follow(Source(file, (f"http://127.0.0.1:{port}/",)), Origin("files"))
        await asyncio.sleep(0.4)
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(0.3)
        part = (time.process_time() - used) / (time.monotonic() - began)
        await puller.close()
        return part

    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", write=True) as store, socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(wait(store, silent.getsockname()[1])) < 0.1


@pytest.mark.parametrize("size", [40_000, 300_000])
def test_who_was_told_a_wrong_size_does_not_wait_for_bytes_that_never_come(tmp_path: Path, size: int) -> None:
    """Two repos list the same bytes, one with a wrong size, and the file is just coming in for the other."""
    content = random.Random(1).randbytes(size)
    with Index(tmp_path / "right") as right, Index(tmp_path / "wrong") as wrong:
        mirror = Mirror(tmp_path / "mirror")
        for path, index, stated in (("right", right, size), ("wrong", wrong, size + 10)):
            index.upload("demo", "demo-1.0-py3-none-any.whl", content, size=stated)
            mirror.add(path, f"{index.url}/simple/", kind="pypi", projects="all", download="on-demand")
        mirror.sync()
        right.fault("*.whl", Slow(size))
        with server(mirror.config) as (url, _), ThreadPoolExecutor(1) as pool:

            def get(repo: str) -> requests.Response:
                page = requests.get(f"{url}/{repo}/simple/demo/", headers={"Accept": JSON}, timeout=10)
                return requests.get(urljoin(page.url, page.json()["files"][0]["url"]), timeout=8)

            first = pool.submit(get, "right")
            while not right.paths()[-1].endswith(".whl"):
                time.sleep(0.01)
            try:
                assert get("wrong").status_code == 502
            except requests.exceptions.ChunkedEncodingError:  # cut, where the beginning had gone out before it showed
                assert size > 64 << 10
            assert first.result().content == content


def test_an_upstream_that_drips_does_not_keep_others_from_answering(tmp_path: Path) -> None:
    """However many ask for its files and pages."""
    packages = [make_package(f"p{number}", payload=random.Random(number).randbytes(_SIZE)) for number in range(12)]
    with Upstream(tmp_path / "well") as well, Index(tmp_path / "index") as index, ExitStack() as stack:
        ill = stack.enter_context(Upstream(tmp_path / "ill"))
        for upstream in (ill, well):
            channel = Channel(upstream.root / "chan")
            channel.add(*packages)
            channel.publish()
        index.wheel("six", "1.0")
        mirror = Mirror(tmp_path / "mirror")
        mirror.settings["download"] |= {"per_host": 1}
        for name, upstream in {"ill": ill, "well": well}.items():
            mirror.add(name, f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
        mirror.sync()
        on_request = {"kind": "pypi", "download": "on-demand", "metadata": "on-request"}
        mirror.add("pages", f"{ill.url}/simple/", **on_request)
        mirror.add("index", f"{index.url}/simple/", **on_request)
        ill.clear()
        ill.fault("/simple/*", Body(bytes(_SIZE)), Slow(100))
        ill.fault("*", Slow(100))
        with served(mirror, []) as (url, _), ThreadPoolExecutor(40) as pool:

            def ask(path: str) -> int:
                try:
                    return requests.get(f"{url}/{path}", timeout=20).status_code
                except requests.RequestException:
                    return -1

            for package in packages:
                pool.submit(ask, f"ill/noarch/{package.filename}")
            for number in range(20):
                pool.submit(ask, f"pages/simple/p{number}/")
            time.sleep(1)
            answers = [ask(f"well/noarch/{packages[-1].filename}"), ask("index/simple/six/")]
            stack.close()
        assert answers == [200, 200]


def test_two_workers_and_a_sync_of_one_file(tmp_path: Path) -> None:
    """Upstream is asked for it once."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        package = make_package("big", payload=random.Random(1).randbytes(4 << 20))
        channel.add(package)
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
        mirror.sync()
        mirror.add("eager", f"{upstream.url}/chan", subdirs=["noarch"])
        upstream.fault("*.conda", Slow(2 << 20))
        upstream.clear()
        with served(mirror, [], "--workers", "2") as (url, _), ThreadPoolExecutor(16) as pool:
            clients = [pool.submit(requests.get, f"{url}/chan/noarch/{package.filename}", timeout=30) for _ in range(16)]
            mirror.sync("eager")
            assert all(client.result().content == package.data for client in clients)
        assert [path for path in upstream.paths() if path.endswith(".conda")] == [f"/chan/noarch/{package.filename}"]
        mirror.run("check", "--read-data")


def test_who_is_told_to_come_back_later_does_not_wait(site: Site) -> None:
    """A client has no minute; nor do those who wait behind it."""
    data = site.files["sized", "later"]
    site.channel.fault("*/later*", Status(503, {"Retry-After": "60"}))
    began = time.monotonic()
    assert requests.get(site.urls["sized", "later"], timeout=30).status_code == 502
    assert time.monotonic() - began < 30
    site.channel.heal()
    assert requests.get(site.urls["sized", "later"], timeout=30).content == data


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 100 MB."""
    with small_disk(tmp_path / "disk", "100m") as made:
        yield made


def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """A file for which there is no room is refused, before its first byte if its size is known; what was begun of it is let
    go, so that others go on; when there is room, it comes.
    """
    with Index(tmp_path / "index") as index:
        content = random.Random(1).randbytes(30_000_000)
        for name, keys in {"stated": {}, "unstated": {"size": None}}.items():
            record = index.upload(name, f"{name}-1.0-py3-none-any.whl", content + name.encode(), **keys)
            if record["size"] is None:
                del record["size"]
        index.wheel("small", "1.0")
        mirror = Mirror(disk / "mirror")
        mirror.settings["download"] |= {"min_free": "5%", "retries": 1}
        mirror.add("py", f"{index.url}/simple/", kind="pypi", projects="all", download="on-demand", negative_age="0s")
        mirror.sync()
        ballast = disk / "ballast"
        log: list[str] = []
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 20_000_000))
        with served(mirror, log) as (url, _):

            def get(name: str) -> int:
                page = requests.get(f"{url}/py/simple/{name}/", headers={"Accept": JSON}, timeout=10)
                (file,) = page.json()["files"]
                try:
                    answer = requests.get(urljoin(page.url, file["url"]), timeout=30)
                    assert answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() == file["hashes"]["sha256"]
                    return answer.status_code
                except requests.RequestException:
                    return -1

            free = shutil.disk_usage(disk).free
            assert get("stated") == 507
            assert get("unstated") in (507, -1)
            assert sum(request.sent for request in index.requests if "/stated-1.0" in request.path) == 0
            eventually(lambda: shutil.disk_usage(disk).free > free - 1_000_000)
            assert get("small") == 200
            ballast.unlink()
            assert (get("stated"), get("unstated")) == (200, 200)
        said = "".join(log)
        assert "stated-1.0-py3-none-any.whl can't be had: " in said
        assert "unstated-1.0-py3-none-any.whl can't be had: " in said
        mirror.run("check", "--read-data")


def test_what_has_come_of_a_file_is_no_room_that_it_lacks(disk: Path, tmp_path: Path) -> None:
    """Of one an earlier process has left the beginning. Another is begun that fits too, if not with it: nobody is cut off who
    follows, whichever process fetches.
    """
    packages = [make_package(f"p{size}", payload=random.Random(size).randbytes(size)) for size in (30_000_000, 15_000_000)]
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        for package in packages:
            channel.add(package)
        channel.publish()
        mirror = Mirror(disk / "mirror")
        mirror.settings["download"]["min_free"] = "20MB"
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
        mirror.sync()
        left = packages[0].data[:10_000_000]
        (mirror.store_path / "incoming" / hashlib.sha256(packages[0].data).hexdigest()).write_bytes(left)
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 45_000_000))
        upstream.fault("*.conda", Slow(8_000_000))
        upstream.clear()
        log: list[str] = []
        with served(mirror, log, "--workers", "2") as (url, _), ThreadPoolExecutor(16) as pool:
            urls = [f"{url}/chan/noarch/{package.filename}" for package in packages] * 8
            answers = list(pool.map(lambda url: requests.get(url, timeout=60), urls))
        assert [answer.status_code for answer in answers] == [200] * 16, "".join(log)
        assert all(answer.content == package.data for answer, package in zip(answers, packages * 8, strict=True))
        assert [(request.status, request.sent) for request in upstream.requests if request.status == 206] == [
            (206, len(packages[0].data) - len(left))
        ]
