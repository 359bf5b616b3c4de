"""Leaves of projects and the pages made of them, read by pypi-simple, which knows nothing of us."""

import hashlib
import io
import json
import string
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypi_index import make_wheel, published
from pypi_simple import IndexPage, ProjectPage

from snapmirror.digests import sha256
from snapmirror.ecosystem import FileAt
from snapmirror.errors import BadIndexError
from snapmirror.pypi import Pypi, leaf, legacy, listing, names, negotiate, page, pages, wheels
from snapmirror.pypi.merge import MergedReading
from snapmirror.readings import Answer, Draft

BASE = "https://index.example/simple/foo-bar/"
HEX = "ab" * 32
BLAKE = f"packages/{HEX[:2]}/{HEX[2:4]}/{HEX[4:]}"
WHEEL, SDIST = "foo_bar-1.0-py3-none-any.whl", "foo-bar-1.0.tar.gz"


def record(file: str = WHEEL, **keys: Any) -> dict[str, Any]:
    """What PyPI says of a file."""
    return {
        "filename": file,
        "url": f"https://files.example/{BLAKE}/{file}",
        "hashes": {"sha256": hashlib.sha256(file.encode()).hexdigest()},
        "requires-python": ">=3.8,<4",
        "size": 10,
        "upload-time": "2026-11-01T10:00:00.5Z",
        "yanked": False,
        "core-metadata": {"sha256": "cd" * 32},
    } | {key.replace("_", "-"): value for key, value in keys.items()}


