"""Bodies that are made when asked for: made once however many wait, off the event loop, kept while there is room."""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .. import codec
from ..digests import sha256
from .parts import Part

#: bytes that one process keeps in memory; the newest body is kept whatever its size
_ROOM = 256 << 20
#: bodies, as those that lie in files take no room
_MOST = 65_536
#: more would only take time from the event loop: making a body is half Python, half compression
_THREADS = 4
_GZIP_LEVEL = 6


class Body(NamedTuple):
    """What is sent: bytes in memory, a file, or one that is on its way."""

    #: strong entity tag of exactly these bytes, with its quotes
    etag: str
    size: int
    data: bytes | None
    path: Path | None = None
    #: header fields that go with it
    further: tuple[str, ...] = ()
    #: of what is on its way: makes the part that begins at a byte and has so many
    coming: Callable[[int, int], Part] | None = None


def in_memory(data: bytes, further: tuple[str, ...] = ()) -> Body:
    """A body of bytes. further: header fields that go with it"""
    return Body(f'"{sha256(data).hex()}"', len(data), data, further=further)


class Bodies:
    """A bounded cache in front of functions that make bodies. To be used in one event loop, but for `peek`."""

    def __init__(self, threads: ThreadPoolExecutor | None = None, alone: ThreadPoolExecutor | None = None) -> None:
        """threads, alone: of another one, to be shared"""
        self._kept: OrderedDict[Hashable, Body] = OrderedDict()
        self._bytes = 0
        self._running: dict[Hashable, asyncio.Task[Body]] = {}
        self._threads = threads or ThreadPoolExecutor(_THREADS, thread_name_prefix="bodies")
        #: for what takes much memory while it is made
        self._alone = alone or ThreadPoolExecutor(1, thread_name_prefix="alone")

    def beside(self) -> "Bodies":
        """An empty cache with the same threads, for what is of no use any more when a view of the store is replaced."""
        return Bodies(self._threads, self._alone)

    def close(self) -> None:
        """Wait for what is being made."""
        self._threads.shutdown()
        self._alone.shutdown()

    def peek(self, key: Hashable) -> Body | None:
        """The body of a key if it is there. Thread-safe."""
        return self._kept.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop a body that proved to be of no use."""
        if body := self._kept.pop(key, None):
            self._bytes -= len(body.data or b"")

    async def get(self, key: Hashable, make: Callable[[], Body], *, alone: bool = False) -> Body:
        """The body of a key, made in a thread if it is not there; raises what `make` raises.

        alone: whether no other such body is to be made at the same time
        """
        if body := self._kept.get(key):
            self._kept.move_to_end(key)
            return body
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._make(key, make, self._alone if alone else self._threads))
        return await asyncio.shield(task)  # others may wait for it when this request is cancelled

    async def _make(self, key: Hashable, make: Callable[[], Body], threads: ThreadPoolExecutor) -> Body:
        try:
            body = await asyncio.get_running_loop().run_in_executor(threads, make)
            self._keep(key, body)
            return body
        finally:
            del self._running[key]

    def _keep(self, key: Hashable, body: Body) -> None:
        self._kept[key] = body
        self._bytes += len(body.data or b"")
        while (self._bytes > _ROOM and len(self._kept) > 1) or len(self._kept) > _MOST:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped.data or b"")

    async def coded(self, body: Body, coding: str) -> Body:
        """A small body in memory under a content coding, `gzip` or `zstd`."""
        key = (body.etag, body.further, coding)
        return await self.get(key, lambda: in_memory(encode(body.data or b"", coding), body.further))


def encode(data: bytes, coding: str) -> bytes:
    """Bytes under a content coding; the same bytes every time."""
    return gzip.compress(data, _GZIP_LEVEL, mtime=0) if coding == "gzip" else codec.compress(data, codec.DOCUMENT_LEVEL)
