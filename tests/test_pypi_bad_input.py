"""What an index gets wrong, seen by who runs the mirror: a message that names it, a status, nothing lost, the others go on."""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from mirror import Mirror
from pypi_index import JSON, Index, make_wheel
from serving import serving
from upstream import Body, Html, Status


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as made:
        yield made


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """Without any repo yet."""
    return Mirror(tmp_path / "mirror")


def repo(index: Index, projects: Any, path: str = "pypi", **keys: Any) -> dict[str, Any]:
    return {"kind": "pypi", "path": path, "upstream": f"{index.url}/simple/", "projects": projects, **keys}


def published(url: str, path: str = "pypi") -> dict[str, list[str]]:
    """{project: its files} as served. Each is there, and is what its page says; so is its metadata."""
    found = {}
    with requests.Session() as session:
        base = f"{url}/current/{path}/simple/"
        listed = session.get(base, headers={"Accept": JSON}, timeout=10).json()["projects"]
        for name in (project["name"] for project in listed):
            files = session.get(f"{base}{name}/", headers={"Accept": JSON}, timeout=10).json()["files"]
            found[name] = sorted(file["filename"] for file in files)
            for file in files:
                address = urljoin(f"{base}{name}/", file["url"])
                assert hashlib.sha256(session.get(address, timeout=10).content).hexdigest() == file["hashes"]["sha256"]
                metadata = session.get(f"{address}.metadata", timeout=10)
                assert metadata.status_code == (200 if file["core-metadata"] else 404)
                if file["core-metadata"]:
                    assert hashlib.sha256(metadata.content).hexdigest() == file["core-metadata"]["sha256"]
    return found


# Files


def wheel(index: Index, project: str, **keys: Any) -> dict[str, Any]:
    """A second wheel."""
    index.wheel(project, "2.0", **keys)
    return index.pages[project]["files"][-1]


def is_not_there(index: Index, project: str) -> None:
    record = wheel(index, project)
    record["url"], record["core-metadata"] = f"{record['url']}.gone", False


def has_a_twin(index: Index, project: str) -> None:
    index.pages[project]["files"].append(wheel(index, project) | {"hashes": {"sha256": "b" * 64}})


def has_a_path(index: Index, project: str) -> None:
    record = wheel(index, project)
    record["filename"] = f"../../{record['filename']}"


#: {project: (what is wrong with its second file, why it is withheld)}
BAD_FILES: dict[str, tuple[Callable[[Index, str], object], str]] = {
    "sha256": (lambda index, name: wheel(index, name, hashes={"sha256": "a" * 64}), f"the metadata says {'a' * 64}"),
    "md5": (lambda index, name: wheel(index, name, hashes={"md5": "a" * 32}), f"the metadata says {'a' * 32}"),
    "sha512": (lambda index, name: wheel(index, name, hashes={"sha512": "a" * 128}), f"the metadata says {'a' * 128}"),
    "size": (lambda index, name: wheel(index, name, size=7), "the metadata says 7"),
    "nothing": (lambda index, name: wheel(index, name, hashes={}, size=None), "neither a hash nor a size"),
    "time": (lambda index, name: wheel(index, name, upload_time="yesterday"), "its upload-time 'yesterday' is no time"),
    "missing": (is_not_there, "404"),
    "twin": (has_a_twin, "two records give it different hashes"),
    "other": (lambda index, name: index.upload(name, "another-2.0-py3-none-any.whl"), "belongs to another project"),
    "path": (has_a_path, "unsafe"),
}


@pytest.mark.parametrize("projects", [[*BAD_FILES, "good"], "all"], ids=["listed", "all"])
def test_bad_files_are_withheld(projects: Any, index: Index, mirror: Mirror) -> None:
    """Each alone, and each is told of once; when it is right it is there."""
    for project in [*BAD_FILES, "good"]:
        index.wheel(project, "1.0")
    mirror.repos = [repo(index, projects)]
    mirror.sync()
    index.wheel("good", "2.0")
    files = {}
    for project, (happen, _) in BAD_FILES.items():
        happen(index, project)
        files[project] = index.pages[project]["files"][-1]["filename"]
    told = mirror.sync(status=3)
    for project, (_, reason) in BAD_FILES.items():
        assert reason in told.line(f"pypi/{files[project]}: withheld")
    first = {project: [f"{project}-1.0-py3-none-any.whl"] for project in BAD_FILES}
    with serving(mirror.store_path) as url:
        assert published(url) == first | {"good": ["good-1.0-py3-none-any.whl", "good-2.0-py3-none-any.whl"]}

    assert "withheld" not in mirror.sync().err
    assert set(files.values()) <= set(mirror.withheld("pypi/"))
    mirror.sync("--strict", status=3)
    for project in BAD_FILES:
        index.pages[project]["files"] = index.pages[project]["files"][:1]
        wheel(index, project)
    mirror.sync("--strict")
    with serving(mirror.store_path) as url:
        assert {len(files) for files in published(url).values()} == {2}


