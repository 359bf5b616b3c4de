"""The processes of `snapmirror serve`: how they start, take a new configuration, and end. The real program, real signals."""

import asyncio
import contextlib
import errno
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from channels import make_package
from serving import free_port, memory_of
from test_serve import CONDA, Built, Served, built
from waiting import eventually

from snapmirror.errors import UsageError
from snapmirror.serve import workers
from snapmirror.serve.app import Server
from snapmirror.serve.settings import Serve
from snapmirror.serve.sockets import bind
from snapmirror.store.records import Pin
from snapmirror.web import faces

__all__ = ["built"]

TOOL = make_package("tool")
LARGE = make_package("large", payload=os.urandom(5_000_000))
FILE = f"/current/main/noarch/{TOOL.filename}"
ID = "20261120T010000Z"
#: seconds that a process may take on a busy machine
LONG = 30.0


class Process:
    """`snapmirror serve`, and what it has said so far."""

    def __init__(self, process: "subprocess.Popen[str]", config: Path) -> None:
        self._process = process
        self._config = config
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.served = Served(self._address(1))

    def _read(self) -> None:
        assert self._process.stderr
        self.lines.extend(iter(self._process.stderr.readline, ""))

    def said(self, *parts: str) -> bool:
        """Whether some message holds all these texts."""
        return any(all(part in line for part in parts) for line in self.lines)

    def says(self, *parts: str) -> None:
        """Wait for a message that holds all these texts."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.said(*parts))
        assert self.said(*parts), self.lines

    def _address(self, count: int) -> str:
        """The URL that it names when it says for the so manieth time that it serves."""

        def found() -> list[str]:
            return [line.split()[-1].rstrip("/") for line in self.lines if "serving on" in line]

        eventually(lambda: len(found()) >= count or self.status() is not None)
        assert len(found()) >= count, self.lines
        return found()[count - 1]

    def address(self) -> tuple[str, int]:
        host, _, port = self.served.url.removeprefix("http://").partition(":")
        return host, int(port)

    def refused(self) -> bool:
        """Whether new clients are turned away."""
        with socket.socket() as probe:
            return probe.connect_ex(self.address()) == errno.ECONNREFUSED

    def workers(self) -> set[int]:
        return children(self._process.pid)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def write(self, config: str) -> None:
        self._config.write_text(config)

    def reload(self, config: str) -> None:
        """Give it a new configuration, and wait until it has taken it and the workers of the one before are gone."""
        before, count = self.workers(), sum("serving on" in line for line in self.lines)
        self.write(config)
        self.send(signal.SIGHUP)
        self.served = Served(self._address(count + 1))
        eventually(lambda: not self.workers() & before)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self._process.wait(LONG)

    def status(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        """End all that is left of it, if a test has failed."""
        if self._process.poll() is None:
            left = [*self.workers(), self._process.pid]
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self._reader.join(LONG)


def children(process: int) -> set[int]:
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout
    return set(map(int, listed.split()))


def config(built: Built, serve: str = "port = 0", top: str = "") -> str:
    return f'store = "{built.root}"\n{top}\n[serve]\n{serve}\n'


@contextlib.contextmanager
def serving(
    built: Built,
    serve: str = "port = 0",
    program: tuple[str, ...] = ("-m", "snapmirror"),
    begun: "Callable[[subprocess.Popen[str]], object]" = lambda _: None,
) -> Iterator[Process]:
    """begun: called before the server is waited for"""
    path = built.root.parent / "snapmirror.toml"
    path.write_text(config(built, serve))
    command = [sys.executable, *program, "serve", "-c", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        begun(process)
        running = Process(process, path)
        try:
            yield running
        finally:
            running.close()


def slow_download(running: Process) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, bytes]:
    """A download that has begun, over a socket that takes little at once."""
    connection = http.client.HTTPConnection(*running.address(), timeout=30)
    connection.sock = socket.socket()
    connection.sock.settimeout(30)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.sock.connect(running.address())
    connection.request("GET", f"/current/main/noarch/{LARGE.filename}")
    answer = connection.getresponse()
    return connection, answer, answer.read(1000)


# The beginning

#: a worker that begins as soon as a file is there: a store may lie far away
GATED = """
import os, time
from snapmirror.cli import main
from snapmirror.serve import workers
at_once = workers.server_of
def later(*given):
    while not os.path.exists("{gate}"):
        time.sleep(0.01)
    return at_once(*given)
