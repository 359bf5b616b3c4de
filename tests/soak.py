"""Two thousand clients that keep their connections, while syncs and gcs run beside the server: `make soak`.

Each asks for something, waits a while, and asks again: indexes, files, parts of files, heads, what it has already, pages, and
what is not there, by all selectors. Every answer is compared with the model of `races`. In the end the workers must have no
more open files than in the beginning, and their memory must be level after the first five minutes.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from races import ALWAYS, KEPT, REPOS, Storm, beside, forgotten, judge, known_ids, records, state
from serving import memory_of

from snapmirror import clock

#: seconds between two requests of a client, on average
THINK = 4.0
#: open files that a worker may have more than in the beginning: of the store, which come and go
SLACK = 24
#: bytes that a worker keeps of pages and documents, a thousandth of what it does by itself: filled within minutes
_ROOM = 256 << 10
#: looks, one a minute, after which memory is to be level, and by what share of it it may still grow
_LEVEL_AFTER, _GROWTH = 5, 0.05


class Answer(NamedTuple):
    """An answer as it came in."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def snapshot(self) -> str:
        """The snapshot that has answered."""
        return self.headers.get("x-snapmirror-snapshot", "")


class Client:
    """One connection, kept."""

    def __init__(self, netloc: str, store: Path, chance: random.Random) -> None:
        self._host, _, port = netloc.partition(":")
        self._port = int(port)
        self._store = store
        self._chance = chance
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        #: what was asked for last
        self._asked = ""
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def until(self, over: Any) -> None:
        """Ask until it is over."""
        while not over.is_set():
            await asyncio.sleep(self._chance.random() * 2 * THINK)
            try:
                async with asyncio.timeout(60):
                    await self._ask()
            except (OSError, EOFError, ValueError, AssertionError) as error:
                self.wrong.append(f"{self._asked}: {type(error).__name__}: {error}")
                self._close()
        self._close()

    def _close(self) -> None:
        if self._writer:
            self._writer.close()
        self._writer = None

    async def _get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: mirror", *(f"{name}: {value}" for name, value in headers.items())]
        self._asked = f"{clock.now():%H:%M:%S} {lines[0]}"
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self.counts["connections"] += 1
        assert self._reader
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        code = int(status.split()[1])
        body = b""
        if method != "HEAD" and code not in (204, 304):
            assert "content-length" in found, f"{path}: {code} of no known length"
            body = await self._reader.readexactly(int(found["content-length"]))
        self.counts[f"{method} {code}"] += 1
        if found.get("connection") == "close":
            self._close()
        return Answer(code, found, body)

    async def _ask(self) -> None:
        """One of all kinds of requests."""
        chance = self._chance
        repo = chance.choice(list(REPOS))
        selector = chance.choice(["current", "current", ALWAYS, chance.choice(known_ids(self._store)[-KEPT:])])
        base = f"/{selector}/{repo}/noarch"
        if chance.random() < 0.15:
            await self._page(chance.choice(["/", "/-/snapshots.json", f"{base}/", "/current/a/noarch/no-such-1.0-0.conda"]))
            return
        answer = await self._get(f"{base}/repodata.json")
        if answer.status != 200:
            self._refused(f"{base}/repodata.json", answer, selector)
            return
        number = judge(repo, answer.body)
        match chance.randrange(4):
            case 0:
                again = await self._get(f"{base}/repodata.json", **{"If-None-Match": answer.headers["etag"]})
                if again.status == 200:
                    assert again.headers["etag"] != answer.headers["etag"], f"{base}: the same once more"
                    judge(repo, again.body)
                elif again.status != 304:
                    self._refused(base, again, selector)
            case 1:
                head = await self._get(f"{base}/repodata.json", "HEAD")
                if head.status != 200:
                    self._refused(base, head, selector)
                elif head.snapshot == answer.snapshot:
                    assert int(head.headers["content-length"]) == len(answer.body), f"{base}: another length by HEAD"
            case _:
                await self._file(selector, repo, number, answer.snapshot)

    async def _page(self, path: str) -> None:
        answer = await self._get(path)
        if answer.status != (404 if "no-such" in path else 200):
            self._refused(path, answer, path.split("/")[1])

    async def _file(self, selector: str, repo: str, number: int, snapshot: str) -> None:
        """A file, or a part of it."""
        name = self._chance.choice(list(records(repo, number)))
        data = state(repo, number)[name].data
        path = f"/{selector}/{repo}/noarch/{name}"
        first = self._chance.randrange(len(data))
        last = self._chance.randrange(first, len(data))
        if part := self._chance.random() < 0.5:
            answer = await self._get(path, Range=f"bytes={first}-{last}")
        else:
            answer = await self._get(path)
        if answer.status == 206 and part:
            assert answer.body == data[first : last + 1], f"{path}: wrong bytes of {first}-{last}"
        elif answer.status == 200:
            assert answer.body == data, f"{path}: wrong bytes"
        elif not (answer.status == 404 and selector in ("current", ALWAYS)):
            self._refused(f"{path} of {snapshot}", answer, selector)
        else:
            now = await self._get(f"/{selector}/{repo}/noarch/repodata.json")
            assert now.snapshot != snapshot, f"{path} of {snapshot}: {answer.status} {answer.body[:200]!r}"

    def _refused(self, path: str, answer: Answer, selector: str) -> None:
        """Only what is forgotten may be."""
        gone = selector[:1].isdigit() and answer.status == 410 and forgotten(self._store, selector)
        assert gone, f"{path}: {answer.status} {answer.body[:200]!r}"