def test_metadata_that_can_not_be_had(index: Index, mirror: Mirror) -> None:
    """Is not advertised, for clients would stop at it; the wheels are there."""
    wrong, other, missing, good = (index.wheel(name, "1.0") for name in ("wrong", "other", "missing", "good"))
    index.pages["wrong"]["files"][0]["core-metadata"] = {"sha256": "a" * 64}
    index.pages["other"]["files"][0]["core-metadata"] = {"md5": "a" * 32}
    (record,) = index.pages["missing"]["files"]
    (index.root / f"{record['url'].removeprefix(index.url)[1:]}.metadata").unlink()
    mirror.repos = [repo(index, ["wrong", "other", "missing", "good"])]
    told = mirror.sync(status=3)
    assert f"the metadata says {'a' * 64}" in told.line(f"pypi/{wrong}.metadata: withheld")
    assert f"the metadata says {'a' * 32}" in told.line(f"pypi/{other}.metadata: withheld")
    assert "404" in told.line(f"pypi/{missing}.metadata: withheld")
    with serving(mirror.store_path) as url:
        assert published(url) == {"good": [good], "missing": [missing], "other": [other], "wrong": [wrong]}
    assert set(mirror.withheld("pypi/")) == {f"{file}.metadata" for file in (wrong, other, missing)}


def test_a_wheel_without_metadata(index: Index, mirror: Mirror) -> None:
    """Where neither upstream nor the wheel has any, none is advertised; where only the wheel has, it is taken from there, and
    where upstream states no sum of what it has: that may be the login page of some proxy.
    """
    body = BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("bad.py", "")
    bad, (good, content, _) = "bad-1.0-py3-none-any.whl", make_wheel("good", "1.0")
    index.upload("bad", bad, body.getvalue())
    index.upload("good", good, content)
    portal = index.wheel("portal", "1.0", core_metadata=True)
    index.fault(f"/packages/*/{portal}.metadata", Html())
    names = ["bad", "good", "portal"]
    mirror.repos = [repo(index, names)]
    mirror.sync("--strict")
    mirror.sync("--strict")
    with serving(mirror.store_path) as url:
        assert published(url) == {"bad": [bad], "good": [good], "portal": [portal]}
        pages = [requests.get(f"{url}/pypi/simple/{name}/", headers={"Accept": JSON}, timeout=10) for name in names]
    stated = [page.json()["files"][0]["core-metadata"] for page in pages]
    expected = [make_wheel(name, "1.0")[2] for name in names[1:]]
    assert stated == [False, *({"sha256": hashlib.sha256(metadata).hexdigest()} for metadata in expected)]


def test_a_file_that_upstream_fails_to_send(index: Index, tmp_path: Path, mirror: Mirror) -> None:
    """Is not taken for one that is not there: its project waits for it while others go on, and is complete a sync later."""
    with Index(tmp_path / "second") as second:
        mirror.repos = [repo(index, ["six", "idna"]), repo(second, [], "second") | {"projects": "all"}]
        for one in (index, second):
            one.wheel("six", "1.0")
            one.wheel("idna", "1.0")
        mirror.sync()
        for one in (index, second):
            one.wheel("six", "2.0")
            one.wheel("idna", "2.0")
            late = one.wheel("six", "2.1")
            one.wheel("new", "1.0")
            one.fault(f"/packages/*/{late}", Status(503))
        told = mirror.sync(status=3)
        told.line("six", late, "upstream answers 503", "it keeps its old state")
        with serving(mirror.store_path) as url:
            assert {name: len(files) for name, files in published(url).items()} == {"six": 1, "idna": 2}
            assert {name: len(files) for name, files in published(url, "second").items()} == {"six": 1, "idna": 2, "new": 1}
        for one in (index, second):
            one.heal()
        report = mirror.sync("--json").json["repos"]
        assert [report[path]["directories"][""]["fetch_files"] for path in ("pypi", "second")] == [1, 1]
        assert mirror.withheld("pypi/") == {}
        with serving(mirror.store_path) as url:
            assert [len(published(url, path)["six"]) for path in ("pypi", "second")] == [3, 3]


