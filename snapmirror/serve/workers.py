"""Processes: one supervisor that keeps no store open, and workers that serve one.

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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
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
_ANY_ADDRESS = {"0.0.0.0", "::"}


class Setup(NamedTuple):
    """What a configuration says of serving. All workers keep to one, whatever becomes of the file meanwhile."""

    settings: Serve
    #: opens the store for reading; called in each worker, so that nothing is shared across a fork
    open_store: Callable[[], Store]


def run(
    setup: Setup,
    ecosystems: Mapping[str, Ecosystem],
    *,
    reload: Callable[[], Setup],
    say: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status.

    ecosystems: kind -> ecosystem
    reload: reads the configuration again, on SIGHUP; whatever it raises, all stays as it is
    say: takes a line for the operator, one when serving starts
    Raises UsageError if the address can't be listened on.
    """
    for number in _SIGNALS:  # blocked and waited for: none is lost, and no handler runs in the middle of something
        signal.signal(number, _ignore)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    supervisor = Supervisor(setup, ecosystems, reload, say)
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
        say: Callable[[str], None],
    ) -> None:
        self._setup = setup
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
        self._sockets = listen(self._setup.settings, self._setup.settings.workers)
        try:
            return self._supervise()
        finally:
            os.close(self._held)
            os.close(self._alive)
            _close(self._sockets)

    def _supervise(self) -> int:
        self._announce()
        for number in range(self._setup.settings.workers):
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
            _close(group for index, group in enumerate(self._sockets) if index != number)
            # Told to end before it serves, it has nothing to finish; the supervisor's handler would swallow that.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the supervisor
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            with self._setup.open_store() as store:
                server = Server(store, self._ecosystems, self._setup.settings)
                asyncio.run(work(self._sockets[number], server, self._alive))
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
            setup = self._reload()
            sockets = self._sockets_for(setup.settings)
        except SnapmirrorError as error:
            _log.error("the configuration stays as it was: %s", error)
            return
        except Exception:  # that we didn't foresee what is wrong with it is no reason to stop what runs
            _log.exception("the configuration stays as it was")
            return
        old, dropped = list(self._workers), [group for group in self._sockets if group not in sockets]
        self._setup, self._sockets = setup, sockets
        _close(dropped)  # before workers inherit them: the kernel gives connections to a socket that anyone holds open
        for number in range(setup.settings.workers):
            self._start(number)
        for process in old:
            self._leaving.add(process)
            _signal(process, signal.SIGTERM)
        self._announce()

    def _sockets_for(self, settings: Serve) -> list[list[socket.socket]]:
        """The listening sockets of a configuration: those that there are, as far as they will do."""
        present, ours = self._setup.settings, self._sockets[0]
        port = ours[0].getsockname()[1]
        if settings.host != present.host or settings.port not in (present.port, port):
            return listen(settings, settings.workers, ours)
        missing = settings.workers - len(self._sockets)
        if missing <= 0:
            return self._sockets[: settings.workers]
        return [*self._sockets, *listen(msgspec.structs.replace(settings, port=port), missing, ours)]

    def _end(self) -> int:
        """Let the workers finish what they are sending; a second signal ends them at once."""
        _close(self._sockets)  # so that new clients are refused, and don't wait for an answer that nobody will give
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


def _close(groups: Iterable[list[socket.socket]]) -> None:
    for group in groups:
        for one in group:
            one.close()


def listen(settings: Serve, groups: int, ours: Sequence[socket.socket] = ()) -> list[list[socket.socket]]:
    """Listening sockets: for each of so many workers one for each address of the host. Raises UsageError.

    ours: those on which this process listens already
    """
    try:
        return _listen(settings, groups, ours)
    except (OSError, ValueError) as error:  # ValueError: what can't be a name, such as `a..b`
        problem = error.strerror if isinstance(error, OSError) else "that is no name of a host"
        raise UsageError(f"can't listen on {settings.host or 'any address'}, port {settings.port}: {problem}") from None


def _listen(settings: Serve, groups: int, ours: Sequence[socket.socket]) -> list[list[socket.socket]]:
    found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    with contextlib.ExitStack() as opened:
        port = settings.port
        for family, address in addresses:
            if not any(_overlap(one, family, str(address[0]), port) for one in ours):
                # Alone, to see that it is free: a second server on the same port would take half of the requests.
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


def _overlap(one: socket.socket, family: int, host: str, port: int) -> bool:
    """Whether a listening socket is in the way of another one, unless both share the port."""
    taken = one.getsockname()
    return one.family == family and taken[1] == port and (taken[0] == host or not _ANY_ADDRESS.isdisjoint((taken[0], host)))


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
        server.drain()
        await runner.cleanup()
        server.close()