def answer(body: bytes | dict[str, Any], **fields: str) -> Answer:
    """Of upstream."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(body, None, BASE, {key.replace("_", "-"): value for key, value in fields.items()})


def draft(*records: Any, **keys: Any) -> Draft:
    """The leaf of a page with these records."""
    whole = {"meta": {"api-version": "1.4", "_last-serial": 7}, "name": "Foo.Bar", "files": list(records)} | keys
    return page.draft("foo-bar", page.read(answer(whole), "foo-bar"), BASE, b"s" * 32)


# What is wrong with one file takes out that file


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record("../foo_bar-1.0.zip"), "unsafe"),
        (record("foo-bar-1.0/x.tar.gz"), "unsafe"),
        (record(".foo-bar-1.0.zip"), "unsafe"),
        (record("foo-bar-1.0\n.zip"), "unsafe"),
        (record("foo-bar-" + "1" * 300 + ".zip"), "longer than"),
        (record(WHEEL + ".metadata"), "that of a metadata file"),
        (record("foo_baz-1.0-py3-none-any.whl"), "belongs to another project"),
        (record("foo_bar_more-1.0-py3-none-any.whl"), "belongs to another project"),
        (record("foo-bar-more-1.0.tar.gz"), "belongs to another project"),
        (record("foo.tar.gz"), "belongs to another project"),
        (record(url="ftp://x/y"), "its address can't be used"),
        (record(url="file:///etc/passwd"), "its address can't be used"),
        (record(url=""), "no address"),
        (record(hashes={}, size=None), "neither a hash nor a size"),
        (record(hashes={"blake2b": "ab"}, size=None), "neither a hash nor a size"),
        (record(hashes={"sha512": "ab"}), "of the right length"),
        (record(hashes={"sha256": "xyz"}), "no hexadecimal numbers"),
        (record(hashes=["sha256"]), "no hexadecimal numbers"),
        (record(size="10"), "its size is '10'"),
        (record(size=True), "its size is True"),
        (record(size=-1), "its size is -1"),
        (record(upload_time="yesterday"), "is no time"),
        (record(upload_time="2026-13-01T10:00:00Z"), "is no time"),
        (record(upload_time=7), "its upload-time is 7"),
        (record(yanked={}), "its yanked is {}"),
        (record(requires_python=3), "its requires-python is 3"),
        (record(core_metadata="sha256=1"), "its core-metadata is"),
        (record(provenance=1), "its provenance is 1"),
        ({"url": "x"}, "no file name"),
        ("text", "no file name"),
    ],
)
def test_a_bad_file(bad: Any, reason: str) -> None:
    good = record(SDIST)
    found = draft(good, bad)
    assert [reason in text for text in found.invalid.values()] == [True]
    assert leaf.decode(found.content)["files"] == [good]


def test_the_same_file_twice() -> None:
    """Is one file; with other hashes, whichever we published might be the wrong one."""
    assert draft(record(), record()).files == draft(record()).files
    found = draft(record(), record(SDIST), record(size=11))
    assert [file.name for file in found.files] == [SDIST, SDIST + ".metadata"]
    assert found.invalid == {WHEEL: "two records give it different hashes"}


@pytest.mark.parametrize(
    ("file", "project", "version"),
    [
        ("foo_bar-1.0-py3-none-any.whl", "foo-bar", "1.0"),
        ("Foo.Bar-1.0+local.1-1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "foo-bar", "1.0+local.1"),
        ("foo-bar-1.0.tar.gz", "foo-bar", "1.0"),
        ("foo-2.0-1.tar.gz", "foo", "2.0.post1"),
        ("foo-2-bar-1.0.zip", "foo-2-bar", "1.0"),
        ("foo-1.0.win32-py2.7.exe", "foo", "1.0"),
        ("foo-1.0-py2.7.egg", "foo", "1.0"),
        ("foo-dev-20100101.tar.gz", "foo", "dev-20100101"),
    ],
)
def test_names_of_files(file: str, project: str, version: str) -> None:
    assert names.problem_with(file, project) is None
    found = names.parse(file, project)
    assert names.parse_version(found.version) == names.parse_version(version)


def test_sums_that_come_later() -> None:
    """A computed sum is added where upstream has none; what can't be had is not advertised any more; all else stays."""
    first = draft(record(hashes={"md5": "0" * 32}, core_metadata=True, size=None, x={"y": [1]}), record(SDIST)).content
    wheel, metadata, *_ = leaf.files(first)
    assert (wheel.sha256, wheel.other, wheel.size, wheel.modified) == (None, bytes(16), None, 1_793_527_200)
    assert (metadata.name, metadata.sha256, metadata.url) == (f"{WHEEL}.metadata", None, f"{wheel.url}.metadata")

    settled = leaf.settle(first, {WHEEL: b"w" * 32, f"{WHEEL}.metadata": b"m" * 32}, {f"{SDIST}.metadata"}, {WHEEL: 5})
    found = leaf.decode(settled)["files"]
    assert found == [
        record(
            hashes={"md5": "0" * 32, "sha256": (b"w" * 32).hex()},
            size=5,
            core_metadata={"sha256": (b"m" * 32).hex()},
            x={"y": [1]},
        ),
        record(SDIST, core_metadata=False),
    ]
    assert [file.name for file in leaf.files(settled)] == [WHEEL, f"{WHEEL}.metadata", SDIST]
    assert leaf.decode(leaf.settle(first, {}, {WHEEL}))["files"] == [record(SDIST)]
    assert leaf.decode(leaf.settle(first, {}, {WHEEL, SDIST}))["name"] == "Foo.Bar"


@pytest.mark.parametrize("key", leaf.METADATA_KEYS)
def test_metadata_under_all_its_names(key: str) -> None:
    """PEP 658, PEP 714, and what PyPI writes: one thing, that is advertised or not."""
    plain = {name: value for name, value in record().items() if name != "core-metadata"}
    made = draft({**plain, key: {"sha256": HEX}}).content
    assert leaf.files(made)[1].sha256 == bytes.fromhex(HEX)
    (served,) = json.loads(pages.project_json(made))["files"]
    assert served["core-metadata"] == {"sha256": HEX}
    assert "dist-info-metadata" not in served
    withheld = leaf.settle(made, {}, {f"{WHEEL}.metadata"})
    assert HEX not in json.dumps(leaf.decode(withheld)["files"][0] | {"url": ""})
    assert b"data-core-metadata" not in pages.project_html(withheld)


def test_metadata_without_a_hash_to_verify_it() -> None:
    """Nothing is fetched for it, so nothing is promised of it."""
    made = draft(record(core_metadata={})).content
    assert [file.name for file in leaf.files(made)] == [WHEEL]
    assert json.loads(pages.project_json(made))["files"][0]["core-metadata"] is False


