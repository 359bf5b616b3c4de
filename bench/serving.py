"""Serving, one worker against one worker of nginx: files of four sizes, and the two indexes that clients ask for first.

The store is made by real syncs, and `snapmirror serve` started as an operator starts it. nginx has Debian's default
configuration and the same bytes in a folder. wrk asks each in turn with one thread and 16 connections, never for the
same file twice in a row. Both servers have all files in the page cache.
"""

import hashlib
import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from . import synthetic
from .measure import Bar, Result, Work, in_turn, need
from .servers import nginx, snapmirror, sync
from .wrk import command, script, wrk

_SIZES = {"20 kB": (20_000, 0.2), "100 kB": (100_000, 0.3), "1 MB": (1_000_000, 0.6), "10 MB": (10_000_000, 0.85)}
FILES = {name: Bar(f"serve files of {name}", "nginx", least=least) for name, (_, least) in _SIZES.items()}
SHARDS = Bar("serve repodata_shards.msgpack.zst, 30 kB", "nginx", least=0.3)
REPODATA = Bar("serve repodata.json.zst, 500 kB", "nginx", least=0.3)
NO_NOPUSH = Bar("serve files of 10 MB", "nginx without tcp_nopush", least=1.0)
BARS = (*FILES.values(), SHARDS, REPODATA, NO_NOPUSH)

_CONFIG = """\
store = "store"

[serve]
port = 0

[[repo]]
kind = "conda"
path = "files"
upstream = "{folder}"
subdirs = ["linux-64"]

[[repo]]
kind = "conda"
path = "index"
upstream = "{address}/upstream"
subdirs = ["linux-64"]
download = "redirect"
"""


def measure(work: Work) -> Iterator[Result]:
    """One store and one server of ours; two configurations of nginx on the same folder."""
    need("nginx", "wrk")
    files, root = work.folder / "channel", work.folder / "root"
    names = make_files(files, {title: size for title, (size, _) in _SIZES.items()}, work.size(50, 3))
    index = root / "upstream" / "linux-64"
    index.mkdir(parents=True)
    (root / "files").symlink_to(files)
    synthetic.write(index / "repodata.json", work.size(5_500, 300), work.size(800, 50))
    config = work.folder / "snapmirror.toml"
    work.notes["wrk"] = command("PATHS.lua", "ADDRESS", work.size(3, 1))
    seconds = work.size(3, 1)
    with nginx(work.folder / "nginx", root) as peer, nginx(work.folder / "no_nopush", root, nopush=False) as other:
        config.write_text(_CONFIG.format(folder=files.as_uri(), address=peer))
        work.note("nginx.conf", (work.folder / "nginx" / "nginx.conf").read_text())
        sync(config)
        with snapmirror(config) as ours:
            for size, bar in FILES.items():
                yield _compare(work, bar, ours, peer, names[size], seconds)
            for bar, document in ((SHARDS, "repodata_shards.msgpack.zst"), (REPODATA, "repodata.json.zst")):
                path = f"index/linux-64/{document}"
                length = _copy(f"{ours}/{path}", root / path)
                work.notes[document] = f"{length} bytes"
                yield _compare(work, bar, ours, peer, [path], seconds)
            yield _compare(work, NO_NOPUSH, ours, other, names["10 MB"], seconds)


def make_files(folder: Path, sizes: Mapping[str, int], count: int) -> Mapping[str, Sequence[str]]:
    """A channel whose packages are random bytes, so many of each size: {size: paths of its files below a server}.

    sizes: {what it is called: bytes}
    """
    random = Random(1)
    found: dict[str, list[str]] = {}
    records = {}
    subdir = folder / "linux-64"
    subdir.mkdir(parents=True)
    for title, size in sizes.items():
        found[title] = []
        for number in range(count):
            content = random.randbytes(size)
            file = f"sized-{size}-{number}.0-0.conda"
            (subdir / file).write_bytes(content)
            found[title].append(f"files/linux-64/{file}")
            records[file] = {
                "name": f"sized-{size}",
                "version": f"{number}.0",
                "build": "0",
                "build_number": 0,
                "depends": [],
                "size": size,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    repodata = {"info": {"subdir": "linux-64"}, "packages": {}, "packages.conda": records}
    (subdir / "repodata.json").write_text(json.dumps(repodata))
    return found


def _copy(url: str, target: Path) -> int:
    """Give nginx the very bytes that we send; how many."""
    with urllib.request.urlopen(url, timeout=60) as response:
        content: bytes = response.read()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return len(content)


def _compare(work: Work, bar: Bar, ours: str, peer: str, paths: Sequence[str], seconds: int) -> Result:
    file = work.folder / "paths.lua"
    script(file, paths)
    for address in (ours, peer) if not work.quick else ():
        wrk(file, address, 1)  # both have it in memory before the first figure
    mine, theirs = in_turn(work.runs, lambda: wrk(file, ours, seconds), lambda: wrk(file, peer, seconds))
    return Result(bar, mine, theirs, rate=True)
