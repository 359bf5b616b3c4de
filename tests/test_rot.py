"""Rot: bits, lengths and whole files of a store change at random; it is found, mended, and never served once it is found.

SNAPMIRROR_LONG=1 does a thousand damages (`make rot`, which prints what came of them), SNAPMIRROR_SEED takes another course.
"""

import bz2
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from serving import serving

from snapmirror import codec
from snapmirror.digests import sha256

pytestmark = pytest.mark.proof

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
#: what neither upstream nor another mirror is asked for: it comes back from a backup
RECORDED = ("snapshots", "pins", "snapmirror.json")
#: of these no digest is known, so that not every change can be told
UNPROVEN = ("pins", "snapmirror.json", "index.lmdb")


class Harmed(NamedTuple):
    """One damaged file."""

    path: Path
    kind: str
    how: str
    #: what it held
    right: bytes
    #: what it holds now, None: nothing
    wrong: bytes | None

    def is_told(self, said: str) -> bool:
        """Whether any line names it, or it means what it has meant before."""
        if self.kind == "index.lmdb":
            return "index" in said
        if self.kind == "published" and "published/" in said:  # a check names the first of a folder; all of it is made again
            return True
        if self.path.parent.name == "snapshots" and self.wrong is None and "snapshots/: the record number" in said:
            return True  # what is gone without a trace has no name
        names = [f"{self.path.parent.name}/{self.path.stem}" if self.kind == "snapshots" else self.path.name]
        names += [sha256(self.right).hex(), sha256(content(self.path.name, self.right)).hex()]
        return self.is_harmless() or any(name in said for name in names)

    def is_harmless(self) -> bool:
        """Documents are a cache, and compressed ones may mean the same."""
        if self.wrong is None:
            return self.kind == "documents"
        return content(self.path.name, self.wrong) == content(self.path.name, self.right) != self.wrong


def files(store: Path) -> list[Path]:
    """All files of a store that mean something; a blob or document also by its names in trees."""
    parts = [store / name for name in ("blobs", "snapshots", "pins", "documents", "published/.trees")]
    found = [path for part in parts for path in part.rglob("*") if path.is_file()]
    return sorted([*found, store / "index.lmdb", store / "snapmirror.json"])


def damage(store: Path, rng: random.Random, most: int) -> list[Harmed]:
    """Change up to so many files, each once."""
    harmed: dict[int, Harmed] = {}
    present = files(store)
    for path in rng.sample(present, most):
        other, how = rng.choice(present), rng.choice(HARMS)
        if not path.exists() or not path.stat().st_size or path.stat().st_ino in harmed:
            continue
        before = path.read_bytes()
        after = how(rng, before, other.read_bytes() if other.exists() else b"")
        if after != before:
            kind = path.relative_to(store).parts[0]
            harmed[path.stat().st_ino] = Harmed(path, kind, how.__name__, before, after)
            change(path, after)
    return list(harmed.values())


def change(path: Path, data: bytes | None) -> None:
    """What the disk does, behind everybody's back: modes stay."""
    if data is None:
        path.unlink()
        return
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


