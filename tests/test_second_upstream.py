"""`upstream = [first, second]` of repos whose files come on demand: what the first fails to give, the second may have."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from pypi_index import JSON, Index, make_wheel
from serving import server
from upstream import Body, Fault, Status, Upstream

KINDS = ("conda", "pypi", "files")
PACKAGE = make_package("one", payload=bytes(range(256)) * 400)
WHEEL, CONTENT, METADATA = make_wheel("one", "1.0", ["two"])


@contextmanager
def upstream_of(kind: str, root: Path) -> Iterator[tuple[Upstream, str, dict[str, bytes]]]:
    """An upstream of a kind, its address, and {file: content}. Indexes have their files wherever they like."""
    if kind == "pypi":
        with Index(root) as index:
            index.upload("one", WHEEL, CONTENT, METADATA)
            index.pages["one"]["files"][0]["url"] = f"{index.url}/{root.name}/{WHEEL}"
            index.write(f"{root.name}/{WHEEL}", CONTENT)
            index.write(f"{root.name}/{WHEEL}.metadata", METADATA)
            yield index, index.url, {WHEEL: CONTENT, f"{WHEEL}.metadata": METADATA}
        return
    with Upstream(root) as upstream:
        if kind == "conda":
            channel = Channel(root)
            channel.add(PACKAGE)
            channel.publish()
            yield upstream, upstream.url, {PACKAGE.filename: PACKAGE.data}
        else:
            root.mkdir()
            (root / "one.sh").write_bytes(CONTENT)
            listed = [
                {
                    "name": "one.sh",
                    "url": f"{upstream.url}/one.sh",
                    "size": len(CONTENT),
                    "sha256": hashlib.sha256(CONTENT).hexdigest(),
                }
            ]
            (root / "list.json").write_text(json.dumps(listed))
            yield upstream, f"{upstream.url}/list.json", {"one.sh": CONTENT}


def served(url: str, kind: str) -> dict[str, bytes | int]:
    """{file: content, or the status of the answer} of what a server lists."""
    if kind == "pypi":
        page = requests.get(f"{url}/repo/simple/one/", headers={"Accept": JSON}, timeout=20)
        address = urljoin(page.url, page.json()["files"][0]["url"])
        found = {WHEEL: address, f"{WHEEL}.metadata": f"{address}.metadata"}
    else:
        name = f"noarch/{PACKAGE.filename}" if kind == "conda" else "one.sh"
        found = {name.rpartition("/")[2]: f"{url}/repo/{name}"}
    answers = {file: requests.get(address, timeout=20) for file, address in found.items()}
    return {file: answer.content if answer.ok else answer.status_code for file, answer in answers.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_takes_from_the_second_what_the_first_does_not_have(tmp_path: Path, kind: str) -> None:
    """A mirror whose index is ahead of its files. While the second can't be asked, the file is withheld."""
    mirror = Mirror(tmp_path / "mirror")
    mirror.settings["download"] |= {"retries": 0}
    with (
        upstream_of(kind, tmp_path / "second") as (second, second_address, files),
        upstream_of(kind, tmp_path / "first") as (first, address, _),
    ):
        mirror.add("repo", [address, second_address], kind=kind, **({"projects": ["one"]} if kind == "pypi" else {}))
        for file in files:
            first.fault(f"*/{file}", Status(404))
        second.fault("*", Status(404))
        mirror.sync(status=3).line("withheld", "upstream answers 404")
        second.heal()
        mirror.sync()
    with server(mirror.config) as (url, _):
        assert served(url, kind) == files


@pytest.mark.parametrize("trouble", ["down", "wrong", "lost", "replaced"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_fails_and_the_second_has_it(tmp_path: Path, kind: str, trouble: str) -> None:
    mirror = Mirror(tmp_path / "mirror")
    with upstream_of(kind, tmp_path / "second") as (second, second_address, files):
        with upstream_of(kind, tmp_path / "first") as (first, address, _):
            keys = {"kind": kind, "download": "on-demand", "negative_age": "0s"}
            mirror.add("repo", [address, second_address], **keys, **({"projects": ["one"]} if kind == "pypi" else {}))
            mirror.sync()
            if trouble in ("wrong", "lost"):
                fault: Fault = Body(b"wrong") if trouble == "wrong" else Status(404)
                for file in files:
                    first.fault(f"*/{file}", fault)
                    second.fault(f"*/{file}", Body(CONTENT[::-1]), times=1)
                with server(mirror.config) as (url, _):
                    assert set(served(url, kind).values()) <= {502, 404}  # the second is verified alike
                    assert served(url, kind) == files
        if trouble == "replaced":  # in the configuration, for it is no more
            mirror.repos[0]["upstream"] = second_address
            mirror.write()
        if trouble in ("down", "replaced"):
            began = time.monotonic()
            with server(mirror.config) as (url, _):
                assert served(url, kind) == files
            assert time.monotonic() - began < 15
