"""Processes: one supervisor that keeps no store open, and workers that serve one.

The supervisor has a socket for each worker, on which that listens once it can answer, and keeps them, so that no client is
refused while a worker that died is replaced. Workers of a configuration go on until all those of a new one answer.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from .. import memory
from ..ecosystem import Ecosystem
from ..errors import SnapmirrorError
from ..store.store import Store
from ..transfer.hosts import Hosts
from ..transfer.settings import Download
from .access import AccessLog
from .app import Server
from .cells import Region, Regions
from .counts import Counts
from .fresh import Live
from .patience import Connections, Patience
from .pull import Puller, hosts_of
from .settings import Origins, Serve
from .sockets import BACKLOG, Listeners, authority, bind, lend
from .tls import context_of
from .web import Faces

_log = logging.getLogger(__name__)
#: what aiohttp has to say: a traceback for every request that is no HTTP; our own errors we log ourselves
_http_log = logging.getLogger("snapmirror.http")
_http_log.setLevel(logging.CRITICAL)
#: what the supervisor waits for; a worker sends SIGUSR1 when it answers clients, SIGALRM comes when it is time to try again
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM}
#: a process id
_PROCESS = struct.Struct("=i")
#: seconds that running transfers get; a second signal ends them at once
_DRAIN = 300.0
#: turns of the event loop in which a client that was accepted gets a connection: Python 3.11 drops one that has none yet when
#: the socket closes by which it came
_TURNS = 3
#: seconds in which those who came just before the end are heard
_LAST = 0.1
#: seconds between two starts of a worker that dies, or can't be started
_PAUSE = 1.0
#: seconds between two times that free memory is given back
_GIVING = 30.0


class Setup(NamedTuple):
    """What a configuration says of serving. All workers keep to one, whatever becomes of the file meanwhile."""

    settings: Serve
    #: opens the store; called in each worker, so that nothing is shared across a fork
    open_store: Callable[[], Store]
    #: of the configured repos
    origins: Origins
    download: Download
    #: makes what reads metadata when it is asked for
    live: Callable[[Store, Hosts], Live] | None
    #: whether files are fetched when they are asked for: then the store is written to
    on_demand: bool
    #: makes what is shown beside the files
    faces: Callable[[Store], Faces]


def run(
    setup: Setup,
    ecosystems: Mapping[str, Ecosystem],
    *,
    reload: Callable[[], Setup],
    announce: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status.

    ecosystems: kind -> ecosystem
    reload: reads the configuration again, on SIGHUP; whatever it raises, all stays as it is
    announce: takes a line for the operator, when all workers answer, of this configuration or of a new one
    Raises UsageError if the address can't be listened on, or the access log not be written.
    """
    for number in _SIGNALS:  # blocked and waited for: none is lost, and no handler runs in the middle of something
        signal.signal(number, _ignore)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    supervisor = Supervisor(setup, ecosystems, reload, announce)
    try:
        return supervisor.run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _ignore(*_: object) -> None:
    """A signal whose default action is "ignore" is not kept for sigwait on every system."""


