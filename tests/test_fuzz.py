"""Bytes that somebody else has made: every input that once broke a parser, and Hypothesis looking for more (see fuzz/targets)."""

# ruff: noqa: E501 -- inputs are one line each

import bz2
import gzip
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fuzz.targets import CHANNEL, TARGETS, URL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapmirror import codec
from snapmirror.cli import config
from snapmirror.conda import flat, wanted
from snapmirror.conda.leaf import draft
from snapmirror.conda.specs import Locked
from snapmirror.errors import BadIndexError, ConfigError, DamagedError
from snapmirror.files import pages, releases
from snapmirror.pypi import html, listing, names, wheels
from snapmirror.readings import Answer
from snapmirror.store import records
from snapmirror.store.catalog import Catalog

#: seconds; what these tests try took minutes or hours, and takes a hundredth of this
_SOON = 20
_DEEP = b"[" * 900 + b"]" * 900

#: what reads HTML
READERS: dict[str, Callable[[Answer], object]] = {
    "page": lambda answer: html.project(answer, "foo"),
    "list": listing.read,
    "folder": lambda answer: pages.parse(answer.body, URL),
}


def lock(marker: bytes) -> bytes:
    """A pixi.lock with a package of a channel, and one of PyPI whose dependency has a marker."""
    return (
        b"version: 6\nenvironments: {default: {channels: [{url: 'https://x.example/'}], indexes: ['https://x.example/'], packages: "
        b"{linux-64: [{conda: 'https://x.example/noarch/c-1-0.conda'}, {pypi: 'https://x.example/a-1-py3-none-any.whl'}]}}}\n"
        b"packages:\n- conda: https://x.example/noarch/c-1-0.conda\n- pypi: https://x.example/a-1-py3-none-any.whl\n"
        b"  name: a\n  version: '1'\n  requires_dist:\n  - b ; " + marker + b"\n"
    )


#: what was wrong: (target, input)
FOUND = {
    "a record that is not UTF-8 ended the sync": ("repodata", b'{"packages":{"a-1-0.conda":{"name":"a","x":"\xfa"}}}'),
    "a document beside it that is not UTF-8, too": ("sidecar_document", b'{"packages":{"a-1-0.conda":{"x":"\xfa"}}}'),
    "an address of no server": ("releases_json", b'[{"url":"http://["}]'),
    "a date that is a number": ("releases_json", b'[{"type":"file","name":"a","mtime":5}]'),
    "a zone beyond all calendars": (
        "releases_json",
        b'[{"type":"file","name":"a","mtime":"Mon, 01 Jan 2020 00:00:00 +99999999999999"}]',
    ),
    "a size in 900 brackets": ("releases_json", b'[{"url":"a","size":' + _DEEP + b"}]"),
    "a record in 980 brackets": (
        "repodata",
        b'{"packages":{"a-1-0.conda":{"name":"a","size":1,"x":' + b"[" * 980 + b"]" * 980 + b"}}}",
    ),
    "a record of a snapshot in brackets": ("record", b'{"a":' + b"[" * 5000),
    "a state in brackets": ("small_files", b'{"a":' + b"[" * 5000),
    "a directory in brackets": ("metadata_blob", b"\x81\xa1a" + b"\x91" * 5000),
    "a leaf in brackets": ("files_leaf_", b"\x81\xa1a" + b"\x91" * 5000),
    "a list of projects in an encoding with halves of characters": (
        "page_html",
        b"\xf1<h1>Links for x</h1>+2AA-<a href=foo-1.zip>",
    ),
    "a list of a version that only its parser saw": (
        "project_list",
        b'<meta content="2.0" name="pypi:repository-version"><h1>Simple index</h1><a href=foo/>foo</a>',
    ),
    "a marker in brackets": ("metadata", b"Requires-Dist: a; " + b"(" * 5000 + b"os_name=='a'" + b")" * 5000),
    "a number of 5000 digits in TOML": ("configuration", b"a = " + b"1" * 5000),
    "TOML in brackets": ("configuration", b"a = " + b"[" * 5000),
    "a lock in brackets": ("uv_lock", b"a = " + b"[" * 5000),
    "a dependency in 6000 brackets ended the process": ("match_spec", b"numpy " + b"(" * 6000 + b">=1" + b")" * 6000),
    "a condition in brackets, too": ("match_spec", b'a[when="' + b"(" * 30_000 + b"b" + b")" * 30_000 + b'"]'),
    "and one of many parts": ("match_spec", b'a[when="' + b" and ".join([b"b"] * 50_000) + b'"]'),
    "a name that is a pattern, and no channel": ("match_spec", b"https:/^a*"),
    "a lock whose marker has 30,000 brackets ended the process": (
        "include_from",
        lock(b"(" * 30_000 + b"os_name=='a'" + b")" * 30_000),
    ),
    "YAML in brackets": ("include_from", b"- " * 3000),
    "YAML with a tag that its reader can't make": ("include_from", b"dependencies: !!bool x"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_mended(what: str) -> None:
    """Each of these ended the program with a traceback, or would have ended whoever reads what comes of it."""
    name, data = FOUND[what]
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_somebody_else_has_made(name: str, data: st.DataObject) -> None:
    """Is read, or refused with an error that is told: valid documents with a few changes."""
    found = TARGETS[name]
    content = bytearray(data.draw(st.sampled_from(found.seeds)))
    words = st.sampled_from([word.encode() for word in found.words]) if found.words else st.nothing()
    pieces = (
        words | st.binary(max_size=8) | st.sampled_from([b"[" * 300, b"9" * 400, b"\0", "\u202e".encode(), b"\xed\xa0\x80"])
    )
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 12))] = data.draw(pieces)
    found.run(bytes(content))


