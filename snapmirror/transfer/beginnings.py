"""What upstreams answer first: enough to see that they are there, and have an index of the right form."""

import email.utils
from collections.abc import Iterable, Iterator
from datetime import UTC, timedelta

import msgspec
import requests

from .. import addresses, clock
from ..errors import BadIndexError
from ..readings import Answer, Stated
from ..validators import Validators
from .http import HURRIED, Http
from .settings import Download

#: bytes of a document that is read as a whole; of a larger one only so many
_MOST = 4 << 20
#: documents; an index may be made of thousands
_MOST_DOCUMENTS = 4
#: how packed files begin, and JSON, by the ends of their names
_BEGINNINGS = {".zst": (b"\x28\xb5\x2f\xfd",), ".bz2": (b"BZh",), ".json": (b"{", b"[")}


class Enough(Exception):
    """In the place of an answer: what was asked for is there, and begins as it should. The rest is not read."""


class Beginnings(Http):
    """Http that reads only the beginning of an index. `get` raises `Enough` once that is seen; it writes nothing."""

    def __init__(self, settings: Download, now: clock.Clock) -> None:
        hurried = msgspec.structs.replace(settings, retries=min(settings.retries, 1))
        super().__init__(hurried, lambda message: None, None, now, HURRIED)
        #: how much our clock is ahead of those of upstreams, one entry for each answer that states its time
        self.ahead: list[timedelta] = []
        self._documents = 0

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        """See Http.get."""
        if self._documents == _MOST_DOCUMENTS:
            raise Enough
        answer = super().get(url, limit=limit, known=known, accept=accept)
        self._documents += 1
        return answer

    def head_many(self, urls: Iterable[str]) -> Iterator[tuple[str, Stated | Exception]]:
        """See Http.head_many."""
        raise Enough

    def _read(self, response: requests.Response, url: str, limit: int) -> bytes:
        self._note_time(response)
        found = b""
        for piece in self.pieces(response, url):
            found += piece
            if len(found) > _MOST:
                _check_beginning(found, url)
                raise Enough
        return found

    def _note_time(self, response: requests.Response) -> None:
        """Date, and Age if a cache answers (RFC 9110 section 6.6.1, RFC 9111 section 5.1)."""
        try:
            stated = email.utils.parsedate_to_datetime(response.headers["Date"])
            age = int(response.headers.get("Age", "0"))
            then = (stated if stated.tzinfo else stated.replace(tzinfo=UTC)) + timedelta(seconds=age)
        except (KeyError, ValueError, OverflowError):
            return
        self.ahead.append(self.now() - then)


def _check_beginning(body: bytes, url: str) -> None:
    path = addresses.redact(url).partition("?")[0]
    for ending, begin in _BEGINNINGS.items():
        if path.endswith(ending) and not body.lstrip().startswith(begin):
            raise BadIndexError(addresses.redact(url), f"is no {ending[1:]}: it begins with {body[:40]!r}")
