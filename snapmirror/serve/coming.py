"""What one client reads of a file that is on its way, as it arrives.

The last bytes of every answer wait until the hash is right, so that nobody takes a wrong file for a whole one.
"""

import asyncio
import logging
import os

from .answers import Refused
from .parts import COMING_STEP, Drain, send_file
from .pull import Transfer, identity

_log = logging.getLogger(__name__)
#: bytes at the end of an answer that wait until the file is known to be right; smaller answers wait as a whole, and so
#: can still be refused with a status
_HELD_BACK = 64 << 10


class Coming:
    """A part of a file that is on its way. Fulfils parts.Part, and answers.Cache."""

    def __init__(self, transfer: Transfer, start: int, length: int | None) -> None:
        """start: the first byte; length: bytes, or None for all up to the end, which then are sent in chunks"""
        self._transfer = transfer
        self._first = transfer.followers == 0
        transfer.followers += 1
        self._start = self._at = start
        self._stop = None if length is None else start + length
        self._descriptor: int | None = None
        #: whether bytes of the opened file were sent: then those of another one can't follow
        self._bound = False

    async def begin(self) -> None:
        """Wait until there is something to send. Raises Refused, and closes this part, if there will be nothing."""
        try:
            await self._ready()
        except BaseException as error:
            if isinstance(error, Refused):
                error.cache = self
            self.close()
            raise

    async def end(self) -> None:
        """Wait until the file is in the store. Raises Refused if it can't be had."""
        await self._transfer.whole()

    @property
    def status(self) -> str:
        """See Cache."""
        return "miss" if self.upstream is not None else "follow"

    @property
    def upstream(self) -> float | None:
        """See Cache."""
        return self._transfer.upstream if self._first else None

    @property
    def sent(self) -> int:
        """See Part."""
        return self._at - self._start

    def _count(self, step: int) -> None:
        """So many bytes more were sent."""
        self._at += step

    async def send(self, transport: asyncio.Transport, drain: Drain) -> bool:
        """See Part.send."""
        try:
            while ready := await self._ready():
                count = ready - self._at
                self._bound = True
                if self._stop is None:
                    transport.write(b"%x\r\n" % count)
                assert self._descriptor is not None
                await send_file(transport, drain, self._descriptor, self._at, count, self._count, COMING_STEP)
                if self._at != ready:
                    return False
                if self._stop is None:
                    transport.write(b"\r\n")
        except Refused as refused:
            _log.warning("an answer was cut short: %s", refused.problem)
            return False
        if self._stop is None:
            transport.write(b"0\r\n\r\n")
        return True

    async def _ready(self) -> int:
        """Wait for bytes: the position up to which they can be sent; 0 if all were. Raises Refused if the rest never comes."""
        while (ready := self._look()) is None:
            await self._transfer.more()
        return ready

    def _look(self) -> int | None:
        """As _ready, without waiting: None if nothing can be sent now."""
        if self._descriptor is None:
            self._descriptor = self._transfer.open()
        if self._descriptor is None:
            return None
        status = os.fstat(self._descriptor)
        file, right = self._transfer.source.file, self._transfer.right
        if right == identity(status):
            if file.size not in (None, status.st_size):  # what came in for another repo, which states the size otherwise
                raise Refused(502, f"{file.name}: has {status.st_size} bytes, the metadata says {file.size}")
            stop = status.st_size if self._stop is None else self._stop
            return stop if stop > self._at else 0
        if right or status.st_nlink == 0:  # the transfer began anew, or another one was faster
            if self._bound:
                raise Refused(502, f"{file.name}: the transfer began anew")
            self.close()
            return self._look() if right else None
        if self._transfer.growing != identity(status):
            return None
        stop = min(status.st_size, (status.st_size if self._stop is None else self._stop) - _HELD_BACK)
        return stop if stop > self._at else None

    def close(self) -> None:
        """See Part.close."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
