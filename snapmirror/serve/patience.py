"""How long the server waits for a client, how much it takes from one, and what it says to one that speaks no HTTP.

A request's head must have come within KEEP_ALIVE seconds after the connection began, or after the last answer: aiohttp sees to
that, and to the sizes. What it does not see is a client that takes nothing of its answer. How much a client's system has
acknowledged only the kernel knows (Linux, tcp(7) and linux/tcp.h), so it is asked from time to time, outside of requests.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from .respond import Reply, problem

#: seconds without a request after which a connection ends
KEEP_ALIVE = 75.0
#: a client that takes fewer bytes in so many seconds, while more wait for it, is cut off
SLOWEST = 64 << 10
PATIENCE = 120.0
#: bytes of the first line and of a header field, number of fields; a body is never unpacked, for none is read
_LIMITS: dict[str, Any] = {"max_line_size": 8190, "max_field_size": 8190, "max_headers": 128, "auto_decompress": False}
_TCP_INFO = getattr(socket, "TCP_INFO", None)
#: struct tcp_info: tcpi_unacked, tcpi_bytes_acked and tcpi_notsent_bytes, with their offsets
_UNACKED, _ACKED, _UNSENT, _LENGTH = (24, "=I"), (120, "=Q"), (144, "=I"), 148
#: closing drops what waits to be sent
_RESET = struct.pack("ii", 1, 0)


class _Connection(web.RequestHandler):
    """One connection. What is no request is answered without repeating it: it may hold a token, or be very long."""

    __slots__ = ("_over",)

    def __init__(self, over: Callable[[Reply], None] | None, *arguments: Any, **options: Any) -> None:
        """over: see Connections"""
        super().__init__(*arguments, **options)
        self._over = over

    async def start(self) -> None:
        """Answer its requests.

        A server that ends closes its connections, after which they take no request. aiohttp 3.14 wakes those that wait for one;
        one that came a moment before begins to wait only then, until its client gives up: behind nginx for a minute.
        """
        if self._close and not self._messages:
            self.force_close()
        else:
            await super().start()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp answers itself."""
        reply: Reply = problem(request, status, "this is no request of HTTP/1.1, or one with too long or too many headers")
        reply.force_close()
        reply.began, reply.over = time.monotonic(), self._over
        return reply


class Connections(web.Server):
    """All connections of a process, within the limits above."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        over: Callable[[Reply], None] | None = None,
        **options: Any,
    ) -> None:
        """over: called with the answer to each request that is none, when it is over
        options: further ones of RequestHandler
        """
        super().__init__(handler)
        self._over = over
        self._options = {"keepalive_timeout": KEEP_ALIVE, **_LIMITS, **options}

    def __call__(self) -> web.RequestHandler:
        """For a connection that begins."""
        return _Connection(self._over, self, loop=asyncio.get_running_loop(), **self._options)


class _Waiting(NamedTuple):
    """A client for which bytes wait."""

    #: by the loop's clock, seconds
    since: float
    #: bytes that its system had acknowledged then
    acked: int


class Patience:
    """Cuts off the clients of a server that read too slowly."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._waiting: dict[object, _Waiting] = {}

    async def watch(self) -> None:
        """Look at all connections from time to time, until cancelled."""
        while _TCP_INFO is not None:
            await asyncio.sleep(PATIENCE / 8)
            self.look()

    def look(self) -> None:
        """Note which clients are waited for, and cut off those that have had their time."""
        now, before, self._waiting = asyncio.get_running_loop().time(), self._waiting, {}
        for connection in self._server.connections:
            found = connection.transport and connection.transport.get_extra_info("socket")
            if not found or (acked := _owed(found)) is None:
                continue
            known = before.get(connection)
            if known is None or acked - known.acked >= SLOWEST:
                self._waiting[connection] = _Waiting(now, acked)
            elif now - known.since < PATIENCE:
                self._waiting[connection] = known
            else:
                _cut(found)


def _owed(found: socket.socket) -> int | None:
    """Bytes that a client's system has acknowledged so far; None if nothing waits for it, or that can't be told."""
    try:
        info = found.getsockopt(socket.IPPROTO_TCP, _TCP_INFO or 0, _LENGTH)
    except OSError:
        return None
    if len(info) < _LENGTH or not (_field(info, *_UNACKED) or _field(info, *_UNSENT)):
        return None
    return _field(info, *_ACKED)


def _field(info: bytes, offset: int, form: str) -> int:
    found: int
    [found] = struct.unpack_from(form, info, offset)
    return found


def _cut(found: socket.socket) -> None:
    """End a connection. Its transport stays: sendfile may be waiting for the socket, and learns of the end by that."""
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        found.shutdown(socket.SHUT_RDWR)
