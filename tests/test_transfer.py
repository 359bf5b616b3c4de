"""Files on their way: links to folders, broken and odd answers, hosts that fail, sizes that lie."""

import contextlib
import fcntl
import gc
import gzip
import os
import resource
import shutil
import signal
import socket
import threading
import time
import tracemalloc
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from channels import Channel, Package, make_package
from crashes import few_files
from inprocess import collect, file_digest, in_child, records_of, repodata, store_at, sync
from mirror import Mirror
from upstream import Body, Fault, Html, Redirect, Slow, Status, Truncate, Unframed, Upstream

from snapmirror import addresses
from snapmirror.conda import CondaRepo
from snapmirror.digests import sha256
from snapmirror.errors import LockedError, MismatchError, StoreError, TooManyFiles, UpstreamError
from snapmirror.readings import Answer, File, Stated
from snapmirror.store import fs
from snapmirror.store.store import Store
from snapmirror.sync.report import Report
from snapmirror.transfer.download import Source, download
from snapmirror.transfer.http import Http
from snapmirror.transfer.partials import open_partial
from snapmirror.transfer.settings import Download

ONCE = Download(retries=0, connect_timeout="2s", stall="1B/2s", min_free="0%")


def publish(folder: Path, *packages: Package, **keys: Any) -> Channel:
    """A channel in a folder."""
    made = Channel(folder, **keys)
    made.add(*packages)
    made.publish()
    return made


def no_progress(_: int) -> None: ...


def problems(report: Report) -> dict[str, str]:
    """What kept noarch of each repo as it was."""
    found = {path: repo.directories["noarch"].problem for path, repo in report.repos.items()}
    return {path: str(problem) for path, problem in found.items() if problem}


def withheld(report: Report, path: str) -> dict[str, str]:
    """What is withheld of a repo's noarch."""
    return dict(report.repos[path].directories["noarch"].withheld)


# Links to the files of a folder


@contextlib.contextmanager
def staged_link(tmp_path: Path) -> Iterator[tuple[Store, Path, Source]]:
    """A file of ours from 2020, linked by a sync that has not yet given it its name in the store."""
    theirs = tmp_path / "theirs.conda"
    theirs.write_bytes(b"package")
    os.utime(theirs, (1_580_000_000, 1_580_000_000))
    file = File(theirs.name, 7, sha256(b"package"), None)
    linked, copied = (Source(file, (theirs.as_uri(),), link) for link in (True, False))
    with store_at(tmp_path / "store") as store, Http(Download(), print) as http:
        staged = download(http, store.layout.incoming, linked, no_progress)
        assert os.path.samefile(staged.path, theirs)
        yield store, theirs, copied
        if staged.path.exists():
            store.admit([staged])
        staged.release()


def test_another_sync_of_a_linked_file_does_not_empty_the_original(tmp_path: Path) -> None:
    with staged_link(tmp_path) as (store, theirs, copied), Http(Download(), print) as http:
        download(http, store.layout.incoming, copied, no_progress).release()
        assert theirs.read_bytes() == b"package"


def test_file_that_a_killed_sync_of_an_earlier_version_has_linked_is_not_written_into(tmp_path: Path) -> None:
    theirs, original = tmp_path / "theirs.conda", tmp_path / "original.conda"
    theirs.write_bytes(b"theirs")
    original.write_bytes(b"package")
    digest = sha256(b"package")
    source = Source(File(original.name, 7, digest, None), (original.as_uri(),))
    with store_at(tmp_path / "store") as store, Http(Download(), print) as http:
        os.link(theirs, store.layout.incoming / digest.hex())
        download(http, store.layout.incoming, source, no_progress).release()
    assert theirs.read_bytes() == b"theirs"


def test_gc_leaves_a_linked_file_alone_until_it_has_its_name(tmp_path: Path) -> None:
    with staged_link(tmp_path) as (store, theirs, _):
        collect(store, timedelta(hours=24))
    assert store.blobs.read(sha256(b"package")) == b"package"
    assert os.path.samefile(store.blobs.path(sha256(b"package")), theirs)


