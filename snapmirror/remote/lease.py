"""The store's lock across machines: objects `lease/<number>`, of which the one with the greatest number tells who holds it.

A lease that is not renewed runs out, and whoever creates the next number takes over; a number is created by one writer only.
All times are the service's. Whoever writes because of a lease has the service refuse what gets there when the lease has run
out (`Objects.within`), so a process that was stopped for an hour, or a machine whose clock stood still, does no harm when it
goes on: a URL is dated by this machine's clock, and its lifetime leads to the lease's end whatever that clock says.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

from ..errors import LockedError, ObjectError, Overtaken
from ..store.locks import Waiting
from .objects import Info, Objects

#: for which a lease is good from when it was last written
LIFETIME = timedelta(seconds=60)
_RENEWED = 15.0
#: seconds between two looks at a lease that another process holds
_LOOK = 0.2
#: the service states its time to the second, and an object's too
_ROUGH = timedelta(seconds=2)
#: by how much this machine's clock may be ahead of the service's, and behind it
_AHEAD, _BEHIND = timedelta(seconds=20), timedelta(minutes=5)
_PREFIX = "lease"


class _Body(msgspec.Struct):
    owner: str
    #: written by its owner when it is done
    released: bool = False


class Lease:
    """One process's share in the lock. While you `hold` it, write with `put`, `create` and `delete`, from any thread."""

    def __init__(self, objects: Objects, now: Callable[[], datetime]) -> None:
        """now: this machine's clock"""
        self._objects = objects
        self._now = now
        self._owner = secrets.token_hex(16)
        self._number = 0
        #: the process's own thread renews it, and who is about to write
        self._renewing = threading.Lock()
        #: until when, by the service's clock
        self._until = now()
        #: whether a block of `hold` is being run
        self.held = False
        #: whether something that was asked for may still be carried out after all
        self.doubtful = False
        #: one entry for each request that a thread is making
        self._requests: set[object] = set()

    @contextlib.contextmanager
    def hold(self, waiting: Waiting | None) -> Iterator[None]:
        """Hold the lock for the block. waiting: as in `store.locks.hold`. Raises LockedError, ObjectError."""
        self._acquire(waiting)
        self.held = True
        ended = threading.Event()
        renewing = threading.Thread(target=self._keep, args=(ended,), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self.held = False
            ended.set()
            renewing.join()
            self._release()

    def put(self, key: str, data: bytes) -> None:
        """Make an object hold these bytes while the lease lasts. Raises Overtaken if it has been lost.

        A request that got no answer may be carried out after the one that took its place, when others have written there.
        """
        with self._fenced() as lifetime:
            self._objects.within("PUT", key, lifetime, data, unanswered=self._doubt)

    def create(self, key: str, data: bytes) -> bool:
        """Make an object while the lease lasts, unless there is one; whether it was made, or holds these bytes already.

        Raises Overtaken if the lease has been lost.
        """
        with self._fenced() as lifetime:
            return self._objects.within("PUT", key, lifetime, data, create=True) or self._objects.get(key) == data

    def delete(self, key: str) -> None:
        """Remove an object while the lease lasts. Raises Overtaken if it has been lost.

        What got no answer is as with `put`: the object may be there again.
        """
        with self._fenced() as lifetime:
            self._objects.within("DELETE", key, lifetime, unanswered=self._doubt)

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[timedelta]:
        """For how long a URL that is signed now may be good. An error may mean that the request is still under way: then the
        lease is not given back, but runs out.
        """
        request = object()
        self._requests.add(request)
        try:
            if not self.held:  # a thread of somebody who was interrupted and has gone on
                raise Overtaken(f"the store {self._objects.address}")
            yield self._rest()
        except BaseException as error:
            self._doubt()
            if isinstance(error, ObjectError) and error.code == "AccessDenied" and self._now() >= self._until:
                raise Overtaken(f"the store {self._objects.address}") from None
            raise
        finally:
            self._requests.discard(request)

    def _doubt(self) -> None:
        self.doubtful = True

    # Taking, keeping, giving back

    def _acquire(self, waiting: Waiting | None) -> None:
        told = False
        while True:
            there = self._objects.now()  # before its age is looked at: it may be written again meanwhile
            newest = self._newest()
            if newest and not self._is_over(newest, there):
                if waiting is None:
                    raise LockedError(f"the store {self._objects.address}")
                if not told:
                    waiting(f"the store {self._objects.address}")
                    told = True
                time.sleep(_LOOK)
            elif self._take(_number(newest) + 1 if newest else 1):
                return

    def _take(self, number: int) -> bool:
        """Create a lease; whether it is ours and the newest."""
        until = self._present() + _good()
        if not self._objects.create(_key(number), self._body()):
            return False
        if not self._is_newest(number):  # it was free again: who holds a newer one has removed it
            self._objects.delete(_key(number))
            return False
        self._number, self._until, self.doubtful = number, until, False
        with contextlib.suppress(ObjectError):  # the next one does
            for one in self._objects.list(_PREFIX):
                if _number(one) < number:
                    self._objects.delete(one.key)
        return True

    def _newest(self) -> Info | None:
        return max(self._objects.list(_PREFIX), key=_number, default=None)

    def _is_newest(self, number: int) -> bool:
        newest = self._newest()
        return newest is not None and _number(newest) == number

    def _is_over(self, lease: Info, there: datetime) -> bool:
        """Whether its owner has given it back, or has not been heard of for so long that it has lost it.

        there: what time it was before the lease was looked for
        """
        if there - lease.modified > LIFETIME + _ROUGH:
            return True
        data = self._objects.get(lease.key)
        try:  # None: its successor has removed it
            return data is not None and msgspec.json.decode(data, type=_Body).released
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False  # nobody's: it runs out as any other

    def _present(self) -> datetime:
        """The service's time. Raises ObjectError if this machine's differs too much."""
        there = self._objects.now()
        ahead = self._now() - there
        if ahead > _AHEAD or -ahead > _BEHIND:
            way = "ahead of" if ahead > timedelta() else "behind"
            raise ObjectError(
                str(self._objects.address), "", f"this machine's clock is {abs(ahead)} {way} the service's; set it right"
            )
        return there

    def _rest(self) -> timedelta:
        """How long a URL may be good that is signed now: dated by this machine's clock, it is to end when the lease does."""
        if self._until - self._now() < LIFETIME / 2:
            self._renew()
        rest = self._until - self._now()
        if rest < timedelta(seconds=1):
            raise Overtaken(f"the store {self._objects.address}")
        return rest

    def _renew(self) -> None:
        """Make it last longer. Raises Overtaken if another process has it, ObjectError.

        One that has run out is not written again, for somebody may have seen that it has: only the next number tells who is
        first.
        """
        with self._renewing:
            there, left = self._present(), self._until - self._now()
            if there < self._until and left >= timedelta(seconds=1):
                self._objects.within("PUT", _key(self._number), left, self._body())
                if self._is_newest(self._number):
                    self._until = there + _good()
                    return
            elif self._take(self._number + 1):
                return
            raise Overtaken(f"the store {self._objects.address}")

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(_RENEWED):
            with contextlib.suppress(ObjectError, LockedError):  # who writes next finds out
                self._renew()

    def _release(self) -> None:
        """Give it back, unless something may still be carried out: then it runs out."""
        with contextlib.suppress(ObjectError):
            if not self.doubtful and not self._requests:
                self._objects.put(_key(self._number), self._body(released=True))

    def _body(self, *, released: bool = False) -> bytes:
        return msgspec.json.encode(_Body(self._owner, released))


def _good() -> timedelta:
    """For how long one is sure to last from a time before it was written."""
    return LIFETIME - 2 * _ROUGH


def _key(number: int) -> str:
    return f"{_PREFIX}/{number:012d}"


def _number(lease: Info) -> int:
    name = lease.key.rpartition("/")[2]
    return int(name) if name.isdecimal() else 0