def test_numbers_that_messagepack_has_not() -> None:
    found = draft(record(x=1 << 70))
    assert json.loads(pages.project_json(found.content))["files"][0]["x"] == float(1 << 70)


# Paths


def test_where_files_are(tmp_path: Path) -> None:
    """As upstream's addresses end, or in that shape; every link of a page leads to the file that it says."""
    odd = record("foo-2.0-1.tar.gz", url="https://elsewhere.example/x?name=foo-2.0-1.tar.gz")
    local = record("foo-1.0+cpu-py3-none-any.whl", url=f"https://files.example/{BLAKE}/foo-1.0%2Bcpu-py3-none-any.whl")
    whole = {"name": "foo", "files": [odd, local]}
    content = page.draft("foo", page.read(answer(whole), "foo"), BASE, b"").content
    reader = published(tmp_path / "store", {"foo": content, "foo-bar": draft(record()).content})
    digits = odd["hashes"]["sha256"]
    for path, file, url in [
        (f"{BLAKE}/{WHEEL}", WHEEL, record()["url"]),
        (f"{BLAKE}/{WHEEL}.metadata", f"{WHEEL}.metadata", record()["url"] + ".metadata"),
        (f"{BLAKE}/foo-1.0+cpu-py3-none-any.whl", local["filename"], local["url"]),
        (f"packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/foo-2.0-1.tar.gz", odd["filename"], odd["url"]),
        (
            f"packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/foo-2.0-1.tar.gz.metadata",
            "foo-2.0-1.tar.gz.metadata",
            "https://elsewhere.example/x.metadata?name=foo-2.0-1.tar.gz",
        ),
    ]:
        found = Pypi().locate(reader, path)
        assert isinstance(found, FileAt)
        assert (found.file.name, found.file.url) == (file, url)
    for path in (f"{BLAKE[:-1]}0/{WHEEL}", f"{BLAKE}/{SDIST}", WHEEL, f"{BLAKE}/../{WHEEL}", "simple/foo/"):
        assert Pypi().locate(reader, path) is None
    links = [urljoin("/r/simple/foo/", one["url"]) for one in json.loads(pages.project_json(content))["files"]]
    assert {unquote(link).removeprefix("/r/") for link in links} <= set(Pypi().paths(content))


def test_one_name_for_files_of_two_projects(tmp_path: Path) -> None:
    """`foo` 2.0-1 and `foo-2.0` 1: whichever the exceptions name, the other is where its own name leads."""
    file, found = "foo-2.0-1.tar.gz", {}
    for project, digits in (("foo-2-0", "cd" * 32), ("foo", "ab" * 32)):
        whole = {"name": project, "files": [record(file, url=f"https://x.example/{project}/{file}", hashes={"sha256": digits})]}
        found[project] = page.draft(project, page.read(answer(whole), project), BASE, b"").content
    reader = published(tmp_path / "store", found)
    for content in found.values():
        for path, one in leaf.paths(content).items():
            assert Pypi().locate(reader, path) == FileAt(one, immutable=not path.endswith(".metadata"))


def test_what_lies_beside_a_file_is_not_named_by_its_own_hash(tmp_path: Path) -> None:
    """Upstream may make it anew: caches are not to keep the old one for a year."""
    shown = page.read(answer({"name": "foo-bar", "files": [record(provenance="https://x.example/integrity")]}), "foo-bar")
    content = page.draft("foo-bar", shown, BASE, b"", provenance=True).content
    reader = published(tmp_path / "store", {"foo-bar": content})
    found = {path: Pypi().locate(reader, path) for path in leaf.paths(content)}
    assert {path: one.immutable for path, one in found.items() if isinstance(one, FileAt)} == {
        f"{BLAKE}/{WHEEL}": True,
        f"{BLAKE}/{WHEEL}.metadata": False,
        f"{BLAKE}/{WHEEL}.provenance": False,
    }