workers.server_of = later
main()
"""


def test_clients_are_refused_until_they_are_answered_and_systemd_is_told(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a balancer another server may be free; a client that is taken in would wait."""
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    gate, port = tmp_path / "gate", free_port()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LONG)

        def begun(process: "subprocess.Popen[str]") -> None:
            eventually(lambda: len(children(process.pid)) == 2)
            with pytest.raises(UsageError, match="in use"):  # of another server
                bind(Serve(port=port), 1)
            process.send_signal(signal.SIGHUP)
            eventually(lambda: len(children(process.pid)) == 4)
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            gate.touch()

        with serving(built, f"port = {port}\nworkers = 2", ("-c", GATED.format(gate=gate)), begun) as running:
            assert manager.recv(100) == b"READY=1"
            for _ in range(20):
                assert running.served.get(FILE).content == TOOL.data
            eventually(lambda: len(running.workers()) == 2)
            assert running.end() == 0


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_running_transfers_are_done(built: Built, number: signal.Signals) -> None:
    built.publish({"main": {"noarch": [LARGE]}}, at=ID)
    with serving(built, "port = 0\nworkers = 2") as running:
        connection, answer, begin = slow_download(running)
        running.send(number)
        eventually(running.refused)
        assert running.status() is None
        assert begin + answer.read() == LARGE.data
        connection.close()
        assert running._process.wait(LONG) == 0


def test_a_second_signal_ends_it_at_once(built: Built) -> None:
    built.publish({"main": {"noarch": [LARGE]}}, at=ID)
    with serving(built) as running:
        connection, _, _ = slow_download(running)
        running.send(signal.SIGTERM)
        eventually(running.refused)
        assert running.end() == 0
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_right_after_the_start_ends_it_too(built: Built, number: signal.Signals) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built, "port = 0\nworkers = 4") as running:
        assert running.end(number) == 0


def test_a_signal_right_after_a_reload_ends_it_too(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built, "port = 0\nworkers = 4") as running:
        assert running.served.get(FILE).status_code == 200
        running.send(signal.SIGHUP)
        assert running.end() == 0


def test_the_last_answer_of_a_connection_says_so(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with built.open() as store:
        state = store.catalog().records[-1].repos["main"].directories["noarch"]
        derived = store.metadata.directory(state.blob).document.documents["repodata.json"]
        path = store.documents.path(derived.sha256, ".zst")
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)  # a disk that takes its time
    with serving(built) as running:
        connection = http.client.HTTPConnection(*running.address(), timeout=30)
        connection.request("GET", FILE)
        answer = connection.getresponse()
        assert (answer.headers["Connection"], answer.read()) == (None, TOOL.data)
        connection.request("GET", "/current/main/noarch/repodata.json.zst")
        disk = open_for_writing(path)  # the server is reading now
        running.send(signal.SIGTERM)
        eventually(running.refused)
        os.write(disk, data)
        os.close(disk)
        answer = connection.getresponse()
        assert (answer.headers["Connection"], answer.read()) == ("close", data)
        assert running._process.wait(LONG) == 0


def open_for_writing(fifo: Path) -> int:
    """Open it once somebody reads it."""
    found: list[int] = []

    def opened() -> bool:
        with contextlib.suppress(OSError):
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    eventually(opened)
    return found[0]


