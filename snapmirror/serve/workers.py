"""Processes: one supervisor that never touches the store, and workers that serve it.

The supervisor opens one listening socket for each worker (SO_REUSEPORT: the kernel spreads connections over them) and
keeps them, so that none is refused while a worker that died is replaced, or all are for a new configuration.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from ..ecosystem import Ecosystem
from ..errors import SnapmirrorError, UsageError
from ..store.store import Store
from .app import Server
from .settings import Serve

_log = logging.getLogger(__name__)
#: aiohttp writes one line a request to it if its level is INFO
access_log = logging.getLogger("snapmirror.access")
#: what aiohttp has to say: a traceback for every request that is no HTTP; our own errors we log ourselves
_http_log = logging.getLogger("snapmirror.http")
_http_log.setLevel(logging.CRITICAL)
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_BACKLOG = 1024
_KEEP_ALIVE = 75.0
#: seconds that running transfers get; a second signal ends them at once
_DRAIN = 300.0
#: seconds between two starts of a worker that dies
_PAUSE = 1.0


def run(
    settings: Serve,
    open_store: Callable[[], Store],
    ecosystems: Mapping[str, Ecosystem],
    *,
    reload: Callable[[], Serve],
    say: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status.

    open_store: opens the store for reading; called in each worker, so that nothing is shared across a fork
    ecosystems: kind -> ecosystem
    reload: reads the configuration again, on SIGHUP; if it raises SnapmirrorError, all stays as it is
    say: takes a line for the operator, one when serving starts
    Raises UsageError if the address can't be listened on.
    """
    for number in _SIGNALS:  # blocked and waited for: none is lost, and no handler runs in the middle of something
        signal.signal(number, _ignore)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    supervisor = Supervisor(settings, open_store, ecosystems, reload, say)
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
        settings: Serve,
        open_store: Callable[[], Store],
        ecosystems: Mapping[str, Ecosystem],
        reload: Callable[[], Serve],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._ecosystems = ecosystems
        self._reload = reload
        self._say = say
        self._sockets: list[list[socket.socket]] = []
        #: process id -> (number of its sockets, when it was started)
        self._workers: dict[int, tuple[int, float]] = {}
        #: process ids of workers that were told to end
        self._leaving: set[int] = set()
        #: workers see the end of this pipe when the supervisor is no more, however it ended
        self._alive, self._held = os.pipe()

    def run(self) -> int:
        """Start the workers and handle signals until told to end."""
        self._sockets = listen(self._settings, self._settings.workers)
        try:
            return self._supervise()
        finally:
            os.close(self._held)
            os.close(self._alive)
            for one in (one for group in self._sockets for one in group):
                one.close()

    def _supervise(self) -> int:
        self._announce()
        for number in range(self._settings.workers):
            self._start(number)
        while True:
            match signal.sigwait(_SIGNALS):
                case signal.SIGCHLD:
                    self._replace_dead()
                case signal.SIGHUP:
                    self._renew()
                case _:
                    return self._end()

    def _announce(self) -> None:
        addresses = [f"http://{_authority(one)}/" for one in self._sockets[0]]
        self._say(f"serving on {' and '.join(addresses)}")

    def _start(self, number: int) -> None:
        process = os.fork()
        if process:
            self._workers[process] = (number, time.monotonic())
            return
        status = 1
        try:  # in the worker: whatever happens, never return into the caller's stack
            os.close(self._held)
            _allow_connections()
            for index, sockets in enumerate(self._sockets):
                for one in sockets if index != number else ():
                    one.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            with self._open_store() as store:
                asyncio.run(work(self._sockets[number], Server(store, self._ecosystems, self._settings), self._alive))
            status = 0
        except SnapmirrorError as error:
            _log.error("%s", error)
        except BaseException:
            _log.exception("a worker failed")
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> list[int]:
        """Numbers of the workers that have ended though nobody told them to."""
        died = []
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                process, status = ended
                if process not in self._workers:
                    continue
                number, started = self._workers.pop(process)
                if process not in self._leaving:
                    _log.error("worker %d ended with status %d; starting another", process, os.waitstatus_to_exitcode(status))
                    time.sleep(max(0.0, started + _PAUSE - time.monotonic()))
                    died.append(number)
                self._leaving.discard(process)
        return died

    def _replace_dead(self) -> None:
        for number in self._reap():
            if number < len(self._sockets):
                self._start(number)

    def _renew(self) -> None:
        """Start workers with the configuration as it is now, and let the present ones finish."""
        try:
            settings = self._reload()
            sockets = self._sockets_for(settings)
        except SnapmirrorError as error:
            _log.error("the configuration stays as it was: %s", error)
            return
        old, dropped = list(self._workers), [group for group in self._sockets if group not in sockets]
        self._settings, self._sockets = settings, sockets
        for number in range(settings.workers):
            self._start(number)
        for process in old:
            self._leaving.add(process)
            _signal(process, signal.SIGTERM)
        for group in dropped:
            for one in group:
                one.close()
        self._announce()

    def _sockets_for(self, settings: Serve) -> list[list[socket.socket]]:
        """The listening sockets of a configuration: those that there are, as far as they will do."""
        present = self._settings
        if (settings.host, settings.port) != (present.host, present.port):
            return listen(settings, settings.workers)
        missing = settings.workers - len(self._sockets)
        if missing <= 0:
            return self._sockets[: settings.workers]
        port = self._sockets[0][0].getsockname()[1]
        return [*self._sockets, *listen(settings, missing, port)]

    def _end(self) -> int:
        """Let the workers finish what they are sending; a second signal ends them at once."""
        for process in self._workers:
            self._leaving.add(process)
            _signal(process, signal.SIGTERM)
        while self._workers:
            if signal.sigwait(_SIGNALS - {signal.SIGHUP}) != signal.SIGCHLD:
                for process in self._workers:
                    _signal(process, signal.SIGKILL)
            self._reap()
        return 0


