"""Downloading from a server on this machine into a store, against curl.

Ours: `sync.fetch.fetch` with the product's own settings into a real store; on return every file is verified, durable,
under its name and in the index. Small files: a `curl` process for each, one after the other, as the common mirror
script runs it. Large files: one `curl --parallel`. Neither curl verifies anything or waits for the disk.
"""

import hashlib
import json
import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from snapmirror import addresses
from snapmirror.readings import File
from snapmirror.store.store import Store
from snapmirror.sync.fetch import fetch
from snapmirror.transfer.download import Source
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

from .measure import Bar, Result, Work, child, in_turn, need, remove, run, settle
from .servers import nginx

SMALL = Bar("download 2,000 files of 100 kB: verified, durable, indexed", "curl, one a file", least=4.0)
LARGE = Bar("download 100 files of 10 MB: verified, durable, indexed", "curl --parallel", least=0.8)
BARS = (SMALL, LARGE)

_CURL = ("curl", "--silent", "--show-error", "--fail")
_AS_SCRIPTS_DO = (*_CURL, "--retry", "10", "--speed-time", "15", "--speed-limit", "5000", "--remote-time")


def measure(work: Work) -> Iterator[Result]:
    """Both sizes from one nginx."""
    need("nginx", "curl")
    root = work.fresh("upstream")
    sizes = {
        SMALL: (work.size(2000, 20), work.size(100_000, 10_000)),
        LARGE: (work.size(100, 5), work.size(10_000_000, 200_000)),
    }
    with nginx(work.folder / "nginx", root) as address:
        work.note("nginx.conf", (work.folder / "nginx" / "nginx.conf").read_text())
        work.notes["curl, one a file"] = shlex.join([*_AS_SCRIPTS_DO, "-o", "FILE", "URL"])
        work.notes["curl --parallel"] = shlex.join([*_CURL, "--parallel", "--config", "LIST"])
        for bar, (count, size) in sizes.items():
            files = _make(root, count, size)
            listed = work.folder / "files.json"
            listed.write_text(json.dumps({"base": f"{address}/", "files": files}))
            curl = _one_by_one if bar is SMALL else _parallel
            ours, peers = in_turn(work.runs, partial(_ours, work, listed, count), partial(curl, work, address, list(files)))
            yield Result(bar, ours, peers, rate=True)


def _make(root: Path, count: int, size: int) -> dict[str, str]:
    """Files that no two have a byte in common by more than chance: {name: SHA-256}."""
    random, found = Random(size), {}
    for number in range(count):
        content = random.randbytes(size)
        name = f"package-{size}-{number}.conda"
        (root / name).write_bytes(content)
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _ours(work: Work, listed: Path, count: int) -> float:
    """Files a second."""
    store = work.folder / "store"
    remove(store)
    settle()
    return count / float(child(__name__, listed, store)["seconds"])


def _one_by_one(work: Work, address: str, names: list[str]) -> float:
    target = work.fresh("curl")
    lines = (shlex.join([*_AS_SCRIPTS_DO, "-o", str(target / name), f"{address}/{name}"]) for name in names)
    script = work.folder / "curl.sh"
    script.write_text("set -e\n" + "\n".join(lines) + "\n")
    return _timed(["sh", script], target, names)


def _parallel(work: Work, address: str, names: list[str]) -> float:
    target = work.fresh("curl")
    config = work.folder / "curl.conf"
    config.write_text("".join(f'url = "{address}/{name}"\noutput = "{target / name}"\n' for name in names))
    return _timed([*_CURL, "--parallel", "--config", config], target, names)


def _timed(command: list[str | Path], target: Path, names: list[str]) -> float:
    settle()
    began = time.perf_counter()
    run(command)
    rate = len(names) / (time.perf_counter() - began)
    if len(list(target.iterdir())) != len(names):
        raise RuntimeError("curl did not fetch everything")
    remove(target)
    return rate


# In a process of its own


class Quiet:
    """Fulfils `sync.fetch.Progress`."""

    def message(self, text: str) -> None:
        """Say it."""
        print(text, file=sys.stderr)

    def stage(self, repo: str, stage: str, detail: str) -> None:
        """Nothing."""

    def begin(self, files: int, size: int) -> None:
        """Nothing."""

    def arrived(self, size: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def _fetch(listed: Path, root: Path, **settings: int) -> dict[str, Any]:
    """What `Sync` does once it knows what is missing."""
    wanted = json.loads(listed.read_text())
    Store.create(root)
    progress = Quiet()
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        with Http(msgspec.structs.replace(Download(), **settings), progress.message) as http:
            sources = [
                Source(File(name, None, bytes.fromhex(digest), None), (addresses.file_url(wanted["base"], name),))
                for name, digest in wanted["files"].items()
            ]
            found = fetch(store, http, sources, progress)
        seconds = time.perf_counter() - began
        if not all(isinstance(one, bytes) and store.index.blob(one) for one in found.values()):
            raise RuntimeError("not everything was fetched")
    return {"seconds": seconds}


def main() -> None:
    """`LIST STORE [setting=number]...`: fetch a list of files; prints the seconds that it took."""
    listed, root, *settings = sys.argv[1:]
    chosen = {key: int(value) for key, _, value in (text.partition("=") for text in settings)}
    print(json.dumps(_fetch(Path(listed), Path(root), **chosen)))


if __name__ == "__main__":
    main()
