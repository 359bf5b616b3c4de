"""Everything at once on one store, against a model of what each snapshot must answer: `make races`.

A round starts syncs of the same and of different repos, gc, forget, pin, check, reindex, adopt and tree together, each a
process of its own that waits for a random time at its seams (see `seams`), while upstreams change and fail, clocks jump, and
a sync now and then stops for longer than the grace of gc. A server of four workers is asked all the time.

The model is a pure function: what a channel lists in its n-th state. Every index tells its n, so that of each answer it is
known what it must be; a snapshot's n lies between what the channel had when its sync began and when it ended, never falls
from one snapshot to the next, and never changes.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from channels import Channel, Package, make_package
from mirror import Mirror, Result
from seams import STOPPED, Seams
from serving import server
from upstream import Body, Status, Truncate, Upstream

from snapmirror import clock
from snapmirror.store.records import Entry, Record

#: path -> how its files come
REPOS = {"a": "eager", "b": "eager", "c": "eager", "d": "on-demand"}
#: the repo whose upstream fails, and lists a file that it has not and one that is another
TROUBLED = "c"
WITHHELD = ("c-gone-1.0-0.conda", "c-bad-1.0-0.conda")
#: snapshots that are kept, about
KEPT = 8
#: seconds: of gc, and of how long a process stops
GRACE, PAUSE = 1, 2.5
#: names of the pins: one that is always there, and one that comes and goes
ALWAYS, SOMETIMES = "always", "sometimes"


# The model


@functools.lru_cache(maxsize=4096)
def state(repo: str, number: int) -> dict[str, Package]:
    """What a channel lists in its n-th state, by file name. Versions come back, and so do packages."""
    made = [_package(f"{repo}-p{one}", f"{(number + one) // 3 % 4}.0") for one in range(4)]
    made += [_package(f"{repo}-back{bit}", "1.0") for bit in range(2) if number >> bit & 1]
    if repo == "a":
        made.append(_package("a-large", "1.0", 1_000_000))
    if repo == TROUBLED:
        made += [_package("c-gone", "1.0"), _package("c-bad", "1.0")]
    return {one.filename: one for one in made}


@functools.lru_cache(maxsize=512)
def _package(name: str, version: str, size: int = 2000) -> Package:
    return make_package(name, version, payload=random.Random(f"{name} {version}").randbytes(size))


def records(repo: str, number: int) -> dict[str, Any]:
    """The records that a snapshot of the n-th state lists: a file that upstream has not, or has wrong, is withheld."""
    license_ = f"L{number % 3}"
    listed = {file: one.record | {"license": license_} for file, one in state(repo, number).items() if "-p0-" in file}
    return {file: one.record for file, one in state(repo, number).items() if file not in WITHHELD} | listed


def judge(repo: str, body: bytes) -> int:
    """Which state an index is of. Raises AssertionError unless it is just that."""
    said = json.loads(body)
    number = int(said["state"])
    assert said["packages.conda"] == records(repo, number), f"{repo}: is not what state {number} lists"
    assert said["packages"] == {}
    assert said["info"] == {"subdir": "noarch"}
    return number


# Upstream


class Upstreams:
    """The channels, and the state that each is in."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.numbers = dict.fromkeys(REPOS, 0)
        self._channels = {repo: Channel(upstream.root / repo, variants={"json"}) for repo in REPOS}
        self._lock = threading.Lock()
        for repo, channel in self._channels.items():
            for number in range(16):
                channel.add(*state(repo, number).values())
        for name in WITHHELD:
            path = upstream.root / TROUBLED / "noarch" / name
            path.unlink()
        path.write_bytes(b"another file")
        for repo in REPOS:
            self.advance(repo)

    def advance(self, repo: str) -> None:
        """The next state."""
        with self._lock:
            number = self.numbers[repo] + 1
            channel = self._channels[repo]
            channel.records["noarch"] = {file: dict(one.record) for file, one in state(repo, number).items()}
            for file, record in channel.records["noarch"].items():
                if "-p0-" in file:
                    record["license"] = f"L{number % 3}"
            channel.extra = {"state": number}
            channel.publish()
            self.numbers[repo] = number

    def fail(self, chance: random.Random) -> list[str]:
        """Let the troubled one fail a little, or not at all; the channels that may go on meanwhile."""
        self.upstream.heal()
        self.upstream.clear()
        match chance.randrange(6):
            case 0:
                self.upstream.fault("/c/noarch/repodata.json", Status(503, {"Retry-After": "0"}))
            case 1:
                self.upstream.fault("/c/noarch/*.conda", Truncate(100), times=2)
            case 2:
                self.upstream.fault("/c/noarch/c-p*.conda", Body(b"wrong"), times=1)
                # A sync asks once more for what is wrong. If upstream has another state by then, the wrong file may be a new
                # one, which is withheld, and rightly.
                return [repo for repo in REPOS if repo != TROUBLED]
        return list(REPOS)