# Pages

_JSON = {"Content-Type": JSON}


def page(index: Index, project: str, **keys: Any) -> Body:
    """What would be the page of a project, were it right."""
    return Body(json.dumps(index.pages[project] | keys).encode())


#: {project: (what is answered for its page, why the project keeps what it had)}
BAD_PAGES: dict[str, tuple[Callable[[Index, str], Any], str]] = {
    "login": (lambda index, name: Html(), "is HTML, and no page of a project"),
    "lying": (lambda index, name: Status(200, _JSON, b"<html>Sign in"), "says that it is JSON, and begins with b'<html>"),
    "cut": (lambda index, name: Body(json.dumps(index.pages[name]).encode()[:-9]), "can't be parsed"),
    "empty": (lambda index, name: Body(b""), "says that it is JSON, and begins with b''"),
    "next": (lambda index, name: page(index, name, meta={"api-version": "2.0"}), "has version 2.0 of the API"),
    "other": (lambda index, name: page(index, name, name="six"), "is the page of another project, 'six'"),
    "old": (lambda index, name: page(index, name, meta={"_last-serial": 1}), "an old page of it: its serial is 1, and was"),
    "absent": (lambda index, name: Status(404), "answers 404"),
    "broken": (lambda index, name: Status(503), "503"),
    "busy": (lambda index, name: Status(429, {"Retry-After": "0"}), "429"),
    "huge": (lambda index, name: page(index, name, x=10**400), "has a number beyond those that JSON's readers know"),
    "endless": (lambda index, name: Body(b" " * (101 << 20)), "is larger than"),
}


def test_projects_with_bad_pages_keep_what_they_had(index: Index, mirror: Mirror) -> None:
    """The others go on, and so do they once they can."""
    names = [*BAD_PAGES, "good", "tired"]
    for project in names:
        index.wheel(project, "1.0")
    mirror.repos = [repo(index, "all", "all"), repo(index, names, "named")]
    mirror.sync()
    for project in names:
        index.wheel(project, "2.0")
    for project, (fault, _) in BAD_PAGES.items():
        index.fault(f"/simple/{project}/", fault(index, project))
    tired = index.fault("/simple/tired/", Status(503, {"Retry-After": "0"}), times=1)  # it is asked again
    told = mirror.sync(status=3)
    once = {project: [f"{project}-1.0-py3-none-any.whl"] for project in names}
    twice = {project: [*files, f"{project}-2.0-py3-none-any.whl"] for project, files in once.items()}
    with serving(mirror.store_path) as url:
        for path in ("all", "named"):
            for project, (_, reason) in BAD_PAGES.items():
                assert reason in told.line(f"{path}/{project}: ", "it keeps its old state")
            assert published(url, path) == once | {project: twice[project] for project in ("good", "tired")}
    assert tired.hits == 1
    index.heal()
    assert "old state" not in mirror.sync().err
    with serving(mirror.store_path) as url:
        assert published(url, "all") == published(url, "named") == twice


def changed(index: Index, **keys: Any) -> Body:
    """A list that is not what it would be."""
    return Body(json.dumps(index.list() | keys).encode())


BAD_LISTS: dict[str, tuple[Callable[[Index], Any], str]] = {
    "login": (lambda index: Html(), "is HTML, and no list of projects"),
    "cut": (lambda index: Body(json.dumps(index.list()).encode()[:-9]), "can't be parsed"),
    "next": (lambda index: changed(index, meta={"api-version": "2.0"}), "has version 2.0 of the API"),
    "old": (lambda index: changed(index, meta={"_last-serial": 1}, projects=[]), "is an old list: its serial is 1, and was"),
    "empty": (lambda index: changed(index, projects=[]), "lists 0 files, the newest snapshot 4"),
    "absent": (lambda index: Status(404), "404"),
    "broken": (lambda index: Status(503), "503"),
    "busy": (lambda index: Status(429), "429"),
}


