"""Files that are fetched when somebody asks for them: a miss, many who want the same, a hit.

nginx on loopback has a channel of large packages. A mirror of ours has its metadata and `download = "on-demand"`, another
one all of it. A miss is compared with curl fetching the same file from nginx itself: what stands in between reads, verifies,
keeps and passes on. The time to the first byte is that of curl, as it prints it.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from .measure import Bar, Result, Work, in_turn, need, run, settle
from .servers import nginx, snapmirror, sync
from .wrk import command, script, wrk

MISS = Bar("a miss of 100 MB, through the proxy", "curl from nginx itself", least=0.8)
FIRST = Bar("its first byte", "nginx's", unit="ms")
MANY = Bar("200 clients of one missing file of 50 MB", "one fetch, and 200 from a warm store", least=1 / 1.2)
HIT = Bar("a hit of 100 kB, on demand", "eager server", least=0.9)
BARS = (MISS, FIRST, MANY, HIT)

_CURL = ("curl", "--silent", "--show-error", "--fail", "--write-out", "%{time_total} %{time_starttransfer}", "--output")
_CONFIG = """\
store = "{store}"

[serve]
port = 0

[[repo]]
kind = "conda"
path = "channel"
upstream = "{address}"
subdirs = ["noarch"]
sidecars = []
download = "{download}"
"""


def measure(work: Work) -> Iterator[Result]:
    """Every miss is one of a file that nobody has asked for before."""
    need("nginx", "curl", "wrk")
    large, shared, small = work.size(100_000_000, 1_000_000), work.size(50_000_000, 1_000_000), 100_000
    larges, shareds, smalls = _channel(work, [large] * work.runs, [shared] * 2 * work.runs, [small])
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(nginx(work.folder / "nginx", work.folder / "channel"))
        work.note("nginx.conf", (work.folder / "nginx" / "nginx.conf").read_text())
        work.notes["curl for misses"] = " ".join((*_CURL, "FILE", "URL"))
        ours = stack.enter_context(_mirror(work, direct, "on-demand"))
        eager = stack.enter_context(_mirror(work, direct, "eager"))
        yield from _misses(work, direct, ours, larges)
        yield _many(work, ours, iter(shareds))
        seconds = 1  # many short rounds: two servers of the same speed differ by a seventh over three seconds on a busy machine
        paths = [f"{address}/noarch/{smalls[0]}" for address in (ours, eager)]
        work.notes["wrk for hits"] = command("PATHS.lua", "ADDRESS", seconds)
        rates = in_turn(work.size(5, 1) * work.runs, *(partial(_rate, work, path, seconds) for path in paths))
        yield Result(HIT, *rates, rate=True)


def _channel(work: Work, *groups: list[int]) -> list[list[str]]:
    """A channel with packages of these sizes; their names. Only their hashes matter: nobody opens them."""
    folder = work.fresh("channel") / "noarch"
    folder.mkdir()
    packages: dict[str, dict[str, Any]] = {}

    def make(size: int) -> str:
        name = f"p{len(packages)}-1.0-0.conda"
        content = Random(len(packages)).randbytes(size)
        (folder / name).write_bytes(content)
        record = {"name": name.partition("-")[0], "version": "1.0", "build": "0", "build_number": 0, "depends": []}
        packages[name] = {**record, "subdir": "noarch", "size": size, "sha256": hashlib.sha256(content).hexdigest()}
        return name

    found = [[make(size) for size in group] for group in groups]
    document = {"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": packages}
    (folder / "repodata.json").write_text(json.dumps(document))
    return found


@contextlib.contextmanager
def _mirror(work: Work, upstream: str, download: str) -> Iterator[str]:
    """A mirror of the channel; gives its address there."""
    config = work.folder / f"{download}.toml"
    config.write_text(_CONFIG.format(store=work.folder / download, address=upstream, download=download))
    sync(config)
    with snapmirror(config) as address:
        yield f"{address}/channel"


def _misses(work: Work, direct: str, ours: str, names: list[str]) -> Iterator[Result]:
    """Each file once through us, and once from nginx."""
    left = {address: iter(names) for address in (direct, ours)}
    firsts: dict[str, list[float]] = {direct: [], ours: []}

    def fetch(address: str) -> float:
        name = next(left[address])
        target = work.folder / "fetched"
        settle()
        total, first = run([*_CURL, target, f"{address}/noarch/{name}"]).split()
        if target.read_bytes() != (work.folder / "channel" / "noarch" / name).read_bytes():
            raise RuntimeError(f"{name} came wrong from {address}")
        target.unlink()
        firsts[address].append(float(first) * 1000)
        return float(total)

    yield Result(MISS, *in_turn(work.runs, partial(fetch, ours), partial(fetch, direct)))
    yield Result(FIRST, firsts[ours], firsts[direct])


def _many(work: Work, ours: str, names: Iterator[str]) -> Result:
    """All at once of a file that is not held; then one who fetches such a file, and all at once of one that is."""
    clients = work.size(200, 20)

    def together() -> float:
        return asyncio.run(_drink(f"{ours}/noarch/{next(names)}", clients))

    def apart() -> float:
        url = f"{ours}/noarch/{next(names)}"
        once = asyncio.run(_drink(url, 1))
        return once + asyncio.run(_drink(url, clients))

    return Result(MANY, *in_turn(work.runs, together, apart))


async def _drink(url: str, clients: int) -> float:
    """Seconds until so many clients have the whole of a file."""
    authority, _, path = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")

    async def get() -> int:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        left = stated = int(head.lower().partition(b"content-length:")[2].split()[0])
        while piece := await reader.read(1 << 20):
            left -= len(piece)
        writer.close()
        if left or not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{left} of {stated} bytes of {url} are missing")
        return stated

    began = perf_counter()
    await asyncio.gather(*(get() for _ in range(clients)))
    return perf_counter() - began


def _rate(work: Work, url: str, seconds: int) -> float:
    """Requests a second of one file."""
    address, _, path = url.removeprefix("http://").partition("/")
    file = Path(work.folder / "pull.lua")
    script(file, [path])
    return wrk(file, f"http://{address}", seconds)
