"""Metadata that is refreshed because somebody asks for it, under `current` of repos with `metadata = "on-request"`.

What upstream said last is believed for `max_metadata_age`; then it is asked again, once however many wait for it. If it
can't answer, what is held goes out as it is, and says how old it is; that there is no such thing is believed.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from ..ecosystem import Want
from ..errors import AbsentError, SnapmirrorError, TransportError, UpstreamError, without_frames
from ..store.catalog import Catalog
from ..store.live import LiveState
from ..store.store import Store
from .answers import Refused
from .settings import Origins
from .turns import Turns

_log = logging.getLogger(__name__)
#: how many names are remembered with their age; for others upstream is asked anew
_KNOWN = 65_536
#: statuses that say that there is no such thing; of others of 4xx it is not certain: it may be that we may not have it
_BELIEVED = {404, 410}
#: requests at once for one repo
_FOR_ONE = 16
#: seconds for which a server that is about to end waits for upstreams
_LAST_WAIT = 5.0
#: seconds after a failure before upstream is asked for the same again
_PAUSE = 10.0


class Live(Protocol):
    """Who reads metadata from upstream; sync provides it."""

    def states(self, catalog: Catalog) -> Mapping[str, LiveState]:
        """What repos with metadata on request have now, by path."""
        ...

    def refresh(self, path: str, name: str) -> None:
        """Read a name of a repo, or all of it for "", into `live/`. Called in threads. Raises UpstreamError."""
        ...

    def reconstruct(self, path: str, snapshot: str, name: str) -> None:
        """Have a snapshot answer for a name that it does not list, if that can be told. Called in threads."""
        ...


class Stale(NamedTuple):
    """Why what is held could not be compared with upstream's."""

    #: seconds since that was last done; None if not since this process began
    age: int | None
    problem: str
    #: HTTP status of the answer if nothing is held
    status: int


class Freshness(NamedTuple):
    """What came of asking. Fulfils answers.Cache."""

    status: str
    #: seconds; None if this request was not the one that asked upstream
    upstream: float | None = None
    #: set if upstream could not be asked: what is held has to do
    stale: Stale | None = None


class _Known(NamedTuple):
    """How asking for a name went the last time. Times are seconds since 1970."""

    #: when that was
    asked: float
    #: when upstream last answered; 0 if it never has
    answered: float
    #: when it may be asked again
    until: float
    #: why there was no usable answer
    problem: UpstreamError | None


class Fresh:
    """Asks for what is too old. One for each process."""

    def __init__(
        self, store: Store, live: Live, origins: Origins, told: Callable[[SnapmirrorError | None], None] = lambda problem: None
    ) -> None:
        """told: called when upstream was asked, with why in vain, None if not"""
        self._store = store
        self._live = live
        self._told = told
        self._origins = origins
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._running: dict[tuple[str, str], asyncio.Task[_Known]] = {}
        self._turns = Turns(_FOR_ONE, "fresh")

    def drain(self) -> None:
        """The server is about to end: soon what is held will have to do."""

        def end() -> None:
            for task in self._running.values():
                task.cancel()

        asyncio.get_running_loop().call_later(_LAST_WAIT, end)

    def close(self) -> None:
        """Do not wait for upstreams."""
        self._turns.close()

    def forgive(self) -> None:
        """Forget failures: there is a new snapshot."""
        self._known = OrderedDict((key, known) for key, known in self._known.items() if known.problem is None)

    async def freshen(self, repo: str, want: Want) -> Freshness:
        """Have what a request wants compared with upstream's, if that is due. Raises Refused if upstream has no such thing."""
        if self._origins[repo].offline:
            return Freshness("hit")
        known, told = await self._know((repo, want.name))
        if isinstance(known.problem, AbsentError) and known.problem.status in _BELIEVED:
            refused = Refused(404, f"{want.name or repo}: upstream has no such thing: {known.problem}")
            refused.cache = told
            raise refused
        if known.problem:
            age = max(0, int(self._now() - known.answered)) if known.answered else None
            status = 404 if isinstance(known.problem, AbsentError) else 502  # 403: it may just not have it
            return Freshness("stale", told.upstream, Stale(age, str(known.problem), status))
        return told

    async def _know(self, key: tuple[str, str]) -> tuple[_Known, Freshness]:
        """What is known of a name now, asked anew if that is due, and how we know it."""
        known = self._known.get(key)
        if known is not None and known.asked <= self._now() < known.until:  # before it was asked: the clock was set right
            return known, Freshness("hit")
        if task := self._running.get(key):
            return await asyncio.shield(task), Freshness("follow")
        began = time.monotonic()
        task = self._running[key] = asyncio.create_task(self._refresh(key))
        task.add_done_callback(lambda _: self._running.pop(key))
        known = await asyncio.shield(task)
        return known, Freshness("revalidated", time.monotonic() - began)

    async def reconstruct(self, repo: str, snapshot: str, name: str) -> Freshness:
        """Have a snapshot answer for a name that nobody had asked for when it was sealed. Raises Refused."""
        known = await self.freshen(repo, Want(name, itself=True))
        await self._turns.run(repo, partial(self._live.reconstruct, repo, snapshot, name))
        return known

    async def _refresh(self, key: tuple[str, str]) -> _Known:
        """Ask upstream for a name of a repo, and remember how that went."""
        repo, name = key
        origin, before = self._origins[repo], self._known.get(key)
        assert origin.metadata_age is not None
        problem: UpstreamError | None = None
        try:
            await self._turns.run(repo, partial(self._live.refresh, repo, name))
        except UpstreamError as error:
            problem = without_frames(error)
        except SnapmirrorError as error:
            problem = UpstreamError(repo, str(error))
        except asyncio.CancelledError:
            problem = UpstreamError(repo, "this server is about to end, and upstream is silent")
        except Exception:  # what is held is served all the same
            _log.exception("%s of %s", name or "the metadata", repo)
            problem = UpstreamError(repo, "internal error; the server's log says more")
        self._told(problem)
        now = self._now()
        if problem is None:
            known = _Known(now, now, now + origin.metadata_age, None)
        elif isinstance(problem, AbsentError) and problem.status in _BELIEVED:
            known = _Known(now, now, now + origin.negative, problem)
        else:
            pause = _PAUSE if isinstance(problem, TransportError) else origin.negative  # an index to be refused takes time
            known = _Known(now, before.answered if before else 0.0, now + pause, problem)
            _log.warning("%s of %s is as it was: %s", name or "the metadata", repo, problem)
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return known

    def _now(self) -> float:
        return self._store.now().timestamp()
