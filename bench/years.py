"""Years of a large channel: what every step costs as history grows.

A made-up channel (see `channel`) gets a snapshot a day for ten years. At the end of years 1, 2, 5 and 10 each figure is taken
in a fresh process, on the store as it is then: of verbs the seconds of the processor, of the server those of the clock. The
notes show each figure against the years, and whether it grows no more than what it lists or goes through. The channel has a
part of conda-forge's names, each with as many files as there: a figure that grows with what changes or is held is `1 / scale`
times as large of the whole.

    python -m bench.years FOLDER [--scale N]     the same by itself, at any scale
    python -m bench.years FOLDER --scale 1 --at-once 8     all of it as it is after ten years, made in eight days, and two usual
                                                           days more
    python -m bench.years FOLDER [--scale N] --trees       one year in which the channel comes to its size, and every snapshot
                                                           has a tree; packages are small files
    python -m bench.years FOLDER --scale 1 --at-once 8 --trees     both: what a day with trees takes at full size
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from snapmirror.conda import Conda
from snapmirror.store.layout import Layout
from snapmirror.store.store import Store

from . import channel
from .channel import PARTS, REPO, Day
from .measure import Bar, Result, Work, child, cost, number, remove
from .servers import await_port, free_port, memory_below, process, serving
from .size import Size

SCALE = 0.01
_MODULE = "bench.years"
#: parts of the time at which is measured: years 1, 2, 5 and 10
_CHECKPOINTS = (0.1, 0.2, 0.5, 1.0)
#: of the one year with trees
_QUARTERS = (0.25, 0.5, 0.75, 1.0)
_QUICK = (1.0,)
_PATIENCE = 60.0
#: seconds that a channel of full size may take
_LONG = 4 * 3600
#: what figures may grow with
_COUNTS = ("names", "files", "touched", "listed", "blobs")
_BARS = "▁▂▃▄▅▆▇█"


class Figure(NamedTuple):
    """One thing that is measured at every checkpoint."""

    bar: Bar
    #: what it may grow with: the snapshots that are held, or one of `_COUNTS`
    driver: str


def _figure(what: str, unit: str, driver: str) -> Figure:
    return Figure(Bar(what, unit=unit), driver)


FIGURES = {
    "seal": _figure("seal a day: CPU", "ms", "names"),
    "sync": _figure("a real sync of a day: CPU", "s", "files"),
    "sync_peak": _figure("a real sync of a day: peak memory", "MB", "files"),
    "sync_all": _figure("a real sync in which every record is another: CPU", "s", "files"),
    "sync_all_peak": _figure("a real sync in which every record is another: peak memory", "MB", "files"),
    "metadata": _figure("metadata a day: mean of the last year", "kB", "listed"),
    "metadata_storm": _figure("  of a day that touches most names", "kB", "files"),
    "metadata_usual": _figure("  of usual days", "kB", "listed_usual"),
    "metadata_leaves": _figure("    leaves", "kB", "listed_usual"),
    "metadata_buckets": _figure("    buckets", "kB", "touched_usual"),
    "metadata_directories": _figure("    directories", "kB", "names"),
    "metadata_record": _figure("    records", "kB", "names"),
    "snapshots": _figure("snapshots", "s", "snapshots_held"),
    "diff_days": _figure("diff of two days", "s", "touched"),
    "diff_years": _figure("diff of two years", "s", "files"),
    "start": _figure("serve: start", "s", "snapshots_held"),
    "memory": _figure("serve: memory of a worker", "MB", "snapshots_held"),
    "first": _figure("serve: first request to a date", "ms", "names"),
    "next": _figure("serve: the next one", "ms", "names"),
    "forget": _figure("forget --dry-run", "s", "blobs"),
    "gc": _figure("gc --dry-run", "s", "blobs"),
    "gc_peak": _figure("gc --dry-run: peak memory", "MB", "blobs"),
    "check": _figure("check", "s", "blobs"),
    "check_peak": _figure("check: peak memory", "MB", "blobs"),
    "reindex": _figure("reindex", "s", "blobs"),
    "reindex_peak": _figure("reindex: peak memory", "MB", "blobs"),
}
#: the same of a year with trees: to make one takes a link for each file
TREES = {
    **{key: _figure(f"with trees: {one.bar.what}", one.bar.unit, one.driver) for key, one in FIGURES.items()},
    "seal": _figure("with trees: seal a day: CPU", "ms", "files"),
    # where files are held, gc reads leaves too, and each state of one lists all its files again
    "forget": _figure("with trees: forget --dry-run", "s", "listed"),
    "gc": _figure("with trees: gc --dry-run", "s", "listed"),
    "folders": _figure("with trees: what their folders take", "MB", "files"),
}
BARS = [figure.bar for figure in (*FIGURES.values(), *TREES.values())]

#: {what is measured or counted: its value} at one checkpoint
_Found = dict[str, float]


def measure(work: Work) -> Iterator[Result]:
    """One round: the history takes longer than what is measured of it."""
    size = Size().scaled(0.0005).within(30) if work.quick else Size().scaled(SCALE)
    year = replace(size.within(30 if work.quick else 365), trees=True)
    for what, made, checkpoints in (("ten years", size, _CHECKPOINTS), ("a year with trees", year, _QUARTERS)):
        found = _measure(work.folder / what.replace(" ", "-"), made, _QUICK if work.quick else checkpoints)
        figures = TREES if made.trees else FIGURES
        work.note(f"{what} at a scale of {made.files / Size().files:g}", _plots(figures, found))
        for key, figure in figures.items():
            if key in found[-1]:
                yield Result(figure.bar, [found[-1][key]])


def _measure(folder: Path, size: Size, checkpoints: Sequence[float]) -> list[_Found]:
    """What is found at every checkpoint, in the order of time."""
    found: list[_Found] = []
    folder.mkdir(exist_ok=True)
    words = _words(size)
    held = 0
    for end in (round(part * size.days) for part in checkpoints):
        one: _Found = {}
        while held < end:
            held = min(held + 365, end)
            one |= child(_MODULE, "grow", folder / "store", *words, str(held), timeout=_LONG)
        one |= _figures(folder, size)
        print(
            f"years: {one['snapshots_held']:.0f} snapshots held, the last year made in {one['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        found.append(one)
    return found


def _at_once(folder: Path, size: Size, days: int) -> _Found:
    """What is found of a channel that has come to its size in so many days, after two usual days at the end of all years."""
    child(_MODULE, "grow", folder / "store", *_words(size.within(days)), str(days), timeout=_LONG)
    grown = child(_MODULE, "usual", folder / "store", *_words(size), timeout=_LONG)
    return grown | _figures(folder, size)


def _figures(folder: Path, size: Size) -> _Found:
    """Every figure of a store as it stands, of each a fresh process."""
    root = folder / "store"
    found: _Found = {"seal": child(_MODULE, "seal", root, *_words(size), timeout=_LONG)["seconds"] * 1000}
    days = sorted(path.stem for path in (root / "snapshots").iterdir())
    config = _configure(folder, root, "http://127.0.0.1:9/conda-forge", size.mode)

    def verb(key: str, *arguments: str, peak: bool = False) -> None:
        took = cost([sys.executable, "-m", "snapmirror", *arguments, "-c", str(config)])
        found[key] = took.cpu
        if peak:
            found[f"{key}_peak"] = took.peak

    verb("snapshots", "snapshots")
    verb("diff_days", "diff", days[-2], days[-1])
    verb("diff_years", "diff", days[-min(len(days), 2 * 365 + 1)], days[-1])
    verb("forget", "forget", "--dry-run", days[0])
    verb("gc", "gc", "--dry-run", peak=True)
    verb("check", "check", peak=True)
    verb("reindex", "reindex", peak=True)
    if size.trees:
        found["folders"] = sum(os.lstat(path).st_blocks * 512 for path, _, _ in os.walk(root / "published")) / 1e6
    return {**found, **_serve(config, days), **_sync(folder, size)}


def _configure(folder: Path, root: Path, upstream: str, mode: str = "redirect") -> Path:
    config = folder / f"{root.name}.toml"
    config.write_text(
        f'store = "{root}"\n[serve]\nport = 0\n[[repo]]\nkind = "conda"\npath = "{REPO}"\nupstream = "{upstream}"\n'
        f'subdirs = {json.dumps(list(Size().subdirs))}\ndownload = "{mode}"\n'
    )
    return config


def _serve(config: Path, days: Sequence[str]) -> _Found:
    """A server that has just started: dates from all over the time, each asked for twice."""
    began = time.perf_counter()
    with serving(config) as (address, pid):
        _asked(f"{address}/-/readyz")  # said as soon as it listens; a worker reads the records
        found = {"start": time.perf_counter() - began}
        first, again = [], []
        for id_ in days[len(days) // 10 :: max(1, len(days) // 8)]:
            url = f"{address}/{id_[:4]}-{id_[4:6]}-{id_[6:8]}/{REPO}/linux-64/repodata_shards.msgpack.zst"
            first.append(_asked(url))
            again.append(_asked(url))
        found |= {"first": statistics.median(first), "next": statistics.median(again)}
        found["memory"] = memory_below(pid)
    return found


def _asked(url: str) -> float:
    """Milliseconds that an answer takes."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


