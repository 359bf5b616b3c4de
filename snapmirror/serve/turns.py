"""Threads that wait for upstreams: one that is slow gets its share of them, and never all."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

#: upstreams that have to be slow at the same time before others wait for them
_UPSTREAMS = 8

_Result = TypeVar("_Result")


class Turns:
    """Does work in threads, so much at once for each upstream. To be used in one event loop."""

    def __init__(self, for_one: int, name: str) -> None:
        """for_one: threads for one upstream; name: what those of all begin with"""
        self._for_one = for_one
        self._threads = ThreadPoolExecutor(_UPSTREAMS * for_one, thread_name_prefix=name)
        #: by upstream, for as long as anybody has or waits for a place
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, upstream: str, work: Callable[[], _Result]) -> _Result:
        """Do something in a thread, once the upstream has a place for it; raises what that raises. upstream: any name"""
        place = self._places.get(upstream)
        if place is None:
            place = self._places[upstream] = asyncio.Semaphore(self._for_one)
        async with place:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing: an upstream may be silent for long."""
        self._threads.shutdown(wait=False, cancel_futures=True)
