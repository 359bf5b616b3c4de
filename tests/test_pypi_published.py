"""Several indexes published as one, and an index as a tree for other web servers."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mirror import Mirror
from pypi_index import JSON, Index, make_wheel
from serving import server, serving
from upstream import Body, Status


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with Index(tmp_path / "index") as made:
        made.wheel("ours", "99.0")  # somebody else's, who hopes that it is taken for ours
        made.wheel("six", "1.0")
        yield made


@pytest.fixture
def mirror(tmp_path: Path, index: Index) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    folder = tmp_path / "wheels"
    folder.mkdir()
    put(folder, "ours", "1.0")
    made.repos = [
        {"kind": "pypi", "path": "all", "merge": ["own", "pypi"]},
        {"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": "all"},
        {"kind": "pypi", "path": "own", "packages": str(folder)},
    ]
    return made


def put(folder: Path, name: str, version: str) -> None:
    file, content, _ = make_wheel(name, version)
    (folder / file).write_bytes(content)


def files(url: str, project: str, selector: str = "current") -> dict[str, str]:
    """{file: where the page leads} of a project of the merged repo; {} if it has none."""
    page = f"{url}/{selector}/all/simple/{project}/"
    answer = requests.get(page, headers={"Accept": JSON}, timeout=20)
    if answer.status_code == 404:
        return {}
    return {record["filename"]: requests.compat.urljoin(page, record["url"]) for record in answer.json()["files"]}


def test_a_name_of_ours_hides_what_others_publish_under_it(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    mirror.sync()
    first = mirror.snapshots()[0]
    put(tmp_path / "wheels", "six", "0.1")
    index.wheel("idna", "3.0")
    mirror.sync("pypi")  # and with it all that it is published in
    with serving(mirror.store_path) as url:
        assert set(files(url, "ours")) == {"ours-1.0-py3-none-any.whl"}
        assert set(files(url, "six")) == {"six-0.1-py3-none-any.whl"}
        assert set(files(url, "six", first)) == {"six-1.0-py3-none-any.whl"}
        assert set(files(url, "idna")) == {"idna-3.0-py3-none-any.whl"}
        assert (
            requests.get(f"{url}/current/all/simple/ours/", headers={"Accept": JSON}, timeout=20).json()["_snapmirror-from"]
            == "own"
        )
        for project in ("ours", "six", "idna"):
            for file, address in files(url, project).items():
                assert "/all/packages/" in address
                assert address.endswith(file)
                assert requests.get(address, timeout=20).status_code == 200
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")


def test_nothing_is_published_without_the_first(mirror: Mirror, tmp_path: Path) -> None:
    """Else its names would be anybody's. One that was there keeps its old state."""
    shutil.move(tmp_path / "wheels", tmp_path / "away")
    mirror.sync(status=3).line("all: own", "has no state yet")
    assert "all" not in mirror.record().repos
    shutil.move(tmp_path / "away", tmp_path / "wheels")
    mirror.sync()
    assert set(mirror.reader("all/").leaves) == {"ours", "six"}
    shutil.move(tmp_path / "wheels", tmp_path / "away")
    mirror.sync(status=3)
    assert set(mirror.reader("all/").leaves) == {"ours", "six"}


def test_a_name_of_ours_stays_ours_while_its_file_is_being_written(mirror: Mirror, tmp_path: Path) -> None:
    put(tmp_path / "wheels", "also", "1.0")  # of nothing but one file the old state would be kept
    mirror.sync()
    file, content, _ = make_wheel("ours", "1.0")
    (tmp_path / "wheels" / file).write_bytes(content[:-20])
    mirror.sync(status=3)
    assert set(mirror.reader("all/").leaves) == {"also", "six"}
    (tmp_path / "wheels" / file).write_bytes(content)
    mirror.sync()
    assert b"own" in (mirror.reader("all/").read_leaf("ours") or b"")