def _sync(folder: Path, size: Size) -> _Found:
    """A sync as an operator runs it, of the newest day, into a copy of the store that was synced of the day before like that.

    The leaves of that day are in the store already; all else is as it would be on the next one. And a sync of a day more, on
    which every record is another.
    """
    root = folder / "copy"
    _copy(folder / "store", root)
    port = free_port()
    config = _configure(folder, root, f"http://127.0.0.1:{port}/{REPO}", size.mode)
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
    try:
        with process(server, folder / "http.log") as started:
            await_port(port, started, folder / "http.log")
            took = []
            for step in (("upstream", "2"), ("upstream", "1"), ("hotfix",)):
                child(_MODULE, step[0], folder / "store", folder / REPO, *step[1:], timeout=_LONG)
                took.append(cost([sys.executable, "-m", "snapmirror", "sync", "--allow-shrink", "-c", str(config)]))
    finally:
        remove(root)
        remove(folder / REPO)
    _, day, whole = took
    return {"sync": day.cpu, "sync_peak": day.peak, "sync_all": whole.cpu, "sync_all_peak": whole.peak}


def _copy(root: Path, other: Path) -> None:
    """A copy of a store, whose blobs are the same files. It has no trees, for these have millions of names."""
    remove(other)
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("blobs", "published"), symlinks=True)
    for folder in (Layout(other).trees, Layout(other).views):
        folder.mkdir(parents=True)
    shutil.copytree(root / "blobs", other / "blobs", copy_function=os.link)