class Supervisor:
    """Keeps the workers running."""

    def __init__(
        self,
        setup: Setup,
        ecosystems: Mapping[str, Ecosystem],
        reload: Callable[[], Setup],
        announce: Callable[[str], None],
    ) -> None:
        self._setup = setup
        self._ecosystems = ecosystems
        self._reload = reload
        self._announce = announce
        self._process = os.getpid()
        #: one entry for each worker
        self._listeners: list[Listeners] = []
        #: of the configurations before, for workers that are about to go: their ports are ours until then
        self._dropped: list[Listeners] = []
        self._regions = Regions()
        self._access: AccessLog | None = None
        self._tls: ssl.SSLContext | None = None
        #: process id -> (number of its listeners, when it was started by time.monotonic)
        self._workers: dict[int, tuple[int, float]] = {}
        #: process ids of workers that don't answer yet
        self._coming: set[int] = set()
        #: numbers of listeners for which no worker could be started
        self._lacking: set[int] = set()
        #: those that end once nobody is coming any more
        self._going: set[int] = set()
        #: those, and workers that were told to end: none of them is replaced
        self._leaving: set[int] = set()
        #: whether it was said that this configuration is served
        self._announced = False
        #: Workers write their process ids to `_alive` when they answer. Only the supervisor has `_held`: when that closes,
        #: however the supervisor ended, they see the end of what they read from `_alive`
        self._alive, self._held = socket.socketpair()
        self._held.setblocking(False)

    def run(self) -> int:
        """Start the workers and handle signals until told to end."""
        with self._held, self._alive:
            self._tls = context_of(self._setup.settings)
            self._access = AccessLog.open(self._setup.settings)
            self._listeners = bind(self._setup.settings, self._setup.settings.workers)
            try:
                return self._supervise()
            finally:
                _close([*self._listeners, *self._dropped])
                if self._access:
                    self._access.close()

    def _supervise(self) -> int:
        self._regions.make(2 * self._setup.settings.workers)  # more than are needed: then those that go know of those that come
        for number in range(self._setup.settings.workers):
            self._start(number)
        while True:
            match signal.sigwait(_SIGNALS):
                case signal.SIGCHLD:
                    self._replace_dead()
                case signal.SIGHUP:
                    self._renew()
                case signal.SIGUSR1:
                    self._greet()
                case signal.SIGALRM:
                    self._start_lacking()
                case _:
                    return self._end()

    def _greet(self) -> None:
        """Take note of workers that answer. When all do, let those before them go."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._coming.difference_update(_PROCESS.unpack(self._held.recv(_PROCESS.size)))
        if self._coming or self._lacking:
            return
        _close(self._dropped)  # first: the kernel gives connections to a socket that anyone holds open
        self._dropped.clear()
        for process in self._going:
            _signal(process, signal.SIGTERM)
        self._going.clear()
        if not self._announced:
            self._announced = True
            scheme = "https" if self._tls else "http"
            addresses = [f"{scheme}://{authority(listener)}/" for listener in self._listeners[0]]
            self._announce(f"serving on {' and '.join(addresses)}")

    def _start(self, number: int) -> None:
        """Start a worker; later, if the system has no room for a process now: those that run go on."""
        try:
            region = self._regions.free()
            process = os.fork()
        except OSError as error:
            _log.error("a worker can't be started: %s; trying again", error.strerror)
            self._lacking.add(number)
            signal.setitimer(signal.ITIMER_REAL, _PAUSE)
            return
        if process:
            self._workers[process] = (number, time.monotonic())
            self._coming.add(process)
            self._regions.take(process, region)
            return
        status = 1
        try:  # in the worker: whatever happens, never return into the caller's stack
            self._work(number, region)
            status = 0
        except SnapmirrorError as error:
            _log.error("%s", error)
        except BaseException:
            _log.exception("a worker failed")
        finally:
            logging.shutdown()
            os._exit(status)

    def _work(self, number: int, region: Region) -> None:
        """All that a worker does. region: where it counts"""
        self._held.close()
        _allow_connections()
        _close([*(others for index, others in enumerate(self._listeners) if index != number), *self._dropped])
        # Told to end before it serves, it has nothing to finish; the supervisor's handler would swallow that.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the supervisor
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        server = server_of(self._setup, self._ecosystems, self._regions, Counts(region))
        asyncio.run(work(self._listeners[number], server, self._alive, self._access, self._tls, self._report))

    def _report(self) -> None:
        """In a worker: tell the supervisor that clients are answered."""
        with contextlib.suppress(OSError):  # it is gone, and we are to go too
            self._alive.sendall(_PROCESS.pack(os.getpid()))
            os.kill(self._process, signal.SIGUSR1)

    def _reap(self) -> list[int]:
        """Take note of workers that have ended; the numbers of those that nobody told to."""
        died = []
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                process, status = ended
                if process not in self._workers:
                    continue
                number, started = self._workers.pop(process)
                self._regions.leave(process)
                self._coming.discard(process)
                self._going.discard(process)
                if process not in self._leaving:
                    _log.error("worker %d ended with status %d; starting another", process, os.waitstatus_to_exitcode(status))
                    time.sleep(max(0.0, started + _PAUSE - time.monotonic()))
                    died.append(number)
                self._leaving.discard(process)
        return died

    def _start_lacking(self) -> None:
        lacking, self._lacking = self._lacking, set()
        for number in lacking:
            self._start(number)

    def _replace_dead(self) -> None:
        for number in self._reap():
            if number < len(self._listeners):
                self._start(number)

    def _renew(self) -> None:
        """Start workers with the configuration as it is now. The present ones go on until these answer, and finish then."""
        try:
            setup = self._reload()
            tls = context_of(setup.settings)
            access = AccessLog.open(setup.settings)
            self._regions.make(setup.settings.workers)  # before any of them begins, so that each knows those of the others
            listeners = self._listeners_for(setup.settings)
        except SnapmirrorError as error:
            _log.error("the configuration stays as it was: %s", error)
            return
        except Exception:  # that we didn't foresee what is wrong with it is no reason to stop what runs
            _log.exception("the configuration stays as it was")
            return
        self._dropped += [one for one in self._listeners if one not in listeners]
        if self._access:
            self._access.close()
        self._setup, self._listeners, self._access, self._tls = setup, listeners, access, tls
        self._announced = False
        self._coming.clear()
        self._lacking.clear()
        self._going.update(set(self._workers) - self._leaving)
        self._leaving.update(self._workers)
        for number in range(setup.settings.workers):
            self._start(number)

    def _listeners_for(self, settings: Serve) -> list[Listeners]:
        """What to listen on with a configuration: present sockets as far as they fit it, else new ones. Raises UsageError."""
        present, first = self._setup.settings, self._listeners[0]
        port = first[0].getsockname()[1]
        if settings.host != present.host or settings.port not in (present.port, port):
            return bind(settings, settings.workers, [*first, *(each for one in self._dropped for each in one)])
        missing = settings.workers - len(self._listeners)
        if missing <= 0:
            return self._listeners[: settings.workers]
        return [*self._listeners, *bind(msgspec.structs.replace(settings, port=port), missing, first)]

    def _end(self) -> int:
        """Let the workers finish what they are sending; a second signal ends them at once."""
        _close([*self._listeners, *self._dropped])  # so that new clients are refused, and don't wait for nobody's answer
        for process in self._workers:
            self._leaving.add(process)
            _signal(process, signal.SIGTERM)
        while self._workers:
            if signal.sigwait(_SIGNALS - {signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM}) != signal.SIGCHLD:
                for process in self._workers:
                    _signal(process, signal.SIGKILL)
            self._reap()
        return 0


def server_of(
    setup: Setup, ecosystems: Mapping[str, Ecosystem], regions: Regions | None = None, counts: Counts | None = None
) -> Server:
    """What answers requests in one process. regions, counts: see Server"""
    regions = regions or Regions()
    counts = counts or Counts(regions.free())
    store = setup.open_store()  # and never closed: threads that wait for an upstream have it, until the process ends
    hosts = hosts_of(store)
    puller = Puller(store, setup.download, hosts, counts.pulled) if setup.on_demand else None
    live = setup.live(store, hosts) if setup.live else None
    return Server(store, ecosystems, setup.settings, setup.origins, puller, live, regions, counts, faces=setup.faces(store))


def _allow_connections() -> None:
    """A connection is an open file, and the usual limit of 1,024 is meant for programs that use select."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # no limit at all is more than macOS grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _close(workers: Iterable[Listeners]) -> None:
    for listeners in workers:
        for listener in listeners:
            listener.close()