def restore(path: Path, data: bytes) -> None:
    """From a backup."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def content(path: str, body: bytes) -> bytes:
    """The bytes of a file, of a compressed document the plain ones: made again, it may have others."""
    name = path.rpartition("/")[2]
    if len(name) < 64 and "repodata" not in name:
        return body
    try:
        if name.endswith(".zst"):
            return codec.decompress(body, 1 << 24)
        return bz2.decompress(body) if name.endswith(".bz2") else body
    except (OSError, ValueError):
        return body


def trees(mirror: Mirror, ids: list[str]) -> dict[str, dict[str, bytes]]:
    """What folders for web servers hold."""
    found: dict[str, dict[str, bytes]] = {}
    for id_ in ids:
        folder = mirror.store_path / "published" / id_
        paths = [Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names]
        found[id_] = {str(path.relative_to(folder)): content(path.name, path.read_bytes()) for path in paths}
    return found


def answers(url: str, paths: list[str]) -> dict[str, bytes]:
    """The bodies of all good answers."""
    with requests.Session() as session:
        got = {path: session.get(f"{url}/{path}", headers={"Accept-Encoding": "identity"}, timeout=30) for path in paths}
    assert all(answer.status_code in (200, 503) for answer in got.values()), {path: got[path].status_code for path in got}
    return {path: content(path, answer.content) for path, answer in got.items() if answer.status_code == 200}


class Rot:
    """A store that rots, and what came of it."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.store = mirror, mirror.store_path
        self.other = str(shutil.copytree(self.store, mirror.root / "other", symlinks=True))
        parts = ("blobs", "snapshots")
        self.backup = {path: path.read_bytes() for path in files(self.store) if path.relative_to(self.store).parts[0] in parts}
        self.trees = trees(mirror, mirror.snapshots())
        self.right = {f"{id_}/{path}": body for id_, bodies in self.trees.items() for path, body in bodies.items()}
        self.counts: Counter[tuple[str, str]] = Counter()

    def check(self, *options: str) -> tuple[int, str]:
        """Exit status, and all that is said."""
        done = self.mirror.run("check", *options, status=None)
        return done.status, done.out + done.err

    def one_round(self, rng: random.Random, most: int) -> int:
        """Damage, find, serve, mend; how many files were damaged."""
        harmed = damage(self.store, rng, most)
        story = {str(one.path.relative_to(self.store)): one.how for one in harmed}
        said = self.find(harmed)
        with serving(self.store) as url:
            served = answers(url, list(self.right))
        wrong = [path for path, body in served.items() if body != self.right[path]]
        assert not wrong, (wrong, story)
        said += self.mend(story)
        missed = [one.path.name for one in harmed if one.kind not in UNPROVEN and not one.is_told(said)]
        assert not missed, (missed, story, said)
        for one in harmed:
            self.counts[one.kind, "damages"] += 1
            self.counts[one.kind, "told" if one.is_told(said) and not one.is_harmless() else "silent"] += 1
        self.counts["", "answers"] += len(served)
        return len(harmed)

    def find(self, harmed: list[Harmed]) -> str:
        """Look for damage; then bring back what only a backup has, and look for what could not be looked at without that."""
        _, said = self.check("--read-data")
        if any(one.kind in ("index.lmdb", "snapmirror.json") for one in harmed):  # without these there is no looking
            for one in harmed:
                if one.kind == "snapmirror.json":
                    restore(one.path, one.right)
            self.mirror.run("reindex")
            said += self.check("--read-data")[1]
        for one in harmed:
            if one.kind in RECORDED:
                restore(one.path, one.right)
        if any(one.kind in RECORDED for one in harmed):
            said += self.check("--read-data")[1]
        return said

    def mend(self, story: dict[str, str]) -> str:
        """From upstream, and what that does not have from the other mirror: then all is as it was."""
        status, said = self.check("--read-data", "--repair")
        if status:
            status, more = self.check("--repair", "--from", self.other)
            said += more
        assert status == 0, (said[-5000:], story)
        assert trees(self.mirror, list(self.trees)) == self.trees, story
        changed = [path.name for path, data in self.backup.items() if path.read_bytes() != data]
        assert not changed, (changed, story)
        return said

    def table(self) -> str:
        """Of each kind of file how many were damaged and told of; the others were of no effect, or have no digest."""
        kinds = sorted({kind for kind, _ in self.counts if kind})
        rows = [(kind, *(self.counts[kind, what] for what in ("damages", "told", "silent"))) for kind in kinds]
        lines = [f"{kind:16} {damages:8} {told:8} {silent:8}\n" for kind, damages, told, silent in rows]
        return "".join(lines) + f"answers of damaged stores, all right: {self.counts['', 'answers']}\n"


def test_whatever_rots_is_found_mended_and_not_served(mirror: Mirror, channel: Channel) -> None:
    """Files come back from upstream, metadata from another snapmirror, and records, which are signed, from a backup."""
    mirror.run_bare("key", "generate", str(mirror.root / "mirror.key"))
    mirror.settings |= {"publish": {"plain": True}, "sign": {"key": "mirror.key"}}
    mirror.sync("--seal-as", "2026-01-01")
    channel.add(*(make_package(f"more{number}") for number in range(25)))
    channel.publish()
    mirror.sync("--seal-as", "2026-01-02")
    mirror.run("pin", "paper", mirror.snapshots()[0])
    mirror.run("check", "--read-data")
    rot, rng = Rot(mirror), random.Random(int(os.environ.get("SNAPMIRROR_SEED", "1")))
    left, at_once = (1000, 50) if os.environ.get("SNAPMIRROR_LONG") else (16, 16)
    while left > 0:
        left -= rot.one_round(rng, min(at_once, left))
        if table := os.environ.get("SNAPMIRROR_TABLE"):
            Path(table).write_text(rot.table(), encoding="utf-8")
    with serving(mirror.store_path) as url:
        assert answers(url, list(rot.right)) == rot.right
