"""The bytes of a package index that must never change: leaves, directories, and the pages made of them.

A change of any digest here is a new `form`: snapshots that there are would be answered in other bytes than before.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from pypi_index import published

from snapmirror.digests import sha256
from snapmirror.ecosystem import PageAt, Site
from snapmirror.pypi import Pypi, leaf, negotiate, page
from snapmirror.readings import Answer
from snapmirror.store.assembly import assemble
from snapmirror.store.directories import Directory

ADDRESS = "https://index.example/simple/foo-bar/"
#: from `current/pypi/simple/foo-bar/`
FILES = "../../../../pypi/"
WHEEL, SDIST, OLD = "foo_bar-1.0-py3-none-any.whl", "foo-bar-1.0.tar.gz", "foo-bar-0.9+local.zip"

UPSTREAM: dict[str, Any] = {
    "meta": {"api-version": "1.4", "_last-serial": 7},
    "name": "Foo.Bar",
    "versions": ["0.9+local", "1.0"],
    "project-status": {"status": "archived", "reason": "a <reason> & more"},
    "x-unknown": {"b": [1, 2.5, None], "a": "ü"},
    "files": [
        {
            "filename": WHEEL,
            "url": f"https://files.example/packages/ab/cd/{'0' * 60}/{WHEEL}",
            "hashes": {"sha256": "12" * 32},
            "requires-python": ">=3.8,<4",
            "size": 10,
            "upload-time": "2026-11-01T10:00:00.123456Z",
            "yanked": "broken",
            "core-metadata": {"sha256": "34" * 32},
            "data-dist-info-metadata": {"sha256": "34" * 32},
            "provenance": "https://index.example/integrity/foo-bar/1.0/x/provenance",
        },
        {
            "filename": SDIST,
            "url": f"../../files/{SDIST}?x=1#sha256={'56' * 32}",
            "hashes": {"md5": "78" * 16},
            "requires-python": None,
            "size": None,
            "upload-time": "2026-11-02T10:00:00Z",
            "yanked": False,
            "gpg-sig": True,
        },
        {"filename": OLD, "url": f"https://files.example/old/{OLD}", "hashes": {"sha256": "9a" * 32}, "size": 3, "new": [1]},
    ],
}

IN_HTML = f"""<!DOCTYPE html>
<html><head><meta name="pypi:repository-version" content="1.0"><title>Links for foo-bar</title></head><body>
<a href="{WHEEL}#sha256={"12" * 32}" data-requires-python="&gt;=3.8" data-dist-info-metadata="sha256={"34" * 32}">{WHEEL}</a>
<a href="https://files.example/{SDIST}#md5={"78" * 16}" data-yanked="broken">{SDIST}</a>
</body></html>
"""


def made(body: bytes, **provenance: bool) -> bytes:
    """The leaf of a page of upstream."""
    found = page.read(Answer(body, None, ADDRESS, {}), "foo-bar")
    draft = page.draft("foo-bar", found, ADDRESS, b"", **provenance)
    assert not draft.invalid
    return draft.content


def settled(**provenance: bool) -> bytes:
    """The same as it is stored: with what was computed of the files."""
    digests = {SDIST: b"s" * 32, f"{WHEEL}.metadata": b"m" * 32, f"{WHEEL}.provenance": b"p" * 32}
    return leaf.settle(made(json.dumps(UPSTREAM).encode(), **provenance), digests, {}, {SDIST: 5})


def test_leaves() -> None:
    whole = json.dumps(UPSTREAM).encode()
    contents = {
        "as upstream has it": made(whole),
        "from HTML": made(IN_HTML.encode()),
        "stored": settled(),
        "with attestations": settled(provenance=True),
        "files withheld": leaf.settle(settled(), {}, {SDIST, f"{WHEEL}.metadata"}),
    }
    assert {name: sha256(content).hex() for name, content in contents.items()} == {
        "as upstream has it": "7f2587b0c53877243ab146c6cc99f31927e42ec0890ef8f5e7c44831e87a69ef",
        "from HTML": "52c600467620749055c5e117bb57ccf12cd0eeacd97b9f7e901cf85061622466",
        "stored": "8031733486c9607e0ae9cf23f2a690080416367cf73be493ee5a60dffb4ec668",
        "with attestations": "675aef35d05edf8d81bdfcc3aeaa639f33f191ecf55a7503d45dc3f9cc1cea1d",
        "files withheld": "c2b4575bfec6ab658061cfcffb0f80a1779e08997a14dcec54104858d51d0a13",
    }


def test_paths() -> None:
    """Files keep their addresses for ever: lock files have them."""
    assert list(leaf.paths(settled(provenance=True))) == [
        f"packages/ab/cd/{'0' * 60}/{WHEEL}",
        f"packages/ab/cd/{'0' * 60}/{WHEEL}.metadata",
        f"packages/ab/cd/{'0' * 60}/{WHEEL}.provenance",
        f"packages/73/73/{'73' * 30}/{SDIST}",
        f"packages/9a/9a/{'9a' * 30}/{OLD}",
    ]


def test_a_directory() -> None:
    header = Directory(
        kind="pypi", form=Pypi.form, mode="eager", origin="https://index.example/simple/", info={"_last-serial": 7}, files=3
    )
    leaves = {f"name{number}": sha256(str(number).encode()) for number in range(40)}
    assembled = assemble(header, leaves, {}, {"foo-2.0-1.tar.gz": "foo"}, {"name0": leaf.label(settled()), "name1": " Name1"})
    assert len(assembled.directory.buckets) == 4
    assert assembled.digest.hex() == "e68312c04a3edb1891452666b0fe5ce2d6d2993fedf706f3fcd2a046990703f4"


@pytest.mark.parametrize(
    ("path", "form", "digest"),
    [
        ("simple/foo-bar/", negotiate.JSON, "5c46f9b7027a5d06bd134b82813d369441477b44eea5ae2f6caecdb5c8dcb02f"),
        ("simple/foo-bar/", "text/html; charset=utf-8", "c6612fcfc9bb322af9152d9361cb479d7a838a193fa48f5a8b843a44567bc84a"),
        ("simple", negotiate.JSON, "2fa42eebe209284b6d149a7f43a7096e481919cbd5c5e9b0c029e0c956be9bb3"),
        ("simple/", "text/html; charset=utf-8", "6122f3a538a1c73bff39f3d8417cdcc3e63b2f35d3b4b9f276f6d7f914aac8db"),
        ("pypi/foo-bar/json", "application/json", "13f8340565df277c4683136b7a4ac69ee00848f667632b7b8a46b9a60fe6301f"),
    ],
)
def test_pages(path: str, form: str, digest: str, tmp_path: Path) -> None:
    reader = published(tmp_path, {"foo-bar": settled(provenance=True)})
    found = PageAt(path, None if path.startswith("simple") and path.count("/") < 2 else reader.leaf("foo-bar"))
    assert Pypi.pages
    body = Pypi.pages.make(reader, found, form, Site(FILES, ())).body
    assert sha256(body).hex() == digest, body.decode()
