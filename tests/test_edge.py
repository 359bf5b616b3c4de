"""The server's edge: what no client of ours would send, from raw sockets. A clear refusal or a close; nobody else notices."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from channels import make_package
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import server
from test_serve import Built, Served, served
from test_tls import certify

from snapmirror.serve import patience
from snapmirror.serve.settings import Serve

TOOL = make_package("tool")
LARGE = make_package("large", payload=os.urandom(16_000_000))
ID = "20261120T010000Z"
FILE = f"/current/main/noarch/{TOOL.filename}".encode()
HEALTH = b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = bool(os.environ.get("SNAPMIRROR_LONG"))
#: seconds; more than any answer takes on a busy machine
PATIENT = 20.0


class Target(NamedTuple):
    """A server in a process of its own."""

    port: int
    supervisor: int
    config: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENT)

    def say(self, data: bytes, wait: float = PATIENT) -> bytes:
        """What comes back for these bytes until the server closes. wait: seconds, after which it is told that no more comes"""
        found = b""
        with self.connect() as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            client.settimeout(wait)
            with contextlib.suppress(ConnectionError, TimeoutError):
                while part := client.recv(65536):
                    found += part
                return found
            client.settimeout(PATIENT)
            with contextlib.suppress(ConnectionError, OSError):
                client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while part := client.recv(65536):
                    found += part
        return found

    def is_well(self) -> bool:
        return self.say(asks(b"/-/healthz")).startswith(b"HTTP/1.1 200 OK")

    def memory(self) -> int:
        """Bytes that its one worker has at most had."""
        [worker] = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read_text().split()
        [line] = [line for line in Path(f"/proc/{worker}/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) << 10


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for all tests of this module: what one does must not matter to the next. At its end it has said nothing."""
    folder = tmp_path_factory.mktemp("edge")
    built = Built(folder / "store")
    built.publish({"main": {"noarch": [TOOL, LARGE]}}, at=ID)
    config = folder / "snapmirror.toml"
    config.write_text(f'store = "{built.root}"\n[serve]\naccess_log = "access.log"\n')
    with server(config) as (url, process):
        made = Target(int(url.rsplit(":", 1)[1]), process.pid, config)
        yield made
        assert made.is_well()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENT) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def asks(target: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n" + body


NOT_FOUND = [
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/current%2fmain",
    b"/%00",
    b"//a//b",
    b"/%c0%ae%c0%ae/",
    b"/%ed%a0%80",
    b"/current%0d%0aX:y/",
]
BAD_TARGETS = [b"/\0", b"/\xc0\xae", b"http://", b"ftp://[::1/x", b"http://[/x", b"*", b"/" + b"a" * 65536]
BAD_FIELDS = {
    "100 kB": b"X: " + b"a" * 100_000 + b"\r\n",
    "a megabyte of entity tags": b"If-None-Match: " + b'"a",' * 250_000 + b"\r\n",
    "thousands": b"".join(b"X%d: a\r\n" % number for number in range(5000)),
    "folded": b"X: a\r\n b\r\n",
    "space before the colon": b"X : a\r\n",
    "negative length": b"Content-Length: -1\r\n",
    "length with a sign": b"Content-Length: +3\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "two hosts": b"Host: y\r\n",
}
NO_REQUESTS = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "a version to come": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + bytes(500),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "a long method": b"A" * 100_000 + b" / HTTP/1.1\r\n\r\n",
    "a port that is none": b"CONNECT a:99999999 HTTP/1.1\r\nHost: x\r\n\r\n",
}


def test_paths_that_name_nothing(target: Target) -> None:
    for path in NOT_FOUND:
        assert target.say(asks(path)).startswith(b"HTTP/1.1 404 "), path