@pytest.mark.parametrize(
    "piece", ["<!--", "<a href='", "<a href=x ", "</", "<?", "<![CDATA[>", "<b></i>", "<meta pypi:repository-version "]
)
@pytest.mark.parametrize("read", READERS)
def test_html_that_never_ends(piece: str, read: str) -> None:
    """Python's parser looks for the end again at each beginning: 200 kB took minutes, a page may have 32 MiB."""
    body = piece.encode() * (200_000 // len(piece))
    answer = Answer(body, None, URL)
    begin = time.monotonic()
    with pytest.raises(BadIndexError):
        READERS[read](answer)
    assert time.monotonic() - begin < _SOON


@pytest.mark.parametrize("parts", [400, 4000])
def test_a_lock_whose_marker_has_many_parts(parts: int, tmp_path: Path) -> None:
    """Thousands of them took half a minute and more. A wrapped line, as YAML allows it, hides none."""
    path = tmp_path / "pixi.lock"
    path.write_bytes(lock(b"\n      or ".join(b"extra=='e%d'" % number for number in range(parts))))
    begin = time.monotonic()
    if parts > 400:
        with pytest.raises(ValueError, match="a marker, or another text in it, is longer than 8192 characters"):
            wanted.read_file(path)
    else:
        assert wanted.read_file(path).files == {"noarch": {"c-1-0.conda": (Locked(),)}}
    assert time.monotonic() - begin < _SOON


def test_links_with_signs_in_their_attributes() -> None:
    """Indexes write `<` and `>` there as they are; such a link ends where its quotes have ended."""
    link = '<a href="foo-1.zip" data-requires-python=">=3,<4">foo-1.zip</a>'
    found = html.project(Answer(f"<title>Links for foo</title>{link}".encode(), None, URL), "foo")
    assert [file["requires-python"] for file in found["files"]] == [">=3,<4"]


def test_a_row_of_a_listing_with_many_links() -> None:
    """Has its text read once, not again for every link; nor does each link keep all of it."""
    begin = time.monotonic()
    found = pages.parse(b"<h1>Index of</h1><tr>" + b"x " * 500_000 + b"".join(b"<a href=%d>" % n for n in range(2000)), URL)
    assert time.monotonic() - begin < _SOON
    assert len(found.files) == 2000
    assert all(len(entry.text) <= 1000 for entry in found.files)


@pytest.mark.parametrize("kind", ["zst", "bz2"])
def test_a_body_of_empty_frames(kind: str) -> None:
    """Took the square of the time, for each of them left a copy of all that follow."""
    empty = codec.compress(b"", 3) if kind == "zst" else bz2.compress(b"")
    begin = time.monotonic()
    with pytest.raises(ValueError, match="frames"):
        (codec.decompress if kind == "zst" else codec.decompress_bz2)(empty * 200_000, 1 << 30)
    assert time.monotonic() - begin < 3 * _SOON


def test_frames_of_any_size_one_after_the_other() -> None:
    """Come out as they went in: parallel compressors write such bodies."""
    parts = [b"", b"a", b"bc" * 700, b"", bytes(3 << 20), b"d" * 1024]
    assert codec.decompress(b"".join(codec.compress(part, 3) for part in parts), 1 << 30) == b"".join(parts)
    assert codec.decompress_bz2(b"".join(map(bz2.compress, parts)), 1 << 30) == b"".join(parts)


def test_an_sdist_that_states_a_long_header() -> None:
    """tarfile would read all of it into memory: a header of 300 MB, in 300 kB."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 300 << 20
    sdist = gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20), 1)
    with pytest.raises(ValueError, match="header of"):
        wheels.pkg_info_in(io.BytesIO(sdist), "foo-1.tar.gz")


def test_a_wheel_for_everything() -> None:
    """A name of 220 bytes can say 50,000 tags, of which each cost memory; its version is still read."""
    tags = ".".join("abcdefghijklmnopqrstuvwxyz0123456789")
    assert names.parse(f"a-1-{tags}-{tags}-{tags}.whl", "a") == names.Named("wheel", "1", frozenset())


def test_a_record_with_a_number_of_no_snapshot() -> None:
    """One flipped digit must not make `check` and `gc` count to it."""
    found = [
        records.Record(id=f"2026010{number}T000000Z", number=count, repos={}) for number, count in enumerate((1, 2, 10**15), 1)
    ]
    with pytest.raises(DamagedError, match=r"the record number 3 .*999999999999999"):
        Catalog(tuple(found)).verify()


def test_a_nested_record_is_withheld_or_can_be_read_again() -> None:
    """What is made of it has to be read by way of more calls than it was read with."""
    for depth in range(600, 900, 7):
        text = b'{"packages":{"a-1-0.conda":{"name":"a","size":1,"x":' + b"[" * depth + b"]" * depth + b"}}}"
        for made in flat.FlatReading(CHANNEL, text, "", None).drafts(["a"]):
            assert made.invalid or codec.deeper(lambda made=made: msgspec.msgpack.decode(made.content), 100)
    assert draft("a", {}, URL, None).content == b""


def test_an_environment_file_names_packages_as_texts(tmp_path: Path) -> None:
    """YAML reads `yes` as true; it is a name like any other."""
    (tmp_path / "environment.yml").write_text("dependencies:\n- yes\n- python >=3\n-\n")
    assert wanted.read_file(tmp_path / "environment.yml").specs == ["yes", "python >=3"]


def test_a_configuration_in_brackets_says_so(tmp_path: Path) -> None:
    """As one line, not as a traceback."""
    (tmp_path / "x.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        config.load(tmp_path / "x.toml")


def test_an_address_of_no_server_takes_out_one_file() -> None:
    """And leaves the others of the list."""
    found = releases.parse(b'[{"url":"http://["},{"url":"https://x.example/b","size":1}]', URL)
    assert [entry.name for entry in found.files] == ["b"]
