"""Parts of files, and how they get into a socket."""

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from ..store import fs

#: bytes of a file given to a socket at once: about what one segment holds on loopback
_STEP = 64 << 10
#: the same of a file that is on its way: a turn of the loop for every step costs a seventh of the processor time of a miss
COMING_STEP = 512 << 10
#: the same over TLS
_ENCRYPTED_STEP = 256 << 10
#: seconds between two looks at a client that has not yet taken all that was encrypted for it
_MOMENT = 0.01
#: waits until what was written is on its way
Drain = Callable[[], Awaitable[None]]


class Missing(Exception):
    """The file of a body is not there, or is not what it was."""


def missing(error: OSError) -> Missing:
    """What to raise for a file that can't be had. Raises what says nothing of the file, such as that too many are open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno in fs.LOST:
        return Missing(error.strerror)
    raise error


class Part(Protocol):
    """What is sent of a body that does not lie in memory."""

    @property
    def sent(self) -> int:
        """Bytes that were sent so far."""
        ...

    async def send(self, transport: asyncio.Transport, drain: Drain) -> bool:
        """Send it; False if it is not whole and the connection can't go on. Raises ConnectionError."""
        ...

    def close(self) -> None:
        """It was sent, or never will be."""
        ...


class FilePart:
    """A part of an opened file, which it takes over."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._length = length
        #: see Part.sent
        self.sent = 0

    async def send(self, transport: asyncio.Transport, drain: Drain) -> bool:
        """See Part.send."""
        await send_file(transport, drain, self._descriptor, self._start, self._length, self._count)
        return self.sent == self._length

    def _count(self, step: int) -> None:
        self.sent += step

    def close(self) -> None:
        """See Part.close."""
        os.close(self._descriptor)


async def send_file(
    transport: asyncio.Transport,
    drain: Drain,
    descriptor: int,
    start: int,
    length: int,
    count: Callable[[int], None],
    step_size: int = _STEP,
) -> None:
    """Send a part of a file, less of it if the file ends early. count: told of bytes that were sent

    In small steps for as long as the socket takes them, and other connections get a turn in between; loop.sendfile comes in
    where the client is slower than we are. Measured with 16 clients on two busy cores, 1 MB each, against nginx: steps of
    64 KiB 1.08, of 256 KiB 0.88, all at once 0.71, loop.sendfile alone 0.69 (it tells the selector four times a file).
    """
    if transport.is_closing():
        raise ConnectionResetError
    if transport.get_extra_info("ssl_object"):
        await _send_encrypted(transport, drain, descriptor, start, length, count)
        return
    socket = transport.get_extra_info("socket")
    sent = 0
    while sent < length and not transport.get_write_buffer_size():
        try:
            step = os.sendfile(socket.fileno(), descriptor, start + sent, min(step_size, length - sent))
        except ConnectionError:
            raise
        except OSError:
            break  # no room in the socket, or a file that can't be sent like this: loop.sendfile knows what to do
        sent += step
        count(step)
        if not step or sent == length:
            return
        await asyncio.sleep(0)
        if transport.is_closing():
            raise ConnectionResetError
    if sent < length:
        with io.FileIO(descriptor, closefd=False) as file:
            file.seek(start + sent)
            try:
                await asyncio.get_running_loop().sendfile(transport, file, start + sent, length - sent)
            finally:  # it leaves the file where it came to, also when the client is gone
                count(file.tell() - start - sent)


async def flush(transport: asyncio.Transport, drain: Drain) -> None:
    """Wait until all that was written is with the kernel: what is not may be lost when the server ends."""
    if transport.get_write_buffer_size():
        _unbuffer(transport)
        await drain()
    # What asyncio has encrypted is in the buffer of a second transport, for which nothing public stands.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    while below and below.get_write_buffer_size():  # noqa: ASYNC110 (it has no event)
        await asyncio.sleep(_MOMENT)


def _unbuffer(transport: asyncio.Transport) -> None:
    """From now on draining waits until all that was written has left the transport."""
    # asyncio's TLS pauses from `high` on, not above it: at 0 it pauses for nothing, and nothing ends that
    transport.set_write_buffer_limits(high=1 if transport.get_extra_info("ssl_object") else 0)


async def _send_encrypted(
    transport: asyncio.Transport, drain: Drain, descriptor: int, start: int, length: int, count: Callable[[int], None]
) -> None:
    """See send_file. Here bytes have to pass through this process, for what sendfile sends goes out as it is."""
    _unbuffer(transport)
    sent = 0
    while sent < length:
        if transport.is_closing():
            raise ConnectionResetError
        data = os.pread(descriptor, min(_ENCRYPTED_STEP, length - sent), start + sent)
        if not data:
            return
        transport.write(data)
        await drain()
        await asyncio.sleep(0)  # others get a turn, also where nothing waits
        sent += len(data)
        count(len(data))


def read_small(path: Path, size: int, start: int, count: int) -> bytes:
    """A part of a file, read in the event loop: a thread would cost more than the read. Raises Missing."""
    descriptor = open_whole(path, size)
    try:
        return os.pread(descriptor, count, start)
    except OSError as error:
        raise missing(error) from None
    finally:
        os.close(descriptor)


def open_whole(path: Path, size: int) -> int:
    """Open a file that should have so many bytes. Raises Missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise missing(error) from None
    found = os.fstat(descriptor).st_size
    if found != size:
        os.close(descriptor)
        raise Missing(f"has {found} bytes instead of {size}")
    return descriptor