def test_what_is_no_request_is_refused_without_being_repeated(target: Target) -> None:
    wrong = {str(path[:20]): asks(path) for path in BAD_TARGETS} | {
        name: asks(b"/", field) for name, field in BAD_FIELDS.items()
    }
    for name, data in (wrong | NO_REQUESTS).items():
        answer = target.say(data)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), name
        assert len(answer) < 500, name
        assert b"aiohttp" not in answer
    assert target.say(b"CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\nabc").startswith(b"HTTP/1.1 4")
    assert target.say(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    assert target.say(asks(b"http://other.example/-/healthz")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "field",
    [
        b"Range: bytes=" + b"0-1," * 2000 + b"0-1",
        b"Range: bytes=" + b"9" * 5000 + b"-",
        b"If-None-Match: " + b'"a",' * 2000,
        b"If-Modified-Since: Sat, 99 Foo 99999999999 99:99:99 +99999999",
        b"If-Modified-Since: Sat, 29 Feb 0000 24:60:61 -9999",
        b"If-Modified-Since: " + b"9" * 6000,
        b"If-Unmodified-Since: Fri, 31 Dec 9999 23:59:59 -2359",
        b"Accept-Encoding: " + b"gzip;q=0.1," * 700,
        b"Accept-Encoding: gzip;q=" + b"9" * 5000,
        b"Authorization: Basic \xff\xfe",
    ],
)
def test_fields_that_say_nothing_are_passed_over(target: Target, field: bytes) -> None:
    answer = target.say(asks(FILE, field + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(TOOL.data)


def test_bodies_are_passed_over_and_never_unpacked(target: Target) -> None:
    for fields, body in (
        (b"Content-Length: 3000000\r\n", b"x" * 3_000_000),
        (b"Content-Length: 5\r\nContent-Encoding: gzip\r\n", b"hello"),
        (b"Content-Length: 5\r\nContent-Encoding: br\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ):
        assert target.say(asks(b"/-/healthz", fields, body)).startswith(b"HTTP/1.1 200 OK"), fields


def test_a_head_without_end_is_cut_off_and_kept_nowhere(target: Target) -> None:
    before = target.memory()
    with target.connect() as client, pytest.raises(ConnectionError):  # noqa: PT012
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(20_000):
            client.sendall(b"a" * 65536)
    assert target.memory() - before < 20 << 20


def test_pipelined_requests_are_answered_in_their_order(target: Target) -> None:
    answers = target.say(HEALTH * 300 + asks(FILE))
    assert answers.count(b"HTTP/1.1 200 OK") == 301
    assert answers.endswith(TOOL.data)


def test_who_pipelines_and_reads_nothing_fills_no_memory(target: Target) -> None:
    before = target.memory()
    with target.connect() as client:
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                client.sendall(f"GET /current/main/noarch/{LARGE.filename} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100)
        assert target.is_well()
    assert target.memory() - before < 20 << 20


# Time


def slow_reader(port: int, path: str, trusting: ssl.SSLContext | None) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.settimeout(PATIENT)
    client.connect(("127.0.0.1", port))
    if trusting:
        client = trusting.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a client has taken")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_who_takes_nothing_is_cut_off_and_who_takes_little_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    built = Built(tmp_path / "store")
    built.publish({"main": {"noarch": [TOOL, LARGE]}}, at=ID)
    monkeypatch.setattr(patience, "PATIENCE", 2.0)  # instead of two minutes
    settings, trusting = Serve(port=0), None
    if tls:
        certify(tmp_path)
        settings = Serve(port=0, cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))
        trusting = ssl.create_default_context(cafile=settings.cert)
    with served(built, settings) as running:
        port = int(running.url.rsplit(":", 1)[1])
        path = f"/current/main/noarch/{LARGE.filename}"
        silent, slow = slow_reader(port, path, trusting), slow_reader(port, path, trusting)
        took = b""
        for _ in range(60):
            took += slow.recv(100_000)
            time.sleep(0.1)
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):  # noqa: PT012
            while silent.recv(1 << 20):
                pass
        while not took.endswith(LARGE.data[-1000:]):
            part = slow.recv(1 << 20)
            assert part
            took += part
        assert tls or running.get(FILE.decode()).content == TOOL.data
        silent.close()
        slow.close()


def test_who_sends_no_whole_request_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Built(tmp_path / "store")
    monkeypatch.setattr(patience, "KEEP_ALIVE", 1.5)  # instead of 75 seconds
    with served(built) as running:
        address = ("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        with socket.create_connection(address, PATIENT) as silent, socket.create_connection(address, PATIENT) as dripping:
            with pytest.raises(ConnectionError):  # noqa: PT012
                for _ in range(100):  # a byte now and then does not help
                    dripping.sendall(b"G")
                    time.sleep(0.1)
            assert silent.recv(1) == b""


def test_a_body_without_end_is_not_waited_for(target: Target) -> None:
    """The answer comes before it, and the end some seconds later."""
    with target.connect() as client:
        client.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(600):
                client.sendall(b"a")
                time.sleep(0.1)


# Without rights

BLOB = hashlib.sha256(TOOL.data).hexdigest()
#: one of every kind of answer
EVERYTHING = ["/", "/2026-11-20/main/", "/current/main/noarch/", FILE.decode(), f"/-/blobs/{BLOB}", f"/-/snapshots/{ID}.json"]
EVERYTHING += [f"/current/main/noarch/repodata{ending}" for ending in (".json", ".json.zst", "_shards.msgpack.zst")]
EVERYTHING += ["/-/readyz", "/-/snapshots.json", "/-/copies.json", "/-/config/current/condarc"]
#: nothing of it is on demand
EAGER = '[[repo]]\nkind = "conda"\npath = "main"\nupstream = "http://127.0.0.1:9/main"\nsubdirs = ["noarch"]\n'

#: becomes nobody once all is loaded: the code may lie where nobody can read
SERVE = "import _strptime, encodings.unicode_escape, fractions, os, sys, zoneinfo; "
SERVE += "from snapmirror.cli import command_line, main; from snapmirror.serve import workers; "
SERVE += "command_line(); os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.argv[:] = sys.argv[1:]; main()"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_user_who_may_write_nothing_can_serve(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        os.chmod(folder, 0o755)
        built = Built(Path(folder) / "store")
        built.publish({"main": {"noarch": [TOOL, LARGE]}}, at=ID, keep_documents=False)
        config = Path(folder) / "snapmirror.toml"
        config.write_text(f'store = "{built.root}"\n{EAGER}')
        command = [sys.executable, "-c", SERVE, "snapmirror", "serve", "--port", "0", "-c", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            line = process.stderr.readline()
            assert "serving on" in line
            running = Served(line.split()[-1].rstrip("/"))
            try:
                for path in EVERYTHING:
                    assert running.get(path).status_code == 200, path
            finally:
                process.terminate()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_nothing_of_the_store_is_opened_for_writing(tmp_path: Path) -> None:
    built = Built(tmp_path / "store")
    built.publish({"main": {"noarch": [TOOL, LARGE]}}, at=ID, keep_documents=False)
    config, log = tmp_path / "snapmirror.toml", tmp_path / "calls"
    config.write_text(f'store = "{built.root}"\n{EAGER}')
    command = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file,%desc", "-o", str(log), sys.executable]
    command += ["-m", "snapmirror", "serve", "--port", "0", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        running = Served(process.stderr.readline().split()[-1].rstrip("/"))
        for path in EVERYTHING:
            assert running.get(path).status_code == 200, path
        [serving] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(serving), signal.SIGTERM)
        process.wait(PATIENT)
    calls = [line for line in log.read_text().splitlines() if str(built.root) in line]
    assert any("O_RDONLY" in line for line in calls), calls  # it was read at all
    wrong = re.compile(
        r" (mkdir|rename|unlink|rmdir|link|symlink|f?chmod|f?chown|f?truncate|mknod|utime|pwrite|fallocate)\w*\("
        r"|O_WRONLY|O_RDWR|O_CREAT|O_TRUNC| (write|writev)\(\d+<" + re.escape(str(built.root))
    )
    assert not [line for line in calls if wrong.search(line)]


# Anything


WORDS = b"""GET HEAD POST / current main noarch - blobs config snapshots.json .. %2e %00 %ff ? # http:// HTTP/1.1 HTTP/1.0 : t
repodata.json .zst 2026-11-20 0- * W/ , 999999999999999999999999999999""".split()
LINES = [b" ", b"\r\n", b"\n", b"\0", b"\xff", b"Host: x", b"Range: bytes=", b"If-None-Match: ", b"Content-Length: "]
LINES += [b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: upgrade", b"Upgrade: websocket"]
NAMES = b"""Range If-Range If-None-Match If-Match If-Modified-Since Accept Accept-Encoding Authorization Content-Length
Transfer-Encoding Connection""".split()
ANYTHING = st.lists(st.sampled_from(WORDS + LINES) | st.binary(max_size=20), max_size=30).map(b"".join)
PATHS = st.lists(st.sampled_from(WORDS), max_size=12).map(b"/".join)
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)), max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly well-formed requests, with odd values."""
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in draw(FIELDS))
    return draw(st.sampled_from([b"GET", b"HEAD"])) + b" /" + draw(PATHS) + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"


@settings(
    max_examples=20_000 if LONG else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(st.one_of(ANYTHING, requests(), st.tuples(requests(), ANYTHING).map(b"".join)))
def test_whatever_comes_is_answered_without_fault(target: Target, data: bytes) -> None:
    answer = target.say(data, 0.02)
    for status in answer.split(b"HTTP/1.1 ")[1:]:
        assert status[:3] not in (b"500", b"502", b"503"), answer
