"""How answers are sent: methods, conditions, ranges, codings, caching."""

import bz2
import gzip
import hashlib
import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from channels import make_package
from clients import install
from test_serve import Built, Served, built, served, zstd
from waiting import eventually

from snapmirror.serve.negotiate import coding
from snapmirror.serve.respond import parse_range
from snapmirror.store.records import Pin

__all__ = ["built"]

TOOL = make_package("tool", depends=["lib"])
LIB = make_package("lib", ext=".tar.bz2")
LARGE = make_package("large", payload=os.urandom(5_000_000))
ID = "20261120T010000Z"
YEAR, MINUTES = "public, max-age=31536000, immutable", "public, max-age=300"


@pytest.fixture
def server(built: Built) -> Iterator[Served]:
    built.publish({"main": {"noarch": [TOOL, LIB, LARGE]}}, at=ID)
    with served(built) as running:
        yield running


def shard_of(server: Served, name: str) -> str:
    index = zstd.decompress(server.get("/current/main/noarch/repodata_shards.msgpack.zst").content)
    return f"shards/{msgspec.msgpack.decode(index)['shards'][name].hex()}.msgpack.zst"


def test_head_answers_as_get_without_the_body(server: Served) -> None:
    paths = ["/", "/current", "/current/", "/current/main/noarch/", "/nothing", "/2026-11-01/main/"]
    paths += ["/-/healthz", "/-/snapshots.json"]
    names = [TOOL.filename, LARGE.filename, "repodata.json", "repodata.json.zst", "repodata.json.bz2", "no-1-0.conda"]
    paths += [f"/current/main/noarch/{name}" for name in [*names, shard_of(server, "tool")]]
    for path in paths:
        for accept in ("identity", "gzip", "zstd"):
            get, head = (server.ask(method, path, Accept_Encoding=accept) for method in ("GET", "HEAD"))
            assert head.content == b""
            assert head.status_code == get.status_code
            for answer in (get, head):
                del answer.headers["Date"]
            assert dict(head.headers) == dict(get.headers), path
            assert "Content-Length" in head.headers


def test_one_range_is_honoured_and_more_are_ignored(server: Served) -> None:
    for package in (TOOL, LARGE):  # from memory, and from the file
        path, data = f"/current/main/noarch/{package.filename}", package.data
        size = len(data)
        wanted = {
            "bytes=0-0": (0, 0),
            "bytes=10-19": (10, 19),
            f"bytes={size - 5}-": (size - 5, size - 1),
            "bytes=-7": (size - 7, size - 1),
            f"bytes=-{size * 2}": (0, size - 1),
            f"bytes=5-{size * 2}": (5, size - 1),
            f"BYTES={size - 300}-": (size - 300, size - 1),
        }
        for text, (first, last) in wanted.items():
            answer = server.get(path, Range=text)
            assert answer.status_code == 206, text
            assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
            assert answer.content == data[first : last + 1]
        for text in (f"bytes={size}-", "bytes=-0", f"bytes={size + 9}-{size + 10}"):
            answer = server.get(path, Range=text)
            assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
            assert answer.headers["Cache-Control"] == "no-store"
        for text in ("bytes=0-1,3-4", "bytes=9-1", "bytes=", "bytes=a-b", "lines=1-2", "bytes=-", "0-1"):
            answer = server.get(path, Range=text)
            assert (answer.status_code, answer.content) == (200, data), text


def test_a_range_of_nothing_is_never_satisfied() -> None:
    assert parse_range("bytes=0-", 0) == ()
    assert parse_range("bytes=-1", 0) == ()
    assert parse_range("bytes=" + "9" * 5000 + "-", 10) in ((), None)


def test_a_broken_download_goes_on_only_if_the_file_is_still_the_same(server: Served) -> None:
    path = f"/current/main/noarch/{LARGE.filename}"
    etag = server.get(path).headers["ETag"]
    good = server.get(path, Range="bytes=4000000-", If_Range=etag)
    assert (good.status_code, good.content) == (206, LARGE.data[4000000:])
    for other in ('"0"', f"W/{etag}", "Fri, 20 Nov 2026 01:00:00 GMT", etag.strip('"')):
        assert server.get(path, Range="bytes=4000000-", If_Range=other).status_code == 200, other
    index = "/current/main/noarch/repodata.json"
    modified = server.get(index).headers["Last-Modified"]
    assert server.get(index, Range="bytes=5-9", If_Range=modified).status_code == 206
    assert server.get(index, Range="bytes=5-9", If_Range="Fri, 20 Nov 2026 01:00:01 GMT").status_code == 200
    # All codings of the index have one date: only who takes none but the plain form surely holds a part of that.
    whole = server.get(index).content
    for accept in ("gzip", "zstd", "gzip, deflate, br, zstd"):
        answer = server.get(index, Range="bytes=5-9", If_Range=modified, Accept_Encoding=accept)
        assert (answer.status_code, answer.content) == (200, whole), accept
        plain = server.get(index).headers["ETag"]
        assert server.get(index, Range="bytes=5-9", If_Range=plain, Accept_Encoding=accept).status_code == 206
        for path_ in (f"{index}.zst", f"{index}.bz2"):  # these have no codings
            assert server.get(path_, Range="bytes=5-9", If_Range=modified, Accept_Encoding=accept).status_code == 206


