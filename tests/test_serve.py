"""What URLs mean: selectors, repos, files, documents, listings. Over real HTTP, from small stores.

The stores are built through the store's own interface, so that a test decides what each snapshot holds.
"""

import asyncio
import bz2
import contextlib
import gc
import hashlib
import html
import http.client
import os
import re
import resource
import shutil
import sys
import threading
import time
import tracemalloc
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import requests
from channels import Package, make_package
from inprocess import collect
from waiting import eventually

from snapmirror import clock, codec
from snapmirror.conda import Conda
from snapmirror.ecosystem import Ecosystem
from snapmirror.readings import File
from snapmirror.serve import documents, resolve
from snapmirror.serve.app import Server
from snapmirror.serve.settings import Serve
from snapmirror.serve.sockets import bind
from snapmirror.serve.tls import context_of
from snapmirror.serve.view import View
from snapmirror.serve.workers import serving
from snapmirror.store import assembly, seal
from snapmirror.store.blobs import LocalBlobs
from snapmirror.store.directories import Derived, Directory, DirectoryReader
from snapmirror.store.layout import Layout
from snapmirror.store.records import Pin, Record, Tombstone
from snapmirror.store.store import Store
from snapmirror.web import faces

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONDA = Conda()
FORMS = {"repodata.json": ("", ".zst", ".bz2"), "repodata_shards.msgpack": (".zst",)}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, start: str = "20261120T010000Z") -> None:
        self.set(start)

    def __call__(self) -> datetime:
        return self.now

    def set(self, id_: str) -> None:
        self.now = datetime.strptime(id_, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


class Built:
    """A store, and what a sync would have put into it."""

    def __init__(self, root: Path, start: str = "20261120T010000Z") -> None:
        self.root = root
        self.clock = Clock(start)
        Store.create(root, now=self.clock)

    def open(self, *, write: bool = False) -> Store:
        return Store.open(self.root, write=write, now=self.clock)

    def publish(
        self,
        repos: Mapping[str, Mapping[str, Iterable[Package]]],
        *,
        mode: str = "eager",
        at: str | None = None,
        seal_as: str | None = None,
        elsewhere: Mapping[str, str] | None = None,
        keep_documents: bool = True,
        shards: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> str:
        """Seal a snapshot of {repo: {subdir: packages}}; its id. shards: further ones of every subdir, as upstream had them."""
        if at:
            self.clock.set(at)
        with self.open(write=True) as store:
            synced = {}
            for repo, subdirs in repos.items():
                read = {
                    subdir: seal.Read(
                        self._directory(store, list(packages), mode, elsewhere or {}, keep_documents, shards or {}).hex(),
                        clock.to_id(self.clock()),
                    )
                    for subdir, packages in subdirs.items()
                }
                newest = store.catalog().newest(repo)
                synced[repo] = seal.Synced("conda", read, {}, newest.repos[repo].directories if newest else {})
            with store.lock(None) as catalog:
                return seal.seal(store, catalog, synced, list(repos), seal.Past(seal_as, {}) if seal_as else None).id

    def _directory(
        self,
        store: Store,
        packages: list[Package],
        mode: str,
        elsewhere: Mapping[str, str],
        keep: bool,
        more: Mapping[str, Mapping[str, Any]],
    ) -> bytes:
        shards: dict[str, Any] = dict(more)
        for package in packages:
            shard = shards.setdefault(package.record["name"], {"packages": {}, "packages.conda": {}, "removed": []})
            record = dict(package.record)
            record |= {kind: bytes.fromhex(record[kind]) for kind in ("md5", "sha256")}
            shard["packages.conda" if package.filename.endswith(".conda") else "packages"][package.filename] = record
        blobs = {name: codec.compress(codec.to_msgpack(shard), 3) for name, shard in shards.items()}
        if mode == "eager":
            store.put([package.data for package in packages])
        store.put(list(blobs.values()))
        plain = Directory(
            kind="conda",
            form=1,
            mode=mode,
            origin="https://channel.example/main/linux-64/",
            info={"subdir": "noarch"},
            files=len(packages),
            size=sum(len(package.data) for package in packages),
        )
        leaves = {name: hashlib.sha256(blob).digest() for name, blob in blobs.items()}
        outside = {p.filename: (p.record["name"], elsewhere[p.filename]) for p in packages if p.filename in elsewhere}
        assembled = assembly.assemble(plain, leaves, outside, {})
        store.put(list(assembled.blobs.values()))
        reader = store.metadata.directory(assembled.digest)
        derived = {name: CONDA.derive(reader, name) for name in FORMS}
        documents = {
            name: Derived(sha256=hashlib.sha256(data).digest(), size=len(data), suffixes=FORMS[name])
            for name, data in derived.items()
        }
        if keep:
            for name, data in derived.items():
                store.documents.put(documents[name].sha256, ".zst", codec.compress(data, 6))
        assembled = assembly.assemble(msgspec.structs.replace(plain, documents=documents), leaves, outside, {})
        store.put(list(assembled.blobs.values()))
        return assembled.digest


class Served(NamedTuple):
    """A running server."""

    url: str

    def get(self, path: str, **headers: str) -> requests.Response:
        """GET a path as it stands: not normalised, not decoded, redirects not followed."""
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> requests.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        request = requests.Request(method, self.url, headers={"Accept-Encoding": "identity", **fields}).prepare()
        request.url = self.url + path
        with requests.Session() as session:
            session.trust_env = False
            return session.send(request, allow_redirects=False, timeout=30)


@contextlib.contextmanager
def served(built: Built, settings: Serve | None = None, ecosystem: Ecosystem = CONDA) -> Iterator[Served]:
    """Serve a store in this process, from a store opened for reading."""
    [sockets] = bind(settings or Serve(port=0), 1)
    loop = asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        with built.open() as store:
            server = Server(
                store, {"conda": ecosystem}, settings or Serve(), {}, None, faces=faces(store, {"conda": ecosystem})
            )
            async with serving(server, sockets, tls=context_of(settings or Serve())):
                ready.set()
                await ended.wait()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        thread = threading.Thread(target=runner.run, args=(main(),))
        thread.start()
        try:
            assert ready.wait(30)
            yield Served(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path / "store")


def forget(built: Built, id_: str) -> None:
    """Put a tombstone in a record's place."""
    with built.open(write=True) as store:
        record = store.catalog().by_id[id_]
        assert isinstance(record, Record)
        stone = Tombstone(id=id_, number=record.number, forgotten=id_, repos=sorted(record.repos))
        store.snapshots.write(stone)


OLD, NEW, LIB = make_package("tool", "1.0"), make_package("tool", "2.0"), make_package("lib", ext=".tar.bz2")


# Selectors


def test_every_selector_names_its_snapshot(built: Built) -> None:
    first = built.publish({"main": {"noarch": [OLD]}}, at="20261118T010000Z")
    second = built.publish({"main": {"noarch": [OLD, NEW]}}, at="20261119T010000Z")
    with built.open(write=True) as store:
        store.snapshots.write_pin(Pin(name="paper-2026", snapshot=first, set=first))
    built.clock.set("20261120T120000Z")
    means = {
        "current/": second,
        "": second,
        "2026-11-18/": first,
        "2026-11-19/": second,
        "2026-11-20/": second,
        "20261118T235959Z/": first,
        "20261119T010000Z/": second,
        "paper-2026/": first,
    }
    with served(built) as server:
        for selector, id_ in means.items():
            answer = server.get(f"/{selector}main/noarch/repodata.json")
            assert (answer.status_code, answer.headers["X-Snapmirror-Snapshot"]) == (200, id_), selector
            assert set(answer.json()["packages.conda"]) == {OLD.filename} | ({NEW.filename} if id_ == second else set())
        refused = {
            "2026-11-17/": "no snapshot of main at or before",
            "20261120T120001Z/": "has not come yet",
            "2026-11-22/": "has not begun",
            "20261132T000000Z/": "no snapshot",
            "nothing/": "no snapshot",
        }
        for selector, words in refused.items():
            answer = server.get(f"/{selector}main/noarch/repodata.json")
            assert answer.status_code == 404, selector
            assert words in answer.text or selector == "nothing/", answer.text
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_day_that_has_not_ended_says_so(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD]}}, at="20261120T110000Z")
    with served(built) as server:

        def provisional(selector: str) -> str | None:
            return server.get(f"/{selector}/main/noarch/{OLD.filename}").headers.get("X-Snapmirror-Provisional")

        assert provisional("2026-11-20") == "until 20261120T235959Z"
        assert provisional("2026-11-21") == "until 20261121T235959Z"  # begun in Kiribati
        assert provisional("current") is None
        assert provisional("20261120T110000Z") is None
        built.clock.set("20261121T000000Z")
        eventually(lambda: provisional("2026-11-20") is None)
        built.clock.set("20261120T120000Z")  # it was ahead
        eventually(lambda: provisional("2026-11-20") == "until 20261120T235959Z")