def test_a_name_of_ours_stays_ours_while_there_is_no_room_for_its_files(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    with Index(tmp_path / "private") as ours:
        mirror.repos[2] = {"kind": "pypi", "path": "own", "upstream": f"{ours.url}/simple/", "projects": "all"}
        ours.wheel("ours", "1.0")
        mirror.sync()
        index.wheel("acme", "99.0")
        ours.wheel("acme", "1.0", size=shutil.disk_usage(tmp_path).total * 2)
        mirror.sync(status=3).line("own: ", "nothing was fetched")
        assert set(mirror.reader("all/").leaves) == {"ours", "six"}


def test_an_index_that_is_offline_is_not_asked_for_the_sake_of_another(mirror: Mirror, index: Index) -> None:
    mirror.repos[1]["offline"] = True
    mirror.sync(status=3).line("pypi: ", "its repo is offline")
    assert index.requests == []
    assert list(mirror.record().repos) == ["own"]


@pytest.mark.parametrize("before", ["redirect", "on-demand"])
def test_what_keeps_a_state_without_its_files_is_not_merged_into_what_has_them(
    before: str, mirror: Mirror, index: Index, tmp_path: Path
) -> None:
    mirror.repos = [
        {"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": ["six"]},
        {"kind": "pypi", "path": "all", "merge": ["pypi"]},
    ]
    for repo in mirror.repos:
        repo["download"] = before
    mirror.sync()
    for repo in mirror.repos:
        repo["download"] = "eager"
    index.fault("/packages/*", Status(503))
    mirror.sync(status=None)
    mirror.run("check")
    index.heal()
    mirror.sync()
    mirror.run("check")
    assert mirror.reader("all/").document.mode == "eager"


@pytest.mark.parametrize("spec", ["ours", "ours==1.0"])
def test_a_name_of_ours_that_is_denied_becomes_nobody_elses(spec: str, mirror: Mirror) -> None:
    mirror.sync()
    mirror.run("deny", "own", spec, "--reason", "stolen key")
    mirror.run("deny", "pypi", "six", "--reason", "not that one")
    mirror.sync(status=None)
    reader = mirror.reader("all/")
    assert set(reader.leaves) <= {"ours"}
    assert b".whl" not in (reader.read_leaf("ours") or b"")
    mirror.run("allow", "own", spec)
    mirror.sync()
    assert b"ours-1.0-py3" in (mirror.reader("all/").read_leaf("ours") or b"")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/simple/acme/", Status(503)),
        ("/simple/acme/", Status(403)),
        ("/simple/acme/", Status(404)),
        ("/simple/acme/", Body(b"{")),
        ("/simple/acme/", Body(b'{"meta": {"api-version": "1.4", "_last-serial": 1}, "name": "acme", "files": []}')),
        ("/packages/*/acme-1.0*", Status(503)),
    ],
    ids=["page fails", "page is forbidden", "page is missing", "page is none", "page is old", "file fails"],
)
def test_a_name_of_ours_is_ours_from_the_first_time_that_it_is_listed(
    path: str, fault: object, mirror: Mirror, index: Index, tmp_path: Path
) -> None:
    """Even if nothing of it can be published yet, and while the list can't be read again. What it lists no more is not ours."""
    (tmp_path / "private").mkdir()
    with Index(tmp_path / "private") as ours:
        mirror.repos[2] = {"kind": "pypi", "path": "own", "upstream": f"{ours.url}/simple/", "projects": "all"}
        mirror.settings["download"]["retries"] = 0
        ours.wheel("ours", "1.0")
        ours.wheel("fine", "1.0")
        mirror.sync()
        index.wheel("acme", "99.0")
        ours.wheel("acme", "1.0")
        ours.fault(path, fault)  # type: ignore[arg-type]
        mirror.sync(status=3).line("own", "acme", "keeps its old state")
        assert set(mirror.reader("all/").leaves) == {"ours", "fine", "six"}
        assert mirror.reader("own/").document.aside == ("acme",)
        ours.fault("/simple/", Status(503))
        index.wheel("new", "1.0")
        mirror.sync(status=3)  # who knows whether `new` is ours by now
        assert set(mirror.reader("all/").leaves) == {"ours", "fine", "six"}
        ours.heal()
        mirror.sync()
        assert set(mirror.reader("all/").leaves) == {"ours", "fine", "six", "acme", "new"}
        assert b"acme-1.0-" in (mirror.reader("all/").read_leaf("acme") or b"")
        del ours.pages["acme"]
        ours.touch("fine")
        mirror.sync()
        assert b"acme-99.0-" in (mirror.reader("all/").read_leaf("acme") or b"")
        ours.wheel("acme", "2.0")
        ours.fault(path.replace("1.0", "2.0"), fault)  # type: ignore[arg-type]
        mirror.sync(status=3)
        assert mirror.reader("all/").leaf("acme") is None
        del ours.pages["acme"]
        ours.touch("fine")
        mirror.sync()
        assert mirror.reader("own/").document.aside == ()
        assert b"acme-99.0-" in (mirror.reader("all/").read_leaf("acme") or b"")


