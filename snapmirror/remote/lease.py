"""The store's lock across machines: objects `lease/<number>`, of which the one with the greatest number tells who holds it.

A lease that is not renewed runs out, and whoever creates the next number takes over; a number is created by one writer only.
Ages are told by the service's clock alone. Whoever writes because of a lease has the service refuse what gets there when the
lease has run out (`Objects.within`), so a process that was stopped for an hour does no harm when it goes on.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

from ..errors import LockedError, ObjectError
from ..store.locks import Waiting
from .objects import Info, Objects

#: for which a lease is good from when it was last written
LIFETIME = timedelta(seconds=60)
_RENEWED = 15.0
#: seconds between two looks at a lease that another process holds
_LOOK = 0.2
#: the service states its time to the second, and an object's too
_ROUGH = timedelta(seconds=2)
#: by how much this machine's clock may differ from the service's
_SKEW = timedelta(minutes=5)
_PREFIX = "lease"


class _Body(msgspec.Struct):
    owner: str
    #: written by its owner when it is done
    released: bool = False


class Lease:
    """One process's share in the lock. `hold` it, then write with `put` and `delete`."""

    def __init__(self, objects: Objects, now: Callable[[], datetime]) -> None:
        """now: this machine's clock"""
        self._objects = objects
        self._now = now
        self._owner = secrets.token_hex(16)
        self._number = 0
        #: the process's own thread renews it, and who is about to write
        self._renewing = threading.Lock()
        #: until when by this machine's clock, and by how much that is ahead of the service's
        self._until = now()
        self._ahead = timedelta()

    @contextlib.contextmanager
    def hold(self, waiting: Waiting | None) -> Iterator[None]:
        """Hold the lock for the block. waiting: as in `store.locks.hold`. Raises LockedError, ObjectError."""
        self._acquire(waiting)
        ended = threading.Event()
        renewing = threading.Thread(target=self._keep, args=(ended,), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            self._release()

    def put(self, key: str, data: bytes) -> None:
        """Make an object hold these bytes while the lease lasts. Raises LockedError if it has been lost."""
        self._objects.within("PUT", key, self._rest(), data)

    def delete(self, key: str) -> None:
        """Remove an object while the lease lasts. Raises LockedError if it has been lost."""
        self._objects.within("DELETE", key, self._rest())

    def _acquire(self, waiting: Waiting | None) -> None:
        told = False
        while True:
            newest = self._newest()
            number = _number(newest) if newest else 0
            if newest and not self._is_over(newest):
                if waiting is None:
                    raise LockedError(f"the store {self._objects.address}")
                if not told:
                    waiting(f"the store {self._objects.address}")
                    told = True
                time.sleep(_LOOK)
            elif self._take(number + 1):
                for one in self._objects.list(_PREFIX):
                    if _number(one) < self._number:
                        self._objects.within("DELETE", one.key, LIFETIME)
                return

    def _take(self, number: int) -> bool:
        """Create a lease; whether it is ours and the newest."""
        until = self._good_until()
        if not self._objects.create(_key(number), self._body()):
            return False
        newest = self._newest()
        if newest is None or _number(newest) != number:  # it was free again: who holds a newer one has removed it
            self._objects.within("DELETE", _key(number), LIFETIME)
            return False
        self._number, self._until = number, until
        return True

    def _newest(self) -> Info | None:
        return max(self._objects.list(_PREFIX), key=_number, default=None)

    def _is_over(self, lease: Info) -> bool:
        """Whether its owner has given it back, or has not been heard of for so long that it has lost it."""
        data = self._objects.get(lease.key)
        if data is None:  # its successor has removed it
            return False
        try:
            if msgspec.json.decode(data, type=_Body).released:
                return True
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # nobody's: it runs out as any other
        return self._objects.now() - lease.modified > LIFETIME + _ROUGH

    def _good_until(self) -> datetime:
        """Until when a lease lasts that is written next, by this machine's clock.

        Raises ObjectError if the clocks differ too much to tell.
        """
        before = self._now()
        there = self._objects.now()
        self._ahead = before - there
        if abs(self._ahead) > _SKEW:
            raise ObjectError(
                str(self._objects.address), "", f"this machine's clock is {self._ahead} ahead of the service's; set it right"
            )
        return before + LIFETIME - 2 * _ROUGH

    def _rest(self) -> timedelta:
        """How long it lasts still, as a URL that is signed now has to say it; renewed first where that is little."""
        if self._until - self._now() < LIFETIME / 2:
            self._renew()
        return max(self._until - self._now() - self._ahead, timedelta(seconds=1))

    def _renew(self) -> None:
        """Make it last longer. Raises LockedError if another process has it.

        One that has run out is not written again, for somebody may have seen that it has: only the next number tells who is
        first.
        """
        with self._renewing:
            left = self._until - self._now()
            if left > timedelta(seconds=1):
                until = self._good_until()
                self._objects.within("PUT", _key(self._number), left - self._ahead, self._body())
                self._until = until
            elif not self._take(self._number + 1):
                raise LockedError(f"the store {self._objects.address}")

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(_RENEWED):
            with contextlib.suppress(ObjectError, LockedError):  # who writes next finds out
                self._renew()

    def _release(self) -> None:
        with contextlib.suppress(ObjectError):  # then it runs out
            self._objects.put(_key(self._number), self._body(released=True))

    def _body(self, *, released: bool = False) -> bytes:
        return msgspec.json.encode(_Body(self._owner, released))


def _key(number: int) -> str:
    return f"{_PREFIX}/{number:012d}"


def _number(lease: Info) -> int:
    name = lease.key.rpartition("/")[2]
    return int(name) if name.isdecimal() else 0
