"""Reading a repodata.json of 600,000 records and comparing it with what is held, against parsing it as JSON.

Unchanged: the file is read, grouped by name, every group's digest looked up in an index that knows them all, and
compared with the previous directory, as a sync does whose upstream has written its index anew with nothing in it
changed. First: the same with an empty store, so that every leaf is made, compressed and named, and every file is
looked up. The peer is `json.load`, which a mirror script begins with and then still has everything to do; over half of
its time are passes of the garbage collector, so it is shown without them too.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapmirror.conda import Conda
from snapmirror.conda.flat import FlatReading
from snapmirror.conda.settings import CondaRepo
from snapmirror.store.index import BlobRow
from snapmirror.store.store import Store
from snapmirror.sync.group import no_garbage_collection
from snapmirror.sync.plan import DirectoryPlan, build_directory, make_plan

from . import synthetic
from .measure import Bar, Result, Work, child, in_turn, parse_json, remove, settle

UNCHANGED = Bar("600,000 records, unchanged: read, group, compare", "json.load", least=3.0)
MEMORY = Bar("  its peak memory (json.load's beside it)", most=800, unit="MiB")
FIRST = Bar("600,000 records, first sync: every leaf made and compressed", "json.load", least=1.5)
NO_GC = Bar("  unchanged, as above", "json.load, no garbage collection")
BARS = (UNCHANGED, MEMORY, FIRST, NO_GC)

_URL = "http://127.0.0.1/channel/linux-64/repodata.json"


def measure(work: Work) -> Iterator[Result]:
    """Each round and each step in a process of its own."""
    file = work.folder / "repodata.json"
    synthetic.write(file, work.size(synthetic.RECORDS, 3000), work.size(synthetic.NAMES, 300))
    known = work.folder / "known"
    directory = child(__name__, "prepare", file, known)["directory"]
    memory: dict[str, list[float]] = {}

    def step(name: str, *arguments: str | Path) -> float:
        found = child(__name__, name, *arguments)
        memory.setdefault(name, []).append(found["peak"] / 2**20)
        return float(found["seconds"])

    def first() -> float:
        remove(work.folder / "empty")
        seconds = step("first", file, work.folder / "empty")
        settle()
        return seconds

    unchanged, made, parsed, collected = in_turn(
        work.runs,
        lambda: step("unchanged", file, known, directory),
        first,
        lambda: step("json", file),
        lambda: step("json_no_gc", file),
    )
    yield Result(UNCHANGED, unchanged, parsed)
    yield Result(MEMORY, memory["unchanged"], memory["json"])
    yield Result(FIRST, made, parsed)
    yield Result(NO_GC, unchanged, collected)
    work.notes["repodata.json"] = f"{file.stat().st_size / 2**20:.0f} MiB, seed {synthetic.SEED}"


# In processes of their own


def _plan(file: Path, store: Store, directory: str | None) -> DirectoryPlan:
    """What `DirectorySync.read` does once the document is there."""
    repo = CondaRepo(path="channel", upstream="http://127.0.0.1/channel", subdirs=["linux-64"])
    previous = store.metadata.directory(bytes.fromhex(directory)) if directory else None
    with no_garbage_collection():
        reading = FlatReading(_URL, file.read_bytes(), _URL, None)
        return make_plan(store, Conda(), repo, "linux-64", reading, previous)


def _prepare(file: Path, root: Path) -> dict[str, Any]:
    """A store as a finished sync leaves it, but for the packages themselves: nobody looks at those."""
    Store.create(root)
    with Store.open(root, write=True) as store:
        plan = _plan(file, store, None)
        final = build_directory(plan)
        store.put([*plan.blobs.values(), *final.blobs.values()])
        store.index.put_blobs({wanted.sha256: BlobRow(wanted.size or 0) for wanted in plan.wanted if wanted.sha256})
        rows = {leaf.canonical: leaf.blob for leaf in plan.leaves.values()}
        rows.update({leaf.source: leaf.blob for leaf in plan.leaves.values() if leaf.source})
        store.index.put_leaves(rows)
    return {"directory": final.digest.hex()}


def _unchanged(file: Path, root: Path, directory: str) -> dict[str, Any]:
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        plan = _plan(file, store, directory)
        seconds = time.perf_counter() - began
    if plan.leaves or plan.wanted or plan.replaced:
        raise RuntimeError(f"{len(plan.leaves)} leaves count as changed")
    return {"seconds": seconds}


def _first(file: Path, root: Path) -> dict[str, Any]:
    Store.create(root)
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        plan = _plan(file, store, None)
        seconds = time.perf_counter() - began
    if len(plan.blobs) != len(plan.leaves) or not plan.wanted:
        raise RuntimeError("the plan is not that of a first sync")
    return {"seconds": seconds}


def main() -> None:
    """One step; prints seconds and peak bytes of memory."""
    name, file, *rest = sys.argv[1:]
    match name, rest:
        case "prepare", [root]:
            found = _prepare(Path(file), Path(root))
        case "unchanged", [root, directory]:
            found = _unchanged(Path(file), Path(root), directory)
        case "first", [root]:
            found = _first(Path(file), Path(root))
        case _:
            found = {"seconds": parse_json(Path(file), collect=name == "json")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes; bytes on macOS
    print(json.dumps({**found, "peak": peak if sys.platform == "darwin" else peak * 1024}))


if __name__ == "__main__":
    main()
