"""A full first sync of a directory of many small files: whether a file costs as much at the end as at the beginning.

The metadata is like conda-forge's, the bytes of a file are its path, which nginx makes up: so hundreds of thousands of files
need no disk but the store's. A sync of so many files is compared with one of a quarter as many, step by step, by what a file
takes of the processor: other programs of the machine do not bear on it, and reading and writing of the disk count as the
system's part of it. And within the larger one the last files are compared with the first.

    python -m bench.first FOLDER [--files N]     the same by itself, at any size
"""

import argparse
import json
import resource
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.settings import Download

from . import synthetic
from .download import Quiet
from .measure import TIMEOUT, Bar, Result, Work, child, need, number, remove, settle
from .servers import nginx

_MODULE = "bench.first"
#: of one subdir of a large channel
FILES, FILES_A_NAME = 66_000, 47
_SUBDIR = "noarch"
#: files a second at which it is given up
_SLOWEST = 50
#: parts of the files, each with as many
_PARTS = 10
#: parts at the beginning, and at the end, whose median counts
_COMPARED = 3
_STEPS = {
    "plan": "read and plan",
    "fetch": "fetch, verify, store",
    "settle": "settle",
    "publish": "documents, tree, seal",
}
_A_QUARTER = "of a quarter as many"
STEPS = {
    key: Bar(f"first sync of many small files: {what}, us a file", _A_QUARTER, 0.9, unit="us") for key, what in _STEPS.items()
}
RATE = Bar("  files a second at the end", "at the beginning", least=0.9)
PEAK = Bar("  peak memory", unit="MB")
BARS = (*STEPS.values(), RATE, PEAK)


def measure(work: Work) -> Iterator[Result]:
    """One round: the larger sync takes minutes."""
    small, large = (_measure(work.folder, files) for files in (work.size(FILES, 400) // 4, work.size(FILES, 400)))
    work.note(f"first sync of {large['files']:,} files", _told(large))
    for key, bar in STEPS.items():
        yield Result(bar, [_per_file(large, key)], [_per_file(small, key)])
    yield Result(RATE, [_median(large["rates"][-_COMPARED:])], [_median(large["rates"][:_COMPARED])], rate=True)
    yield Result(PEAK, [large["peaks"]["publish"]])


def _measure(folder: Path, files: int) -> dict[str, Any]:
    need("nginx")
    root, store = folder / "upstream", folder / "store"
    remove(store)
    (root / _SUBDIR).mkdir(parents=True, exist_ok=True)
    index = root / _SUBDIR / "repodata.json"
    synthetic.write(index, files, max(1, files // FILES_A_NAME), subdir=_SUBDIR, content=_body)
    with nginx(folder / "nginx", root, server=r"location ~ \.(conda|tar\.bz2)$ { return 200 $uri; }") as address:
        settle()
        found = child(_MODULE, "sync", store, address, timeout=max(TIMEOUT, files / _SLOWEST))
    remove(store)
    return found


def _body(name: str) -> bytes:
    """What nginx says."""
    return f"/{_SUBDIR}/{name}".encode()


def _told(found: dict[str, Any]) -> str:
    """Every figure of one sync."""
    steps = "\n".join(
        f"{_STEPS[key]}: {value:.0f} s ({found['cpu'][key]:.0f} s CPU), peak memory until then {found['peaks'][key]:.0f} MB"
        for key, value in found["clock"].items()
    )
    rates = " ".join(number(rate) for rate in found["rates"])
    costs = " ".join(number(cost) for cost in found["costs"])
    return f"{steps}\nfiles a second, of each tenth of the files: {rates}\nCPU of a file there, us: {costs}"


def _per_file(found: dict[str, Any], step: str) -> float:
    """Microseconds of the processor that a step takes for each file."""
    return float(found["cpu"][step]) / float(found["files"]) * 1e6


def _median(figures: Sequence[float]) -> float:
    return sorted(figures)[len(figures) // 2]


# In a process of its own


class _Watch(Quiet):
    """Notes when each step begins, and when files arrive."""

    def __init__(self) -> None:
        #: {step: by the clock, and of the processor, when it began; and the peak memory by then, MB}
        self.began: dict[str, tuple[float, float, float]] = {}
        #: the same of every file that has arrived
        self.clock, self.cpu = array("d"), array("d")
        self.note("plan")

    def note(self, step: str) -> None:
        """A step begins, unless it has."""
        self.began.setdefault(step, (time.perf_counter(), time.process_time(), _peak()))

    def stage(self, repo: str, stage: str, detail: str) -> None:
        """See Progress."""
        if stage in ("fetching", "publishing"):
            self.note(stage.replace("ing", ""))

    def arrived(self, size: int) -> None:
        """See Progress. A small file arrives at once."""
        self.clock.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def end(self) -> None:
        """See Progress."""
        self.note("settle")


def _sync(root: Path, address: str) -> dict[str, Any]:
    Store.create(root)
    watch = _Watch()
    repo = CondaRepo(path="channel", upstream=address, subdirs=[_SUBDIR])
    with Store.open(root, write=True) as store:
        report = Sync(store, ECOSYSTEMS, [repo], Download(), Publish(), watch, Options()).run([repo])
        watch.note("end")
        if not report.snapshot:
            raise RuntimeError(f"not synced: {report}")
    files = len(watch.clock)
    ends = [files * part // _PARTS for part in range(_PARTS + 1)]
    spans = [(begin, end - 1, end - 1 - begin) for begin, end in pairwise(ends) if end - 1 > begin]
    steps = [*watch.began]
    times = [watch.began[step] for step in steps]
    return {
        "files": files,
        "clock": {step: two[0] - one[0] for step, (one, two) in zip(steps, pairwise(times), strict=False)},
        "cpu": {step: two[1] - one[1] for step, (one, two) in zip(steps, pairwise(times), strict=False)},
        "rates": [count / (watch.clock[end] - watch.clock[begin]) for begin, end, count in spans],
        "costs": [(watch.cpu[end] - watch.cpu[begin]) / count * 1e6 for begin, end, count in spans],
        "peaks": {step: two[2] for step, (_, two) in zip(steps, pairwise(times), strict=False)},
    }


def _peak() -> float:
    """Of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    """One sync, printed as JSON; or all of it in a folder."""
    name, *rest = sys.argv[1:]
    if name == "sync":
        print(json.dumps(_sync(Path(rest[0]), rest[1])))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.first", description="A full first sync of many small files.")
    parser.add_argument("folder", type=Path, help="an empty or missing one")
    parser.add_argument("--files", type=int, default=FILES)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for files in (arguments.files // 4, arguments.files):
        print(f"{files:,} files\n{_told(_measure(arguments.folder, files))}", flush=True)


if __name__ == "__main__":
    main()