def test_link_to_a_link_is_a_link_to_the_file(tmp_path: Path) -> None:
    channel = publish(tmp_path / "channel", make_package("lib"))
    theirs = channel.root / "noarch/lib-1.0-0.conda"
    theirs.rename(tmp_path / "elsewhere.conda")
    theirs.symlink_to("../../elsewhere.conda")
    with store_at(tmp_path / "store") as store:
        sync(store, CondaRepo(path="chan", upstream=channel.root.as_uri(), link=True))
        [blob] = [path for path in store.layout.blobs.rglob("*") if path.is_file() and path.samefile(theirs)]
        assert not blob.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_copied_and_stays_as_it_is(tmp_path: Path) -> None:
    channel = publish(tmp_path / "channel", make_package("lib"))
    theirs = channel.root / "noarch/lib-1.0-0.conda"
    theirs.chmod(0o644)
    os.chown(theirs, 65534, 65534)
    with store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=channel.root.as_uri(), link=True))
        assert report.exit_status(strict=True) == 0
        assert theirs.stat().st_mode & 0o777 == 0o644
        assert theirs.stat().st_nlink == 1


# Partial files


def test_partial_that_becomes_a_blob_while_another_sync_waits_for_it_is_not_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tmp_path / "package.conda"
    original.write_bytes(b"package")
    source = Source(File(original.name, 7, None, None), (original.as_uri(),))
    real = fcntl.flock
    with store_at(tmp_path / "store") as store, Http(Download(), print) as http:
        first = download(http, store.layout.incoming, source, no_progress)

        def commit_first(file: Any, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", real)
            store.admit([first])
            first.release()
            original.write_bytes(b"PACKAGE")
            real(file, operation)

        monkeypatch.setattr(fcntl, "flock", commit_first)
        second = download(http, store.layout.incoming, source, no_progress)
        store.admit([second])
        second.release()
        assert store.blobs.read(sha256(b"package")) == b"package"
        assert store.blobs.read(sha256(b"PACKAGE")) == b"PACKAGE"


def test_partial_that_is_taken_up_while_it_is_cleared_away_does_not_lose_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sync wrote to it then would be in no file; the sync would fail."""
    taken, unlink = [], fs.unlink

    def after_a_sync(path: Path) -> None:
        with contextlib.suppress(LockedError):
            taken.append(open_partial(path))
        unlink(path)

    with store_at(tmp_path / "store") as store:
        path = store.layout.incoming / "partial"
        path.write_bytes(b"half")
        monkeypatch.setattr(fs, "unlink", after_a_sync)
        assert (store.clear_partials(), taken) == (4, [])
        with open_partial(path):
            assert store.clear_partials() == 0


OLD, NEW = b"o" * 1000, b"n" * 1000


def fetched(tmp_path: Path, source: Source, settings: Download) -> bytes:
    """What a download stages."""
    with store_at(tmp_path / "store") as store, Http(settings, print) as http:
        staged = download(http, store.layout.incoming, source, no_progress)
        staged.release()
        assert staged.sha256 == sha256(staged.path.read_bytes())
        return staged.path.read_bytes()


@pytest.mark.parametrize("etags", [True, False])
def test_half_a_file_of_which_only_the_size_is_known_is_not_completed_from_another_upstream(
    tmp_path: Path, upstream: Upstream, etags: bool
) -> None:
    """Nothing would tell that the whole is neither of the two files."""
    upstream.etags = etags
    upstream.fault("/one", Body(OLD), Truncate(500))
    upstream.fault("/two", Body(NEW))
    source = Source(File("file", 1000, None, None), (f"{upstream.url}/one", f"{upstream.url}/two"))
    assert fetched(tmp_path, source, ONCE) == NEW


FOREIGN = Status(206, {"ETag": '"new"', "Content-Range": "bytes 500-999/1000"}, NEW[500:])  # whatever If-Range says


@pytest.mark.parametrize(("etags", "then"), [(False, ()), (True, ()), (True, (FOREIGN,))], ids=["none", "etag", "ignored"])
def test_half_a_file_of_which_only_the_size_is_known_is_not_completed_once_it_has_changed(
    tmp_path: Path, upstream: Upstream, etags: bool, then: tuple[Fault, ...]
) -> None:
    upstream.etags = etags
    for fault in ((Body(OLD), Truncate(500)), *((one,) for one in then)):
        upstream.fault("/file", *fault, times=1)
    upstream.fault("/file", Body(NEW))
    source = Source(File("file", 1000, None, None), (f"{upstream.url}/file",))
    assert fetched(tmp_path, source, Download(retries=2, min_free="0%")) == NEW


@pytest.mark.parametrize("total", ["1000", "*"])
@pytest.mark.parametrize("hashed", [True, False], ids=["hash", "size"])
def test_answer_that_goes_on_with_less_than_was_asked_for_is_gone_on_from(
    tmp_path: Path, upstream: Upstream, hashed: bool, total: str
) -> None:
    """A server may send a part of a range (RFC 9110 section 15.3.7)."""
    body = os.urandom(1000)
    (upstream.root / "file").write_bytes(body)
    part = {"Content-Range": f"bytes 500-699/{total}", "ETag": f'"{sha256(body).hex()}"'}
    upstream.fault("/file", Truncate(500), times=1)
    upstream.fault("/file", Status(206, part, body[500:700]), times=1)
    source = Source(File("file", 1000, sha256(body) if hashed else None, None), (f"{upstream.url}/file",))
    assert fetched(tmp_path, source, Download(retries=2, min_free="0%")) == body
    assert [request.headers.get("range") for request in upstream.requests] == [None, "bytes=500-", "bytes=700-"]


def test_half_a_file_stays_though_a_login_page_comes_in_the_place_of_its_rest(tmp_path: Path, upstream: Upstream) -> None:
    (upstream.root / "file").write_bytes(OLD)
    upstream.fault("/file", Truncate(500), times=1)
    upstream.fault("/file", Html(), times=1)
    source = Source(File("file", 1000, sha256(OLD), None), (f"{upstream.url}/file",))
    with pytest.raises(MismatchError):
        fetched(tmp_path, source, Download(retries=1, min_free="0%"))
    assert fetched(tmp_path, source, ONCE) == OLD
    assert [request.headers.get("range") for request in upstream.requests] == [None, "bytes=500-", "bytes=500-"]


def test_half_a_file_of_which_nothing_is_known_is_not_taken_for_the_whole(tmp_path: Path, upstream: Upstream) -> None:
    """Where only the end of the connection ends the answer. It is believed if it comes twice."""
    upstream.fault("/file", Body(OLD), Unframed(500), times=1)
    upstream.fault("/file", Body(OLD), Unframed())
    source = Source(File("file", None, None, None), (f"{upstream.url}/file",))
    assert fetched(tmp_path, source, Download(retries=1, min_free="0%")) == OLD
    assert len(upstream.requests) == 4


def test_whole_file_of_unknown_size_that_was_not_stored_yet_is_not_fetched_again(tmp_path: Path, upstream: Upstream) -> None:
    """A sync that is killed leaves up to a batch of them."""
    source = Source(File("file", None, sha256(NEW), None), (f"{upstream.url}/file",))
    with store_at(tmp_path / "store") as store:
        (store.layout.incoming / source.content).write_bytes(NEW)
    assert fetched(tmp_path, source, ONCE) == NEW
    assert upstream.requests == []


def test_error_of_our_own_disk_is_not_blamed_on_upstream(tmp_path: Path, upstream: Upstream) -> None:
    """A limit on the size of files stands for every error of a disk that is not full."""
    body = os.urandom(300_000)
    (upstream.root / "big.conda").write_bytes(body)
    source = Source(File("big.conda", len(body), sha256(body), None), (f"{upstream.url}/big.conda",))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store_at(tmp_path / "store") as store, Http(ONCE, print) as http:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StoreError, match=r"incoming/.*File too large"):
                download(http, store.layout.incoming, source, no_progress)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("where", ["http", "file"])
def test_too_many_open_files_are_not_blamed_on_upstream(where: str, upstream: Upstream) -> None:
    """A sync would withhold what it could not ask for, and publish the rest."""
    (upstream.root / "file").write_bytes(b"x")
    url = f"{upstream.url}/file" if where == "http" else (upstream.root / "file").as_uri()
    told = pytest.raises(TooManyFiles, match=f"^{url}: too many open files; raise the limit")
    with Http(ONCE, print) as http, http.open(f"{upstream.url}/file", {}), few_files(0), told:
        http.get(url, limit=10)


# Folders as upstreams


def test_file_that_is_wrong_in_a_folder_comes_from_the_next_upstream(
    mirror: Mirror, channel: Channel, upstream: Upstream, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    shutil.copytree(channel.root, local)
    file = local / "noarch/lib-1.0-0.conda"
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    mirror.repos[0]["upstream"] = [local.as_uri(), f"{upstream.url}/chan"]
    mirror.repos[0]["sidecars"] = []
    mirror.sync("--strict")
    assert upstream.paths() == ["/chan/noarch/lib-1.0-0.conda"]
    mirror.published()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [Path.mkdir, loop, os.mkfifo], ids=["folder", "loop", "pipe"])
def test_file_that_cannot_be_read_from_a_folder_keeps_its_directory_as_it_was(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    folders = {name: tmp_path / name for name in ("good", "bad")}
    for name, folder in folders.items():
        publish(folder, make_package(name))
    (folders["bad"] / "noarch/bad-1.0-0.conda").unlink()
    make(folders["bad"] / "noarch/bad-1.0-0.conda")
    with store_at(tmp_path / "store") as store:
        report = sync(store, *(CondaRepo(path=name, upstream=folder.as_uri()) for name, folder in folders.items()))
        assert list(problems(report)) == ["bad"]
        assert folders["bad"].as_uri() in problems(report)["bad"]
        assert list(store.catalog().records[-1].repos) == ["good"]


# Hosts


def test_host_that_forbids_the_files_of_one_repo_is_asked_for_those_of_another(tmp_path: Path, upstream: Upstream) -> None:
    publish(upstream.root / "forbidden", *(make_package(f"p{number}") for number in range(30)))
    publish(upstream.root / "open", make_package("good"))
    upstream.fault("/forbidden/*.conda", Status(403))
    with store_at(tmp_path / "store") as store:
        report = sync(store, *(CondaRepo(path=name, upstream=f"{upstream.url}/{name}") for name in ("forbidden", "open")))
        assert list(problems(report)) == ["forbidden"]
        assert "403" in problems(report)["forbidden"]


def test_host_is_not_blamed_for_another_that_is_dead(tmp_path: Path, upstream: Upstream) -> None:
    publish(upstream.root / "lacking", *(make_package(f"p{number}") for number in range(30)))
    publish(upstream.root / "open", make_package("good"))
    upstream.fault("/lacking/*.conda", Status(404))
    with store_at(tmp_path / "store") as store, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
        repos = [
            CondaRepo(path="lacking", upstream=[f"{upstream.url}/lacking", f"{dead}/lacking"]),
            CondaRepo(path="open", upstream=f"{upstream.url}/open"),
        ]
        report = sync(store, *repos, download=ONCE)
        assert list(problems(report)) == ["lacking"]
        assert dead in problems(report)["lacking"]


def test_host_that_never_answers_is_given_up(tmp_path: Path, upstream: Upstream) -> None:
    publish(upstream.root / "down", *(make_package(f"p{number}") for number in range(60)))
    upstream.fault("*.conda", Status(500))
    with store_at(tmp_path / "store") as store:
        sync(store, CondaRepo(path="down", upstream=f"{upstream.url}/down"), download=ONCE)
    assert len([path for path in upstream.paths() if path.endswith(".conda")]) < 40


# Sizes


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("drop", [(), ("sha256",)], ids=["sha256", "md5"])
def test_size_that_is_wrong_withholds_the_record_that_states_it_and_no_other(
    tmp_path: Path, order: str, drop: tuple[str, ...]
) -> None:
    package = make_package("same")
    for name in "ab":
        made = publish(tmp_path / name, package)
        made.hotfix(package.filename, drop=drop, **({"size": len(package.data) + 1} if name == "a" else {}))
        made.publish()
    repos = [CondaRepo(path=name, upstream=(tmp_path / name).as_uri()) for name in order]
    with store_at(tmp_path / "store") as store:
        report = sync(store, *repos)
        assert (list(withheld(report, "a")), withheld(report, "b")) == ([package.filename], {})
        assert "size is" in withheld(report, "a")[package.filename]
        record = store.catalog().records[-1]
        assert package.filename not in records_of(repodata(store, record, "a", "noarch"))
        assert file_digest(store, record, "b", "noarch", package.filename) == package.record["sha256"]


# Answers


class Folder(ABC, BaseHTTPRequestHandler):
    """Serves a folder as a subclass says; a server such as no library would make."""

    root: Path

    def do_GET(self) -> None:
        path = self.root / self.path.lstrip("/")
        if path.is_file():
            self.answer(path.read_bytes())
        else:
            self.send_error(404)

    @abstractmethod
    def answer(self, data: bytes) -> None:
        """Send a file, head and body."""

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def serving(handler: type[Folder], root: Path) -> Iterator[str]:
    """The URL of a server of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"root": root})) as server:
        threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class InSegments(Folder):
    """Sends a body as networks do: a little with the head, a moment later the rest."""

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:1000])
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            self.wfile.write(data[1000:])


