"""Selecting from a repodata.json of 600,000 records: 50 specs and all that they need, against reading it whole.

Ours: the file is read, the closure of the 50 packages with the most builds is found, and every kept leaf is made and
looked up in an empty store.
The peer is our own reading of the same file with no selection, as in `repodata`: unchanged, where nothing has to be
decoded, which is the stricter one, and a first sync.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snapmirror.conda import Conda
from snapmirror.conda.flat import FlatReading
from snapmirror.conda.settings import CondaRepo, Select
from snapmirror.readings import Reading
from snapmirror.store.store import Store
from snapmirror.sync.group import no_garbage_collection
from snapmirror.sync.plan import make_plan

from . import repodata, synthetic
from .measure import Bar, Result, Work, child, in_turn, remove, settle

SELECTED = Bar("600,000 records, 50 specs with what they need", "read whole, unchanged", least=0.25)
FIRST = Bar("  the same", "read whole, first sync")
MEMORY = Bar("  its peak memory", most=1536, unit="MiB")
BARS = (SELECTED, FIRST, MEMORY)

_URL = "http://127.0.0.1/channel/linux-64/repodata.json"
_SPECS = 50


def measure(work: Work) -> Iterator[Result]:
    """Each round and each step in a process of its own."""
    file = work.folder / "repodata.json"
    synthetic.write(file, work.size(synthetic.RECORDS, 3000), work.size(synthetic.NAMES, 300))
    names = work.folder / "names.json"
    names.write_text(json.dumps(_largest(file)))
    known = work.folder / "known"
    directory = child(repodata.__name__, "prepare", file, known)["directory"]
    peaks: list[float] = []
    kept: dict[str, Any] = {}

    def select() -> float:
        remove(work.folder / "empty")
        found = child(__name__, file, names, work.folder / "empty")
        peaks.append(found["peak"] / 2**20)
        kept.update(found)
        return float(found["seconds"])

    def first() -> float:
        remove(work.folder / "empty")
        found = child(repodata.__name__, "first", file, work.folder / "empty")
        settle()
        return float(found["seconds"])

    def unchanged() -> float:
        return float(child(repodata.__name__, "unchanged", file, known, directory)["seconds"])

    selected, read, made = in_turn(work.runs, select, unchanged, first)
    yield Result(SELECTED, selected, read)
    yield Result(FIRST, selected, made)
    yield Result(MEMORY, peaks)
    work.notes["selection"] = f"keeps {kept['files']:,} records of {kept['names']:,} names"


def _select(file: Path, names: Path, root: Path) -> dict[str, Any]:
    Store.create(root)
    repo = CondaRepo(path="channel", upstream="http://127.0.0.1/channel", subdirs=["linux-64"])
    noarch: Reading = Conda().empty(repo, "noarch")
    repo.select = Select(include=[f"{name} >=1" for name in json.loads(names.read_text())], with_dependencies=True)
    with Store.open(root, write=True) as store, no_garbage_collection():
        began = time.perf_counter()
        reading: Reading = FlatReading(_URL, file.read_bytes(), _URL, None)
        readings = {("channel", "linux-64"): reading, ("channel", "noarch"): noarch}
        selection = Conda().select({"channel": repo}, readings, datetime.now(UTC))["channel", "linux-64"]
        plan = make_plan(store, Conda(), repo, "linux-64", selection.reading, None)
        seconds = time.perf_counter() - began
    if not plan.wanted or not selection.dropped:
        raise RuntimeError("nothing was selected")
    return {"seconds": seconds, "files": len(plan.wanted), "names": len(plan.leaves)}


def _largest(file: Path) -> list[str]:
    """The names with the most builds."""
    builds = Counter(line[1 : line.index(b'"', 1)].rsplit(b"-", 2)[0] for line in file.read_bytes().split(b"},")[1:])
    return [name.decode() for name, _ in builds.most_common(_SPECS)]


def main() -> None:
    """One step; prints seconds, what is kept and peak bytes of memory."""
    found = _select(*map(Path, sys.argv[1:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes; bytes on macOS
    print(json.dumps({**found, "peak": peak if sys.platform == "darwin" else peak * 1024}))


if __name__ == "__main__":
    main()