def test_what_resolves_to_a_forgotten_snapshot_is_gone_and_names_its_neighbours(built: Built) -> None:
    ids = [built.publish({"main": {"noarch": [OLD]}}, at=f"202611{day}T010000Z") for day in (17, 18, 19)]
    forget(built, ids[1])
    with served(built) as server:
        for selector in (ids[1], "2026-11-18", "20261118T120000Z"):
            for path in ("main/noarch/repodata.json", "main/", f"main/noarch/{OLD.filename}"):
                answer = server.get(f"/{selector}/{path}")
                assert answer.status_code == 410
                assert ids[0] in answer.text
                assert ids[2] in answer.text
        assert server.get("/2026-11-17/main/").status_code == 200


def test_what_gc_has_taken_a_moment_after_it_was_forgotten_is_gone_and_not_damaged(built: Built) -> None:
    """The server looks at the store twice a second; what it then believes to be kept may have been taken since."""
    first = built.publish({"main": {"noarch": [OLD, LIB]}}, at="20261118T010000Z")
    built.publish({"main": {"noarch": [NEW]}}, at="20261119T010000Z")
    with served(built) as server:
        assert server.get(f"/{first}/main/noarch/{LIB.filename}").status_code == 200
        time.sleep(1.2)  # so that names can change unseen no more
        assert server.get("/-/readyz").status_code == 200
        forget(built, first)
        with built.open(write=True) as store:
            collect(store)
        for path in (OLD.filename, LIB.filename, "repodata.json"):
            answer = server.get(f"/{first}/main/noarch/{path}")
            assert (answer.status_code, first in answer.text) == (410, True)