def test_conditional_requests(server: Served) -> None:
    index, file = "/current/main/noarch/repodata.json.zst", f"/current/main/noarch/{TOOL.filename}"
    for path in (index, file, "/", "/-/snapshots.json", "/current/main/noarch/"):
        first = server.get(path)
        etag = first.headers["ETag"]
        for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            for method in ("GET", "HEAD"):
                answer = server.ask(method, path, If_None_Match=tags, If_Modified_Since="Mon, 01 Jan 1990 00:00:00 GMT")
                assert (answer.status_code, answer.content) == (304, b""), (path, tags)
                for name in ("ETag", "Cache-Control", "Last-Modified", "Vary", "X-Snapmirror-Snapshot"):
                    assert answer.headers.get(name) == first.headers.get(name), name
        assert server.get(path, If_None_Match='"x"').status_code == 200
        assert server.get(path, If_None_Match=etag, Range="bytes=0-1").status_code == 304
        assert server.get(path, If_Match='"x"').status_code == 412
        assert server.get(path, If_Match=etag).status_code == 200
    since = {
        "Fri, 20 Nov 2026 01:00:00 GMT": 304,
        "Friday, 20-Nov-26 01:00:00 GMT": 304,
        "Sat, 21 Nov 2026 01:00:00 GMT": 200,
        "Fri, 20 Nov 2026 00:59:59 GMT": 200,
        "yesterday": 200,
    }
    for date, status in since.items():
        assert server.get(index, If_Modified_Since=date).status_code == status
        assert server.get(index, If_Modified_Since=date, If_None_Match='"x"').status_code == 200
        assert server.get(file, If_Modified_Since=date).status_code == 200  # it has no Last-Modified


def test_a_pin_that_is_moved_back_is_news_to_a_client_that_only_knows_a_date(built: Built) -> None:
    older = built.publish({"main": {"noarch": [LIB]}}, at="20261118T010000Z")
    newer = built.publish({"main": {"noarch": [TOOL]}}, at="20261119T010000Z")

    def pin(id_: str) -> None:
        with built.open(write=True) as store:
            store.snapshots.write_pin(Pin(name="prod", snapshot=id_, set=newer))

    pin(newer)
    with served(built) as server:
        path = "/prod/main/noarch/repodata.json"
        date = server.get(path).headers["Last-Modified"]
        assert server.get(path, If_Modified_Since=date).status_code == 304
        pin(older)
        eventually(lambda: server.get(path).headers["X-Snapmirror-Snapshot"] == older)
        answer = server.get(path, If_Modified_Since=date)
        assert (answer.status_code, list(answer.json()["packages"])) == (200, [LIB.filename])


def test_dates_beyond_all_calendars_count_as_none(server: Served) -> None:
    path = "/current/main/noarch/repodata.json"
    odd = ["99999999999999999999", "0", "10000"]
    dates = [f"Sun, 06 Nov {year} 08:49:37 GMT" for year in odd]
    dates += ["Sun, 06 Nov 2026 08:49:37 +99999999999999999", "Sun, 06 Nov 0001 08:49:37 +2359", "Sun, 99 Nov 2026", "-1"]
    for date in dates:
        for field in ("If_Modified_Since", "If_Range"):
            answer = server.get(path, **{field: date}, Range="bytes=0-1" if field == "If_Range" else "")
            assert answer.status_code == 200, (field, date)
        assert server.get(path, If_Unmodified_Since=date).status_code in (200, 412), date


def test_caches_may_keep_for_ever_what_can_never_change(built: Built, server: Served) -> None:
    built.clock.set("20261120T020000Z")
    shard = shard_of(server, "tool")
    for selector in ("current", "", "2026-11-20", "20261120T010005Z", ID):
        base = f"/{selector}/main/noarch/".replace("//", "/")
        exact = selector == ID
        for name in (TOOL.filename, "repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"):
            expected = YEAR if exact else MINUTES
            assert server.get(base + name).headers["Cache-Control"] == expected, (selector, name)
            assert server.get(base + name, Range="bytes=0-1").headers["Cache-Control"] == expected
        assert server.get(base + shard).headers["Cache-Control"] == YEAR
        assert server.get(base).headers["Cache-Control"] == MINUTES
        assert server.get(base + "no-1-0.conda").headers["Cache-Control"] == "no-store"
    for page in ("healthz", "readyz"):
        assert server.get(f"/-/{page}").headers["Cache-Control"] == "no-store"


