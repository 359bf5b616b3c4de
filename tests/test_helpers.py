"""The helpers that other tests rely on: the upstream server, and the conda channels that it serves."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from channels import Channel, Extension, Repodata, Variant, make_package, read_document, read_shards
from upstream import Body, Call, Fault, Html, Redirect, Slow, Stall, Status, Truncate, Upstream

CONTENT = bytes(range(256)) * 400  # more than one piece of a body
SIZE = len(CONTENT)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
TIME = 1_700_000_000
DATE, EARLIER = "Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:19 GMT"

needs_rattler = pytest.mark.skipif(find_spec("rattler") is None, reason="py-rattler is not installed")


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """A server of a folder that holds CONTENT, of DATE, as `file`."""
    (tmp_path / "file").write_bytes(CONTENT)
    os.utime(tmp_path / "file", (TIME, TIME))
    with Upstream(tmp_path) as server:
        yield server


def ask(upstream: Upstream, path: str = "/file", method: str = "GET", **headers: str) -> requests.Response:
    """The answer to a request; the names of headers are written with underscores."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no netrc
        return session.request(method, upstream.url + path, headers=fields, timeout=10, allow_redirects=False)


def test_serves_what_the_folder_holds_now(upstream: Upstream) -> None:
    whole, head = ask(upstream), ask(upstream, method="HEAD")
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (whole.headers["ETag"], whole.headers["Last-Modified"]) == (ETAG, DATE)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "Date": ""} == {**whole.headers, "Date": ""}
    (upstream.root / "a 1!2").write_bytes(b"new")
    assert ask(upstream, "/a%201%212?token=x").content == b"new"
    assert upstream.paths()[-1] == "/a 1!2"
    outside = f"/%2e%2e/{upstream.root.name}/file"
    assert [ask(upstream, path).status_code for path in ("/missing", "/", outside, "/%00")] == [404] * 4


