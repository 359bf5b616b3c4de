"""Blobs that are not files of this machine: from a cache of them, streamed, or by a redirect to who has them."""

import asyncio
import contextlib
import hashlib
import logging
from datetime import timedelta

from aiohttp import web

from ..digests import Digest
from ..errors import DamagedError, DiskFull, ObjectError
from ..store.far import Far
from .answers import BlobAnswer, Refused
from .bodies import Body
from .parts import Drain, Missing, flush
from .respond import Reply, problem

_log = logging.getLogger(__name__)
#: bytes; what is no larger comes as a whole before it is sent: a third of packages are
_WHOLE = 1 << 20
#: bytes; metadata that is larger is none
_METADATA = 128 << 20


class FarSender:
    """Answers of one process that are blobs from afar."""

    def __init__(self, far: Far, redirect: timedelta | None) -> None:
        """redirect: for how long a URL is good to which clients are sent for files; None: files pass through here"""
        self.far = far
        self._redirect = redirect

    @property
    def redirects(self) -> bool:
        """Whether clients are sent elsewhere."""
        return self._redirect is not None

    def redirect(self, request: web.BaseRequest, answer: BlobAnswer) -> Reply | None:
        """The answer that sends a client elsewhere for a file; None if the file has to come from here.

        A HEAD is answered here: the URL is signed for a GET.
        """
        if self._redirect is None or answer.size is None or request.method != "GET":
            return None
        url = self.far.url(answer.digest, self._redirect)
        return problem(request, 307, "the file is in an object store", answer.place, f"Location: {url}")

    async def body(self, digest: Digest, stated: int | None) -> Body:
        """The body of a blob. stated: its bytes, if it is a file whose metadata says that; metadata is kept here whatever its
        size. Raises Missing, Refused.
        """
        etag = f'"{digest.hex()}"'
        with contextlib.suppress(FileNotFoundError):  # it has just made room for others
            if path := self.far.cached(digest):
                return Body(etag, path.stat().st_size, None, path)
        try:
            size = await asyncio.to_thread(self.far.size, digest)
            if size is None:
                raise Missing("is missing")
            if size <= _WHOLE or (stated is None and size <= _METADATA):
                try:
                    path = await asyncio.to_thread(lambda: self.far.fetch(digest, hot=stated is not None))
                    return Body(etag, size, None, path)
                except (DiskFull, OSError) as error:  # of the cache's disk; what is larger passes it by too
                    _log.warning("blob %s can't be kept here: %s", digest.hex(), error)
        except DamagedError as error:
            raise Missing(error.problem) from None
        except ObjectError as error:
            raise Refused(503, str(error)) from None
        return Body(etag, size, None, coming=lambda start, count: FarPart(self.far, digest, size, start, count))


class FarPart:
    """A part of a blob that is streamed. Fulfils parts.Part, and answers.Cache."""

    status = "miss"
    upstream: float | None = None

    def __init__(self, far: Far, digest: Digest, size: int, start: int, count: int) -> None:
        self._far = far
        self._digest = digest
        self._size = size
        self._start = start
        self._count = count
        #: see Part.sent
        self.sent = 0

    async def send(self, transport: asyncio.Transport, drain: Drain) -> bool:
        """See Part.send. Of a whole blob the last piece waits until all are known to be right."""
        whole = self._count == self._size
        filling = self._far.begin(self._digest, self._size) if whole else None
        running = hashlib.sha256()
        held = b""
        right = False
        try:
            async for piece in self._far.stream(self._digest, self._start, self._count, self._size):
                if transport.is_closing():
                    raise ConnectionResetError
                if filling is None:
                    await self._write(transport, drain, piece)
                    continue
                running.update(piece)
                filling.write(piece)
                if piece:
                    await self._write(transport, drain, held)
                    held = piece
            right = filling is None or running.digest() == self._digest
            if not right:
                _log.error("blob %s: holds other bytes than its name says", self._digest.hex())
                return False
            await self._write(transport, drain, held)
        except (ObjectError, FileNotFoundError) as error:
            _log.error("blob %s: was cut short: %s", self._digest.hex(), error)
            return False
        finally:
            if filling is not None:
                filling.end(whole=right)
        return self.sent == self._count

    async def _write(self, transport: asyncio.Transport, drain: Drain, data: bytes) -> None:
        transport.write(data)
        self.sent += len(data)
        await flush(transport, drain)

    def close(self) -> None:
        """See Part.close."""