def test_the_longest_repo_path_wins_and_an_id_knows_only_its_own_repos(built: Built) -> None:
    first = built.publish({"pkgs": {"main": [OLD]}}, at="20261118T010000Z")
    second = built.publish({"pkgs/main": {"noarch": [NEW]}, "pkgs": {"other": [LIB]}}, at="20261119T010000Z")
    with served(built) as server:
        assert server.get(f"/{first}/pkgs/main/{OLD.filename}").status_code == 200
        assert server.get(f"/{second}/pkgs/main/noarch/{NEW.filename}").status_code == 200
        assert server.get(f"/pkgs/main/noarch/{NEW.filename}").status_code == 200
        assert server.get(f"/{second}/pkgs/other/{LIB.filename}").status_code == 200
        assert server.get(f"/{first}/pkgs/main/noarch/{NEW.filename}").status_code == 404
        assert re.findall(r'href="(\w+/)"', server.get("/current/pkgs/").text) == ["main/", "other/"]


def test_a_repo_that_is_mirrored_no_more_still_has_its_files(built: Built) -> None:
    """The pages of its dates, and lock files, name them without a date."""
    first = built.publish({"main": {"noarch": [NEW]}, "left": {"noarch": [OLD]}}, at="20261118T010000Z")
    second = built.publish({"main": {"noarch": [NEW]}}, at="20261119T010000Z")
    with served(built) as server:
        for path in (f"/left/noarch/{OLD.filename}", f"/current/left/noarch/{OLD.filename}"):
            answer = server.get(path)
            assert (answer.status_code, answer.content) == (200, OLD.data)
            assert answer.headers["X-Snapmirror-Snapshot"] == first
        for path in (
            "/left",
            "/left/",
            "/left/noarch",
            f"/left/noarch/{NEW.filename}",
            f"/{second}/left/noarch/{OLD.filename}",
        ):
            assert server.get(path).status_code == 404


# Files


def test_a_file_is_its_bytes_under_the_name_of_its_digest(built: Built) -> None:
    large = make_package("large", payload=os.urandom(3_000_000))
    id_ = built.publish({"main": {"noarch": [OLD, LIB, large]}})
    with served(built) as server:
        for package in (OLD, LIB, large):
            answer = server.get(f"/{id_}/main/noarch/{package.filename}")
            assert answer.content == package.data
            assert answer.headers["ETag"] == f'"{package.record["sha256"]}"'
            assert answer.headers["Content-Length"] == str(len(package.data))
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Last-Modified" not in answer.headers