def test_one_file_of_thousands_is_found_at_once(tmp_path: Path) -> None:
    """A server looks for one in the middle of its other work: it does not read what a page says of all others."""
    content = draft(*(record(f"foo_bar-1.{number}-py3-none-any.whl") for number in range(3000))).content
    reader = published(tmp_path / "store", {"foo-bar": content})
    path = f"{BLAKE}/foo_bar-1.1500-py3-none-any.whl.metadata"
    assert Pypi().locate(reader, path) == FileAt(leaf.paths(content)[path])
    assert least(lambda: Pypi().locate(reader, path)) < least(lambda: leaf.paths(content)) / 2


def least(action: Callable[[], object]) -> float:
    """Seconds, of several times."""

    def once() -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began

    return min(once() for _ in range(5))


@pytest.mark.parametrize("file", [WHEEL, SDIST, "foo.bar-1.0-py2.7.egg", f"{WHEEL}.metadata", f"{SDIST}.metadata"])
def test_the_project_of_a_file(file: str) -> None:
    assert names.leaf_of(file) == "foo-bar"


# Pages

_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
_HASH = st.binary(min_size=32, max_size=32).map(bytes.hex)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_OPTIONAL: dict[str, Any] = {
    "requires-python": st.none() | st.sampled_from([">=3.8", "<4,>=3", ">=\"3\" & 'x'"]),
    "yanked": st.booleans() | _TEXT.filter(bool),
    "upload-time": st.sampled_from(["2026-11-01T10:00:00Z", "1999-01-01T00:00:00.123456Z"]),
    "core-metadata": st.booleans() | st.fixed_dictionaries({"sha256": _HASH}),
    "dist-info-metadata": st.booleans(),
    "provenance": st.none() | st.just("https://index.example/integrity/x?a=1&b=2"),
}
_RECORD = st.fixed_dictionaries(
    {"hashes": st.fixed_dictionaries({"sha256": _HASH}, optional={"md5": st.just("0" * 32)}), "size": st.integers(0, 1 << 40)},
    optional=_OPTIONAL,
)
_VERSION = st.text(string.digits, min_size=1, max_size=3).map(lambda digits: f"1.{int(digits)}")
_PAGE = st.builds(
    lambda records, unknown, status: (
        {f"x-{key}": value for key, value in unknown.items()}
        | {"meta": {"api-version": "1.1", "_last-serial": 9}, "name": "Foo_Bar"}
        | ({"project-status": status} if status else {})
        | {
            "files": [
                {"filename": f"foo_bar-{version}.tar.gz", "url": f"../../f/{version}", **one}
                for version, one in records.items()
            ]
        }
    ),
    st.dictionaries(_VERSION, _RECORD, max_size=4),
    st.dictionaries(_TEXT, _ANY, max_size=2),
    st.none()
    | st.fixed_dictionaries({"status": st.sampled_from(["active", "archived"])}, optional={"reason": _TEXT.filter(bool)}),
)


