"""A server in a thread of a process that does something else meanwhile, for as long as that takes."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from threading import Thread

from ..ecosystem import Ecosystem
from .sockets import authority, bind
from .workers import Setup, server_of, serving

#: seconds that connections get that are still open in the end
_PATIENCE = 5.0


@contextlib.contextmanager
def within(setup: Setup, ecosystems: Mapping[str, Ecosystem]) -> Iterator[str]:
    """Serve inside the block, without TLS and access log; gives the URL of the server, without a slash at the end.

    Raises UsageError if the address can't be listened on, StoreError, DamagedError.
    """
    [listeners] = bind(setup.settings, 1)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with serving(server_of(setup, ecosystems), listeners):
            started.set_result((asyncio.get_running_loop(), ended))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = Thread(target=run, name="server", daemon=True)
    thread.start()
    loop, ended = started.result()
    try:
        yield f"http://{authority(listeners[0])}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_PATIENCE)