@pytest.mark.parametrize(
    ("headers", "status", "no_etag"),
    [
        ({"If_None_Match": f'"other", W/{ETAG}'}, 304, 200),
        ({"If_None_Match": "*"}, 304, 200),
        ({"If_Modified_Since": DATE}, 304, 304),
        ({"If_Modified_Since": EARLIER}, 200, 200),
        ({"If_None_Match": '"other"', "If_Modified_Since": DATE}, 200, 304),
        ({"If_None_Match": ETAG, "If_Modified_Since": EARLIER}, 304, 200),
    ],
)
def test_conditional_requests(upstream: Upstream, headers: dict[str, str], status: int, no_etag: int) -> None:
    answer = ask(upstream, **headers)
    assert (answer.status_code, answer.content) == (status, CONTENT if status == 200 else b"")
    assert answer.headers["ETag"] == ETAG
    assert ask(upstream, method="HEAD", **headers).status_code == status
    upstream.etags = False
    assert (answer := ask(upstream, **headers)).status_code == no_etag
    assert "ETag" not in answer.headers
    upstream.last_modified = False
    assert (answer := ask(upstream, **headers)).status_code == 200
    assert "Last-Modified" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "first", "end"),
    [
        ({"Range": "bytes=100-"}, 100, SIZE),
        ({"Range": "bytes=-7"}, SIZE - 7, SIZE),
        ({"Range": "bytes=5-9", "If_Range": ETAG}, 5, 10),
        ({"Range": f"bytes=5-{SIZE * 9}", "If_Range": DATE}, 5, SIZE),
    ],
)
def test_range(upstream: Upstream, headers: dict[str, str], first: int, end: int) -> None:
    answer = ask(upstream, **headers)
    assert (answer.status_code, answer.content) == (206, CONTENT[first:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    upstream.ranges = False
    assert ask(upstream, **headers).content == CONTENT


def test_range_that_does_not_apply(upstream: Upstream) -> None:
    for beyond in (f"bytes={SIZE}-", "bytes=-0"):
        answer = ask(upstream, Range=beyond)
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    for ignored in ("bytes=9-5", "bytes=-", "bytes=0-1,5-6", "lines=0-1"):
        assert ask(upstream, Range=ignored).content == CONTENT
    for other in ('"other"', f"W/{ETAG}", EARLIER):
        assert ask(upstream, Range="bytes=5-9", If_Range=other).content == CONTENT


def test_credentials(upstream: Upstream) -> None:
    upstream.credentials = ("user", "secret")
    assert ask(upstream).headers["WWW-Authenticate"].startswith("Basic ")
    for proof, status in ((b"user:guess", 401), (b"user:secret", 200)):
        assert ask(upstream, Authorization=f"Basic {b64encode(proof).decode()}").status_code == status


def test_requests_are_recorded(upstream: Upstream) -> None:
    ask(upstream, Range="bytes=-7", X_Test="yes")
    ask(upstream, "/missing", method="HEAD")
    ask(upstream, If_None_Match=ETAG)
    seen = [(asked.method, asked.path, asked.status, asked.sent) for asked in upstream.requests]
    assert seen == [("GET", "/file", 206, 7), ("HEAD", "/missing", 404, 0), ("GET", "/file", 304, 0)]
    assert upstream.requests[0].headers["x-test"] == "yes"
    assert (upstream.bytes_sent(), upstream.bytes_sent("/file"), upstream.bytes_sent("/m")) == (7, 7, 0)
    upstream.clear()
    assert upstream.paths() == []


@pytest.mark.parametrize(
    ("fault", "status", "header", "body"),
    [
        (Status(429, {"Retry-After": "3"}, b"later"), 429, "Retry-After: 3", b"later"),
        (Redirect("/elsewhere"), 302, "Location: /elsewhere", b""),
        (Html("<p>no"), 200, "Content-Type: text/html; charset=utf-8", b"<p>no"),
        (Body(b"altered"), 200, "Content-Length: 7", b"altered"),
    ],
)
def test_other_answers(upstream: Upstream, fault: Fault, status: int, header: str, body: bytes) -> None:
    upstream.fault("/*", fault)
    for path in ("/file", "/missing"):
        answer = ask(upstream, path)
        assert (answer.status_code, answer.content) == (status, body)
        assert header in [f"{name}: {value}" for name, value in answer.headers.items()]


def test_rules_are_used_up_in_order(upstream: Upstream) -> None:
    first = upstream.fault("/f*", Status(500), times=2)
    upstream.fault("/file", Status(403), times=1)
    upstream.fault("*/deep/*", Status(410))
    statuses = [ask(upstream, path).status_code for path in ("/file", "/a/deep/file", *["/file"] * 3)]
    assert (statuses, first.hits) == ([500, 410, 500, 403, 200], 2)
    upstream.heal()
    assert ask(upstream, "/a/deep/file").status_code == 404
    with pytest.raises(ValueError, match="slash"):
        upstream.fault("file", Status(500))


def test_truncate_announces_more_than_it_sends(upstream: Upstream) -> None:
    upstream.fault("/file", Truncate(1000), times=2)
    connection = http.client.HTTPConnection(upstream.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/file")
    answer = connection.getresponse()
    assert answer.headers["Content-Length"] == str(SIZE)
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    connection.close()
    assert cut.value.partial == CONTENT[:1000]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(upstream, Range="bytes=1000-")  # a part is cut as the whole is
    assert upstream.bytes_sent() == 2000
    assert ask(upstream, Range="bytes=2000-").content == CONTENT[2000:]


@pytest.mark.parametrize("fault", [Stall(10, 0.3), Slow(SIZE * 3)])
def test_stall_and_slow_take_their_time(upstream: Upstream, fault: Fault) -> None:
    upstream.fault("/file", fault)
    start = time.monotonic()
    assert ask(upstream).content == CONTENT
    assert time.monotonic() - start >= 0.3


def test_call_may_change_what_is_answered(upstream: Upstream) -> None:
    change = Call(lambda: (upstream.root / "file").write_bytes(b"changed"))
    upstream.fault("/file", change, Status(500), times=1)
    assert [ask(upstream).status_code, ask(upstream).content] == [500, b"changed"]


def test_a_failing_call_fails_the_test(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path)
    upstream.fault("*", Call(lambda: 1 // 0))
    gone = pytest.raises(requests.exceptions.ConnectionError)
    with pytest.raises(RuntimeError, match="failed to answer") as caught, upstream, gone:
        ask(upstream)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with ExitStack() as open_connections:
        with Upstream(tmp_path) as ending:
            ending.fault("/stalled", Body(CONTENT), Stall(10, 60))
            ending.fault("/slow", Body(CONTENT), Slow(20))
            for path in ("/stalled", "/slow", "/missing"):  # the last one is kept alive
                connection = http.client.HTTPConnection(ending.url.removeprefix("http://"), timeout=10)
                open_connections.callback(connection.close)
                connection.request("GET", path)
                connection.getresponse().read(1)
            start = time.monotonic()
        assert time.monotonic() - start < 20  # a third of what the one waits
        assert set(threading.enumerate()) <= before
    with pytest.raises(requests.exceptions.ConnectionError):
        ask(ending)


def test_many_clients_at_once(upstream: Upstream) -> None:
    upstream.fault("/file", Status(503), times=30)
    with ThreadPoolExecutor(8) as pool:
        statuses = pool.map(lambda _: ask(upstream).status_code, range(80))
    assert sorted(statuses) == [200] * 50 + [503] * 30
    assert upstream.bytes_sent() == 50 * SIZE


@pytest.mark.parametrize("ext", [".conda", ".tar.bz2"])
def test_packages_are_what_their_records_say(ext: Extension, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("tool", "1.2", "h1_3", 3, ["lib"], "linux-64", ext)
    package = make_package(*arguments, license="MIT")
    monkeypatch.setattr(time, "time", lambda: 1e9)  # the same package on any day
    assert package == make_package(*arguments, license="MIT")
    assert package.filename == f"tool-1.2-h1_3{ext}"
    keys = ("name", "version", "build", "build_number", "depends", "subdir")
    index = dict(zip(keys, arguments, strict=False))
    hashes = {name: hashlib.new(name, package.data).hexdigest() for name in ("md5", "sha256")}
    index |= {"license": "MIT", "timestamp": 1_750_000_000_000, "size": len(package.data)}
    assert package.record == index | hashes
    assert make_package("tool", payload=b"a").data != make_package("tool", payload=b"b").data


def test_all_variants_say_the_same(tmp_path: Path) -> None:
    channel = Channel(tmp_path, variants={"json", "zst", "bz2", "shards"}, subdirs=["linux-64"])
    channel.extra["x"] = 1
    old, new = make_package("tool", ext=".tar.bz2"), make_package("tool", "2.0")
    channel.add(old, new)
    channel.publish()
    noarch = tmp_path / "noarch"
    listed = {"packages": {old.filename: old.record}, "packages.conda": {new.filename: new.record}}
    for name in ("repodata.json", "repodata.json.zst", "repodata.json.bz2"):
        said = read_document(noarch / name)
        assert said == {"info": {"subdir": "noarch"}, **listed, "repodata_version": 1, "x": 1}
    raw = {key: bytes.fromhex(new.record[key]) for key in ("md5", "sha256")}
    shard = read_shards(noarch)["tool"]
    assert shard["packages.conda"] == {new.filename: new.record | raw}
    assert read_shards(tmp_path / "linux-64") == {}
    channel.variants = {"json"}
    channel.publish()
    assert [path.name for path in noarch.glob("repodata*")] == ["repodata.json"]


def test_removals_hotfixes_and_the_same_name_again(tmp_path: Path) -> None:
    channel = Channel(tmp_path, variants={"shards"})
    channel.add(*(make_package(name) for name in ("gone", "lost", "kept", "fixed", "again")))
    channel.add(make_package("fixed", subdir="linux-64"), again := make_package("again", payload=b"other"))
    channel.remove("gone-1.0-0.conda")
    channel.remove("lost-1.0-0.conda", listed=True)
    channel.remove("kept-1.0-0.conda", removed=False, keep=True)
    with pytest.raises(ValueError, match="not in one"):
        channel.hotfix("fixed-1.0-0.conda", depends=["lib"])
    channel.hotfix("noarch/fixed-1.0-0.conda", drop=["sha256"], depends=["lib"])
    again.record["depends"].append("x")  # both the caller's own: the channel does not notice
    channel.repodata("noarch")["packages.conda"]["lost-1.0-0.conda"].clear()
    channel.publish()
    repodata = channel.repodata("noarch")
    fixed = make_package("fixed").record | {"depends": ["lib"]}
    del fixed["sha256"]
    records = {"again": make_package("again", payload=b"other").record, "fixed": fixed}
    records["lost"] = make_package("lost").record
    assert repodata["packages.conda"] == {f"{name}-1.0-0.conda": record for name, record in records.items()}
    shard = read_shards(tmp_path / "noarch")["gone"]
    assert shard == {"packages": {}, "packages.conda": {}, "removed": ["gone-1.0-0.conda"]}
    assert repodata["removed"] == shard["removed"]
    files = {path.name for path in (tmp_path / "noarch").glob("*.conda")}
    assert files == {f"{name}-1.0-0.conda" for name in ("kept", "fixed", "again")}
    channel.add(make_package("gone"))
    assert "removed" not in channel.repodata("noarch")


def test_quirks(tmp_path: Path) -> None:
    def edit(subdir: str, repodata: Repodata) -> None:
        repodata["packages.conda"] |= {"x-1-0.conda": {"name": "x", "fn": subdir}}

    info = {"base_url": "../../files/noarch/", "channel_relations": {"base": "../base"}}
    files = tmp_path / "files"
    channel = Channel(tmp_path / "channel", variants={"json", "shards"}, info=info, edit=edit, files=files)
    channel.info["shards_base_url"] = ""
    channel.v3["whl"] = {"wheel-1.0-py3": {"name": "wheel", "url": "wheel.whl", "timestamp": 7}}
    channel.add(make_package("tool"))
    channel.add(make_package("late", subdir="linux-64"), v3=True)
    channel.publish()
    assert (files / "noarch/tool-1.0-0.conda").exists()
    noarch = tmp_path / "channel/noarch"
    repodata = read_document(noarch / "repodata.json")
    revision = {"n_packages": 1, "oldest": 7, "newest": 7}
    assert repodata["info"] == {"subdir": "noarch", **info, "repodata_revisions": {"v3": revision}}
    assert repodata["repodata_version"] == 2
    index = read_document(noarch / "repodata_shards.msgpack.zst")["info"]
    assert index.items() >= (repodata["info"] | {"shards_base_url": ""}).items()
    shards = read_shards(noarch)
    assert shards["wheel"]["v3"] == repodata["v3"] == {"whl": channel.v3["whl"]}
    assert shards["x"]["packages.conda"] == {"x-1-0.conda": {"name": "x", "fn": "noarch"}}
    assert list(channel.repodata("linux-64")["v3"]["conda"]) == ["late-1.0-0"]


def test_publishing_again(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    channel.publish()
    plain, compressed = tmp_path / "noarch/repodata.json", tmp_path / "noarch/repodata.json.zst"
    before, stale = plain.stat(), compressed.read_bytes()
    channel.publish()
    assert os.path.samestat(before, plain.stat())
    # A new version is another file (who reads the old one reads it to its end) and has another time.
    with plain.open() as old:
        channel.add(make_package("tool"))
        channel.publish(only={"json"})
        assert "tool" not in old.read()
    assert int(plain.stat().st_mtime) > int(before.st_mtime)
    assert compressed.read_bytes() == stale
    assert not list(tmp_path.rglob("*.new"))


INSTALL = """
import asyncio, json, sys
from pathlib import Path
from rattler import Gateway, install, solve
from rattler.package_streaming import extract

channel, folder, *paths = sys.argv[1], *map(Path, sys.argv[2:])
records = asyncio.run(solve([channel], ["top"], Gateway(folder / "cache"), ["linux-64", "noarch"]))
asyncio.run(install(records, folder / "prefix", cache_dir=folder / "cache", show_progress=False))
hashes = {path.name: [part.hex() for part in extract(path, folder / path.stem)] for path in paths}
print(json.dumps([sorted(record.file_name for record in records), hashes]), flush=True)
"""

INDEX = """
import asyncio, sys, rattler.index
asyncio.run(rattler.index.index_fs(sys.argv[1]))
print("done", flush=True)
"""


def rattler(script: str, home: Path, *arguments: object) -> bytes:
    """What a script prints in a process of its own, far from the user's settings and caches."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    # Its exit status says nothing: py-rattler at times dies when the interpreter ends, its work done.
    done = subprocess.run(command, env={"HOME": str(home), "NO_PROXY": "*"}, capture_output=True, timeout=60)
    assert done.stdout, done.stderr
    return done.stdout


@needs_rattler
@pytest.mark.parametrize("variant", ["zst", "json", "shards"])
def test_a_client_installs_and_runs_packages(tmp_path: Path, variant: Variant) -> None:
    channel = Channel(tmp_path / "channel", variants=[variant])
    top = make_package("top", depends=["base >=1"], subdir="linux-64")
    base = make_package("base", "1.5", ext=".tar.bz2", payload=b"#!/bin/sh\necho this is base\n")
    channel.add(top, base)
    channel.publish()
    paths = [f"/linux-64/{top.filename}", f"/noarch/{base.filename}"]
    with Upstream(channel.root) as upstream:
        arguments = (upstream.url, tmp_path, *(f"{channel.root}{path}" for path in paths))
        installed, hashes = json.loads(rattler(INSTALL, tmp_path, *arguments))
        answered = {request.path for request in upstream.requests if request.status == 200}
    assert installed == [base.filename, top.filename]
    assert hashes == {made.filename: [made.record["sha256"], made.record["md5"]] for made in (top, base)}
    assert answered >= set(paths)
    assert any("shards" in path for path in answered) == (variant == "shards")
    for name, output in (("top", b"top 1.0 0\n"), ("base", b"this is base\n")):
        assert subprocess.check_output([tmp_path / "prefix/bin" / name]) == output


@needs_rattler
def test_a_channel_is_what_an_indexer_makes_of_its_packages(tmp_path: Path) -> None:
    ours, theirs = (Channel(tmp_path / name, variants={"json", "shards"}) for name in ("ours", "theirs"))
    for channel in (ours, theirs):
        channel.add(make_package("tool", license="MIT"), make_package("tool", "2.0", ext=".tar.bz2"))
        channel.add(make_package("lib", depends=["tool"], subdir="linux-64"))
    ours.publish()
    assert rattler(INDEX, tmp_path, theirs.root) == b"done\n"
    for subdir in ("noarch", "linux-64"):
        name = f"{subdir}/repodata_shards.msgpack.zst"
        made, true = read_document(ours.root / name), read_document(theirs.root / name)
        assert [list(made), list(made["info"])] == [list(true), list(true["info"])]
        assert made["info"] | {"created_at": ""} == true["info"] | {"created_at": ""}
        shards = read_shards(theirs.root / subdir)
        for shard in shards.values():
            for record in (*shard["packages"].values(), *shard["packages.conda"].values()):
                del record["indexed_timestamp"]  # the indexer's clock
        assert read_shards(ours.root / subdir) == shards