def test_a_listed_file_that_is_gone_or_cut_is_damage_not_absence(built: Built) -> None:
    id_ = built.publish({"main": {"noarch": [OLD, NEW, LIB]}})
    blobs = LocalBlobs(Layout(built.root))

    def damage(digest: str, data: bytes | None) -> None:
        path = blobs.path(bytes.fromhex(digest))
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    with served(built) as server:
        url = f"/{id_}/main/noarch/"
        assert server.get(url + OLD.filename).status_code == 200  # so that the answer is cached
        shard = msgspec.msgpack.decode(zstd.decompress(server.get(url + "repodata_shards.msgpack.zst").content))["shards"][
            "lib"
        ].hex()
        damage(OLD.record["sha256"], None)
        damage(NEW.record["sha256"], NEW.data[:-1])
        damage(LIB.record["sha256"], b"")
        damage(shard, None)
        for path in (OLD.filename, NEW.filename, LIB.filename, f"shards/{shard}.msgpack.zst"):
            for method in ("GET", "HEAD"):
                answer = server.ask(method, url + path)
                assert (answer.status_code, answer.headers["Cache-Control"]) == (503, "no-store"), path
                assert answer.content == b"" if method == "HEAD" else "check" in answer.text
        assert server.get(url + f"shards/{'0' * 64}.msgpack.zst").status_code == 404


def test_a_file_that_cannot_be_opened_for_another_reason_is_no_damage(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD]}})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with served(built) as server, contextlib.closing(http.client.HTTPConnection(server.url[7:], timeout=30)) as client:
        for soft, status in ((limit[0], 200), (3, 503), (limit[0], 200)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit[1]))
            try:
                client.request("GET", f"/current/main/noarch/{OLD.filename}")
                answer = client.getresponse()
                text = answer.read()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            assert (answer.status, text) == (
                status,
                OLD.data if status == 200 else b"the store can't be read: Too many open files\n",
            )


def test_a_denied_file_is_refused_with_the_reason_wherever_it_is_listed(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD, NEW]}})
    denied = built.root / "denied" / f"{OLD.record['sha256']}.json"
    with served(built) as server:
        path = f"/current/main/noarch/{OLD.filename}"
        assert server.get(path).status_code == 200
        denied.write_text('{"reason": "malware, see advisory 7"}')
        eventually(lambda: server.get(path).status_code == 403)
        assert "malware, see advisory 7" in server.get(path).text
        assert server.get(f"/current/main/noarch/{NEW.filename}").status_code == 200
        denied.write_text("")  # the name alone denies
        eventually(lambda: "malware" not in server.get(path).text)
        assert server.get(path).status_code == 403
        denied.unlink()
        eventually(lambda: server.get(path).status_code == 200)


def test_a_redirecting_directory_sends_clients_to_upstream(built: Built) -> None:
    odd = replace(OLD, filename="tool 1%+é-1.0-0.conda", record=OLD.record | {"name": "tool 1%+é"})
    outside = "https://user:secret@files.example/a b/x.conda?v=1"
    id_ = built.publish({"main": {"noarch": [NEW, odd, LIB]}}, mode="redirect", elsewhere={LIB.filename: outside})
    with served(built) as server:
        expected = {
            NEW.filename: f"https://channel.example/main/linux-64/{NEW.filename}",
            "tool%201%25+%C3%A9-1.0-0.conda": "https://channel.example/main/linux-64/tool%201%25+%C3%A9-1.0-0.conda",
            LIB.filename: "https://files.example/a%20b/x.conda?v=1",
        }
        for path, location in expected.items():
            for method in ("GET", "HEAD"):
                answer = server.ask(method, f"/{id_}/main/noarch/{path}")
                assert (answer.status_code, answer.headers["Location"]) == (307, location)
                assert answer.headers["Cache-Control"] == "no-store"
        assert server.get(f"/{id_}/main/noarch/{OLD.filename}").status_code == 404
        assert server.get(f"/{id_}/main/noarch/repodata.json").status_code == 200


def test_current_still_has_what_the_newest_snapshot_no_longer_lists(built: Built) -> None:
    first = built.publish({"main": {"noarch": [OLD], "osx-64": [LIB]}}, at="20261118T010000Z")
    second = built.publish({"main": {"noarch": [NEW]}}, at="20261119T010000Z")
    with served(built) as server:
        index = zstd.decompress(server.get(f"/{first}/main/noarch/repodata_shards.msgpack.zst").content)
        shard = f"shards/{msgspec.msgpack.decode(index)['shards']['tool'].hex()}.msgpack.zst"
        for path in (f"noarch/{OLD.filename}", f"noarch/{shard}", f"osx-64/{LIB.filename}"):
            for selector in ("current/", ""):
                answer = server.get(f"/{selector}main/{path}")
                assert (answer.status_code, answer.headers["X-Snapmirror-Snapshot"]) == (200, first), path
            for selector in (second, "2026-11-19"):
                assert server.get(f"/{selector}/main/{path}").status_code == 404
        assert server.get("/current/main/noarch/never-1.0-0.conda").status_code == 404
        assert server.get("/current/main/osx-64/repodata.json").status_code == 404
        forget(built, first)
        eventually(lambda: server.get(f"/current/main/noarch/{OLD.filename}").status_code == 404)


