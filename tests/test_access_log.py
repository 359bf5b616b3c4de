"""access_log: a line for each answer, with where it came from, what was sent, and nothing that is secret."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from channels import Package, publish_large
from mirror import TIMEOUT, Mirror
from pypi_index import Index
from serving import server
from upstream import Slow, Status, Upstream
from waiting import eventually

COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "(?P<request>[^"]*)" (?P<status>\d{3}) '
    r'(?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<cache>[a-z]+|-) '
    r"(?P<seconds>\d+\.\d{3}) (?P<upstream>\d+\.\d{3}|-)"
)
_LARGE = 16 << 20


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream") as made:
        yield made


@pytest.fixture
def big(upstream: Upstream) -> Package:
    return publish_large(upstream.root / "chan", _LARGE)


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream, big: Package) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.add("chan", f"{upstream.url}/chan", subdirs=["noarch"], download="on-demand")
    made.settings["serve"] = {"access_log": "access.log"}
    made.sync()
    return made


def lines(path: Path, count: int) -> list[dict[str, Any]]:
    """The log's lines, once there are so many: each is written when its answer is over."""
    for _ in range(500):
        found = path.read_text().splitlines()
        if len(found) >= count:
            break
        time.sleep(0.02)
    assert len(found) == count, found
    if found[0].startswith("{"):
        return [json.loads(line) for line in found]
    matched = [COMBINED.fullmatch(line) for line in found]
    return [match.groupdict() if match else pytest.fail(str(found)) for match in matched]