@given(_PAGE)
@settings(max_examples=150, deadline=None)
def test_pages_say_what_upstream_says(upstream: dict[str, Any]) -> None:
    """JSON: every key but `url` and the name of what is said of metadata; and pypi-simple reads JSON and HTML alike."""
    made = page.draft("foo-bar", page.read(answer(json.loads(json.dumps(upstream))), "foo-bar"), BASE, b"")
    assert not made.invalid
    served = json.loads(pages.project_json(made.content))
    assert pages.project_json(made.content) == pages.project_json(made.content)
    for one, other in zip(served["files"], upstream["files"], strict=True):
        expected = {key: value for key, value in other.items() if key not in ("url", "core-metadata", "dist-info-metadata")}
        assert {key: one[key] for key in expected} == expected
        assert set(one) - set(expected) <= {"url", "core-metadata"}
    assert {key: served[key] for key in upstream if key not in ("meta", "files")} == {
        key: upstream[key] for key in upstream if key not in ("meta", "files")
    }
    assert served["meta"] == {"api-version": "1.4", "_last-serial": 9}

    read_json = ProjectPage.from_json_data(served, "https://mirror.example/simple/foo-bar/")
    html = pages.project_html(made.content)
    read_html = ProjectPage.from_html("foo-bar", html, "https://mirror.example/simple/foo-bar/")
    assert (read_html.repository_version, read_html.status, read_html.status_reason) == (
        read_json.repository_version,
        read_json.status,
        read_json.status_reason,
    )
    assert html.endswith(b"<!--SERIAL 9-->")
    for one, other in zip(read_json.packages, read_html.packages, strict=True):
        assert (one.filename, one.url, one.requires_python, one.is_yanked) == (
            other.filename,
            other.url,
            other.requires_python,
            other.is_yanked,
        )
        assert (one.yanked_reason or "") == (other.yanked_reason or "")
        assert one.digests["sha256"] == other.digests["sha256"]
        assert (one.has_metadata or False, one.metadata_digests) == (other.has_metadata or False, other.metadata_digests)
        assert one.provenance_url == other.provenance_url

    again = page.read(Answer(html, None, "https://mirror.example/simple/foo-bar/", {"content-type": "text/html"}), "foo-bar")
    assert [file["filename"] for file in again["files"]] == [file["filename"] for file in served["files"]]
    assert [(file.get("size"), file.get("upload-time")) for file in again["files"]] == [
        (file["size"], file.get("upload-time")) for file in served["files"]
    ]


def test_html_to_the_byte() -> None:
    """What pip and uv read of it."""
    content = draft(
        record(requires_python='>=3,"&<4', yanked='a "bad" <one>', provenance="https://x/?a&b"),
        record(SDIST, hashes={"md5": "0" * 32}, yanked=True, core_metadata=True, requires_python=None, upload_time=None),
        **{"project-status": {"status": "archived", "reason": "<done>"}},
    ).content
    digits = record()["hashes"]["sha256"]
    assert pages.project_html(content).decode() == (
        '<!DOCTYPE html>\n<html>\n  <head>\n    <meta charset="utf-8">\n'
        '    <meta name="pypi:repository-version" content="1.4">\n'
        '    <meta name="pypi:project-status" content="archived">\n'
        '    <meta name="pypi:project-status-reason" content="&lt;done&gt;">\n'
        "    <title>Links for Foo.Bar</title>\n  </head>\n  <body>\n    <h1>Links for Foo.Bar</h1>\n"
        f'    <a href="../../{BLAKE}/{WHEEL}#sha256={digits}" data-requires-python="&gt;=3,&quot;&amp;&lt;4"'
        f' data-dist-info-metadata="sha256={"cd" * 32}" data-core-metadata="sha256={"cd" * 32}"'
        ' data-yanked="a &quot;bad&quot; &lt;one&gt;" data-provenance="https://x/?a&amp;b"'
        f' data-upload-time="2026-11-01T10:00:00.5Z" data-size="10">{WHEEL}</a><br/>\n'
        f'    <a href="../../{BLAKE}/{SDIST}#md5={"0" * 32}" data-dist-info-metadata="true" data-core-metadata="true"'
        f' data-yanked="" data-size="10">{SDIST}</a><br/>\n'
        "  </body>\n</html>\n<!--SERIAL 7-->"
    )


def test_what_an_upstream_does_not_say() -> None:
    """Without sizes a page is not of version 1.1; versions are told from file names, in their order."""
    files = [record(f"foo-bar-{version}.tar.gz", size=None) for version in ("1.10", "1.9", "1.9.post1")]
    served = json.loads(pages.project_json(draft(*files).content))
    assert served["meta"]["api-version"] == "1.0"
    assert served["versions"] == ["1.9", "1.9.post1", "1.10"]


def test_the_list() -> None:
    listed = [pages.Project("foo-bar", "Foo.Bar", 7), pages.Project("six", "six", None)]
    body = pages.index_json(listed, 9)
    assert json.loads(body) == {
        "meta": {"_last-serial": 9, "api-version": "1.4"},
        "projects": [{"_last-serial": 7, "name": "Foo.Bar"}, {"name": "six"}],
    }
    html = pages.index_html(listed, 9)
    assert IndexPage.from_json_data(json.loads(body)).projects == IndexPage.from_html(html).projects == ["Foo.Bar", "six"]
    assert b'<a href="foo-bar/">' in html
    assert html.endswith(b"<!--SERIAL 9-->")


