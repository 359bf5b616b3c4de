"""Connections on which a whole answer has to arrive in time, not only its next byte.

A time-out of a socket begins anew with every byte. An upstream that sends one now and then would hold a thread for years: in
a header, in the body of a redirect, between two chunks.
"""

import functools
import http.client
import io
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter

#: bytes of a header, and of a body that nobody wants: requests reads those of redirects to their ends
_LARGEST = 1 << 20
#: statuses whose bodies are wanted
_USEFUL = (200, 206)

_thread = threading.local()


def expect(seconds: float, most: float = float("inf")) -> None:
    """Set how many seconds, and bytes, this thread may spend on what it reads from now on; then reading raises OSError."""
    _thread.until, _thread.left = time.monotonic() + seconds, most


class _Reader(io.RawIOBase):
    """Reads from a socket within what `expect` has set."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase) -> None:
        self._socket = connection
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = _thread.until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if _thread.left <= 0:
            raise OSError("far more arrived than belongs there")
        self._socket.settimeout(seconds)
        count = self._raw.readinto(buffer)
        _thread.left -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose header has to arrive within the socket's time-out; so has a body that nobody wants."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))
        self._seconds = sock.gettimeout() or 0.0
        expect(self._seconds, _LARGEST)

    def begin(self) -> None:
        super().begin()
        if self.status in _USEFUL:
            expect(self._seconds)


@functools.cache
def _timely(connection: type) -> type:
    """The same class of connections, with answers that have to arrive in time."""
    return type(connection.__name__, (connection,), {"response_class": _Answer})


class TimelyAdapter(HTTPAdapter):
    """Makes such connections to upstreams and to proxies."""

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        if not issubclass(pool.ConnectionCls.response_class, _Answer):
            pool.ConnectionCls = _timely(pool.ConnectionCls)
        return pool
