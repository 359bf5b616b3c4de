"""Adopting a tree of 10,000 files in the usual layout, apart from hashing, against `cp -al` of the same tree.

Ours: `Store.adopt` of files whose sums are known: their bytes made durable, a second name by way of a checked one, mode
0444, every folder of names synced, rows in the index committed. The peer links the same tree and syncs nothing.
The whole command, with reading its repodata, hashing and sealing, is printed beside it.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3

from snapmirror.store.blobs import Original, identity
from snapmirror.store.store import Store

from .measure import Bar, Result, Skip, Work, child, in_turn, need, remove, run, settle

TAKEN = Bar("adopt 10,000 files apart from hashing: seconds for them", most=1.0, unit="s")
CP = Bar("  the same", "cp -al, unsynced")
WHOLE = Bar("  the whole `snapmirror adopt` of them (1 kB each)", "cp -al, unsynced")
BARS = (TAKEN, CP, WHOLE)


def measure(work: Work) -> Iterator[Result]:
    """The tree stays; the store and the peer's copy are made anew in each round."""
    need("cp")
    if sys.platform != "linux":
        raise Skip("cp -al is GNU's")
    count = work.size(10_000, 300)
    tree, target = work.folder / "tree", work.folder / "peer"
    child(__name__, "prepare", tree, str(count))

    def ours() -> float:
        store = work.fresh("store")
        settle()
        return float(child(__name__, "take", tree, str(store))["seconds"]) * 10_000 / count

    def peer() -> float:
        remove(target)
        settle()
        began = time.perf_counter()
        run(("cp", "-al", tree, target))
        return (time.perf_counter() - began) * 10_000 / count

    def whole() -> float:
        place = work.fresh("whole")
        text = '[download]\nmin_free = "0%"\n[[repo]]\nkind = "conda"\npath = "c"\nupstream = "http://127.0.0.1/c"\n'
        (place / "snapmirror.toml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "snapmirror", "adopt", tree, "--repo", "c", "-c", place / "snapmirror.toml"]
        settle()
        began = time.perf_counter()
        run(command)
        return (time.perf_counter() - began) * 10_000 / count

    taken, linked, all_ = in_turn(work.runs, ours, peer, whole)
    yield Result(TAKEN, taken)
    yield Result(CP, taken, linked)
    yield Result(WHOLE, all_, linked)


# In a process of its own


def _content(number: int) -> bytes:
    return f"package {number}\n".encode() * 64


def _prepare(tree: Path, count: int) -> dict[str, Any]:
    """A noarch of packages that are none, which nobody opens, and their repodata.json."""
    folder = tree / "noarch"
    folder.mkdir(parents=True)
    packages = {}
    for number in range(count):
        name, content = f"package{number // 8}", _content(number)
        file = f"{name}-1.{number % 8}.0-h{number * 7919 % 0xFFFFFF:06x}_0.conda"
        (folder / file).write_bytes(content)
        packages[file] = {
            "name": name,
            "version": f"1.{number % 8}.0",
            "build": f"h{number * 7919 % 0xFFFFFF:06x}_0",
            "build_number": 0,
            "depends": [],
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    (folder / "repodata.json").write_text(
        json.dumps({"info": {"subdir": "noarch"}, "packages.conda": packages}), encoding="utf-8"
    )
    return {}


def _take(tree: Path, root: Path) -> dict[str, Any]:
    """Take files whose sums are known."""
    originals = []
    for path in (tree / "noarch").glob("*.conda"):
        data = path.read_bytes()
        sums = hashlib.sha256(data).digest(), blake3.blake3(data).digest()
        originals.append(Original(str(path), *sums, len(data), None, identity(path.stat())))
    Store.create(root)
    with Store.open(root, write=True) as store:
        _ = store.index  # made before, as by any earlier part of the command
        settle()
        began = time.perf_counter()
        problems = store.adopt(originals)
        seconds = time.perf_counter() - began
        if any(problems) or not all(store.blobs.path(one.sha256).samefile(one.path) for one in originals):
            raise RuntimeError("not everything was linked")
    return {"seconds": seconds}


def main() -> None:
    """One step; prints its seconds."""
    name, tree, argument = sys.argv[1:]
    found = _prepare(Path(tree), int(argument)) if name == "prepare" else _take(Path(tree), Path(argument))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