def test_the_api_from_before() -> None:
    """As bandersnatch wants it: releases by version, addresses from the root of the index, the serial."""
    content = draft(
        record(yanked="broken"),
        record(SDIST, core_metadata=False),
        record("foo-bar-2.0rc1.tar.gz"),
        versions=["1.0", "1.5", "2.0rc1"],
    ).content
    found = json.loads(legacy.project(content))
    assert (found["info"]["name"], found["info"]["version"], found["last_serial"]) == ("Foo.Bar", "1.0", 7)
    assert {version: [one["filename"] for one in files] for version, files in found["releases"].items()} == {
        "1.0": [WHEEL, SDIST],
        "1.5": [],
        "2.0rc1": ["foo-bar-2.0rc1.tar.gz"],
    }
    wheel, sdist = found["releases"]["1.0"]
    assert (wheel["url"], wheel["size"], wheel["digests"]) == (f"/{BLAKE}/{WHEEL}", 10, record()["hashes"])
    assert (wheel["yanked"], wheel["yanked_reason"], sdist["yanked"]) == (True, "broken", False)
    assert (wheel["packagetype"], wheel["python_version"], sdist["python_version"]) == ("bdist_wheel", "py3", "source")
    assert wheel["upload_time_iso_8601"] == record()["upload-time"]
    assert found["urls"] == [wheel, sdist]


# Negotiation


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, negotiate.TEXT),
        ("", negotiate.TEXT),
        ("*/*", negotiate.TEXT),
        ("text/*", negotiate.TEXT),
        ("application/*", negotiate.HTML),
        ("image/png", negotiate.TEXT),
        ("nonsense;;q", negotiate.TEXT),
        (negotiate.JSON, negotiate.JSON),
        (negotiate.JSON.upper(), negotiate.JSON),
        (f"{negotiate.JSON};q=0", negotiate.TEXT),
        (f"{negotiate.JSON};q=x, {negotiate.HTML};q=0.1", negotiate.HTML),
        (f"text/html;q=nan, {negotiate.JSON};q=0.1", negotiate.JSON),
        ("application/vnd.pypi.simple.latest+json", negotiate.JSON),
        ("application/vnd.pypi.simple.latest+html", negotiate.HTML),
        ("application/vnd.pypi.simple.v2+json, text/html;q=0.1", negotiate.TEXT),
        (f"*/*;q=0.1, {negotiate.JSON};q=0.5", negotiate.JSON),
        (f"*/*, {negotiate.HTML};q=0.5, text/html;q=0.1", negotiate.JSON),
        # pip, uv, bandersnatch, a browser
        (f"{negotiate.JSON}, {negotiate.HTML}; q=0.1, text/html; q=0.01", negotiate.JSON),
        (f"{negotiate.JSON}, {negotiate.HTML};q=0.2, text/html;q=0.01", negotiate.JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", negotiate.TEXT),
    ],
)
def test_which_form_a_client_gets(accept: str | None, expected: str) -> None:
    assert negotiate.choose(accept) == expected
    assert negotiate.choose(accept, negotiate.HTML) == negotiate.HTML
    assert negotiate.choose(accept, "application/vnd.pypi.simple.v1 json") == negotiate.JSON  # a `+` that was not quoted
    assert negotiate.choose(accept, "application/pdf") == expected


# Anything at all

_JSON_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def _damaged(draw: st.DrawFn) -> Any:
    """A page in which something is replaced by anything, or missing."""
    whole: dict[str, Any] = {
        "meta": {"api-version": "1.4", "_last-serial": 7},
        "name": "Foo.Bar",
        "versions": ["1.0"],
        "project-status": {"status": "active", "reason": "x"},
        "files": [record(provenance="https://x/y"), record(SDIST)],
    }
    for _ in range(draw(st.integers(1, 3))):
        holder = draw(
            st.sampled_from([whole, whole["meta"], whole["project-status"], *whole["files"], whole["files"][0]["hashes"]])
        )
        if holder:
            key = draw(st.sampled_from(sorted(holder)))
            holder[key] = draw(_JSON_VALUE)
        if not all(isinstance(whole.get(key), dict) for key in ("meta", "project-status")) or not _usable(whole["files"]):
            break
    return whole


