"""What a server listens on: for each worker a socket of its own, on every address of the host (SO_REUSEPORT: the kernel spreads
connections over them).
"""

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError
from .settings import Serve

#: connections that wait to be accepted, for each socket
BACKLOG = 1024
_ANY_ADDRESS = {"0.0.0.0", "::"}
#: what one worker listens on: a socket for each address of the host
Listeners = list[socket.socket]


def bind(settings: Serve, workers: int, present: Sequence[socket.socket] = ()) -> list[Listeners]:
    """What each of so many workers is to listen on, once it answers: a client that came earlier would wait until then, and
    behind a balancer another server may be free. Nobody else gets the port meanwhile. Raises UsageError.

    present: sockets on which this process listens already
    """
    try:
        return _bind(settings, workers, present)
    except (OSError, ValueError) as error:  # ValueError: what can't be a name, such as `a..b`
        problem = error.strerror if isinstance(error, OSError) else "that is no name of a host"
        raise UsageError(f"can't listen on {settings.host or 'any address'}, port {settings.port}: {problem}") from None


def _bind(settings: Serve, workers: int, present: Sequence[socket.socket]) -> list[Listeners]:
    found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    with contextlib.ExitStack() as opened:
        port = settings.port
        for family, address in addresses:
            if not any(_overlap(listener, family, str(address[0]), port) for listener in present):
                # Alone, to see that it is free: a second server on the same port would take half of the requests.
                _bound(family, address, port, shared=False).close()
        made: list[Listeners] = [[] for _ in range(workers)]
        for listeners in made:
            for family, address in addresses:
                listener = opened.enter_context(_bound(family, address, port, shared=True))
                listener.setblocking(False)
                port = listener.getsockname()[1]  # that of the first for all, where any will do
                listeners.append(listener)
        opened.pop_all()
    return made


def _overlap(listener: socket.socket, family: int, host: str, port: int) -> bool:
    """Whether a listening socket is in the way of one for that host and port, unless both share the port."""
    its_host, its_port = listener.getsockname()[:2]
    share_host = its_host == host or not _ANY_ADDRESS.isdisjoint((its_host, host))
    return listener.family == family and its_port == port and share_host


def _bound(family: int, address: Any, port: int, *, shared: bool) -> socket.socket:
    with contextlib.ExitStack() as opened:
        made = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        where = (address[0], port, *address[2:])
        if not shared or not _is_bound_alone(made, where):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(where)
        opened.pop_all()
    return made


def _is_bound_alone(made: socket.socket, where: Any) -> bool:
    """Bind without SO_REUSEADDR, or who asks whether the port is free would be told so as long as nobody listens on it.

    False if that can't be had: connections of another program are still being forgotten there.
    """
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(where)
    except OSError:
        return False
    return True


def authority(listener: socket.socket) -> str:
    """Where a socket listens, as URLs have it: `127.0.0.1:8080`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def lend(listener: socket.socket) -> None:
    """Before it listens: the next server may have the port while connections of this one are forgotten (TIME_WAIT, a minute).

    They inherit that from the socket by which they came.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