def test_a_client_that_comes_at_the_last_moment_does_not_hold_up_the_end(built: Built) -> None:
    """It is answered, or closed: behind nginx it would wait for a minute, and the server for it."""
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)

    async def end(turns: int) -> bytes:
        """What it is answered. turns: of the event loop, between its coming and the end"""
        [listeners] = bind(Serve(port=0), 1)
        with built.open() as store, socket.socket() as client:
            server = Server(store, {"conda": CONDA}, Serve(), {}, None, faces=faces(store, {"conda": CONDA}))
            async with asyncio.timeout(LONG), workers.serving(server, listeners):
                client.connect(listeners[0].getsockname())
                client.sendall(f"GET {FILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                for _ in range(turns):
                    await asyncio.sleep(0)
            client.settimeout(LONG)
            with contextlib.suppress(ConnectionResetError):
                return client.recv(9)
            return b""

    answers = [asyncio.run(end(turns)) for turns in range(12)]
    assert answers == sorted(answers)  # of those who came too late nothing, of those before them the beginning of an answer
    assert set(answers[-6:]) == {b"HTTP/1.1 "}


def test_workers_do_not_outlive_their_supervisor(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built, "port = 0\nworkers = 2") as running:
        assert running.served.get(FILE).status_code == 200
        running.end(signal.SIGKILL)
        eventually(running.refused)


# A new configuration


def test_sighup_takes_the_new_configuration_and_cuts_nobody_off(built: Built) -> None:
    built.publish({"main": {"noarch": [LARGE]}}, at=ID)
    with serving(built) as running:
        url = running.served.url
        connection, answer, begin = slow_download(running)
        before = running.workers()
        running.write(config(built, 'port = 0\nworkers = 2\npublic_url = "https://mirror.example"'))
        running.send(signal.SIGHUP)
        eventually(lambda: len(running.workers() - before) == 2)
        eventually(lambda: "https://mirror.example/current" in running.served.get("/").text)
        assert begin + answer.read() == LARGE.data
        connection.close()
        eventually(lambda: not running.workers() & before)
        assert running._address(2) == url
        assert running.end() == 0


def test_workers_answer_until_those_of_the_new_configuration_do(built: Built, tmp_path: Path) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    (gate := tmp_path / "gate").touch()
    with serving(built, "port = 0\nworkers = 2", ("-c", GATED.format(gate=gate))) as running:
        before = running.workers()
        gate.unlink()
        running.send(signal.SIGHUP)
        eventually(lambda: len(running.workers() - before) == 2)
        for _ in range(20):
            assert running.served.get(FILE).content == TOOL.data
        os.kill(min(running.workers() - before), signal.SIGKILL)  # another comes
        os.kill(min(before), signal.SIGKILL)  # nobody comes in its place
        gate.touch()
        assert running._address(2) == running.served.url
        eventually(lambda: len(running.workers()) == 2 and not running.workers() & before)
        for _ in range(20):
            assert running.served.get(FILE).content == TOOL.data
        assert running.end() == 0


def test_a_port_can_be_taken_back_before_it_is_left(built: Built, tmp_path: Path) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    (gate := tmp_path / "gate").touch()
    first, second = free_port(), free_port()
    with serving(built, f"port = {first}", ("-c", GATED.format(gate=gate))) as running:
        gate.unlink()
        for port, count in ((second, 2), (first, 3)):
            running.write(config(built, f"port = {port}"))
            running.send(signal.SIGHUP)
            eventually(lambda count=count: len(running.workers()) == count)  # type: ignore[misc]
            assert running.served.get(FILE).content == TOOL.data
        gate.touch()
        assert running._address(2) == running.served.url
        eventually(lambda: len(running.workers()) == 1)
        assert running.served.get(FILE).content == TOOL.data
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", second)) == errno.ECONNREFUSED
        assert running.end() == 0


def test_fewer_workers_answer_as_reliably_as_many(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built, "port = 0\nworkers = 4") as running:
        url = running.served.url
        for workers in (1, 3, 2):
            running.reload(config(built, f"port = 0\nworkers = {workers}"))
            assert running.served.url == url
            eventually(lambda workers=workers: len(running.workers()) == workers)  # type: ignore[misc]
            for _ in range(20):
                assert running.served.get(FILE).content == TOOL.data
        assert running.end() == 0


def test_another_port_and_another_host_take_the_place_of_the_old(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    first, second = free_port(), free_port()
    with serving(built, f"port = {first}\nworkers = 2") as running:
        running.reload(config(built, f"port = {second}\nworkers = 2"))
        assert running.served.url == f"http://127.0.0.1:{second}"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", first)) == errno.ECONNREFUSED
        for host in ("0.0.0.0", "127.0.0.1", "localhost", "127.0.0.2"):
            running.reload(config(built, f'host = "{host}"\nport = {second}\nworkers = 2'))
            for _ in range(10):
                assert running.served.get(FILE).content == TOOL.data, host
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", second)) == errno.ECONNREFUSED
        assert running.end() == 0


BROKEN = {
    "no TOML": ('store = "STORE"\n[serve]\nport = \n', "is not TOML"),
    "another store": ('store = "nowhere"\n', "nowhere: is no store"),
    "no host name": ('store = "STORE"\n[serve]\nhost = "mirror..example"\n', "mirror..example, port 8080: that is no name"),
    "a foreign address": ('store = "STORE"\n[serve]\nhost = "192.0.2.1"\nport = 0\n', "192.0.2.1, port 0"),
    "a port that is taken": ('store = "STORE"\n[serve]\nport = TAKEN\n', "in use"),
    "a time beyond all": (
        'store = "STORE"\n[publish]\nkeep_trees = "99999999999d"\n',
        "[publish]: '99999999999d' is over 100 years",
    ),
    "a size beyond all": (f'store = "STORE"\n[download]\nmin_free = "{"9" * 400}"\n', "min_free"),
    "a repo named as a pin": (
        'store = "STORE"\n[[repo]]\nkind = "conda"\npath = "fixed"\nupstream = "https://c.example"\nsubdirs = []\n',
        "which is a pin",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_configuration_that_cannot_be_used_leaves_all_as_it_is(built: Built, name: str) -> None:
    id_ = built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    (built.root / "pins" / "fixed.json").write_text(f'{{"name": "fixed", "snapshot": "{id_}", "set": "{id_}"}}')
    text, message = BROKEN[name]
    with contextlib.closing(socket.socket()) as taken, serving(built) as running:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        eventually(lambda: running.served.get(FILE).status_code == 200)
        before = running.workers()
        running.write(text.replace("STORE", str(built.root)).replace("TAKEN", str(taken.getsockname()[1])))
        running.send(signal.SIGHUP)
        running.says("ERROR: the configuration stays as it was", message)
        assert running.workers() == before
        assert running.served.get(FILE).content == TOOL.data
        os.kill(min(before), signal.SIGKILL)  # what takes its place keeps to what was configured before, too
        eventually(lambda: len(running.workers()) == 1 and running.workers() != before)
        assert running.served.get(FILE).content == TOOL.data
        assert not running.said("Traceback")
        assert running.end() == 0


# Trouble


def test_a_worker_that_dies_is_replaced(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built, "port = 0\nworkers = 2") as running:
        eventually(lambda: len(running.workers()) == 2)
        victim = min(running.workers())
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(running.workers()) == 2 and victim not in running.workers())
        for _ in range(20):
            assert running.served.get(FILE).content == TOOL.data
        assert running.end() == 0


def test_a_server_whose_messages_go_nowhere_serves(built: Built, tmp_path: Path) -> None:
    """The log is on a disk that is full, or who read it has gone."""
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    port = free_port()
    path = tmp_path / "snapmirror.toml"
    path.write_text(config(built, f"port = {port}"))
    url = Served(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "snapmirror", "serve", "-c", str(path)]
    with open("/dev/full", "w") as full, subprocess.Popen(command, stderr=full) as process:
        try:
            with socket.socket() as probe:
                eventually(lambda: probe.connect_ex(("127.0.0.1", port)) == 0)
            before = children(process.pid)
            process.send_signal(signal.SIGHUP)
            eventually(lambda: len(children(process.pid)) == 1 and children(process.pid) != before)
            assert url.get(FILE).content == TOOL.data
        finally:
            process.terminate()
        assert process.wait(LONG) == 0


def test_a_configuration_for_which_there_is_no_memory_leaves_all_as_it_is(built: Built) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    with serving(built) as running:
        before, supervisor = running.workers(), running._process.pid
        taken = int(Path(f"/proc/{supervisor}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(supervisor, resource.RLIMIT_AS, (taken + (16 << 20), resource.RLIM_INFINITY))
        running.write(config(built, "port = 0\nworkers = 64"))
        running.send(signal.SIGHUP)
        running.says("the configuration stays as it was")
        assert running.workers() == before
        assert running.served.get(FILE).content == TOOL.data
        assert running.end() == 0


#: a system that has no room for another process as long as a file is there
CROWDED = """
import errno, os
from snapmirror.cli import main
fork = os.fork
def refused():
    if os.path.exists("{crowd}"):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = refused
main()
"""


def test_a_worker_that_cannot_be_started_is_tried_again_and_the_others_go_on(built: Built, tmp_path: Path) -> None:
    built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    crowd = tmp_path / "crowd"
    with serving(built, "port = 0\nworkers = 2", ("-c", CROWDED.format(crowd=crowd))) as running:
        eventually(lambda: len(running.workers()) == 2)
        before = running.workers()
        crowd.touch()
        os.kill(min(before), signal.SIGKILL)
        running.says("a worker can't be started", "Resource temporarily unavailable")
        running.send(signal.SIGHUP)  # nor can those of a new configuration: the present ones stay
        eventually(lambda: sum("can't be started" in line for line in running.lines) >= 3)
        assert running.workers() == before - {min(before)}
        crowd.unlink()
        assert running._address(2) == running.served.url
        eventually(lambda: len(running.workers()) == 2 and not running.workers() & before)
        for _ in range(20):
            assert running.served.get(FILE).content == TOOL.data
        assert running.end() == 0


def test_what_was_published_a_moment_ago_is_there(built: Built) -> None:
    """Another process may have seen it, and told a client of it, right after this one looked at the store for the last time."""
    built.publish({"main": {"noarch": [TOOL]}}, at="20261118T010000Z")
    record = built.root / "snapshots" / f"{built.publish({'main': {'noarch': [LARGE]}}, at=ID)}.json"
    hidden = record.rename(built.root / "hidden")
    pin = Pin(name="paper", snapshot="20261118T010000Z", set=ID)
    with serving(built) as running, built.open(write=True) as store:
        for path, publish in [
            (f"/current/main/noarch/{LARGE.filename}", lambda: hidden.rename(record)),
            (f"/paper/main/noarch/{TOOL.filename}", lambda: store.snapshots.write_pin(pin)),
        ]:
            time.sleep(1.2)  # until names are seen to change by the date of their folder
            assert running.served.get(path).status_code == 404
            publish()
            time.sleep(0.2)
            assert running.served.get(path).status_code == 200
        assert running.end() == 0


def test_pages_of_the_whole_store_are_forgotten_when_it_changes(built: Built) -> None:
    """A year of syncs must not lie in memory as lists of snapshots, each with one more than the one before."""
    built.publish({"main": {"noarch": [TOOL]}}, at="20261101T000000Z")
    with serving(built) as running, built.open(write=True) as store:
        [worker] = running.workers()
        record = store.catalog().records[0]
        repos = {"main": record.repos["main"], **{f"repo{place}": record.repos["main"] for place in range(100)}}
        for number in range(2, 62):
            made = msgspec.structs.replace(
                record, id=f"20261101T00{number // 60:02}{number % 60:02}Z", number=number, repos=repos
            )
            store.snapshots.write(made)
            assert running.served.get(f"/{made.id}/main/noarch/{TOOL.filename}").content == TOOL.data
            answer = running.served.get("/-/snapshots.json")
            assert len(answer.json()["snapshots"]) == number
            if number == 30:
                before = memory_of(worker).anonymous
        assert memory_of(worker).anonymous < before + 8 * len(answer.content)  # all of them: 23 times


def test_a_record_that_becomes_unreadable_is_reported_and_all_else_is_served(built: Built) -> None:
    built.publish({"main": {"noarch": [LARGE]}}, at="20261118T010000Z")
    id_ = built.publish({"main": {"noarch": [TOOL]}}, at=ID)
    record = built.root / "snapshots" / f"{id_}.json"
    good = record.read_bytes()
    bad = record.with_suffix(".new")
    with serving(built) as running:
        assert running.served.get("/-/readyz").status_code == 200
        bad.write_bytes(good[:40])
        bad.replace(record)
        eventually(lambda: running.served.get("/-/readyz").status_code == 503)
        assert record.name in running.served.get("/-/readyz").text
        running.says("serving what was last read", record.name)
        running.send(signal.SIGHUP)  # workers that start now would have nothing to serve
        running.says("the configuration stays as it was", record.name)
        assert running.served.get("/-/healthz").status_code == 200
        assert running.served.get(FILE).content == TOOL.data
        assert running.served.get(f"/20261118T010000Z/main/noarch/{LARGE.filename}").content == LARGE.data
        command = [sys.executable, "-m", "snapmirror", "serve", "--port", "0", "-c", str(running._config)]
        another = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (another.returncode, record.name in another.stderr) == (5, True)
        bad.write_bytes(good)
        bad.replace(record)
        eventually(lambda: running.served.get("/-/readyz").status_code == 200)
        assert running.end() == 0


def test_a_port_that_is_taken_is_an_error() -> None:
    [sockets] = bind(Serve(port=0), 1)
    with contextlib.closing(sockets[0]) as taken, pytest.raises(UsageError, match=r"127\.0\.0\.1.*in use"):
        bind(Serve(port=taken.getsockname()[1]), 1)


def test_a_slow_and_a_broken_client_disturb_nobody(built: Built) -> None:
    built.publish({"main": {"noarch": [LARGE, TOOL]}}, at=ID)
    with serving(built) as running:
        slow = [slow_download(running) for _ in range(8)]
        for connection, _, _ in slow[:4]:
            connection.close()  # in the middle of a body
        assert running.served.get(FILE).content == TOOL.data
        for connection, answer, begin in slow[4:]:
            assert begin + answer.read() == LARGE.data
            connection.close()
        assert running.end() == 0
