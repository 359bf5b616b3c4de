"""The pages for people at the size of conda-forge, each against the whole of a large index from the same server.

The channel is made up (see `channel`), with as many files as conda-forge in the end and most of them there from the first day.

    python -m bench.face FOLDER [--scale N] [--days N]     the same by itself, at any scale
"""

import argparse
import json
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import channel
from .channel import REPO
from .measure import Bar, Result, Work, child, number
from .servers import memory_below, serving
from .size import Size
from .years import _configure

SCALE, DAYS = 0.05, 40
_MODULE = "bench.face"
_PEER = f"current/{REPO}/linux-64/repodata.json.zst"
#: days in which nearly all files come, so that the year after them is one of a large channel
_AHEAD = 8
#: a page may take so many times the time of the index
_TIMES = 20
_PATIENCE = 300.0
#: times that each page is asked for, after the first
_ROUNDS = 7


class _Page(NamedTuple):
    what: str
    #: with {first}, {before} and {last} for ids, and {name} for that of a large package
    path: str


_PAGES = (
    _Page("set me up", ""),
    _Page("set me up for a month", "?client=mamba&month={month}"),
    _Page("snapshots of a year", "-/page/snapshots"),
    _Page("a snapshot", "-/page/snapshot?id={last}"),
    _Page("two days compared", "-/page/compare?old={before}&new={last}"),
    _Page("all days compared", "-/page/compare?old={first}&new={last}"),
    _Page("search", "-/page/packages?q=lib"),
    _Page("search that finds nothing", "-/page/packages?q=%25"),
    _Page("a large package", "-/page/package?name={name}"),
    _Page("a file of it", "-/page/file?name={file}"),
    _Page("browse", "-/page/browse"),
    _Page("health", "-/page/health"),
)
BARS = [
    *(Bar(f"{page.what}", peer="the index", least=1 / _TIMES) for page in _PAGES),
    *(Bar(f"{page.what}: the first time", peer="the index") for page in _PAGES),
    Bar("the largest page: weight", most=100, unit="kB"),
    Bar("the server's worker: memory", unit="MB"),
]


def measure(work: Work) -> Iterator[Result]:
    """One round on a history that takes longer to make than to look at."""
    scale, days = (0.002, 12) if work.quick else (SCALE, DAYS)
    child(_MODULE, "grow", work.folder / "store", str(scale), str(days))
    yield from _look(work.folder)


def _look(folder: Path) -> Iterator[Result]:
    root = folder / "store"
    days = sorted(path.stem for path in (root / "snapshots").iterdir() if path.suffix == ".json")
    config = _configure(folder, root, "http://127.0.0.1:9/conda-forge")
    with serving(config) as (url, pid):
        _asked(f"{url}/{_PEER}")  # made when it is first asked for
        name, file = _largest(url)
        words = {"first": days[0], "before": days[-2], "last": days[-1], "name": name, "file": file}
        words["month"] = f"{days[-1][:4]}-{days[-1][4:6]}"
        weights, first, after = [], [], []
        for page in _PAGES:
            path = f"{url}/{page.path.format(**words)}"
            index, _ = _asked(f"{url}/{_PEER}")
            seconds, weight = _asked(path)
            weights.append(weight / 1000)
            first.append((seconds, index))
        for page in _PAGES:
            path = f"{url}/{page.path.format(**words)}"
            rounds = [(_asked(path)[0], _asked(f"{url}/{_PEER}")[0]) for _ in range(_ROUNDS)]
            after.append(rounds)
        memory = memory_below(pid)
    for bar, rounds in zip(BARS, after, strict=False):
        yield Result(bar, [ours for ours, _ in rounds], [index for _, index in rounds])
    for bar, (seconds, index) in zip(BARS[len(_PAGES) :], first, strict=False):
        yield Result(bar, [seconds], [index])
    yield Result(BARS[-2], [max(weights)])
    yield Result(BARS[-1], [memory])


def _asked(url: str) -> tuple[float, int]:
    """Seconds that an answer takes, and its bytes."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
        size = len(answer.read())
    return time.perf_counter() - began, size


def _largest(url: str) -> tuple[str, str]:
    """A package with many files, and one of these: the first name of a channel gets the most."""
    for name in (f"{prefix}lin00000" for prefix in ("lib", "py", "r-", "")):
        try:
            with urllib.request.urlopen(f"{url}/-/page/package?name={name}", timeout=_PATIENCE) as answer:
                text = answer.read().decode()
        except OSError:
            continue
        file = re.search(r"file\?name=([^&\"]+)", text)
        if file:
            return name, file[1]
    raise RuntimeError("the channel has not the names that it should have")


def _grow(root: Path, scale: float, days: int) -> dict[str, float]:
    """Make the history."""
    size = Size().scaled(scale)
    with channel.opened(root, size.within(_AHEAD)) as growing:
        while growing.days < _AHEAD:
            growing.add()
    with channel.opened(root, size) as growing:
        growing.days = size.days - (days - growing.days)  # the last days of the ten years: conda-forge grew slowly at first
        while growing.days < size.days:
            growing.add("linux-64" if growing.days == size.days - 1 else "")
        return growing.counts()


def main() -> None:
    """One step, printed as JSON; or all of it in a folder."""
    if sys.argv[1] == "grow":
        print(json.dumps(_grow(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.face", description="Measure the pages on a large channel.")
    parser.add_argument("folder", type=Path, help="an empty or missing one; the history stays in FOLDER/store")
    parser.add_argument("--scale", type=float, default=1.0, help="part of conda-forge's names, files and changes")
    parser.add_argument("--days", type=int, default=365)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(_grow(arguments.folder / "store", arguments.scale, arguments.days))
    for result in _look(arguments.folder):
        median = statistics.median(result.ours)
        if result.peers:
            index = statistics.median(result.peers)
            print(f"{result.bar.what:32} {median * 1000:8.1f} ms  {index * 1000:8.1f} ms  {median / index:6.2f} times")
        else:
            print(f"{result.bar.what:32} {number(median)} {result.bar.unit}")


if __name__ == "__main__":
    main()