def ask(url: str, store: Path, seed: int, connections: int, over: Any, told: Any) -> None:
    """A process of so many clients, until `over`; puts counts and what was wrong into `told`."""
    clients = [Client(urlsplit(url).netloc, store, random.Random(seed + number)) for number in range(connections)]

    async def all_of_them() -> None:
        await asyncio.gather(*(client.until(over) for client in clients))

    raise_limit(connections + 100)
    asyncio.run(all_of_them())
    told.put((sum((one.counts for one in clients), Counter()), [text for one in clients for text in one.wrong]))


def raise_limit(wanted: int) -> bool:
    """Allow so many open files; whether that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return True


class Level(NamedTuple):
    """What the workers of a server hold together."""

    #: open files of the one that has most
    files: int
    #: bytes of all: their own, and those of files
    memory: int
    mapped: int


def level(server: int) -> Level:
    """What the workers of this process hold now."""
    workers = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    held = [memory_of(int(worker)) for worker in workers]
    files = [len(os.listdir(f"/proc/{worker}/fd")) for worker in workers]
    return Level(max(files), sum(one.anonymous for one in held), sum(one.mapped for one in held))


class Soak:
    """A server and its clients."""

    def __init__(self, root: Path, seed: int, connections: int) -> None:
        self.storm = Storm(root, seed)
        self.storm.room = _ROOM
        self._seed = seed
        self._connections = connections
        #: of every so many seconds; the first is from before the clients came, the last from after they left
        self.levels: list[Level] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, seconds: float, every: float, *, tell: bool) -> None:
        """Soak for so long, and look at the workers every so often."""
        with self.storm.begun():
            for _ in range(3):
                self.storm.round()
            self.levels.append(level(self.storm.server))
            with self._clients():
                self._rounds(seconds, every, tell=tell)
            self.levels.append(self._after())
        self.wrong += self.storm.wrong

    def _rounds(self, seconds: float, every: float, *, tell: bool) -> None:
        begin, last = time.monotonic(), time.monotonic()
        while time.monotonic() - begin < seconds:
            self.storm.counts["rounds"] += 1
            self.storm.round()
            time.sleep(1)
            if time.monotonic() - last >= every:
                last = time.monotonic()
                self.levels.append(level(self.storm.server))
                if tell:
                    files, memory, mapped = self.levels[-1]
                    held = f"{memory / 1e6:.1f} MB of memory, {mapped / 1e6:.1f} MB of files"
                    print(f"{(last - begin) / 60:.1f} min: {files} open files, {held}", flush=True)

    @contextlib.contextmanager
    def _clients(self) -> Iterator[None]:
        try:
            with beside(ask, self.storm.url, self.storm.mirror.store_path, self._seed, self._connections) as told:
                yield
        finally:
            counts, wrong = told
            self.counts += counts
            self.wrong += wrong

    def _after(self) -> Level:
        """When the workers have seen that their clients are gone."""
        for _ in range(100):
            found = level(self.storm.server)
            if found.files <= self.levels[0].files + SLACK:
                break
            time.sleep(0.1)
        return found

    def judge(self) -> list[str]:
        """What is wrong with how the workers have fared."""
        found = list(self.wrong)
        first, *during, last = self.levels
        if last.files > first.files + SLACK:
            found.append(f"{last.files} open files stay, of {first.files}")
        begin = min(_LEVEL_AFTER, len(during) // 2)
        early, late = during[begin : begin + 5], during[-5:]
        if min(one.memory for one in late) > (1 + _GROWTH) * max(one.memory for one in early):
            found.append(f"memory grows: {[one.memory for one in self.levels]}")
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    if not raise_limit(given.connections + 100):
        print(f"skipped: this machine allows no {given.connections + 100} open files a process (ulimit -Hn)")
        return 0
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder), seed, given.connections)
        soak.run(given.seconds, min(60, given.seconds / 6), tell=True)
    print(f"{given.seconds / 60:.0f} min, {soak.storm.counts['rounds']} rounds of syncs and gcs beside it; requests:")
    for kind, count in sorted(soak.counts.items()):
        print(f"  {kind:20} {count}")
    files = [one.files for one in soak.levels]
    print(f"open files of a worker: {files[0]} before, {max(files)} at most, {files[-1]} after")
    problems = soak.judge()
    print(f"{len(problems)} violations")
    for text in problems[:20]:
        print(f"  {text}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