def _plots(figures: Mapping[str, Figure], found: Sequence[_Found]) -> str:
    """A line for each figure: its values, their course, and what it grows with."""
    heads = [f"{one['snapshots_held']:.0f}" for one in found]
    lines = [("snapshots", *heads, "", "grows"), *(_line(figure, key, found) for key, figure in figures.items())]
    lines += [(f"({name})", *(number(one[name]) for one in found), "", "") for name in _COUNTS]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:], strict=False))])
        + f"  {line[-1]}"
        for line in lines
    )


def _line(figure: Figure, key: str, found: Sequence[_Found]) -> tuple[str, ...]:
    values = [one.get(key) for one in found]
    known = [(value, one[figure.driver]) for value, one in zip(values, found, strict=True) if value is not None]
    top = max((value for value, _ in known), default=0.0) or 1.0
    course = "".join(" " if value is None else _BARS[round(value / top * (len(_BARS) - 1))] for value in values)
    what = f"{figure.bar.what}, {figure.bar.unit}"
    return (what, *("-" if value is None else number(value) for value in values), course, _verdict(known, figure.driver))


def _verdict(points: Sequence[tuple[float, float]], driver: str) -> str:
    """How a figure grows with what drives it. points: (figure, driver), in the order of time"""
    if len(points) < 2:
        return ""
    (first, _), (before, less), (last, most) = points[0], points[-2], points[-1]
    if last <= 1.25 * first:
        return "not"
    in_proportion = last - before <= 1.1 * (last / most) * (most - less)  # what comes last costs no more than what came before
    return f"as {driver}" if in_proportion else f"MORE than {driver}"


# In processes of their own