def test_time_that_our_own_limit_costs_is_no_stall(tmp_path: Path) -> None:
    """At 150 kB a second over six connections each of them gets its turn every few seconds."""
    publish(tmp_path / "up", *(make_package(f"p{number}", payload=os.urandom(100_000)) for number in range(6)))
    slowly = Download(retries=0, bandwidth="150KB/s", stall="5000B/1s", min_free="0%")
    with serving(InSegments, tmp_path / "up") as url, store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=url), download=slowly)
        assert (problems(report), report.repos["chan"].directories["noarch"].files) == ({}, 6)


class WithoutLength(Folder):
    """HTTP/1.0: a body ends where the connection does, and that of a package `breaks` so often in the middle."""

    breaks = 0

    def answer(self, data: bytes) -> None:
        broken = self.path.endswith(".conda") and type(self).breaks > 0
        if broken:
            type(self).breaks -= 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if broken else data)


def test_connection_that_ends_early_is_tried_again_even_if_no_length_was_announced(tmp_path: Path) -> None:
    publish(tmp_path / "up", make_package("big", payload=os.urandom(100_000)))
    breaking = type("Breaking", (WithoutLength,), {"breaks": 3})
    with serving(breaking, tmp_path / "up") as url, store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=url), download=Download(retries=3, min_free="0%"))
        assert (problems(report), withheld(report, "chan")) == ({}, {})


