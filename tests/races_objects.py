"""Several machines on one store of objects at once: writers, gcs, and a reader that compares all with what it should be.

    tests/races_objects.py --rounds 1000        `make objects-races`

In a round four machines, each with a cache of its own and a clock that is wrong, change their channels and sync them, while two
others forget snapshots and collect garbage, without a grace and with a short one, and one process is stopped now and then for
longer than a lease lasts. On one machine a server has the same cache as the syncs, and is asked all the time. After a round
every snapshot that is kept must be whole, with the very files that its channel had when it was sealed.
"""

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from channels import Channel, make_package
from mirror import Mirror
from seams import Seams
from services import Service, can_ceph, ceph, moto
from serving import server

WRITERS, GCS = 4, 2
#: of each gc
_GRACES = ("0s", "10s")
#: seconds by which a clock is behind the service's, and ahead of it, at most: with one that is more so a process says so, and
#: ends
_WRONG = (-200.0, 15.0)
#: seconds; a lease lasts 60
_STOPPED = 75.0
#: rounds of one storm; a look reads every record, of which each round makes four
_LENGTH = 25


class Storm:
    """The machines, and the model of what each snapshot holds."""

    def __init__(self, folder: Path, service: Service, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        store = f"{service.bucket()}/storm"
        self.channels = [Channel(folder / f"channel{one}", subdirs=["linux-64"]) for one in range(WRITERS)]
        repos = []
        for number, channel in enumerate(self.channels):
            channel.add(make_package(f"base{number}"))
            channel.publish()
            repos.append({"kind": "conda", "path": f"chan{number}", "upstream": channel.root.as_uri()})
        self.machines = [service.use(Mirror(folder / f"machine{one}"), store) for one in range(WRITERS + GCS + 1)]
        for machine in self.machines:
            machine.repos = [dict(repo, download="eager") for repo in repos]
            machine.write()
        self.reader = self.machines[-1]
        self.reader.sync()
        #: {(snapshot, repo): the files that its channel had}, of what a sync said that it has sealed
        self.sealed: dict[tuple[str, str], set[str]] = {}
        self.violations: list[str] = []
        self.operations = self.stopped = self.answers = 0
        self._lock = threading.Lock()
        for number, machine in enumerate(self.machines[:-1]):
            (clock := folder / f"clock{number}").write_text("0")
            machine.env |= Seams(seed + number, 0.1, str(clock)).environment

    def round(self, stop: bool) -> None:
        """Everything at once, then a look at all of it."""
        for number in range(WRITERS + GCS):
            (self.folder / f"clock{number}").write_text(str(self.chance.uniform(*_WRONG)))
        with ThreadPoolExecutor(WRITERS + GCS) as pool:
            running = [pool.submit(self._write, number, stop and number == 0) for number in range(WRITERS)]
            running += [pool.submit(self._collect, number) for number in range(GCS)]
        for one in running:
            one.result()
        self._look()

    def _change(self, number: int) -> set[str]:
        """Another state of a channel; the files that it has then."""
        channel, names = self.channels[number], [*self.channels[number].records["noarch"]]
        if len(names) > 3 or (len(names) > 1 and self.chance.random() < 0.3):
            channel.remove(self.chance.choice(names))
        # of few names, so that what was collected comes back
        package = make_package(f"p{self.chance.randrange(6)}", build=str(number % 2))
        if package.filename not in channel.records["noarch"]:
            channel.add(package)
        channel.publish()
        return set(channel.records["noarch"])

    def _write(self, number: int, stop: bool) -> None:
        with self._lock:
            files = self._change(number)
        time.sleep(self.chance.random())
        machine = self.machines[number]
        if stop:
            process = machine.start("sync", f"chan{number}", "--json")
            time.sleep(0.5 + 2 * self.chance.random())
            process.send_signal(signal.SIGSTOP)
            time.sleep(_STOPPED)
            process.send_signal(signal.SIGCONT)
            result = machine.finish(process, 300)
        else:  # its clock is wrong
            result = machine.run("sync", f"chan{number}", "--json", status=None, timeout=300)
        with self._lock:
            self.operations += 1
            self.stopped += stop
            if result.status == 0:
                self.sealed[json.loads(result.out)["snapshot"], f"chan{number}"] = files
            elif result.status != 4:
                self.violations.append(f"sync of chan{number}: {result.status} {result.err[-500:]}")

    def _collect(self, number: int) -> None:
        machine = self.machines[WRITERS + number]
        time.sleep(self.chance.random())
        ids = machine.run("snapshots", "--json", timeout=300).json["snapshots"]
        for verb in (["forget", ids[0]["id"]] if len(ids) > 8 else ["snapshots"]), ["gc", "--grace", _GRACES[number]]:
            result = machine.run(*verb, status=None, timeout=300)
            with self._lock:
                self.operations += 1
                # 2: the other gc has forgotten it, or it is current for a repo whose sync is late
                if result.status not in (0, 4) and not (verb[0] == "forget" and result.status == 2):
                    self.violations.append(f"{verb}: {result.status} {result.err[-500:]}")

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """A server on the first writer's machine, which clients ask as long as the block lasts."""
        ended = threading.Event()
        with server(self.machines[0].config) as (url, _):
            asking = threading.Thread(target=self._ask, args=(url, ended))
            asking.start()
            try:
                yield
            finally:
                ended.set()
                asking.join()

    def _ask(self, url: str, ended: threading.Event) -> None:
        """Ask for files that an index lists: one is right, or another index by now."""
        chance = random.Random(1)
        with requests.Session() as session:
            while not ended.wait(0.1):
                base = f"{url}/current/chan{chance.randrange(WRITERS)}/noarch"
                try:
                    listed = self._listed(session, base)
                    file = chance.choice(sorted(listed))
                    answer = session.get(f"{base}/{file}", timeout=60)
                    right = answer.status_code == 200 and hashlib.sha256(answer.content).hexdigest() == listed[file]
                    if not right and self._listed(session, base).get(file) == listed[file]:
                        again = session.get(f"{base}/{file}", timeout=60)  # that it went and came back is no fault
                        right = again.status_code == 200 and hashlib.sha256(again.content).hexdigest() == listed[file]
                        if not right:
                            self._violate(f"{base}/{file}: {answer.status_code}, {again.status_code} {again.text[:300]}")
                except (requests.RequestException, ValueError, KeyError) as error:
                    self._violate(f"{base}: {error!r}")
                self.answers += 1

    def _listed(self, session: requests.Session, base: str) -> dict[str, str]:
        """{file: SHA-256}"""
        answer = session.get(f"{base}/repodata.json", timeout=60)
        if answer.status_code != 200:
            raise ValueError(f"{answer.status_code} {answer.text[:300]}")
        index = answer.json()
        return {file: record["sha256"] for key in ("packages", "packages.conda") for file, record in index[key].items()}

    def _violate(self, what: str) -> None:
        with self._lock:
            self.violations.append(what)

    def _look(self) -> None:
        shutil.rmtree(self.folder / self.reader.root.name / "cache", ignore_errors=True)  # what is there, not what was
        found = self.reader.run("check", "--read-data", "--json", status=None, timeout=300)
        if found.status:
            self.violations.append(f"check: {found.status} {found.out[-800:]} {found.err[-300:]}")
        entries = self.reader.catalog().records
        numbers = [entry.number for entry in self.reader.catalog().entries]
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            self.violations.append(f"numbers: {numbers}")
        for entry in entries:
            for path in entry.repos:
                expected = self.sealed.get((entry.id, path))
                if expected is not None and (listed := self.reader.listed(f"{path}/noarch", entry.id)) != expected:
                    self.violations.append(f"{entry.id}/{path}: {sorted(listed)}, not {sorted(expected)}")


class Rounds:
    """How many are left for all storms together; what has come of those that are done."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self._rounds, self._seconds, self._begun = rounds, seconds, time.monotonic()
        self._taken = self.done = 0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def run(self, folder: Path, service: Service, seed: int) -> list[Storm]:
        """Storms, one after the other, until no round is left, or one has found a violation."""
        storms: list[Storm] = []
        number = self._take()
        while number is not None:
            place = folder / str(len(storms))
            storms.append(storm := Storm(place, service, seed + len(storms)))
            with storm.asked():
                for _ in range(_LENGTH):
                    if number is not None:
                        storm.round(stop=number % 20 == 7)
                        number = self._next(storm)
            shutil.rmtree(place)
        return storms

    def _next(self, storm: Storm) -> int | None:
        """The number of a round after one of a storm; None for none."""
        with self._lock:
            self.done += 1
            if storm.violations:
                self._rounds = 0
            if self.done % 10 == 0:
                print(f"{self.done} rounds, {self.seconds:.0f} s", flush=True)
        return self._take()

    def _take(self) -> int | None:
        with self._lock:
            if self._taken >= self._rounds or self.seconds > self._seconds:
                return None
            self._taken += 1
            return self._taken


def main() -> None:
    """Run it; status 1 for a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--storms", type=int, default=4, help="so many at once, each on a store of its own: much is waiting")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--moto", action="store_true", help="on moto, not on Ceph")
    asked = parser.parse_args()
    if not asked.moto and (reason := can_ceph()):
        sys.exit(f"no gateway of Ceph: {reason}; --moto does without")
    with tempfile.TemporaryDirectory(prefix="storm-") as text:
        folder = Path(text)
        service: Any = moto() if asked.moto else ceph(folder / "ceph")
        with service as running, ThreadPoolExecutor(asked.storms) as pool:
            rounds = Rounds(asked.rounds, asked.seconds)
            seeds = range(asked.seed, asked.seed + 1000 * asked.storms, 1000)
            begun = [pool.submit(rounds.run, folder / f"storm{seed}", running, seed) for seed in seeds]
            storms = [storm for one in begun for storm in one.result()]
    total = {name: sum(getattr(storm, name) for storm in storms) for name in ("operations", "answers", "stopped")}
    what = f"{total['operations']} operations, {sum(len(storm.sealed) for storm in storms)} syncs sealed"
    print(
        f"{rounds.done} rounds with {WRITERS} writers and {GCS} gcs in {rounds.seconds:.0f} s, {asked.storms} at once: {what}"
    )
    violations = [violation for storm in storms for violation in storm.violations]
    print(f"{total['answers']} files asked for, {total['stopped']} writers stopped for longer than a lease")
    print(f"seed {asked.seed}: {len(violations)} violations")
    for violation in violations:
        print(violation)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
