"""Upstreams that send a byte now and then, wherever in an answer, or more than anybody wants: nobody waits for their end."""

import contextlib
import itertools
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from snapmirror.errors import TransportError
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

#: bytes that go out at once, and those that then go out one by one, for ever
DRIPS = {
    "status": (b"HTTP/1.1 ", b"2"),
    "header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 99999\r\n\r\n", b"x"),
    "failure": (b"HTTP/1.1 503 Ill\r\nContent-Length: 99999\r\nRetry-After: 0\r\n\r\n", b"x"),
    "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"),
}


@contextlib.contextmanager
def sending(begin: bytes, more: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """The URL of a server that sends this to everybody for as long as they stay."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            for piece in more():
                connection.sendall(piece)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("where", "through"), [*((where, "") for where in DRIPS), ("header", "a proxy")])
def test_drips(where: str, through: str) -> None:
    begin, drop = DRIPS[where]

    def slowly() -> Iterator[bytes]:
        while True:
            time.sleep(0.1)
            yield drop

    with sending(begin, slowly) as url:
        settings = Download(retries=int(where == "failure"), stall="100B/1s", proxy=url if through else "")
        began = time.monotonic()
        with Http(settings, print, patience=1) as http, pytest.raises(TransportError, match=r"stalled|answers 503"):
            http.get("http://far.invalid/" if through else url, limit=1 << 20)
    assert time.monotonic() - began < 15


def test_a_redirect_that_is_larger_than_memory() -> None:
    begin = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 99999999999\r\n\r\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with sending(begin, lambda: itertools.repeat(bytes(1 << 20), 300)) as url:
        settings = Download(retries=0, stall="1B/5s")
        with Http(settings, print) as http, pytest.raises(TransportError):
            http.get(url, limit=1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