def _grow(root: Path, size: Size, days: int, *, after: int = 0) -> _Found:
    """Add days until there are so many; what the days of the last year have come to, and what there is then.

    after: days that pass before without a snapshot
    """
    began = time.process_time()
    with channel.opened(root, size) as growing:
        growing.days = max(growing.days, after)
        added = [growing.add() for _ in range(days - growing.days)]
        counts = growing.counts()
    last = added[-365:]
    usual = [day for day in last if not day.storm] or last
    storms = [day for day in last if day.storm]
    found = {
        "seconds": time.process_time() - began,
        **counts,
        "metadata": _kilobytes(last),
        "metadata_usual": _kilobytes(usual),
    }
    found |= {f"metadata_{part}": _kilobytes(usual, part) for part in PARTS}
    for name in ("touched", "listed"):
        found |= {name: _mean(last, name), f"{name}_usual": _mean(usual, name)}
    if storms:
        found["metadata_storm"] = _kilobytes(storms[-1:])
    return found


def _kilobytes(days: Sequence[Day], *parts: str) -> float:
    """What a day takes on the average. parts: of what; none: of all"""
    return sum(_mean(days, part) for part in parts or PARTS) / 1000


def _mean(days: Sequence[Day], name: str) -> float:
    return statistics.mean(getattr(day, name) for day in days)


def _seal(root: Path, size: Size) -> _Found:
    """One day more; the seconds of the processor."""
    with channel.opened(root, size) as growing:
        began = time.process_time()
        growing.add()
        return {"seconds": time.process_time() - began}


def _upstream(root: Path, folder: Path, before: int) -> _Found:
    """Write the repodata.json files of a channel. before: 1 for the newest snapshot, 2 for the one before"""
    with Store.open(root, write=False) as store:
        for name, state in store.catalog().records[-before].repos[REPO].directories.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            content = Conda().derive(store.metadata.directory(state.blob), "repodata.json")
            (folder / name / "repodata.json").write_bytes(content)
    return {}


def _hotfix(folder: Path) -> _Found:
    """Change every record of what `_upstream` has written."""
    for path in folder.glob("*/repodata.json"):
        path.write_bytes(path.read_bytes().replace(b'"build_number":', b'"hotfix":1,"build_number":'))
    return {}


def main() -> None:
    """One step, printed as JSON; or all of it in a folder."""
    name, *rest = sys.argv[1:]
    if name == "grow":
        print(json.dumps(_grow(Path(rest[0]), _size(*rest[1:4]), int(rest[4]))))
    elif name == "usual":
        size = _size(*rest[1:4])
        print(json.dumps(_grow(Path(rest[0]), size, size.days - 1, after=size.days - 3)))
    elif name == "seal":
        print(json.dumps(_seal(Path(rest[0]), _size(*rest[1:4]))))
    elif name == "upstream":
        print(json.dumps(_upstream(Path(rest[0]), Path(rest[1]), int(rest[2]))))
    elif name == "hotfix":
        print(json.dumps(_hotfix(Path(rest[1]))))
    else:
        parser = argparse.ArgumentParser(prog="python -m bench.years", description="Make years of history, and measure them.")
        parser.add_argument("folder", type=Path, help="an empty or missing one; the history stays in FOLDER/store")
        parser.add_argument("--scale", type=float, default=SCALE, help="part of conda-forge's names, files and changes")
        parser.add_argument("--at-once", type=int, metavar="DAYS", help="make it in so many days; only two more are usual ones")
        parser.add_argument("--trees", action="store_true", help="make one year, whose snapshots have trees")
        arguments = parser.parse_args()
        arguments.folder.mkdir(parents=True, exist_ok=True)
        size = replace(Size().scaled(arguments.scale), trees=arguments.trees)
        figures = TREES if arguments.trees else FIGURES
        if arguments.at_once:
            found = [_at_once(arguments.folder, size, arguments.at_once)]
        elif arguments.trees:
            found = _measure(arguments.folder, size.within(365), _QUARTERS)
        else:
            found = _measure(arguments.folder, size, _CHECKPOINTS)
        print(_plots(figures, found))


def _words(size: Size) -> tuple[str, str, str]:
    """A size as arguments of a step."""
    return str(size.files / Size().files), str(size.days), "trees" if size.trees else "bare"


def _size(scale: str, days: str, trees: str) -> Size:
    return replace(Size().scaled(float(scale)).within(int(days)), trees=trees == "trees")


if __name__ == "__main__":
    main()
