"""kind = "files" with download = "on-demand": installers that are fetched when somebody asks for them, by curl."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mirror import Mirror
from serving import server
from test_files import LINUX, WINDOWS, plain_list, table, write
from upstream import Body, Status, Upstream

CONTENT = {LINUX: b"linux" * 40_000, WINDOWS: b"windows" * 1000}


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """A listing that states sums."""
    with Upstream(tmp_path / "upstream") as made:
        write(made.root / "archive", CONTENT)
        made.fault("/archive/", Body(table(made.root / "archive")))
        yield made


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.settings["download"] |= {"retries": 0}
    made.add("anaconda", f"{upstream.url}/archive/", kind="files", download="on-demand", negative_age="0s")
    return made


def curl(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """As people have it in their scripts."""
    return subprocess.run(["curl", "-sSf", "--max-time", "20", *arguments], capture_output=True, timeout=30)


def test_they_are_fetched_once_and_are_what_the_listing_says(mirror: Mirror, upstream: Upstream) -> None:
    """At a date too, when upstream has them no more; HEAD and a part are answered by what is listed."""
    mirror.sync()
    (sealed,) = mirror.snapshots()
    upstream.clear()
    with server(mirror.config) as (url, _):
        head = requests.head(f"{url}/anaconda/{LINUX}", timeout=20)
        assert (head.status_code, head.headers["Content-Length"]) == (200, "200000")
        assert upstream.paths() == []
        assert curl("-r", "5-9", f"{url}/anaconda/{LINUX}").stdout == b"linux"
        assert curl(f"{url}/current/anaconda/{LINUX}").stdout == CONTENT[LINUX]
        assert upstream.paths() == [f"/archive/{LINUX}"]
        (upstream.root / "archive" / LINUX).unlink()
        assert curl(f"{url}/{sealed}/anaconda/{LINUX}").stdout == CONTENT[LINUX]
        assert LINUX in curl(f"{url}/{sealed}/anaconda/").stdout.decode()
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")


def test_what_upstream_sends_wrong_or_has_lost(mirror: Mirror, upstream: Upstream) -> None:
    """Nobody takes a wrong file for a whole one; what is lost is said, and `status` tells of it until it is found."""
    mirror.sync()
    with server(mirror.config) as (url, _):
        for name in CONTENT:
            upstream.fault(f"/archive/{name}", Body(bytes(len(CONTENT[name]))))
        assert curl(f"{url}/anaconda/{LINUX}").returncode != 0  # cut short: it is larger than what is held back
        answer = requests.get(f"{url}/anaconda/{WINDOWS}", timeout=20)
        assert (answer.status_code, "sha256 is" in answer.text) == (502, True)
        upstream.heal()
        upstream.fault(f"/archive/{WINDOWS}", Status(404))
        answer = requests.get(f"{url}/anaconda/{WINDOWS}", timeout=20)
        assert (answer.status_code, "upstream answers 404" in answer.text) == (404, True)
        assert f"lost: {WINDOWS}" in mirror.run("status").out
        mirror.run("gc")
        assert f"lost: {WINDOWS}" in mirror.run("status").out
        upstream.heal()
        assert curl(f"{url}/anaconda/{WINDOWS}").stdout == CONTENT[WINDOWS]
        assert curl(f"{url}/anaconda/{LINUX}").stdout == CONTENT[LINUX]
    assert "lost:" not in mirror.run("status").out


def test_what_was_lost_and_comes_in_another_way(mirror: Mirror, upstream: Upstream) -> None:
    """Is lost no more; nor is what nothing lists any more."""
    mirror.sync()
    upstream.fault("/archive/*.*", Status(404))
    with server(mirror.config) as (url, _):
        assert [curl(f"{url}/anaconda/{name}").returncode for name in CONTENT] == [22, 22]
    upstream.heal()
    upstream.fault("/archive/", Body(table(upstream.root / "archive")))
    mirror.repos[0] |= {"download": "eager", "include": ["*.sh"]}
    mirror.sync()
    assert [lost["name"] for lost in mirror.run("status", "--json").json["lost"]] == [WINDOWS]
    mirror.run("forget", mirror.snapshots()[0])
    mirror.run("gc")
    with mirror.store() as store:
        assert store.live.lost() == {}


def test_a_listing_that_is_read_on_request(mirror: Mirror, upstream: Upstream) -> None:
    """It shows under `current` what upstream has now, and a date what it had; one that no snapshot has says why."""
    mirror.repos[0] |= {"metadata": "on-request", "max_metadata_age": "1s"}
    mirror.write()
    with server(mirror.config) as (url, _):
        assert curl(f"{url}/anaconda/{LINUX}").stdout == CONTENT[LINUX]
        mirror.sync()
        write(upstream.root / "archive", {"new.sh": b"new"})
        upstream.heal()
        upstream.fault("/archive/", Body(table(upstream.root / "archive")))
        time.sleep(1.1)
        assert curl(f"{url}/anaconda/new.sh").stdout == b"new"
        assert "new.sh" in curl(f"{url}/anaconda/").stdout.decode()
        assert "new.sh" not in curl(f"{url}/{mirror.snapshots()[0]}/anaconda/").stdout.decode()
        assert "files deleted or replaced since" in requests.get(f"{url}/2020-01-01/anaconda/", timeout=20).text
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")


def test_files_of_which_upstream_states_no_sum(mirror: Mirror, upstream: Upstream) -> None:
    """Are brought by the sync: nothing could say, when they are asked for, which bytes were meant."""
    upstream.heal()
    write(upstream.root / "archive", {LINUX: b"abc"})
    upstream.fault("/archive/", Body(plain_list(LINUX)))
    mirror.sync()
    upstream.fault("*", Status(503))
    with server(mirror.config) as (url, _):
        assert curl(f"{url}/anaconda/{LINUX}").stdout == b"abc"
