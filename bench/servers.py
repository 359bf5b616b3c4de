"""Servers of a measurement: on loopback, and ended by whoever started them."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from .measure import ROOT, Skip, need, run

DEFAULT_CONF = Path("/etc/nginx/nginx.conf")
_PATIENCE = 60.0
#: lines of the default configuration that name places which are not ours, or that we set ourselves
_DROPPED = re.compile(r"^\s*(user|pid|error_log|access_log|worker_processes|include\s+\S*(sites-enabled|conf\.d))\b.*;.*$")


def nginx_conf(folder: Path, root: Path, port: int, *, nopush: bool = True, server: str = "", http: str = "") -> str:
    """The default nginx.conf of this machine with one worker, no access log, long keep-alive, and this root and port.

    nopush: as the default says; False turns `tcp_nopush` off; server, http: more of these blocks
    """
    kept = [line for line in DEFAULT_CONF.read_text().splitlines() if not _DROPPED.match(line)]
    kept = [line for line in kept if line.strip() and not line.strip().startswith("#")]
    text = "\n".join(kept)
    if not nopush:
        text = re.sub(r"tcp_nopush\s+on;", "tcp_nopush off;", text)
    own = [f"pid {folder}/nginx.pid;", f"error_log {folder}/error.log;", "worker_processes 1;", "daemon off;"]
    own += ["user root;"] if os.geteuid() == 0 else []  # the measurement's folder is not for others
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    inside = ["access_log off;", "keepalive_requests 1000000000;"]
    inside += [f"{name}_temp_path {folder}/{name};" for name in temporary]
    inside += [http, "server {", f"\tlisten 127.0.0.1:{port};", f"\troot {root};", server, "}"]
    head, http, rest = text.partition("http {")
    return "\n".join([*own, head.strip(), http, *(f"\t{line}" for line in inside), rest.strip("\n")]) + "\n"


@contextlib.contextmanager
def nginx(folder: Path, root: Path, *, nopush: bool = True, server: str = "", http: str = "") -> Iterator[str]:
    """One nginx worker that serves a folder; gives its address. Raises Skip if nginx is not here.

    nopush, server, http: as of `nginx_conf`
    """
    need("nginx")
    if not DEFAULT_CONF.is_file():
        raise Skip(f"nginx has no {DEFAULT_CONF}")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(nginx_conf(folder, root, port, nopush=nopush, server=server, http=http))
    with process(["nginx", "-e", str(folder / "error.log"), "-c", str(conf)], folder / "output") as started:
        await_port(port, started, folder / "output")
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def snapmirror(config: Path) -> Iterator[str]:
    """`snapmirror serve` with a configuration whose port is 0; gives its address."""
    with serving(config) as (address, _):
        yield address


@contextlib.contextmanager
def serving(config: Path) -> Iterator[tuple[str, int]]:
    """The same; gives its process id too."""
    output = config.with_suffix(".log")
    with process([sys.executable, "-m", "snapmirror", "serve", "-c", str(config)], output) as started:
        until = time.monotonic() + _PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", output.read_text())):
            _check(started, output, until)
        yield found[0], started.pid


def memory_below(process_id: int) -> float:
    """What the children of a process have in memory, MB."""
    listed = (line.split() for line in run(["ps", "-A", "-o", "ppid=,rss="]).splitlines())
    return sum(int(kibibytes) for parent, kibibytes in listed if int(parent) == process_id) * 1024 / 1e6


def sync(config: Path) -> None:
    """As an operator does."""
    run([sys.executable, "-m", "snapmirror", "sync", "-c", config], folder=ROOT)


@contextlib.contextmanager
def process(command: Sequence[str], output: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block; what it says goes into a file, its temporary files beside that.

    variables: of its environment
    """
    environment = {**os.environ, "TMPDIR": str(output.parent), **variables}
    with output.open("wb") as file:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def await_port(port: int, started: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            _check(started, output, until)


def _check(started: subprocess.Popen[bytes], output: Path, until: float) -> None:
    if started.poll() is not None or time.monotonic() > until:
        raise RuntimeError(f"{started.args!r} does not serve: {output.read_text()[-2000:]}")
    time.sleep(0.02)


class Loopback:
    """A server of this process, in threads, for as long as the block lasts."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = _Threads(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Threads(ThreadingHTTPServer):
    """Says nothing of clients that leave, and does not wait for them."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """See socketserver."""