def test_a_name_of_ours_is_ours_while_it_is_too_young(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    """Of a new project nothing is old enough yet: in these days nobody gets another one of that name."""
    with Index(tmp_path / "private") as ours:
        mirror.repos[2] = {"kind": "pypi", "path": "own", "upstream": f"{ours.url}/simple/", "projects": "all"}
        mirror.repos[2]["select"] = {"min_age": "7d"}
        ours.wheel("ours", "1.0", upload_time="2024-01-01T00:00:00Z")
        ours.wheel("acme", "1.0", upload_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        index.wheel("acme", "99.0")
        mirror.sync()
        assert set(mirror.reader("all/").leaves) == {"ours", "six"}
        mirror.sync()
        assert set(mirror.reader("all/").leaves) == {"ours", "six"}
        ours.pages["acme"]["files"][0]["upload-time"] = "2024-01-01T00:00:00Z"
        ours.touch("acme")
        mirror.sync()
        assert b"acme-1.0-" in (mirror.reader("all/").read_leaf("acme") or b"")
        assert mirror.reader("own/").document.aside == ()


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"merge": ["own", "nowhere"]}, "nowhere"),
        ({"merge": ["own", "all"]}, "no index of this file with files of its own"),
        ({"merge": ["own"], "upstream": "PyPI"}, "both upstream and merge"),
        ({"merge": ["own"], "projects": ["six"]}, "merge has none"),
    ],
)
def test_a_merge_that_cannot_be_meant(keys: dict[str, object], why: str, mirror: Mirror) -> None:
    mirror.repos[0] |= keys
    assert why in mirror.sync(status=2).err


def test_a_merge_with_an_index_that_is_read_on_request(mirror: Mirror) -> None:
    """Nobody knows which names it has, so nobody can tell whose a name is."""
    for repo in mirror.repos:
        if repo["path"] != "own":
            repo["download"] = "on-demand"
        if repo["path"] == "pypi":
            repo |= {"metadata": "on-request", "projects": []}
    assert "nobody knows what it has" in mirror.sync(status=2).err


def test_own_files_and_what_is_fetched_on_demand(mirror: Mirror, index: Index) -> None:
    """Published as one: ours are there, the others come when they are asked for."""
    for repo in mirror.repos:
        if repo["path"] != "own":
            repo["download"] = "on-demand"
    mirror.sync()
    index.clear()
    with server(mirror.config) as (url, _):
        for project, requests_upstream in (("ours", 0), ("six", 1)):
            [address] = files(url, project).values()
            assert requests.get(address, timeout=10).status_code == 200
            assert len(index.paths()) == requests_upstream


def test_a_tree_for_other_web_servers(mirror: Mirror, index: Index, tmp_path: Path) -> None:
    """In bandersnatch's layout, if the configuration asks for it: any server of files is an index then."""
    mirror.repos = mirror.repos[1:2]
    mirror.sync()
    mirror.run("tree", "current").line("nothing to export")
    assert not mirror.tree("pypi").exists()
    mirror.settings["publish"] = {"trees": ["pypi"]}
    mirror.sync()
    tree = mirror.tree("pypi")
    page = json.loads((tree / "simple/six/index.v1_json").read_text())
    assert (tree / "simple/six" / page["files"][0]["url"]).resolve().read_bytes() == make_wheel("six", "1.0")[1]
    assert json.loads((tree / "simple/index.v1_json").read_text())["projects"] == [
        {"_last-serial": 101, "name": "ours"},
        {"_last-serial": 102, "name": "six"},
    ]
    assert "six-1.0-py3-none-any.whl" in (tree / "simple/six/index.html").read_text()
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")
