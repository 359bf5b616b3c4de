"""Gives memory back to the system that the C library keeps after it was freed.

Every publication lets a worker drop what it has cached, and fill its caches with other sizes: glibc's heap is more holes each
time. Half an hour with a publication every three seconds added an eighth to the workers' memory, with no object more in it.
"""

import asyncio
import ctypes

#: glibc's; other C libraries have none, and give back by themselves
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
#: seconds between two times
_INTERVAL = 30.0


async def give_back() -> None:
    """Give back what is free, again and again. In a thread: it takes a millisecond for each 10 MB."""
    while _TRIM:
        await asyncio.sleep(_INTERVAL)
        await asyncio.to_thread(_TRIM, 0)