def _allow_connections() -> None:
    """A connection is an open file, and the usual limit of 1,024 is meant for programs that use select."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # no limit at all is more than macOS grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def listen(settings: Serve, groups: int, port: int | None = None) -> list[list[socket.socket]]:
    """Listening sockets: for each of so many workers one for each address of the host. Raises UsageError.

    port: one on which this process listens already, else that of the settings
    """
    try:
        return _listen(settings, groups, port)
    except OSError as error:
        raise UsageError(f"can't listen on {settings.host or 'any address'}, port {settings.port}: {error.strerror}") from None


def _listen(settings: Serve, groups: int, port: int | None) -> list[list[socket.socket]]:
    found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    with contextlib.ExitStack() as opened:
        if port is None:
            port = settings.port
            for family, address in addresses:  # alone: a second server on the same port would take half of the requests
                _bound(family, address, port, shared=False).close()
        sockets: list[list[socket.socket]] = [[] for _ in range(groups)]
        for group in sockets:
            for family, address in addresses:
                one = opened.enter_context(_bound(family, address, port, shared=True))
                one.listen(_BACKLOG)
                one.setblocking(False)
                port = one.getsockname()[1]  # that of the first for all, where any will do
                group.append(one)
        opened.pop_all()
    return sockets


def _bound(family: int, address: Any, port: int, *, shared: bool) -> socket.socket:
    with contextlib.ExitStack() as opened:
        one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address[0], port, *address[2:]))
        opened.pop_all()
    return one


def _authority(one: socket.socket) -> str:
    host, port = one.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def work(sockets: list[socket.socket], server: Server, alive: int) -> None:
    """Serve on these sockets until SIGTERM or SIGINT, then finish what is being sent.

    alive: a pipe whose other end closes when the supervisor is no more
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the supervisor
    loop.add_reader(alive, ended.set)
    async with serving(server, sockets):
        await ended.wait()
        loop.remove_reader(alive)


@contextlib.asynccontextmanager
async def serving(server: Server, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """Serve on these sockets inside the block; at its end finish what is being sent."""
    handler = web.Server(server.handle, access_log=access_log, logger=_http_log, keepalive_timeout=_KEEP_ALIVE)
    runner = web.ServerRunner(handler, shutdown_timeout=_DRAIN)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one, backlog=_BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
        server.close()
