"""What becomes of a file of which upstream sends something wrong: through us, through proxpi and through devpi-server.

    python -m bench.faults

For each fault an index on loopback has a project with one file of 300 kB, and does it wrong until it is told to heal. A
client asks each proxy for the page, then for the file, as installers do, but keeps to itself whether the bytes are right: a
wrong file that looks whole is what none may give it. Then the index is healed, and the client asks once more.
"""

import contextlib
import gzip
import hashlib
import http.client
import json
import re
import signal
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Self
from urllib.parse import urljoin

from .measure import ROOT, Skip, Work, beside, need, remove, run
from .pages import devpi, proxpi
from .servers import Loopback, snapmirror

_SIZE = 300_000
#: seconds that a client waits for the next byte, as pip does by default
_PATIENCE = 15
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, text/html;q=0.1"
_CONFIG = """\
store = "store"

[serve]
port = 0

[download]
stall = "5000B/5s"

[[repo]]
kind = "pypi"
path = "pypi"
upstream = "{address}/simple/"
download = "on-demand"
metadata = "on-request"
negative_age = "1s"
"""

Send = Callable[["_Handler", bytes], None]


class _Handler(BaseHTTPRequestHandler):
    """Answers for an index; `index` is set by it."""

    index: "FaultyIndex"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Pages and metadata are right, files as the fault has them."""
        match self.path.split("/")[1:]:
            case ["simple", ""]:
                listed = {"meta": {"api-version": "1.4"}, "projects": [{"name": name} for name in FAULTS]}
                self.whole(json.dumps(listed).encode(), _JSON)
            case ["simple", project, ""] if project in FAULTS:
                self.whole(json.dumps(self.index.page(project)).encode(), _JSON)
            case ["files", name] if (project := name.partition("-")[0]) in FAULTS:
                send = _right if self.index.healed else FAULTS[project]
                send(self, self.index.contents[project])
            case ["elsewhere", project]:
                self.whole(self.index.contents[project])
            case _:
                self.whole(b"no such thing", status=404)

    def begin(self, status: int, **fields: str) -> None:
        """Status line and header."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self, content: bytes, media: str = "application/octet-stream", status: int = 200) -> None:
        """A right answer."""
        self.begin(status, Content_Type=media, Content_Length=str(len(content)))
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _right(handler: _Handler, content: bytes) -> None:
    handler.whole(content)


def _closes_early(handler: _Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content)))
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def _too_short(handler: _Handler, content: bytes) -> None:
    handler.whole(content[: len(content) // 2])


def _too_long(handler: _Handler, content: bytes) -> None:
    handler.whole(content + b"more")


def _says_less(handler: _Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content) - 4))
    handler.wfile.write(content)
    handler.close_connection = True


def _cut_chunks(handler: _Handler, content: bytes) -> None:
    handler.begin(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n" % 100_000 + content[:100_000] + b"\r\n")
    handler.close_connection = True


def _wrong_bytes(handler: _Handler, content: bytes) -> None:
    handler.whole(content[:-1] + bytes([content[-1] ^ 1]))


def _gzipped(handler: _Handler, content: bytes) -> None:
    packed = gzip.compress(content)
    handler.begin(200, Content_Encoding="gzip", Content_Length=str(len(packed)))
    handler.wfile.write(packed)


def _login_page(handler: _Handler, content: bytes) -> None:
    handler.whole(b"<!DOCTYPE html><title>Sign in</title>" * 100, "text/html")


def _redirect_loop(handler: _Handler, content: bytes) -> None:
    handler.begin(302, Location=handler.path, Content_Length="0")


def _redirect_elsewhere(handler: _Handler, content: bytes) -> None:
    project = handler.path.rpartition("/")[2].partition("-")[0]
    address = handler.index.address.replace("127.0.0.1", "localhost")
    handler.begin(302, Location=f"{address}/elsewhere/{project}", Content_Length="0")


def _redirect_nowhere(handler: _Handler, content: bytes) -> None:
    handler.begin(302, Location="http://no-such-host.invalid/file", Content_Length="0")


def _redirect_unproved(handler: _Handler, content: bytes) -> None:
    handler.begin(302, Location=f"{handler.index.unproved}/elsewhere/tls", Content_Length="0")


def _slow_header(handler: _Handler, content: bytes) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.5)
    handler.close_connection = True


