"""Several machines on one store of objects at once: writers, gcs, and a reader that compares all with what it should be.

    tests/races_objects.py --rounds 1000        `make objects-races`

In a round four machines, each with a cache of its own, change their channels and sync them, while two others forget snapshots
and collect garbage without a grace, and one process is stopped now and then for longer than a lease lasts. After it every
snapshot that is kept must be whole, with the very files that its channel had when it was sealed.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from channels import Channel, make_package
from mirror import Mirror
from services import Service, can_ceph, ceph, moto

WRITERS, GCS = 4, 2
#: seconds; a lease lasts 60
_STOPPED = 75.0


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
        self.operations = self.stopped = 0
        self._lock = threading.Lock()

    def round(self, stop: bool) -> None:
        """Everything at once, then a look at all of it."""
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
        process = self.machines[number].start("sync", f"chan{number}", "--json")
        if stop:
            time.sleep(0.5 + 2 * self.chance.random())
            process.send_signal(signal.SIGSTOP)
            time.sleep(_STOPPED)
            process.send_signal(signal.SIGCONT)
        result = self.machines[number].finish(process, 300)
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
        ids = machine.run("snapshots", "--json").json["snapshots"]
        for verb in (["forget", ids[0]["id"]] if len(ids) > 8 else ["snapshots"]), ["gc", "--grace", "0s"]:
            result = machine.run(*verb, status=None, timeout=300)
            with self._lock:
                self.operations += 1
                # 2: the other gc has forgotten it, or it is current for a repo whose sync is late
                if result.status not in (0, 4) and not (verb[0] == "forget" and result.status == 2):
                    self.violations.append(f"{verb}: {result.status} {result.err[-500:]}")

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


def main() -> None:
    """Run it; status 1 for a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--moto", action="store_true", help="on moto, not on Ceph")
    asked = parser.parse_args()
    if not asked.moto and (reason := can_ceph()):
        sys.exit(f"no gateway of Ceph: {reason}; --moto does without")
    with tempfile.TemporaryDirectory(prefix="storm-") as text:
        folder = Path(text)
        service: Any = moto() if asked.moto else ceph(folder / "ceph")
        with service as running:
            storm = Storm(folder, running, asked.seed)
            begun, rounds = time.monotonic(), 0
            while rounds < asked.rounds and time.monotonic() - begun < asked.seconds and not storm.violations:
                storm.round(stop=rounds % 20 == 7)
                rounds += 1
                if rounds % 5 == 0:
                    print(f"{rounds} rounds, {storm.operations} operations, {time.monotonic() - begun:.0f} s", flush=True)
    what = f"{storm.operations} operations, {len(storm.sealed)} syncs sealed"
    print(f"{rounds} rounds with {WRITERS} writers and {GCS} gcs in {time.monotonic() - begun:.0f} s: {what}")
    print(f"{storm.stopped} writers stopped for longer than a lease, seed {asked.seed}: {len(storm.violations)} violations")
    for violation in storm.violations:
        print(violation)
    sys.exit(bool(storm.violations))


if __name__ == "__main__":
    main()