def test_size_that_is_too_large_is_no_broken_connection(tmp_path: Path) -> None:
    package = make_package("big", payload=os.urandom(100_000))
    made = publish(tmp_path / "up", package)
    made.hotfix(package.filename, size=len(package.data) + 1)
    made.publish()
    with serving(WithoutLength, tmp_path / "up") as url, store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=url))
        assert "size is" in withheld(report, "chan")[package.filename]


NONSENSE = {
    "length-word": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n{}",
    "length-negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    "lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
    "no-address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "no-port": b"HTTP/1.1 302 Found\r\nLocation: http://x:99999/\r\nContent-Length: 0\r\n\r\n",
    "no-name": b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 70 + b".com/\r\nContent-Length: 0\r\n\r\n",
    "no-text": b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe.com/\r\nContent-Length: 0\r\n\r\n",
    "to-a-file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "no-http": b"\x00\x01\x02\r\n\r\n",
}


@contextlib.contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """The URL of a server that says the same to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        threading.Thread(target=answer_all, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # requests leaves such connections open
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsensical_answers_hold_up_no_other_repo(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "good", make_package("good"))
    with saying(NONSENSE[name]) as url, store_at(tmp_path / "store") as store:
        odd, good = CondaRepo(path="odd", upstream=url), CondaRepo(path="good", upstream=(tmp_path / "good").as_uri())
        sync(store, odd, good, download=ONCE)
        gc.collect()
        assert "good" in store.catalog().records[-1].repos


def test_a_number_with_more_digits_than_python_reads_is_a_failure_of_that_file(tmp_path: Path) -> None:
    digits = b"9" * 5000
    part = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/" + digits + b"\r\nContent-Length: 2\r\n\r\n{}"
    with saying(part) as url, pytest.raises(UpstreamError):
        fetched(tmp_path, Source(File("file", 1000, sha256(OLD), None), (url,)), ONCE)
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: " + digits + b"\r\n\r\n") as url, Http(ONCE, print) as http:
        assert list(http.head_many([url])) == [(url, Stated(None, None))]


def test_redirect_to_nowhere_is_a_failure_of_that_file(tmp_path: Path, upstream: Upstream) -> None:
    for name in ("odd", "good"):
        publish(upstream.root / name, *(make_package(f"{name}{number}") for number in range(20)))
    upstream.fault("/odd/*.conda", Redirect("http://[::1"))
    with store_at(tmp_path / "store") as store:
        report = sync(store, *(CondaRepo(path=name, upstream=f"{upstream.url}/{name}") for name in ("odd", "good")))
        assert list(problems(report)) == ["odd"]


# Content-Encoding


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS = {"gzip": gzip.compress, "deflate": deflate}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_body_that_is_encoded_though_nobody_asked_is_decoded(
    mirror: Mirror, channel: Channel, upstream: Upstream, encoding: str
) -> None:
    channel.variants = ("json",)
    channel.publish()
    for path in ("noarch/repodata.json", "noarch/lib-1.0-0.conda"):
        body = ENCODINGS[encoding]((channel.root / path).read_bytes())
        upstream.fault(f"/chan/{path}", Status(200, {"Content-Encoding": encoding}, body))
    mirror.sync("--strict")
    assert "lib-1.0-0.conda" in mirror.listed("chan/noarch")
    mirror.published()


def test_encoded_body_that_breaks_is_fetched_from_its_begin(tmp_path: Path) -> None:
    class Breaking(Folder):
        tries = 0

        def answer(self, data: bytes) -> None:
            encoded = self.path.endswith(".conda")
            body = gzip.compress(data) if encoded else data
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if encoded:
                assert "Range" not in self.headers
                self.send_header("Content-Encoding", "gzip")
                Breaking.tries += 1
            self.end_headers()
            self.wfile.write(body[:50_000] if encoded and Breaking.tries == 1 else body)

    publish(tmp_path / "up", make_package("big", payload=os.urandom(100_000)))
    with serving(Breaking, tmp_path / "up") as url, store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=url))
        assert (problems(report), withheld(report, "chan"), Breaking.tries) == ({}, {}, 2)


def test_encoded_bomb_is_not_expanded(upstream: Upstream) -> None:
    upstream.root.joinpath("bomb").touch()
    upstream.fault("/bomb", Status(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(100 << 20))))
    with Http(ONCE, print) as http, pytest.raises(Exception, match="is larger than 1000000 bytes"):
        http.get(f"{upstream.url}/bomb", limit=1_000_000)


def test_answers_do_not_stay_in_memory_until_the_last_has_come(upstream: Upstream) -> None:
    (upstream.root / "file").write_bytes(bytes(1 << 20))
    urls = [f"{upstream.url}/file?{number}" for number in range(40)]
    tracemalloc.start()
    with Http(Download(connections=2), print) as http:
        assert sum(isinstance(answer, Answer) for _, answer in http.get_many(urls, limit=2 << 20)) == len(urls)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_name_of_the_compression_of_a_file_is_not_taken_for_that_of_the_transfer(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    body = (channel.root / "noarch/repodata.json.zst").read_bytes()
    upstream.fault("/chan/noarch/repodata.json.zst", Status(200, {"Content-Encoding": "zstd"}, body))
    mirror.sync()
    assert "lib-1.0-0.conda" in mirror.listed("chan/noarch")


# Addresses that metadata state


CONFIGURED = "https://user:pw@example.org/t/s3cr3t/chan/noarch/"
SAME_SERVER = {
    "https://example.org/pool/": "https://user:pw@example.org/t/s3cr3t/pool/",
    "https://EXAMPLE.org:443/pool/": "https://user:pw@example.org/t/s3cr3t/pool/",
    "https://example.org/t/other/pool/": "https://user:pw@example.org/t/other/pool/",
    "https://me@example.org/pool/": "https://me@example.org/t/s3cr3t/pool/",
}


@pytest.mark.parametrize("url", SAME_SERVER)
def test_credentials_go_to_the_server_that_they_are_for(url: str) -> None:
    assert addresses.with_credentials(url, CONFIGURED) == SAME_SERVER[url]


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "https://example.org:8443/x", "https://example.org.evil/x", "https://evil/@example.org/x"]
)
def test_credentials_go_nowhere_else(url: str) -> None:
    assert addresses.with_credentials(url, CONFIGURED) == url


def test_folder_whose_name_looks_like_a_token_keeps_it() -> None:
    folder = "file:///t/mirror/chan/"
    for url in (folder, "https://example.org/source/t/tool/tool-1.0.tar.gz"):
        assert addresses.redact(url) == url
    assert addresses.with_credentials("file:///pool/a.conda", folder) == "file:///pool/a.conda"


@contextlib.contextmanager
def private(upstream: Upstream, how: str) -> Iterator[str]:
    """The URL of an upstream that wants credentials for all it has."""
    if how == "user":
        upstream.credentials = ("user", "s3cr3t")
        yield upstream.url.replace("://", "://user:s3cr3t@")
    else:
        root, upstream.root = upstream.root, upstream.root / "behind"
        (upstream.root / "t").mkdir(parents=True)
        (upstream.root / "t/s3cr3t").symlink_to(root)
        yield f"{upstream.url}/t/s3cr3t"
        upstream.root = root


@pytest.mark.parametrize("how", ["user", "token"])
@pytest.mark.parametrize("stated", ["base_url", "shards_base_url", "relative base_url", "url", "relative url"])
def test_credentials_come_along_to_addresses_on_the_same_server(
    tmp_path: Path, upstream: Upstream, how: str, stated: str
) -> None:
    package, root = make_package("lib"), upstream.root
    relative = stated.startswith("relative")
    made = Channel(root / "chan", variants=("shards" if stated == "shards_base_url" else "json",))
    made.add(package)
    if stated.endswith("base_url"):
        made.info[stated.removeprefix("relative ")] = "/pool/" if relative else f"{upstream.url}/pool/"
    else:
        made.hotfix(package.filename, url=f"{'' if relative else upstream.url}/pool/{package.filename}")
    made.publish()
    (root / "pool").mkdir()
    for path in [*(root / "chan/noarch/shards").glob("*"), made.root / "noarch" / package.filename]:
        shutil.copy(path, root / "pool")
    with private(upstream, how) as url, store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=f"{url}/chan"))
        assert (problems(report), withheld(report, "chan")) == ({}, {})
        kept = b"".join(path.read_bytes() for path in store.layout.root.rglob("*") if path.is_file())
    assert any(path.endswith(f"/pool/{package.filename}") for path in upstream.paths()) or stated == "shards_base_url"
    assert b"s3cr3t" not in kept
    assert "s3cr3t" not in str(report)


@pytest.mark.parametrize("url", ["ftp://example.org/a.conda", "http://example.org:99999/a", "http:///a.conda", "javascript:1"])
def test_record_whose_address_cannot_be_fetched_is_withheld_and_no_other(tmp_path: Path, upstream: Upstream, url: str) -> None:
    made = publish(upstream.root / "chan", make_package("a"), make_package("b"))
    made.hotfix("a-1.0-0.conda", url=url)
    made.publish()
    with store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=f"{upstream.url}/chan"))
        assert (problems(report), list(withheld(report, "chan"))) == ({}, ["a-1.0-0.conda"])
        assert list(records_of(repodata(store, store.catalog().records[-1], "chan", "noarch"))) == ["b-1.0-0.conda"]


# Upstreams without shards


@pytest.mark.parametrize("fault", [Html(), Status(400), Status(405), Status(200)], ids=["html", "400", "405", "empty"])
def test_server_that_is_unclear_about_having_no_shards_is_read_without(
    mirror: Mirror, channel: Channel, upstream: Upstream, fault: Html | Status
) -> None:
    upstream.fault("*/repodata_shards.msgpack.zst", fault)
    mirror.sync().line("repodata_shards.msgpack.zst", "reading another form of the index")
    assert "lib-1.0-0.conda" in mirror.listed("chan/noarch")
    mirror.published()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_server_that_refuses_every_form_is_not_taken_for_an_empty_one(tmp_path: Path, upstream: Upstream, status: int) -> None:
    publish(upstream.root / "chan", make_package("a"))
    upstream.fault("*", Status(status))
    with store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=f"{upstream.url}/chan"))
        assert str(status) in str(report.repos["chan"].problem)
        assert store.catalog().records == ()


@pytest.mark.parametrize("name", ["a", "b"], ids=["in-one-leaf", "in-two"])
def test_file_that_two_records_describe_differently_is_withheld_whatever_package_they_name(tmp_path: Path, name: str) -> None:
    package, other = make_package("a"), make_package("a", payload=b"other")

    def add_another(_: str, document: dict[str, Any]) -> None:
        if package.filename in document["packages.conda"]:
            document["packages"][package.filename] = {**other.record, "name": name}

    publish(tmp_path / "up", package, make_package("b"), variants=("json",), edit=add_another)
    with store_at(tmp_path / "store") as store:
        for _ in range(2):
            report = sync(store, CondaRepo(path="chan", upstream=(tmp_path / "up").as_uri()))
            record = store.catalog().records[-1]
            assert list(records_of(repodata(store, record, "chan", "noarch"))) == ["b-1.0-0.conda"]
            assert withheld(report, "chan") == {package.filename: "two records give it different hashes"}


# Two at once, and settings


def test_file_that_another_process_was_fetching_is_not_fetched_again(mirror: Mirror, upstream: Upstream) -> None:
    package = make_package("big", payload=os.urandom(500_000))
    for name in "ab":
        publish(upstream.root / name, package)
        mirror.add(name, f"{upstream.url}/{name}")
    mirror.sync("chan")
    upstream.fault("*/big-*", Slow(250_000))
    first = mirror.start("sync", "a")
    while not any("big-" in path for path in upstream.paths()):
        time.sleep(0.05)
    second = mirror.start("sync", "b")
    assert [mirror.finish(process).status for process in (first, second)] == [0, 0]
    assert [path for path in upstream.paths() if "big-" in path] == [f"/a/noarch/{package.filename}"]
    assert package.filename in mirror.listed("b/noarch")


@pytest.mark.parametrize("what", ["repodata.json.zst", "lib-1.0-0.conda"])
def test_ctrl_c_waits_for_no_slow_upstream(what: str, mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """Neither while indexes are read nor while files are fetched."""
    path = f"/chan/noarch/{what}"
    size = (upstream.root / path[1:]).stat().st_size
    upstream.fault(path, Slow(size // 4))  # four seconds, and less than the five that a fetch waits for its threads
    running = mirror.start("sync")
    while path not in upstream.paths():
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    result = mirror.finish(running)
    assert (result.status, "interrupted" in result.err) == (130, True)
    assert upstream.bytes_sent(path) < size


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"proxy": "socks5://127.0.0.1:9"}, "PySocks"),
        ({"ca_bundle": "/nonexistent.pem"}, "/nonexistent.pem"),
        ({}, "refused"),
    ],
)
def test_message_says_why_there_is_no_connection(tmp_path: Path, settings: dict[str, str], says: str) -> None:
    options = Download(retries=0, connect_timeout="2s", min_free="0%", **settings)
    with store_at(tmp_path / "store") as store, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}/chan"
        report = sync(store, CondaRepo(path="chan", upstream=url), download=options)
        assert says in str(report.repos["chan"].problem)


def test_a_whole_partial_that_was_made_read_only_is_not_fetched_again(tmp_path: Path) -> None:
    """A process that died between that and its name in the store has left it. Root may write to it as it is."""
    (tmp_path / "partial").write_bytes(b"whole")
    (tmp_path / "partial").chmod(0o444)
    nobody = 65534
    if os.geteuid() == 0:
        for path in (tmp_path, tmp_path / "partial"):
            os.chown(path, nobody, nobody)

    def work() -> None:
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.seteuid(nobody)
        with open_partial(Path("partial")) as file:
            assert file.read() == b"whole"

    in_child(work)
    assert (tmp_path / "partial").read_bytes() == b"whole"


def test_a_folder_that_may_not_be_written_to_is_an_error(tmp_path: Path) -> None:
    """It was asked for a partial file again and again, for ever."""
    tmp_path.chmod(0o555)

    def work() -> None:
        signal.alarm(10)
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.setuid(65534)
        with pytest.raises(PermissionError):
            open_partial(Path("partial"))

    in_child(work)
    tmp_path.chmod(0o755)