def test_plain_documents_are_sent_compressed_to_who_asks(server: Served) -> None:
    path = "/current/main/noarch/repodata.json"
    plain, compressed = server.get(path), server.get(path + ".zst")
    by_zstd, by_gzip = raw(server, path, "zstd, gzip"), raw(server, path, "gzip;q=1.0, zstd;q=0.3, *;q=0")
    assert by_zstd == ("zstd", compressed.content)
    assert by_gzip[0] == "gzip"
    assert gzip.decompress(by_gzip[1]) == plain.content
    tags = {server.get(path, Accept_Encoding=accept).headers["ETag"] for accept in ("identity", "gzip", "zstd")}
    assert tags == {f'"{hashlib.sha256(data).hexdigest()}"' for data in (plain.content, by_zstd[1], by_gzip[1])}
    for accept in ("identity", "gzip", "zstd"):
        assert server.get(path, Accept_Encoding=accept).headers["Vary"] == "Accept-Encoding"
        assert server.get("/current/", Accept_Encoding=accept).headers["Vary"] == "Accept-Encoding"
        assert server.get("/", Accept_Encoding=accept).headers["Vary"] == "Accept-Encoding, Accept-Language"
    part = server.get(path, Accept_Encoding="gzip, zstd", Range="bytes=1-5")
    assert part.content == plain.content[1:6]
    assert "Content-Encoding" not in part.headers
    for name in (TOOL.filename, LIB.filename, "repodata.json.zst", "repodata.json.bz2", shard_of(server, "lib")):
        answer = server.get(f"/current/main/noarch/{name}", Accept_Encoding="gzip, zstd, br, *")
        assert "Content-Encoding" not in answer.headers
        assert "Vary" not in answer.headers
    assert bz2.decompress(server.get(path + ".bz2").content) == plain.content


def raw(server: Served, path: str, accept: str) -> tuple[str | None, bytes]:
    """The coding and the bytes as they are on the wire."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("GET", path, headers={"Accept-Encoding": accept})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.headers["Content-Encoding"], content


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, ""),
        ("", ""),
        ("gzip", "gzip"),
        ("GZIP, deflate, br", "gzip"),
        ("gzip, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=0, zstd;q=0.001", "zstd"),
        ("identity;q=0, gzip;q=0.2", "gzip"),
        ("identity;q=0", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("*", ""),
        ("gzip;q=nonsense", ""),
        ("deflate, br", ""),
    ],
)
def test_the_coding_that_a_client_gets(accept: str | None, expected: str) -> None:
    assert coding(accept) == expected


def test_the_server_can_only_be_read(server: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        answer = server.ask(method, f"/current/main/noarch/{TOOL.filename}")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD"), method


def test_requests_of_other_forms(server: Served) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")

    def talk(text: str) -> bytes:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(text.replace("\n", "\r\n").encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    path = f"/current/main/noarch/{TOOL.filename}"
    old = talk(f"GET {path} HTTP/1.0\n\n")
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in old
    assert old.endswith(TOOL.data)
    assert talk(f"GET http://other.example{path}?x=/../ HTTP/1.1\nHost: x\nConnection: close\n\n").endswith(TOOL.data)
    pipelined = talk(f"GET {path} HTTP/1.1\nHost: x\n\nGET {path} HTTP/1.1\nHost: x\nConnection: close\n\n")
    assert pipelined.count(TOOL.data) == 2
    waiting = server.get(path, Expect="100-continue", Content_Length="5")  # what would come next is not taken for its body
    assert (waiting.content, waiting.headers["Connection"]) == (TOOL.data, "close")
    for nonsense in ("nonsense\n\n", "GET / HTTP/1.1\nHost: x\nbad header\n\n"):
        answer = talk(nonsense)
        assert answer.startswith(b"HTTP/1.") or not answer
        assert b"Traceback" not in answer


@pytest.mark.parametrize("sharded", [True, False])
def test_a_client_solves_and_installs_from_a_date(server: Served, tmp_path: Path, sharded: bool) -> None:
    found = install(f"{server.url}/2026-11-20/main", "tool", tmp_path, sharded=sharded)
    assert set(found) == {"tool", "lib"}