def _usable(files: Any) -> bool:
    return (
        isinstance(files, list)
        and bool(files)
        and all(isinstance(one, dict) and isinstance(one.get("hashes"), dict) for one in files)
    )


@given(_damaged() | _JSON_VALUE)
@settings(max_examples=400, deadline=None)
def test_whatever_an_upstream_writes(upstream: Any) -> None:
    """Either it is refused with a message, or a leaf comes of it that all pages can be made of."""
    try:
        whole = page.read(answer(json.dumps(upstream).encode()), "foo-bar")
    except BadIndexError:
        return
    content = page.draft("foo-bar", whole, BASE, b"", provenance=True).content
    assert leaf.encode(leaf.decode(content)) == content
    for make in (pages.project_json, pages.project_html, legacy.project):
        assert make(content) == make(content)
    assert leaf.settle(content, {}, {WHEEL, SDIST})
    served = json.loads(pages.project_json(content))
    assert all(isinstance(one["url"], str) for one in served["files"])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_page(body: bytes) -> None:
    with pytest.raises(BadIndexError):
        page.read(answer(body, content_type="text/html"), "foo-bar")
    with pytest.raises(BadIndexError):
        listing.read(answer(b'{"projects": {}, "x": "' + body.hex().encode() + b'"}'))
    with pytest.raises(BadIndexError):
        listing.read(answer(b'{"projects": [' + body.hex().encode()))


@pytest.mark.parametrize(
    "body", [b".HTM", b"", b"http://host/", b'<?xml version="1.0"?><feed/>', b"\xff\xfe<\x00", b"<" * 9999]
)
def test_texts_that_are_no_page(body: bytes) -> None:
    with pytest.raises(BadIndexError):
        page.read(answer(body), "foo-bar")


def test_xhtml() -> None:
    body = f'<?xml version="1.0"?>\n<html><body><a href="{SDIST}#sha256={HEX}">{SDIST}</a></body></html>'.encode()
    assert [one["filename"] for one in page.read(answer(body), "foo-bar")["files"]] == [SDIST]


def test_a_huge_page() -> None:
    """50 MB of files take seconds, and are all there."""
    files = [record(f"foo-bar-1.{number}.tar.gz", x="y" * 180) for number in range(90_000)]
    body = json.dumps({"meta": {"api-version": "1.4"}, "name": "foo-bar", "files": files}).encode()
    assert len(body) > 50_000_000
    found = page.draft("foo-bar", page.read(answer(body), "foo-bar"), BASE, b"")
    assert len(found.files) == 180_000
    assert len(json.loads(pages.project_json(found.content))["files"]) == 90_000


def test_several_indexes_as_one(tmp_path: Path) -> None:
    """A name in an earlier one hides it in the later ones, whatever files these have; the page says from where it is."""
    one = record("foo-bar-1.0.tar.gz")
    own = {"foo-bar": draft(one).content}
    public = {"foo-bar": draft(record("foo-bar-99.0.tar.gz")).content, "six": page.draft("six", _six(), BASE, b"").content}
    readers = [("own", published(tmp_path / "own", own)), ("pypi", published(tmp_path / "public", public))]
    merged = MergedReading(readers)
    found = {made.name: json.loads(pages.project_json(made.content)) for made in merged.drafts(list(merged.sources))}
    assert {name: [file["filename"] for file in made["files"]] for name, made in found.items()} == {
        "foo-bar": ["foo-bar-1.0.tar.gz"],
        "six": ["six-1.0.tar.gz"],
    }
    assert {name: made["_snapmirror-from"] for name, made in found.items()} == {"foo-bar": "own", "six": "pypi"}
    assert MergedReading(readers).sources == merged.sources
    assert MergedReading(readers[::-1]).sources["foo-bar"] != merged.sources["foo-bar"]


