"""The documentation site: it builds without a warning, all its links lead somewhere, and nothing in it comes from elsewhere."""

import html
import json
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from documents import ROOT
from test_documents import commands, manual, page_keys, program

from snapmirror.sync.api import openapi

pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")
#: what a page makes a browser fetch by itself
FETCHES = re.compile(r'<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)="([^"]*)"')
LINKS = re.compile(r'<link\b[^>]*?\bhref="([^"]*)"')
ANCHORS = re.compile(r'<a\b[^>]*?\bhref="([^"]*)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    program("mandoc")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 15
    for path, text in pages.items():
        for target in FETCHES.findall(text) + LINKS.findall(text):
            assert "//" not in target, f"{path.name}: {target}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path.name


def test_links_lead_somewhere(site: Path) -> None:
    """To pages and to places in them; the reference has links that mkdocs does not look at."""
    places = {
        path: {html.unescape(name) for name in re.findall(r'\bid="?([^"\s>]+)', path.read_text(encoding="utf-8"))}
        for path in site.rglob("*.html")
    }
    for path in places.keys() - {site / "404.html"}:
        for target in ANCHORS.findall(path.read_text(encoding="utf-8")):
            there, _, place = urllib.parse.unquote(html.unescape(target)).partition("#")
            if re.match(r"\w+:", there):
                assert there.startswith("https://"), f"{path.name}: {target}"
                continue
            page = (path.parent / there).resolve() if there else path
            page = page / "index.html" if page.is_dir() else page
            assert page.exists(), f"{path.name}: {target}"
            assert not place or place in places[page], f"{path.name}: {target}"


def test_the_reference_is_made_of_the_code(site: Path) -> None:
    """Every command with its options, every key of the configuration and every question to the API is in it."""
    reference = site / "reference"
    said, settings, api = (
        (reference / f"{name}.html").read_text(encoding="utf-8") for name in ("commands", "snapmirror.toml.5", "api")
    )
    parts = dict(re.findall(r'<h2 id="(\w+)">(.*?)(?=<h2 |</article>)', said, re.DOTALL))
    for verb, options in commands().items():
        assert all(option in parts[verb] for option in options), verb
    keys = {key.name for lines in manual("snapmirror.toml.5").subsections.values() for key in page_keys(lines)}
    assert len(keys) > 80
    assert keys <= set(re.findall(r'<var class="Va">(\w+)</var>', settings))
    described = openapi()
    assert all(f"GET {path}" in html.unescape(api) for path in described["paths"])
    assert all(f'id="{name.lower()}"' in api for name in described["components"]["schemas"])
    assert json.loads((reference / "openapi.json").read_bytes()) == described
    assert not (ROOT / "docs" / "reference").exists()  # never a file of the sources
