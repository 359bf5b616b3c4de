"""Pages of all kinds of repos are what the specifications demand, and say the same in HTML, whatever their upstreams write."""

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin

import pytest
import requests
from mirror import Mirror
from pypi_index import JSON, Index, make_wheel
from pypi_schema import check_list, check_project
from pypi_simple import parse_links_stream
from serving import serving


def rich(index: Index) -> None:
    """All that can be said."""
    index.wheel("rich", "1.0", yanked='a "bad" <one> & old', requires_python=">=3,<4", provenance="https://x.example/p?a=1&b=2")
    index.wheel("rich", "1.0+cpu.1", upload_time="2026-11-01T10:00:00Z", x_unknown={"<&>": ["é", None]})
    index.upload("rich", "rich-1.1.tar.gz", yanked=True, gpg_sig=True)
    file, content, metadata = make_wheel("rich", "2.0")
    record = index.upload("rich", file, content, metadata)
    record["dist-info-metadata"] = record["data-dist-info-metadata"] = record["core-metadata"]
    file, content, metadata = make_wheel("rich", "2.1")
    record = index.upload("rich", file, content, metadata)
    record["dist-info-metadata"] = record.pop("core-metadata")
    file, content, metadata = make_wheel("rich", "2.2")
    index.upload("rich", file, content, metadata)["core-metadata"] = True
    index.upload("rich", "rich-0.1-py2.7.egg")
    index.upload("rich", "rich-0.1.win32-py2.7.exe")
    index.upload("rich", "rich-dev-2010.tar.gz")
    index.pages["rich"] |= {
        "name": "Rich",
        "versions": ["0.1", "1.0", "1.0", "3.0"],
        "x-unknown": [{}],
        "project-status": {"status": "archived", "reason": 'done & <"gone">'},
    }


def poor(index: Index) -> None:
    """As little as can be said, and nothing where there might be something."""
    record = index.upload("poor", "poor-1.0.tar.gz")
    md5 = hashlib.md5(b"poor-1.0.tar.gz").hexdigest()
    index.pages["poor"]["files"] = [
        {"filename": record["filename"], "url": record["url"].removeprefix(index.url), "hashes": {"md5": md5}},
        {
            **dict.fromkeys(("requires-python", "upload-time", "yanked", "core-metadata", "gpg-sig", "provenance", "size")),
            **{key: index.upload("poor", "poor-1.1.tar.gz")[key] for key in ("filename", "url", "hashes")},
        },
        {"filename": "poor-1.2.tar.gz", "url": index.upload("poor", "poor-1.2.tar.gz")["url"], "size": len("poor-1.2.tar.gz")},
    ]
    index.pages["poor"] |= {"versions": None, "project-status": {"x": 1}, "name": "poor"}
    index.pages["poor"].pop("meta")


