"""An upstream at its worst, mirrored by us and by what people use today, while a client installs from each mirror.

Upstream drops connections, flips bytes, and publishes a new state in the middle of every sync, with old packages withdrawn
and a record corrected. Whatever a client fails at counts. (A package that is uploaded again under its old name is left out:
who has read the index before and asks for the file after that fails anywhere but at a date or an id.)
"""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from channels import Channel, make_package
from clients import install
from mirror import Mirror
from serving import serving
from upstream import Body, Call, Truncate, Upstream
from usual_script import Mirror as UsualScript

#: bytes of each package's one file: enough that a dropped connection leaves a part
PAYLOAD = 20_000


@dataclass
class Storm:
    """An upstream whose channel moves on whenever it is mirrored."""

    upstream: Upstream
    channel: Channel
    state: int = 0

    def publish(self) -> None:
        """The next state: newer `app` and `lib`, the oldest withdrawn, the record of `data` corrected."""
        self.state += 1
        number = self.state
        self.channel.add(
            make_package("app", f"{number}.0", depends=[f"lib {number}.0", "data"], payload=_payload(number)),
            make_package("lib", f"{number}.0", payload=_payload(-number)),
            make_package("data", payload=_payload(1000)),
        )
        self.channel.hotfix("data-1.0-0.conda", license=f"MIT-{number}")
        if number > 2:
            for name in ("app", "lib"):
                self.channel.remove(f"{name}-{number - 2}.0-0.conda")
        self.channel.publish()

    def break_out(self) -> None:
        """A new state, and faults for the sync that finds it."""
        self.upstream.heal()
        self.publish()
        number = self.state
        self.upstream.fault(f"*/lib-{number}.0-0.conda", Truncate(100), times=1)
        self.upstream.fault(f"*/app-{number}.0-0.conda", Call(self.publish), times=1)
        flipped = bytearray((self.channel.files / "noarch" / f"app-{number}.0-0.conda").read_bytes())
        flipped[len(flipped) // 2] ^= 1
        self.upstream.fault(f"*/app-{number}.0-0.conda", Body(bytes(flipped)), times=1)


def _payload(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAYLOAD)


@dataclass
class Client:
    """Installs from a channel, again and again, until told to stop."""

    url: str
    folder: Path
    runs: int = 0
    failures: list[str] = field(default_factory=list)

    def until(self, over: threading.Event) -> None:
        """At least once, and once more when it is over."""
        last = False
        while not last:
            last = over.is_set()
            self.runs += 1
            try:
                installed = install(self.url, "app", self.folder / str(self.runs))
                assert set(installed) == {"app", "lib", "data"}
            except (AssertionError, ValueError, OSError, subprocess.TimeoutExpired) as error:
                self.failures.append(str(error)[-300:])


def weather(storm: Storm, rounds: int, sync: Callable[[], object], url: str, folder: Path) -> Client:
    """Mirror through the storm while a client installs."""
    client = Client(url, folder)
    for _ in range(rounds):
        storm.break_out()
        over = threading.Event()
        thread = threading.Thread(target=client.until, args=(over,))
        thread.start()
        try:
            sync()
        finally:
            over.set()
            thread.join(120)
    return client


@contextmanager
def storm_at(folder: Path) -> Iterator[Storm]:
    """An upstream with a first state."""
    (folder / "upstream").mkdir(parents=True)
    with Upstream(folder / "upstream") as upstream:
        storm = Storm(upstream, Channel(folder / "upstream" / "chan"))
        storm.publish()
        yield storm


def ours(folder: Path, rounds: int) -> Client:
    """snapmirror: a sync may end with 3, that is what it is for."""
    with storm_at(folder) as storm:
        mirror = Mirror(folder / "mirror")
        mirror.add("chan", f"{storm.upstream.url}/chan")
        mirror.sync()
        with serving(mirror.store_path) as url:
            client = weather(storm, rounds, lambda: mirror.run("sync", status=None), f"{url}/current/chan", folder / "client")
        listed = mirror.listed("chan/noarch")  # the newest state came in the middle of the last sync
        assert {f"app-{number}.0-0.conda" for number in (storm.state - 1, storm.state)} & listed, "it did not keep up"
        return client


def usual_script(folder: Path, rounds: int) -> Client:
    """The usual script, with a web server in front of its folder."""
    with storm_at(folder) as storm:
        tree = folder / "tree"
        tree.mkdir()
        storm.channel.variants = {"json", "bz2"}
        storm.channel.publish()

        def run() -> None:
            UsualScript(tree).channel(f"{storm.upstream.url}/chan", "chan", ["noarch"])

        run()
        with Upstream(tree) as server:
            return weather(storm, rounds, run, f"{server.url}/chan", folder / "client")


def conda_mirror(folder: Path, rounds: int) -> Client:
    """conda-mirror, with a web server in front of its folder."""
    with storm_at(folder) as storm:
        tree = folder / "tree" / "chan"
        tree.mkdir(parents=True)
        command = [Path(sys.executable).parent / "conda-mirror", "--upstream-channel", f"{storm.upstream.url}/chan",
                   "--target-directory", tree, "--platform", "noarch", "--no-progress", "--max-retries", "3"]  # fmt: skip

        def run() -> None:
            subprocess.run(command, capture_output=True, timeout=120)

        run()
        with Upstream(tree.parent) as server:
            return weather(storm, rounds, run, f"{server.url}/chan", folder / "client")


def test_no_client_fails_in_a_storm(tmp_path: Path) -> None:
    client = ours(tmp_path, 2)
    assert client.failures == []
    assert client.runs >= 4


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_client_of_ours_fails_where_those_of_others_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clients = {mirrored.__name__: mirrored(tmp_path / mirrored.__name__, 10) for mirrored in (ours, usual_script, conda_mirror)}
    with capsys.disabled():
        for name, client in clients.items():
            print(f"\n{name}: {len(client.failures)} of {client.runs} installations failed", end="")
    assert clients["ours"].failures == []