def test_every_shard_that_the_index_lists_is_there_whatever_it_holds(built: Built) -> None:
    empty: dict[str, Any] = {"packages": {}, "packages.conda": {}, "removed": []}
    other = make_package("MyPkg")
    shards = {
        "future": empty | {"x-new": {"a": 1}},
        "gone": empty | {"removed": ["gone-1.0-0.conda"]},
        "mypkg": empty | {"packages.conda": {other.filename: other.record | {"sha256": bytes(32)}}},  # not its name
    }
    first = built.publish({"main": {"noarch": [OLD]}}, at="20261118T010000Z", shards=shards)
    second = built.publish({"main": {"noarch": [OLD]}}, at="20261119T010000Z")
    with served(built) as server:
        index = server.get(f"/{first}/main/noarch/repodata_shards.msgpack.zst").content
        listed = {name: digest.hex() for name, digest in msgspec.msgpack.decode(zstd.decompress(index))["shards"].items()}
        assert set(listed) == {"tool", *shards}
        for name, digest in listed.items():
            path = f"main/noarch/shards/{digest}.msgpack.zst"
            for selector in (first, "2026-11-18", "current"):
                answer = server.get(f"/{selector}/{path}")
                assert (answer.status_code, hashlib.sha256(answer.content).hexdigest()) == (200, digest), name
                assert "immutable" in answer.headers["Cache-Control"]
            assert server.get(f"/{second}/{path}").status_code == (200 if name == "tool" else 404), name
        (built.root / "denied" / f"{listed['gone']}.json").write_text('{"reason": "advisory 8"}')
        gone = f"/{first}/main/noarch/shards/{listed['gone']}.msgpack.zst"
        eventually(lambda: server.get(gone).status_code == 403)
        assert "advisory 8" in server.get(gone).text


# Documents


def test_all_forms_of_a_document_hold_the_same_and_need_no_cache(built: Built) -> None:
    id_ = built.publish({"main": {"noarch": [OLD, NEW]}}, keep_documents=False)
    with served(built) as server:
        url = f"/{id_}/main/noarch/"
        plain = server.get(url + "repodata.json")
        assert set(plain.json()["packages.conda"]) == {OLD.filename, NEW.filename}
        assert plain.headers["ETag"] == f'"{hashlib.sha256(plain.content).hexdigest()}"'
        assert plain.headers["Last-Modified"] == "Fri, 20 Nov 2026 01:00:00 GMT"
        for suffix, expand in ((".zst", zstd.decompress), (".bz2", bz2.decompress)):
            answer = server.get(url + "repodata.json" + suffix)
            assert expand(answer.content) == plain.content
            assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
            assert "Content-Encoding" not in answer.headers
        for name in ("repodata_shards.msgpack", "repodata.json.gz", "repodata.json.", "run_exports.json"):
            assert server.get(url + name).status_code == 404, name


