"""What becomes of a file that has to be fetched, whatever happens: through us, through proxpi and through devpi-server.

    python -m bench.faults

For each fault of upstream an index on loopback has a project with one file of 300 kB, and does it wrong until it is told to
heal. A client asks each proxy for the page, then for the file, as installers do, but keeps to itself whether the bytes are
right: a wrong file that looks whole is what none may give it. Then the index is healed, and the client asks once more. What
clients, a killed process and a full disk do is in `faults_clients`.
"""

import contextlib
import gzip
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Self

from .faults_clients import PATIENCE, SCENES, TOGETHER, Start, ours, outcome, play, together
from .faults_index import Handler, Index
from .measure import ROOT, Skip, Work, beside, need, remove, run
from .pages import devpi, proxpi

_SIZE = 300_000
#: who is compared, by the title of its column
_PROXIES: dict[str, Start] = {"snapmirror": ours, "proxpi": proxpi, "devpi-server": devpi}


def _right(handler: Handler, content: bytes) -> None:
    handler.whole(content)


def _closes_early(handler: Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content)))
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def _too_short(handler: Handler, content: bytes) -> None:
    handler.whole(content[: len(content) // 2])


def _too_long(handler: Handler, content: bytes) -> None:
    handler.whole(content + b"more")


def _says_less(handler: Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content) - 4))
    handler.wfile.write(content)
    handler.close_connection = True


def _cut_chunks(handler: Handler, content: bytes) -> None:
    handler.begin(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n" % 100_000 + content[:100_000] + b"\r\n")
    handler.close_connection = True


def _wrong_bytes(handler: Handler, content: bytes) -> None:
    handler.whole(content[:-1] + bytes([content[-1] ^ 1]))


def _gzipped(handler: Handler, content: bytes) -> None:
    packed = gzip.compress(content)
    handler.begin(200, Content_Encoding="gzip", Content_Length=str(len(packed)))
    handler.wfile.write(packed)


def _login_page(handler: Handler, content: bytes) -> None:
    handler.whole(b"<!DOCTYPE html><title>Sign in</title>" * 100, "text/html")


def _redirect_loop(handler: Handler, content: bytes) -> None:
    handler.begin(302, Location=handler.path, Content_Length="0")


def _redirect_elsewhere(handler: Handler, content: bytes) -> None:
    project = handler.path.rpartition("/")[2].partition("-")[0]
    address = handler.index.address.replace("127.0.0.1", "localhost")
    handler.begin(302, Location=f"{address}/elsewhere/{project}", Content_Length="0")


def _redirect_nowhere(handler: Handler, content: bytes) -> None:
    handler.begin(302, Location="http://no-such-host.invalid/file", Content_Length="0")


def _redirect_unproved(handler: Handler, content: bytes) -> None:
    handler.begin(302, Location=f"{handler.index.unproved}/elsewhere/tls", Content_Length="0")


def _slow_header(handler: Handler, content: bytes) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.5)
    handler.close_connection = True


def _slow_loris(handler: Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content)))
    with contextlib.suppress(OSError):
        for start in range(60):
            handler.wfile.write(content[start : start + 1])
            time.sleep(0.5)
    handler.close_connection = True


def _fails(handler: Handler, content: bytes) -> None:
    handler.whole(b"out of order", "text/plain", 503)


def _forbids(handler: Handler, content: bytes) -> None:
    handler.whole(b"forbidden", "text/plain", 403)


#: name of a project -> what goes wrong with its file
FAULTS: dict[str, Callable[[Handler, bytes], None]] = {
    "healthy": _right,
    "early": _closes_early,
    "short": _too_short,
    "long": _too_long,
    "less": _says_less,
    "chunks": _cut_chunks,
    "wrong": _wrong_bytes,
    "gzip": _gzipped,
    "login": _login_page,
    "loop": _redirect_loop,
    "moved": _redirect_elsewhere,
    "nowhere": _redirect_nowhere,
    "tls": _redirect_unproved,
    "loris": _slow_loris,
    "header": _slow_header,
    "ill": _fails,
    "forbidden": _forbids,
}
_TITLES = {
    "healthy": "nothing is wrong",
    "early": "closes half-way",
    "short": "half of it, as though it were all",
    "long": "four bytes too many",
    "less": "four bytes more than it says",
    "chunks": "chunked, and cut",
    "wrong": "one bit is wrong",
    "gzip": "gzip that nobody asked for",
    "login": "a login page, with 200",
    "loop": "redirects without end",
    "moved": "redirects to another host",
    "nowhere": "redirects to a host that is none",
    "tls": "redirects to who can't prove its name",
    "loris": "two bytes a second",
    "header": "a header of two bytes a second",
    "ill": "503",
    "forbidden": "403",
}


class FaultyIndex(Index):
    """Does everything wrong until it is healed."""

    def __init__(self, folder: Path) -> None:
        """folder: for a certificate"""
        super().__init__(FAULTS, _SIZE)
        self.healed = False
        self._liar = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._liar.socket = _unsigned(folder).wrap_socket(self._liar.socket, server_side=True)
        self.unproved = f"https://localhost:{self._liar.server_port}"

    def send(self, handler: Handler, project: str) -> None:
        """See Index."""
        send = _right if self.healed else FAULTS[project]
        send(handler, self.contents[project])

    def __enter__(self) -> Self:
        threading.Thread(target=self._liar.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        self._liar.shutdown()
        self._liar.server_close()
        super().__exit__(*raised)


def _unsigned(folder: Path) -> ssl.SSLContext:
    """With a certificate that it has signed itself."""
    need("openssl")
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    run(["openssl", *new.split(), "-keyout", folder / "key", "-out", folder / "certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


def faults_of_upstream(work: Work) -> Iterator[tuple[str, ...]]:
    """A row for each: its title, and what each proxy does, at first and once the index is healed."""
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(FaultyIndex(work.folder))
        proxies = [stack.enter_context(start(work, index.address)) for start in _PROXIES.values()]
        pool = stack.enter_context(ThreadPoolExecutor(len(proxies)))
        for project, right in index.contents.items():
            get = partial(outcome, project=project, right=right)
            index.healed = False
            first = list(pool.map(get, proxies))
            index.healed = True
            time.sleep(1.1)
            then = list(pool.map(get, proxies))
            found = (one if one == two == "right" else f"{one}; then {two}" for one, two in zip(first, then, strict=True))
            yield _TITLES[project], *found


def other_faults(work: Work) -> Iterator[tuple[str, ...]]:
    """A row for each: its title, and what each proxy does."""
    for title in SCENES:
        try:
            yield title, *(play(work, title, start) for start in _PROXIES.values())
        except Skip as skip:
            yield title, f"skipped: {skip}", *["-"] * (len(_PROXIES) - 1)
    yield TOGETHER, together(work), *["-"] * (len(_PROXIES) - 1)


def main() -> None:
    """Print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = ROOT / "build"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=base))
    work = Work(folder, quick=False, runs=1)
    try:
        for program in ("gunicorn", "devpi-init", "devpi-server"):
            beside(program)
        us, *peers = _PROXIES
        head = ("what goes wrong", us, *(f"{peer} {version(peer)}" for peer in peers))
        lines = [head, *faults_of_upstream(work), *other_faults(work)]
    except Skip as skip:
        sys.exit(str(skip))
    finally:
        remove(folder)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\ntime-out: no byte for {PATIENCE} seconds, as long as pip waits by default")


if __name__ == "__main__":
    main()