def raw(url: str, request: str) -> None:
    """Send a request as it is, and read the answer."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(request.encode())
        while connection.recv(65536):
            pass


def test_where_files_come_from_and_what_was_sent(mirror: Mirror, upstream: Upstream, big: Package) -> None:
    """miss, follow and hit, of whole files, parts and nothing; by a client that leaves, what it has taken."""
    upstream.fault("*.conda", Slow(32 << 20))
    log, size = mirror.root / "access.log", len(big.data)
    with server(mirror.config, "--workers", "2") as (url, _):
        file = f"{url}/current/chan/noarch/{big.filename}"
        requests.head(file, timeout=10)
        with ThreadPoolExecutor(4) as pool:
            assert {len(answer.content) for answer in pool.map(lambda _: requests.get(file, timeout=20), range(4))} == {size}
        coming = lines(log, 5)[1:]
        assert sorted(line["cache"] for line in coming) == ["follow", "follow", "follow", "miss"]
        assert {line["bytes"] for line in coming} == {str(size)}
        (miss,) = [line for line in coming if line["cache"] == "miss"]
        assert 0.3 < float(miss["upstream"]) <= float(miss["seconds"]) + 0.001
        assert {line["upstream"] for line in coming if line is not miss} == {"-"}
        requests.get(file, headers={"Range": "bytes=5-14", "User-Agent": "it"}, timeout=10)
        requests.get(f"{url}/current/chan/nothing", timeout=10)
        with requests.get(file, stream=True, timeout=10) as answer:
            assert answer.raw.read(1)
        told = lines(log, 8)
    assert (told[0]["request"], told[0]["bytes"], told[0]["cache"]) == (
        f"HEAD /current/chan/noarch/{big.filename} HTTP/1.1",
        "0",
        "-",
    )
    assert (told[5]["status"], told[5]["bytes"], told[5]["cache"], told[5]["agent"]) == ("206", "10", "hit", "it")
    assert (told[6]["status"], told[6]["cache"]) == ("404", "-")
    assert told[7]["cache"] == "hit"
    assert 0 < int(told[7]["bytes"]) < size


def test_no_secret_and_no_forged_line(mirror: Mirror) -> None:
    with server(mirror.config) as (url, _):
        for target in (
            "http://tom:s3cret@mirror/current/chan/?a=b",
            "/t/s3cret/chan/",
            "/current/t/s3cret/chan/",
            "/t/s3cret",
            "http://mirror/t/s3cret/chan/",
        ):
            secret = "Authorization: Basic czNjcmV0\r\nReferer: http://tom:s3cret@x/mirror/current/t/s3cret/y\r\n"
            raw(url, f'GET {target} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{secret}User-Agent: a" \\ ü\r\n\r\n')
        raw(url, "nonsense\r\n\r\n")
        told = lines(mirror.root / "access.log", 6)
    assert [line["request"] for line in told[:5]] == [
        "GET http://mirror/current/chan/?a=b HTTP/1.1",
        "GET /t/-/chan/ HTTP/1.1",
        "GET /current/t/-/chan/ HTTP/1.1",
        "GET /t/- HTTP/1.1",
        "GET http://mirror/t/-/chan/ HTTP/1.1",
    ]
    assert (told[0]["referer"], told[0]["agent"]) == ("http://x/mirror/current/t/-/y", r"a\x22 \x5C \xC3\xBC")
    assert told[5]["status"] == "400"
    text = (mirror.root / "access.log").read_text()
    assert "s3cret" not in text
    assert "czNjcmV0" not in text


def test_metadata_as_json_lines(tmp_path: Path) -> None:
    """revalidated, hit and stale, where pages are read on request."""
    with Index(tmp_path / "upstream") as index:
        index.wheel("six", "1.0")
        mirror = Mirror(tmp_path / "mirror")
        keys = {"kind": "pypi", "download": "on-demand", "metadata": "on-request"}
        mirror.repos.append({"path": "pypi", "upstream": index.url, **keys})
        mirror.settings["serve"] = {"access_log": str(tmp_path / "log"), "access_log_format": "json"}
        for age, wait, faults in (("1h", 0.0, (None, None)), ("1s", 1.1, (None, Status(503, {"Retry-After": "0"})))):
            mirror.repos[-1]["max_metadata_age"] = age
            mirror.write()
            with server(mirror.config) as (url, _):
                for fault in faults:
                    time.sleep(wait)
                    if fault:
                        index.fault("/simple/*", fault)
                    answer = requests.get(f"{url}/pypi/simple/six/", headers={"Referer": "http://x/ü".encode()}, timeout=20)
                    assert answer.status_code == 200
        told = lines(tmp_path / "log", 4)
    assert [line["cache"] for line in told] == ["revalidated", "hit", "revalidated", "stale"]
    assert [line["upstream_seconds"] is None for line in told] == [False, True, False, False]
    assert told[0]["bytes"] == int(answer.headers["Content-Length"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told[0]["time"])
    assert (told[0]["method"], told[0]["target"], told[0]["referer"]) == ("GET", "/pypi/simple/six/", "http://x/ü")


def test_logrotate(mirror: Mirror) -> None:
    """It renames the file and sends SIGHUP: every line is in one file or the other."""
    log, old = mirror.root / "access.log", mirror.root / "access.log.1"
    with server(mirror.config, "--workers", "2") as (url, process):
        file = f"{url}/current/chan/noarch/small-1.0-0.conda"
        assert requests.get(file, timeout=TIMEOUT).status_code == 200
        lines(log, 1)
        log.rename(old)
        assert requests.get(file, timeout=TIMEOUT).status_code == 200
        lines(old, 2)
        process.send_signal(signal.SIGHUP)
        eventually(log.exists)
        eventually(lambda: requests.get(file, timeout=TIMEOUT).status_code == 200 and log.read_text().count("\n") > 0)


def test_standard_output(mirror: Mirror) -> None:
    mirror.settings["serve"]["access_log"] = "-"
    mirror.write()
    process = mirror.start("serve", "--port", "0")
    assert process.stderr
    url = process.stderr.readline().split()[-1]
    assert requests.get(url, timeout=10).status_code == 200
    process.terminate()
    assert COMBINED.fullmatch(Mirror.finish(process).out.strip())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"access_log": "no/such/folder/log"}, "access_log"),
        ({"access_log": "log", "access_log_format": "common"}, "access_log_format"),
    ],
)
def test_what_can_not_be_written(mirror: Mirror, keys: dict[str, str], said: str) -> None:
    mirror.settings["serve"] = keys
    assert said in mirror.run("serve", "--port", "0", status=2).err