# Those who ask


def known_ids(store: Path) -> list[str]:
    """All snapshots, forgotten ones too, oldest first: as the store has them now."""
    names = os.listdir(store / "snapshots")
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))


def forgotten(store: Path, snapshot: str) -> bool:
    """Whether there is a tombstone now."""
    return b'"forgotten"' in (store / "snapshots" / f"{snapshot}.json").read_bytes()


class Reader:
    """Asks a server over one connection. What is wrong with an answer goes into `wrong`."""

    def __init__(self, url: str, store: Path, chance: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._store = store
        self._chance = chance
        self._address = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._address, timeout=60)
        #: what a snapshot has answered for a repo: its state and the SHA-256 of the bytes
        self.fixed: dict[tuple[str, str], tuple[int, str]] = {}
        #: {(repo, state): SHA-256}: snapshots of one state answer alike
        self._alike: dict[tuple[str, int], str] = {}
        self._latest: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, the snapshot that answers, and the body."""
        for last in (False, True):
            try:
                self._connection.request("GET", path)
                answer = self._connection.getresponse()
                body = answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError):
                self._connection.close()
                if last:
                    raise
            else:
                self.counts[f"{answer.status}"] += 1
                return answer.status, answer.headers.get("X-Snapmirror-Snapshot", ""), body
        raise AssertionError

    def fault(self, text: str) -> None:
        """Note what is wrong."""
        self.wrong.append(f"{clock.now():%H:%M:%S} {text}")

    def ask(self) -> None:
        """One index of a random selector, and one of its files."""
        repo = self._chance.choice(list(REPOS))
        known = known_ids(self._store)
        match self._chance.randrange(8):
            case 0 | 1:
                self._index("current", repo, None, may_be_gone=False)
            case 2 | 3 | 4:
                snapshot = self._chance.choice(known[-2 * KEPT :])
                self._index(snapshot, repo, snapshot)
            case 5:
                self._index(ALWAYS, repo, None, may_be_gone=False)
            case 6:
                self._index(SOMETIMES, repo, None, absent=b"nothing")
            case _:
                self._date(known, repo)

    def _date(self, known: list[str], repo: str) -> None:
        """A time between two snapshots, or a day that is over: the one before it answers."""
        place = self._chance.randrange(max(0, len(known) - 2 * KEPT), len(known))
        day = f"{known[place][:4]}-{known[place][4:6]}-{known[place][6:8]}"
        if len(known) > place + 1 and self._chance.random() < 0.5:
            instant = clock.from_id(known[place + 1])
            assert instant
            between = clock.to_id(instant.fromtimestamp(instant.timestamp() - 1, instant.tzinfo))
            self._index(max(between, known[place]), repo, known[place], absent=b"not come yet")
        elif known[-1][:8] > known[place][:8]:
            same = [one for one in known if one[:8] == known[place][:8]]
            self._index(day, repo, same[-1], absent=b"not begun")
        else:
            self._index(day, repo, None, absent=b"not begun")

    def _index(self, selector: str, repo: str, fixed: str | None, *, may_be_gone: bool = True, absent: bytes = b"") -> None:
        """fixed: the snapshot that must answer, if it is known; absent: what a 404 may say; empty if there may be none"""
        status, snapshot, body = self.get(f"/{selector}/{repo}/noarch/repodata.json")
        what = f"/{selector}/{repo}: {status} from {snapshot or 'nothing'}"
        if status == 404 and (absent in body or absent == b"nothing") and absent:
            return
        if status != 200:
            if not (may_be_gone and fixed and forgotten(self._store, fixed)) and not (
                status == 410 and not fixed and may_be_gone
            ):
                self.fault(f"{what}: {body[:300]!r}")
            elif status != 410:
                self.fault(f"{what}, although it is forgotten: {body[:300]!r}")
            return
        if fixed and snapshot != fixed:
            self.fault(f"{what}, not from {fixed}")
        try:
            number = judge(repo, body)
        except (AssertionError, ValueError, KeyError) as error:
            self.fault(f"{what}: {error}: {body[:300]!r}")
            return
        self._compare(what, snapshot, repo, number, hashlib.sha256(body).hexdigest())
        if selector == "current":
            if number < self._latest[repo]:
                self.fault(f"{what}: state {number} after {self._latest[repo]}")
            self._latest[repo] = number
        self._file(selector, repo, number, snapshot, absent)

    def _compare(self, what: str, snapshot: str, repo: str, number: int, digest: str) -> None:
        if self.fixed.setdefault((snapshot, repo), (number, digest)) != (number, digest):
            self.fault(f"{what}: was {self.fixed[snapshot, repo]}, is {(number, digest)}")
        if self._alike.setdefault((repo, number), digest) != digest:
            self.fault(f"{what}: state {number} has two forms")

    def _file(self, selector: str, repo: str, number: int, snapshot: str, absent: bytes) -> None:
        """absent: what a 404 may say after all, for the clock may have been set back since the index came; empty: nothing"""
        name = self._chance.choice(list(records(repo, number)))
        status, _, body = self.get(f"/{selector}/{repo}/noarch/{name}")
        if status == 200:
            if body != state(repo, number)[name].data:
                self.fault(f"/{selector}/{repo}/{name}: wrong bytes")
        elif status == 404 and absent and absent in body:
            pass
        elif not forgotten(self._store, snapshot):
            _, now, _ = self.get(f"/{selector}/{repo}/noarch/repodata.json")
            if now == snapshot:
                self.fault(f"/{selector}/{repo}/{name} of {snapshot}: {status} {body[:300]!r}")
        elif status >= 500:
            self.fault(f"/{selector}/{repo}/{name} of {snapshot}, which is forgotten: {status} {body[:300]!r}")


def read(url: str, store: Path, seed: int, over: Any, told: Any) -> None:
    """A process of readers, until `over`; puts counts and what was wrong into `told`."""

    def one(number: int) -> Reader:
        reader = Reader(url, store, random.Random(seed * 10 + number))
        while not over.is_set():
            try:
                reader.ask()
            except (OSError, http.client.HTTPException, KeyError) as error:
                reader.fault(f"{type(error).__name__}: {error}")
            time.sleep(0.03)
        reader.close()
        return reader

    with ThreadPoolExecutor(2) as pool:
        readers = list(pool.map(one, range(2)))
    told.put((sum((one.counts for one in readers), Counter()), [text for one in readers for text in one.wrong]))


# The rounds


@dataclasses.dataclass
class Known:
    """A snapshot as the model knows it."""

    number: int
    #: state of each repo
    states: dict[str, int]
    #: whether it is one of the past, which holds only what was synced into it
    partial: bool = False
    forgotten: bool = False


@contextlib.contextmanager
def beside(work: Callable[..., None], *given: Any) -> Iterator[list[Any]]:
    """`work(*given, over, told)` in a process of its own; after the block the list holds what that has told."""
    context = multiprocessing.get_context("spawn")
    over, told = context.Event(), context.Queue()
    process = context.Process(target=work, args=(*given, over, told))
    process.start()
    found: list[Any] = []
    try:
        yield found
    finally:
        over.set()
        found += told.get(timeout=180)
        process.join(60)


class Storm:
    """One store, and all that is done to it."""

    def __init__(self, root: Path, seed: int, broken: str = "") -> None:
        """broken: which of `seams.BROKEN` every process is to have"""
        self.chance = random.Random(seed)
        self.mirror = Mirror(root / "mirror")
        self._broken = broken
        self._clock = root / "clock"
        self._ahead = 0
        self._clock.write_text("0")
        self.slow = False
        #: see `Seams`, of the server
        self.room = 0
        #: operations by kind, with their exit statuses
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.known: dict[str, Known] = {}
        #: ids that were named to `forget`
        self.named: set[str] = set()
        #: {snapshot: (the repos that its sync has read, states before and after it)}
        self._sealed: dict[str, tuple[list[str], dict[str, int], dict[str, int]]] = {}
        #: forgotten in the last round
        self._gone: list[str] = []
        self._lock = threading.Lock()
        self._root = root

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Upstreams, a first snapshot, and a server."""
        (self._root / "upstream").mkdir(parents=True)
        with Upstream(self._root / "upstream") as upstream:
            self.upstreams = Upstreams(upstream)
            for repo, mode in REPOS.items():
                self.mirror.add(repo, f"{upstream.url}/{repo}", subdirs=["noarch"], download=mode)
            self.mirror.settings["download"] |= {"retries": 0}
            self.mirror.write()
            self.sync(list(REPOS), Seams())
            self.run("pin", [ALWAYS, "current"], Seams())
            program = [Path(__file__).with_name("seams.py")]
            seams = Seams(self.chance.randrange(2**32), 0.1, str(self._clock), room=self.room)
            with server(
                self.mirror.config, "--workers", "4", program=program, environment=seams.environment | {"SNAPMIRROR_DEBUG": "1"}
            ) as (self.url, process):
                self.server = process.pid
                drained = threading.Thread(target=self._drain, args=(process.stderr,), daemon=True)
                drained.start()
                self.judge_all()
                try:
                    yield
                finally:
                    self._reader.close()

    def _drain(self, lines: Any) -> None:
        for line in lines:
            if any(word in line for word in ("Traceback", "serving what was last read")):
                self.wrong.append(f"the server: {line}")
            elif self.wrong and self.wrong[-1].startswith("the server: Traceback"):
                self.wrong[-1] += line

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Ask the server all the time, in a process of its own."""
        try:
            with beside(read, self.url, self.mirror.store_path, self.chance.randrange(2**32)) as told:
                yield
        finally:
            counts, wrong = told
            self.counts.update({f"answers {status}": count for status, count in counts.items()})
            self.wrong += wrong

    # One operation

    def run(self, verb: str, arguments: list[str], seams: Seams, *allowed: int) -> Result:
        """Run a verb; its status must be 0 or one of these."""
        seams.clock, seams.broken = str(self._clock), self._broken
        result = Result(-1, "", "")
        environment = self.mirror._environment | seams.environment
        try:
            result = self.mirror.run_bare(verb, *arguments, "-c", str(self.mirror.config), timeout=120, environment=environment)
        except AssertionError as error:
            self.fault(f"{verb} {' '.join(arguments)}: {error}")
        with self._lock:
            self.counts[f"{verb} {result.status}"] += 1
            self.counts["stops"] += STOPPED in result.err
        if result.status not in (0, *allowed) and not (result.status == 1 and self._excused(result)):
            self.fault(f"{verb} {' '.join(arguments)} ended with {result.status}: {result.out[-600:]} {result.err[-600:]}")
        return result

    def _excused(self, result: Result) -> bool:
        """Whether nothing could be read of the troubled repo, or the clock is behind the newest snapshot."""
        if self.slow and "clock" in result.err:
            return True
        repos = json.loads(result.out)["repos"] if result.out.startswith("{") else {}
        return TROUBLED in repos and all(repo["exit_status"] in (0, 4) for path, repo in repos.items() if path != TROUBLED)

    def fault(self, text: str) -> None:
        """Note what is wrong."""
        with self._lock:
            self.wrong.append(text)

    def sync(self, repos: list[str], seams: Seams, *options: str) -> None:
        """Sync repos, and note what their snapshot may hold."""
        before = dict(self.upstreams.numbers)
        result = self.run("sync", [*repos, "--json", *options], seams, 3, 4)
        if result.out and (snapshot := json.loads(result.out)["snapshot"]):
            self._sealed[snapshot] = (repos, before, dict(self.upstreams.numbers))

    def stopped(self, repos: list[str], seams: Seams) -> None:
        """Sync repos, one process of which stops, while gc takes what it may."""
        with ThreadPoolExecutor(2) as pool:
            syncing = pool.submit(self.sync, repos, seams)
            while not syncing.done():
                self.run("gc", ["--grace", f"{GRACE}s"], Seams(share=0))
                time.sleep(0.2)
            syncing.result()

    def adopt(self, repo: str, seams: Seams) -> None:
        """Adopt the folder that upstream serves, as it is now."""
        before = dict(self.upstreams.numbers)
        folder = str(self.upstreams.upstream.root / repo)
        result = self.run("adopt", [folder, "--repo", repo, "--json"], seams, 3, 4)
        for tree in json.loads(result.out or "{}").get("trees", []):
            if tree["snapshot"]:
                self._sealed[tree["snapshot"]] = ([repo], before, dict(self.upstreams.numbers))

    def export(self, seams: Seams) -> None:
        """All snapshots into a file, unless one of them is forgotten meanwhile."""
        file = self._root / "export.tar"
        self.run("export", ["--to", str(file)], seams, 2)
        file.unlink(missing_ok=True)

    def _some(self) -> str:
        kept = [id_ for id_, one in self.known.items() if not one.forgotten]
        return self.chance.choice(kept)

    def _operations(self) -> list[Callable[[Seams], object]]:
        """What is done in one round."""
        chance, repos = self.chance, list(REPOS)
        some = chance.sample(repos, chance.randrange(1, 4))
        other = some if chance.random() < 0.3 else chance.sample(repos, chance.randrange(1, 4))
        found: list[Callable[[Seams], object]] = [lambda seams: self.sync(some, seams), lambda seams: self.sync(other, seams)]
        kept = [id_ for id_, one in self.known.items() if not one.forgotten]
        if len(kept) > KEPT:
            going = chance.sample(kept[:-1], min(3, len(kept) - KEPT))
            self.named |= set(going)
            found.append(lambda seams: [self.run("forget", [id_], seams, 2) for id_ in going])
        for _ in range(chance.randrange(1, 3)):
            grace = chance.choice(["0s", "0s", f"{GRACE}s"])
            found.append(lambda seams, grace=grace: [self.run("gc", ["--grace", grace], seams) for _ in "12"])  # type: ignore[misc]
        pinned, adopted, tree = self._some(), chance.choice("ab"), self._some()
        others: list[Callable[[Seams], object]] = [
            lambda seams: self.run("pin", [ALWAYS, pinned, "--move"], seams, 2),
            lambda seams: self.run("pin", [SOMETIMES, pinned, "--move"], seams, 2),
            lambda seams: self.run("unpin", [SOMETIMES], seams, 2),
            lambda seams: self.run("check", [], seams),
            lambda seams: self.run("check", ["--read-data"], seams),
            lambda seams: self.run("check", ["--repair"], seams),
            self.export,
            lambda seams: self.run("reindex", [], seams, 4),
            lambda seams: self.run("tree", [tree], seams, 2),
            lambda seams: self.adopt(adopted, seams),
        ]
        return found + chance.sample(others, chance.randrange(3))

    def round(self) -> None:
        """All at once; then everything must be as the model says."""
        chance = self.chance
        moving = self.upstreams.fail(chance)
        self._move_clock()
        if chance.random() < 0.5:
            for repo in REPOS:
                self.upstreams.advance(repo)
        operations = self._operations()
        share = chance.choice([0.1, 0.3, 0.6])
        seams = [Seams(chance.randrange(2**32), share) for _ in operations]
        if chance.random() < 0.06:
            seams[0].stop_at, seams[0].pause = chance.randrange(1, 80), PAUSE
        starts = [chance.random() * 0.2 for _ in operations]
        changes = [(chance.random() * 0.3, chance.choice(moving)) for _ in range(chance.randrange(1, 4))]

        def start(operation: Callable[[Seams], object], own: Seams, delay: float) -> None:
            time.sleep(delay)
            operation(own)

        def change() -> None:
            for delay, repo in changes:
                time.sleep(delay)
                self.upstreams.advance(repo)

        with ThreadPoolExecutor(len(operations) + 1) as pool:
            futures = [pool.submit(start, *one) for one in zip(operations, seams, starts, strict=True)] + [pool.submit(change)]
            for future in futures:
                future.result()
        self.judge_all()

    def _move_clock(self) -> None:
        """Now and then on by hours, or back: by a little, or by more than a sync bears."""
        if self.chance.random() < 0.1:
            self._ahead += self.chance.randrange(600, 8000)
        back = self.chance.choices([0, 200, 3600], [88, 8, 4])[0]
        self.slow = back > 0
        self._clock.write_text(str(self._ahead - back))
        self.counts["clock set back"] += self.slow

    def get(self, path: str) -> tuple[int, str, bytes]:
        """As `Reader.get`."""
        return self._reader.get(path)

    @staticmethod
    def server_looks() -> None:
        """Wait until every worker has looked for changes again."""
        time.sleep(0.55)

    # What must be so after each round

    def judge_all(self) -> None:
        """Compare the store, and what the server answers, with the model."""
        self.run("check", [], Seams(share=0))
        entries = sorted(self.mirror.catalog().entries, key=lambda entry: entry.number)
        if lost := self.known.keys() - {entry.id for entry in entries}:
            self.fault(f"snapshots are gone: {lost}")
        if (ids := [entry.id for entry in entries if not entry.partial]) != sorted(ids):
            self.fault(f"ids are not in the order of publication: {ids}")
        reader = self._reader
        held = {entry.id: next(iter(entry.repos)) for entry in entries}  # one of the past has not every repo
        for id_ in held.keys() & self._gone:  # since the round before, so that every worker has looked
            if (status := reader.get(f"/{id_}/{held[id_]}/noarch/repodata.json")[0]) != 410:
                self.fault(f"{id_} is forgotten, and answers {status}")
        self._gone.clear()
        for entry in entries:
            self._judge(entry, self.known.get(entry.id))
        self.wrong += reader.wrong
        reader.wrong.clear()

    def _judge(self, entry: Entry, known: Known | None) -> None:
        if known and known.number != entry.number:
            self.fault(f"{entry.id} had the number {known.number}, and has {entry.number}")
        if not isinstance(entry, Record):
            if known and not known.forgotten:
                known.forgotten = True
                self._gone.append(entry.id)
                if entry.id not in self.named:
                    self.fault(f"{entry.id} was forgotten, and nobody had asked for that")
            return
        if known and known.forgotten:
            self.fault(f"{entry.id} was forgotten, and is there again")
        for repo in entry.repos:
            self._reader._index(entry.id, repo, entry.id, may_be_gone=False)
        if not known:
            self._admit(entry, {repo: self._reader.fixed.get((entry.id, repo), (0, ""))[0] for repo in entry.repos})

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self.url, self.mirror.store_path, random.Random(self.chance.random()))

    def _admit(self, entry: Record, states: dict[str, int]) -> None:
        """A new snapshot: what its sync has read is of that time, and the rest is as it was."""
        complete = [] if entry.partial else [one for one in self.known.values() if not one.partial]
        before = max(complete, key=lambda one: one.number).states if complete else {}
        self.known[entry.id] = Known(entry.number, states, entry.partial)
        if entry.id not in self._sealed:
            self.fault(f"{entry.id} was sealed by nobody")
            return
        repos, lowest, highest = self._sealed[entry.id]
        for repo, number in states.items():
            least, most = before.get(repo, 0), before.get(repo, 0)
            if repo in repos:
                most = highest[repo]
                if repo != TROUBLED:
                    least = max(least, lowest[repo])
            if not least <= number <= most and not (repo in repos and number == before.get(repo, 0)):
                self.fault(
                    f"{entry.id} has {repo} in state {number}, not {least} to {most} (synced: {repos}; before: {before})"
                )
            elif number < before.get(repo, 0):
                self.fault(f"{entry.id} has {repo} in state {number}, after {before}")


def play(root: Path, seed: int, seconds: float, rounds: int = 1_000_000, broken: str = "", *, tell: bool = False) -> Storm:
    """Rounds for so long, or so many, or until something is wrong."""
    storm = Storm(root, seed, broken)
    begin, last = time.monotonic(), time.monotonic()
    with storm.begun(), storm.read():
        while time.monotonic() - begin < seconds and storm.counts["rounds"] < rounds and not storm.wrong:
            storm.counts["rounds"] += 1
            storm.round()
            if tell and time.monotonic() - last > 60:
                last = time.monotonic()
                print(f"{(last - begin) / 60:.0f} min: {storm.counts['rounds']} rounds", flush=True)
    storm.counts["seconds"] = round(time.monotonic() - begin)
    return storm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        storm = play(Path(folder), seed, given.seconds, tell=True)
    done = dict(sorted(storm.counts.items()))
    operations = sum(count for kind, count in done.items() if kind not in ("rounds", "seconds", "stops", "clock set back"))
    print(f"{done['rounds']} rounds in {done['seconds']} s, {operations / max(1, done['seconds']):.0f} operations a second")
    for kind, count in done.items():
        print(f"  {kind:20} {count}")
    print(f"{len(storm.wrong)} violations")
    for text in storm.wrong[:20]:
        print(f"  {text}")
    return bool(storm.wrong)


if __name__ == "__main__":
    sys.exit(main())