def test_a_bad_list_deletes_nobody(tmp_path: Path, mirror: Mirror) -> None:
    """Its repo keeps its old state, and another goes on."""
    with contextlib.ExitStack() as stack:
        indexes = {case: stack.enter_context(Index(tmp_path / case)) for case in [*BAD_LISTS, "good"]}
        for case, index in indexes.items():
            index.wheel("six", "1.0")
            index.wheel("idna", "1.0")
            mirror.repos.append(repo(index, "all", case))
        mirror.sync()
        for case, index in indexes.items():
            index.wheel("six", "2.0")
            if case in BAD_LISTS:
                index.fault("/simple/", BAD_LISTS[case][0](index))
        told = mirror.sync(status=3)
        old = {"idna": ["idna-1.0-py3-none-any.whl"], "six": ["six-1.0-py3-none-any.whl"]}
        new = old | {"six": [*old["six"], "six-2.0-py3-none-any.whl"]}
        with serving(mirror.store_path) as url:
            for case, (_, reason) in BAD_LISTS.items():
                assert reason in told.line(f"{case}: ", "it keeps its old state")
                assert published(url, case) == old
            assert published(url, "good") == new
        for index in indexes.values():
            index.heal()
        mirror.sync()
        with serving(mirror.store_path) as url:
            assert all(published(url, case) == new for case in indexes)


def test_a_page_of_50_megabytes(index: Index, mirror: Mirror) -> None:
    """Is a page like others; a mirror that refers to upstream has no file to fetch for it."""
    template = index.upload("large", "large-1.0.tar.gz", x="y" * 1500)
    files = [template | {"filename": f"large-1.{number}.tar.gz", "x-number": number} for number in range(30_000)]
    index.pages["large"]["files"] = files
    index.wheel("six", "1.0")
    mirror.repos = [repo(index, ["large", "six"], download="redirect")]
    mirror.sync()
    assert index.bytes_sent("/simple/large/") > 50_000_000
    with serving(mirror.store_path) as url:
        found = requests.get(f"{url}/pypi/simple/large/", headers={"Accept": JSON}, timeout=60).json()["files"]
    assert [(file["filename"], file["x-number"], file["x"]) for file in found] == [
        (file["filename"], file["x-number"], file["x"]) for file in files
    ]


def test_serials_that_are_none(index: Index, mirror: Mirror) -> None:
    """Of a list, and of pages: no 64 bits hold them, or they are no numbers at all. Everything else of these pages counts."""
    for name, serial in {"true": True, "below": -5, "above": 2**63, "huge": 10**30}.items():
        index.wheel(name, "1.0")
        index.pages[name]["meta"]["_last-serial"] = serial
    index.serial = 10**30
    mirror.repos = [repo(index, "all", "all"), repo(index, list(index.pages), "named")]
    mirror.sync()
    mirror.sync()
    with serving(mirror.store_path) as url:
        for path in ("all", "named"):
            assert published(url, path) == {name: [f"{name}-1.0-py3-none-any.whl"] for name in index.pages}


def test_numbers_that_are_too_long(index: Index, mirror: Mirror) -> None:
    """Python reads none of over 4300 digits. A version or a Python of so many counts as one that nobody can read."""
    long = "1" * 5000
    index.wheel("versions", "0.9")
    index.wheel("versions", "1.0")
    index.pages["versions"]["versions"] = [long, "0.9", "1.0"]
    index.wheel("python", "1.0", requires_python=f">={long}")
    index.wheel("six", "1.0")
    mirror.repos = [repo(index, list(index.pages), select={"python": [">=3.11"], "newest": 1})]
    mirror.sync()
    with serving(mirror.store_path) as url:
        assert published(url) == {name: [f"{name}-1.0-py3-none-any.whl"] for name in index.pages}
        found = requests.get(f"{url}/pypi/pypi/versions/json", timeout=10).json()
    assert (found["info"]["version"], len(found["urls"])) == ("1.0", 1)


def test_pages_that_are_nested_too_deeply(index: Index, mirror: Mirror) -> None:
    """One that could be read once and never again would stop every later sync, or gc."""
    index.wheel("six", "1.0")
    index.wheel("idna", "1.0")
    depths = range(700, 1000, 4)
    for depth in depths:
        body = json.dumps(index.pages["six"] | {"name": f"deep-{depth}", "files": []})
        index.fault(f"/simple/deep-{depth}/", Body(f'{body[:-1]}, "x": {"[" * depth}{"]" * depth}}}'.encode()))
        index.pages[f"deep-{depth}"] = {}
    mirror.repos = [repo(index, ["idna", *(f"deep-{depth}" for depth in depths)])]
    mirror.sync(status=None)
    for verb in ("sync", "gc", "check", "reindex"):
        mirror.run(verb, status=None)
    with serving(mirror.store_path) as url:
        assert "idna" in published(url)
