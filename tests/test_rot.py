"""Rot: bits, lengths and whole files of the store change at random; it is found, mended, and never served once it is found.

SNAPMIRROR_LONG=1 does a thousand damages (`make rot`). SNAPMIRROR_SEED takes another course.
"""

import bz2
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from serving import serving

from snapmirror import codec

#: what a damage does to the bytes of a file; the other bytes are those of some other file
Harm = Callable[[random.Random, bytes, bytes], bytes | None]


def flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def delete(rng: random.Random, data: bytes, other: bytes) -> None:
    return None


def swap(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return other


HARMS: tuple[Harm, ...] = (flip, truncate, delete, swap)
#: what upstream can't give, and nothing makes again
RECORDED = {"snapshots", "pins", "snapmirror.json"}


def files(store: Path) -> list[Path]:
    """All files whose bytes mean something, each by one of its names."""
    parts = [store / name for name in ("blobs", "snapshots", "pins", "documents", "live")]
    found = [path for part in parts for path in part.rglob("*") if path.is_file()]
    return sorted([*found, store / "index.lmdb", store / "snapmirror.json"])


def harm(path: Path, data: bytes | None) -> None:
    path.chmod(0o644)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
        if path.parent.parent.name == "blobs" or path.parent.name == "documents":
            path.chmod(0o444)


def is_made_again(path: str) -> bool:
    """Whether a path is a compressed document: made again, or damaged so that it means the same, it may have other bytes."""
    return "repodata" in path.rpartition("/")[2] and path.endswith((".zst", ".bz2"))


def content(path: str, body: bytes) -> bytes:
    if not is_made_again(path):
        return body
    return bz2.decompress(body) if path.endswith(".bz2") else codec.decompress(body, 1 << 24)


def trees(mirror: Mirror, ids: list[str]) -> dict[str, dict[str, str]]:
    """What folders for web servers hold; `published` has compared compressed documents with the plain ones."""
    return {id_: {path: one for path, one in mirror.published(id_).items() if not is_made_again(path)} for id_ in ids}


def answers(url: str, paths: list[str]) -> dict[str, bytes]:
    """The bodies of all good answers."""
    with requests.Session() as session:
        got = {path: session.get(f"{url}/{path}", headers={"Accept-Encoding": "identity"}, timeout=30) for path in paths}
    assert all(answer.status_code in (200, 404, 503) for answer in got.values())
    return {path: content(path, answer.content) for path, answer in got.items() if answer.status_code == 200}


@pytest.mark.skipif(not shutil.which("cp"), reason="needs cp")
def test_whatever_rots_is_found_mended_and_not_served(mirror: Mirror, channel: Channel) -> None:
    """Records can't be had from upstream: they are named, and come back from a backup."""
    mirror.settings["publish"] = {"plain": True}
    mirror.sync("--seal-as", "2026-01-01")
    channel.add(*(make_package(f"more{number}") for number in range(6)))
    channel.publish()
    mirror.sync("--seal-as", "2026-01-02")
    mirror.run("pin", "paper", mirror.snapshots()[0])
    mirror.run("check", "--read-data")
    backup = {path: path.read_bytes() for path in files(mirror.store_path)}
    ids = mirror.snapshots()
    paths = [f"{id_}/{place}" for id_ in ids for place in mirror.published(id_)]
    tree = trees(mirror, ids)
    rng = random.Random(int(os.environ.get("SNAPMIRROR_SEED", "1")))
    with serving(mirror.store_path) as url:
        right = answers(url, paths)
    assert len(right) == len(paths)
    left = 1000 if os.environ.get("SNAPMIRROR_LONG") else 24
    while left > 0:
        harmed: dict[Path, str] = {}
        present = files(mirror.store_path)
        for path in rng.sample(present, min(8, left)):
            other = rng.choice(present)
            how = rng.choice(HARMS)
            before = path.read_bytes() if path.exists() else b""
            after = how(rng, before, other.read_bytes() if other.exists() else b"") if before else None
            left -= 1
            if after != before:
                harm(path, after)
                harmed[path] = how.__name__
        story = {str(path.relative_to(mirror.store_path)): how for path, how in harmed.items()}
        recorded = [path for path in harmed if path.relative_to(mirror.store_path).parts[0] in RECORDED]
        said = ""
        if mirror.store_path / "index.lmdb" in harmed:  # the one thing that check tells to make again first
            said = mirror.run("check", status=None).out
            mirror.run("reindex", status=None)
        found = mirror.run("check", "--read-data", status=None)
        assert found.status in (0, 1, 5), story
        for path in harmed:
            top = path.relative_to(mirror.store_path).parts[0]
            if top == "blobs":
                assert path.name in said + found.out + found.err or recorded, story
                assert not path.exists() or path.read_bytes() == backup.get(path) or recorded, story
        for path in recorded:  # a record has no checksum: it may be wrong and say nothing that can be seen to be so
            if path.exists():
                path.chmod(0o644)
            path.write_bytes(backup[path])
        mirror.run("check", "--read-data", status=None)  # of what could not be looked at without the records
        with serving(mirror.store_path) as url:
            assert all(right[path] == body for path, body in answers(url, paths).items()), story
        mirror.run("check", "--repair", status=None)
        for path in (path for path in harmed if path.parent.parent.name == "blobs" and not path.exists()):
            path.write_bytes(backup[path])  # metadata, which no upstream has
            path.chmod(0o444)
        mirror.run("check", "--repair")
        mirror.run("check", "--read-data")
        assert trees(mirror, ids) == tree, story
