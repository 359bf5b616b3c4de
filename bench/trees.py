"""Making the hard-link tree of a directory of 200,000 files, against `cp -al` and `rsync --link-dest`.

Ours: `Trees.build(sync=False)`, which is given {name: blob}, from blobs in their 256 folders to names in one. The peers
link an equal folder of the same files. Nothing is synced by any of them. All inodes are in memory: each has just been
linked by the step before.

Unchanged: what a sync does for a directory whose digest is that of the snapshot before: it reads the snapshot's links and
takes the tree object that stands there. Nothing is linked, listed or hashed, so the size of the directory plays no part.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapmirror.conda import Conda
from snapmirror.conda.settings import CondaRepo
from snapmirror.store import fs
from snapmirror.store.assembly import assemble
from snapmirror.store.directories import Directory
from snapmirror.store.records import DirectoryState
from snapmirror.store.store import Store
from snapmirror.sync.directory import DirectorySync
from snapmirror.sync.settings import Options
from snapmirror.sync.trees import RepoTrees

from .measure import Bar, Result, Skip, Work, child, in_turn, need, remove, run, settle

CP = Bar("link a tree of 200,000 files, unsynced", "cp -al", least=1.0)
RSYNC = Bar("link a tree of 200,000 files, unsynced", "rsync -a --link-dest", least=3.0)
BARE = Bar("  the same", "the system call alone, in a loop")
UNCHANGED = Bar("a directory of 200,000 whose digest is as before, in a sync", "our linking it", least=100.0)
SAME_LISTING = Bar("  Trees.build of a listing whose object is there", "our linking it")
BARS = (CP, RSYNC, BARE, UNCHANGED, SAME_LISTING)

_RECORD = "20261120T010000Z"
_PLACE = "channel/linux-64"


def measure(work: Work) -> Iterator[Result]:
    """One store, whose tree object is made and removed in each round; the peers' source is a first tree that stays."""
    need("cp", "rsync")
    if sys.platform != "linux":
        raise Skip("cp -al is GNU's")
    count = work.size(200_000, 500)
    root, target = work.folder / "store", work.folder / "peer"
    source = Path(child(__name__, "prepare", root, str(count))["tree"])

    again: list[float] = []
    same: list[float] = []
    bare: list[float] = []

    def ours() -> float:
        settle()
        found = child(__name__, "link", root, str(count))
        again.append(found["again"])
        same.append(found["same"])
        bare.append(found["bare"])
        return float(found["link"])

    def peer(*command: str | Path) -> float:
        remove(target)
        settle()
        began = time.perf_counter()
        run(command)
        seconds = time.perf_counter() - began
        if sum(1 for _ in target.iterdir()) != count:
            raise RuntimeError(f"{command[0]} did not link everything")
        remove(target)
        return seconds

    linked, copied, synced = in_turn(
        work.runs,
        ours,
        lambda: peer("cp", "-al", source, target),
        lambda: peer("rsync", "-a", f"--link-dest={source}/", f"{source}/", f"{target}/"),
    )
    yield Result(CP, linked, copied)
    yield Result(RSYNC, linked, synced)
    yield Result(BARE, linked, bare)
    yield Result(UNCHANGED, again, linked)
    yield Result(SAME_LISTING, same, linked)
    remove(root)


# In a process of its own


def _digests(count: int) -> dict[str, bytes]:
    """{file: SHA-256} of files that hold their own names."""
    names = (f"package-{number:06}-1.{number % 10}.0-h{number * 7919 % 0xFFFFFF:06x}_0.conda" for number in range(count))
    return {name: hashlib.sha256(name.encode()).digest() for name in names}


def _prepare(root: Path, count: int) -> dict[str, Any]:
    """The blobs, and beside the store a tree of them for the peers."""
    Store.create(root)
    digests = _digests(count)
    with Store.open(root, write=True) as store:
        for name, digest in digests.items():
            store.blobs.path(digest).write_bytes(name.encode())
        tree = store.trees.path(store.trees.build(digests, sync=False))
    place = root.parent / "tree"
    tree.rename(place)
    return {"tree": str(place)}


def _link(root: Path, count: int) -> dict[str, Any]:
    """Link everything; then let a sync find that it has nothing to link."""
    digests = _digests(count)
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        tree = store.trees.build(digests, sync=False)
        link = time.perf_counter() - began

        began = time.perf_counter()
        store.trees.build(digests, sync=False)
        same = time.perf_counter() - began

        store.published.publish(_RECORD, {_PLACE: tree})
        repo = CondaRepo(path="channel", upstream="http://127.0.0.1/channel", subdirs=["linux-64"])
        known = assemble(Directory(kind="conda", form=1, mode="eager", origin="http://127.0.0.1/"), {}, {}, {})
        store.put(list(known.blobs.values()))
        state = DirectoryState(digest=known.digest.hex(), since=_RECORD, read=_RECORD)
        directory = DirectorySync(store, Conda(), repo, "linux-64", state, Options())
        began = time.perf_counter()
        links = store.published.links(_RECORD)
        trees = RepoTrees(store, {"conda": Conda()}, {"linux-64": store.metadata.directory(state.blob)})
        if directory.changed or not trees.stands("linux-64", links[_PLACE], plain=True):
            raise RuntimeError("the directory counts as changed")
        trees.build({"linux-64": links[_PLACE]}, plain=True)
        again = time.perf_counter() - began
        remove(store.trees.path(tree))
        fs.remove_tree(store.layout.published / _RECORD)
        bare = _link_alone(store, digests, root.parent / "bare")
    return {"link": link, "same": same, "again": again, "bare": bare}


def _link_alone(store: Store, digests: dict[str, Any], target: Path) -> float:
    """What the system takes at least: no program that makes these links can be faster, but by using two cores."""
    pairs = [(str(store.blobs.path(digest)), name) for name, digest in digests.items()]
    target.mkdir()
    folder = os.open(target, os.O_RDONLY)
    began = time.perf_counter()
    for path, name in pairs:
        os.link(path, name, dst_dir_fd=folder)
    seconds = time.perf_counter() - began
    os.close(folder)
    remove(target)
    return seconds


def main() -> None:
    """One step; prints its seconds."""
    name, root, count = sys.argv[1:]
    step = _prepare if name == "prepare" else _link
    print(json.dumps(step(Path(root), int(count))))


if __name__ == "__main__":
    main()