def _slow_loris(handler: _Handler, content: bytes) -> None:
    handler.begin(200, Content_Length=str(len(content)))
    with contextlib.suppress(OSError):
        for start in range(60):
            handler.wfile.write(content[start : start + 1])
            time.sleep(0.5)
    handler.close_connection = True


def _fails(handler: _Handler, content: bytes) -> None:
    handler.whole(b"out of order", "text/plain", 503)


def _forbids(handler: _Handler, content: bytes) -> None:
    handler.whole(b"forbidden", "text/plain", 403)


#: name of a project -> what goes wrong with its file
FAULTS: dict[str, Send] = {
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


class FaultyIndex(Loopback):
    """The index, on loopback."""

    def __init__(self, folder: Path) -> None:
        """folder: for a certificate"""
        self.healed = False
        self.contents = {name: Random(name).randbytes(_SIZE) for name in FAULTS}
        handler = type("Handler", (_Handler,), {"index": self})
        super().__init__(handler)
        self._liar = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._liar.socket = _unsigned(folder).wrap_socket(self._liar.socket, server_side=True)
        #: the same at an address whose certificate nobody has signed
        self.unproved = f"https://localhost:{self._liar.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._liar.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        self._liar.shutdown()
        self._liar.server_close()
        super().__exit__(*raised)

    def page(self, project: str) -> object:
        """As PyPI has it."""
        name, content = f"{project}-1.0-py3-none-any.whl", self.contents[project]
        record = {
            "filename": name,
            "url": f"{self.address}/files/{name}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "upload-time": "2026-11-01T10:00:00Z",
            "yanked": False,
        }
        return {"meta": {"api-version": "1.4"}, "name": project, "versions": ["1.0"], "files": [record]}


def _unsigned(folder: Path) -> ssl.SSLContext:
    """With a certificate that it has signed itself."""
    need("openssl")
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    run(["openssl", *new.split(), "-keyout", folder / "key", "-out", folder / "certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


def outcome(base: str, project: str, right: bytes) -> str:
    """What a client gets of a file through a proxy, in words."""
    try:
        content = _get(_file_of(_get(f"{base}{project}/"), f"{base}{project}/"))
    except urllib.error.HTTPError as error:
        return f"refused ({error.code})"
    except (http.client.HTTPException, OSError) as error:
        return "cut short" if isinstance(error, http.client.IncompleteRead | ConnectionError) else "time-out"
    return "right" if content == right else f"WRONG, {len(content):,} bytes as though whole"


def _get(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": _ACCEPT})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
        body: bytes = response.read()
    return body


def _file_of(page: bytes, url: str) -> str:
    """The address of the one file of a page."""
    if page.startswith(b"{"):
        return urljoin(url, json.loads(page)["files"][0]["url"])
    found = re.search(r'href="([^"]+)"', page.decode())
    if not found:
        raise OSError("a page without a file")
    return urljoin(url, found[1].partition("#")[0])


@contextlib.contextmanager
def _ours(work: Work, address: str) -> Iterator[str]:
    config = work.folder / "snapmirror.toml"
    config.write_text(_CONFIG.format(address=address))
    with snapmirror(config) as server:
        yield f"{server}/pypi/simple/"


def compare(work: Work) -> list[tuple[str, ...]]:
    """A row for each fault: its title, and what each proxy does, at first and once the index is healed."""
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(FaultyIndex(work.folder))
        proxies = [stack.enter_context(start(work, index.address)) for start in (_ours, proxpi, devpi)]
        rows = []
        for project, right in index.contents.items():
            index.healed = False
            first = [outcome(base, project, right) for base in proxies]
            index.healed = True
            time.sleep(1.1)
            then = [outcome(base, project, right) for base in proxies]
            found = (one if one == two == "right" else f"{one}; then {two}" for one, two in zip(first, then, strict=True))
            rows.append((_TITLES[project], *found))
    return rows


def main() -> None:
    """Print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = ROOT / "build"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=base))
    try:
        for program in ("gunicorn", "devpi-init", "devpi-server"):
            beside(program)
        peers = [f"{name} {version(name)}" for name in ("proxpi", "devpi-server")]
        lines = [("upstream", "snapmirror", *peers), *compare(Work(folder, quick=False, runs=1))]
    except Skip as skip:
        sys.exit(str(skip))
    finally:
        remove(folder)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
