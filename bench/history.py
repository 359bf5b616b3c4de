"""Nine months of a real channel: 149 dated states of one subdir, and what gc's mark over all of them costs.

Each state is synced and sealed under its own time with `download = "redirect"`, in one process, from the recorded
history played back by a server. Then gc marks what the 149 snapshots need, from a store just opened.
"""

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapmirror.cli.gc import leaf_digests
from snapmirror.conda import Conda
from snapmirror.conda.settings import CondaRepo
from snapmirror.store.mark import Mark, roots
from snapmirror.store.store import Store
from snapmirror.sync.engine import Sync
from snapmirror.sync.settings import Options, Publish
from snapmirror.transfer.settings import Download

from .download import Quiet
from .measure import ROOT, Bar, Result, Skip, Work, child, in_turn, remove, run
from .servers import process

MARK = Bar("gc's mark over 149 snapshots", "the 149 syncs that made them", least=10.0)
BYTES = Bar("  their records, directories and leaves", most=3, unit="MB")
DISK = Bar("  blocks of the store (du)", unit="MB")
BARS = (MARK, BYTES, DISK)

_DATA = ROOT.parent / "shared" / "data" / "main-linux-aarch64"
_PLAYER = ROOT.parent / "shared" / "tools" / "channel_history.py"


def measure(work: Work) -> Iterator[Result]:
    """Each round makes the store anew."""
    if not (_DATA.is_dir() and _PLAYER.is_file()):
        raise Skip("the recorded history (../shared/data/main-linux-aarch64) is not here")
    times = [path.name.split(".")[0] for path in sorted(_DATA.glob("*.json.zst"))]
    times = times[: work.size(len(times), 3)]
    listed = work.folder / "times.json"
    listed.write_text(json.dumps(times))
    store = work.folder / "store"
    sizes: list[float] = []
    blocks: list[float] = []

    def syncs(address: str) -> float:
        remove(store)
        return float(child(__name__, "sync", store, listed, address)["seconds"])

    def mark() -> float:
        found = child(__name__, "mark", store)
        sizes.append(found["bytes"] / 1e6)
        blocks.append(int(run(["du", "-sk", store]).split()[0]) * 1024 / 1e6)
        return float(found["seconds"])

    output = work.folder / "player"
    with process([sys.executable, "-u", str(_PLAYER), "serve", _DATA.name, "--port", "0"], output):
        address = _address(output)
        synced, marked = in_turn(work.runs, lambda: syncs(address), mark)
    yield Result(MARK, marked, synced)
    yield Result(BYTES, sizes)
    yield Result(DISK, blocks)


def _address(output: Path) -> str:
    until = time.monotonic() + 20
    while not (found := re.search(r"http://[\d.:]+", output.read_text())):
        if time.monotonic() > until:
            raise RuntimeError(f"the player does not serve: {output.read_text()}")
        time.sleep(0.05)
    return found[0]


# In processes of their own


def _sync(root: Path, times: list[str], address: str) -> dict[str, Any]:
    """All states, oldest first; the seconds of the syncs alone, without what the player takes to switch."""
    Store.create(root)
    repo = CondaRepo(path="main", upstream=address, subdirs=["linux-aarch64"], download="redirect")
    seconds = 0.0
    with Store.open(root, write=True) as store:
        for number, time_ in enumerate(times, 1):
            urllib.request.urlopen(f"{address}/_state/{number}", data=b"", timeout=60).close()
            began = time.perf_counter()
            sync = Sync(store, {"conda": Conda()}, [repo], Download(), Publish(), Quiet(), Options(seal_as=time_))
            report = sync.run([repo])
            seconds += time.perf_counter() - began
            if report.snapshot != time_ or report.exit_status(strict=True):
                raise RuntimeError(f"the sync of {time_} ended otherwise: {report}")
    return {"seconds": seconds}


def _mark(root: Path) -> dict[str, Any]:
    """What `gc.plan` does before it looks at blobs; and the bytes of all that was reached."""
    with Store.open(root, write=True) as store:
        began = time.perf_counter()
        records = store.catalog().records
        mark = Mark(store.metadata, leaf_digests)
        mark.add(roots(store, records, ()))
        seconds = time.perf_counter() - began
        size = sum(blob.size for blob in store.blobs.list() if blob.digest in mark)
        size += sum(path.stat().st_size for path in store.layout.snapshots.iterdir())
    return {"seconds": seconds, "bytes": size, "records": len(records)}


def main() -> None:
    """One step; prints its seconds."""
    name, root, *rest = sys.argv[1:]
    if name == "sync":
        print(json.dumps(_sync(Path(root), json.loads(Path(rest[0]).read_text()), rest[1])))
    else:
        print(json.dumps(_mark(Path(root))))


if __name__ == "__main__":
    main()
