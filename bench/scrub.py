"""`check --read-data` of 20,000 files of 20 kB and a few large ones, against `cat` of the same files, and `restic check`.

Before each run every file's pages are dropped from the cache, one file at a time (posix_fadvise), as an unprivileged user can.
`cat` reads the blobs in the order of their names, into `/dev/null`. restic keeps the same bytes in a repository of its own,
unpacked: they are random.
"""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapmirror.store import scrub
from snapmirror.store.check import Problem
from snapmirror.store.store import Store

from .measure import Bar, Result, Work, child, in_turn, need, run

CAT = Bar("scrub 20,000 files of 20 kB, 16 of 32 MB: bytes/s", "cat to /dev/null", least=0.9, unit="MB/s")
RESTIC = Bar("  the same", "restic check --read-data", least=3.0, unit="MB/s")
BARS = (CAT, RESTIC)


def measure(work: Work) -> Iterator[Result]:
    """The store and the repository stay; each round reads all of them."""
    need("restic")
    store, repository = work.folder / "store", work.folder / "restic"
    small, large = work.size(20_000, 300), work.size(16, 1)
    total = child(__name__, "prepare", store, json.dumps([small, large]))["bytes"] / 1e6

    def ours() -> float:
        _drop(store)
        return total / float(child(__name__, "scrub", store, "")["seconds"])

    def cat() -> float:
        _drop(store)
        began = time.perf_counter()
        run(("sh", "-c", f"find {store}/blobs -type f -print0 | sort -z | xargs -0 cat > /dev/null"))
        return total / (time.perf_counter() - began)

    def restic(*arguments: str | Path) -> None:
        cache = f"--cache-dir={work.folder}/cache"
        run(("restic", "--quiet", "--password-command=echo bench", cache, "--repo", repository, *arguments))

    def peer() -> float:
        _drop(repository)
        began = time.perf_counter()
        restic("check", "--read-data")
        return total / (time.perf_counter() - began)

    restic("init")
    restic("backup", store / "blobs")
    scrubbed, read, checked = in_turn(work.runs, ours, cat, peer)
    yield Result(CAT, scrubbed, read, rate=True)
    yield Result(RESTIC, scrubbed, checked, rate=True)


def _drop(folder: Path) -> None:
    """Drop the pages of all files below a folder."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


# In a process of its own


def _prepare(root: Path, sizes: str) -> dict[str, Any]:
    small, large = json.loads(sizes)
    rng = random.Random(7)
    Store.create(root)
    with Store.open(root, write=True) as store:
        for start in range(0, small, 500):
            store.put([rng.randbytes(20_000) for _ in range(min(500, small - start))])
        for _ in range(large):
            store.put([rng.randbytes(32_000_000)])
    return {"bytes": small * 20_000 + large * 32_000_000}


def _scrub(root: Path) -> dict[str, Any]:
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        if any(isinstance(one, Problem) for one in scrub.read_data(store, None)):
            raise RuntimeError("a file has changed")
        return {"seconds": time.perf_counter() - began}


def main() -> None:
    """One step; prints what it found."""
    name, root, argument = sys.argv[1:]
    print(json.dumps(_prepare(Path(root), argument) if name == "prepare" else _scrub(Path(root))))


if __name__ == "__main__":
    main()