def test_large_documents_and_listings_are_made_one_at_a_time(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four documents of 340 MB took 1.5 GB of memory."""
    for day, packages in enumerate(([OLD], [NEW], [OLD, NEW]), 11):
        built.publish({"main": {"noarch": packages}}, at=f"202611{day}T010000Z", keep_documents=False)
    making = most = 0

    class Slow(Conda):
        def derive(self, reader: DirectoryReader, document: str) -> bytes:
            self.take_time()
            return super().derive(reader, document)

        def files(self, leaf_: bytes) -> tuple[File, ...]:
            self.take_time()
            return super().files(leaf_)

        def take_time(self) -> None:
            nonlocal making, most
            making += 1
            most = max(most, making)
            time.sleep(0.05)
            making -= 1

    monkeypatch.setattr(documents, "_LARGE", 100)
    monkeypatch.setattr(resolve, "_MANY", 0)
    with served(built, ecosystem=Slow()) as server, ThreadPoolExecutor(6) as pool:
        asked = [f"/2026-11-{day}/main/noarch/{name}" for day in (11, 12, 13) for name in ("", "repodata.json")]
        answers = list(pool.map(lambda path: server.get(path, Accept_Encoding="gzip"), asked))
    assert [len(answer.json()["packages.conda"]) for answer in answers[1::2]] == [1, 1, 2]
    assert [answer.text.count(f'href="{OLD.filename}"') for answer in answers[::2]] == [1, 0, 1]
    assert most == 1


def test_a_document_that_does_not_come_out_as_recorded_is_never_sent(built: Built) -> None:
    id_ = built.publish({"main": {"noarch": [OLD, NEW]}})
    [kept] = [path for path in (built.root / "documents").iterdir() if b"packages.conda" in zstd.decompress(path.read_bytes())]
    good = kept.read_bytes()
    for bad in (b"", good[:-3], zstd.compress(b'{"packages": {}}'), b"<html>"):
        kept.chmod(0o644)
        kept.write_bytes(bad)
        with served(built) as server:  # the cache is damaged: made again
            answer = server.get(f"/{id_}/main/noarch/repodata.json.zst")
            assert zstd.decompress(answer.content) == zstd.decompress(good)
    kept.unlink()

    class Later(Conda):
        """A version that makes other bytes, and forgot to say so."""

        def derive(self, reader: DirectoryReader, document: str) -> bytes:
            return super().derive(reader, document) + b"\n"

    with served(built, ecosystem=Later()) as server:
        for name in ("repodata.json", "repodata.json.zst"):
            answer = server.get(f"/{id_}/main/noarch/{name}")
            assert (answer.status_code, answer.headers["Cache-Control"]) == (503, "no-store")
            assert "does not come out as recorded" in answer.text


@pytest.mark.parametrize("part", ["directory", "bucket", "leaf"])
def test_what_is_said_by_damaged_metadata_is_503_and_the_rest_is_served(built: Built, part: str) -> None:
    first = built.publish({"main": {"noarch": [LIB]}}, at="20261118T010000Z")
    id_ = built.publish({"main": {"noarch": [OLD], "osx-64": [NEW]}}, at="20261119T010000Z", keep_documents=False)
    with built.open() as store:
        record = store.catalog().by_id[id_]
        assert isinstance(record, Record)
        state = record.repos["main"].directories["noarch"]
        reader = store.metadata.directory(state.blob)
        leaf = reader.leaf("tool")
        assert leaf
        path = store.blobs.path({"directory": state.blob, "bucket": reader.document.buckets[0], "leaf": leaf}[part])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")  # what a failing disk does: as many bytes, some of them wrong
    with served(built) as server:
        for selector in (id_, "current"):
            for name in ("repodata.json", "repodata_shards.msgpack.zst", OLD.filename, f"shards/{leaf.hex()}.msgpack.zst"):
                if part == "leaf" and name == "repodata_shards.msgpack.zst":
                    continue  # made of the directory alone
                answer = server.get(f"/{selector}/main/noarch/{name}")
                assert (answer.status_code, answer.headers["Cache-Control"]) == (503, "no-store"), name
                assert path.name in answer.text
                assert "snapmirror check" in answer.text
            assert server.get(f"/{selector}/main/osx-64/{NEW.filename}").content == NEW.data
            assert server.get(f"/{selector}/main/osx-64/repodata.json").status_code == 200
        assert server.get(f"/{first}/main/noarch/{LIB.filename}").content == LIB.data
        assert server.get("/-/readyz").status_code == 200


# The store as it changes


def test_new_snapshots_and_pins_are_seen_and_old_ones_stay_as_they_were(built: Built) -> None:
    first = built.publish({"main": {"noarch": [OLD]}}, at="20261118T010000Z")
    with served(built) as server:
        paths = [f"/{first}/main/noarch/{name}" for name in ("repodata.json", "repodata.json.zst", OLD.filename, "")]
        before = [(answer.content, answer.headers["ETag"]) for answer in map(server.get, paths)]
        second = built.publish({"main": {"noarch": [NEW]}}, at="20261119T010000Z")
        newest = "/current/main/noarch/repodata.json"
        eventually(lambda: server.get(newest).headers["X-Snapmirror-Snapshot"] == second)
        assert [(answer.content, answer.headers["ETag"]) for answer in map(server.get, paths)] == before
        with built.open(write=True) as store:
            store.snapshots.write_pin(Pin(name="fixed", snapshot=first, set=second))
        eventually(lambda: server.get(f"/fixed/main/noarch/{OLD.filename}").status_code == 200)


def test_a_record_that_cannot_be_read_does_not_take_the_server_down(built: Built) -> None:
    id_ = built.publish({"main": {"noarch": [OLD]}})
    bad = built.root / "snapshots" / "20261121T010000Z.json"
    with served(built) as server:
        assert server.get("/-/readyz").status_code == 200
        bad.write_text('{"state": "sealed", "id"')
        eventually(lambda: server.get("/-/readyz").status_code == 503)
        assert "20261121T010000Z" in server.get("/-/readyz").text
        assert server.get("/-/healthz").status_code == 200
        assert server.get(f"/current/main/noarch/{OLD.filename}").headers["X-Snapmirror-Snapshot"] == id_
        bad.unlink()
        eventually(lambda: server.get("/-/readyz").status_code == 200)


def test_a_store_whose_disk_is_gone_is_told_apart_from_a_fault(built: Built) -> None:
    """What is known is served, all else is a 503 that says why; and metrics tell it to who watches."""
    built.publish({"main": {"noarch": [OLD]}})
    aside = built.root.with_name("aside")
    with served(built) as server:
        assert server.get("/current/main/noarch/repodata.json").status_code == 200
        built.root.rename(aside)
        for path in ("/-/page/health", "/-/api/v1/health", "/-/copies.json"):
            answer = server.get(path)
            assert (answer.status_code, "the store can't be read: No such file" in answer.text) == (503, True), path
        assert server.get("/current/main/noarch/repodata.json").status_code == 200
        told = server.get("/-/metrics").text
        assert "\nsnapmirror_store_readable 0.0\n" in told
        assert 'snapmirror_http_requests_total{cache="-",repo="main"' in told
        aside.rename(built.root)
        eventually(lambda: "\nsnapmirror_store_readable 1.0\n" in server.get("/-/metrics").text)


def test_an_empty_store_is_healthy_but_not_ready(built: Built) -> None:
    with served(built) as server:
        assert server.get("/-/healthz").status_code == 200
        assert server.get("/-/readyz").status_code == 503
        assert server.get("/").status_code == 200
        assert server.get("/current/").status_code == 404
        assert server.get("/-/snapshots.json").json() == {"snapshots": [], "pins": {}}


def test_serving_writes_nothing(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD]}}, keep_documents=False)
    shutil.rmtree(built.root / "index.lmdb", ignore_errors=True)
    (built.root / "index.lmdb").unlink(missing_ok=True)

    def state() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in built.root.rglob("*")}

    before = state()
    with served(built) as server:
        crawl(server, "/")
    assert state() == before


# Listings and our own pages


def crawl(server: Served, start: str) -> dict[str, requests.Response]:
    """Every page and file that links lead to, as a scraper follows them; but for upstream, to which only marked links lead."""
    found: dict[str, requests.Response] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        answer = found[path] = server.get(path)
        if answer.headers["Content-Type"].startswith("text/html"):
            links = [html.unescape(link) for link in re.findall(r'(?<!rel="noreferrer" )href="([^"]*)"', answer.text)]
            assert not [link for link in links if link.startswith("/") or "//" in link], "a link is not relative"
            waiting += [urllib.parse.urljoin(path, link) for link in links]
    return found


def test_every_link_of_the_listings_leads_somewhere(built: Built) -> None:
    odd = replace(LIB, filename='a&b<i>"c"%2F?#+é-1.0-0.tar.bz2', record=LIB.record | {"name": 'a&b<i>"c"%2F?#+é'})
    built.publish({"main": {"noarch": [OLD, odd]}, "anaconda/pkgs/r": {"noarch": [NEW]}})
    with built.open(write=True) as store:
        store.snapshots.write_pin(Pin(name="fixed", snapshot="20261120T010000Z", set="20261120T010000Z"))
    with served(built, Serve(port=0, public_url="https://mirror.example/conda")) as server:
        found = crawl(server, "/")
        assert {path: answer.status_code for path, answer in found.items() if answer.status_code != 200} == {}
        for selector in ("", "current/", "2026-11-20/", "20261120T010000Z/", "fixed/"):
            for folder in ("main/", "main/noarch/", "main/noarch/shards/", "anaconda/", "anaconda/pkgs/r/noarch/"):
                assert f"/{selector}{folder}" in found or not selector, f"/{selector}{folder}"
            package = found[f"/{selector or 'current/'}main/noarch/" + urllib.parse.quote(odd.filename, safe="")]
            assert package.content == odd.data
        assert "<i>" not in found["/current/main/noarch/"].text
        assert f"{len(OLD.data)}" in found["/current/main/noarch/"].text
        assert "https://mirror.example/conda/current" in found["/"].text
        for folder in ("current", "current/main", "main", "current/main/noarch", "2026-11-20/main/noarch/shards"):
            answer = server.get(f"/{folder}")
            assert (answer.status_code, answer.headers["Location"]) == (301, folder.rpartition("/")[2] + "/")
            assert answer.headers["Cache-Control"] == "no-store"


def test_snapshots_json_says_what_there_is(built: Built) -> None:
    first = built.publish({"main": {"noarch": [OLD]}}, at="20261118T010000Z")
    second = built.publish({"main": {"noarch": [OLD]}, "r": {"noarch": [NEW, LIB]}}, at="20261119T010000Z")
    with built.open(write=True) as store:
        store.snapshots.write_pin(Pin(name="fixed", snapshot=first, set=second))
    with served(built) as server:
        stated = server.get("/-/snapshots.json").json()
    assert stated["pins"] == {"fixed": first}
    newest, oldest = stated["snapshots"]
    assert (newest["id"], newest["number"], newest["partial"], oldest["id"]) == (second, 2, False, first)
    directory = newest["repos"]["main"]["directories"]["noarch"]
    assert directory == oldest["repos"]["main"]["directories"]["noarch"]  # unchanged
    assert (directory["since"], directory["files"], directory["mode"]) == (first, 1, "eager")
    assert newest["repos"]["r"]["directories"]["noarch"]["bytes"] == len(NEW.data) + len(LIB.data)
    assert newest["repos"]["main"]["read"] == second


def test_large_directories_of_many_dates_do_not_fill_the_memory(built: Built) -> None:
    """One of 700,000 projects is 5 MiB in memory, and a file of long ago is looked for in those of all dates."""
    plain = Directory(kind="pypi", form=1, mode="eager", origin="https://index.example/", buckets=(bytes(32),) * (1 << 18))
    made = [codec.to_msgpack(msgspec.structs.replace(plain, size=size)) for size in range(8)]
    with built.open(write=True) as store:
        store.put(made)
        for blob in [*made, made[-1]]:
            assert store.metadata.directory(hashlib.sha256(blob).digest()).document.kind == "pypi"
        large = sum(isinstance(one, Directory) and len(one.buckets) == 1 << 18 for one in gc.get_objects())
        assert large <= 1 + 4


def test_a_view_that_is_replaced_is_gone_at_once(built: Built) -> None:
    """With thousands of snapshots it is megabytes, which must not wait until Python looks for cycles."""
    gc.collect()
    gc.disable()
    before = views()
    try:
        with served(built) as server:
            for day in range(11, 16):
                id_ = built.publish({"main": {"noarch": [NEW]}}, at=f"202611{day}T010000Z")
                for path in ("", f"{id_}/", "current/main/", "main/noarch/", "main/noarch/shards/", "-/snapshots.json"):
                    assert server.get(f"/{path}").status_code in (200, 404)
                for path in (NEW.filename, OLD.filename, "repodata.json"):
                    assert server.get(f"/{id_}/main/noarch/{path}").status_code == (404 if path == OLD.filename else 200)
            assert views() <= before + 1
    finally:
        gc.enable()


def views() -> int:
    """How many views of stores are in memory."""
    return sum(isinstance(one, View) for one in gc.get_objects())


def test_long_paths_of_nothing_are_not_kept_in_memory(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD]}})
    sent = 0
    with served(built) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)

        def ask(name: str) -> None:
            nonlocal sent
            connection.request("GET", f"/current/main/noarch/{name}")
            answer = connection.getresponse()
            assert answer.status == 404
            answer.read()
            sent += len(name)

        ask("a")
        tracemalloc.start()
        for number in range(500):
            ask(f"{number}-" + "a" * 7900)
            ask("/".join([f"{number}-" + "a" * 200] * 30))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        connection.close()
    assert kept < sent / 4


def test_a_path_that_names_nothing_is_404_whatever_it_tries(built: Built) -> None:
    built.publish({"main": {"noarch": [OLD]}})
    paths = [
        "/current/../snapmirror.json",
        "/current/main/noarch/../../../snapmirror.json",
        "/current/main/noarch/%2e%2e/%2e%2e/%2e%2e/snapmirror.json",
        "/current/main/noarch/..%2f..%2f..%2fsnapmirror.json",
        "/current/main/noarch/%252e%252e/snapmirror.json",
        "/current/main/noarch/..%5c..%5csnapmirror.json",
        "/current/main/noarch/tool%00-1.0-0.conda",
        "/current/main/./noarch/repodata.json",
        "/current//main/noarch/repodata.json",
        "//current/main/noarch/repodata.json",
        "/current/main/noarch/repodata.json/",
        "/current/main/noarch/%ff",
        "/current/main%2Fnoarch/repodata.json",
        "/snapmirror.json",
        "/blobs/",
        "/.trees/",
        "/-/",
        "/-/../current/",
        "/current/main/noarch/" + "a" * 5000,
        "/current/main/noarch/" + "%C3%A9" * 128,
        "/current/main/noarch" + "/a" * 3900,
    ]
    with served(built) as server:
        for path in paths:
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
            connection.request("GET", path)  # as it stands: requests would tidy it up
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8"), path
            assert "created" not in text
            assert str(built.root) not in text