def _six() -> dict[str, Any]:
    return page.read(answer({"name": "six", "files": [record("six-1.0.tar.gz")]}), "six")


def test_as_it_was() -> None:
    """Files uploaded by then, and the versions of these; one of which nobody says when may have come later."""
    files = [record(f"foo-bar-{n}.0.tar.gz", upload_time=f"2026-11-0{n}T00:00:00Z") for n in (1, 2, 3)]
    content = draft(*files, record(upload_time=None), versions=["1.0.0", "2.0", "3.0"]).content
    then = leaf.decode(leaf.as_of(content, leaf.seconds("2026-11-02T00:00:00Z")))
    assert then["files"] == files[:2]
    assert (then["versions"], then["meta"]) == (["1.0.0", "2.0"], {"api-version": "1.4"})
    assert leaf.as_of(content, leaf.seconds("2026-10-31T23:59:59Z")) == b""


# What lies beside a file


def test_attestations() -> None:
    """Mirrored where that is asked for, beside the file; upstream's address stays, for clients take no other."""
    plain = record(provenance="https://index.example/integrity/foo-bar/1.0/x/provenance")
    made = page.draft(
        "foo-bar", page.read(answer({"name": "foo-bar", "files": [plain]}), "foo-bar"), BASE, b"", provenance=True
    )
    path = f"{BLAKE}/{WHEEL}.provenance"
    assert [file.name for file in made.files] == [WHEEL, f"{WHEEL}.metadata", f"{WHEEL}.provenance"]
    assert leaf.paths(made.content)[path].url == plain["provenance"]
    held = leaf.settle(made.content, {f"{WHEEL}.provenance": b"p" * 32}, ())
    assert leaf.paths(held)[path].sha256 == b"p" * 32
    (served,) = json.loads(pages.project_json(held))["files"]
    assert (served["provenance"], served["_snapmirror-provenance"]) == (plain["provenance"], f"../../{path}")
    gone = leaf.settle(made.content, {}, {f"{WHEEL}.provenance"})
    assert path not in leaf.paths(gone)
    assert "_snapmirror-provenance" not in json.loads(pages.project_json(gone))["files"][0]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "/x", "https://user:secret@host/x", "ftp://host/x", ""])
def test_attestations_that_are_not_fetched(address: str) -> None:
    """Upstream leads neither to files of this machine, nor anywhere with credentials."""
    whole = {"name": "foo-bar", "files": [record(provenance=address)]}
    found = page.draft("foo-bar", page.read(answer(whole), "foo-bar"), BASE, b"", provenance=True)
    assert [file.name for file in found.files] == [WHEEL, f"{WHEEL}.metadata"]
    assert leaf.decode(found.content)["files"][0]["provenance"] == address


def test_metadata_made_from_a_wheel() -> None:
    """Byte for byte what is in it, where upstream has no file of it."""
    file, content, metadata = make_wheel("foo-bar", "1.0")
    assert wheels.metadata_in(io.BytesIO(content), file) == metadata
    made = draft(record(core_metadata=False), record(SDIST, core_metadata=False)).content
    assert [one.name for one in leaf.without_metadata(made)] == [WHEEL]
    settled = leaf.settle(made, {f"{WHEEL}.metadata": sha256(metadata)}, ())
    assert leaf.files(settled)[1].sha256 == sha256(metadata)
    assert not leaf.without_metadata(settled)


def test_wheels_without_usable_metadata() -> None:
    def archive(*paths: str) -> io.BytesIO:
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as made:
            for path in paths:
                made.writestr(path, "x")
        return body

    for body, problem in [
        (io.BytesIO(b"no zip"), "can't be read"),
        (archive("foo_bar/METADATA", "foo_bar-1.0.dist-info/x/METADATA", "METADATA"), "has no METADATA"),
        (archive("other-1.0.dist-info/METADATA"), "has no METADATA"),
        (archive("foo_bar-1.0.dist-info/METADATA", "Foo.Bar-1.0.dist-info/METADATA"), "has several"),
    ]:
        with pytest.raises(ValueError, match=problem):
            wheels.metadata_in(body, WHEEL)
