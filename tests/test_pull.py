"""download = "on-demand": a file is fetched when it is first asked for, passed on while it arrives, and kept.

Whatever upstream does, no client takes a wrong file for a whole one, and upstream is asked for a file once.
"""

import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import urllib3
from blake3 import blake3
from channels import Package, make_package, publish_large
from mirror import Mirror
from pypi_index import Index
from serving import server
from upstream import Body, Fault, Html, Slow, Stall, Status, Truncate, Upstream
from waiting import eventually

#: bytes of a file that is passed on long before it is whole
_LARGE = 4 << 20


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as made:
        yield made


@pytest.fixture
def big(upstream: Upstream) -> Package:
    """A large package of a channel, beside a small one."""
    return publish_large(upstream.root / "chan", _LARGE)


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream, big: Package) -> Mirror:
    """Synced, so that it has the metadata and no package."""
    made = Mirror(tmp_path / "mirror")
    made.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
    made.sync()
    upstream.clear()
    return made


@contextmanager
def serve(mirror: Mirror, *options: str) -> Iterator[str]:
    """The URL of the channel at `current`."""
    mirror.write()
    with server(mirror.config, *options) as (url, _):
        yield f"{url}/current/chan/noarch"


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=30)


def is_held(mirror: Mirror, package: Package) -> bool:
    with mirror.store() as store:
        return store.blobs.size(hashlib.sha256(package.data).digest()) is not None


