"""Five projects of PyPI itself, asked where pip asks; and the same of a stand-in, for machines that can't reach it."""

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from mirror import Mirror
from proxy import Proxy
from pypi_index import JSON, Index
from pypi_schema import check_list, check_project
from pypi_simple import PYPI_SIMPLE_ENDPOINT, parse_links_stream
from serving import serving

PROJECTS = ["six", "packaging", "idna", "urllib3", "typing-extensions"]
ACCEPT = f"{JSON}, text/html;q=0.1"


@functools.cache
def pip_setting(name: str, usual: str) -> str:
    """As pip has it from its environment and files."""
    if stated := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return stated
    done = subprocess.run([sys.executable, "-m", "pip", "config", "get", f"global.{name}"], capture_output=True, text=True)
    return done.stdout.strip() or usual


@contextlib.contextmanager
def the_real_one() -> Iterator[str]:
    address = pip_setting("index-url", PYPI_SIMPLE_ENDPOINT).rstrip("/") + "/"
    try:
        requests.get(
            f"{address}six/", headers={"Accept": ACCEPT}, timeout=15, verify=pip_setting("cert", "") or True
        ).raise_for_status()
    except requests.RequestException as error:
        pytest.skip(f"PyPI can't be reached where pip looks for it: {type(error).__name__}")
    yield address


@contextlib.contextmanager
def a_stand_in(root: Path) -> Iterator[str]:
    """The same projects, with all that PyPI says of them."""
    with Index(root) as index:
        for project in PROJECTS:
            for version in ("1.0", "1.1", "2.0"):
                index.upload(project, f"{project.replace('-', '_')}-{version}.tar.gz", requires_python=">=3.8")
                index.wheel(project, version, yanked="broken" if version == "1.1" else False)
            for record in index.pages[project]["files"]:
                record |= {"data-dist-info-metadata": record["core-metadata"], "provenance": None, "x-new": [1]}
            index.pages[project] |= {"versions": ["1.0", "1.1", "2.0"], "project-status": {"status": "active"}}
        yield f"{index.url}/simple/"


class Site:
    """A mirror of the five, that is served, and what upstream itself says of them."""

    def __init__(self, address: str, url: str) -> None:
        self.address = address
        self.url = url

    def upstream(self, project: str) -> tuple[bytes, bool]:
        """Its page, and whether that is JSON."""
        certificates = pip_setting("cert", "") or True
        answer = requests.get(f"{self.address}{project}/", headers={"Accept": ACCEPT}, timeout=60, verify=certificates)
        return answer.content, "json" in answer.headers["Content-Type"]

    def page(self, project: str, form: str = JSON) -> bytes:
        return requests.get(f"{self.base(project)}", headers={"Accept": form}, timeout=10).content

    def base(self, project: str) -> str:
        return f"{self.url}/current/pypi/simple/{project + '/' if project else ''}"


@pytest.fixture(scope="module", params=["PyPI", "stand-in"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Synced twice: the second time it only asks whether anything is new."""
    root = tmp_path_factory.mktemp("real")
    certificates = pip_setting("cert", "")
    upstream = the_real_one() if request.param == "PyPI" else a_stand_in(root / "index")
    with upstream as address, Proxy(address, trusted=certificates) as proxy:
        mirror = Mirror(root / "mirror")
        mirror.settings["download"] = {"ca_bundle": certificates} if certificates else {}
        mirror.repos = [{"kind": "pypi", "path": "pypi", "upstream": proxy.url, "projects": PROJECTS, "select": {"newest": 2}}]
        first = mirror.sync("--json").json["repos"]["pypi"]["directories"][""]
        assert (first["state"], first["withheld"], first["aside"]) == ("changed", {}, {})
        conditional = {path: valid for path, _, _, valid in proxy.asked if path.startswith(urlsplit(address).path)}
        assert len(conditional) == len(PROJECTS)
        proxy.asked.clear()
        second = mirror.sync("--json").json["repos"]["pypi"]["directories"][""]
        assert (second["state"], second["fetch_files"]) == ("unchanged", 0)
        # An index that gives neither ETag nor date can only be asked for the whole.
        assert {path: asked for path, asked, _, _ in proxy.asked} == conditional
        assert all(status == (304 if asked else 200) for _, asked, status, _ in proxy.asked)
        with serving(mirror.store_path) as url:
            yield Site(address, url)


def test_every_file_has_the_hash_that_upstream_states(site: Site) -> None:
    """And its metadata lies beside it."""
    count = 0
    for project in PROJECTS:
        body, is_json = site.upstream(project)
        stated = dict(re.findall(r"/([^/]+)#sha256=([0-9a-f]{64})", body.decode()))
        if is_json:
            stated = {file["filename"]: file["hashes"]["sha256"] for file in json.loads(body)["files"]}
        for file in json.loads(site.page(project))["files"]:
            address = urljoin(site.base(project), file["url"])
            content = requests.get(address, timeout=10).content
            assert hashlib.sha256(content).hexdigest() == file["hashes"]["sha256"] == stated[file["filename"]]
            assert len(content) == file["size"]
            if file["filename"].endswith(".whl"):
                metadata = requests.get(f"{address}.metadata", timeout=10).content
                assert {"sha256": hashlib.sha256(metadata).hexdigest()} == file["core-metadata"]
                assert b"\nName: " in metadata
            count += 1
    assert count == 2 * 2 * len(PROJECTS)


def test_every_page_says_what_upstream_says(site: Site) -> None:
    """Of each file that is kept all but its address; what upstream lacks is added: size, and where metadata is."""
    for project in PROJECTS:
        body, is_json = site.upstream(project)
        if is_json:
            theirs = json.loads(body)
            ours = json.loads(site.page(project))
            records = {file["filename"]: file for file in theirs["files"]}
            for file in ours["files"]:
                record = records[file["filename"]]
                added = {key: file[key] for key in ("core-metadata", "size") if key not in record and key in file}
                assert {**file, "url": record["url"]} == {**record, **added}
                assert urljoin(site.base(project), file["url"]).startswith(f"{site.url}/pypi/packages/")
            selected = {"files", "versions", "meta"}  # of what is kept
            assert {**theirs["meta"], "api-version": "1.4"} == ours["meta"]
            assert {key: ours[key] for key in theirs if key not in selected} == {
                key: theirs[key] for key in theirs if key not in selected
            }
            assert set(ours["versions"]) < set(theirs["versions"])
        else:
            attributes = links(body)
            for file, ours in links(site.page(project, "text/html")).items():
                theirs = attributes[file]
                assert urlsplit(ours["href"]).fragment == urlsplit(theirs["href"]).fragment
                may = {"data-size"} | ({"data-core-metadata", "data-dist-info-metadata"} if file.endswith(".whl") else set())
                assert ours.keys() - theirs.keys() <= may
                assert {key: ours[key] for key in theirs if key != "href"} == {
                    key: value for key, value in theirs.items() if key != "href"
                }


def links(body: bytes) -> dict[str, dict[str, Any]]:
    """{file: attributes of its link}."""
    return {link.text: link.attrs for link in parse_links_stream([body.decode()])}


def test_json_and_html_are_read_alike(site: Site) -> None:
    assert set(check_list(site.page(""), site.page("", "text/html"))) == set(PROJECTS)
    for project in PROJECTS:
        page = check_project(site.page(project), site.page(project, "text/html"), site.base(project))
        assert len(page["versions"]) == 2
        assert all(file["upload-time"] for file in page["files"])
