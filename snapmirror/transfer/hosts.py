"""Which hosts have failed so often in a row that asking them again only costs time."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import addresses, clock
from ..errors import TransportError, UpstreamError
from ..readings import Answer, Notes
from ..validators import Validators
from .http import PATIENCE, Http
from .sessions import RefusedError
from .settings import Download, host_name

#: seconds that one request has to find out whether a host is back, before another one may try
_PROBE = 30.0


@dataclass
class _Host:
    #: in a row, since its last answer
    failures: int = 0
    #: when it may be asked again, as `Hosts.now` counts
    until: float = 0.0


class Hosts:
    """Counts, for each host, the failures since its last answer, and leaves it alone after too many. Thread-safe."""

    def __init__(
        self,
        patience: int = 10,
        pauses: Sequence[float] = (math.inf,),
        now: Callable[[], float] = time.monotonic,
        changed: Callable[[str, float, str], None] = lambda host, seconds, problem: None,
    ) -> None:
        """By default a host is given up for good, which is as long as a sync takes.

        patience: failures in a row after which it is left alone
        pauses: seconds for which it is left alone then, and after each further failure; the last counts for all that follow
        now: seconds since any moment
        changed: called with the host, the seconds for which it is left alone (0: no longer), and why
        """
        self._patience = patience
        self._pauses = pauses
        self._now = now
        self._changed = changed
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Raise TransportError if the host of a URL is left alone. After a pause one request finds out whether it is back."""
        with self._lock:
            host = self._hosts.get(host_name(url))
            if host is None or host.failures < self._patience:
                return
            if 0 < host.until - self._now() <= max(self._pause(host), _PROBE):  # more: the clock was set back
                raise TransportError(addresses.redact(url), f"its host is left alone after {host.failures} failures in a row")
            host.until = self._now() + _PROBE

    def _pause(self, host: _Host) -> float:
        """Seconds for which a host is left alone that has just failed once more."""
        return self._pauses[min(host.failures - self._patience, len(self._pauses) - 1)]

    def note(self, url: str, error: UpstreamError | None) -> None:
        """Note what came of a URL, None if all went well. Any answer shows that the host is there, 403 and 404 too."""
        if not (name := host_name(url)):
            return  # a folder: it fails at once, and the next one may be of another disk
        failed = isinstance(error, TransportError) and not isinstance(error, RefusedError)
        with self._lock:
            host = self._hosts.setdefault(name, _Host())
            was_left = host.failures >= self._patience
            host.failures = host.failures + 1 if failed else 0
            if host.failures >= self._patience:
                pause = self._pause(host)
                host.until = self._now() + pause
                self._changed(name, pause, error.problem if error else "")
            elif was_left:
                self._changed(name, 0.0, "")


class CarefulHttp(Http):
    """Http that does not ask for metadata at hosts which are left alone. For files, `download` does the same."""

    def __init__(
        self,
        hosts: Hosts,
        settings: Download,
        warn: Callable[[str], None],
        notes: Notes | None = None,
        now: clock.Clock = clock.now,
        patience: int = PATIENCE,
    ) -> None:
        super().__init__(settings, warn, notes, now, patience)
        self._failing = hosts

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        """See Http.get."""
        self._failing.check(url)
        try:
            answer = super().get(url, limit=limit, known=known, accept=accept)
        except UpstreamError as error:
            self._failing.note(url, error)
            raise
        self._failing.note(url, None)
        return answer
