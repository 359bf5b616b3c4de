"""Planning a sync of an index of 700,000 projects of which 3,000 have changed, against parsing its list.

Ours: the list is read, compared with the state of the sync before, the pages that changed are made leaves, and the
directory is made of which they are part. Pages come from memory: no network is measured.
The peer is `json.load` of the same list.
"""

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snapmirror.digests import sha256
from snapmirror.pypi import Pypi, PypiRepo
from snapmirror.readings import Answer, Known
from snapmirror.store.assembly import assemble
from snapmirror.store.directories import Directory
from snapmirror.store.store import Store
from snapmirror.sync.group import no_garbage_collection
from snapmirror.sync.plan import Marked, build_directory, make_plan
from snapmirror.transfer.notes import NoNotes
from snapmirror.validators import Validators

from .measure import Bar, Result, Work, child, in_turn, parse_json, remove, settle

PLANNED = Bar("700,000 projects, 3,000 changed", "json.load of the list", least=1 / 3)
MEMORY = Bar("  its peak memory", most=1536, unit="MiB")
ADDED = Bar("  blobs added, over leaves and buckets touched", most=1, unit="times")
BARS = (PLANNED, MEMORY, ADDED)

_BASE = "http://127.0.0.1/simple/"
_PROJECTS, _CHANGED = 700_000, 3_000


def measure(work: Work) -> Iterator[Result]:
    """Each round and each step in a process of its own."""
    projects, changed = work.size(_PROJECTS, 5_000), work.size(_CHANGED, 100)
    before, after = work.folder / "before.json", work.folder / "after.json"
    _write(before, projects, 0)
    _write(after, projects, changed)
    root = work.folder / "store"
    state = child(__name__, "prepare", before, root)
    peaks: list[float] = []
    added: list[float] = []

    def plan() -> float:
        settle()
        found = child(__name__, "plan", after, root, state["directory"], str(state["names"]), work.folder / "mark")
        peaks.append(found["peak"] / 2**20)
        added.append(found["blobs"] / found["touched"])
        return float(found["seconds"])

    (work.folder / "mark").write_bytes(bytes.fromhex(state["mark"]))
    ours, parsed = in_turn(work.runs, plan, lambda: float(child(__name__, "parse", after)["seconds"]))
    yield Result(PLANNED, ours, parsed)
    yield Result(MEMORY, peaks)
    yield Result(ADDED, added)
    remove(root)


def _write(file: Path, projects: int, changed: int) -> None:
    """A list as PyPI's, in the order of normalised names: a name and the serial of its last change, for each project."""
    listed = [
        {"_last-serial": 20_000_000 + number + (30_000_000 if number % (projects // max(changed, 1)) == 0 and changed else 0),
         "name": f"Project_{number}.{sha256(str(number).encode()).hex()[:8]}"}
        for number in range(projects)
    ]  # fmt: skip
    listed.sort(key=lambda one: str(one["name"]).lower().replace("_", "-").replace(".", "-"))
    file.write_text(json.dumps({"meta": {"_last-serial": 50_000_000 + changed, "api-version": "1.4"}, "projects": listed}))


class _Memory:
    """An upstream whose list is a file and whose pages are made when they are asked for. Fulfils `readings.Upstream`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.notes = NoNotes()

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        kind = {"content-type": "application/vnd.pypi.simple.v1+json"}
        if url == _BASE:
            return Answer(self._file.read_bytes(), None, url, kind)
        name = url.rstrip("/").rpartition("/")[2]
        record = {
            "filename": f"{name.replace('-', '_')}-1.0-py3-none-any.whl",
            "url": f"https://files.invalid/{name}.whl",
            "hashes": {"sha256": sha256(name.encode()).hex()},
            "size": 1,
            "upload-time": "2026-11-20T00:00:00Z",
        }
        page = {
            "meta": {"api-version": "1.4", "_last-serial": 60_000_000},
            "name": name,
            "versions": ["1.0"],
            "files": [record],
        }
        return Answer(json.dumps(page).encode(), None, url, kind)

    def get_many(
        self, urls: Iterable[str], *, limit: int, known: Known | None = None, accept: str = ""
    ) -> Iterator[tuple[str, Answer | Exception]]:
        for url in urls:
            answer = self.get(url, limit=limit)
            assert answer
            yield url, answer

    def head_many(self, urls: Iterable[str]) -> Iterator[Any]:
        return iter(())

    def warn(self, message: str) -> None:
        raise RuntimeError(message)

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC)


# In processes of their own


def _repo() -> PypiRepo:
    return PypiRepo(path="pypi", upstream=_BASE, projects="all", download="redirect")


def _read(file: Path) -> Any:
    return Pypi().read(_repo(), "", _Memory(file), lambda _: None, ())


def _prepare(file: Path, root: Path) -> dict[str, Any]:
    """A store with a directory of that list. One leaf stands for all: what is in those that stay nobody reads."""
    Store.create(root)
    with Store.open(root, write=True) as store:
        reading = _read(file)
        leaf = next(iter(reading.drafts([next(iter(reading.sources))])))
        blob = store_leaf(store, leaf.content)
        directory = Directory(
            kind="pypi", form=1, mode="redirect", origin=_BASE, info=reading.info, files=len(reading.sources), size=1
        )
        whole = assemble(
            directory, dict.fromkeys(reading.sources, blob), {}, {}, {name: f"1 {name}" for name in reading.sources}
        )
        store.put(list(whole.blobs.values()))
    return {"directory": whole.digest.hex(), "names": len(reading.sources), "mark": reading.mark().hex()}


def store_leaf(store: Store, content: bytes) -> bytes:
    """Put a leaf into the store; its digest."""
    from snapmirror import codec

    data = codec.compress(content, codec.LEAF_LEVEL)
    store.put([data])
    return sha256(data)


def _plan(file: Path, root: Path, directory: str, names: int, mark: Path) -> dict[str, Any]:
    with Store.open(root, write=True) as store:
        previous = store.metadata.directory(bytes.fromhex(directory))
        noted = mark.read_bytes()
        began = time.perf_counter()
        with no_garbage_collection():
            marked = Marked(previous.digest, names, noted)
            plan = make_plan(store, Pypi(), _repo(), "", _read(file), previous, marked)
            made = build_directory(plan)
        seconds = time.perf_counter() - began
    old = set(previous.document.buckets)
    touched = {
        place
        for place, (one, other) in enumerate(zip(previous.document.buckets, made.directory.buckets, strict=True))
        if one != other
    }
    if not plan.leaves or len(old) != len(previous.document.buckets):
        raise RuntimeError("nothing counts as changed")
    return {"seconds": seconds, "blobs": len(plan.blobs) + len(made.blobs), "touched": len(plan.leaves) + len(touched) + 1}


def main() -> None:
    """One step; prints seconds and peak bytes of memory."""
    found: Mapping[str, Any]
    match sys.argv[1:]:
        case "prepare", file, root:
            found = _prepare(Path(file), Path(root))
        case "plan", file, root, directory, names, mark:
            found = _plan(Path(file), Path(root), directory, int(names), Path(mark))
        case "parse", file:
            found = {"seconds": parse_json(Path(file), collect=False)}
    print(json.dumps({**found, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
