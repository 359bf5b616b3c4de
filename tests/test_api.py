"""The API for programs: every question is answered as its description says, and as the command line does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from channels import Channel, make_package
from inprocess import store_at, sync, ticking
from mirror import Mirror
from serving import server
from upstream import Upstream

from snapmirror.conda import CondaRepo
from snapmirror.sync.searcher import Searcher

MONDAY, TUESDAY = "20260601T000000Z", "20260602T000000Z"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mirror, str]]:
    """A mirror of two days, and the address of its API."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "upstream").mkdir()
    with Upstream(folder / "upstream") as upstream:
        channel = Channel(upstream.root / "chan", subdirs=["linux-64"])
        channel.add(make_package("lib"), make_package("tool", subdir="linux-64"))
        channel.publish()
        mirror = Mirror(folder / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
        mirror.sync("--seal-as", MONDAY)
        channel.add(make_package("lib", "2.0"))
        channel.publish()
        mirror.sync("--seal-as", TUESDAY)
        mirror.run("pin", "paper", MONDAY)
    with server(mirror.config) as (url, _):
        yield mirror, f"{url}/-/api/v1"


def get(url: str, **query: str) -> Any:
    answer = requests.get(url, params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    again = requests.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=30)
    assert again.status_code == 304 or "health" in url  # free space and ages change with every second
    return answer.json()


def test_every_answer_is_of_the_form_that_the_description_gives(made: tuple[Mirror, str]) -> None:
    _, url = made
    described = get(f"{url}/openapi.json")
    assert described["openapi"] == "3.1.0"
    values = {"selector": "2026-06-01", "old": MONDAY, "new": "current", "name": "lib", "what": "lib-2.0-0.conda"}
    for path, operations in described["paths"].items():
        operation = operations["get"]
        assert {one["name"] for one in operation["parameters"] if one["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        answer = get(url + re.sub(r"{(\w+)}", lambda found: values[found[1]], path))
        jsonschema.validate(answer, schema | {"components": described["components"]})


def test_answers_are_those_of_the_command_line(made: tuple[Mirror, str]) -> None:
    mirror, url = made
    assert get(f"{url}/snapshots/current") == mirror.run("show", "current", "--json").json
    assert get(f"{url}/snapshots")["snapshots"] == mirror.run("snapshots", "--json").json["snapshots"][::-1]
    assert get(f"{url}/diff/paper/current") == mirror.run("diff", "paper", "current", "--json").json
    assert get(f"{url}/log/lib") == mirror.run("log", "lib", "--json").json
    assert get(f"{url}/which/lib-2.0-0.conda") == mirror.run("which", "lib-2.0-0.conda", "--json").json
    digest = get(f"{url}/packages/lib")["files"][0]["sha256"].upper()
    assert get(f"{url}/which/{digest}") == mirror.run("which", digest, "--json").json
    assert get(f"{url}/log/lib", repo="chan") == mirror.run("log", "lib", "chan", "--json").json


def test_the_list_of_snapshots_goes_on_where_it_ended(made: tuple[Mirror, str]) -> None:
    _, url = made
    found = get(f"{url}/snapshots", before=TUESDAY)
    assert [one["id"] for one in found["snapshots"]] == [MONDAY]
    assert found["snapshots"][0]["pins"] == ["paper"]
    assert found["next"] is None


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("snapshots/20200101T000000Z", 404, "there is no snapshot of chan at or before it"),
        ("snapshots/nonsense", 404, "nonsense: is neither"),
        ("diff/current/current?repo=other", 400, "other: there is no repo at or below it"),
        ("log/lib?depth=2", 400, "depth: there is no such parameter (there are: repo)"),
        ("weather", 404, "openapi.json lists them all"),
        ("health/lib", 404, "there is no such question"),
        ("calendar?begin=2026-02-30", 400, "begin=2026-02-30: no day"),
        ("changes/current/current?what=new", 400, "what=new: is none of added, removed, changed"),
        ("packages?offset=-1", 400, "offset=-1: no number"),
        ("packages/nobody", 400, "nobody: no kept snapshot lists it"),
    ],
)
def test_what_can_not_be_answered(made: tuple[Mirror, str], path: str, status: int, message: str) -> None:
    answer = requests.get(f"{made[1]}/{path}", timeout=30)
    assert answer.status_code == status
    assert message in answer.json()["message"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_was_forgotten_is_not_taken_for_a_repo_that_was_not_there(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    mirror.add("other", f"{upstream.url}/chan")
    mirror.sync("--seal-as", MONDAY, "other")
    mirror.sync("--seal-as", TUESDAY, "chan")
    mirror.sync()
    mirror.run("forget", TUESDAY)
    with server(mirror.config) as (url, _):
        for question in ("diff", "changes"):
            for days in ("2026-06-02/current", "2026-06-01/2026-06-02"):
                answer = requests.get(f"{url}/-/api/v1/{question}/{days}", timeout=30)
                assert answer.status_code == 410
                assert f"2026-06-02: snapshot {TUESDAY} was forgotten; the nearest kept" in answer.json()["message"]
        assert get(f"{url}/-/api/v1/changes/2026-06-02/current", repo="other")["changes"] == []
        assert list(get(f"{url}/-/api/v1/snapshots/2026-06-02")["forgotten"]) == ["chan"]
        assert "chan is left out: " in requests.get(f"{url}/-/page/snapshot?id=2026-06-02", timeout=30).text


def test_a_path_names_a_file_of_the_mirror_and_none_of_the_machine(made: tuple[Mirror, str]) -> None:
    found = get(f"{made[1]}/which/..%2F..%2Fetc%2Fpasswd")
    assert found == get(f"{made[1]}/which/..%2F../etc/passwd")  # as some proxies have it
    assert [one["missing"][0]["why"] for one in found["ranges"]] == ["it is not listed"]


def test_a_package_with_all_its_files_and_their_snapshots(made: tuple[Mirror, str]) -> None:
    new, old = get(f"{made[1]}/packages/lib")["files"]
    assert (new["file"], new["version"], new["spans"]) == ("lib-2.0-0.conda", "2.0", [{"first": TUESDAY, "last": TUESDAY}])
    assert (old["file"], old["spans"], old["current"]) == ("lib-1.0-0.conda", [{"first": MONDAY, "last": TUESDAY}], True)
    assert old["upstream"].endswith("/chan/noarch/lib-1.0-0.conda")
    assert [one["file"] for one in get(f"{made[1]}/packages/lib==2.0")["files"]] == ["lib-2.0-0.conda"]


def test_packages_are_found_by_a_part_of_their_name(made: tuple[Mirror, str]) -> None:
    found = get(f"{made[1]}/packages", q="OO")
    assert found["found"] == [{"name": "tool", "repos": {"chan": TUESDAY}}]
    assert (found["count"], found["reached"], found["complete"]) == (1, MONDAY, True)
    assert get(f"{made[1]}/packages", q="%")["found"] == get(f"{made[1]}/packages", q="x" * 5000)["found"] == []


def test_names_are_found_of_all_that_came_since_a_store_without_snapshots_was_searched(
    tmp_path: Path, channel: Channel
) -> None:
    with store_at(tmp_path / "store", ticking()) as store:
        searcher = Searcher(store)
        assert searcher.search(store.catalog(), "", None, 9).count == 0
        for path in ("old", "new"):  # the second snapshot holds the second repo alone
            sync(store, CondaRepo(path=path, upstream=channel.root.as_uri()))
        found = searcher.search(store.catalog(), "data", ["old"], 9)
    assert ([one.name for one in found.found], found.complete) == (["data"], True)


def test_days_with_what_changed_on_each(made: tuple[Mirror, str]) -> None:
    found = get(f"{made[1]}/calendar", begin="2026-06-01", end="2026-06-30")
    monday = {"day": "2026-06-01", "snapshots": [MONDAY], "pins": {"paper": MONDAY}, "changed": 2, "estimated": False}
    tuesday = {"day": "2026-06-02", "snapshots": [TUESDAY], "pins": {}, "changed": 1, "estimated": False}
    assert found == {"days": [monday, tuesday], "first": "2026-06-01", "last": "2026-06-02"}


def test_the_packages_that_differ_between_two_snapshots(made: tuple[Mirror, str]) -> None:
    found = get(f"{made[1]}/changes/{MONDAY}/{TUESDAY}", what="changed", q="LI")
    assert found["changes"] == get(f"{made[1]}/changes/{MONDAY}/{TUESDAY}")["changes"]
    assert get(f"{made[1]}/changes/{MONDAY}/{TUESDAY}", what="added")["changes"] == []
    assert found["changes"] == [{"repo": "chan", "directory": "noarch", "name": "lib", "what": "changed"}]


def test_how_the_mirror_fares(made: tuple[Mirror, str]) -> None:
    found = get(f"{made[1]}/health")
    assert [(one["repo"], one["files"], one["withheld"]) for one in found["repos"]] == [("chan", 3, 0)]
    assert [(one["verb"], one["repo"], one["good"]) for one in found["runs"]] == [("sync", "chan", True)]
    assert [one["day"] for one in found["growth"]] == ["2026-06-01", "2026-06-02"]
    assert found["growth"][0]["bytes"] < found["growth"][1]["bytes"] < found["stored"] < found["referenced"] * 9
