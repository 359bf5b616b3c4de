"""Which hosts have failed so often in a row that asking on only costs time."""

import threading
import urllib.parse

from .. import addresses
from ..errors import TransportError, UpstreamError
from .http import RefusedError

#: failures in a row after which a host is given up for this sync
_HOPELESS = 10


class Hosts:
    """Counts, for each host, the failures since its last answer. Thread-safe."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Raise TransportError if the host of a URL is hopeless."""
        if self._failures.get(_host(url), 0) >= _HOPELESS:
            raise TransportError(addresses.redact(url), f"its host is given up after {_HOPELESS} failures in a row")

    def note(self, url: str, error: UpstreamError | None) -> None:
        """Note what came of a URL that was tried. An answer of any kind shows that the host is there, 403 and 404 too."""
        if not (host := _host(url)):
            return  # a folder: it fails at once, and the next one may be of another disk
        failed = isinstance(error, TransportError) and not isinstance(error, RefusedError)
        with self._lock:
            self._failures[host] = self._failures.get(host, 0) + 1 if failed else 0


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