def empty(index: Index) -> None:
    """A project without a release, and one that is kept from people."""
    index.pages["empty"] = {"meta": {"api-version": "1.1"}, "name": "empty", "files": [], "versions": []}
    index.wheel("evil", "1.0")
    index.pages["evil"]["project-status"] = {"status": "quarantined"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of each kind: by a list, by names, by reference, from HTML, from a folder."""
    root = tmp_path_factory.mktemp("kinds")
    with Index(root / "json") as first, Index(root / "html", simple="/whl/", json=False, serials=False) as second:
        for make in (rich, poor, empty):
            make(first)
        second.wheel("torch", "2.0+cpu")
        second.upload("torch", "torch-1.0.tar.gz")
        (root / "wheels").mkdir()
        file, content, _ = make_wheel("own", "1.0")
        (root / "wheels" / file).write_bytes(content)
        mirror = Mirror(root / "mirror")
        upstream = f"{first.url}/simple/"
        first.pages["poor"]["meta"] = {}
        mirror.repos = [
            {"path": "all", "upstream": upstream, "projects": "all"},
            {"path": "named", "upstream": upstream, "projects": ["rich", "poor", "empty", "evil"]},
            {"path": "far", "upstream": upstream, "projects": ["rich", "poor", "empty"], "download": "redirect"},
            {"path": "html", "upstream": f"{second.url}/whl/", "projects": "all"},
            {"path": "own", "packages": str(root / "wheels")},
        ]
        mirror.repos = [{"kind": "pypi", **repo} for repo in mirror.repos]
        mirror.sync("far")  # before the others know what upstream does not say
        mirror.sync()
        with serving(mirror.store_path) as url:
            yield url


def read(url: str, accept: str) -> bytes:
    answer = requests.get(url, headers={"Accept": accept}, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == accept
    return answer.content


def pages(site: str, repo: str) -> dict[str, Any]:
    """{project: its page}, once list and pages have proved to be what they must be."""
    base = f"{site}/current/{repo}/simple/"
    names = check_list(read(base, JSON), read(base, "text/html"))
    html = "application/vnd.pypi.simple.v1+html"
    return {name: check_project(read(f"{base}{name}/", JSON), read(f"{base}{name}/", html), f"{base}{name}/") for name in names}


@pytest.mark.parametrize("repo", ["all", "named", "far"])
def test_pages_of_json(repo: str, site: str) -> None:
    found = pages(site, repo)
    assert {name: len(page["files"]) for name, page in found.items()} == {"rich": 9, "poor": 3, "empty": 0} | (
        {} if repo == "far" else {"evil": 0}
    )
    assert {page["meta"]["api-version"] for page in found.values()} == ({"1.4", "1.0"} if repo == "far" else {"1.4"})
    assert found["rich"]["x-unknown"] == [{}]
    assert found["rich"]["files"][1]["x-unknown"] == {"<&>": ["é", None]}
    if repo != "far":
        assert all("sha256" in file["hashes"] for page in found.values() for file in page["files"])
        assert [len(name) for name in ("poor-1.0.tar.gz",) * 3] == [file["size"] for file in found["poor"]["files"]]


def test_pages_of_html_and_of_a_folder(site: str) -> None:
    assert set(pages(site, "html")) == {"torch"}
    (file,) = pages(site, "own")["own"]["files"]
    assert set(file["core-metadata"]) == {"sha256"}


@pytest.mark.parametrize("list_", ["far/simple", "far/simple/", "current/far/simple", "current/far/simple/"])
def test_links_of_the_list(list_: str, site: str) -> None:
    """Lead to the pages, with and without the slash by which they are relative; by any other way to write a name too."""
    answer = requests.get(f"{site}/{list_}", headers={"Accept": "text/html"}, timeout=10)
    links = {link.text: link.attrs["href"] for link in parse_links_stream([answer.text])}
    assert set(links) == {"Rich", "poor", "empty"}
    for link in links.values():
        assert read(urljoin(answer.url, str(link)), "text/html").startswith(b"<!DOCTYPE html>")
    for name in ("Rich/", "rich", "RICH"):
        page = requests.get(f"{site}/current/far/simple/{name}?format={quote(JSON)}&x=\u00e9", timeout=10)
        assert (page.url.partition("?")[0], page.json()["name"]) == (f"{site}/current/far/simple/rich/", "Rich")


def test_a_field_on_several_lines_is_one(site: str) -> None:
    with contextlib.closing(http.client.HTTPConnection(site.removeprefix("http://"))) as connection:
        connection.putrequest("GET", "/current/all/simple/rich/")
        connection.putheader("Accept", "text/html;q=0.1")
        connection.putheader("Accept", JSON)
        connection.endheaders()
        assert connection.getresponse().headers["Content-Type"] == JSON


def test_the_check_sees_what_is_wrong(site: str) -> None:
    """Else all of this would say nothing."""
    base = f"{site}/current/all/simple/rich/"
    body, html = read(base, JSON), read(base, "text/html")
    wrong: list[Any] = [("yanked", None), ("size", "1"), ("core-metadata", "x"), ("upload-time", "now"), ("filename", "x")]
    for key, value in wrong:
        page = json.loads(body)
        page["files"][0][key] = value
        with pytest.raises((ValueError, AssertionError)):
            check_project(json.dumps(page).encode(), html, base)
    for old, new in ((b"data-yanked", b"data-x"), (b"<!--SERIAL ", b"<!--"), (b"archived", b"active"), (b"2.2", b"2.3")):
        with pytest.raises((ValueError, AssertionError)):
            check_project(body, html.replace(old, new), base)