def test_a_file_is_fetched_once_and_kept_for_every_date(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """The metadata is there before; asking for its size fetches nothing; gc keeps what was fetched."""
    assert not is_held(mirror, big)
    with serve(mirror) as url:
        asked = requests.head(f"{url}/{big.filename}", timeout=10)
        assert (asked.status_code, asked.headers["Content-Length"]) == (200, str(len(big.data)))
        assert get(f"{url}/{big.filename}", **{"If-None-Match": asked.headers["ETag"]}).status_code == 304
        assert upstream.paths() == []
        for _ in range(2):
            answer = get(f"{url}/{big.filename}")
            assert answer.content == big.data
            assert answer.headers["ETag"] == asked.headers["ETag"]
        assert upstream.paths() == [f"/chan/noarch/{big.filename}"]
    with mirror.store() as store:
        row = store.index.blob(hashlib.sha256(big.data).digest())
        assert row
        assert row.blake3 == blake3(big.data).digest()
    mirror.sync()
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")
    upstream.clear()
    with serve(mirror) as url:
        exact = url.replace("current", mirror.snapshots()[0])
        assert get(f"{exact}/{big.filename}").content == big.data
    assert upstream.paths() == []


def test_a_sync_of_an_on_demand_repo_brings_metadata_alone(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """And says so; what was fetched meanwhile stays."""
    planned = mirror.run("sync", "--dry-run")
    assert "To fetch: 0 files" in planned.out
    mirror.sync()
    assert not [path for path in upstream.paths() if path.endswith(".conda")]


def test_many_clients_in_several_processes_follow_one_transfer(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """From its first byte: nobody waits for the end, and upstream is asked once."""
    upstream.fault("*.conda", Slow(8 << 20))
    with serve(mirror, "--workers", "2") as url, ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(get, [f"{url}/{big.filename}"] * 40))
    assert {hashlib.sha256(answer.content).hexdigest() for answer in answers} == {hashlib.sha256(big.data).hexdigest()}
    assert upstream.paths() == [f"/chan/noarch/{big.filename}"]


def test_bytes_are_passed_on_while_they_arrive(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    upstream.fault("*.conda", Stall(_LARGE // 2, 3.0))
    with serve(mirror) as url, requests.get(f"{url}/{big.filename}", stream=True, timeout=10) as answer:
        began = time.monotonic()
        first = answer.raw.read(_LARGE // 4)
        assert time.monotonic() - began < 3.0
        assert first + answer.raw.read() == big.data


def test_parts_of_a_file_that_is_on_its_way(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Each exactly, also from its end, as installers ask that look into archives; one request upstream for all."""
    upstream.fault("*.conda", Slow(8 << 20))
    size = len(big.data)
    parts = {
        "bytes=0-0": (0, 1),
        "bytes=-20": (size - 20, size),
        "bytes=1000000-": (1000000, size),
        "bytes=5-600000": (5, 600001),
    }
    with serve(mirror) as url, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda part: get(f"{url}/{big.filename}", Range=part), parts))
        assert get(f"{url}/{big.filename}", Range=f"bytes={size}-").status_code == 416
    for answer, (start, stop) in zip(answers, parts.values(), strict=True):
        assert (answer.status_code, answer.content) == (206, big.data[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert upstream.paths() == [f"/chan/noarch/{big.filename}"]


#: what upstream may send for a file -> what is said of it
WRONG: dict[str, tuple[Fault, str]] = {
    "other bytes of the same length": (Body(b"x" * 10), "sha256"),
    "a login page": (Html(), "size"),
    "more bytes": (Body(b"x" * 20_000_000), "size"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", ["big", "small"])
def test_wrong_bytes_never_look_whole(mirror: Mirror, upstream: Upstream, big: Package, case: str, name: str) -> None:
    """A small file is refused with a status; of a large one the connection ends short. Nothing of it is kept."""
    fault, said = WRONG[case]
    package = big if name == "big" else make_package("small")
    if case.startswith("other"):
        fault = Body(b"x" * len(package.data))
    upstream.fault("*.conda", fault)
    with serve(mirror) as url:
        try:
            answer = get(f"{url}/{package.filename}")
        except requests.RequestException:
            assert name == "big"
        else:
            assert answer.status_code == 502
            assert said in answer.text
        assert not is_held(mirror, package)
        upstream.heal()
        mirror.sync()  # what was wrong is worth another try once the store knows more
        time.sleep(0.6)
        assert get(f"{url}/{package.filename}").content == package.data


def test_a_broken_transfer_goes_on_where_it_ended(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """The client notices nothing."""
    upstream.fault("*.conda", Truncate(_LARGE // 2), times=1)
    with serve(mirror) as url:
        assert get(f"{url}/{big.filename}").content == big.data
    assert [request.status for request in upstream.requests] == [200, 206]


def test_an_upstream_that_can_not_go_on_never_makes_two_halves_one(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """What was passed on of a transfer that had to begin anew ends short; the next client gets the file."""
    upstream.ranges = False
    upstream.fault("*.conda", Truncate(_LARGE // 2), times=1)
    with serve(mirror) as url:
        with contextlib.suppress(requests.RequestException):
            assert get(f"{url}/{big.filename}").content == big.data  # nothing was passed on yet
        assert get(f"{url}/{big.filename}").content == big.data
    assert len(upstream.requests) == 2


def test_a_client_that_leaves_does_not_end_the_transfer(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    upstream.fault("*.conda", Slow(4 << 20))
    with serve(mirror) as url:
        with requests.get(f"{url}/{big.filename}", stream=True, timeout=10) as answer:
            assert len(answer.raw.read(1)) == 1
        eventually(lambda: is_held(mirror, big))
    assert len(upstream.requests) == 1


def test_a_slow_client_does_not_slow_the_others(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    with serve(mirror) as url, requests.get(f"{url}/{big.filename}", stream=True, timeout=10) as slow:
        assert slow.raw.read(1) == big.data[:1]
        assert get(f"{url}/{big.filename}").content == big.data
        assert big.data[:1] + slow.raw.read() == big.data
    assert len(upstream.requests) == 1


def test_what_upstream_has_lost(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Is a 404 that says so, for whoever asks; upstream is asked once; `status` lists it until it is there again."""
    path = upstream.root / "chan" / "noarch" / big.filename
    path.unlink()
    with serve(mirror) as url:
        for _ in range(5):
            answer = get(f"{url}/{big.filename}")
            assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")
            assert "upstream has lost it" in answer.text
        assert len(upstream.requests) == 1
        assert [lost["name"] for lost in mirror.run("status", "--json").json["lost"]] == [big.filename]
        assert f"lost: {big.filename}" in mirror.run("status").out
        path.write_bytes(big.data)
        mirror.sync()
        time.sleep(0.6)
        assert get(f"{url}/{big.filename}").content == big.data
    assert mirror.run("status", "--json").json["lost"] == []


def test_an_upstream_that_fails(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Is said to have failed, and not that there is no such file; it is asked anew by the next client."""
    upstream.fault("*.conda", Status(500))
    with serve(mirror) as url:
        answer = get(f"{url}/{big.filename}")
        assert (answer.status_code, "upstream answers 500" in answer.text) == (502, True)
        upstream.heal()
        assert get(f"{url}/{big.filename}").content == big.data


def test_an_upstream_that_refuses(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Is not said to have no such file; asking on would be no use for a while, and keeps the host from being thought dead."""
    for status in (401, 403):
        rule = upstream.fault("*.conda", Status(status))
        with serve(mirror) as url:
            for _ in range(6):
                answer = get(f"{url}/{big.filename}")
                assert (answer.status_code, f"upstream answers {status}" in answer.text) == (502, True)
            assert rule.hits == 1
            assert get(f"{url}/small-1.0-0.conda").status_code == 502
        upstream.heal()
    assert mirror.run("status", "--json").json["blocked"] == mirror.run("status", "--json").json["lost"] == []


def test_a_host_that_fails_again_and_again_is_left_alone(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Clients are told at once, and `status` tells the operator; what is held is served meanwhile."""
    with serve(mirror) as url:
        assert get(f"{url}/small-1.0-0.conda").status_code == 200
        upstream.fault("*.conda", Status(503, {"Retry-After": "0"}))
        for _ in range(6):
            answer = get(f"{url}/{big.filename}")
            assert answer.status_code == 502
        assert "left alone" in answer.text
        assert len(upstream.requests) == 1 + 4 * 2  # each with one retry
        assert get(f"{url}/small-1.0-0.conda").status_code == 200
        (blocked,) = mirror.run("status", "--json").json["blocked"]
        assert blocked["host"] == upstream.url.removeprefix("http://")
        assert "left alone until" in mirror.run("status").out


def test_offline(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """What is held is served, across restarts, and nothing is asked for, by a sync neither."""
    with serve(mirror) as url:
        assert get(f"{url}/small-1.0-0.conda").status_code == 200
    mirror.repos[0]["offline"] = True
    upstream.clear()
    assert "is offline" in mirror.sync(status=2).err
    with serve(mirror) as url:
        assert get(f"{url}/repodata.json").status_code == get(f"{url}/small-1.0-0.conda").status_code == 200
        answer = get(f"{url}/{big.filename}")
        assert (answer.status_code, "its repo is offline" in answer.text) == (404, True)
    assert upstream.paths() == []


def test_an_upstream_that_stalls(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Is left and asked for the rest."""
    mirror.settings["download"]["stall"] = "1B/2s"
    upstream.fault("*.conda", Stall(_LARGE // 2, 20.0), times=1)
    with serve(mirror) as url:
        assert get(f"{url}/{big.filename}").content == big.data


def test_the_process_that_fetches_is_killed(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Clients of other processes get their file whole, and upstream is asked for the rest alone."""
    upstream.fault("*.conda", Slow(2 << 20))
    mirror.write()
    with server(mirror.config, "--workers", "2") as (url, process), ThreadPoolExecutor(16) as pool:
        address = f"{url}/current/chan/noarch/{big.filename}"
        clients = [pool.submit(get, address) for _ in range(16)]
        while not upstream.bytes_sent():
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(_who_fetches(mirror, process.pid), signal.SIGKILL)
        answers = [client.result() for client in clients if client.exception() is None]
        assert answers
        assert all(answer.content == big.data for answer in answers)
        assert get(address).content == big.data
    assert [request.status for request in upstream.requests] == [200, 206]


def _who_fetches(mirror: Mirror, supervisor: int) -> int:
    """The worker that has the partial file open for writing."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for child in children:
        for entry in Path(f"/proc/{child}/fdinfo").iterdir():
            target = os.readlink(f"/proc/{child}/fd/{entry.name}")
            flags = int(entry.read_text().split("flags:")[1].split()[0], 8)
            if str(mirror.store_path / "incoming") in target and flags & (os.O_RDWR | os.O_WRONLY):
                return int(child)
    raise AssertionError("nobody fetches")


def test_a_repo_that_is_not_configured(mirror: Mirror, big: Package) -> None:
    """Without a [[repo]] that says where from, a file that is not held can't be had, and the answer says why."""
    mirror.repos.clear()
    with serve(mirror) as url:
        answer = get(f"{url}/{big.filename}")
    assert (answer.status_code, "its repo is not configured here" in answer.text) == (503, True)


def test_a_client_of_http_1_0(mirror: Mirror, big: Package) -> None:
    with serve(mirror) as url:
        parts = requests.compat.urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        connection._http_vsn_str = "HTTP/1.0"  # type: ignore[attr-defined]
        connection.request("GET", f"{parts.path}/{big.filename}")
        assert connection.getresponse().read() == big.data


def test_what_may_not_be_fetched(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Nobody asks upstream for it; what is held is answered all the same. `block` wins over `allow`."""
    with serve(mirror) as url:
        assert get(f"{url}/small-1.0-0.conda").status_code == 200
    upstream.clear()
    keys = mirror.repos[0]
    for keys["block"], keys["allow"], status in (
        (["/noarch/.*"], [], 403),
        ([".*/big-.*"], ["/.*"], 403),
        ([], ["/noarch/small.*"], 403),
        (["noarch/.*", "/noarch/bi", ".*\\.tar\\.bz2"], [".*/b.*"], 200),
    ):
        with serve(mirror) as url:
            assert get(f"{url}/repodata.json").status_code == get(f"{url}/small-1.0-0.conda").status_code == 200
            answer = get(f"{url}/{big.filename}")
            assert answer.status_code == status
            if status == 403:
                assert f"/noarch/{big.filename}: this mirror is set up not to fetch it" in answer.text
                assert upstream.paths() == []
    keys["block"] = ["(/noarch"]
    assert "'(/noarch' is no regular expression" in mirror.sync(status=2).err
    keys["block"], keys["download"] = [".*"], "eager"
    assert "allow and block need download" in mirror.sync(status=2).err


def test_projects_that_may_not_be_fetched(tmp_path: Path) -> None:
    """Of a repo that is one directory, whose paths begin at its own."""
    with Index(tmp_path / "index") as index:
        names = [index.wheel("six", "1.0"), index.wheel("mine", "1.0")]
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("py", f"{index.url}/simple/", kind="pypi", projects=["six", "mine"], download="on-demand")
        mirror.repos[0]["block"] = ["/packages/[^/]*/.*/mine-.*"]
        mirror.sync()
        with server(mirror.config) as (url, _):
            for name, status in zip(names, (200, 403), strict=True):
                page = get(f"{url}/current/py/simple/{name.partition('-')[0]}/", Accept="application/vnd.pypi.simple.v1+json")
                (file,) = page.json()["files"]
                assert get(requests.compat.urljoin(page.url, file["url"])).status_code == status


def test_the_server_ends_although_upstream_is_silent(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Long before upstream is given up; what has arrived is kept, and the client knows that it is not whole."""
    mirror.settings["download"]["stall"] = "1B/60s"
    mirror.write()
    upstream.fault("*.conda", Stall(_LARGE // 2, 60.0))
    with server(mirror.config) as (url, process):
        answer = requests.get(f"{url}/current/chan/noarch/{big.filename}", stream=True, timeout=30)
        answer.raw.read(1000)
        time.sleep(1.5)  # what has arrived is written each second
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            answer.raw.read()
    upstream.heal()
    upstream.clear()
    with serve(mirror) as url:
        assert get(f"{url}/{big.filename}").content == big.data
    assert [request.status for request in upstream.requests] == [206]


def test_what_one_upstream_has_not_another_may_have(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """Two repos list the same file: what came of asking the one's upstream says nothing of the other's."""
    upstream.fault("/chan/noarch/*.conda", Status(404))
    shutil.copytree(upstream.root / "chan", upstream.root / "twin")
    mirror.add("twin", f"{upstream.url}/twin", subdirs=["noarch"], download="on-demand")
    mirror.sync()
    with serve(mirror) as url:
        twin = url.replace("/chan/", "/twin/")
        assert get(f"{url}/{big.filename}").status_code == 404
        assert requests.head(f"{url}/{big.filename}", timeout=10).status_code == 404
        assert requests.head(f"{twin}/{big.filename}", timeout=10).status_code == 200
        assert get(f"{twin}/{big.filename}").content == big.data