async def work(
    listeners: Listeners,
    server: Server,
    alive: socket.socket,
    access: AccessLog | None,
    tls: ssl.SSLContext | None,
    ready: Callable[[], None],
) -> None:
    """Serve on these sockets until SIGTERM or SIGINT, then finish what is being sent.

    alive: something to read from, at whose end there is no supervisor any more; ready: called when clients are answered
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_reader(alive, ended.set)
    async with serving(server, listeners, access, tls):
        ready()
        await ended.wait()
        loop.remove_reader(alive)


async def _give_back() -> None:
    """Every view that is replaced leaves memory behind."""
    while True:
        await asyncio.sleep(_GIVING)
        await asyncio.to_thread(memory.give_back)


@contextlib.asynccontextmanager
async def serving(
    server: Server, listeners: Listeners, access: AccessLog | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve on these sockets inside the block; at its end finish what is being sent."""
    log: dict[str, Any] = {"access_log": _http_log, "access_log_class": access.logger} if access else {"access_log": None}
    handler = Connections(server.handle, server.counts.answered, logger=_http_log, **log)
    runner = web.ServerRunner(handler, shutdown_timeout=_DRAIN)
    await runner.setup()
    tasks = [asyncio.create_task(one) for one in (Patience(handler).watch(), server.follow(), _give_back())]
    try:
        for listener in listeners:
            lend(listener)
            await web.SockSite(runner, listener, backlog=BACKLOG, ssl_context=tls).start()
        yield
    finally:
        server.drain()
        for listener in listeners:
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for site in runner.sites:  # before the pause: the kernel would go on to take in clients, and reset them at its end
            await site.stop()
        await asyncio.sleep(_LAST)
        await runner.cleanup()
        for task in tasks:
            task.cancel()
        await server.close()
