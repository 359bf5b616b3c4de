"""A real sync that is killed at random moments leaves what was published as it was, and what was fetched for the next one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from channels import Channel, make_package
from inprocess import in_child, repodata
from upstream import Slow, Upstream

from snapmirror.cli.check import _leaf_files
from snapmirror.conda import CondaRepo
from snapmirror.store import check, fs
from snapmirror.store.store import Store

#: `make crash`, with what kills at every step
pytestmark = pytest.mark.proof


def problems(root: Path) -> list[check.Problem]:
    with Store.open(root, write=True) as store, store.lock(None):
        return list(check.structure(store, _leaf_files))


def published(root: Path) -> dict[str, dict[str, object]]:
    """What `current` and every id answer, and what the tree of `current` holds."""
    with Store.open(root, write=False) as store:
        documents = {record.id: repodata(store, record, "chan", "noarch") for record in store.catalog().records}
    tree = root / "published" / "current" / "chan" / "noarch"
    return {"documents": documents, "tree": {path.name: path.read_bytes() for path in tree.iterdir() if path.is_file()}}


@pytest.fixture
def changing(tmp_path: Path) -> Channel:
    channel = Channel(tmp_path / "channel")
    channel.add(*(make_package(f"old{number}") for number in range(4)))
    channel.publish()
    return channel


def next_state(channel: Channel) -> None:
    channel.add(*(make_package(f"new{number}", payload=os.urandom(60_000)) for number in range(12)))
    channel.remove("old0-1.0-0.conda")
    channel.publish()


def test_kill_9_at_twenty_random_moments_costs_nothing_but_time(tmp_path: Path, changing: Channel) -> None:
    root, config = tmp_path / "store", tmp_path / "snapmirror.toml"
    with Upstream(changing.root) as upstream:
        config.write_text(
            f'[[repo]]\nkind = "conda"\npath = "chan"\nupstream = "{upstream.url}"\n[download]\nmin_free = "0%"\n'
        )
        command = [sys.executable, "-m", "snapmirror", "sync", "-c", config]
        subprocess.run(command, check=True, capture_output=True)
        next_state(changing)
        upstream.fault("*.conda", Slow(30_000))
        before = published(root)
        seed = random.randrange(2**32)
        print("seed", seed)
        dice = random.Random(seed)
        for _ in range(20):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(dice.uniform(0.2, 1.5))
                process.send_signal(signal.SIGKILL)
            assert problems(root) == []
            after = published(root)
            if len(after["documents"]) > len(before["documents"]):  # it was faster than our shot
                assert before["documents"].items() <= after["documents"].items()
                break
            assert after == before
        upstream.heal()
        with Store.open(root, write=False) as store:
            held = [package.name for package in changing.root.glob("noarch/*.conda") if _holds(store, package.read_bytes())]
        upstream.clear()
        subprocess.run(command, check=True, capture_output=True)
        assert problems(root) == []
        asked = {path.rsplit("/", 1)[-1] for path in upstream.paths() if path.endswith(".conda")}
        assert asked.isdisjoint(held)
        with Store.open(root, write=False) as store:
            record = store.catalog().resolve("current", "chan", store.now())
            names = set(repodata(store, record, "chan", "noarch")["packages.conda"])
        assert names == {path.name for path in changing.root.glob("noarch/*.conda")}


def _holds(store: Store, content: bytes) -> bool:
    from snapmirror.digests import sha256

    return store.blobs.size(sha256(content)) == len(content)


# For test_adopt, too

CALLS = ("mkdir", "write", "open", "rename", "link", "symlink", "unlink", "fdatasync", "fsync", "chmod")


def _calls(tmp_path: Path, root: Path, repo: CondaRepo | None, action: object, dies_at: int | None) -> int:
    """Run an action in a child that dies at its n-th call (None: a rehearsal on a copy); how many calls it made."""
    if dies_at is None:
        rehearsal = tmp_path / "rehearsal"
        shutil.copytree(root, rehearsal, symlinks=True)
        root = rehearsal
    counted = tmp_path / "calls"

    def run() -> None:
        calls = _Counting(dies_at)
        fs.os = calls  # type: ignore[attr-defined]
        action(root, repo)  # type: ignore[operator]
        counted.write_text(str(calls.count))

    counted.unlink(missing_ok=True)
    in_child(run)
    return int(counted.read_text()) if counted.exists() else 0


class _Counting:
    """`os` as store.fs sees it, for a process that ends just before its n-th call of those that change something."""

    def __init__(self, dies_at: int | None) -> None:
        self.count = 0
        self._dies_at = dies_at

    def __getattr__(self, name: str) -> object:
        if name in CALLS:
            if self.count == self._dies_at:
                os._exit(9)
            self.count += 1
        return getattr(os, name)
